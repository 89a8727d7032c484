"""PickToTray: put the part that the instruction names into the tray.

Task: three parts lie on the table; the instruction names one by colour and shape; it goes into the
tray. Randomisation: parts anywhere on 34 x 24 cm at a yaw within +-45 degrees, with room for the
fingers between them; the tray's centre on 16 x 8 cm; the named part; the phrasing; where the tool
starts; light and colours (mildly). Success: the named part, and nothing else, lies in the tray,
slower than 5 mm/s, gripper open and clear, for 0.5 s. Failure: another part in its place
(`wrong_part`), the named part off the table (`dropped`) or left where the tool cannot come
(`out_of_reach`), time (`timeout`). Levels, where they differ from `nominal`: `easy` has yaws within
+-15 degrees, 12 cm between parts instead of 10.5, and a tray of 15 instead of 13 cm; `hard` has
five parts of any yaw, two of them of another's colour or shape, and a tray of 11 cm. Robots: a
`ur5e` reaches 0.70 m, and three starts in a thousand have the named part up to 2 cm further off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.cells.pick_to_tray_expert import VERSION, decide
from shopfloor.envs.experts.scripted import ScriptedExpert
from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.kinematics import yaw_of, yaw_quaternion
from shopfloor.envs.physics.scatter import scatter, spots_near
from shopfloor.envs.physics.world import Shape, World
from shopfloor.envs.robots.arm import Arm
from shopfloor.envs.task import HOLD_STEPS, REST_M_S, Item, Task, ToolPose, Verdict
from shopfloor.envs.variation import LEVELS

Array = npt.NDArray[np.float64]

CELL_ID = "shopfloor/PickToTray-v0"
TRAY_WALL_M, TRAY_HEIGHT_M, TRAY_FLOOR_M = 0.006, 0.028, 0.004
PARTS_LOW, PARTS_HIGH = (0.34, -0.22), (0.68, 0.02)
TRAY_LOW, TRAY_HIGH = (0.43, 0.175), (0.59, 0.255)
PART_MASS_KG = 0.1
CLEAR_M, OPEN_M = 0.045, 0.06  # tool to part and between the fingers, once let go
SLOW_M_S = 0.02

PARTS = (
    Item("red cube", (0.04, 0.04, 0.04), (0.85, 0.15, 0.15)),
    Item("green cylinder", (0.04, 0.04, 0.04), (0.15, 0.65, 0.25)),
    Item("blue bar", (0.06, 0.04, 0.04), (0.15, 0.30, 0.85)),
    Item(
        "red cylinder", (0.04, 0.04, 0.04), (0.85, 0.15, 0.15)
    ),  # this and the next at `hard` only
    Item("green bar", (0.06, 0.04, 0.04), (0.15, 0.65, 0.25)),
)
TRAY_RGB = (0.90, 0.80, 0.45)


@dataclass(frozen=True)
class Level:
    """What differs between levels.

    Attributes:
        parts: how many of PARTS there are.
        spacing_m: least distance between the middles of two parts.
        max_yaw: of parts, rad.
        tray_inner_m: between the walls of the tray.
    """

    parts: int = 3
    spacing_m: float = 0.105
    max_yaw: float = math.pi / 4
    tray_inner_m: float = 0.130

    @property
    def items(self) -> tuple[Item, ...]:
        """Parts and tray."""
        size = (self.tray_inner_m + 2 * TRAY_WALL_M,) * 2 + (TRAY_HEIGHT_M,)
        return (*PARTS[: self.parts], Item("tray", size, TRAY_RGB, is_goal=True))


LEVEL = {
    "easy": Level(spacing_m=0.12, max_yaw=math.pi / 12, tray_inner_m=0.150),
    "nominal": Level(),
    "hard": Level(parts=5, max_yaw=math.pi / 2, tray_inner_m=0.110),
}
PHRASES = (
    "Put the {} into the tray.",
    "Pick up the {} and place it in the tray.",
    "Move the {} to the tray.",
    "The {} belongs in the tray.",
    "Take the {} and drop it into the tray.",
)
UNSEEN_PHRASES = (
    "Get hold of the {} and leave it lying in the tray.",
    "Fill the tray with the {}, nothing else.",
    "I need the {} over there in the tray.",
)
INSTRUCTIONS = {item.name: tuple(text.format(item.name) for text in PHRASES) for item in PARTS}
UNSEEN = {item.name: tuple(text.format(item.name) for text in UNSEEN_PHRASES) for item in PARTS}
CAMERAS = (
    Camera("front", eye=(0.90, 0.04, 0.62), target=(0.455, 0.04, 0.0)),
    Camera("wrist", eye=(0.075, 0.0, 0.085), target=(0.015, 0.0, 0.0), fov_deg=80.0, on_tool=True),
)


class PickToTray(Task):
    """The task; see the module's text."""

    max_episode_steps = 100
    robots = ("panda", "ur5e")
    frozen_axes: tuple[int, ...] = (3, 4)
    workspace: Array = np.array([[0.30, -0.28, 0.012], [0.72, 0.36, 0.35]])
    start_low: Array = np.array([0.44, -0.06, 0.17])
    start_high: Array = np.array([0.54, 0.06, 0.22])
    cameras: tuple[Camera, ...] = CAMERAS
    items: tuple[Item, ...]
    instructions: Mapping[str, tuple[str, ...]]
    levels = LEVELS
    displaces = teleports = True
    part_scales = (0.80, 0.92)

    def __init__(self) -> None:
        """Start with nothing built."""
        self.bodies: tuple[int, ...] = ()
        self.named = PARTS[0].name
        self.named_body = -1
        self._named_index = 0
        self._held_steps = 0
        self._wrong_steps = 0
        self.set_level("nominal")

    def set_level(self, level: str) -> None:
        """Change to one of `levels`; takes effect with the next `build` and `reset`."""
        super().set_level(level)
        self._job = LEVEL[level]
        self.offer(self._job.items, INSTRUCTIONS, UNSEEN)

    def build(self, world: World) -> None:
        """Add the parts and the tray."""
        *given, tray_item = self._job.items
        sized = [item.scaled(self.part_scale) for item in given]
        self.items = (*sized, tray_item)
        self.grip_m = sized[0].size[1]

        parts = [
            world.add(
                [Shape("cylinder" if "cylinder" in item.name else "box", item.size)],
                [(*item.rgb, 1.0)],
                PART_MASS_KG,
            )
            for item in sized
        ]

        inner, wall, height = self._job.tray_inner_m, TRAY_WALL_M, TRAY_HEIGHT_M
        half, outer = 0.5 * (inner + wall), inner + 2 * wall
        shapes = [Shape("box", (outer, outer, TRAY_FLOOR_M), (0.0, 0.0, TRAY_FLOOR_M / 2))]
        shapes += [
            Shape("box", (wall, outer, height), (side * half, 0.0, height / 2)) for side in (-1, 1)
        ]
        shapes += [
            Shape("box", (inner, wall, height), (0.0, side * half, height / 2)) for side in (-1, 1)
        ]
        tray = world.add(shapes, [(*TRAY_RGB, 1.0)] * len(shapes), 0.0)
        self.bodies = (*parts, tray)

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Scatter the parts and place the tray."""
        job = self._job
        self.recall(np.array([rng.integers(job.parts), 0, 0]))
        spots = scatter(PARTS_LOW, PARTS_HIGH, job.parts, job.spacing_m, rng)
        for body, item, (x, y) in zip(self.bodies, self.items, spots, strict=False):
            yaw = rng.uniform(-job.max_yaw, job.max_yaw)
            world.place(body, (x, y, item.size[2] / 2), yaw_quaternion(yaw))
        world.place(self.bodies[-1], (*rng.uniform(TRAY_LOW, TRAY_HIGH), 0.0))

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places near the named part where it fits with room for the fingers."""
        named = self._named_index
        others = [world.poses[index, :2] for index in range(self._job.parts) if index != named]
        rectangle = (PARTS_LOW, PARTS_HIGH)
        return spots_near(
            world.poses[named], others, rectangle, (low_m, high_m), self._job.spacing_m, rng
        )

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge where the parts lie."""
        named, count = self._named_index, self._job.parts
        poses, inner = world.rows, self._job.tray_inner_m
        tool = robot.tool_position.tolist()
        part, tray = poses[named], poses[count]
        inside = [pose for pose in poses[:count] if _in_tray(pose, tray, inner)]
        away, speed = math.dist(tool, part[:3]), math.hypot(*part[7:10])
        clear = away > CLEAR_M
        done = inside == [part] and clear and robot.opening_m > OPEN_M and speed < REST_M_S
        wrong = any(pose is not part and math.dist(tool, pose[:3]) > CLEAR_M for pose in inside)
        self._held_steps = self._held_steps + 1 if done else 0
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

        if part in inside:
            return Verdict("release", failure=failure)
        if away < 0.03 and robot.gripper > 0.0:
            return Verdict("carry" if part[2] > 0.03 else "grasp", failure=failure)
        return Verdict("approach", failure=failure)

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named part; only used where it stands upright."""
        pose = world.poses[self._named_index]
        return ToolPose(pose[:3].copy(), yaw_of(pose))

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose above the tray's middle where parts are let go."""
        return ToolPose(world.poses[self._job.parts, :3] + [0.0, 0.0, 0.04], 0.0)

    def memory(self) -> Array:
        """Return the named part's number and the two counters of steps, shape (3,)."""
        return np.array([self._named_index, self._held_steps, self._wrong_steps], dtype=float)

    def recall(self, memory: Array) -> None:
        """Come back to `memory`."""
        self._named_index, self._held_steps, self._wrong_steps = (int(value) for value in memory)
        self.named = self.items[self._named_index].name
        self.named_body = self.bodies[self._named_index]


def _in_tray(pose: Sequence[float], tray: Sequence[float], inner_m: float) -> bool:
    reach = 0.5 * inner_m
    return abs(pose[0] - tray[0]) < reach and abs(pose[1] - tray[1]) < reach and pose[2] < 0.045


def make(**options: object) -> WorkCell:
    """Build the cell; see `shopfloor.envs.description.CellOptions` for the options."""
    return WorkCell(CELL_ID, PickToTray(), **options)


def expert(execute: int = 1) -> ScriptedExpert:
    """Return the scripted expert; `execute` is how many actions of a chunk callers run."""
    return ScriptedExpert(CELL_ID, VERSION, INSTRUCTIONS, decide, execute, unseen=UNSEEN)
