"""ConveyorSort: take the part that the instruction names off a moving belt and drop it into its own bin.

Task: three parts of three classes ride on a belt towards the robot; the instruction names one; it
goes into the bin of its colour. Observations hold no speeds. Randomisation: belt speed 0.03-0.09
m/s; order, spacing and place of the parts (the named one stays in reach for at least 3.2 s), up to
2 cm off the belt's middle at a yaw within +-30 degrees (the can, round, at 0); the row of bins on 4
x 6 cm; the named part; the phrasing; where the tool starts; light and colours (mildly). Success:
the named part, and nothing else, lies in its bin, slower than 5 mm/s, gripper open and clear, for
0.5 s. Failure: a part in a bin that is not its own or not asked for (`wrong_part`), the named part
past the belt's end or where the tool cannot come (`out_of_reach`) or off the table (`dropped`),
time (`timeout`). Levels, where they differ from `nominal`: `easy` has a belt of 0.02-0.05 m/s and
yaws within +-10 degrees; `hard` has 0.1-0.3 m/s and five parts, two of them of another's colour or
shape; they come from further up a longer belt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.cells.conveyor_sort_expert import BIN_OF, VERSION, decide
from shopfloor.envs.experts.scripted import ScriptedExpert
from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.kinematics import yaw_of, yaw_quaternion
from shopfloor.envs.physics.world import UPRIGHT, Shape, World
from shopfloor.envs.robots.arm import Arm
from shopfloor.envs.task import HOLD_STEPS, REST_M_S, Item, Task, ToolPose, Verdict
from shopfloor.envs.variation import LEVELS

Array = npt.NDArray[np.float64]

CELL_ID = "shopfloor/ConveyorSort-v0"
BELT_END_M, BELT_Y_M, BELT_WIDTH_M, BELT_TOP_M = 0.28, -0.12, 0.17, 0.03
BELT_RGB, FRAME_RGB = (0.20, 0.21, 0.23), (0.62, 0.64, 0.66)
LOST_M = 0.30  # a part this far down the belt is past its end
REACH_M, REACH_S = 0.70, 3.2
AHEAD_M = (
    0.10  # the least range of places of the named part, where the belt is too fast for one in reach
)
FIRST_M = 0.33  # no part starts further down the belt
SPACING_M = (0.11, 0.14)
OFF_MIDDLE_M = 0.02
BIN_INNER_M, BIN_WALL_M, BIN_HEIGHT_M, BIN_FLOOR_M = 0.11, 0.005, 0.05, 0.004
BIN_X_M, BIN_Y_M = (0.37, 0.50, 0.63), 0.15
PART_MASS_KG = 0.1
CLEAR_M, OPEN_M = 0.045, 0.06  # tool to part and between the fingers, once let go
SLOW_M_S = 0.02

_BIN_SIZE = (BIN_INNER_M + 2 * BIN_WALL_M,) * 2 + (BIN_HEIGHT_M,)
RED, GREEN, BLUE = (0.85, 0.15, 0.15), (0.15, 0.65, 0.25), (0.15, 0.30, 0.85)
PARTS = (
    Item("red box", (0.05, 0.04, 0.05), RED, belongs_to="red bin"),
    Item("green can", (0.04, 0.04, 0.055), GREEN, belongs_to="green bin"),
    Item("blue block", (0.07, 0.04, 0.03), BLUE, belongs_to="blue bin"),
    Item(
        "green box", (0.05, 0.04, 0.05), GREEN, belongs_to="green bin"
    ),  # this and the next at `hard` only
    Item("red can", (0.04, 0.04, 0.055), RED, belongs_to="red bin"),
)
BINS = (
    Item("red bin", _BIN_SIZE, (0.95, 0.55, 0.50), is_goal=True),
    Item("green bin", _BIN_SIZE, (0.60, 0.85, 0.60), is_goal=True),
    Item("blue bin", _BIN_SIZE, (0.55, 0.68, 0.95), is_goal=True),
)
BIN_NAMES = [item.name for item in BINS]


@dataclass(frozen=True)
class Level:
    """What differs between levels.

    Attributes:
        parts: how many of PARTS there are.
        speed_m_s: lowest and highest of the belt.
        max_yaw: of parts, rad.
        start_m: where the belt starts.
        last_m: no part starts further up the belt.
    """

    parts: int = 3
    speed_m_s: tuple[float, float] = (0.03, 0.09)
    max_yaw: float = math.pi / 6
    start_m: float = 0.90
    last_m: float = 0.80

    @property
    def items(self) -> tuple[Item, ...]:
        """Parts and bins."""
        return (*PARTS[: self.parts], *BINS)


LEVEL = {
    "easy": Level(speed_m_s=(0.02, 0.05), max_yaw=math.pi / 18),
    "nominal": Level(),
    "hard": Level(parts=5, speed_m_s=(0.10, 0.30), start_m=1.70, last_m=1.60),
}
PHRASES = (
    "Pick the {} off the belt and drop it into its bin.",
    "Sort the {} into its bin.",
    "Take the {} from the conveyor and put it into the bin of its colour.",
    "Catch the {} on the belt; it belongs in the {}.",
    "Move the {} from the moving belt to the {}.",
)
UNSEEN_PHRASES = (
    "Do not let the {} ride past; into the {} with it.",
    "Separate the {} from the rest that comes along.",
    "The {1} is waiting for the {0}.",
)
INSTRUCTIONS = {
    part: tuple(text.format(part, bin_) for text in PHRASES) for part, bin_ in BIN_OF.items()
}
UNSEEN = {
    part: tuple(text.format(part, bin_) for text in UNSEEN_PHRASES) for part, bin_ in BIN_OF.items()
}
CAMERAS = (
    Camera("front", eye=(0.98, 0.01, 0.64), target=(0.555, 0.01, 0.0), fov_deg=45.0),
    Camera("wrist", eye=(0.075, 0.0, 0.085), target=(0.025, 0.0, 0.0), fov_deg=80.0, on_tool=True),
)


class ConveyorSort(Task):
    """The task; see the module's text."""

    max_episode_steps = 120
    robots = ("panda", "ur5e")
    frozen_axes: tuple[int, ...] = (3, 4)
    workspace: Array = np.array([[0.28, -0.24, 0.012], [0.74, 0.28, 0.35]])
    start_low: Array = np.array([0.44, -0.06, 0.16])
    start_high: Array = np.array([0.54, 0.06, 0.21])
    cameras: tuple[Camera, ...] = CAMERAS
    items: tuple[Item, ...]
    instructions: Mapping[str, tuple[str, ...]]
    levels = LEVELS
    moves = displaces = teleports = True
    part_scales = (0.85, 0.94)

    def __init__(self) -> None:
        """Start with nothing built."""
        self.bodies: tuple[int, ...] = ()
        self.named = PARTS[0].name
        self.named_body = -1
        self._named_index = 0
        self._held_steps = 0
        self._wrong_steps = 0
        self._speed_m_s = 0.0
        self._belt = -1
        self.set_level("nominal")

    def set_level(self, level: str) -> None:
        """Change to one of `levels`; takes effect with the next `build` and `reset`."""
        super().set_level(level)
        self._job = LEVEL[level]
        self.offer(self._job.items, INSTRUCTIONS, UNSEEN)

    def build(self, world: World) -> None:
        """Add the parts, the bins and the conveyor: a belt between two rails."""
        given, scale = PARTS[: self._job.parts], self.part_scale
        sized = [item.scaled(scale) for item in given]
        self.items = (*sized, *BINS)
        self.grip_m = sized[0].size[1]
        self.bodies = tuple(
            _add_bin(world, item) if item.is_goal else _add_part(world, item) for item in self.items
        )
        length = self._job.start_m - BELT_END_M
        self._belt = world.add(
            [Shape("box", (length, BELT_WIDTH_M, BELT_TOP_M))], [(*BELT_RGB, 1.0)], 0.0
        )
        rail, height = 0.01, BELT_TOP_M + 0.004
        side = 0.5 * (BELT_WIDTH_M + rail)
        rails = [Shape("box", (length, rail, height), (0.0, sign * side, 0.0)) for sign in (-1, 1)]
        frame = world.add(rails, [(*FRAME_RGB, 1.0)] * 2, 0.0)
        middle = 0.5 * (self._job.start_m + BELT_END_M)
        world.place(self._belt, (middle, BELT_Y_M, 0.5 * BELT_TOP_M))
        world.place(frame, (middle, BELT_Y_M, 0.5 * height))

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Draw the belt's speed, spread the parts along it and place the bins."""
        job = self._job
        speed = rng.uniform(*job.speed_m_s)
        self.recall(np.array([rng.integers(job.parts), 0, 0, speed]))
        nearest = LOST_M + speed * REACH_S
        first = last = rng.uniform(nearest, max(REACH_M, nearest + AHEAD_M))
        along = {self._named_index: first}

        for index in rng.permutation(job.parts).tolist():
            if index == self._named_index:
                continue

            gap, ahead = rng.uniform(*SPACING_M), rng.uniform() < 0.5
            if (ahead or last + gap > job.last_m) and first - gap > FIRST_M:
                along[index] = first = first - gap
            else:
                along[index] = last = last + gap

        for index in range(job.parts):
            yaw = 0.0 if "can" in self.items[index].name else rng.uniform(-job.max_yaw, job.max_yaw)
            y = BELT_Y_M + rng.uniform(-OFF_MIDDLE_M, OFF_MIDDLE_M)
            z = BELT_TOP_M + 0.5 * self.items[index].size[2]
            turn = yaw_quaternion(yaw)
            world.place(
                self.bodies[index], (along[index], y, z), turn, (-speed, 0.0, 0.0, 0.0, 0.0, 0.0)
            )

        shift_x, shift_y = rng.uniform(-0.02, 0.02), rng.uniform(-0.03, 0.03)
        for body, x in zip(self.bodies[job.parts :], BIN_X_M, strict=True):
            world.place(body, (x + shift_x, BIN_Y_M + shift_y, 0.0))

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places on the belt near the named part, clear of the other parts and of the belt's end."""
        named = self._named_index
        pose = world.poses[named].copy()
        others = [world.poses[index, :2] for index in range(self._job.parts) if index != named]
        spots = []

        for _ in range(24):
            angle, distance = rng.uniform(-math.pi, math.pi), rng.uniform(low_m, high_m)
            spot = pose.copy()
            spot[:2] += distance * np.array([math.cos(angle), math.sin(angle)])
            inside = LOST_M + 0.04 < spot[0] < REACH_M + 0.02 and abs(spot[1] - BELT_Y_M) < 0.04

            if inside and all(
                float(np.hypot(*(spot[:2] - other))) > SPACING_M[0] - 0.02 for other in others
            ):
                spots.append(spot)

        return spots

    def before_substep(self, world: World) -> None:
        """Let the belt carry what lies on it: a body that has a speed but is put back where it was."""
        middle = 0.5 * (self._job.start_m + BELT_END_M)
        velocity = (-self._speed_m_s, 0.0, 0.0, 0.0, 0.0, 0.0)
        world.place(self._belt, (middle, BELT_Y_M, 0.5 * BELT_TOP_M), UPRIGHT, velocity)

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge where the parts lie."""
        named, home, rows, count = self._named_index, self._home, world.rows, self._job.parts
        part, tool = rows[named], robot.tool_position.tolist()
        bins = [_bin_of(row, rows[count : count + 3]) for row in rows[:count]]
        clear = [math.dist(tool, row[:3]) > CLEAR_M for row in rows[:count]]
        speed = math.hypot(*part[7:10])
        done = bins[named] == home and bins.count(home) == 1
        done = done and clear[named] and robot.opening_m > OPEN_M and speed < REST_M_S
        self._held_steps = self._held_steps + 1 if done else 0

        astray = [
            index
            for index in range(count)
            if bins[index] >= 0 and not (index == named and bins[index] == home)
        ]

        wrong = any(clear[index] for index in astray)
        self._wrong_steps = self._wrong_steps + 1 if wrong else 0
        if self._held_steps >= HOLD_STEPS:
            return Verdict("done", success=True)

        failure = ""
        if part[2] < -0.02:
            failure = "dropped"
        elif self._wrong_steps >= HOLD_STEPS:
            failure = "wrong_part"
        elif clear[named] and self._lost(part, speed, robot):
            failure = "out_of_reach"

        if bins[named] == home:
            return Verdict("release", failure=failure)
        if math.dist(tool, part[:3]) < 0.03 and robot.gripper > 0.0:
            return Verdict("carry" if part[2] > BELT_TOP_M + 0.04 else "grasp", failure=failure)
        return Verdict("approach", failure=failure)

    def _lost(self, part: Sequence[float], speed: float, robot: Arm) -> bool:
        """Return whether a part is past the belt's end, or at rest where the tool cannot come."""
        past = part[0] < LOST_M and part[2] < BELT_TOP_M + 0.04
        return past or (
            part[2] < BELT_TOP_M and speed < SLOW_M_S and not robot.reaches(part[0], part[1])
        )

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named part across the belt; only used where it stands upright."""
        pose = world.poses[self._named_index]
        return ToolPose(pose[:3].copy(), yaw_of(pose))

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose above the middle of the named part's bin."""
        return ToolPose(world.poses[self._job.parts + self._home, :3] + [0.0, 0.0, 0.065], 0.0)

    def memory(self) -> Array:
        """Return the named part's number, the two counters of steps and the belt's speed (m/s), shape (4,)."""
        return np.array(
            [self._named_index, self._held_steps, self._wrong_steps, self._speed_m_s], dtype=float
        )

    def recall(self, memory: Array) -> None:
        """Come back to `memory`."""
        self._named_index, self._held_steps, self._wrong_steps = (
            int(value) for value in memory[:3]
        )
        self._speed_m_s = float(memory[3])
        self.named = self.items[self._named_index].name
        self._home = BIN_NAMES.index(BIN_OF[self.named])
        self.named_body = self.bodies[self._named_index]


