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
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shopfloor.envs.looks.camera import Camera, wrist_camera
from shopfloor.envs.physics.kinematics import over_square, yaw_of
from shopfloor.envs.physics.scatter import scatter
from shopfloor.envs.physics.shapes import Shape, square_tray
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

TRAY_WALL_M, TRAY_HEIGHT_M, TRAY_FLOOR_M = 0.006, 0.028, 0.004
PARTS_LOW, PARTS_HIGH = (0.34, -0.22), (0.68, 0.02)
TRAY_LOW, TRAY_HIGH = (0.43, 0.175), (0.59, 0.255)
PART_MASS_KG = 0.1
CLEAR_M, OPEN_M = 0.045, 0.06  # tool to part and between the fingers, once let go

PARTS = (
    Item("red cube", (0.04, 0.04, 0.04), (0.85, 0.15, 0.15)),
    Item("green cylinder", (0.04, 0.04, 0.04), (0.15, 0.65, 0.25)),
    Item("blue bar", (0.06, 0.04, 0.04), (0.15, 0.30, 0.85)),
    # These two at `hard` only.
    Item("red cylinder", (0.04, 0.04, 0.04), (0.85, 0.15, 0.15)),
    Item("green bar", (0.06, 0.04, 0.04), (0.15, 0.65, 0.25)),
)
TRAY_RGB = (0.90, 0.80, 0.45)


@dataclass(frozen=True)
class Job(Level):
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


class PickToTray(Task):
    """The task; see the module's text."""

    max_episode_steps = 100
    robots = ("panda", "ur5e")
    post = top_down(
        (0.30, -0.28, 0.012), (0.72, 0.36, 0.35), (0.44, -0.06, 0.17), (0.54, 0.06, 0.22)
    )
    cameras = (
        Camera("front", eye=(0.90, 0.04, 0.62), target=(0.455, 0.04, 0.0)),
        wrist_camera(0.075, looks_at=0.015),
    )
    wording = Wording.of(
        (item.name for item in PARTS),
        (
            "Put the {} into the tray.",
            "Pick up the {} and place it in the tray.",
            "Move the {} to the tray.",
            "The {} belongs in the tray.",
            "Take the {} and drop it into the tray.",
        ),
        (
            "Get hold of the {} and leave it lying in the tray.",
            "Fill the tray with the {}, nothing else.",
            "I need the {} over there in the tray.",
        ),
    )
    jobs = by_level(
        easy=Job(spacing_m=0.12, max_yaw=math.pi / 12, tray_inner_m=0.150),
        nominal=Job(),
        hard=Job(parts=5, max_yaw=math.pi / 2, tray_inner_m=0.110),
    )
    job: Job
    displaces = teleports = True
    part_scales = (0.80, 0.92)

    def list_items(self) -> tuple[Item, ...]:
        """Return parts and tray."""
        parts = (item.scaled(self.part_scale) for item in PARTS[: self.job.parts])
        outer = self.job.tray_inner_m + 2 * TRAY_WALL_M
        return (*parts, Item("tray", (outer, outer, TRAY_HEIGHT_M), TRAY_RGB, is_goal=True))

    def build(self, world: World) -> None:
        """Add the parts and the tray."""
        parts = [_add_part(world, item) for item in self.items[:-1]]
        shapes = square_tray(self.job.tray_inner_m, TRAY_WALL_M, TRAY_HEIGHT_M, TRAY_FLOOR_M)
        self.bodies = (*parts, world.add_fixed(shapes, TRAY_RGB))

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Scatter the parts and place the tray."""
        job = self.job
        self.begin(named=int(rng.integers(job.parts)))
        spots = scatter(PARTS_LOW, PARTS_HIGH, job.parts, job.spacing_m, rng)
        self.lay_out(world, spots, rng.uniform(-job.max_yaw, job.max_yaw, job.parts))
        world.place(self.bodies[-1], (*rng.uniform(TRAY_LOW, TRAY_HIGH), 0.0))

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places near the named part where it fits with room for the fingers."""
        rectangle = (PARTS_LOW, PARTS_HIGH)
        return self.spots_beside(world, rectangle, (low_m, high_m), self.job.spacing_m, rng)

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge where the parts lie."""
        poses, count = world.rows, self.job.parts
        part, tray = poses[self.progress.named], poses[count]
        tool = robot.tool_position.tolist()
        away, speed = math.dist(tool, part[:3]), math.hypot(*part[7:10])
        clear = away > CLEAR_M

        inside = [pose for pose in poses[:count] if _in_tray(pose, tray, self.job.tray_inner_m)]
        let_go = clear and robot.opening_m > OPEN_M
        if self.progress.held.count(inside == [part] and let_go and speed < REST_M_S):
            return DONE

        wrong = (pose for pose in inside if pose is not part)
        self.progress.wrong.count(any(math.dist(tool, pose[:3]) > CLEAR_M for pose in wrong))
        failure = self.failure(part, robot, let_go=clear)
        if part in inside:
            return Verdict("release", failure=failure)
        if away < 0.03 and robot.gripper > 0.0:
            return Verdict("carry" if part[2] > 0.03 else "grasp", failure=failure)
        return Verdict("approach", failure=failure)

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named part; only used where it stands upright."""
        pose = world.poses[self.progress.named]
        return ToolPose(pose[:3].copy(), yaw_of(pose))

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose above the tray's middle where parts are let go."""
        return ToolPose(world.poses[self.job.parts, :3] + [0.0, 0.0, 0.04], 0.0)


def _add_part(world: World, item: Item) -> int:
    kind = "cylinder" if "cylinder" in item.name else "box"
    return world.add([Shape(kind, item.size)], [(*item.rgb, 1.0)], PART_MASS_KG)


def _in_tray(pose: Sequence[float], tray: Sequence[float], inner_m: float) -> bool:
    return over_square(pose, tray, inner_m) and pose[2] < 0.045
