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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.cells.kitting_expert import FLOOR_M, GRIP_ABOVE_M, SLOT_OF, VERSION, decide
from shopfloor.envs.experts.scene import wrap
from shopfloor.envs.experts.scripted import ScriptedExpert
from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.kinematics import yaw_of, yaw_quaternion
from shopfloor.envs.physics.scatter import scatter, spots_near
from shopfloor.envs.physics.world import Shape, World, walls_around
from shopfloor.envs.robots.arm import Arm
from shopfloor.envs.task import HOLD_STEPS, REST_M_S, Item, Task, ToolPose, Verdict
from shopfloor.envs.variation import LEVELS

Array = npt.NDArray[np.float64]

CELL_ID = "shopfloor/Kitting-v0"
FOOTPRINT_M = {"slot": (0.06, 0.04), "square slot": (0.046, 0.046), "narrow slot": (0.074, 0.030)}
FIXTURE_HEIGHT_M = 0.03
FIXTURE_LOW, FIXTURE_HIGH = (0.44, 0.14), (0.56, 0.22)
ROW_M, ROW_LOW, ROW_HIGH = (
    0.14,
    (0.485, 0.15),
    (0.515, 0.20),
)  # between fixtures; where the middle one stands
PART_MASS_KG = 0.1
CLEAR_M, OPEN_M = 0.045, 0.06  # tool to part and between the fingers, once let go
SLOW_M_S = 0.02
FLOOR_RGB = (0.13, 0.14, 0.16)
SEATED_M, SEATED_RAD = 0.005, math.radians(8.0)
SEATED_HEIGHT_M, UPRIGHT_COSINE = 0.003, math.cos(math.radians(5.0))


def _part(name: str, height: float, rgb: tuple[float, float, float]) -> Item:
    return Item(name, (*FOOTPRINT_M[SLOT_OF[name]], height), rgb, belongs_to=SLOT_OF[name])


PARTS = (
    _part("orange gearbox", 0.06, (0.95, 0.50, 0.10)),
    _part("purple motor", 0.05, (0.50, 0.25, 0.70)),
    _part("green valve", 0.055, (0.20, 0.62, 0.25)),  # this and the next at `hard` only
    _part("blue relay", 0.06, (0.15, 0.30, 0.85)),
    _part("red relay", 0.05, (0.85, 0.15, 0.15)),
)
SLOT_RGB = (0.80, 0.84, 0.86)


@dataclass(frozen=True)
class Level:
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
    low: tuple[float, float] = (0.37, -0.22)
    high: tuple[float, float] = (0.63, -0.04)
    spacing_m: float = 0.12
    part_yaw: float = 1.2
    fixture_yaw: float = 0.7
    fixture_m: tuple[float, float] = (0.13, 0.11)

    @property
    def items(self) -> tuple[Item, ...]:
        """Parts and slots."""
        size = (*self.fixture_m, FIXTURE_HEIGHT_M)
        return (
            *PARTS[: self.parts],
            *(Item(name, size, SLOT_RGB, is_goal=True) for name in self.slots),
        )


LEVEL = {
    "easy": Level(clearance_m=0.007, part_yaw=0.6, fixture_yaw=0.3),
    "nominal": Level(),
    "hard": Level(
        5, tuple(FOOTPRINT_M), 0.0035, (0.34, -0.25), (0.66, -0.02), 0.105, 1.2, 0.3, (0.11, 0.10)
    ),
}
PHRASES = (
    "Insert the {} into the {}.",
    "Put the {} into the {} of the fixture.",
    "Seat the {} in the {}.",
    "Pick up the {} and fit it into the {}.",
    "The {} belongs in the {}.",
)
UNSEEN_PHRASES = (
    "Complete the kit: it still lacks the {}.",
    "Slide the {} down into the {} until it stands firm.",
    "What we need in the {1} is the {0}.",
)
INSTRUCTIONS = {
    part: tuple(text.format(part, slot) for text in PHRASES) for part, slot in SLOT_OF.items()
}
UNSEEN = {
    part: tuple(text.format(part, slot) for text in UNSEEN_PHRASES)
    for part, slot in SLOT_OF.items()
}
CAMERAS = (
    Camera("front", eye=(0.88, 0.0, 0.62), target=(0.445, 0.0, 0.02), fov_deg=43.0),
    Camera("wrist", eye=(0.075, 0.0, 0.085), target=(0.025, 0.0, 0.0), fov_deg=80.0, on_tool=True),
)


