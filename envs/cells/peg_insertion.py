"""PegInsertion: push the peg that the instruction names into a square hole with 1 mm of room on each side.

Task: three square pegs of the same size stand on the table; the instruction names one by its
colour; it goes into the hole of a block. The rim of the hole is a plain edge, without a chamfer.
Half and quarter turns of a peg make no difference. Randomisation: pegs anywhere on 30 x 26 cm,
turned, with room for the fingers between them; the block's centre on 16 x 6 cm at a yaw within
+-0.5 rad; the named peg; the phrasing; where the tool starts; light and colours (mildly). Success:
the named peg stands in the hole, at least 80 % of the hole's depth below its rim and within 3
degrees of upright, slower than 5 mm/s, no other peg in the hole, gripper open and clear, for 0.5 s.
Failure: another peg in the hole (`wrong_part`), the named peg off the table or lying where a tool
that points down cannot stand it up again (`dropped`) or left where the tool cannot come
(`out_of_reach`), time (`timeout`). Levels, where they differ from `nominal`: at `easy` there are 2
mm of room on each side and the block turns by no more than 0.25 rad; at `hard` 0.5 mm on each side,
in a hole of 36 instead of 30 mm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.cells.peg_insertion_expert import (
    FLOOR_M,
    GRIP_ABOVE_M,
    SAME_TURN,
    VERSION,
    decide,
)
from shopfloor.envs.experts.scripted import ScriptedExpert
from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.kinematics import uprightness, yaw_of, yaw_quaternion
from shopfloor.envs.physics.scatter import scatter, spots_near
from shopfloor.envs.physics.world import Shape, World, walls_around
from shopfloor.envs.robots.arm import Arm
from shopfloor.envs.task import HOLD_STEPS, REST_M_S, Item, Task, ToolPose, Verdict
from shopfloor.envs.variation import LEVELS

Array = npt.NDArray[np.float64]

CELL_ID = "shopfloor/PegInsertion-v0"
PEG_M, PEG_HEIGHT_M = 0.030, 0.080
BLOCK_M = 0.090
PEGS_LOW, PEGS_HIGH = (0.35, -0.22), (0.65, 0.04)
BLOCK_LOW, BLOCK_HIGH = (0.42, 0.17), (0.58, 0.23)
SPACING_M = 0.105
PEG_MASS_KG = 0.1
CLEAR_M, OPEN_M = 0.050, 0.060  # tool to peg and between the fingers, once let go
SLOW_M_S = 0.02
INSERTED, UPRIGHT_COSINE = 0.8, math.cos(math.radians(3.0))
LYING_COSINE = math.cos(math.radians(45.0))
FLOOR_RGB = (0.10, 0.11, 0.13)

PEGS = (
    Item("orange peg", (PEG_M, PEG_M, PEG_HEIGHT_M), (0.95, 0.50, 0.10)),
    Item("green peg", (PEG_M, PEG_M, PEG_HEIGHT_M), (0.20, 0.62, 0.25)),
    Item("blue peg", (PEG_M, PEG_M, PEG_HEIGHT_M), (0.15, 0.30, 0.85)),
)
BLOCK_RGB = (0.80, 0.84, 0.86)
PHRASES = (
    "Insert the {} into the hole.",
    "Put the {} into the hole of the block.",
    "Push the {} into the square hole.",
    "Pick up the {} and insert it into the block.",
    "The {} belongs in the hole.",
)
UNSEEN_PHRASES = (
    "Plug the block's opening with the {}.",
    "Lower the {} down the hole until it stands on the bottom.",
    "Only the {} fits our plan: sink it in the block.",
)
INSTRUCTIONS = {item.name: tuple(text.format(item.name) for text in PHRASES) for item in PEGS}
UNSEEN = {item.name: tuple(text.format(item.name) for text in UNSEEN_PHRASES) for item in PEGS}
CAMERAS = (
    Camera("front", eye=(0.88, 0.005, 0.62), target=(0.455, 0.005, 0.0), fov_deg=46.0),
    Camera("wrist", eye=(0.085, 0.0, 0.085), target=(0.02, 0.0, 0.0), fov_deg=80.0, on_tool=True),
)


@dataclass(frozen=True)
class Level:
    """What differs between levels.

    Attributes:
        clearance_m: on each side of a peg of the usual size.
        depth_m: of the hole.
        block_yaw: largest, rad.
    """

    clearance_m: float = 0.001
    depth_m: float = 0.030
    block_yaw: float = 0.5

    @property
    def hole_m(self) -> float:
        """Edge of the hole."""
        return PEG_M + 2 * self.clearance_m

    @property
    def height_m(self) -> float:
        """Of the block."""
        return FLOOR_M + self.depth_m

    @property
    def block(self) -> Item:
        """The goal."""
        return Item("hole", (BLOCK_M, BLOCK_M, self.height_m), BLOCK_RGB, is_goal=True)


LEVEL = {
    "easy": Level(clearance_m=0.002, block_yaw=0.25),
    "nominal": Level(),
    "hard": Level(clearance_m=0.0005, depth_m=0.036),
}


class PegInsertion(Task):
    """The task; see the module's text."""

    max_episode_steps = 120
    robots = ("panda", "ur5e")
    frozen_axes: tuple[int, ...] = (3, 4)
    workspace: Array = np.array([[0.30, -0.28, 0.012], [0.70, 0.32, 0.35]])
    start_low: Array = np.array([0.44, -0.06, 0.17])
    start_high: Array = np.array([0.54, 0.06, 0.22])
    cameras: tuple[Camera, ...] = CAMERAS
    items: tuple[Item, ...]
    instructions: Mapping[str, tuple[str, ...]] = INSTRUCTIONS
    unseen_instructions: Mapping[str, tuple[str, ...]] = UNSEEN
    levels = LEVELS
    displaces = teleports = True
    part_scales = (0.85, 0.95)  # of the length: a peg as thick fits

    def __init__(self) -> None:
        """Start with nothing built."""
        self.bodies: tuple[int, ...] = ()
        self.named = PEGS[0].name
        self.named_body = -1
        self._named_index = 0
        self._held_steps = 0
        self._wrong_steps = 0
        self._floor = -1
        self.set_level("nominal")
        self.present = np.ones(len(self.items), dtype=bool)

    def set_level(self, level: str) -> None:
        """Change to one of `levels`; takes effect with the next `build` and `reset`."""
        super().set_level(level)
        self._job = LEVEL[level]
        self.items = (*PEGS, self._job.block)

    def build(self, world: World) -> None:
        """Add three pegs and the block: four boxes around the hole, and its dark floor."""
        sized = [
            replace(item, size=(PEG_M, PEG_M, PEG_HEIGHT_M * self.part_scale)) for item in PEGS
        ]
        self.items = (*sized, self._job.block)
        self.grip_m, _, self._long = sized[0].size
        pegs = [world.add_box(item.size, item.rgb, PEG_MASS_KG) for item in sized]
        hole, height = self._job.hole_m, self._job.height_m
        shapes = walls_around((hole, hole), (BLOCK_M, BLOCK_M), height)
        block = world.add(shapes, [(*BLOCK_RGB, 1.0)] * len(shapes), 0.0)
        self._floor = world.add([Shape("box", (hole, hole, FLOOR_M))], [(*FLOOR_RGB, 1.0)], 0.0)
        self.bodies = (*pegs, block)

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Scatter the pegs and place the block."""
        self.recall(np.array([rng.integers(3), 0, 0]))
        spots = scatter(PEGS_LOW, PEGS_HIGH, 3, SPACING_M, rng)
        for body, (x, y) in zip(self.bodies, spots, strict=False):
            world.place(
                body, (x, y, 0.5 * self._long), yaw_quaternion(rng.uniform(-0.5, 0.5) * SAME_TURN)
            )

        x, y = rng.uniform(BLOCK_LOW, BLOCK_HIGH)
        turn = yaw_quaternion(rng.uniform(-self._job.block_yaw, self._job.block_yaw))
        world.place(self.bodies[3], (x, y, 0.0), turn)
        world.place(self._floor, (x, y, 0.5 * FLOOR_M), turn)

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places near the named peg where it stands with room for the fingers."""
        named = self._named_index
        others = [world.poses[index, :2] for index in range(3) if index != named]
        rectangle = (PEGS_LOW, PEGS_HIGH)
        return spots_near(world.poses[named], others, rectangle, (low_m, high_m), SPACING_M, rng)

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge how the pegs stand to the hole."""
        named, rows = self._named_index, world.rows
        peg, block = rows[named], rows[3]
        tool = robot.tool_position.tolist()
        clear = [math.dist(tool, row[:3]) > CLEAR_M for row in rows[:3]]
        depths = [self._depth(row, block) for row in rows[:3]]
        others = [index for index in range(3) if index != named and depths[index] > 0.0]
        speed, upright = math.hypot(*peg[7:10]), abs(uprightness(peg))
        inserted = depths[named] >= INSERTED * self._job.depth_m and upright > UPRIGHT_COSINE

        done = (
            inserted
            and not others
            and clear[named]
            and robot.opening_m > OPEN_M
            and speed < REST_M_S
        )

        self._held_steps = self._held_steps + 1 if done else 0
        self._wrong_steps = self._wrong_steps + 1 if any(clear[index] for index in others) else 0
        if self._held_steps >= HOLD_STEPS:
            return Verdict("done", success=True)

        failure = ""
        left = peg[2] < 0.5 * self._long + 0.02 and clear[named] and speed < SLOW_M_S
        if peg[2] < -0.02 or (left and upright < LYING_COSINE):
            failure = "dropped"
        elif self._wrong_steps >= HOLD_STEPS:
            failure = "wrong_part"
        elif left and not robot.reaches(peg[0], peg[1]):
            failure = "out_of_reach"

        if inserted:
            return Verdict("release", failure=failure)
        if math.dist(tool, peg[:3]) < 0.035 and robot.gripper > 0.0:
            lifted = peg[2] > 0.5 * self._long + 0.01
            stage = "insert" if depths[named] > 0.0 else "carry" if lifted else "grasp"
            return Verdict(stage, failure=failure)

        return Verdict("approach", failure=failure)

    def _depth(self, pose: Sequence[float], block: Sequence[float]) -> float:
        """Return how far the middle of a peg's lower end is below the rim, m; 0 where it is not in the hole."""
        x, y, z, w = pose[3:7]
        axis = (2.0 * (x * z + y * w), 2.0 * (y * z - x * w), 1.0 - 2.0 * (x * x + y * y))
        half = math.copysign(0.5 * self._long, axis[2])
        dx, dy, low = (pose[index] - half * axis[index] - block[index] for index in range(3))
        yaw = yaw_of(block)

        along, across = (
            dx * math.cos(yaw) + dy * math.sin(yaw),
            dy * math.cos(yaw) - dx * math.sin(yaw),
        )

        inside = abs(along) < 0.5 * self._job.hole_m and abs(across) < 0.5 * self._job.hole_m
        return max(0.0, self._job.height_m - low) if inside else 0.0

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named peg above its middle; only used where it stands upright."""
        pose = world.poses[self._named_index]
        return ToolPose(pose[:3] + np.array([0.0, 0.0, GRIP_ABOVE_M]), yaw_of(pose.tolist()))

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose at which the named peg stands in the hole."""
        block = world.poses[3]
        height = FLOOR_M + 0.5 * self._long + GRIP_ABOVE_M
        return ToolPose(block[:3] + np.array([0.0, 0.0, height]), yaw_of(block.tolist()))

    def memory(self) -> Array:
        """Return the named peg's number and the two counters of steps, shape (3,)."""
        return np.array([self._named_index, self._held_steps, self._wrong_steps], dtype=float)

    def recall(self, memory: Array) -> None:
        """Come back to `memory`."""
        self._named_index, self._held_steps, self._wrong_steps = (int(value) for value in memory)
        self.named = self.items[self._named_index].name
        self.named_body = self.bodies[self._named_index]


def make(**options: object) -> WorkCell:
    """Build the cell; see `shopfloor.envs.description.CellOptions` for the options."""
    return WorkCell(CELL_ID, PegInsertion(), **options)


def expert(execute: int = 1) -> ScriptedExpert:
    """Return the scripted expert; `execute` is how many actions of a chunk callers run."""
    return ScriptedExpert(CELL_ID, VERSION, INSTRUCTIONS, decide, execute, unseen=UNSEEN)
