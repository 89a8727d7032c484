"""The expert of TotePack: one decision per step, from what can be seen at that step alone.

The sizes of the order's boxes decide where each goes, see `pack`. The fingers close across the rows
and hold a box by its uppermost centimetre, so that nothing wider than the fingertips comes below
the rim.
"""

from __future__ import annotations

import math

from shopfloor.envs.cells.tote_pack import (
    FINGER_M,
    FLOOR_M,
    UNDER_TOP_M,
    WALL_M,
    Slot,
    TotePack,
    by_length,
    pack,
)
from shopfloor.envs.experts.moves.hand import between, open_and_rise, ramp, shifted
from shopfloor.envs.experts.scene import Decision, Scene, Thing, wrap
from shopfloor.envs.record import CellRecord

AWAY_M = 0.008  # off its slot, an item in the tote is in others' way
PLAY_M = 0.002  # between items in a row
IN_PLACE_M = 0.0025  # off the grip to close
HOVER_M = 0.06  # above the grip on the way to it
OVER_M = 0.085  # height of the tool above everything that stands about
# Lower end of a held item above the rim until it is in line, and how much more on the way.
ABOVE_RIM_M, RISE_M = 0.008, 0.03
IN_LINE_M, STRAY_M = 0.0012, 0.006  # off the slot's middle: to start down, and on the way down
# Turn off the tote's yaw, rad, to start down, and the length that makes a turn a distance.
IN_TURN, TURN_ARM_M = 0.025, 0.04
LET_GO_M, SEATED_M = 0.0025, 0.004  # above the floor
UPRIGHT_COSINE = math.cos(math.radians(4.0))
SLOW = 0.35  # speed into the tote, in full scales
WIDE_M = 0.078  # between the fingers, once they are open
RETREAT_M = 0.17


def decide(scene: Scene) -> tuple[Decision, float]:
    """Return the action and the handled item's width between the fingers, m."""
    tote = scene.goal()
    order = _order_of(scene)
    slots = pack(order, tote)
    held = next((item for item in order if _holds(scene, item)), None)

    if held is not None:
        slot = _free_slot(held, order, tote, slots)
        if not _may_let_go(held, tote, slot):
            scene.part = held
            return _carry(scene, tote, slot), held.size[1]

    inside = scene.tool[2] < tote.size[2] + 0.012 and _over(scene.tool, tote)
    item = _next(scene, order, tote, slots)
    near = min(order, key=lambda thing: math.dist(thing.position, scene.tool))
    if inside and (item is None or math.dist(item.position[:2], scene.tool[:2]) > 0.012):
        scene.part = near
        return _rise(scene, near), near.size[1]

    if item is None:
        scene.part = near
        x, y, _ = scene.tool
        return scene.servo((x, y, RETREAT_M), scene.target_yaw, close=False), near.size[1]

    scene.part = item
    return _approach(scene, item), item.size[1]


def _order_of(scene: Scene) -> list[Thing]:
    """Return the items of the order, longest first: those of the named one's colour."""
    colour = scene.part.name.split()[0]
    parts = [thing for thing in scene.things if not thing.is_goal]
    return sorted((part for part in parts if part.name.split()[0] == colour), key=by_length)


def _free_slot(item: Thing, order: list[Thing], tote: Thing, slots: dict[str, Slot]) -> Slot:
    """Return an item's place, moved along its row where what stands there leaves no room."""
    along, across = slots[item.name]
    low, high = -0.5 * tote.size[0] + WALL_M, 0.5 * tote.size[0] - WALL_M
    for other in order:
        beside = abs(slots[other.name][1] - across) > 0.5 * item.size[1]
        if other is item or beside or not _seated(other, tote):
            continue

        at, _ = tote.local(other.position)
        if slots[other.name][0] < along:
            low = max(low, at + 0.5 * other.size[0])
        else:
            high = min(high, at - 0.5 * other.size[0])

    middle, play = 0.5 * (low + high), max(0.0, 0.5 * (high - low - item.size[0]) - PLAY_M)
    return min(max(along, middle - play), middle + play), across


def _over(position: list[float], tote: Thing) -> bool:
    along, across = tote.local(position)
    return abs(along) < 0.5 * tote.size[0] and abs(across) < 0.5 * tote.size[1]


def _holds(scene: Scene, item: Thing) -> bool:
    narrow = scene.closing and scene.opening < item.size[1] + 0.006
    return narrow and math.dist(scene.tool, _grip(item)) < 0.020


