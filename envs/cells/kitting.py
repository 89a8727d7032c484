"""Kitting: seat the part that the instruction names in the slot of a fixture.

Task: two parts of the same footprint stand on the table; the instruction names one; it goes into
the slot, which has 5 mm of room on each side. Half a turn of a part makes no difference.
Randomisation: parts anywhere on 26 x 18 cm at a yaw within +-1.2 rad, with room for the fingers
between them; the fixture's centre on 12 x 8 cm at a yaw within +-0.7 rad; the named part; the
phrasing; where the tool starts; light and colours (mildly). Success: the named part is seated
upright on the slot's floor, within 5 mm and 8 degrees, slower than 5 mm/s, nothing else on the
fixture, gripper open and clear, for 0.5 s. Failure: another part in its place (`wrong_part`), the
named part off the table (`dropped`) or left where the tool cannot come (`out_of_reach`), time
(`timeout`). Levels, where they differ from `nominal`: `easy` has 7 mm of room on each side, and
yaws within +-0.6 (parts) and +-0.3 rad (fixture); `hard` has five parts of three silhouettes on 32
x 23 cm, a slot for each silhouette in a row of three fixtures whose order changes, turned within
+-0.3 rad, and 3.5 mm of room.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shopfloor.envs.experts.scene import wrap
from shopfloor.envs.looks.camera import Camera, wrist_camera
from shopfloor.envs.physics.kinematics import in_frame, uprightness, yaw_of, yaw_quaternion
from shopfloor.envs.physics.scatter import Corner, scatter
from shopfloor.envs.physics.shapes import Shape, walls_around
from shopfloor.envs.physics.world import World
from shopfloor.envs.robots.arm import Arm, top_down
from shopfloor.envs.task import (
    DONE,
    REST_M_S,
    Array,
    Item,
    Level,
    Task,
    ToolPose,
    Verdict,
    Wording,
    by_level,
)

FOOTPRINT_M = {"slot": (0.06, 0.04), "square slot": (0.046, 0.046), "narrow slot": (0.074, 0.030)}
FIXTURE_HEIGHT_M = 0.03
FIXTURE_LOW, FIXTURE_HIGH = (0.44, 0.14), (0.56, 0.22)
ROW_M = 0.14  # between fixtures
ROW_LOW, ROW_HIGH = (0.485, 0.15), (0.515, 0.20)  # where the middle one of a row stands
FLOOR_M = 0.006  # of the slot, above the table
FLOOR_RGB, SLOT_RGB = (0.13, 0.14, 0.16), (0.80, 0.84, 0.86)
PART_MASS_KG = 0.1
GRIP_ABOVE_M = 0.014  # the part's centre
CLEAR_M, OPEN_M = 0.045, 0.06  # tool to part and between the fingers, once let go
SEATED_M, SEATED_RAD = 0.005, math.radians(8.0)
SEATED_HEIGHT_M, UPRIGHT_COSINE = 0.003, math.cos(math.radians(5.0))


def _part(name: str, slot: str, height: float, rgb: tuple[float, float, float]) -> Item:
    return Item(name, (*FOOTPRINT_M[slot], height), rgb, belongs_to=slot)


PARTS = (
    _part("orange gearbox", "slot", 0.06, (0.95, 0.50, 0.10)),
    _part("purple motor", "slot", 0.05, (0.50, 0.25, 0.70)),
    # These three at `hard` only.
    _part("green valve", "square slot", 0.055, (0.20, 0.62, 0.25)),
    _part("blue relay", "narrow slot", 0.06, (0.15, 0.30, 0.85)),
    _part("red relay", "narrow slot", 0.05, (0.85, 0.15, 0.15)),
)
SLOT_OF = {part.name: part.belongs_to for part in PARTS}


@dataclass(frozen=True)
class Job(Level):
    """What differs between levels.

    Attributes:
        parts: how many of PARTS there are.
        slots: names of the fixtures' slots.
        clearance_m: on each side of a part of the usual size.
        low, high: corners between which parts stand, m.
        spacing_m: least distance between the middles of two parts.
        part_yaw, fixture_yaw: largest, rad.
        fixture_m: length and width of a fixture.
    """

    parts: int = 2
    slots: tuple[str, ...] = ("slot",)
    clearance_m: float = 0.005
    low: Corner = (0.37, -0.22)
    high: Corner = (0.63, -0.04)
    spacing_m: float = 0.12
    part_yaw: float = 1.2
    fixture_yaw: float = 0.7
    fixture_m: tuple[float, float] = (0.13, 0.11)


class Kitting(Task):
    """The task; see the module's text."""

    max_episode_steps = 120
    robots = ("panda", "ur5e")
    post = top_down(
        (0.30, -0.28, 0.012), (0.70, 0.30, 0.35), (0.44, -0.06, 0.17), (0.54, 0.06, 0.22)
    )
    cameras = (
        Camera("front", eye=(0.88, 0.0, 0.62), target=(0.445, 0.0, 0.02), fov_deg=43.0),
        wrist_camera(0.075, looks_at=0.025),
    )
    wording = Wording.of(
        SLOT_OF,
        (
            "Insert the {} into the {}.",
            "Put the {} into the {} of the fixture.",
            "Seat the {} in the {}.",
            "Pick up the {} and fit it into the {}.",
            "The {} belongs in the {}.",
        ),
        (
            "Complete the kit: it still lacks the {}.",
            "Slide the {} down into the {} until it stands firm.",
            "What we need in the {1} is the {0}.",
        ),
    )
    jobs = by_level(
        easy=Job(clearance_m=0.007, part_yaw=0.6, fixture_yaw=0.3),
        nominal=Job(),
        hard=Job(
            parts=5,
            slots=tuple(FOOTPRINT_M),
            clearance_m=0.0035,
            low=(0.34, -0.25),
            high=(0.66, -0.02),
            spacing_m=0.105,
            fixture_yaw=0.3,
            fixture_m=(0.11, 0.10),
        ),
    )
    job: Job
    displaces = teleports = True
    part_scales = (0.86, 0.94)

    def list_items(self) -> tuple[Item, ...]:
        """Return parts and slots."""
        parts = (item.scaled(self.part_scale) for item in PARTS[: self.job.parts])
        size = (*self.job.fixture_m, FIXTURE_HEIGHT_M)
        return (*parts, *(Item(name, size, SLOT_RGB, is_goal=True) for name in self.job.slots))

    def build(self, world: World) -> None:
        """Add the parts and the fixtures."""
        job, room = self.job, 2 * self.job.clearance_m
        inners = []
        for name in job.slots:
            length, width = FOOTPRINT_M[name]
            inners.append((length + room, width + room))

        parts = [
            world.add_box(item.size, item.rgb, PART_MASS_KG) for item in self.items[: job.parts]
        ]
        blocks = [walls_around(inner, job.fixture_m, FIXTURE_HEIGHT_M) for inner in inners]
        self.bodies = (*parts, *(world.add_fixed(block, SLOT_RGB) for block in blocks))
        floors = [[Shape("box", (*inner, FLOOR_M))] for inner in inners]
        self._floors = [world.add_fixed(floor, FLOOR_RGB) for floor in floors]

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Scatter the parts and place the fixtures."""
        job = self.job
        self.begin(named=int(rng.integers(job.parts)))
        spots = self._spots(rng)
        self.lay_out(world, spots, rng.uniform(-job.part_yaw, job.part_yaw, job.parts))

        fixtures = zip(
            self.bodies[job.parts :], self._floors, self._fixture_spots(rng), strict=True
        )
        for body, floor, spot in fixtures:
            turn = yaw_quaternion(rng.uniform(-job.fixture_yaw, job.fixture_yaw))
            world.place(body, (*spot, 0.0), turn)
            world.place(floor, (*spot, 0.5 * FLOOR_M), turn)

    def _spots(self, rng: np.random.Generator) -> Sequence[Array]:
        job = self.job
        if job.parts > 2:
            return scatter(job.low, job.high, job.parts, job.spacing_m, rng)

        spots = rng.uniform(job.low, job.high, (2, 2))
        while float(np.hypot(*(spots[1] - spots[0]))) < job.spacing_m:
            spots = rng.uniform(job.low, job.high, (2, 2))
        return list(spots)

    def _fixture_spots(self, rng: np.random.Generator) -> Sequence[Array]:
        count = len(self.job.slots)
        if count == 1:
            return [rng.uniform(FIXTURE_LOW, FIXTURE_HIGH)]

        middle = rng.uniform(ROW_LOW, ROW_HIGH)
        places = rng.permutation(count) - 0.5 * (count - 1)
        return [middle + np.array([ROW_M * place, 0.0]) for place in places.tolist()]

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places near the named part where it stands with room for the fingers."""
        rectangle = (self.job.low, self.job.high)
        return self.spots_beside(world, rectangle, (low_m, high_m), self.job.spacing_m, rng)

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge how the parts stand to their slots."""
        named, rows, count = self.progress.named, world.rows, self.job.parts
        part, slots = rows[named], rows[count : count + len(self.job.slots)]
        slot, height = slots[self._home], self.items[named].size[2]
        tool, speed = robot.tool_position.tolist(), math.hypot(*part[7:10])
        clear = math.dist(tool, part[:3]) > CLEAR_M

        others = [row for row in rows[:count] if row is not part]
        blocking = [row for row in others if any(self._on_fixture(row, other) for other in slots)]
        seated = self._seated(part, slot, height)
        let_go = clear and robot.opening_m > OPEN_M
        if self.progress.held.count(seated and not blocking and let_go and speed < REST_M_S):
            return DONE

        self.progress.wrong.count(any(math.dist(tool, row[:3]) > CLEAR_M for row in blocking))
        failure = self.failure(part, robot, let_go=clear)

        if seated:
            return Verdict("release", failure=failure)
        if math.dist(tool, part[:3]) >= 0.035 or robot.gripper <= 0.0:
            return Verdict("approach", failure=failure)
        if part[2] <= 0.5 * height + 0.01:
            return Verdict("grasp", failure=failure)
        return Verdict("insert" if self._on_fixture(part, slot) else "carry", failure=failure)

    def _on_fixture(self, pose: Sequence[float], slot: Sequence[float]) -> bool:
        """Return whether a part's centre is over a fixture and not far above it."""
        along, across = in_frame(pose, slot)
        length, width = self.job.fixture_m
        return abs(along) < 0.5 * length and abs(across) < 0.5 * width and pose[2] < 0.09

    def _seated(self, pose: Sequence[float], slot: Sequence[float], height: float) -> bool:
        """Return whether the named part stands in its slot, a turn to which it is the same or not."""
        off = math.hypot(pose[0] - slot[0], pose[1] - slot[1])
        length, width = FOOTPRINT_M[self.job.slots[self._home]]
        same = math.pi if length > width else 0.5 * math.pi
        turn = wrap(yaw_of(pose) - yaw_of(slot), same)

        near = off <= max(SEATED_M, self.job.clearance_m) and abs(turn) < SEATED_RAD
        low = pose[2] - FLOOR_M - 0.5 * height < SEATED_HEIGHT_M
        return near and low and uprightness(pose) > UPRIGHT_COSINE

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named part above its centre; only used where it stands upright."""
        return ToolPose.above(world.poses[self.progress.named], GRIP_ABOVE_M)

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose at which the named part stands in the slot."""
        height = FLOOR_M + 0.5 * self.items[self.progress.named].size[2] + GRIP_ABOVE_M
        return ToolPose.above(world.poses[self.job.parts + self._home], height)

    def take_up(self) -> None:
        """Set what follows from `progress`, and the number of the named part's slot."""
        super().take_up()
        self._home = self.job.slots.index(SLOT_OF[self.named])
