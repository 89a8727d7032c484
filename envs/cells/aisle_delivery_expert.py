"""The expert of AisleDelivery: one decision per step for all robots, from what can be seen at that step alone.

A robot takes the shortest free aisle, lines up before its dock and drives in. It stops for people and robots ahead.
Several robots go one after the other: each leaves, and each comes out of the aisles, once those with a lower number
have made room.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import numpy as np

from shopfloor.core import ActionChunk, InvalidInputError, Observation, PolicyInfo, sha256_hex
from shopfloor.envs.mobile import MAX_SPEED_M_S, MAX_TURN_RAD_S

VERSION = "1"

BASE_STATE = 6
HALF_LENGTH_M, HALF_WIDTH_M = 0.31, 0.23  # of a robot
PERSON_RADIUS_M = 0.27
BEFORE_RACK_M, BEHIND_RACK_M = 0.55, 0.35  # waypoints off the racks' ends
LINE_UP_M, TOO_NEAR_M = 0.80, 0.70  # before the dock; nearer than that it backs off, where it is off the dock's line
AHEAD_M, ON_LINE_M = 0.45, 0.40  # how far ahead it aims: on its way, and on the line into the dock
# A funnel, half its width and what that grows by per m: into an aisle, and into a dock.
AISLE_FUNNEL, DOCK_FUNNEL = (0.10, 0.6), (0.015, 0.25)
BEFORE_FUNNEL_M = 0.30  # of an aisle, before the racks' ends
TURN_GAIN, TURN_FIRST, TURN_ONLY = 3.0, 0.25, 0.9  # rad/s per rad; off its course: full speed, standing
CRUISE_M_S, CREEP_M_S, BACK_M_S = 0.95, 0.30, 0.30
BRAKE_M_S2 = 1.0
GAP_M, SIDE_M = 0.22, 0.12  # kept ahead and beside
ROBOT_RADIUS_M = 0.30  # of others: they stand more or less along the aisles
OUT_M = 0.85  # before the racks: so far a robot among others drives straight
NEARBY_M, WIDE_M = 1.7, 0.95  # people this near, and this far to the side, are passed slowly
BUSY_M = 1.5  # added to the length of an aisle in which people walk
DONE_M, DONE_RAD = 0.010, math.radians(1.5)
DRIVING_IN_M = 0.65  # a robot this near to its dock has made room

Point = tuple[float, float]


@dataclass(frozen=True)
class Pose:
    """A robot or a dock on the floor: m, m, rad; and how fast a robot drives, m/s."""

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


@dataclass(frozen=True)
class Floor:
    """What stands and walks about.

    Attributes:
        docks: by name.
        people: where they are.
        aisles: y of the middle of each, m.
        free: which of them no boxes block.
        half_m: half the length of the racks, m.
        half_aisle_m: half the width of an aisle, m.
    """

    docks: Mapping[str, Pose]
    people: tuple[Point, ...]
    aisles: tuple[float, ...]
    free: tuple[bool, ...]
    half_m: float
    half_aisle_m: float


@final
class AisleExpert:
    """Unpacks the observation and drives each robot to the dock that the instruction names for it."""

    def __init__(self, cell_id: str, phrasings: Sequence[Mapping[str, tuple[str, ...]]], execute: int = 1) -> None:
        """Make an expert.

        Args:
            cell_id: full id.
            phrasings: per number of robots and kind of words, the docks' names, joined -> texts.
            execute: how many actions of a chunk callers run; it plans one.
        """
        self._docks = {
            text: names.split(", ") for known in phrasings for names, texts in known.items() for text in texts
        }
        self._named: list[str] = []
        self._info = PolicyInfo(
            "expert",
            sha256_hex(f"expert:{cell_id}:{VERSION}:{execute}"),
            (cell_id,),
            ("state", "objects", "object_names"),
            expert=True,
        )

    @property
    def info(self) -> PolicyInfo:
        """Name, digest and what it needs."""
        return self._info

    def reset(self, seed: int, instruction: str) -> None:
        """Read which docks are meant; the seed is not used."""
        if instruction not in self._docks:
            raise InvalidInputError(
                f"The expert of {self._info.cells[0]} cannot read the instruction {instruction!r}; it knows: "
                f"{' | '.join(list(self._docks)[:3])} ..."
            )
        self._named = self._docks[instruction]

    def act(self, observation: Observation) -> ActionChunk:
        """Return one action for every robot."""
        state = np.asarray(observation["state"], dtype=np.float64).reshape(-1, BASE_STATE).tolist()
        robots = [Pose(x, y, math.atan2(sine, cosine), speed) for x, y, cosine, sine, speed, _ in state]
        rows = np.asarray(observation["objects"], dtype=np.float64).tolist()
        floor = read_floor(observation["object_names"], rows)
        docks = [floor.docks[name] for name in self._named]
        action: list[float] = []
        for index in range(len(robots)):
            speed, turn = decide(index, robots, docks, floor)
            action += [speed / MAX_SPEED_M_S, turn / MAX_TURN_RAD_S]
        return ActionChunk(np.clip(np.array([action]), -1.0, 1.0).astype(np.float32))


def read_floor(names: Sequence[str], rows: Sequence[Sequence[float]]) -> Floor:
    """Sort the object rows by what they are; the aisles follow from the racks."""
    docks, people, racks, stacks = {}, [], [], []
    for name, row in zip(names, rows, strict=True):
        if row[10] < 0.5:
            continue
        if name.endswith("dock"):
            docks[name] = Pose(row[0], row[1], 2.0 * math.atan2(row[5], row[6]))
        elif name == "person":
            people.append((row[0], row[1]))
        elif name == "rack":
            racks.append(row)
        else:
            stacks.append(row)
    racks.sort(key=lambda row: row[1])
    low, high = racks[0], racks[-1]
    aisle = high[1] - low[1] - high[8]
    step = 0.5 * (aisle + high[8]) + 0.5 * aisle + 0.5 * high[8]
    aisles = (0.5 * (low[1] + high[1]) - step, 0.5 * (low[1] + high[1]), 0.5 * (low[1] + high[1]) + step)
    free = tuple(all(abs(stack[1] - y) > 0.5 * aisle for stack in stacks) for y in aisles)
    return Floor(docks, tuple(people), aisles, free, 0.5 * high[7], 0.5 * aisle)


def decide(index: int, robots: Sequence[Pose], docks: Sequence[Pose], floor: Floor) -> tuple[float, float]:
    """Return the speed (m/s) and the rate of turn (rad/s) that a robot is told."""
    robot, dock = robots[index], docks[index]
    ahead, side = dock.sees(robot.point)
    off = _wrap(robot.yaw - dock.yaw)
    if math.hypot(ahead, side) < DONE_M and abs(off) < DONE_RAD:
        return 0.0, 0.0
    if _in_funnel(side, -ahead, DOCK_FUNNEL) and ahead > -LINE_UP_M - 0.2:
        speed, turn = _drive_in(robot, dock)
    elif ahead > -TOO_NEAR_M:
        speed, turn = _back_off(robot, dock)
    else:
        way = _way(robot, dock, floor)
        if len(robots) > 1 and robot.x < -floor.half_m - OUT_M:  # straight out, between the others
            way = [(-floor.half_m - OUT_M + 0.1, robot.y), *way]
        speed, turn = _follow(robot, way)
    others = [other for number, other in enumerate(robots) if number != index]
    speed = min(speed, _allowed(robot, floor.people, others))
    return (min(speed, 0.0) if _waits(index, robots, docks, floor) else speed), turn


def _waits(index: int, robots: Sequence[Pose], docks: Sequence[Pose], floor: Floor) -> bool:
    """Return whether a robot waits at its start or before an aisle's end for those with a lower number."""
    x, half = robots[index].x, floor.half_m
    # It stays well inside, most of all in an aisle where people walk: they must be able to make way for others.
    line = 0.35 if abs(robots[index].y) < floor.half_aisle_m else -0.7
    for other, dock in zip(robots[:index], docks, strict=False):
        leaving = x < -half - 1.0 and other.x < -half - 0.1
        docking = line < x < line + 0.45 and math.dist(other.point, dock.point) > DRIVING_IN_M
        if leaving or docking:
            return True
    return False


