"""RingOnShaft: put the ring that the instruction names onto an upright shaft.

Task: three rings of the same size lie flat on the table; the instruction names one by its colour;
it goes onto the shaft, around which its hole leaves 3.5 mm on each side. Which face is up makes no
difference. Randomisation: rings anywhere on 30 x 26 cm, turned, with room for the fingers between
them; the shaft's place on 16 x 6 cm; the named ring; the phrasing; where the tool starts; light and
colours (mildly). Success: the named ring is around the shaft, within 2 mm of its base and 5 degrees
of flat, slower than 5 mm/s, no other ring on the shaft, gripper open and clear, for 0.5 s. Failure:
another ring on the shaft (`wrong_part`), the named ring off the table (`dropped`) or left where the
tool cannot come (`out_of_reach`), time (`timeout`). Levels, where they differ from `nominal`: at
`easy` the hole leaves 5 mm on each side of a shaft of 40 instead of 50 mm; at `hard` 1 mm on each
side of a shaft of 56 mm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.cells.ring_on_shaft_expert import (
    GRIP_ABOVE_M,
    SAME_TURN,
    SIDES,
    VERSION,
    decide,
)
from shopfloor.envs.experts.scripted import ScriptedExpert
from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics import kinematics
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.kinematics import uprightness
from shopfloor.envs.physics.scatter import scatter, spots_near
from shopfloor.envs.physics.world import STEADY_INERTIA, Shape, World
from shopfloor.envs.robots.arm import Arm
from shopfloor.envs.task import HOLD_STEPS, REST_M_S, Item, Task, ToolPose, Verdict
from shopfloor.envs.variation import LEVELS

Array = npt.NDArray[np.float64]

CELL_ID = "shopfloor/RingOnShaft-v0"
OUTER_M, HOLE_M, RING_HEIGHT_M = 0.060, 0.034, 0.024  # across flat sides
# Every fourth side of a ring stands proud of the others, above and below, by more than Bullet takes
# for contact: lying flat it has 12 contact points instead of 48, and a control step costs a third.
SIDES_PER_PAD, PROUD_M = 4, 0.001
BASE_M, BASE_HEIGHT_M = 0.080, 0.010
RINGS_LOW, RINGS_HIGH = (0.35, -0.22), (0.65, 0.04)
SHAFT_LOW, SHAFT_HIGH = (0.42, 0.17), (0.58, 0.23)
SPACING_M = 0.105
RING_MASS_KG = 0.1
CLEAR_M, OPEN_M = 0.045, 0.070  # tool to ring and between the fingers, once let go
SLOW_M_S = 0.02
LOW_M, FLAT_COSINE = 0.002, math.cos(math.radians(5.0))

RINGS = (
    Item("red ring", (OUTER_M, OUTER_M, RING_HEIGHT_M), (0.85, 0.15, 0.15)),
    Item("yellow ring", (OUTER_M, OUTER_M, RING_HEIGHT_M), (0.95, 0.78, 0.12)),
    Item("blue ring", (OUTER_M, OUTER_M, RING_HEIGHT_M), (0.15, 0.30, 0.85)),
)
SHAFT_RGB = (0.84, 0.87, 0.88)
BASE_RGB = (0.20, 0.22, 0.25)
PHRASES = (
    "Put the {} onto the shaft.",
    "Place the {} on the shaft.",
    "Pick up the {} and slide it onto the shaft.",
    "The {} belongs on the shaft.",
    "Fit the {} over the shaft.",
)
UNSEEN_PHRASES = (
    "Thread the shaft through the {}.",
    "Let the {} come down around the shaft.",
    "Of these rings, only the {} should end up on the shaft.",
)
INSTRUCTIONS = {item.name: tuple(text.format(item.name) for text in PHRASES) for item in RINGS}
UNSEEN = {item.name: tuple(text.format(item.name) for text in UNSEEN_PHRASES) for item in RINGS}
CAMERAS = (
    Camera("front", eye=(0.88, 0.005, 0.62), target=(0.455, 0.005, 0.0), fov_deg=46.0),
    Camera("wrist", eye=(0.085, 0.0, 0.085), target=(0.02, 0.0, 0.0), fov_deg=80.0, on_tool=True),
)


@dataclass(frozen=True)
class Level:
    """What differs between levels: the shaft, m."""

    shaft_m: float = 0.027
    shaft_height_m: float = 0.050

    @property
    def shaft(self) -> Item:
        """The goal."""
        return Item(
            "shaft", (self.shaft_m, self.shaft_m, self.shaft_height_m), SHAFT_RGB, is_goal=True
        )


LEVEL = {"easy": Level(0.024, 0.040), "nominal": Level(), "hard": Level(0.032, 0.056)}


class RingOnShaft(Task):
    """The task; see the module's text."""

    max_episode_steps = 110
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
    part_scales = (0.92, 0.97)

    def __init__(self) -> None:
        """Start with nothing built."""
        self.bodies: tuple[int, ...] = ()
        self.named = RINGS[0].name
        self.named_body = -1
        self._named_index = 0
        self._held_steps = 0
        self._wrong_steps = 0
        self._base = -1
        self.set_level("nominal")
        self.present = np.ones(len(self.items), dtype=bool)

    def set_level(self, level: str) -> None:
        """Change to one of `levels`; takes effect with the next `build` and `reset`."""
        super().set_level(level)
        self._job = LEVEL[level]
        self.items = (*RINGS, self._job.shaft)

    def build(self, world: World) -> None:
        """Add three rings, the shaft and its base."""
        scale, goal = self.part_scale, self._job.shaft
        sized = [item.scaled(scale) for item in RINGS]
        self.items = (*sized, goal)
        self.grip_m, _, self._height = sized[0].size
        self._hole = HOLE_M * scale
        rings = [_add_ring(world, item, self._hole) for item in sized]
        shaft = world.add([Shape("cylinder", goal.size)], [(*goal.rgb, 1.0)], 0.0)
        self._base = world.add(
            [Shape("box", (BASE_M, BASE_M, BASE_HEIGHT_M))], [(*BASE_RGB, 1.0)], 0.0
        )
        self.bodies = (*rings, shaft)

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Scatter the rings and place the shaft."""
        self.recall(np.array([rng.integers(3), 0, 0]))
        spots = scatter(RINGS_LOW, RINGS_HIGH, 3, SPACING_M, rng)
        for body, (x, y) in zip(self.bodies, spots, strict=False):
            half_yaw = 0.5 * rng.uniform(-0.5, 0.5) * SAME_TURN
            world.place(
                body, (x, y, 0.5 * self._height), (0.0, 0.0, math.sin(half_yaw), math.cos(half_yaw))
            )

        x, y = rng.uniform(SHAFT_LOW, SHAFT_HIGH)
        world.place(self.bodies[3], (x, y, BASE_HEIGHT_M + 0.5 * self._job.shaft_height_m))
        world.place(self._base, (x, y, 0.5 * BASE_HEIGHT_M))

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places near the named ring where it lies with room for the fingers."""
        named = self._named_index
        others = [world.poses[index, :2] for index in range(3) if index != named]
        rectangle = (RINGS_LOW, RINGS_HIGH)
        return spots_near(world.poses[named], others, rectangle, (low_m, high_m), SPACING_M, rng)

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge how the rings lie to the shaft."""
        named, rows = self._named_index, world.rows
        ring, shaft = rows[named], rows[3]
        tool = robot.tool_position.tolist()
        clear = [math.dist(tool, row[:3]) > CLEAR_M for row in rows[:3]]
        others = [
            index for index in range(3) if index != named and self._on_shaft(rows[index], shaft)
        ]
        speed, seated = math.hypot(*ring[7:10]), self._seated(ring, shaft)
        done = (
            seated and not others and clear[named] and robot.opening_m > OPEN_M and speed < REST_M_S
        )
        self._held_steps = self._held_steps + 1 if done else 0
        self._wrong_steps = self._wrong_steps + 1 if any(clear[index] for index in others) else 0

        if self._held_steps >= HOLD_STEPS:
            return Verdict("done", success=True)

        failure = ""
        if ring[2] < -0.02:
            failure = "dropped"
        elif self._wrong_steps >= HOLD_STEPS:
            failure = "wrong_part"
        elif (
            ring[2] < 0.06
            and clear[named]
            and speed < SLOW_M_S
            and not robot.reaches(ring[0], ring[1])
        ):
            failure = "out_of_reach"

        if seated:
            return Verdict("release", failure=failure)
        if math.dist(tool, ring[:3]) < 0.03 and robot.gripper > 0.0:
            stage = (
                "lower"
                if self._on_shaft(ring, shaft)
                else "carry"
                if ring[2] > self._height
                else "grasp"
            )

            return Verdict(stage, failure=failure)

        return Verdict("approach", failure=failure)

    def _on_shaft(self, pose: Sequence[float], shaft: Sequence[float]) -> bool:
        """Return whether a ring is around the shaft, at any height."""
        off = math.hypot(pose[0] - shaft[0], pose[1] - shaft[1])
        return off < 0.5 * self._hole and pose[2] - shaft[2] < 0.5 * self._job.shaft_height_m

    def _seated(self, pose: Sequence[float], shaft: Sequence[float]) -> bool:
        """Return whether a ring lies flat on the base with the shaft in its hole."""
        if math.hypot(pose[0] - shaft[0], pose[1] - shaft[1]) > around_m(
            self._hole, self._job.shaft_m
        ):
            return False
        flat = abs(uprightness(pose))
        return pose[2] - BASE_HEIGHT_M - 0.5 * self._height < LOW_M and flat > FLAT_COSINE

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named ring above its middle; only used where it lies flat."""
        pose = world.poses[self._named_index]
        rotation = kinematics.matrix(pose[3:])
        yaw = math.atan2(float(rotation[1, 0]), float(rotation[0, 0]))
        return ToolPose(pose[:3] + np.array([0.0, 0.0, GRIP_ABOVE_M]), yaw)

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose at which the named ring lies on the base."""
        x, y, _ = world.poses[3, :3]
        return ToolPose(np.array([x, y, BASE_HEIGHT_M + 0.5 * self._height + GRIP_ABOVE_M]), 0.0)

    def memory(self) -> Array:
        """Return the named ring's number and the two counters of steps, shape (3,)."""
        return np.array([self._named_index, self._held_steps, self._wrong_steps], dtype=float)

    def recall(self, memory: Array) -> None:
        """Come back to `memory`."""
        self._named_index, self._held_steps, self._wrong_steps = (int(value) for value in memory)
        self.named = self.items[self._named_index].name
        self.named_body = self.bodies[self._named_index]


