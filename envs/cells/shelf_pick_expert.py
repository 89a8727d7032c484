"""The expert of ShelfPick: one decision per step for arm and base, from what can be seen at that step alone.

With the arm tucked in it drives to a place before the rack where the item is straight ahead of the
arm. There the base stands still: the arm picks the item, lifts it, swings it round to the tote and
lets it go.
"""

from __future__ import annotations

import math
from dataclasses import replace

from shopfloor.envs.experts.moves.drive import LINE_UP_M, Pose, drive_to
from shopfloor.envs.experts.scene import Decision, Scene, Thing, Vector, grasp_yaw
from shopfloor.envs.robots.arm import FULL_SCALE_M
from shopfloor.envs.robots.mobile import MAX_SPEED_M_S, MAX_TURN_RAD_S

VERSION = "1"

BASE_STATE = 6
MOUNT: Vector = (0.22, -0.12, 0.35)  # of the arm on the chassis
# The middle of the tote, x and y in the arm's frame, and its inside; its floor is on the deck.
TOTE, TOTE_INNER_M, TOTE_FLOOR_M = (-0.33, 0.24), (0.26, 0.22), 0.004
RACK_DEPTH_M = 0.56
PARKED_M = 0.45  # from the middle of the chassis to the rack's face: 10 cm of room
AHEAD_LOW_M, AHEAD_HIGH_M, ASIDE_M, ASKEW = (
    0.24,
    0.71,
    0.10,
    0.12,
)  # where the item must be to be picked
ROOM_M = 0.05  # between rack and chassis, at least
STANDS_M_S, STANDS_RAD_S = 0.03, 0.05
TUCKED: Vector = (0.30, 0.0, 0.42)
HIGH_M = 0.35  # of the tool before the base drives
WIDEST_M, PLAY_M = (
    0.058,
    0.006,
)  # of an item between the fingers; and of the opening, where they grip it
HOVER_M = 0.075  # above the item on the way to it
IN_PLACE_M, GRIP_REACH_M = 0.006, 0.035
CARRY_M, UPPER_CARRY_M, UPPER_X_M = 0.38, 0.46, 0.56  # of the tool; and from the uppermost step
SWING_M, OVER_M = (
    0.40,
    0.20,
)  # from the arm's axis; of the tool above the deck on the way into the tote
SET_DOWN_M, ON_TOTE_M = (
    0.030,
    0.050,
)  # from the item to the floor, and off the tote's middle, to let go
IN_RACK_M = 0.24  # a tool further ahead than that may be between the steps


def decide(scene: Scene) -> tuple[Decision, float]:
    """Return the action of arm and base, 9 numbers, and the item's width between the fingers, m."""
    x, y, cosine, sine, speed, turn = scene.rest
    base = Pose(x, y, math.atan2(sine, cosine), speed)
    part = in_arm_frame(base, scene.part)
    seen = replace(scene, part=part)
    yaw, width = grasp_yaw(part, _near_zero(scene.yaw), WIDEST_M)
    gripped = any(abs(seen.opening - side) < PLAY_M for side in part.size)
    held = seen.closing and gripped and seen.gap < GRIP_REACH_M
    if _in_tote(part) and (not held or _low(part)):
        return [*_leave(seen), 0.0, 0.0], width

    if held:
        return [*_carry(seen), 0.0, 0.0], width
    if _in_reach(part, base, scene) and abs(speed) < STANDS_M_S and abs(turn) < STANDS_RAD_S:
        return [*_take(seen, yaw), 0.0, 0.0], width
    return [*_tuck(seen), *_drive(base, scene)], width


def in_arm_frame(base: Pose, thing: Thing) -> Thing:
    """Return a thing as seen from the arm."""
    x, y = base.sees((thing.position[0], thing.position[1]))
    s, c = math.sin(-0.5 * base.yaw), math.cos(0.5 * base.yaw)
    qx, qy, qz, qw = thing.quaternion
    turned = [c * qx - s * qy, c * qy + s * qx, c * qz + s * qw, c * qw - s * qz]
    return replace(
        thing,
        position=[x - MOUNT[0], y - MOUNT[1], thing.position[2] - MOUNT[2]],
        quaternion=turned,
    )


def _near_zero(yaw: float) -> float:
    """Return the yaw from which to seek the nearest grip: that of a hand across the rack, if it is not far off."""
    return 0.3 * yaw if abs(yaw) < 0.5 else 0.0


def _face(scene: Scene) -> float:
    rack = next(thing for thing in scene.things if thing.name == "rack")
    return rack.position[0] - 0.5 * RACK_DEPTH_M


def _in_reach(part: Thing, base: Pose, scene: Scene) -> bool:
    x, y, _ = part.position
    corner = base.x + 0.35 * math.cos(base.yaw) + 0.25 * abs(math.sin(base.yaw))
    room = _face(scene) - corner
    return (
        AHEAD_LOW_M < x < AHEAD_HIGH_M
        and abs(y) < ASIDE_M
        and abs(base.yaw) < ASKEW
        and ROOM_M < room < 0.14
    )


