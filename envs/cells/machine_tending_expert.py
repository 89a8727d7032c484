"""The expert of MachineTending: one decision per step, from what can be seen at that step alone.

The place of the door, of the lamps and of the part tell how far the job is.
"""

from __future__ import annotations

import math

from shopfloor.envs.cells.lamps import is_lit
from shopfloor.envs.cells.machine_tending import (
    BUTTON_TOP_M,
    DOOR_WAY_M,
    DOOR_Z_M,
    FLOOR_M,
    GRIP_ABOVE_M,
    KNOB_TOP_M,
    KNOB_X_M,
    RIM_M,
    MachineTending,
)
from shopfloor.envs.experts.moves.hand import (
    between,
    come_down,
    let_go,
    ramp,
    shifted,
    turn_square,
)
from shopfloor.envs.experts.scene import QUARTER_TURN, Decision, Scene, Thing, wrap
from shopfloor.envs.record import CellRecord

TIP_M = 0.0073  # the fingertips below the tool
TIP_HALF_M = (0.0088, 0.0144)  # beside it along its x and y axis, while closed
HELD_M = 0.006  # the opening differs from the part's width by less than that
TILTED = 1.15  # a part that is taller than that, times its edge, may be held across an edge
OVER_M = KNOB_TOP_M + TIP_M + 0.012  # tool on the way, without a part
LEAVE_M = OVER_M + 0.03  # tool after it has let go
CARRY_M = 0.060  # lower side of the part on the way
ABOVE_RIM_M = 0.005  # until part and nest are in line
IN_LINE_M, IN_TURN, TURN_ARM_M = 0.0008, 0.02, 0.02
# A low part that is less off the nest's middle goes on down; further off it is jammed and comes up.
THREADED_M = 0.002
LET_GO_M = 0.003  # above where it comes to rest
OUT_M = 0.006  # fingertips above the part before they close and go on
SET_DOWN_M = 0.030  # slowly from that far above the mat: a part that is banged down tips over
AT_EDGE_M = 0.006  # how near a part has to come to its goal: what is left to go
PUSH_Z_M = DOOR_Z_M + 0.016  # the fingers are wider 10 mm above the tool: the knob ends below that
STANDOFF_M = 0.012  # between fingertips and knob when they come down beside it
CLOSED_M = 0.012  # fingers less open than that push and press
# Of the door's way to the nest: enough for closed, for open.
SHUT_M, OPEN_M = 0.005, DOOR_WAY_M - 0.010
PRESS_M = 0.007  # how deep the button is pushed
FAST, SLOW = 1.0, 0.3  # full scales


def decide(scene: Scene) -> tuple[Decision, float]:
    """Return the action and the part's width between the fingers, m."""
    part, width = scene.part, scene.part.size[0]
    nest, door = scene.goal("fixture"), scene.goal("door")
    along, _ = nest.local(door.position)
    slack = HELD_M if part.height < TILTED * part.size[2] else 0.5 * width
    held = scene.closing and abs(scene.opening - width) < slack and scene.gap < 0.025
    low = part.position[2] < FLOOR_M + 0.5 * part.size[2] + LET_GO_M
    seated = low and math.hypot(*nest.local(part.position)) < 0.008
    if is_lit(scene, "amber lamp"):
        return _wait(scene, door), width

    finished = is_lit(scene, "green lamp")
    if seated and not finished:
        return _start_machine(scene, along), width
    if finished and not seated and _on_mat(scene):
        return (let_go(scene, LEAVE_M) if along > OPEN_M else _push(scene, -1.0)), width
    if held and (finished or along < OPEN_M):
        # Onto the mat, or out of the way until the door is open.
        return _to_mat(scene), width
    if held:
        return _load(scene), width

    if along < OPEN_M:
        return _push(scene, -1.0), width
    return come_down(scene, _square(scene.part), GRIP_ABOVE_M, OVER_M), width


def _on_mat(scene: Scene) -> bool:
    mat, part = scene.goal("out mat"), scene.part
    x, y = mat.local(part.position)
    low = part.position[2] < mat.size[2] + 0.5 * part.size[2] + LET_GO_M
    return low and max(abs(x) - 0.5 * mat.size[0], abs(y) - 0.5 * mat.size[1]) < -0.012