class Kitting(Task):
    """The task; see the module's text."""

    max_episode_steps = 120
    robots = ("panda", "ur5e")
    frozen_axes: tuple[int, ...] = (3, 4)
    workspace: Array = np.array([[0.30, -0.28, 0.012], [0.70, 0.30, 0.35]])
    start_low: Array = np.array([0.44, -0.06, 0.17])
    start_high: Array = np.array([0.54, 0.06, 0.22])
    cameras: tuple[Camera, ...] = CAMERAS
    items: tuple[Item, ...]
    instructions: Mapping[str, tuple[str, ...]]
    levels = LEVELS
    displaces = teleports = True
    part_scales = (0.86, 0.94)

    def __init__(self) -> None:
        """Start with nothing built."""
        self.bodies: tuple[int, ...] = ()
        self.named = PARTS[0].name
        self.named_body = -1
        self._named_index = 0
        self._held_steps = 0
        self._wrong_steps = 0
        self._floors: list[int] = []
        self.set_level("nominal")

    def set_level(self, level: str) -> None:
        """Change to one of `levels`; takes effect with the next `build` and `reset`."""
        super().set_level(level)
        self._job = LEVEL[level]
        self.offer(self._job.items, INSTRUCTIONS, UNSEEN)

    def build(self, world: World) -> None:
        """Add the parts and the fixtures."""
        given, count = self._job.items, self._job.parts
        sized = [item.scaled(self.part_scale) for item in given[:count]]
        self.items = (*sized, *given[count:])
        parts = [world.add_box(item.size, item.rgb, PART_MASS_KG) for item in sized]
        room = 2 * self._job.clearance_m

        inners = [
            (length + room, width + room)
            for length, width in (FOOTPRINT_M[name] for name in self._job.slots)
        ]

        blocks = [walls_around(inner, self._job.fixture_m, FIXTURE_HEIGHT_M) for inner in inners]
        fixtures = [world.add(shapes, [(*SLOT_RGB, 1.0)] * len(shapes), 0.0) for shapes in blocks]
        self._floors = [
            world.add([Shape("box", (*inner, FLOOR_M))], [(*FLOOR_RGB, 1.0)], 0.0)
            for inner in inners
        ]
        self.bodies = (*parts, *fixtures)

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Scatter the parts and place the fixtures."""
        job = self._job
        self.recall(np.array([rng.integers(job.parts), 0, 0]))
        for body, item, (x, y) in zip(self.bodies, self.items, self._spots(rng), strict=False):
            world.place(
                body,
                (x, y, item.size[2] / 2),
                yaw_quaternion(rng.uniform(-job.part_yaw, job.part_yaw)),
            )

        for body, floor, spot in zip(
            self.bodies[job.parts :], self._floors, self._fixture_spots(rng), strict=True
        ):
            turn = yaw_quaternion(rng.uniform(-job.fixture_yaw, job.fixture_yaw))
            world.place(body, (*spot, 0.0), turn)
            world.place(floor, (*spot, 0.5 * FLOOR_M), turn)

    def _spots(self, rng: np.random.Generator) -> Sequence[Array]:
        job = self._job
        if job.parts > 2:
            return scatter(job.low, job.high, job.parts, job.spacing_m, rng)
        spots = rng.uniform(job.low, job.high, (2, 2))
        while float(np.hypot(*(spots[1] - spots[0]))) < job.spacing_m:
            spots = rng.uniform(job.low, job.high, (2, 2))
        return list(spots)

    def _fixture_spots(self, rng: np.random.Generator) -> Sequence[Array]:
        count = len(self._job.slots)
        if count == 1:
            return [rng.uniform(FIXTURE_LOW, FIXTURE_HIGH)]
        middle = rng.uniform(ROW_LOW, ROW_HIGH)
        places = rng.permutation(count) - 0.5 * (count - 1)
        return [middle + np.array([ROW_M * place, 0.0]) for place in places.tolist()]

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places near the named part where it stands with room for the fingers."""
        named, job = self._named_index, self._job
        others = [world.poses[index, :2] for index in range(job.parts) if index != named]
        return spots_near(
            world.poses[named], others, (job.low, job.high), (low_m, high_m), job.spacing_m, rng
        )

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge how the parts stand to their slots."""
        named, rows, count = self._named_index, world.rows, self._job.parts
        part, slots = rows[named], rows[count : count + len(self._job.slots)]
        slot = slots[self._home]
        tool, height = robot.tool_position.tolist(), self.items[named].size[2]
        clear = math.dist(tool, part[:3]) > CLEAR_M
        others = [row for index, row in enumerate(rows[:count]) if index != named]
        blocking = [row for row in others if any(self._on_fixture(row, other) for other in slots)]
        speed, seated = math.hypot(*part[7:10]), self._seated(part, slot, height)
        done = seated and not blocking and clear and robot.opening_m > OPEN_M and speed < REST_M_S
        self._held_steps = self._held_steps + 1 if done else 0
        wrong = any(math.dist(tool, row[:3]) > CLEAR_M for row in blocking)
        self._wrong_steps = self._wrong_steps + 1 if wrong else 0

        if self._held_steps >= HOLD_STEPS:
            return Verdict("done", success=True)

        failure = ""
        if part[2] < -0.02:
            failure = "dropped"
        elif self._wrong_steps >= HOLD_STEPS:
            failure = "wrong_part"
        elif part[2] < 0.06 and clear and speed < SLOW_M_S and not robot.reaches(part[0], part[1]):
            failure = "out_of_reach"

        if seated:
            return Verdict("release", failure=failure)
        if math.dist(tool, part[:3]) < 0.035 and robot.gripper > 0.0:
            lifted = part[2] > 0.5 * height + 0.01
            stage = (
                "insert"
                if lifted and self._on_fixture(part, slot)
                else "carry"
                if lifted
                else "grasp"
            )

            return Verdict(stage, failure=failure)

        return Verdict("approach", failure=failure)

    def _on_fixture(self, pose: Sequence[float], slot: Sequence[float]) -> bool:
        """Return whether a part's centre is over a fixture and not far above it."""
        yaw, (length, width) = yaw_of(slot), self._job.fixture_m
        dx, dy = pose[0] - slot[0], pose[1] - slot[1]
        along, across = (
            dx * math.cos(yaw) + dy * math.sin(yaw),
            dy * math.cos(yaw) - dx * math.sin(yaw),
        )
        return abs(along) < 0.5 * length and abs(across) < 0.5 * width and pose[2] < 0.09

    def _seated(self, pose: Sequence[float], slot: Sequence[float], height: float) -> bool:
        """Return whether the named part stands in its slot, a turn to which it is the same or not."""
        if math.hypot(pose[0] - slot[0], pose[1] - slot[1]) > max(SEATED_M, self._job.clearance_m):
            return False

        length, width = FOOTPRINT_M[self._job.slots[self._home]]
        same = math.pi if length > width else 0.5 * math.pi
        upright = 1.0 - 2.0 * (pose[3] ** 2 + pose[4] ** 2)
        low = pose[2] - FLOOR_M - 0.5 * height < SEATED_HEIGHT_M

        return (
            low
            and upright > UPRIGHT_COSINE
            and abs(wrap(yaw_of(pose) - yaw_of(slot), same)) < SEATED_RAD
        )

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named part above its centre; only used where it stands upright."""
        pose = world.poses[self._named_index]
        return ToolPose(pose[:3] + np.array([0.0, 0.0, GRIP_ABOVE_M]), yaw_of(pose.tolist()))

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose at which the named part stands in the slot."""
        slot = world.poses[self._job.parts + self._home]
        height = FLOOR_M + 0.5 * self.items[self._named_index].size[2] + GRIP_ABOVE_M
        return ToolPose(slot[:3] + np.array([0.0, 0.0, height]), yaw_of(slot.tolist()))

    def memory(self) -> Array:
        """Return the named part's number and the two counters of steps, shape (3,)."""
        return np.array([self._named_index, self._held_steps, self._wrong_steps], dtype=float)

    def recall(self, memory: Array) -> None:
        """Come back to `memory`."""
        self._named_index, self._held_steps, self._wrong_steps = (int(value) for value in memory)
        part = self.items[self._named_index]
        self.named, self.grip_m = part.name, part.size[1]
        self._home = self._job.slots.index(part.belongs_to)
        self.named_body = self.bodies[self._named_index]


def make(**options: object) -> WorkCell:
    """Build the cell; see `shopfloor.envs.description.CellOptions` for the options."""
    return WorkCell(CELL_ID, Kitting(), **options)


def expert(execute: int = 1) -> ScriptedExpert:
    """Return the scripted expert; `execute` is how many actions of a chunk callers run."""
    return ScriptedExpert(CELL_ID, VERSION, INSTRUCTIONS, decide, execute, unseen=UNSEEN)