def _drive(base: Pose, scene: Scene) -> Decision:
    """Drive to the place before the item, once the arm is out of the rack."""
    place = Pose(_face(scene) - PARKED_M, scene.part.position[1] - MOUNT[1], 0.0)
    if scene.tool[2] < HIGH_M - 0.03 and scene.tool[0] > IN_RACK_M:
        return [0.0, 0.0]
    speed, turn = drive_to(base, place, [place.ahead(-LINE_UP_M)])
    return [speed / MAX_SPEED_M_S, turn / MAX_TURN_RAD_S]


def _tuck(scene: Scene) -> Decision:
    x, y, z = scene.target
    if z < HIGH_M and math.hypot(x, y) > IN_RACK_M:
        return scene.servo((x, y, TUCKED[2]), scene.target_yaw, close=False)
    return _swing(scene, math.hypot(TUCKED[0], TUCKED[1]), 0.0, TUCKED[2], close=False)


def _swing(scene: Scene, radius: float, angle: float, height: float, *, close: bool) -> Decision:
    """Move the tool about the arm's axis, its x axis pointing away from it."""
    x, y, _ = scene.target
    here, at = math.hypot(x, y), math.atan2(y, x)
    here = max(here, 0.1)
    step = 2.0 * FULL_SCALE_M  # far enough to be saturated
    goal = at + min(max(angle - at, -step / here), step / here)
    reach = here + min(max(radius - here, -step), step)
    wanted = (reach * math.cos(goal), reach * math.sin(goal), height)
    return scene.servo(wanted, goal, close)


def _take(scene: Scene, yaw: float) -> Decision:
    """Come down onto the item, turning; close when in place."""
    x, y, z = scene.part.position
    away, turn = math.hypot(scene.tool[0] - x, scene.tool[1] - y), abs(yaw - scene.yaw)
    lag = math.dist(scene.tool, scene.target)
    if max(away, abs(scene.tool[2] - z), lag) < IN_PLACE_M and turn < 0.08:
        return scene.servo((x, y, z), yaw, close=True)
    if abs(scene.yaw) > 1.0 or scene.tool[0] < 0.1:  # still turned towards the tote
        return _tuck(scene)

    astray = away + 0.05 * turn + 0.5 * max(0.0, 0.07 - scene.opening)
    height = z + min(HOVER_M, 4.0 * max(0.0, astray - 0.005))
    free = 1.0 if away < 0.012 else min(1.0, max(0.0, (scene.tool[2] - z - 0.5 * HOVER_M) / 0.02))
    x, y = (tool + free * (goal - tool) for tool, goal in zip(scene.tool[:2], (x, y), strict=True))
    speed = min(1.0, 0.3 + 12.0 * abs(scene.tool[2] - z) + 12.0 * away)

    return scene.servo((x, y, height), yaw, close=False, speed=speed)


def _in_tote(part: Thing) -> bool:
    x, y, z = part.position
    inside = abs(x - TOTE[0]) < 0.5 * TOTE_INNER_M[0] and abs(y - TOTE[1]) < 0.5 * TOTE_INNER_M[1]
    return inside and z < 0.12


def _low(part: Thing) -> bool:
    """Return whether the item is low enough over the middle of the tote to be let go."""
    off = math.dist(part.position[:2], TOTE)
    return off < ON_TOTE_M and part.position[2] - 0.5 * part.height < TOTE_FLOOR_M + SET_DOWN_M


def _carry(scene: Scene) -> Decision:
    """Lift the item out of the rack, swing it round to the tote, lower it in."""
    x, y, z = scene.tool
    high = UPPER_CARRY_M if x > UPPER_X_M else CARRY_M
    angle = math.atan2(y, x)

    if x > IN_RACK_M and z < high - 0.05:
        return scene.servo(
            (scene.target[0], scene.target[1], high + 0.03), scene.target_yaw, close=True
        )

    off = math.dist((x, y), TOTE)
    if off < 0.06:
        height = (
            scene.part.height * 0.5
            + TOTE_FLOOR_M
            + 0.5 * SET_DOWN_M
            + scene.tool[2]
            - scene.part.position[2]
        )

        height += min(OVER_M, 5.0 * max(0.0, off - 0.012))
        return scene.servo((*TOTE, height), math.atan2(TOTE[1], TOTE[0]), close=True)

    near = abs(angle - math.atan2(TOTE[1], TOTE[0])) < 0.4
    radius = math.hypot(*TOTE) if near or x < 0.3 else SWING_M
    return _swing(
        scene, radius, math.atan2(TOTE[1], TOTE[0]), OVER_M + 0.05 if near else high, close=True
    )


def _leave(scene: Scene) -> Decision:
    """Let go; rise once the fingers are open."""
    x, y, z = scene.target
    clear = min(1.0, max(0.0, (scene.opening - 0.055) / 0.015))
    return scene.servo((x, y, z + clear * 0.10 if z < 0.28 else z), scene.target_yaw, close=False)
