"""The expert of MachineTending: one decision per step, from what can be seen at that step alone.

The place of the door, of the lamps and of the part tell how far the job is. The machine's own frame
has its origin in the middle of the nest and its x axis towards where the open door stands.
"""

from __future__ import annotations

import math

from shopfloor.envs.experts.scene import Decision, Scene, Thing, come_down, wrap

VERSION = "1"

# The machine, above the table; the door and the button are where they are when nothing pushes them.
FLOOR_M, RIM_M = 0.006, 0.018  # of the nest
DOOR_WAY_M, DOOR_Z_M = 0.130, 0.055
KNOB_X_M, KNOB_TOP_M = 0.012, 0.077
BUTTON_TOP_M = 0.062
LAMP_ON_M = 0.050  # middles of lamps are above it while they are lit

SAME_TURN = 0.5 * math.pi
TIP_M = 0.0073  # the fingertips below the tool
TIP_HALF_M = (0.0088, 0.0144)  # beside it along its x and y axis, while closed
GRIP_ABOVE_M = 0.006  # the part's middle
HELD_M = 0.006  # the opening differs from the part's width by less than that
TILTED = 1.15  # a part that is taller than that, times its edge, may be held across an edge
OVER_M = KNOB_TOP_M + TIP_M + 0.012  # tool on the way, without a part
CARRY_M = 0.060  # lower side of the part on the way
ABOVE_RIM_M = 0.005  # until part and nest are in line
IN_LINE_M, IN_TURN, TURN_ARM_M = 0.0008, 0.02, 0.02
THREADED_M = 0.002  # off the nest's middle, low: it goes on down; further off it is jammed and comes up again
LET_GO_M = 0.003  # above where it comes to rest
OUT_M = 0.006  # fingertips above the part before they close and go on
SET_DOWN_M = 0.030  # slowly from that far above the mat: a part that is banged down tips over
AT_EDGE_M = 0.006  # how near a part has to come to its goal: what is left to go
PUSH_Z_M = DOOR_Z_M + 0.016  # the fingers are wider 10 mm above the tool: the knob ends below that
STANDOFF_M = 0.012  # between fingertips and knob when they come down beside it
SHUT_M, OPEN_M = (
    0.005,
    DOOR_WAY_M - 0.010,
)  # of the door's way to the nest: enough for closed, for open
PRESS_M = 0.007  # how deep the button is pushed
FAST, SLOW = 1.0, 0.3  # full scales


def decide(scene: Scene) -> tuple[Decision, float]:
    """Return the action and the part's width between the fingers, m."""
    part, width = scene.part, scene.part.size[0]
    nest, door = scene.goal("fixture"), scene.goal("door")
    along = _local(nest, door.position)[0]
    slack = HELD_M if part.height < TILTED * part.size[2] else 0.5 * width
    held = scene.closing and abs(scene.opening - width) < slack and scene.gap < 0.025
    x, y = _local(nest, part.position)
    seated = math.hypot(x, y) < 0.008 and part.position[2] < FLOOR_M + 0.5 * part.size[2] + LET_GO_M
    if _lit(scene, "amber lamp"):
        return _wait(scene, door), width

    finished = _lit(scene, "green lamp")
    if seated and not finished:
        return _start_machine(scene, along), width
    if finished and not seated and _on_mat(scene):
        return (_let_go(scene) if along > OPEN_M else _push(scene, -1.0)), width
    if held and (finished or along < OPEN_M):
        return _to_mat(scene), width  # or out of the way, until the door is open
    if held:
        return _load(scene), width

    if along < OPEN_M:
        return _push(scene, -1.0), width
    return come_down(scene, _square(scene.part), GRIP_ABOVE_M, OVER_M), width


def _lit(scene: Scene, name: str) -> bool:
    return scene.goal(name).position[2] > LAMP_ON_M


def _local(frame: Thing, position: list[float]) -> tuple[float, float]:
    """Return x and y of a position in a thing's frame."""
    dx, dy = position[0] - frame.position[0], position[1] - frame.position[1]
    c, s = math.cos(frame.yaw), math.sin(frame.yaw)
    return c * dx + s * dy, c * dy - s * dx


def _world(frame: Thing, x: float, y: float) -> tuple[float, float]:
    """Return a position in the base frame of x and y in a thing's frame."""
    c, s = math.cos(frame.yaw), math.sin(frame.yaw)
    return frame.position[0] + c * x - s * y, frame.position[1] + s * x + c * y


def _on_mat(scene: Scene) -> bool:
    mat, part = scene.goal("out mat"), scene.part
    x, y = _local(mat, part.position)
    low = part.position[2] < mat.size[2] + 0.5 * part.size[2] + LET_GO_M
    return low and max(abs(x) - 0.5 * mat.size[0], abs(y) - 0.5 * mat.size[1]) < -0.012


def _start_machine(scene: Scene, along: float) -> Decision:
    """With the part in the nest: get clear of it, close the door, press the button."""
    near = math.hypot(*(scene.tool[axis] - scene.part.position[axis] for axis in range(2))) < 0.06
    top = scene.part.position[2] + 0.5 * scene.part.size[2]
    if near and along > SHUT_M and scene.tool[2] < top + TIP_M + OUT_M:
        return _let_go(scene)
    return _push(scene, 1.0) if along > SHUT_M else _press(scene)


