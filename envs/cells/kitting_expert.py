"""The expert of Kitting: one decision per step, from what can be seen at that step alone.

It grips above the part's centre, so that the fingers stay above the fixture. Turns never go the
short way round: every yaw is taken within +-90 degrees, which keeps the last joint within its
limits and the turn a plain difference.
"""

from __future__ import annotations

import math

from shopfloor.envs.experts.scene import Decision, Scene, Thing, wrap

VERSION = "2"

FLOOR_M = 0.006  # of the slot, above the table
GRIP_ABOVE_M = 0.014  # the part's centre
HOVER_M = 0.08  # above the grip on the way to it
CARRY_M = 0.13  # height of the tool on the way to the slot
CLEAR_M = 0.08  # crossing over starts here; the other part is up to 60 mm high
RETREAT_M = 0.17
LET_GO_M = 0.006  # above the slot's floor
ALIGNED_M = 0.0045
FUNNEL, ON_LINE_M = (
    8.0,
    0.0035,
)  # height above the seat per metre off the slot, and what counts as on it
SLOW = 0.3  # speed into the slot, in full scales
SLOT_OF = {
    "orange gearbox": "slot",
    "purple motor": "slot",
    "green valve": "square slot",
    "blue relay": "narrow slot",
    "red relay": "narrow slot",
}


def decide(scene: Scene) -> tuple[Decision, float]:
    """Return the action and the part's width between the fingers, m."""
    part, slot, width = scene.part.position, _slot(scene).position, scene.part.size[1]
    to_slot = (slot[0] - part[0], slot[1] - part[1])
    above_floor = part[2] - FLOOR_M - 0.5 * scene.part.size[2]
    held = scene.grips(width, reach=0.03)

    # A jammed part slips up between the fingers: letting go lets it drop.
    slip = max(0.0, GRIP_ABOVE_M - (scene.tool[2] - part[2])) if held else 0.0
    if above_floor < LET_GO_M + slip and math.hypot(*to_slot) < ALIGNED_M:
        return _let_go(scene), width
    if held:
        return _carry(scene, to_slot), width

    return _approach(scene), width


def _slot(scene: Scene) -> Thing:
    return scene.goal(SLOT_OF[scene.part.name])


def _let_go(scene: Scene) -> Decision:
    """Open; rise once the fingers are clear of the part."""
    x, y, z = scene.target
    clear = min(1.0, max(0.0, (scene.opening - 0.05) / 0.02))
    return scene.servo((x, y, z + clear * (RETREAT_M - z)), scene.target_yaw, close=False)


def _carry(scene: Scene, to_slot: tuple[float, float]) -> Decision:
    """Lift, cross over when high enough while turning, come down once aligned."""
    held_turn = wrap(scene.part.yaw - scene.yaw, math.pi)
    turn = wrap(_slot(scene).yaw, math.pi) - held_turn - scene.yaw
    distance = math.hypot(*to_slot)
    seat = scene.tool[2] - scene.part.position[2] + FLOOR_M + 0.5 * scene.part.size[2] + 0.002
    astray = distance + 0.03 * abs(turn)
    height = seat + min(CARRY_M - seat, FUNNEL * max(0.0, astray - ON_LINE_M))
    free = min(1.0, max(0.0, (scene.tool[2] - CLEAR_M) / 0.03)) if distance > 0.03 else 1.0
    x, y = (scene.tool[axis] + to_slot[axis] for axis in range(2))

    x, y = (
        target + free * (goal - target)
        for target, goal in zip(scene.target[:2], (x, y), strict=True)
    )

    speed = min(1.0, SLOW + 15.0 * astray)
    return scene.servo((x, y, height), scene.yaw + turn, close=True, speed=speed)


def _approach(scene: Scene) -> Decision:
    """Come down a funnel onto the part, turning; close when in place."""
    x, y, z = scene.part.position
    grip_z = z + GRIP_ABOVE_M
    yaw = wrap(scene.part.yaw, math.pi)
    distance = math.hypot(scene.tool[0] - x, scene.tool[1] - y)
    turn = abs(yaw - scene.yaw)
    if distance < 0.010 and abs(scene.tool[2] - grip_z) < 0.012 and turn < 0.12:
        return scene.servo((x, y, grip_z), yaw, close=True)

    astray = distance + 0.05 * turn + 0.5 * max(0.0, 0.07 - scene.opening)
    height = grip_z + min(HOVER_M, 3.0 * max(0.0, astray - 0.008))
    return scene.servo((x, y, height), yaw, close=False)