def around_m(hole_m: float, shaft_m: float) -> float:
    """Return how far a ring around a shaft can be off its axis: into a corner of the hole, 0.5 mm to spare."""
    return 0.5 * (hole_m / math.cos(math.pi / SIDES) - shaft_m) + 0.0005


def _add_ring(world: World, item: Item, hole_m: float) -> int:
    """Add a regular ring: one box behind each outer side, which leaves the hole free and overlaps its neighbours."""
    outer, _, thick = item.size
    wall, side = 0.5 * (outer - hole_m), outer * math.tan(math.pi / SIDES)
    middle = 0.25 * (outer + hole_m)
    shapes = []

    for index in range(SIDES):
        angle = index * SAME_TURN
        centre = (middle * math.cos(angle), middle * math.sin(angle), 0.0)
        height = thick - (2 * PROUD_M if index % SIDES_PER_PAD else 0.0)
        shapes.append(Shape("box", (wall, side, height), centre, angle))

    body = world.add(shapes, [(*item.rgb, 1.0)] * SIDES, RING_MASS_KG)
    squares = 0.25 * (outer**2 + hole_m**2)
    about_z = 0.5 * RING_MASS_KG * squares * STEADY_INERTIA
    across = 0.5 * about_z + RING_MASS_KG * thick**2 / 12 * STEADY_INERTIA
    pybullet.changeDynamics(
        body, -1, localInertiaDiagonal=[across, across, about_z], physicsClientId=world.client
    )

    return body


def make(**options: object) -> WorkCell:
    """Build the cell; see `shopfloor.envs.description.CellOptions` for the options."""
    return WorkCell(CELL_ID, RingOnShaft(), **options)


def expert(execute: int = 1) -> ScriptedExpert:
    """Return the scripted expert; `execute` is how many actions of a chunk callers run."""
    return ScriptedExpert(CELL_ID, VERSION, INSTRUCTIONS, decide, execute, unseen=UNSEEN)