def _way(robot: Pose, dock: Pose, floor: Floor) -> list[Point]:
    """Return the points that a robot passes on its way, the next one first."""
    line_up, behind = dock.ahead(-LINE_UP_M), floor.half_m + BEHIND_RACK_M
    if robot.x > behind - 0.1:
        return [line_up]
    aisle = min(floor.aisles, key=lambda y: abs(y - robot.y))
    if robot.x < -floor.half_m - 0.15 or not floor.free[floor.aisles.index(aisle)]:
        return _through(robot, line_up, floor)
    return [*_along(robot, aisle, behind), line_up]


def _along(robot: Pose, aisle: float, end: float) -> list[Point]:
    """Return points along an aisle, from beside the robot to its end."""
    return [(min(robot.x + 0.25, end), aisle), (end, aisle)]


def _through(robot: Pose, line_up: Point, floor: Floor) -> list[Point]:
    """Return the way through the aisle with the least length, where busy ones count more."""
    before, behind = -floor.half_m - BEFORE_RACK_M, floor.half_m + BEHIND_RACK_M
    best: tuple[float, list[Point]] = (math.inf, [])
    mouth = -floor.half_m - BEFORE_FUNNEL_M
    for y, free in zip(floor.aisles, floor.free, strict=True):
        enters = _in_funnel(robot.y - y, mouth - robot.x, AISLE_FUNNEL) and robot.x > before - 0.5
        if free and enters and robot.x > before - 0.1:  # too late to think again
            return [*_along(robot, y, behind), line_up]
        busy = any(abs(py - y) < floor.half_aisle_m and abs(px) < floor.half_m + 0.6 for px, py in floor.people)
        length = math.dist(robot.point, (before, y)) + math.dist((behind, y), line_up) + BUSY_M * busy
        if free and length < best[0]:
            start = _along(robot, y, behind) if enters else [(before, y), (behind, y)]
            best = length, [*start, line_up]
    return best[1]


