"""The expert of PickToTray: one decision per step, from what can be seen at that step alone."""

from __future__ import annotations

import math

from shopfloor.envs.cells.pick_to_tray import PickToTray
from shopfloor.envs.experts.moves.hand import LOWEST_M, Funnel, open_and_rise, ramp
from shopfloor.envs.experts.scene import Decision, Scene, grasp_yaw
from shopfloor.envs.record import CellRecord

CARRY_M = 0.115  # height of the tool on the way to the tray
RELEASE_M = 0.042
RETREAT_M = 0.16
INSIDE_M = 0.060  # from the tray's middle
CENTRED_M = 0.025
FUNNEL = Funnel(off_m=0.012, off_height_m=0.015, off_turn=0.15, room_m=0.010, hover_m=0.09)


def decide(scene: Scene) -> tuple[Decision, float]:
    """Return the action and the part's width between the fingers, m."""
    part, tray = scene.part.position, scene.goal().position
    yaw, width = grasp_yaw(scene.part, scene.yaw)
    to_tray = (tray[0] - part[0], tray[1] - part[1])
    off_centre = max(abs(to_tray[0]), abs(to_tray[1]))
    held = scene.grips(width)

    if part[2] < 0.055 and off_centre < (CENTRED_M if held else INSIDE_M):
        return _let_go(scene), width
    if held:
        return _carry(scene, to_tray), width

    grip = (part[0], part[1], max(part[2], LOWEST_M))
    return FUNNEL.descend(scene, grip, yaw, abs(yaw - scene.yaw)), width


def _let_go(scene: Scene) -> Decision:
    """Open; rise once the fingers are clear of the part."""
    if math.dist(scene.tool[:2], scene.part.position[:2]) > 0.10:
        x, y, _ = scene.target
        return scene.servo((x, y, RETREAT_M), scene.target_yaw, close=False)
    return open_and_rise(scene, ramp(scene.opening - 0.05, 0.02), RETREAT_M)


def _carry(scene: Scene, to_tray: tuple[float, float]) -> Decision:
    """Lift, cross over when high enough, come down over the tray's middle."""
    distance = math.hypot(*to_tray)
    height = RELEASE_M + min(CARRY_M - RELEASE_M, 3.0 * max(0.0, distance - 0.012))
    lead = [scene.target[axis] - scene.tool[axis] for axis in range(2)]
    free = ramp(scene.tool[2] - 0.05, 0.03) if distance > CENTRED_M else 1.0
    x = scene.target[0] + free * (to_tray[0] - lead[0])
    y = scene.target[1] + free * (to_tray[1] - lead[1])
    return scene.servo((x, y, height), scene.target_yaw, close=True)


CELL = CellRecord(
    "shopfloor/PickToTray-v0",
    PickToTray,
    version="1",
    decide=decide,
    does=(
        "the part that the instruction names, by colour and shape, into a tray that moves "
        "from episode to episode"
    ),
    done_when="it rests in the tray, alone",
)
