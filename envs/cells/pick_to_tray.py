"""PickToTray: put the part that the instruction names into the tray.

Task: three parts lie on the table; the instruction names one by colour and shape; it goes into the tray.
Randomisation: parts anywhere on 34 x 24 cm at a yaw within +-45 degrees, with room for the fingers between them; the
tray's centre on 16 x 8 cm; the named part; the phrasing; where the tool starts; light and colours (mildly).
Success: the named part, and nothing else, lies in the tray, slower than 5 mm/s, gripper open and clear, for 0.5 s.
Failure: another part in its place (`wrong_part`), the named part off the table (`dropped`) or left where the tool
cannot come (`out_of_reach`), time (`timeout`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from shopfloor.envs import kinematics
from shopfloor.envs.camera import Camera
from shopfloor.envs.cell import WorkCell
from shopfloor.envs.cells.pick_to_tray_expert import VERSION, decide
from shopfloor.envs.experts import ScriptedExpert
from shopfloor.envs.robot import Arm
from shopfloor.envs.task import HOLD_STEPS, REST_M_S, Item, Task, ToolPose, Verdict
from shopfloor.envs.world import Shape, World

Array = npt.NDArray[np.float64]

CELL_ID = "shopfloor/PickToTray-v0"
TRAY_INNER_M, TRAY_WALL_M, TRAY_HEIGHT_M, TRAY_FLOOR_M = 0.130, 0.006, 0.028, 0.004
PARTS_LOW, PARTS_HIGH = (0.34, -0.22), (0.68, 0.02)
TRAY_LOW, TRAY_HIGH = (0.43, 0.175), (0.59, 0.255)
CLEARANCE_M = 0.105
MAX_YAW = math.pi / 4
PART_MASS_KG = 0.1
CLEAR_M, OPEN_M = 0.045, 0.06  # tool to part and between the fingers, once let go
SLOW_M_S = 0.02

ITEMS = (
    Item("red cube", (0.04, 0.04, 0.04), (0.85, 0.15, 0.15)),
    Item("green cylinder", (0.04, 0.04, 0.04), (0.15, 0.65, 0.25)),
    Item("blue bar", (0.06, 0.04, 0.04), (0.15, 0.30, 0.85)),
    Item("tray", (TRAY_INNER_M + 2 * TRAY_WALL_M,) * 2 + (TRAY_HEIGHT_M,), (0.90, 0.80, 0.45), is_goal=True),
)
PHRASES = (
    "Put the {} into the tray.",
    "Pick up the {} and place it in the tray.",
    "Move the {} to the tray.",
    "The {} belongs in the tray.",
    "Take the {} and drop it into the tray.",
)
INSTRUCTIONS = {item.name: tuple(text.format(item.name) for text in PHRASES) for item in ITEMS if not item.is_goal}
CAMERAS = (
    Camera("front", eye=(0.90, 0.04, 0.62), target=(0.455, 0.04, 0.0)),
    Camera("wrist", eye=(0.075, 0.0, 0.085), target=(0.015, 0.0, 0.0), fov_deg=80.0, on_tool=True),
)


class PickToTray(Task):
    """The task; see the module's text."""

    max_episode_steps = 100
    frozen_axes: tuple[int, ...] = (3, 4)
    workspace: Array = np.array([[0.30, -0.28, 0.012], [0.72, 0.36, 0.35]])
    start_low: Array = np.array([0.44, -0.06, 0.17])
    start_high: Array = np.array([0.54, 0.06, 0.22])
    cameras: tuple[Camera, ...] = CAMERAS
    items: tuple[Item, ...] = ITEMS
    instructions: Mapping[str, tuple[str, ...]] = INSTRUCTIONS
    grip_m = 0.04
    displaces = teleports = True

    def __init__(self) -> None:
        """Start with nothing built."""
        self.bodies: tuple[int, ...] = ()
        self.present = np.ones(len(ITEMS), dtype=bool)
        self.named = ITEMS[0].name
        self.named_body = -1
        self._named_index = 0
        self._held_steps = 0
        self._wrong_steps = 0

    def build(self, world: World) -> None:
        """Add three parts and the tray."""
        parts = [
            world.add(
                [Shape("cylinder" if "cylinder" in item.name else "box", item.size)], [(*item.rgb, 1.0)], PART_MASS_KG
            )
            for item in ITEMS[:3]
        ]
        half = 0.5 * (TRAY_INNER_M + TRAY_WALL_M)
        outer, wall, height = TRAY_INNER_M + 2 * TRAY_WALL_M, TRAY_WALL_M, TRAY_HEIGHT_M
        shapes = [Shape("box", (outer, outer, TRAY_FLOOR_M), (0.0, 0.0, TRAY_FLOOR_M / 2))]
        shapes += [Shape("box", (wall, outer, height), (side * half, 0.0, height / 2)) for side in (-1, 1)]
        shapes += [Shape("box", (TRAY_INNER_M, wall, height), (0.0, side * half, height / 2)) for side in (-1, 1)]
        tray = world.add(shapes, [(*ITEMS[3].rgb, 1.0)] * len(shapes), 0.0)
        self.bodies = (*parts, tray)

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Scatter the parts and place the tray."""
        self.recall(np.array([rng.integers(3), 0, 0]))
        spots: list[Array] = []
        while len(spots) < 3:
            spot = rng.uniform(PARTS_LOW, PARTS_HIGH)
            if all(float(np.hypot(*(spot - other))) > CLEARANCE_M for other in spots):
                spots.append(spot)
        for body, item, (x, y) in zip(self.bodies, ITEMS, spots, strict=False):
            yaw = rng.uniform(-MAX_YAW, MAX_YAW)
            world.place(body, (x, y, item.size[2] / 2), (0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)))
        world.place(self.bodies[3], (*rng.uniform(TRAY_LOW, TRAY_HIGH), 0.0))

    def free_spots(self, world: World, low_m: float, high_m: float, rng: np.random.Generator) -> list[Array]:
        """List places near the named part where it fits with room for the fingers."""
        named = self._named_index
        pose = world.poses[named].copy()
        others = [world.poses[index, :2] for index in range(3) if index != named]
        spots = []
        for _ in range(24):
            angle, distance = rng.uniform(-math.pi, math.pi), rng.uniform(low_m, high_m)
            spot = pose.copy()
            spot[:2] += distance * np.array([math.cos(angle), math.sin(angle)])
            inside = (spot[:2] >= PARTS_LOW).all() and (spot[:2] <= PARTS_HIGH).all()
            if inside and all(float(np.hypot(*(spot[:2] - other))) > CLEARANCE_M for other in others):
                spots.append(spot)
        return spots

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge where the parts lie."""
        named = self._named_index
        poses = world.rows
        tool = robot.tool_position.tolist()
        part, tray = poses[named], poses[3]
        inside = [_in_tray(pose, tray) for pose in poses[:3]]
        clear = [math.dist(tool, pose[:3]) > CLEAR_M for pose in poses[:3]]
        others = [index for index in range(3) if inside[index] and index != named]
        speed = math.hypot(*part[7:10])
        done = inside[named] and not others and clear[named] and robot.opening_m > OPEN_M and speed < REST_M_S
        self._held_steps = self._held_steps + 1 if done else 0
        self._wrong_steps = self._wrong_steps + 1 if any(clear[index] for index in others) else 0
        if self._held_steps >= HOLD_STEPS:
            return Verdict("done", success=True)
        failure = ""
        if part[2] < -0.02:
            failure = "dropped"
        elif self._wrong_steps >= HOLD_STEPS:
            failure = "wrong_part"
        elif part[2] < 0.06 and clear[named] and speed < SLOW_M_S and not robot.reaches(part[0], part[1]):
            failure = "out_of_reach"
        if inside[named]:
            return Verdict("release", failure=failure)
        if math.dist(tool, part[:3]) < 0.03 and robot.gripper > 0.0:
            return Verdict("carry" if part[2] > 0.03 else "grasp", failure=failure)
        return Verdict("approach", failure=failure)

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named part; only used where it stands upright."""
        pose = world.poses[self._named_index]
        rotation = kinematics.matrix(pose[3:])
        return ToolPose(pose[:3].copy(), math.atan2(rotation[1, 0], rotation[0, 0]))

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose above the tray's middle where parts are let go."""
        return ToolPose(world.poses[3, :3] + [0.0, 0.0, 0.04], 0.0)

    def memory(self) -> Array:
        """Return the named part's number and the two counters of steps, shape (3,)."""
        return np.array([self._named_index, self._held_steps, self._wrong_steps], dtype=float)

    def recall(self, memory: Array) -> None:
        """Come back to `memory`."""
        self._named_index, self._held_steps, self._wrong_steps = (int(value) for value in memory)
        self.named = ITEMS[self._named_index].name
        self.named_body = self.bodies[self._named_index]


def _in_tray(pose: Sequence[float], tray: Sequence[float]) -> bool:
    reach = 0.5 * TRAY_INNER_M
    return abs(pose[0] - tray[0]) < reach and abs(pose[1] - tray[1]) < reach and pose[2] < 0.045


def make(**options: object) -> WorkCell:
    """Build the cell; see `shopfloor.envs.description.CellOptions` for the options."""
    return WorkCell(CELL_ID, PickToTray(), **options)


def expert(execute: int = 1) -> ScriptedExpert:
    """Return the scripted expert; `execute` is how many actions of a chunk callers run."""
    return ScriptedExpert(CELL_ID, VERSION, INSTRUCTIONS, decide, execute)
