"""The expert of HandOver: one decision per step for both arms, from what can be seen at that step alone.

The first arm grips the half of the bar that is nearer to it and holds the bar up in the middle,
lengthwise between the two arms; the second grips the other half; the first lets go and makes way;
the second lays the bar into its tray. Each arm is commanded in its own frame; the bar's two halves
look alike, so each takes the one on its own side.
"""

from __future__ import annotations

import math
from dataclasses import replace

from shopfloor.envs.experts.scene import Decision, Scene, Thing, Vector, wrap
from shopfloor.envs.robots.arm import TAIL_SIZE

VERSION = "1"

SECOND_M = 1.10  # where the second arm stands, facing the first: x in the first's frame
ARM_STATE = 7 + TAIL_SIZE
FLOOR_M = 0.004  # of the tray
GRIP_M = 0.050  # between the middle of the bar and each hand: hands are 60 mm wide
GRIP_ABOVE_M = 0.004  # the bar's axis
MEETING: Vector = (0.5 * SECOND_M, 0.0, 0.22)  # of the middle of the bar
WAITING: Vector = (0.36, 0.0, 0.30)  # of a tool with nothing to do, in its arm's frame
HOVER_M = 0.07  # above the grip on the way to it
CARRY_M = 0.12  # lower side of the bar on the way to the tray
MET_M, MET_TURN = 0.010, 0.06  # off the meeting place, rad across it: the second hand may come
NEAR_M = 0.060  # a hand this close to the bar is in the way of its being carried off
IN_PLACE_M = 0.004  # off the grip to close
LET_GO_M, OFF_TRAY_M, OFF_TURN = (
    0.006,
    0.010,
    0.12,
)  # above the tray's floor; off its middle; rad across it
FLAT_M, FLAT_SINE = (
    0.002,
    math.sin(math.radians(2.0)),
)  # above the floor, and across it, of a bar that lies in the tray
BEYOND_M = 0.60  # x of a bar that the first arm cannot take
SLOW = 0.35  # speed into the tray and towards a bar in the air, in full scales


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
        met = (
            math.dist(first.part.position, MEETING) < MET_M
            and abs(wrap(first.part.yaw, math.pi)) < MET_TURN
        )

        return [*_present(first), *(_take(second) if met else _wait(second))], width
    if (
        scene.part.position[0] > BEYOND_M
    ):  # lost on the second arm's side, most likely after it was handed over
        return [*_wait(first), *_take(second)], width

    return [*_take(first), *_wait(second)], width


def second_scene(scene: Scene) -> Scene:
    """Return what the second arm sees, in its own frame."""
    tail = scene.rest[ARM_STATE - TAIL_SIZE : ARM_STATE]
    yaw = 2.0 * math.atan2(tail[5], tail[6])
    part = _turned(scene.part)

    return Scene(
        tool=tail[:3],
        yaw=yaw,
        target=[tail[axis] + tail[8 + axis] for axis in range(3)],
        target_yaw=yaw + tail[13],
        opening=tail[7],
        closing=tail[14] > 0.0,
        part=part,
        things=[part, *(_turned(thing) for thing in scene.things if thing is not scene.part)],
    )


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
    return (px + reach * x, py + reach * y, pz + reach * z + GRIP_ABOVE_M), wrap(
        scene.part.yaw, math.pi
    )


def _beside(scene: Scene) -> float:
    """Return how far the tool is from the bar, m."""
    along = scene.part.axis(0)
    off = [tool - part for tool, part in zip(scene.tool, scene.part.position, strict=True)]
    way = sum(a * b for a, b in zip(off, along, strict=True))
    half = 0.5 * scene.part.size[0]
    way -= min(max(way, -half), half)

    across = [
        a - sum(o * b for o, b in zip(off, along, strict=True)) * b
        for a, b in zip(off, along, strict=True)
    ]

    return math.hypot(*across, way)