def _grip(item: Thing) -> tuple[float, float, float]:
    """Return where the tool holds an item, m."""
    axis = item.axis(2)
    up = math.copysign(max(0.0, 0.5 * item.size[2] - UNDER_TOP_M), axis[2])
    x, y, z = item.position
    return x + up * axis[0], y + up * axis[1], z + up * axis[2]


def _above_floor(item: Thing, tote: Thing) -> float:
    return item.position[2] - 0.5 * item.height - tote.position[2] - FLOOR_M


def _may_let_go(item: Thing, tote: Thing, slot: Slot) -> bool:
    low = _above_floor(item, tote) < LET_GO_M
    return low and math.dist(tote.local(item.position), slot) < STRAY_M


def _seated(item: Thing, tote: Thing) -> bool:
    """Return whether an item stands on the tote's floor."""
    upright = abs(item.axis(2)[2]) > UPRIGHT_COSINE
    return upright and abs(_above_floor(item, tote)) < SEATED_M and _over(item.position, tote)


def _next(scene: Scene, order: list[Thing], tote: Thing, slots: dict[str, Slot]) -> Thing | None:
    """Return the item to take: one that stands in another's way, else the first that is not in the tote yet."""
    missing = [item for item in order if not _seated(item, tote)]
    if not missing:
        return None

    for item in order:
        if item not in missing:
            along, across = tote.local(item.position)
            slot = slots[item.name]
            astray = max(abs(along - slot[0]), abs(across - slot[1])) > AWAY_M
            room = 0.5 * (tote.size[1] - item.size[1]) - WALL_M - abs(across)
            if astray and room > FINGER_M:
                return item

    return missing[0]


def _rise(scene: Scene, item: Thing) -> Decision:
    """Open; rise once the fingers are clear of the item."""
    clear = ramp(min(scene.opening, WIDE_M) - item.size[1] - 0.002, 0.004)
    return open_and_rise(scene, clear, RETREAT_M)


def _carry(scene: Scene, tote: Thing, slot: Slot) -> Decision:
    """Lift, cross over above everything while turning, come down into the slot once in line with it."""
    item = scene.part
    x, y = tote.at(*slot)
    off = (x - item.position[0], y - item.position[1])
    held_turn = wrap(item.yaw - scene.yaw, math.pi)
    turn = wrap(tote.yaw, math.pi) - held_turn - scene.yaw

    distance = math.hypot(*off)
    low = item.position[2] - 0.5 * item.height
    hangs = scene.tool[2] - low
    rim = tote.position[2] + tote.size[2]
    astray = distance + TURN_ARM_M * abs(turn)
    entered = low < rim and distance < STRAY_M

    if entered or (distance < IN_LINE_M and abs(turn) < IN_TURN):
        height, speed, free = tote.position[2] + FLOOR_M + 0.5 * LET_GO_M + hangs, SLOW, 1.0
    else:
        height = rim + hangs + ABOVE_RIM_M + min(RISE_M, 1.5 * max(0.0, astray - 2.0 * IN_LINE_M))
        speed, free = min(1.0, SLOW + 15.0 * astray), ramp(low - rim, 0.006)

    place = (*shifted(scene, off, free), height)
    return scene.servo(place, scene.yaw + free * turn, close=True, speed=speed)


def _approach(scene: Scene, item: Thing) -> Decision:
    """Come down onto an item from above, turning; close when in place."""
    x, y, grip_z = _grip(item)
    yaw = wrap(item.yaw, math.pi)
    distance = math.hypot(scene.tool[0] - x, scene.tool[1] - y)
    turn = abs(yaw - scene.yaw)
    lag = math.dist(scene.tool, scene.target)
    if max(distance, abs(scene.tool[2] - grip_z), lag) < IN_PLACE_M and turn < 0.04:
        return scene.servo((x, y, grip_z), yaw, close=True)

    astray = distance + 0.04 * turn + 0.5 * max(0.0, WIDE_M - scene.opening)
    steep = 6.0 if distance < 0.02 else 60.0
    height = grip_z + min(HOVER_M, steep * max(0.0, astray - 0.002))
    free = 1.0 if distance < 0.010 else ramp(scene.tool[2] - OVER_M, 0.02)
    x, y = between(scene.tool, (x, y), free)
    speed = min(1.0, 0.2 + 15.0 * abs(scene.tool[2] - grip_z) + 15.0 * distance)

    return scene.servo((x, y, height), yaw, close=False, speed=speed)


CELL = CellRecord(
    "shopfloor/TotePack-v0",
    TotePack,
    version="1",
    decide=decide,
    does="the order that the instruction names into a tote, so that its lid can close",
    done_when="all its boxes lie below the rim, and nothing else does",
)
