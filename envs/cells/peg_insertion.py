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
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shopfloor.envs.looks.camera import Camera, wrist_camera
from shopfloor.envs.physics.kinematics import in_frame, uprightness, yaw_quaternion
from shopfloor.envs.physics.scatter import scatter
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

PEG_M, PEG_HEIGHT_M = 0.030, 0.080
SAME_TURN = 0.5 * math.pi  # after which a peg looks the same
BLOCK_M = 0.090
FLOOR_M = 0.006  # of the hole, above the table
FLOOR_RGB, BLOCK_RGB = (0.10, 0.11, 0.13), (0.80, 0.84, 0.86)
PEGS_LOW, PEGS_HIGH = (0.35, -0.22), (0.65, 0.04)
BLOCK_LOW, BLOCK_HIGH = (0.42, 0.17), (0.58, 0.23)
SPACING_M = 0.105
PEG_MASS_KG = 0.1
GRIP_ABOVE_M = 0.018  # the peg's middle
CLEAR_M, OPEN_M = 0.050, 0.060  # tool to peg and between the fingers, once let go
INSERTED, UPRIGHT_COSINE = 0.8, math.cos(math.radians(3.0))
LYING_COSINE = math.cos(math.radians(45.0))

PEGS = (
    Item("orange peg", (PEG_M, PEG_M, PEG_HEIGHT_M), (0.95, 0.50, 0.10)),
    Item("green peg", (PEG_M, PEG_M, PEG_HEIGHT_M), (0.20, 0.62, 0.25)),
    Item("blue peg", (PEG_M, PEG_M, PEG_HEIGHT_M), (0.15, 0.30, 0.85)),
)
BLOCK = len(PEGS)  # row of the block


@dataclass(frozen=True)
class Job(Level):
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
        """Height of the block."""
        return FLOOR_M + self.depth_m


