"""The expert of PickToTray: one decision per step, from what can be seen at that step alone."""

from __future__ import annotations

import math

from shopfloor.envs.experts.scene import Decision, Scene, grasp_yaw

VERSION = "1"

HOVER_M = 0.09  # above the part on the way to it
CARRY_M = 0.115  # height of the tool on the way to the tray
RELEASE_M = 0.042
RETREAT_M = 0.16
INSIDE_M = 0.060  # from the tray's middle
CENTRED_M = 0.025


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

    return _approach(scene, yaw), width


def _let_go(scene: Scene) -> Decision:
    """Open; rise once the fingers are clear of the part."""
    x, y, z = scene.target
    clear = min(1.0, max(0.0, (scene.opening - 0.05) / 0.02))
    beside = (
        math.hypot(scene.tool[0] - scene.part.position[0], scene.tool[1] - scene.part.position[1])
        > 0.10
    )

    top = RETREAT_M if beside or clear > 0.0 else z
    return scene.servo(
        (x, y, top if beside else z + clear * (RETREAT_M - z)), scene.target_yaw, close=False
    )


def _carry(scene: Scene, to_tray: tuple[float, float]) -> Decision:
    """Lift, cross over when high enough, come down over the tray's middle."""
    distance = math.hypot(*to_tray)
    height = RELEASE_M + min(CARRY_M - RELEASE_M, 3.0 * max(0.0, distance - 0.012))
    lead = [scene.target[axis] - scene.tool[axis] for axis in range(2)]
    free = min(1.0, max(0.0, (scene.tool[2] - 0.05) / 0.03)) if distance > CENTRED_M else 1.0
    x = scene.target[0] + free * (to_tray[0] - lead[0])
    y = scene.target[1] + free * (to_tray[1] - lead[1])
    return scene.servo((x, y, height), scene.target_yaw, close=True)


def _approach(scene: Scene, yaw: float) -> Decision:
    """Come down a funnel onto the part, turning; close when in place."""
    x, y, z = scene.part.position
    grip_z = max(z, 0.016)
    distance = math.hypot(scene.tool[0] - x, scene.tool[1] - y)
    turn = abs(yaw - scene.yaw)
    if distance < 0.012 and abs(scene.tool[2] - grip_z) < 0.015 and turn < 0.15:
        return scene.servo((x, y, grip_z), yaw, close=True)
    astray = distance + 0.05 * turn + 0.5 * max(0.0, 0.07 - scene.opening)
    height = grip_z + min(HOVER_M, 3.0 * max(0.0, astray - 0.010))
    return scene.servo((x, y, height), yaw, close=False)