def _add_part(world: World, item: Item) -> int:
    kind = "cylinder" if "can" in item.name else "box"
    return world.add([Shape(kind, item.size)], [(*item.rgb, 1.0)], PART_MASS_KG)


def _add_bin(world: World, item: Item) -> int:
    outer, _, height = item.size
    half = 0.5 * (BIN_INNER_M + BIN_WALL_M)
    shapes = [Shape("box", (outer, outer, BIN_FLOOR_M), (0.0, 0.0, BIN_FLOOR_M / 2))]

    shapes += [
        Shape("box", (BIN_WALL_M, outer, height), (side * half, 0.0, height / 2))
        for side in (-1, 1)
    ]

    shapes += [
        Shape("box", (BIN_INNER_M, BIN_WALL_M, height), (0.0, side * half, height / 2))
        for side in (-1, 1)
    ]

    return world.add(shapes, [(*item.rgb, 1.0)] * len(shapes), 0.0)


def _bin_of(pose: Sequence[float], bins: Sequence[Sequence[float]]) -> int:
    """Return the number of the bin that a part is in, or -1."""
    reach = 0.5 * BIN_INNER_M
    for number, middle in enumerate(bins):
        if (
            abs(pose[0] - middle[0]) < reach
            and abs(pose[1] - middle[1]) < reach
            and pose[2] < BIN_HEIGHT_M + 0.005
        ):
            return number
    return -1


def make(**options: object) -> WorkCell:
    """Build the cell; see `shopfloor.envs.description.CellOptions` for the options."""
    return WorkCell(CELL_ID, ConveyorSort(), **options)


def expert(execute: int = 1) -> ScriptedExpert:
    """Return the scripted expert; `execute` is how many actions of a chunk callers run."""
    return ScriptedExpert(CELL_ID, VERSION, INSTRUCTIONS, decide, execute, unseen=UNSEEN)
