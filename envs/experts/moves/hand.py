"""How experts with fingers move: onto a part, with it to a place, and away from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shopfloor.envs.experts.scene import QUARTER_TURN, Decision, Scene, Thing, Vector, wrap

LOWEST_M = 0.016  # of a tool whose fingertips must not touch the table


def ramp(value: float, span: float) -> float:
    """Return how much of a span a value has made, in [0, 1]."""
    return min(1.0, max(0.0, value / span))


def between(start: Sequence[float], goal: Sequence[float], share: float) -> tuple[float, float]:
    """Return x and y of the point at a share of the way from one point to another."""
    return start[0] + share * (goal[0] - start[0]), start[1] + share * (goal[1] - start[1])


def shifted(scene: Scene, off: Sequence[float], share: float) -> tuple[float, float]:
    """Return x and y of the target that moves the tool, with what it holds, by a share of a way.

    Args:
        scene: as it is.
        off: x and y of the whole way, m.
        share: in [0, 1]; at 0 the target stays.
    """
    return between(scene.target, (scene.tool[0] + off[0], scene.tool[1] + off[1]), share)


def turn_square(scene: Scene, goal: Thing) -> float:
    """Return by how much the tool has to turn, rad, so that the held part is square to a goal."""
    return wrap(goal.yaw - scene.part.yaw + scene.yaw, QUARTER_TURN) - scene.yaw


def open_and_rise(scene: Scene, clear: float, top_m: float) -> Decision:
    """Open the fingers and rise by a share of the way to a height.

    Args:
        scene: as it is.
        clear: in [0, 1], how far the fingers are clear of the part.
        top_m: height of the tool to rise to.
    """
    x, y, z = scene.target
    return scene.servo((x, y, z + clear * (top_m - z)), scene.target_yaw, close=False)


def let_go(scene: Scene, top_m: float) -> Decision:
    """Open the fingers around the named part; rise once they are clear of it.

    Args:
        scene: as it is.
        top_m: height of the tool to rise to.
    """
    return open_and_rise(scene, ramp(scene.opening - scene.part.size[0] - 0.012, 0.02), top_m)


@dataclass(frozen=True)
class Funnel:
    """How a hand comes down onto a part: the more it is astray, the higher it stays.

    Attributes:
        off_m, off_height_m, off_turn: the hand closes when it is off the grip by less than these,
            sideways, in height, m, and by its turn, rad.
        room_m: how far astray it may be at the part.
        hover_m: greatest height above the grip.
        turn_m: how far astray a turn of 1 rad counts.
        open_m: fingers less open than that count as astray by half of what is missing.
    """

    off_m: float
    off_height_m: float
    off_turn: float
    room_m: float
    hover_m: float
    turn_m: float = 0.05
    open_m: float = 0.07

    def descend(self, scene: Scene, grip: Vector, yaw: float, turn: float) -> Decision:
        """Come down onto the part, turning; close when in place.

        Args:
            scene: as it is.
            grip: where the tool grips, m.
            yaw: of the tool there, rad.
            turn: how far the tool is turned off that, rad, >= 0.
        """
        x, y, z = grip
        away = math.hypot(scene.tool[0] - x, scene.tool[1] - y)
        if self.in_place(scene, z, away, turn):
            return scene.servo(grip, yaw, close=True)
        return scene.servo((x, y, z + self.above_m(scene, away, turn)), yaw, close=False)

    def in_place(self, scene: Scene, grip_z: float, away: float, turn: float) -> bool:
        """Return whether the hand may close.

        Args:
            scene: as it is.
            grip_z: height of the grip, m.
            away: how far the tool is off the grip sideways, m.
            turn: how far the tool is turned off it, rad, >= 0.
        """
        level = abs(scene.tool[2] - grip_z) < self.off_height_m
        return away < self.off_m and level and turn < self.off_turn

    def above_m(self, scene: Scene, away: float, turn: float) -> float:
        """Return how far above the grip the hand stays, m.

        Args:
            scene: as it is.
            away: how far the tool is off the grip sideways, m.
            turn: how far the tool is turned off it, rad, >= 0.
        """
        astray = away + self.turn_m * turn + 0.5 * max(0.0, self.open_m - scene.opening)
        return min(self.hover_m, 3.0 * max(0.0, astray - self.room_m))


def come_down(scene: Scene, yaw: float, above_m: float, over_m: float) -> Decision:
    """Go above the named part and come down a funnel onto it, turning; close when in place.

    Args:
        scene: as it is.
        yaw: of the tool at the part, rad.
        above_m: how far above the part's middle it is gripped.
        over_m: height of the tool on the way.
    """
    x, y, z = scene.part.position
    grip_z = max(z + above_m, LOWEST_M)
    turn = yaw - scene.yaw
    away = math.hypot(scene.tool[0] - x, scene.tool[1] - y)
    if away < 0.006 and abs(scene.tool[2] - grip_z) < 0.008 and abs(turn) < 0.1:
        return scene.servo((x, y, grip_z), yaw, close=True)

    astray = away + 0.04 * abs(turn) + 0.5 * max(0.0, 0.075 - scene.opening)
    height = grip_z + min(max(over_m - grip_z, 0.05), 3.0 * max(0.0, astray - 0.006))
    free = 1.0 if away < 0.03 else ramp(scene.tool[2] - over_m + 0.025, 0.02)
    x, y = between(scene.target, (x, y), free)
    return scene.servo((x, y, height), yaw, close=False)


@dataclass(frozen=True)
class SlowFunnel:
    """How a hand comes down onto a part that a touch would push away: the nearer it is, the slower.

    Attributes:
        off_m: the hand closes when the tool is off the grip, and its target off the tool, by less.
        room_m: how far astray it may be at the part.
        hover_m: greatest height above the grip.
        cross_m: height above the grip from which on the hand goes sideways.
        slowest: speed at the grip, in full scales.
    """

    off_m: float
    room_m: float
    hover_m: float
    cross_m: float
    slowest: float

    def in_place(self, scene: Scene, grip: Vector, yaw: float) -> bool:
        """Return whether the hand may close: the tool is at the grip, turned as it is, and stays."""
        x, y, z = grip
        away = math.hypot(scene.tool[0] - x, scene.tool[1] - y)
        lag = math.dist(scene.tool, scene.target)
        near = max(away, abs(scene.tool[2] - z), lag) < self.off_m
        return near and abs(yaw - scene.yaw) < 0.08

    def descend(self, scene: Scene, grip: Vector, yaw: float) -> Decision:
        """Come down onto the part, turning; close when in place.

        Args:
            scene: as it is.
            grip: where the tool grips, m.
            yaw: of the tool there, rad.
        """
        if self.in_place(scene, grip, yaw):
            return scene.servo(grip, yaw, close=True)

        x, y, z = grip
        away = math.hypot(scene.tool[0] - x, scene.tool[1] - y)
        astray = away + 0.05 * abs(yaw - scene.yaw) + 0.5 * max(0.0, 0.07 - scene.opening)
        height = z + min(self.hover_m, 4.0 * max(0.0, astray - self.room_m))
        free = 1.0 if away < 0.012 else ramp(scene.tool[2] - z - self.cross_m, 0.02)
        speed = min(1.0, self.slowest + 12.0 * abs(scene.tool[2] - z) + 12.0 * away)
        place = (*between(scene.tool, grip, free), height)
        return scene.servo(place, yaw, close=False, speed=speed)