def _start_machine(scene: Scene, along: float) -> Decision:
    """With the part in the nest: get clear of it, close the door, press the button."""
    near = math.dist(scene.tool[:2], scene.part.position[:2]) < 0.06
    top = scene.part.position[2] + 0.5 * scene.part.size[2]
    if near and along > SHUT_M and scene.tool[2] < top + TIP_M + OUT_M:
        return let_go(scene, LEAVE_M)
    return _push(scene, 1.0) if along > SHUT_M else _press(scene)


def _square(thing: Thing) -> float:
    """Return the yaw of a tool that is square to a thing: of the four the one nearest to 0, where the wrist is free."""
    return wrap(thing.yaw, QUARTER_TURN)


def _reach(
    scene: Scene, place: tuple[float, float], height: float, yaw: float, within: float
) -> Decision:
    """Go above a place and come down a funnel onto it, with closed fingers."""
    away = math.dist(place, scene.tool[:2])
    astray = max(0.0, away - within) + max(0.0, scene.opening - CLOSED_M)
    z = height + min(OVER_M - height, 3.0 * astray) if height < OVER_M else height
    free = 1.0 if away < 0.02 else ramp(scene.tool[2] - OVER_M + 0.012, 0.01)
    return scene.servo((*between(scene.target, place, free), z), yaw, close=True)


def _beside(scene: Scene, door: Thing) -> float:
    """Return how far the tool is from the middle of the knob while it pushes, m."""
    turn = door.yaw - scene.yaw
    return (
        0.5 * KNOB_X_M + TIP_HALF_M[0] * abs(math.cos(turn)) + TIP_HALF_M[1] * abs(math.sin(turn))
    )


def _push(scene: Scene, side: float) -> Decision:
    """Push the door's knob towards the nest (1) or away from it (-1), from the other side of the knob."""
    nest, door = scene.goal("fixture"), scene.goal("door")
    x, y = door.local(scene.tool)
    yaw = _square(door)
    beside = _beside(scene, door)
    behind = beside - 0.006 < side * x < beside + 0.045 and abs(y) < 0.02

    if behind and scene.tool[2] < PUSH_Z_M + 0.008 and scene.opening < CLOSED_M:
        end = 0.0 if side > 0.0 else DOOR_WAY_M
        place = nest.at(end + side * (beside - 0.001), 0.0)
        return scene.servo((*place, PUSH_Z_M), yaw, close=True, speed=0.8)
    return _reach(scene, door.at(side * (beside + STANDOFF_M), 0.0), PUSH_Z_M, yaw, 0.008)


def _press(scene: Scene) -> Decision:
    """Press the button with closed fingertips."""
    button = scene.goal("button")
    place = (button.position[0], button.position[1])
    return _reach(scene, place, BUTTON_TOP_M + TIP_M - PRESS_M, _square(button), 0.006)


def _wait(scene: Scene, door: Thing) -> Decision:
    """Wait above where the door is pushed open from."""
    place = door.at(-_beside(scene, door) - STANDOFF_M, 0.0)
    return _reach(scene, place, OVER_M, _square(door), 0.0)


def _load(scene: Scene) -> Decision:
    """Lift, cross over, turning; come down into the nest once in line with it."""
    nest, part = scene.goal("fixture"), scene.part
    off, turn = scene.off(nest), turn_square(scene, nest)
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
        return let_go(scene, LEAVE_M)

    off = scene.off(mat)
    clear = mat.size[2] + 0.3 * LET_GO_M
    height = clear + min(CARRY_M - clear, 2.0 * max(0.0, math.hypot(*off) - AT_EDGE_M))
    near = part.position[2] - 0.5 * part.size[2] < mat.size[2] + SET_DOWN_M
    return _bring(scene, off, turn_square(scene, mat), height, SLOW if near else FAST)


def _bring(
    scene: Scene, off: tuple[float, float], turn: float, height: float, speed: float
) -> Decision:
    """Move the held part: by how much sideways, by which turn, and to which height of its lower side."""
    low = scene.part.position[2] - 0.5 * scene.part.size[2]
    free = ramp(low - CARRY_M + 0.020, 0.015) if math.hypot(*off) > 0.05 else 1.0
    place = (*shifted(scene, off, free), scene.tool[2] + height - low)
    return scene.servo(place, scene.yaw + turn * free, close=True, speed=speed)


CELL = CellRecord(
    "shopfloor/MachineTending-v0",
    MachineTending,
    version="1",
    decide=decide,
    does=(
        "the named blank into a machine; shut the door, press the button, wait, open, take it out"
    ),
    done_when="it is finished and lies on the out mat",
)
