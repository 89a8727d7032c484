"""How experts drive a mobile base: along a way, into a place, and back out where it came in askew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LINE_UP_M = 0.80  # before the place
# Nearer than that it backs off, where it is off the place's line; the second where it is turned
# aside by more than so many rad.
TOO_NEAR_M, MUCH_TOO_NEAR_M, ASIDE = 0.70, 0.45, 0.55
AHEAD_M, ON_LINE_M = 0.45, 0.40  # how far ahead it aims: on its way, and on the line into the place
# Funnels into the place: half the width at the end, m, and what that grows by per m. A base that is
# backing off goes on until it is well inside.
FUNNEL, INNER_FUNNEL, BACKING_M_S = (0.015, 0.25), (0.010, 0.08), 0.05
TURN_GAIN, TURN_FIRST, TURN_ONLY = (
    3.0,
    0.25,
    0.9,
)  # rad/s per rad; off its course: full speed, standing
CRUISE_M_S, BACK_M_S = 0.95, 0.30
BRAKE_M_S2 = 1.0

Point = tuple[float, float]
Command = tuple[float, float]


@dataclass(frozen=True)
class Pose:
    """A base or a place on the floor: m, m, rad; and how fast a base drives, m/s."""

    x: float
    y: float
    yaw: float
    speed: float = 0.0

    @property
    def point(self) -> Point:
        """Where it is."""
        return self.x, self.y

    def sees(self, point: Point) -> Point:
        """Return a point in its frame: m ahead, m to the left."""
        dx, dy = point[0] - self.x, point[1] - self.y
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return c * dx + s * dy, c * dy - s * dx

    def ahead(self, way: float) -> Point:
        """Return the point this far ahead."""
        return self.x + way * math.cos(self.yaw), self.y + way * math.sin(self.yaw)


def drive_to(base: Pose, place: Pose, way: Sequence[Point]) -> Command:
    """Return the speed (m/s) and the rate of turn (rad/s) that bring a base to a place and at rest there.

    Args:
        base: where it is.
        place: where it shall stop.
        way: points on the way to `LINE_UP_M` before the place, that one included; not used from
            there on.
    """
    ahead, side = place.sees(base.point)
    if (
        in_funnel(side, -ahead, FUNNEL if base.speed > -BACKING_M_S else INNER_FUNNEL)
        and ahead > -LINE_UP_M - 0.2
    ):
        return _drive_in(base, place)

    turned = abs(_wrap(base.yaw - place.yaw)) > ASIDE  # on its way to the line already
    if ahead > (-MUCH_TOO_NEAR_M if turned else -TOO_NEAR_M):
        return _back_off(base, place)
    return _follow(base, way)


def in_funnel(side: float, left: float, funnel: tuple[float, float]) -> bool:
    """Return whether a point beside a line, m, with a length of it left, m, is in a funnel."""
    return abs(side) < funnel[0] + funnel[1] * max(0.0, left)


def _follow(base: Pose, way: Sequence[Point]) -> Command:
    """Aim at a point ahead on the way; slow down for turns."""
    points = [base.point, *way]
    left = AHEAD_M
    aim = points[-1]

    for start, end in pairwise(points):
        length = math.dist(start, end)
        if length >= left:
            share = left / length
            aim = (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
            break

        left -= length

    ahead, side = base.sees(aim)
    off = math.atan2(side, ahead)
    slow = min(1.0, max(0.0, (TURN_ONLY - abs(off)) / (TURN_ONLY - TURN_FIRST)))
    stop = (
        math.sqrt(2.0 * BRAKE_M_S2 * math.dist(base.point, way[-1])) + 0.1
    )  # it turns on the spot there

    return min(CRUISE_M_S, stop) * slow, TURN_GAIN * off


def _drive_in(base: Pose, place: Pose) -> Command:
    """Drive along the place's line and stop in the place."""
    ahead, side = place.sees(base.point)
    off, left = _wrap(base.yaw - place.yaw), -ahead
    if left < 0.006:  # there: only turn, or back a little
        return (1.5 * left if left < -0.008 else 0.0), -TURN_GAIN * off
    course = math.atan2(-side, min(ON_LINE_M, max(left, 0.15)))
    turn = _wrap(course - off)
    slow = min(1.0, max(0.0, (TURN_ONLY - abs(turn)) / (TURN_ONLY - TURN_FIRST)))
    speed = min(0.6, math.sqrt(2.0 * BRAKE_M_S2 * 0.4 * left), 2.0 * left)
    return speed * slow, TURN_GAIN * turn


def _back_off(base: Pose, place: Pose) -> Command:
    """Drive backwards, towards the place's line."""
    _, side = place.sees(base.point)
    turn = _wrap(min(max(1.5 * side, -0.5), 0.5) - _wrap(base.yaw - place.yaw))
    return (-BACK_M_S if abs(turn) < 0.5 else 0.0), TURN_GAIN * turn


def _wrap(angle: float) -> float:
    return math.remainder(angle, math.tau)