def _let_go(scene: Scene) -> Decision:
    """Open; rise once the fingers are clear of the part."""
    x, y, z = scene.target
    clear = min(1.0, max(0.0, (scene.opening - scene.part.size[0] - 0.012) / 0.02))
    return scene.servo((x, y, z + clear * (OVER_M + 0.03 - z)), scene.target_yaw, close=False)


def _square(thing: Thing) -> float:
    """Return the yaw of a tool that is square to a thing: of the four the one nearest to 0, where the wrist is free."""
    return wrap(thing.yaw, SAME_TURN)


def _turn(scene: Scene, goal: Thing) -> float:
    """Return by how much the tool has to turn so that the held part is square to a goal."""
    return wrap(goal.yaw - scene.part.yaw + scene.yaw, SAME_TURN) - scene.yaw


def _reach(
    scene: Scene, place: tuple[float, float], height: float, yaw: float, within: float
) -> Decision:
    """Go above a place and come down a funnel onto it, with closed fingers."""
    away = math.hypot(place[0] - scene.tool[0], place[1] - scene.tool[1])
    astray = max(0.0, away - within) + max(0.0, scene.opening - 0.012)
    z = height + min(OVER_M - height, 3.0 * astray) if height < OVER_M else height
    free = 1.0 if away < 0.02 else min(1.0, max(0.0, (scene.tool[2] - OVER_M + 0.012) / 0.01))
    x, y = (
        target + free * (goal - target)
        for target, goal in zip(scene.target[:2], place, strict=True)
    )
    return scene.servo((x, y, z), yaw, close=True)


def _beside(scene: Scene, door: Thing) -> float:
    """Return how far the tool is from the middle of the knob while it pushes, m."""
    turn = door.yaw - scene.yaw
    return (
        0.5 * KNOB_X_M + TIP_HALF_M[0] * abs(math.cos(turn)) + TIP_HALF_M[1] * abs(math.sin(turn))
    )


def _push(scene: Scene, side: float) -> Decision:
    """Push the door's knob towards the nest (1) or away from it (-1), from the other side of the knob."""
    nest, door = scene.goal("fixture"), scene.goal("door")
    x, y = _local(door, scene.tool)
    yaw = _square(door)
    beside = _beside(scene, door)
    behind = beside - 0.006 < side * x < beside + 0.045 and abs(y) < 0.02

    if behind and scene.tool[2] < PUSH_Z_M + 0.008 and scene.opening < 0.012:
        end = 0.0 if side > 0.0 else DOOR_WAY_M
        place = _world(nest, end + side * (beside - 0.001), 0.0)
        return scene.servo((*place, PUSH_Z_M), yaw, close=True, speed=0.8)
    return _reach(scene, _world(door, side * (beside + STANDOFF_M), 0.0), PUSH_Z_M, yaw, 0.008)


def _press(scene: Scene) -> Decision:
    """Press the button with closed fingertips."""
    button = scene.goal("button")
    place = (button.position[0], button.position[1])
    return _reach(scene, place, BUTTON_TOP_M + TIP_M - PRESS_M, _square(button), 0.006)


def _wait(scene: Scene, door: Thing) -> Decision:
    """Wait above where the door is pushed open from."""
    return _reach(
        scene, _world(door, -_beside(scene, door) - STANDOFF_M, 0.0), OVER_M, _square(door), 0.0
    )


def _load(scene: Scene) -> Decision:
    """Lift, cross over, turning; come down into the nest once in line with it."""
    nest, part = scene.goal("fixture"), scene.part
    off = (nest.position[0] - part.position[0], nest.position[1] - part.position[1])
    turn = _turn(scene, nest)
    away, low = math.hypot(*off), part.position[2] - 0.5 * part.size[2]
    threaded = low < RIM_M and away < THREADED_M
    if threaded or (away < IN_LINE_M and abs(turn) < IN_TURN):
        return _bring(scene, off, turn, FLOOR_M + 0.5 * LET_GO_M, SLOW)

    astray = away + TURN_ARM_M * abs(turn)
    clear = RIM_M + ABOVE_RIM_M
    height = clear + min(CARRY_M - clear, 1.5 * max(0.0, astray - 0.004))
    return _bring(scene, off, turn, height, FAST)


def _to_mat(scene: Scene) -> Decision:
    """Lift, cross over, come down onto the middle of the mat and let go."""
    mat, part = scene.goal("out mat"), scene.part
    if _on_mat(scene):
        return _let_go(scene)
    off = (mat.position[0] - part.position[0], mat.position[1] - part.position[1])
    clear = mat.size[2] + 0.3 * LET_GO_M
    height = clear + min(CARRY_M - clear, 2.0 * max(0.0, math.hypot(*off) - AT_EDGE_M))
    near = part.position[2] - 0.5 * part.size[2] < mat.size[2] + SET_DOWN_M
    return _bring(scene, off, _turn(scene, mat), height, SLOW if near else FAST)


def _bring(
    scene: Scene, off: tuple[float, float], turn: float, height: float, speed: float
) -> Decision:
    """Move the held part: by how much sideways, by which turn, and to which height of its lower side."""
    part, away = scene.part, math.hypot(*off)
    low = part.position[2] - 0.5 * part.size[2]
    free = min(1.0, max(0.0, (low - CARRY_M + 0.020) / 0.015)) if away > 0.05 else 1.0
    x, y = (
        target + free * (tool + move - target)
        for target, tool, move in zip(scene.target[:2], scene.tool[:2], off, strict=True)
    )
    yaw = scene.yaw + turn * free
    return scene.servo((x, y, scene.tool[2] + height - low), yaw, close=True, speed=speed)
