"""The expert of AisleDelivery: one decision per step for all robots, from what can be seen at that step alone.

A robot takes the shortest free aisle, lines up before its dock and drives in. It stops for people
and robots ahead. Several robots go one after the other: each leaves, and each comes out of the
aisles, once those with a lower number have made room.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from shopfloor.core import ActionChunk, Observation, PolicyInfo
from shopfloor.envs.cells.aisle_delivery import AisleDelivery
from shopfloor.envs.experts.moves.drive import (
    BRAKE_M_S2,
    LINE_UP_M,
    Point,
    Pose,
    drive_to,
    in_funnel,
)
from shopfloor.envs.experts.scripted import Reader
from shopfloor.envs.record import CellRecord
from shopfloor.envs.robots.mobile import MAX_SPEED_M_S, MAX_TURN_RAD_S, Base

HALF_LENGTH_M, HALF_WIDTH_M = 0.31, 0.23  # of a robot
PERSON_RADIUS_M = 0.27
BEFORE_RACK_M, BEHIND_RACK_M = 0.55, 0.35  # waypoints off the racks' ends
# Into an aisle; its narrow end is that far before the racks' ends.
AISLE_FUNNEL, BEFORE_FUNNEL_M = (0.10, 0.6), 0.30
CREEP_M_S = 0.30
GAP_M, SIDE_M = 0.22, 0.12  # kept ahead and beside
ROBOT_RADIUS_M = 0.30  # of others: they stand more or less along the aisles
OUT_M = 0.85  # before the racks: so far a robot among others drives straight
NEARBY_M, WIDE_M = 1.7, 0.95  # people this near, and this far to the side, are passed slowly
BUSY_M = 1.5  # added to the length of an aisle in which people walk
DONE_M, DONE_RAD = 0.010, math.radians(1.5)
DRIVING_IN_M = 0.65  # a robot this near to its dock has made room


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

    def __init__(self, record: CellRecord, execute: int = 1) -> None:
        """Make an expert.

        Args:
            record: of the cell.
            execute: how many actions of a chunk callers run; it plans one.
        """
        words = record.task.wording
        phrasings = (words.usual, words.unseen)
        self._reader = Reader(record.cell_id, record.version, execute, phrasings)
        self._named: list[str] = []

    @property
    def info(self) -> PolicyInfo:
        """Name, digest and what it needs."""
        return self._reader.info

    def reset(self, seed: int, instruction: str) -> None:
        """Read which docks are meant; the seed is not used."""
        self._named = self._reader.read(instruction).split(", ")

    def act(self, observation: Observation) -> ActionChunk:
        """Return one action for every robot."""
        state = np.asarray(observation["state"], dtype=np.float64)
        bases = state.reshape(-1, len(Base.state_names)).tolist()
        robots = [
            Pose(x, y, math.atan2(sine, cosine), speed) for x, y, cosine, sine, speed, _ in bases
        ]
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
    seen = [(name, row) for name, row in zip(names, rows, strict=True) if row[10] > 0.5]

    def of_kind(kind: str) -> list[Sequence[float]]:
        return [row for name, row in seen if name == kind]

    docks = {
        name: Pose(row[0], row[1], 2.0 * math.atan2(row[5], row[6]))
        for name, row in seen
        if name.endswith("dock")
    }
    people = tuple((row[0], row[1]) for row in of_kind("person"))
    racks = sorted(of_kind("rack"), key=lambda row: row[1])
    low, high = racks[0], racks[-1]
    aisle, middle = high[1] - low[1] - high[8], 0.5 * (low[1] + high[1])
    step = 0.5 * (aisle + high[8]) + 0.5 * aisle + 0.5 * high[8]
    aisles = (middle - step, middle, middle + step)
    free = tuple(all(abs(stack[1] - y) > 0.5 * aisle for stack in of_kind("boxes")) for y in aisles)
    return Floor(docks, people, aisles, free, 0.5 * high[7], 0.5 * aisle)


def decide(
    index: int, robots: Sequence[Pose], docks: Sequence[Pose], floor: Floor
) -> tuple[float, float]:
    """Return the speed (m/s) and the rate of turn (rad/s) that a robot is commanded."""
    robot, dock = robots[index], docks[index]
    ahead, side = dock.sees(robot.point)
    off = math.remainder(robot.yaw - dock.yaw, math.tau)
    if math.hypot(ahead, side) < DONE_M and abs(off) < DONE_RAD:
        return 0.0, 0.0

    way = _way(robot, dock, floor)
    if len(robots) > 1 and robot.x < -floor.half_m - OUT_M:  # straight out, between the others
        way = [(-floor.half_m - OUT_M + 0.1, robot.y), *way]
    speed, turn = drive_to(robot, dock, way)
    others = [other for number, other in enumerate(robots) if number != index]
    speed = min(speed, _allowed(robot, floor.people, others))

    return (min(speed, 0.0) if _waits(index, robots, docks, floor) else speed), turn


def _waits(index: int, robots: Sequence[Pose], docks: Sequence[Pose], floor: Floor) -> bool:
    """Return whether a robot waits at its start or before an aisle's end for those with a lower number."""
    x, half = robots[index].x, floor.half_m
    # It stays well inside, most of all in an aisle where people walk: they must be able to make way
    # for others.
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
        enters = in_funnel(robot.y - y, mouth - robot.x, AISLE_FUNNEL) and robot.x > before - 0.5
        # Too late to think again.
        if free and enters and robot.x > before - 0.1:
            return [*_along(robot, y, behind), line_up]

        busy = any(
            abs(py - y) < floor.half_aisle_m and abs(px) < floor.half_m + 0.6
            for px, py in floor.people
        )

        length = math.dist(robot.point, (before, y)) + math.dist((behind, y), line_up)
        length += BUSY_M * busy
        if free and length < best[0]:
            start = _along(robot, y, behind) if enters else [(before, y), (behind, y)]
            best = length, [*start, line_up]

    return best[1]


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


CELL = CellRecord(
    "shopfloor/AisleDelivery-v0",
    AisleDelivery,
    version="2",
    own_expert=AisleExpert,
    does=(
        "one to four mobile robots through aisles, past people who walk there, to the docks "
        "that are named"
    ),
    done_when=(
        "every robot stands within 3 cm and 5 degrees of its dock, and none has touched anything"
    ),
)
