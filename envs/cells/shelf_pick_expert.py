"""The expert of ShelfPick: one decision per step for arm and base, from what can be seen at that step alone.

With the arm tucked in it drives to a place before the rack where the item is straight ahead of the
arm. There the base stands still: the arm picks the item, lifts it, swings it round to the tote and
lets it go.
"""

from __future__ import annotations

import math
from dataclasses import replace

from shopfloor.envs.cells.shelf_pick import (
    MOUNT,
    RACK_M,
    TOTE,
    TOTE_FLOOR_M,
    TOTE_INNER_M,
    ShelfPick,
)
from shopfloor.envs.experts.moves.drive import LINE_UP_M, Pose, drive_to
from shopfloor.envs.experts.moves.hand import SlowFunnel, ramp
from shopfloor.envs.experts.scene import Decision, Scene, Thing, Vector, grasp_yaw
from shopfloor.envs.record import CellRecord
from shopfloor.envs.robots.mobile import MAX_SPEED_M_S, MAX_TURN_RAD_S, Base
from shopfloor.envs.robots.protocol import FULL_SCALE_M

TOTE_ANGLE = math.atan2(TOTE[1], TOTE[0])  # about the arm's axis
PARKED_M = 0.45  # from the middle of the chassis to the rack's face: 10 cm of room
# Where the item must be to be picked.
AHEAD_LOW_M, AHEAD_HIGH_M, ASIDE_M, ASKEW = 0.24, 0.71, 0.10, 0.12
ROOM_M = 0.05  # between rack and chassis, at least
STANDS_M_S, STANDS_RAD_S = 0.03, 0.05
TUCKED: Vector = (0.30, 0.0, 0.42)
HIGH_M = 0.35  # of the tool before the base drives
# Of an item between the fingers; and of the opening, where they grip it.
WIDEST_M, PLAY_M = 0.058, 0.006
GRIP_REACH_M = 0.035
CARRY_M, UPPER_CARRY_M, UPPER_X_M = 0.38, 0.46, 0.56  # of the tool; and from the uppermost step
# From the arm's axis; of the tool above the deck on the way into the tote.
SWING_M, OVER_M = 0.40, 0.20
# From the item to the floor, and off the tote's middle, to let go.
SET_DOWN_M, ON_TOTE_M = 0.030, 0.050
IN_RACK_M = 0.24  # a tool further ahead than that may be between the steps
FUNNEL = SlowFunnel(off_m=0.006, room_m=0.005, hover_m=0.075, cross_m=0.0375, slowest=0.3)


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
    position = [x - MOUNT[0], y - MOUNT[1], thing.position[2] - MOUNT[2]]
    return replace(thing, position=position, quaternion=turned)


def _near_zero(yaw: float) -> float:
    """Return the yaw from which to seek the nearest grip: that of a hand across the rack, if it is not far off."""
    return 0.3 * yaw if abs(yaw) < 0.5 else 0.0


def _face(scene: Scene) -> float:
    rack = next(thing for thing in scene.things if thing.name == "rack")
    return rack.position[0] - 0.5 * RACK_M[0]


def _in_reach(part: Thing, base: Pose, scene: Scene) -> bool:
    x, y, _ = part.position
    corner = base.x + 0.35 * math.cos(base.yaw) + 0.25 * abs(math.sin(base.yaw))
    ahead = AHEAD_LOW_M < x < AHEAD_HIGH_M and abs(y) < ASIDE_M and abs(base.yaw) < ASKEW
    return ahead and ROOM_M < _face(scene) - corner < 0.14


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
    to_tote = abs(scene.yaw) > 1.0 or scene.tool[0] < 0.1  # still turned towards it
    if to_tote and not FUNNEL.in_place(scene, (x, y, z), yaw):
        return _tuck(scene)
    return FUNNEL.descend(scene, (x, y, z), yaw)


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
    if x > IN_RACK_M and z < high - 0.05:
        lifted = (scene.target[0], scene.target[1], high + 0.03)
        return scene.servo(lifted, scene.target_yaw, close=True)

    off = math.dist((x, y), TOTE)
    if off < 0.06:
        set_down = scene.part.height * 0.5 + TOTE_FLOOR_M + 0.5 * SET_DOWN_M
        height = set_down + z - scene.part.position[2]
        height += min(OVER_M, 5.0 * max(0.0, off - 0.012))
        return scene.servo((*TOTE, height), TOTE_ANGLE, close=True)

    near = abs(math.atan2(y, x) - TOTE_ANGLE) < 0.4
    radius = math.hypot(*TOTE) if near or x < 0.3 else SWING_M
    return _swing(scene, radius, TOTE_ANGLE, OVER_M + 0.05 if near else high, close=True)


def _leave(scene: Scene) -> Decision:
    """Let go; rise once the fingers are open."""
    x, y, z = scene.target
    rise = ramp(scene.opening - 0.055, 0.015) * 0.10 if z < 0.28 else 0.0
    return scene.servo((x, y, z + rise), scene.target_yaw, close=False)


CELL = CellRecord(
    "shopfloor/ShelfPick-v0",
    ShelfPick,
    version="1",
    decide=decide,
    rest=len(Base.state_names),
    chunk=1,
    does=("the named item off a rack into a tote on the robot's own deck; an arm on a mobile base"),
    done_when="it lies in the tote, alone, and the base stands still",
)
