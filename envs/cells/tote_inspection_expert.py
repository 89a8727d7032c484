"""The expert of ToteInspection: one decision per step, from what can be seen at that step alone.

Which mark is present tells where the part belongs; a lit lamp tells that it has been shown.
"""

from __future__ import annotations

import math

from shopfloor.envs.cells.lamps import is_lit
from shopfloor.envs.cells.tote_inspection import FLOOR_M, GRIP_ABOVE_M, ZONE_M, ToteInspection
from shopfloor.envs.experts.moves.hand import come_down, let_go, ramp, shifted, turn_square
from shopfloor.envs.experts.scene import QUARTER_TURN, Decision, Scene, Thing, wrap
from shopfloor.envs.record import CellRecord

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
    shown = is_lit(scene, "accept lamp") or is_lit(scene, "reject lamp")
    held = scene.closing and abs(scene.opening - width) < HELD_M and scene.gap < 0.030
    goal = _bin(scene)
    away = max(map(abs, scene.off(goal)))
    low = part.position[2] - 0.5 * part.height
    reach = INSIDE_M if held else 0.5 * goal.size[0]

    if shown and low < FLOOR_M + LET_GO_M and away < reach:
        return let_go(scene, RETREAT_M), width
    if held:
        return (_sort(scene, goal, low) if shown else _show(scene, low)), width
    return come_down(scene, wrap(part.yaw, QUARTER_TURN), GRIP_ABOVE_M, OVER_M), width


def _bin(scene: Scene) -> Thing:
    accepted = any(thing.name == "accept mark" for thing in scene.things)
    return scene.goal("accept bin" if accepted else "reject bin")


def _show(scene: Scene, low: float) -> Decision:
    """Lift, cross over to the window, turning square to it, and stay there."""
    window = scene.goal("window")
    height = scene.tool[2] + ZONE_M - scene.part.position[2]
    return _bring(scene, scene.off(window), turn_square(scene, window), height, low)


def _sort(scene: Scene, goal: Thing, low: float) -> Decision:
    """Cross over to the bin and come down into its middle."""
    off = scene.off(goal)
    end = FLOOR_M + 0.3 * LET_GO_M
    height = end + min(CARRY_M - end, 2.5 * max(0.0, math.hypot(*off) - 0.5 * INSIDE_M))
    return _bring(scene, off, 0.0, scene.tool[2] + height - low, low)


def _bring(
    scene: Scene, off: tuple[float, float], turn: float, height: float, low: float
) -> Decision:
    """Move the held part: by how much sideways, by which turn, with the tool at which height at the end."""
    free = ramp(low - FREE_M + 0.015, 0.015) if math.hypot(*off) > 0.04 else 1.0
    yaw = scene.yaw + free * turn if turn else scene.target_yaw
    return scene.servo((*shifted(scene, off, free), height), yaw, close=True)


CELL = CellRecord(
    "shopfloor/ToteInspection-v0",
    ToteInspection,
    version="1",
    decide=decide,
    does=(
        "the named part out of a tote, shown to a camera that looks up, "
        "into the bin of the mark underneath"
    ),
    done_when="it has been shown and lies in the right bin",
)