class PegInsertion(Task):
    """The task; see the module's text."""

    max_episode_steps = 120
    robots = ("panda", "ur5e")
    post = top_down(
        (0.30, -0.28, 0.012), (0.70, 0.32, 0.35), (0.44, -0.06, 0.17), (0.54, 0.06, 0.22)
    )
    cameras = (
        Camera("front", eye=(0.88, 0.005, 0.62), target=(0.455, 0.005, 0.0), fov_deg=46.0),
        wrist_camera(),
    )
    wording = Wording.of(
        (item.name for item in PEGS),
        (
            "Insert the {} into the hole.",
            "Put the {} into the hole of the block.",
            "Push the {} into the square hole.",
            "Pick up the {} and insert it into the block.",
            "The {} belongs in the hole.",
        ),
        (
            "Plug the block's opening with the {}.",
            "Lower the {} down the hole until it stands on the bottom.",
            "Only the {} fits our plan: sink it in the block.",
        ),
    )
    jobs = by_level(
        easy=Job(clearance_m=0.002, block_yaw=0.25),
        nominal=Job(),
        hard=Job(clearance_m=0.0005, depth_m=0.036),
    )
    job: Job
    displaces = teleports = True
    part_scales = (0.85, 0.95)  # of the length: a peg as thick fits

    def list_items(self) -> tuple[Item, ...]:
        """Return pegs and hole."""
        size = (PEG_M, PEG_M, PEG_HEIGHT_M * self.part_scale)
        pegs = (replace(item, size=size) for item in PEGS)
        block = (BLOCK_M, BLOCK_M, self.job.height_m)
        return (*pegs, Item("hole", block, BLOCK_RGB, is_goal=True))

    def build(self, world: World) -> None:
        """Add three pegs and the block: four boxes around the hole, and its dark floor."""
        hole, self._long = self.job.hole_m, self.items[0].size[2]
        pegs = [world.add_box(item.size, item.rgb, PEG_MASS_KG) for item in self.items[:BLOCK]]
        walls = walls_around((hole, hole), (BLOCK_M, BLOCK_M), self.job.height_m)
        self.bodies = (*pegs, world.add_fixed(walls, BLOCK_RGB))
        self._floor = world.add_fixed([Shape("box", (hole, hole, FLOOR_M))], FLOOR_RGB)

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Scatter the pegs and place the block."""
        self.begin(named=int(rng.integers(BLOCK)))
        spots = scatter(PEGS_LOW, PEGS_HIGH, BLOCK, SPACING_M, rng)
        self.lay_out(world, spots, rng.uniform(-0.5, 0.5, BLOCK) * SAME_TURN)

        x, y = rng.uniform(BLOCK_LOW, BLOCK_HIGH)
        turn = yaw_quaternion(rng.uniform(-self.job.block_yaw, self.job.block_yaw))
        world.place(self.bodies[BLOCK], (x, y, 0.0), turn)
        world.place(self._floor, (x, y, 0.5 * FLOOR_M), turn)

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places near the named peg where it stands with room for the fingers."""
        return self.spots_beside(world, (PEGS_LOW, PEGS_HIGH), (low_m, high_m), SPACING_M, rng)

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge how the pegs stand to the hole."""
        rows, tool = world.rows, robot.tool_position.tolist()
        peg, block = rows[self.progress.named], rows[BLOCK]
        away, speed = math.dist(tool, peg[:3]), math.hypot(*peg[7:10])
        clear, upright = away > CLEAR_M, abs(uprightness(peg))
        depth = self._depth(peg, block)
        inserted = depth >= INSERTED * self.job.depth_m and upright > UPRIGHT_COSINE

        others = [row for row in rows[:BLOCK] if row is not peg and self._depth(row, block) > 0.0]
        let_go = clear and robot.opening_m > OPEN_M
        if self.progress.held.count(inserted and not others and let_go and speed < REST_M_S):
            return DONE

        self.progress.wrong.count(any(math.dist(tool, row[:3]) > CLEAR_M for row in others))
        standing = 0.5 * self._long
        failure = self.failure(
            peg,
            robot,
            let_go=clear,
            below_m=standing + 0.02,
            toppled=upright < LYING_COSINE,
        )

        if inserted:
            return Verdict("release", failure=failure)
        if away >= 0.035 or robot.gripper <= 0.0:
            return Verdict("approach", failure=failure)
        if depth > 0.0:
            return Verdict("insert", failure=failure)
        return Verdict("carry" if peg[2] > standing + 0.01 else "grasp", failure=failure)

    def _depth(self, pose: Sequence[float], block: Sequence[float]) -> float:
        """Return how far the middle of a peg's lower end is below the rim, m; 0 where it is not in the hole."""
        end = lower_end(pose[:3], pose[3:7], self._long)
        along, across = in_frame(end, block)
        inside = abs(along) < 0.5 * self.job.hole_m and abs(across) < 0.5 * self.job.hole_m
        return max(0.0, self.job.height_m - (end[2] - block[2])) if inside else 0.0

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named peg above its middle; only used where it stands upright."""
        return ToolPose.above(world.poses[self.progress.named], GRIP_ABOVE_M)

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose at which the named peg stands in the hole."""
        return ToolPose.above(world.poses[BLOCK], FLOOR_M + 0.5 * self._long + GRIP_ABOVE_M)


def lower_end(
    position: Sequence[float], quaternion: Sequence[float], length_m: float
) -> tuple[float, float, float]:
    """Return the middle of a peg's lower end, m, given its pose: position, quaternion (x, y, z, w)."""
    x, y, z, w = quaternion
    axis = (2.0 * (x * z + y * w), 2.0 * (y * z - x * w), 1.0 - 2.0 * (x * x + y * y))
    half = math.copysign(0.5 * length_m, axis[2])
    return position[0] - half * axis[0], position[1] - half * axis[1], position[2] - half * axis[2]
