"""The expert of HandOver: one decision per step for both arms, from what can be seen at that step alone.

The first arm grips the half of the bar that is nearer to it and holds the bar up in the middle,
lengthwise between the two arms; the second grips the other half; the first lets go and makes way;
the second lays the bar into its tray. Each arm is commanded in its own frame; the bar's two halves
look alike, so each takes the one on its own side.
"""

from __future__ import annotations

import math
from dataclasses import replace

from shopfloor.envs.cells.hand_over import FLOOR_M, GRIP_M, SECOND_M, HandOver
from shopfloor.envs.experts.moves.hand import SlowFunnel, between, ramp
from shopfloor.envs.experts.scene import Decision, Scene, Thing, Vector, wrap
from shopfloor.envs.record import CellRecord
from shopfloor.envs.robots.protocol import TAIL_SIZE

ARM_STATE = 7 + TAIL_SIZE
GRIP_ABOVE_M = 0.004  # the bar's axis
MEETING: Vector = (0.5 * SECOND_M, 0.0, 0.22)  # of the middle of the bar
WAITING: Vector = (0.36, 0.0, 0.30)  # of a tool with nothing to do, in its arm's frame
CARRY_M = 0.12  # lower side of the bar on the way to the tray
MET_M, MET_TURN = 0.010, 0.06  # off the meeting place, rad across it: the second hand may come
NEAR_M = 0.060  # a hand this close to the bar is in the way of its being carried off
LET_GO_M = 0.006  # above the tray's floor
OFF_TRAY_M, OFF_TURN = 0.010, 0.12  # off the tray's middle and rad across it, to let go
# Above the floor, and across it, of a bar that lies in the tray.
FLAT_M, FLAT_SINE = 0.002, math.sin(math.radians(2.0))
BEYOND_M = 0.60  # x of a bar that the first arm cannot take
SLOW = 0.35  # speed into the tray, in full scales
FUNNEL = SlowFunnel(off_m=0.004, room_m=0.004, hover_m=0.07, cross_m=0.04, slowest=0.25)


def decide(scene: Scene) -> tuple[Decision, float]:
    """Return the action of both arms, 14 numbers, and the bar's width between the fingers, m."""
    first, second = scene, second_scene(scene)
    width = scene.part.size[1]
    held_first, held_second = _holds(first), _holds(second)
    if _lies(second) or (_laid(second) and not held_first):
        return [*_leave(first), *_leave(second)], width
    if held_first and held_second:
        return [*_hold(first, close=False), *_hold(second, close=True)], width
    if held_second:
        away = _beside(first) > NEAR_M
        return [*_leave(first), *(_carry(second) if away else _hold(second, close=True))], width

    if held_first:
        off, turn = math.dist(first.part.position, MEETING), abs(wrap(first.part.yaw, math.pi))
        met = off < MET_M and turn < MET_TURN
        return [*_present(first), *(_take(second) if met else _wait(second))], width

    # Lost on the second arm's side, most likely after it was handed over.
    if scene.part.position[0] > BEYOND_M:
        return [*_wait(first), *_take(second)], width

    return [*_take(first), *_wait(second)], width


def second_scene(scene: Scene) -> Scene:
    """Return what the second arm sees, in its own frame."""
    tail = scene.rest[ARM_STATE - TAIL_SIZE : ARM_STATE]
    part = _turned(scene.part)
    others = (_turned(thing) for thing in scene.things if thing is not scene.part)
    return Scene.of_arm(tail, part, [part, *others])


def _turned(thing: Thing) -> Thing:
    """Return a thing in the second arm's frame: half a turn about z, and moved."""
    x, y, z = thing.position
    qx, qy, qz, qw = thing.quaternion
    return replace(thing, position=[SECOND_M - x, -y, z], quaternion=[qy, -qx, -qw, qz])


def _grip(scene: Scene) -> tuple[Vector, float]:
    """Return where an arm grips the bar, m, and the tool's yaw there: the half on its own side."""
    x, y, z = scene.part.axis(0)
    sign = -1.0 if x > 0.0 else 1.0
    px, py, pz = scene.part.position
    reach = sign * GRIP_M
    grip = (px + reach * x, py + reach * y, pz + reach * z + GRIP_ABOVE_M)
    return grip, wrap(scene.part.yaw, math.pi)


def _beside(scene: Scene) -> float:
    """Return how far the tool is from the bar, m."""
    along = scene.part.axis(0)
    off = [tool - part for tool, part in zip(scene.tool, scene.part.position, strict=True)]
    way = sum(a * b for a, b in zip(off, along, strict=True))
    across = [a - way * b for a, b in zip(off, along, strict=True)]
    half = 0.5 * scene.part.size[0]
    return math.hypot(*across, way - min(max(way, -half), half))


