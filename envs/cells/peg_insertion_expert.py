"""The expert of PegInsertion: one decision per step, from what can be seen at that step alone.

It grips the peg above its middle, so that the fingers stay above the block. A gripped peg comes to
lean a few degrees about the line between the fingers: the expert lines up its lower end with the
hole and, the deeper that is in the hole, the more it steers the gripped end over the hole instead,
which stands the peg up again. A peg let go leaning may wedge.
"""

from __future__ import annotations

import math

from shopfloor.envs.cells.peg_insertion import (
    FLOOR_M,
    GRIP_ABOVE_M,
    SAME_TURN,
    PegInsertion,
    lower_end,
)
from shopfloor.envs.experts.moves.hand import Funnel, between, let_go, ramp, shifted
from shopfloor.envs.experts.scene import Decision, Scene, Vector, wrap
from shopfloor.envs.record import CellRecord

OVER_PEGS_M = 0.015  # tool above the tops of standing pegs before it moves sideways
UNDER_TOP_M = 0.012  # the tool may move this far sideways around a peg
# Lower end of the peg where it starts to cross over, and on the way: the other pegs are 80 mm high.
# Until it is that high it goes sideways no faster than up, and the nearest peg is further off than
# it has to rise.
START_M, CROSS_M = 0.010, 0.090
STEP_M = 0.025
BESIDE_M = 0.12  # this close to the hole it rises above the block before it goes sideways
NEAR_BLOCK_M = 0.08  # from here on no other peg is in the way
ABOVE_RIM_M = 0.006  # between the peg and the rim until they are in line
RISE_M = 0.03  # more than that on the way
IN_LINE_M, THREADED_M = 0.0008, 0.0025  # off the hole's middle: to start down, and on the way down
IN_TURN = 0.03  # off the hole's yaw to start down, rad
TURN_ARM_M = 0.02  # length that makes a turn a distance
LET_GO_M, LET_GO_LEAN = 0.004, math.radians(2.0)  # above the floor; off the vertical
# The hand slides down a peg that a wide hole lets lean: that peg is let go.
SLID_M, SLID_LEAN = 0.003, math.radians(6.0)
RETREAT_M = 0.20
SLOW = 0.3  # speed into the hole, in full scales
FUNNEL = Funnel(
    off_m=0.006,
    off_height_m=0.010,
    off_turn=0.1,
    room_m=0.006,
    hover_m=0.08,
    turn_m=0.03,
    open_m=0.075,
)


def decide(scene: Scene) -> tuple[Decision, float]:
    """Return the action and the peg's width between the fingers, m."""
    peg, hole, width = scene.part, scene.goal().position, scene.part.size[0]
    tip = lower_end(peg.position, peg.quaternion, peg.size[2])
    off = (hole[0] - tip[0], hole[1] - tip[1])
    held = scene.grips(width, reach=0.035)
    lean = math.acos(min(1.0, abs(peg.axis(2)[2])))

    # A jammed peg slips up between the fingers: letting go lets it drop.
    slip = max(0.0, GRIP_ABOVE_M - (scene.tool[2] - peg.position[2])) if held else 0.0
    low = tip[2] - FLOOR_M < LET_GO_M + slip and math.hypot(*off) < THREADED_M
    if low and lean < (SLID_LEAN if slip > SLID_M else LET_GO_LEAN):
        return let_go(scene, RETREAT_M), width
    if held:
        return _carry(scene, tip, off), width
    return _approach(scene), width


def _carry(scene: Scene, tip: Vector, off: tuple[float, float]) -> Decision:
    """Lift and cross over, above the other pegs and turning; come down into the hole once in line with it."""
    hangs = scene.tool[2] - tip[2]  # the tool above the peg's lower end
    held_turn = wrap(scene.part.yaw - scene.yaw, SAME_TURN)
    turn = wrap(scene.goal().yaw - held_turn, SAME_TURN) - scene.yaw
    distance = math.hypot(*off)
    rim = scene.goal().size[2]
    threaded = tip[2] < rim and distance < THREADED_M
    speed, ahead = 1.0, 1.0

    if threaded or (distance < IN_LINE_M and abs(turn) < IN_TURN):
        height, speed = FLOOR_M + 0.5 * LET_GO_M + hangs, SLOW
    else:
        astray = distance + TURN_ARM_M * abs(turn)
        height = rim + hangs + ABOVE_RIM_M + min(RISE_M, 1.5 * max(0.0, astray - 2.0 * IN_LINE_M))

    if distance > NEAR_BLOCK_M:
        height = max(height, CROSS_M + hangs)
        ahead = 1.0 if tip[2] > CROSS_M - 0.01 else STEP_M / distance

    low = rim if distance < BESIDE_M else START_M
    free = 1.0 if threaded else ahead * ramp(tip[2] - low, 0.01)
    x, y = shifted(scene, _steer(scene, tip, off) if threaded else off, free)
    return scene.servo((x, y, height), scene.yaw + turn, close=True, speed=speed)


def _steer(scene: Scene, tip: Vector, off: tuple[float, float]) -> tuple[float, float]:
    """Return the way to go sideways in the hole: the deeper, the more for the gripped end instead of the lower one."""
    hole, axis = scene.goal(), scene.part.axis(2)
    share = min(1.0, (hole.size[2] - tip[2]) / (hole.size[2] - FLOOR_M))
    up = share * (scene.tool[2] - tip[2]) * axis[2]
    return off[0] - up * axis[0], off[1] - up * axis[1]


def _approach(scene: Scene) -> Decision:
    """Rise above the pegs, come down a funnel onto the named one, turning; close when in place."""
    x, y, z = scene.part.position
    grip_z = z + GRIP_ABOVE_M
    turn = wrap(scene.part.yaw - scene.yaw, SAME_TURN)
    yaw = scene.yaw + turn
    away = math.hypot(scene.tool[0] - x, scene.tool[1] - y)
    if FUNNEL.in_place(scene, grip_z, away, abs(turn)):
        return scene.servo((x, y, grip_z), yaw, close=True)

    height, free = grip_z + FUNNEL.above_m(scene, away, abs(turn)), 1.0
    if away > UNDER_TOP_M:
        height = grip_z + FUNNEL.hover_m
        free = ramp(scene.tool[2] - (scene.part.size[2] + OVER_PEGS_M), 0.02)

    x, y = between(scene.tool, (x, y), free)
    return scene.servo((x, y, height), yaw, close=False)


CELL = CellRecord(
    "shopfloor/PegInsertion-v0",
    PegInsertion,
    version="2",
    decide=decide,
    does="the named peg into a square hole, with 1 mm of room on each side (0.5 mm when hard)",
    done_when="it stands upright in the hole, four fifths of its depth or more, alone",
)
