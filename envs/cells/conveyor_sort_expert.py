"""The expert of ConveyorSort: one decision per step, from poses alone; the belt's speed is not known to it.

It aims a fixed way ahead of the part, the same at any speed, and closes the fingers across the
belt, so that an error along the belt is forgiven.
"""

from __future__ import annotations

import math

from shopfloor.envs.cells.conveyor_sort import BIN_OF, ConveyorSort
from shopfloor.envs.experts.moves.hand import LOWEST_M, Funnel, open_and_rise, ramp
from shopfloor.envs.experts.scene import Decision, Scene, grasp_yaw
from shopfloor.envs.record import CellRecord

STEP_M = 0.003  # way of the belt in one control step at its mean speed, 0.06 m/s
LEAD_M = 0.005  # 0.08 s of it: how far the tool lags behind what it saw
OFF_ALONG_M = 0.015  # the hand closes when it is off the part by less than that along the belt
CARRY_M = 0.115  # height of the tool on the way to the bin
RELEASE_M = 0.066
RETREAT_M = 0.16
INSIDE_M = 0.055  # from the bin's middle
CENTRED_M = 0.025
FUNNEL = Funnel(off_m=0.012, off_height_m=0.015, off_turn=0.15, room_m=0.014, hover_m=0.07)


def decide(scene: Scene) -> tuple[Decision, float]:
    """Return the action and the part's width between the fingers, m."""
    part, goal = scene.part.position, scene.goal(BIN_OF[scene.part.name]).position
    yaw, width = grasp_yaw(scene.part, scene.yaw, max_width=0.045)
    to_bin = (goal[0] - part[0], goal[1] - part[1])
    off_centre = max(abs(to_bin[0]), abs(to_bin[1]))
    held = scene.grips(width)

    if part[2] < RELEASE_M + 0.012 and off_centre < (CENTRED_M if held else INSIDE_M):
        return open_and_rise(scene, ramp(scene.opening - 0.05, 0.02), RETREAT_M), width
    if held:
        return _carry(scene, to_bin), width

    action = _approach(scene, yaw)
    part[0] -= STEP_M  # the plan's next look finds the part further down the belt
    return action, width


def _carry(scene: Scene, to_bin: tuple[float, float]) -> Decision:
    """Lift, cross over when high enough, come down over the bin's middle."""
    distance = math.hypot(*to_bin)
    height = RELEASE_M + min(CARRY_M - RELEASE_M, 3.0 * max(0.0, distance - 0.012))
    lead = [scene.target[axis] - scene.tool[axis] for axis in range(2)]
    free = ramp(scene.tool[2] - 0.065, 0.03) if distance > 0.05 else 1.0
    x = scene.target[0] + free * (to_bin[0] - lead[0])
    y = scene.target[1] + free * (to_bin[1] - lead[1])
    return scene.servo((x, y, height), scene.target_yaw, close=True)


def _approach(scene: Scene, yaw: float) -> Decision:
    """Come down a funnel onto the moving part, turning; close when in place."""
    x, y, z = scene.part.position
    grip_z = max(z, LOWEST_M)
    along, across = scene.tool[0] - x, scene.tool[1] - y
    turn = abs(yaw - scene.yaw)
    x -= LEAD_M

    if abs(along) < OFF_ALONG_M and FUNNEL.in_place(scene, grip_z, abs(across), turn):
        return scene.servo((x, y, grip_z), yaw, close=True)

    height = grip_z + FUNNEL.above_m(scene, math.hypot(along, across), turn)
    return scene.servo((x, y, height), yaw, close=False)


CELL = CellRecord(
    "shopfloor/ConveyorSort-v0",
    ConveyorSort,
    version="2",
    decide=decide,
    does=(
        "the named class of part, off a belt that moves at 0.03 to 0.09 m/s (0.3 when hard), "
        "into its bin"
    ),
    done_when="it rests in the bin",
)
