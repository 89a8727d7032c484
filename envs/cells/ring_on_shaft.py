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
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shopfloor.envs.looks.camera import Camera, wrist_camera
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.kinematics import uprightness
from shopfloor.envs.physics.scatter import scatter
from shopfloor.envs.physics.shapes import STEADY_INERTIA, Shape
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

OUTER_M, HOLE_M, RING_HEIGHT_M = 0.060, 0.034, 0.024  # across flat sides
SIDES = 12  # of a ring
SAME_TURN = 2.0 * math.pi / SIDES
# Every fourth side of a ring stands proud of the others, above and below, by more than Bullet takes
# for contact: lying flat it has 12 contact points instead of 48, and a control step costs a third.
SIDES_PER_PAD, PROUD_M = 4, 0.001
BASE_M, BASE_HEIGHT_M = 0.080, 0.010
RINGS_LOW, RINGS_HIGH = (0.35, -0.22), (0.65, 0.04)
SHAFT_LOW, SHAFT_HIGH = (0.42, 0.17), (0.58, 0.23)
SPACING_M = 0.105
RING_MASS_KG = 0.1
GRIP_ABOVE_M = 0.004  # the ring's middle
CLEAR_M, OPEN_M = 0.045, 0.070  # tool to ring and between the fingers, once let go
LOW_M, FLAT_COSINE = 0.002, math.cos(math.radians(5.0))

RINGS = (
    Item("red ring", (OUTER_M, OUTER_M, RING_HEIGHT_M), (0.85, 0.15, 0.15)),
    Item("yellow ring", (OUTER_M, OUTER_M, RING_HEIGHT_M), (0.95, 0.78, 0.12)),
    Item("blue ring", (OUTER_M, OUTER_M, RING_HEIGHT_M), (0.15, 0.30, 0.85)),
)
SHAFT = len(RINGS)  # row of the shaft
SHAFT_RGB, BASE_RGB = (0.84, 0.87, 0.88), (0.20, 0.22, 0.25)


@dataclass(frozen=True)
class Job(Level):
    """What differs between levels: the shaft, m."""

    shaft_m: float = 0.027
    shaft_height_m: float = 0.050


class RingOnShaft(Task):
    """The task; see the module's text."""

    max_episode_steps = 110
    robots = ("panda", "ur5e")
    post = top_down(
        (0.30, -0.28, 0.012), (0.70, 0.32, 0.35), (0.44, -0.06, 0.17), (0.54, 0.06, 0.22)
    )
    cameras = (
        Camera("front", eye=(0.88, 0.005, 0.62), target=(0.455, 0.005, 0.0), fov_deg=46.0),
        wrist_camera(),
    )
    wording = Wording.of(
        (item.name for item in RINGS),
        (
            "Put the {} onto the shaft.",
            "Place the {} on the shaft.",
            "Pick up the {} and slide it onto the shaft.",
            "The {} belongs on the shaft.",
            "Fit the {} over the shaft.",
        ),
        (
            "Thread the shaft through the {}.",
            "Let the {} come down around the shaft.",
            "Of these rings, only the {} should end up on the shaft.",
        ),
    )
    jobs = by_level(
        easy=Job(shaft_m=0.024, shaft_height_m=0.040),
        nominal=Job(),
        hard=Job(shaft_m=0.032, shaft_height_m=0.056),
    )
    job: Job
    displaces = teleports = True
    part_scales = (0.92, 0.97)

    def list_items(self) -> tuple[Item, ...]:
        """Return rings and shaft."""
        size = (self.job.shaft_m, self.job.shaft_m, self.job.shaft_height_m)
        rings = (item.scaled(self.part_scale) for item in RINGS)
        return (*rings, Item("shaft", size, SHAFT_RGB, is_goal=True))

    def build(self, world: World) -> None:
        """Add three rings, the shaft and its base."""
        shaft = self.items[SHAFT]
        self._hole, self._height = HOLE_M * self.part_scale, self.items[0].size[2]
        rings = [_add_ring(world, item, self._hole) for item in self.items[:SHAFT]]
        self.bodies = (*rings, world.add_fixed([Shape("cylinder", shaft.size)], SHAFT_RGB))
        self._base = world.add_fixed([Shape("box", (BASE_M, BASE_M, BASE_HEIGHT_M))], BASE_RGB)

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Scatter the rings and place the shaft."""
        self.begin(named=int(rng.integers(SHAFT)))
        spots = scatter(RINGS_LOW, RINGS_HIGH, SHAFT, SPACING_M, rng)
        self.lay_out(world, spots, rng.uniform(-0.5, 0.5, SHAFT) * SAME_TURN)

        x, y = rng.uniform(SHAFT_LOW, SHAFT_HIGH)
        world.place(self.bodies[SHAFT], (x, y, BASE_HEIGHT_M + 0.5 * self.job.shaft_height_m))
        world.place(self._base, (x, y, 0.5 * BASE_HEIGHT_M))

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places near the named ring where it lies with room for the fingers."""
        return self.spots_beside(world, (RINGS_LOW, RINGS_HIGH), (low_m, high_m), SPACING_M, rng)

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge how the rings lie to the shaft."""
        rows, tool = world.rows, robot.tool_position.tolist()
        ring, shaft = rows[self.progress.named], rows[SHAFT]
        away, speed = math.dist(tool, ring[:3]), math.hypot(*ring[7:10])
        clear, seated = away > CLEAR_M, self._seated(ring, shaft)

        others = [row for row in rows[:SHAFT] if row is not ring and self._on_shaft(row, shaft)]
        let_go = clear and robot.opening_m > OPEN_M
        if self.progress.held.count(seated and not others and let_go and speed < REST_M_S):
            return DONE

        self.progress.wrong.count(any(math.dist(tool, row[:3]) > CLEAR_M for row in others))
        failure = self.failure(ring, robot, let_go=clear)

        if seated:
            return Verdict("release", failure=failure)
        if away >= 0.03 or robot.gripper <= 0.0:
            return Verdict("approach", failure=failure)
        if self._on_shaft(ring, shaft):
            return Verdict("lower", failure=failure)
        return Verdict("carry" if ring[2] > self._height else "grasp", failure=failure)

    def _on_shaft(self, pose: Sequence[float], shaft: Sequence[float]) -> bool:
        """Return whether a ring is around the shaft, at any height."""
        off = math.hypot(pose[0] - shaft[0], pose[1] - shaft[1])
        return off < 0.5 * self._hole and pose[2] - shaft[2] < 0.5 * self.job.shaft_height_m

    def _seated(self, pose: Sequence[float], shaft: Sequence[float]) -> bool:
        """Return whether a ring lies flat on the base with the shaft in its hole."""
        off = math.hypot(pose[0] - shaft[0], pose[1] - shaft[1])
        low = pose[2] - BASE_HEIGHT_M - 0.5 * self._height < LOW_M
        flat = abs(uprightness(pose)) > FLAT_COSINE
        return low and flat and off <= around_m(self._hole, self.job.shaft_m)

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named ring above its middle; only used where it lies flat."""
        return ToolPose.above(world.poses[self.progress.named], GRIP_ABOVE_M)

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose at which the named ring lies on the base."""
        x, y, _ = world.poses[SHAFT, :3]
        return ToolPose(np.array([x, y, BASE_HEIGHT_M + 0.5 * self._height + GRIP_ABOVE_M]), 0.0)


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
