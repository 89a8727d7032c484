"""The expert of RingOnShaft: one decision per step, from what can be seen at that step alone.

It grips the ring across two opposite sides, those that ask for the smallest turn, and a little
above its middle, where the thick part of the fingers passes over the rings beside it.
"""

from __future__ import annotations

import math

from shopfloor.envs.experts.scene import Decision, Scene, wrap

VERSION = "1"

SIDES = 12  # of a ring
SAME_TURN = 2.0 * math.pi / SIDES
GRIP_ABOVE_M = 0.004  # the ring's middle
HOVER_M = 0.07  # above the grip on the way to it
CROSS_M = 0.055  # crossing over starts here; the other rings are low
ABOVE_TOP_M = 0.012  # between the ring and the shaft's top until they are in line
RISE_M = 0.03  # more than that on the way
IN_LINE_M, THREADED_M = 0.002, 0.006  # off the shaft's axis: to start down, and on the way down
LET_GO_M = 0.004  # above the base
RETREAT_M = 0.17
SLOW = 0.35  # speed down the shaft, in full scales


def decide(scene: Scene) -> tuple[Decision, float]:
    """Return the action and the ring's width between the fingers, m."""
    ring, shaft, width = scene.part.position, scene.goal().position, scene.part.size[0]
    to_shaft = (shaft[0] - ring[0], shaft[1] - ring[1])
    distance = math.hypot(*to_shaft)
    above_base = ring[2] - shaft[2] - 0.5 * (scene.part.size[2] - scene.goal().size[2])
    held = scene.grips(width)
    if above_base < LET_GO_M and distance < THREADED_M:
        return _let_go(scene), width
    if held:
        return _carry(scene, to_shaft), width

    return _approach(scene), width


def _let_go(scene: Scene) -> Decision:
    """Open; rise once the fingers are clear of the ring."""
    x, y, z = scene.target
    clear = min(1.0, max(0.0, (scene.opening - scene.part.size[0] - 0.006) / 0.01))
    return scene.servo((x, y, z + clear * (RETREAT_M - z)), scene.target_yaw, close=False)


def _carry(scene: Scene, to_shaft: tuple[float, float]) -> Decision:
    """Lift, cross over when high enough, come down over the shaft once in line with it."""
    shaft, ring = scene.goal(), scene.part
    distance = math.hypot(*to_shaft)
    hangs = (
        scene.tool[2] - ring.position[2] + 0.5 * ring.size[2]
    )  # the tool above the ring's lower face
    top = shaft.position[2] + 0.5 * shaft.size[2]
    threaded = scene.tool[2] - hangs < top and distance < THREADED_M
    speed = 1.0

    if distance < IN_LINE_M or threaded:
        height, speed = top - shaft.size[2] + hangs + 0.5 * LET_GO_M, SLOW
    else:
        height = top + hangs + ABOVE_TOP_M + min(RISE_M, 1.5 * max(0.0, distance - 2.0 * IN_LINE_M))

    high = CROSS_M if distance > 0.09 else top + hangs
    free = 1.0 if threaded else min(1.0, max(0.0, (scene.tool[2] - high) / 0.02))
    x, y = (scene.tool[axis] + to_shaft[axis] for axis in range(2))

    x, y = (
        target + free * (goal - target)
        for target, goal in zip(scene.target[:2], (x, y), strict=True)
    )

    return scene.servo((x, y, height), scene.target_yaw, close=True, speed=speed)


def _approach(scene: Scene) -> Decision:
    """Come down a funnel onto the ring, turning; close when in place."""
    x, y, z = scene.part.position
    grip_z = z + GRIP_ABOVE_M
    turn = wrap(scene.part.yaw - scene.yaw, SAME_TURN)
    yaw = scene.yaw + turn
    distance = math.hypot(scene.tool[0] - x, scene.tool[1] - y)
    if distance < 0.006 and abs(scene.tool[2] - grip_z) < 0.010 and abs(turn) < 0.1:
        return scene.servo((x, y, grip_z), yaw, close=True)

    astray = distance + 0.03 * abs(turn) + 0.5 * max(0.0, 0.075 - scene.opening)
    height = grip_z + min(HOVER_M, 3.0 * max(0.0, astray - 0.006))
    return scene.servo((x, y, height), yaw, close=False)
