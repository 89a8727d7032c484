"""The expert of Kitting: one decision per step, from what can be seen at that step alone.

It grips above the part's centre, so that the fingers stay above the fixture. Turns never go the
short way round: every yaw is taken within +-90 degrees, which keeps the last joint within its
limits and the turn a plain difference.
"""

from __future__ import annotations

import math

from shopfloor.envs.cells.kitting import FLOOR_M, GRIP_ABOVE_M, SLOT_OF, Kitting
from shopfloor.envs.experts.moves.hand import Funnel, open_and_rise, ramp, shifted
from shopfloor.envs.experts.scene import Decision, Scene, Thing, wrap
from shopfloor.envs.record import CellRecord

CARRY_M = 0.13  # height of the tool on the way to the slot
CLEAR_M = 0.08  # crossing over starts here; the other part is up to 60 mm high
RETREAT_M = 0.17
LET_GO_M = 0.006  # above the slot's floor
ALIGNED_M = 0.0045
# Height above the seat per metre off the slot, and what counts as on it.
STEEPNESS, ON_LINE_M = 8.0, 0.0035
SLOW = 0.3  # speed into the slot, in full scales
FUNNEL = Funnel(off_m=0.010, off_height_m=0.012, off_turn=0.12, room_m=0.008, hover_m=0.08)


def decide(scene: Scene) -> tuple[Decision, float]:
    """Return the action and the part's width between the fingers, m."""
    part, width = scene.part.position, scene.part.size[1]
    slot = scene.goal(SLOT_OF[scene.part.name])
    to_slot = (slot.position[0] - part[0], slot.position[1] - part[1])
    above_floor = part[2] - FLOOR_M - 0.5 * scene.part.size[2]
    held = scene.grips(width, reach=0.03)

    # A jammed part slips up between the fingers: letting go lets it drop.
    slip = max(0.0, GRIP_ABOVE_M - (scene.tool[2] - part[2])) if held else 0.0
    if above_floor < LET_GO_M + slip and math.hypot(*to_slot) < ALIGNED_M:
        return open_and_rise(scene, ramp(scene.opening - 0.05, 0.02), RETREAT_M), width
    if held:
        return _carry(scene, slot, to_slot), width

    yaw = wrap(scene.part.yaw, math.pi)
    grip = (part[0], part[1], part[2] + GRIP_ABOVE_M)
    return FUNNEL.descend(scene, grip, yaw, abs(yaw - scene.yaw)), width


def _carry(scene: Scene, slot: Thing, to_slot: tuple[float, float]) -> Decision:
    """Lift, cross over when high enough while turning, come down once aligned."""
    held_turn = wrap(scene.part.yaw - scene.yaw, math.pi)
    turn = wrap(slot.yaw, math.pi) - held_turn - scene.yaw
    distance = math.hypot(*to_slot)
    astray = distance + 0.03 * abs(turn)

    seat = scene.tool[2] - scene.part.position[2] + FLOOR_M + 0.5 * scene.part.size[2] + 0.002
    height = seat + min(CARRY_M - seat, STEEPNESS * max(0.0, astray - ON_LINE_M))
    free = ramp(scene.tool[2] - CLEAR_M, 0.03) if distance > 0.03 else 1.0
    x, y = shifted(scene, to_slot, free)
    speed = min(1.0, SLOW + 15.0 * astray)
    return scene.servo((x, y, height), scene.yaw + turn, close=True, speed=speed)


CELL = CellRecord(
    "shopfloor/Kitting-v0",
    Kitting,
    version="2",
    decide=decide,
    noise=0.12,
    does="the named part into a slot with 5 mm of room, both turned at random",
    done_when="it is seated within 5 mm and 8 degrees",
)