def _holds(scene: Scene) -> bool:
    width = scene.part.size[1]
    return scene.closing and width - 0.006 < scene.opening < width + 0.006 and _beside(scene) < 0.02


def _above_floor(second: Scene) -> float:
    return second.part.position[2] - 0.5 * second.part.height - second.goal().position[2] - FLOOR_M


def _laid(second: Scene) -> bool:
    """Return whether the bar is low enough over the tray, and enough in line with it, to be let go."""
    part, tray = second.part, second.goal()
    near = math.dist(part.position[:2], tray.position[:2]) < OFF_TRAY_M
    in_line = abs(wrap(tray.yaw - part.yaw, math.pi)) < OFF_TURN
    return near and in_line and _above_floor(second) < LET_GO_M


def _lies(second: Scene) -> bool:
    """Return whether the bar lies flat on the tray's floor, wherever in it."""
    part, tray = second.part, second.goal()
    flat = abs(part.axis(0)[2]) < FLAT_SINE and _above_floor(second) < FLAT_M
    return flat and math.dist(part.position[:2], tray.position[:2]) < 0.5 * tray.size[1]


def _hold(scene: Scene, *, close: bool) -> Decision:
    x, y, z = scene.target
    return scene.servo((x, y, z), scene.target_yaw, close)


def _leave(scene: Scene) -> Decision:
    """Open; rise once the fingers are clear of the bar, and go home."""
    if _beside(scene) >= NEAR_M:
        return _wait(scene)

    x, y, z = scene.target
    clear = ramp(scene.opening - scene.part.size[1] - 0.012, 0.015)
    return scene.servo((x, y, z + clear * NEAR_M), scene.target_yaw, close=False)


def _wait(scene: Scene) -> Decision:
    """Go home: up first, where something may be in the way."""
    free = ramp(scene.tool[2] - 0.10, 0.05) if _beside(scene) < 0.2 else 1.0
    return scene.servo((*between(scene.tool, WAITING, free), WAITING[2]), 0.0, close=False)


def _take(scene: Scene) -> Decision:
    """Come down onto the own half of the bar, turning; close when in place."""
    grip, yaw = _grip(scene)
    return FUNNEL.descend(scene, grip, yaw)


def _bring(scene: Scene, goal: Vector, yaw: float, free: float, speed: float = 1.0) -> Decision:
    """Move the held bar's middle towards a place, m, and its length towards a yaw modulo half a turn."""
    turn = wrap(yaw, math.pi) - wrap(scene.part.yaw, math.pi)
    wanted = scene.yaw + turn
    # The hand holds the bar off its middle: where the tool must be for the middle to come to the
    # goal.
    c, s = math.cos(turn), math.sin(turn)
    dx, dy, dz = (tool - part for tool, part in zip(scene.tool, scene.part.position, strict=True))
    at = (goal[0] + c * dx - s * dy, goal[1] + s * dx + c * dy)
    x, y = between(scene.target, at, free)
    turned = scene.yaw + free * (wanted - scene.yaw)
    return scene.servo((x, y, goal[2] + dz), turned, close=True, speed=speed)


def _present(scene: Scene) -> Decision:
    """Lift the bar, then hold it out to the other arm."""
    return _bring(scene, MEETING, 0.0, ramp(scene.part.position[2] - 0.06, 0.04))


def _carry(scene: Scene) -> Decision:
    """Carry the bar over its tray while turning, come down once in line with it."""
    tray, part = scene.goal(), scene.part
    off = math.dist(part.position[:2], tray.position[:2])
    turn = abs(wrap(tray.yaw - part.yaw, math.pi))
    floor = tray.position[2] + FLOOR_M
    height = floor + 0.5 * part.height + 0.002
    astray = off + 0.08 * turn
    height += min(CARRY_M, 6.0 * max(0.0, astray - 0.006))
    speed = min(1.0, SLOW + 12.0 * astray)
    return _bring(scene, (tray.position[0], tray.position[1], height), tray.yaw, 1.0, speed)


CELL = CellRecord(
    "shopfloor/HandOver-v0",
    HandOver,
    version="1",
    decide=decide,
    rest=ARM_STATE,
    chunk=1,
    does=("one arm hands the named bar to another in the air, which lays it into a tray; two arms"),
    done_when="it lies in the tray and was handed over in the air",
)
