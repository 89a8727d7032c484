"""The expert of ToteInspection: one decision per step, from what can be seen at that step alone.

Which mark is present tells where the part belongs; a lit lamp tells that it has been shown.
"""

from __future__ import annotations

import math

from shopfloor.envs.experts.scene import Decision, Scene, Thing, come_down, wrap

VERSION = "1"

FLOOR_M, WALL_M = 0.004, 0.026  # of tote and bins: thickness of the floor, height of the walls
ZONE_M = 0.170  # height above the table at which the camera wants the part's middle
LAMP_ON_M = 0.050  # middles of lamps are above it while they are lit

SAME_TURN = 0.5 * math.pi
GRIP_ABOVE_M = 0.008  # the part's middle
HELD_M = 0.006  # the opening differs from the part's width by less than that
OVER_M = 0.105  # tool above parts and walls on the way
CARRY_M = 0.080  # lower side of the part on the way to the bins
FREE_M = 0.060  # lower side of the part from where on it goes sideways
INSIDE_M = 0.020  # from the middle of the bin, to let go
LET_GO_M = 0.006  # above the floor of the bin
RETREAT_M = 0.13


def decide(scene: Scene) -> tuple[Decision, float]:
    """Return the action and the part's width between the fingers, m."""
    part, width = scene.part, scene.part.size[0]
    shown = any(scene.goal(f"{name} lamp").position[2] > LAMP_ON_M for name in ("accept", "reject"))
    held = scene.closing and abs(scene.opening - width) < HELD_M and scene.gap < 0.030
    goal = _bin(scene)
    away = max(abs(goal.position[axis] - part.position[axis]) for axis in range(2))
    low = part.position[2] - 0.5 * part.height
    reach = INSIDE_M if held else 0.5 * goal.size[0]
    if shown and low < FLOOR_M + LET_GO_M and away < reach:
        return _let_go(scene), width

    if held:
        return (_sort(scene, goal, low) if shown else _show(scene, low)), width
    return come_down(scene, wrap(scene.part.yaw, SAME_TURN), GRIP_ABOVE_M, OVER_M), width


def _bin(scene: Scene) -> Thing:
    accepted = any(thing.name == "accept mark" for thing in scene.things)
    return scene.goal("accept bin" if accepted else "reject bin")


def _let_go(scene: Scene) -> Decision:
    """Open; rise once the fingers are clear of the part."""
    x, y, z = scene.target
    clear = min(1.0, max(0.0, (scene.opening - scene.part.size[0] - 0.012) / 0.02))
    return scene.servo((x, y, z + clear * (RETREAT_M - z)), scene.target_yaw, close=False)


def _show(scene: Scene, low: float) -> Decision:
    """Lift, cross over to the window, turning square to it, and stay there."""
    window, part = scene.goal("window"), scene.part
    off = (window.position[0] - part.position[0], window.position[1] - part.position[1])
    turn = wrap(window.yaw - part.yaw + scene.yaw, SAME_TURN) - scene.yaw
    return _bring(scene, off, turn, scene.tool[2] + ZONE_M - part.position[2], low)


def _sort(scene: Scene, goal: Thing, low: float) -> Decision:
    """Cross over to the bin and come down into its middle."""
    off = (goal.position[0] - scene.part.position[0], goal.position[1] - scene.part.position[1])
    end = FLOOR_M + 0.3 * LET_GO_M
    height = end + min(CARRY_M - end, 2.5 * max(0.0, math.hypot(*off) - 0.5 * INSIDE_M))
    return _bring(scene, off, 0.0, scene.tool[2] + height - low, low)


def _bring(
    scene: Scene, off: tuple[float, float], turn: float, height: float, low: float
) -> Decision:
    """Move the held part: by how much sideways, by which turn, with the tool at which height at the end."""
    free = min(1.0, max(0.0, (low - FREE_M + 0.015) / 0.015)) if math.hypot(*off) > 0.04 else 1.0
    x, y = (
        target + free * (tool + move - target)
        for target, tool, move in zip(scene.target[:2], scene.tool[:2], off, strict=True)
    )
    return scene.servo(
        (x, y, height), scene.yaw + free * turn if turn else scene.target_yaw, close=True
    )
