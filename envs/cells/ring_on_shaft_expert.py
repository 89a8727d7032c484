"""The expert of RingOnShaft: one decision per step, from what can be seen at that step alone.

It grips the ring across two opposite sides, those that ask for the smallest turn, and a little
above its middle, where the thick part of the fingers passes over the rings beside it.
"""

from __future__ import annotations

import math

from shopfloor.envs.cells.ring_on_shaft import GRIP_ABOVE_M, SAME_TURN, RingOnShaft
from shopfloor.envs.experts.moves.hand import Funnel, open_and_rise, ramp, shifted
from shopfloor.envs.experts.scene import Decision, Scene, wrap
from shopfloor.envs.record import CellRecord

CROSS_M = 0.055  # crossing over starts here; the other rings are low
ABOVE_TOP_M = 0.012  # between the ring and the shaft's top until they are in line
RISE_M = 0.03  # more than that on the way
IN_LINE_M, THREADED_M = 0.002, 0.006  # off the shaft's axis: to start down, and on the way down
LET_GO_M = 0.004  # above the base
RETREAT_M = 0.17
SLOW = 0.35  # speed down the shaft, in full scales
FUNNEL = Funnel(
    off_m=0.006,
    off_height_m=0.010,
    off_turn=0.1,
    room_m=0.006,
    hover_m=0.07,
    turn_m=0.03,
    open_m=0.075,
)


def decide(scene: Scene) -> tuple[Decision, float]:
    """Return the action and the ring's width between the fingers, m."""
    ring, shaft, width = scene.part.position, scene.goal().position, scene.part.size[0]
    to_shaft = (shaft[0] - ring[0], shaft[1] - ring[1])
    distance = math.hypot(*to_shaft)
    above_base = ring[2] - shaft[2] - 0.5 * (scene.part.size[2] - scene.goal().size[2])

    if above_base < LET_GO_M and distance < THREADED_M:
        clear = ramp(scene.opening - width - 0.006, 0.01)
        return open_and_rise(scene, clear, RETREAT_M), width
    if scene.grips(width):
        return _carry(scene, to_shaft), width

    grip = (ring[0], ring[1], ring[2] + GRIP_ABOVE_M)
    turn = wrap(scene.part.yaw - scene.yaw, SAME_TURN)
    return FUNNEL.descend(scene, grip, scene.yaw + turn, abs(turn)), width


def _carry(scene: Scene, to_shaft: tuple[float, float]) -> Decision:
    """Lift, cross over when high enough, come down over the shaft once in line with it."""
    shaft, ring = scene.goal(), scene.part
    distance = math.hypot(*to_shaft)
    # The tool above the ring's lower face.
    hangs = scene.tool[2] - ring.position[2] + 0.5 * ring.size[2]
    top = shaft.position[2] + 0.5 * shaft.size[2]
    threaded = scene.tool[2] - hangs < top and distance < THREADED_M
    speed = 1.0

    if distance < IN_LINE_M or threaded:
        height, speed = top - shaft.size[2] + hangs + 0.5 * LET_GO_M, SLOW
    else:
        height = top + hangs + ABOVE_TOP_M + min(RISE_M, 1.5 * max(0.0, distance - 2.0 * IN_LINE_M))

    high = CROSS_M if distance > 0.09 else top + hangs
    free = 1.0 if threaded else ramp(scene.tool[2] - high, 0.02)
    x, y = shifted(scene, to_shaft, free)
    return scene.servo((x, y, height), scene.target_yaw, close=True, speed=speed)


CELL = CellRecord(
    "shopfloor/RingOnShaft-v0",
    RingOnShaft,
    version="1",
    decide=decide,
    does="the named ring onto an upright shaft, with 3.5 mm of room in its hole",
    done_when="it lies flat around the shaft, alone",
)