def _in_funnel(side: float, left: float, funnel: tuple[float, float]) -> bool:
    return abs(side) < funnel[0] + funnel[1] * max(0.0, left)


def _follow(robot: Pose, way: list[Point]) -> tuple[float, float]:
    """Aim at a point ahead on the way; slow down for turns."""
    points = [robot.point, *way]
    left = AHEAD_M
    aim = points[-1]
    for start, end in pairwise(points):
        length = math.dist(start, end)
        if length >= left:
            share = left / length
            aim = (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
            break
        left -= length
    ahead, side = robot.sees(aim)
    off = math.atan2(side, ahead)
    slow = min(1.0, max(0.0, (TURN_ONLY - abs(off)) / (TURN_ONLY - TURN_FIRST)))
    stop = math.sqrt(2.0 * BRAKE_M_S2 * math.dist(robot.point, way[-1])) + 0.1  # it turns on the spot there
    return min(CRUISE_M_S, stop) * slow, TURN_GAIN * off


def _drive_in(robot: Pose, dock: Pose) -> tuple[float, float]:
    """Drive along the dock's line and stop in the dock."""
    ahead, side = dock.sees(robot.point)
    off, left = _wrap(robot.yaw - dock.yaw), -ahead
    if left < 0.006:  # there: only turn, or back a little
        return (1.5 * left if left < -0.008 else 0.0), -TURN_GAIN * off
    course = math.atan2(-side, min(ON_LINE_M, max(left, 0.15)))
    turn = _wrap(course - off)
    slow = min(1.0, max(0.0, (TURN_ONLY - abs(turn)) / (TURN_ONLY - TURN_FIRST)))
    speed = min(0.6, math.sqrt(2.0 * BRAKE_M_S2 * 0.4 * left), 2.0 * left)
    return speed * slow, TURN_GAIN * turn


def _back_off(robot: Pose, dock: Pose) -> tuple[float, float]:
    """Drive backwards, towards the dock's line."""
    _, side = dock.sees(robot.point)
    turn = _wrap(min(max(1.5 * side, -0.5), 0.5) - _wrap(robot.yaw - dock.yaw))
    return (-BACK_M_S if abs(turn) < 0.5 else 0.0), TURN_GAIN * turn


def _allowed(robot: Pose, people: Sequence[Point], others: Sequence[Pose]) -> float:
    """Return how fast a robot may drive forward, m/s, for what is ahead of it."""
    most = MAX_SPEED_M_S
    for point, radius in (
        *((spot, PERSON_RADIUS_M) for spot in people),
        *((other.point, ROBOT_RADIUS_M) for other in others),
    ):
        ahead, side = robot.sees(point)
        room = ahead - HALF_LENGTH_M - radius - GAP_M
        if ahead <= 0.0:
            continue
        if abs(side) < HALF_WIDTH_M + radius + SIDE_M:
            most = min(most, math.sqrt(2.0 * BRAKE_M_S2 * max(0.0, room)))
        elif radius == PERSON_RADIUS_M and abs(side) < WIDE_M and ahead < NEARBY_M:
            most = min(most, max(CREEP_M_S, 0.8 * max(0.0, room)))
    return most


def _wrap(angle: float) -> float:
    return math.remainder(angle, math.tau)