def _holds(scene: Scene) -> bool:
    width = scene.part.size[1]
    return scene.closing and width - 0.006 < scene.opening < width + 0.006 and _beside(scene) < 0.02


def _above_floor(second: Scene) -> float:
    return second.part.position[2] - 0.5 * second.part.height - second.goal().position[2] - FLOOR_M


def _laid(second: Scene) -> bool:
    """Return whether the bar is low enough over the tray, and enough in line with it, to be let go."""
    part, tray = second.part, second.goal()
    near = math.dist(part.position[:2], tray.position[:2]) < OFF_TRAY_M
    return (
        near
        and abs(wrap(tray.yaw - part.yaw, math.pi)) < OFF_TURN
        and _above_floor(second) < LET_GO_M
    )


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
    x, y, z = scene.target
    near = _beside(scene) < NEAR_M
    if near:
        clear = min(1.0, max(0.0, (scene.opening - scene.part.size[1] - 0.012) / 0.015))
        return scene.servo((x, y, z + clear * NEAR_M), scene.target_yaw, close=False)
    return _wait(scene)


def _wait(scene: Scene) -> Decision:
    """Go home: up first, where something may be in the way."""
    x, y, z = WAITING
    free = min(1.0, max(0.0, (scene.tool[2] - 0.10) / 0.05)) if _beside(scene) < 0.2 else 1.0
    at = (scene.tool[0] + free * (x - scene.tool[0]), scene.tool[1] + free * (y - scene.tool[1]), z)
    return scene.servo(at, 0.0, close=False)


def _take(scene: Scene) -> Decision:
    """Come down onto the own half of the bar, turning; close when in place."""
    (x, y, z), yaw = _grip(scene)
    distance, turn = math.hypot(scene.tool[0] - x, scene.tool[1] - y), abs(yaw - scene.yaw)
    lag = math.dist(scene.tool, scene.target)
    if max(distance, abs(scene.tool[2] - z), lag) < IN_PLACE_M and turn < 0.08:
        return scene.servo((x, y, z), yaw, close=True)

    astray = distance + 0.05 * turn + 0.5 * max(0.0, 0.07 - scene.opening)
    height = z + min(HOVER_M, 4.0 * max(0.0, astray - 0.004))
    free = 1.0 if distance < 0.012 else min(1.0, max(0.0, (scene.tool[2] - z - 0.04) / 0.02))
    x, y = (tool + free * (goal - tool) for tool, goal in zip(scene.tool[:2], (x, y), strict=True))
    speed = min(1.0, 0.25 + 12.0 * abs(scene.tool[2] - z) + 12.0 * distance)

    return scene.servo((x, y, height), yaw, close=False, speed=speed)


def _bring(scene: Scene, goal: Vector, yaw: float, free: float, speed: float = 1.0) -> Decision:
    """Move the held bar's middle towards a place, m, and its length towards a yaw modulo half a turn."""
    turn = wrap(yaw, math.pi) - wrap(scene.part.yaw, math.pi)
    wanted = scene.yaw + turn
    # The hand holds the bar off its middle: where the tool must be for the middle to come to the
    # goal.
    c, s = math.cos(turn), math.sin(turn)
    dx, dy, dz = (tool - part for tool, part in zip(scene.tool, scene.part.position, strict=True))
    at = (goal[0] + c * dx - s * dy, goal[1] + s * dx + c * dy, goal[2] + dz)

    x, y = (
        target + free * (goal - target)
        for target, goal in zip(scene.target[:2], at[:2], strict=True)
    )

    return scene.servo(
        (x, y, at[2]), scene.yaw + free * (wanted - scene.yaw), close=True, speed=speed
    )


def _present(scene: Scene) -> Decision:
    """Lift the bar, then hold it out to the other arm."""
    free = min(1.0, max(0.0, (scene.part.position[2] - 0.06) / 0.04))
    return _bring(scene, MEETING, 0.0, free)


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
