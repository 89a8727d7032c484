"""Kitting: seat the part that the instruction names in the slot of a fixture.

Task: two parts of the same footprint stand on the table; the instruction names one; it goes into the slot, which has
5 mm of room on each side. Half a turn of a part makes no difference.
Randomisation: parts anywhere on 26 x 18 cm at a yaw within +-1.2 rad, with room for the fingers between them; the
fixture's centre on 12 x 8 cm at a yaw within +-0.7 rad; the named part; the phrasing; where the tool starts; light and
colours (mildly).
Success: the named part is seated upright on the slot's floor, within 5 mm and 8 degrees, slower than 5 mm/s, nothing
else on the fixture, gripper open and clear, for 0.5 s.
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
from shopfloor.envs.cells.kitting_expert import FLOOR_M, GRIP_ABOVE_M, VERSION, decide
from shopfloor.envs.engine import pybullet
from shopfloor.envs.experts import ScriptedExpert
from shopfloor.envs.robot import Arm
from shopfloor.envs.scene import wrap
from shopfloor.envs.task import HOLD_STEPS, REST_M_S, Item, Task, ToolPose, Verdict
from shopfloor.envs.world import Shape, World

Array = npt.NDArray[np.float64]

CELL_ID = "shopfloor/Kitting-v0"
FOOTPRINT_M, CLEARANCE_M = (0.06, 0.04), 0.005
FIXTURE_M, FIXTURE_HEIGHT_M = (0.13, 0.11), 0.03
PARTS_LOW, PARTS_HIGH = (0.37, -0.22), (0.63, -0.04)
FIXTURE_LOW, FIXTURE_HIGH = (0.44, 0.14), (0.56, 0.22)
SPACING_M = 0.12
PART_YAW, FIXTURE_YAW = 1.2, 0.7
PART_MASS_KG = 0.1
CLEAR_M, OPEN_M = 0.045, 0.06  # tool to part and between the fingers, once let go
SLOW_M_S = 0.02
# A gripped part creeps about the line between the fingers, a residual of the solver: 4-11 degrees a second, 0.3-4 with
# five times the inertia.
INERTIA_SCALE = 5.0
FLOOR_RGB = (0.13, 0.14, 0.16)
SEATED_M, SEATED_RAD = 0.005, math.radians(8.0)
SEATED_HEIGHT_M, UPRIGHT_COSINE = 0.003, math.cos(math.radians(5.0))

ITEMS = (
    Item("orange gearbox", (*FOOTPRINT_M, 0.06), (0.95, 0.50, 0.10)),
    Item("purple motor", (*FOOTPRINT_M, 0.05), (0.50, 0.25, 0.70)),
    Item("slot", (*FIXTURE_M, FIXTURE_HEIGHT_M), (0.80, 0.84, 0.86), is_goal=True),
)
PHRASES = (
    "Insert the {} into the slot.",
    "Put the {} into the slot of the fixture.",
    "Seat the {} in the slot.",
    "Pick up the {} and fit it into the slot.",
    "The {} belongs in the slot.",
)
INSTRUCTIONS = {item.name: tuple(text.format(item.name) for text in PHRASES) for item in ITEMS if not item.is_goal}
CAMERAS = (
    Camera("front", eye=(0.88, 0.0, 0.62), target=(0.445, 0.0, 0.02), fov_deg=43.0),
    Camera("wrist", eye=(0.075, 0.0, 0.085), target=(0.025, 0.0, 0.0), fov_deg=80.0, on_tool=True),
)


class Kitting(Task):
    """The task; see the module's text."""

    max_episode_steps = 120
    frozen_axes: tuple[int, ...] = (3, 4)
    workspace: Array = np.array([[0.30, -0.28, 0.012], [0.70, 0.30, 0.35]])
    start_low: Array = np.array([0.44, -0.06, 0.17])
    start_high: Array = np.array([0.54, 0.06, 0.22])
    cameras: tuple[Camera, ...] = CAMERAS
    items: tuple[Item, ...] = ITEMS
    instructions: Mapping[str, tuple[str, ...]] = INSTRUCTIONS
    grip_m = FOOTPRINT_M[1]
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
        self._floor = -1

    def build(self, world: World) -> None:
        """Add two parts and the fixture: four blocks around the slot, and its dark floor."""
        parts = [_add_part(world, item) for item in ITEMS[:2]]
        (length, width), height = FIXTURE_M, FIXTURE_HEIGHT_M
        inner_x, inner_y = (edge + 2 * CLEARANCE_M for edge in FOOTPRINT_M)
        end, side = 0.5 * (length - inner_x), 0.5 * (width - inner_y)
        shapes = []
        for sign in (-1, 1):
            shapes.append(Shape("box", (end, width, height), (sign * 0.5 * (inner_x + end), 0.0, height / 2)))
            shapes.append(Shape("box", (inner_x, side, height), (0.0, sign * 0.5 * (inner_y + side), height / 2)))
        fixture = world.add(shapes, [(*ITEMS[2].rgb, 1.0)] * len(shapes), 0.0)
        self._floor = world.add([Shape("box", (inner_x, inner_y, FLOOR_M))], [(*FLOOR_RGB, 1.0)], 0.0)
        self.bodies = (*parts, fixture)

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Scatter the parts and place the fixture."""
        self.recall(np.array([rng.integers(2), 0, 0]))
        spots = rng.uniform(PARTS_LOW, PARTS_HIGH, (2, 2))
        while float(np.hypot(*(spots[1] - spots[0]))) < SPACING_M:
            spots = rng.uniform(PARTS_LOW, PARTS_HIGH, (2, 2))
        for body, item, (x, y) in zip(self.bodies, ITEMS, spots, strict=False):
            world.place(body, (x, y, item.size[2] / 2), _turn(rng.uniform(-PART_YAW, PART_YAW)))
        spot = rng.uniform(FIXTURE_LOW, FIXTURE_HIGH)
        turn = _turn(rng.uniform(-FIXTURE_YAW, FIXTURE_YAW))
        world.place(self.bodies[2], (*spot, 0.0), turn)
        world.place(self._floor, (*spot, 0.5 * FLOOR_M), turn)

    def free_spots(self, world: World, low_m: float, high_m: float, rng: np.random.Generator) -> list[Array]:
        """List places near the named part where it stands with room for the fingers."""
        pose, other = world.poses[self._named_index].copy(), world.poses[1 - self._named_index, :2]
        spots = []
        for _ in range(24):
            angle, distance = rng.uniform(-math.pi, math.pi), rng.uniform(low_m, high_m)
            spot = pose.copy()
            spot[:2] += distance * np.array([math.cos(angle), math.sin(angle)])
            inside = (spot[:2] >= PARTS_LOW).all() and (spot[:2] <= PARTS_HIGH).all()
            if inside and float(np.hypot(*(spot[:2] - other))) > SPACING_M:
                spots.append(spot)
        return spots

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge how the parts stand to the slot."""
        named, rows = self._named_index, world.rows
        part, other, slot = rows[named], rows[1 - named], rows[2]
        tool, height = robot.tool_position.tolist(), ITEMS[named].size[2]
        clear, away = math.dist(tool, part[:3]) > CLEAR_M, math.dist(tool, other[:3]) > CLEAR_M
        speed, seated, blocked = math.hypot(*part[7:10]), _seated(part, slot, height), _on_fixture(other, slot)
        done = seated and not blocked and clear and robot.opening_m > OPEN_M and speed < REST_M_S
        self._held_steps = self._held_steps + 1 if done else 0
        self._wrong_steps = self._wrong_steps + 1 if blocked and away else 0
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
            stage = "insert" if lifted and _on_fixture(part, slot) else "carry" if lifted else "grasp"
            return Verdict(stage, failure=failure)
        return Verdict("approach", failure=failure)

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named part above its centre; only used where it stands upright."""
        pose = world.poses[self._named_index]
        return ToolPose(pose[:3] + np.array([0.0, 0.0, GRIP_ABOVE_M]), _yaw(pose.tolist()))

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose at which the named part stands in the slot."""
        slot = world.poses[2]
        height = FLOOR_M + 0.5 * ITEMS[self._named_index].size[2] + GRIP_ABOVE_M
        return ToolPose(slot[:3] + np.array([0.0, 0.0, height]), _yaw(slot.tolist()))

    def memory(self) -> Array:
        """Return the named part's number and the two counters of steps, shape (3,)."""
        return np.array([self._named_index, self._held_steps, self._wrong_steps], dtype=float)

    def recall(self, memory: Array) -> None:
        """Come back to `memory`."""
        self._named_index, self._held_steps, self._wrong_steps = (int(value) for value in memory)
        self.named = ITEMS[self._named_index].name
        self.named_body = self.bodies[self._named_index]


def _add_part(world: World, item: Item) -> int:
    body = world.add([Shape("box", item.size)], [(*item.rgb, 1.0)], PART_MASS_KG)
    x, y, z = (edge**2 * PART_MASS_KG / 12 * INERTIA_SCALE for edge in item.size)
    pybullet.changeDynamics(body, -1, localInertiaDiagonal=[y + z, x + z, x + y], physicsClientId=world.client)
    return body


def _turn(yaw: float) -> tuple[float, float, float, float]:
    return 0.0, 0.0, math.sin(0.5 * yaw), math.cos(0.5 * yaw)


def _yaw(pose: Sequence[float]) -> float:
    rotation = kinematics.matrix((pose[3], pose[4], pose[5], pose[6]))
    return math.atan2(float(rotation[1, 0]), float(rotation[0, 0]))


def _on_fixture(pose: Sequence[float], slot: Sequence[float]) -> bool:
    """Return whether a part's centre is over the fixture and not far above it."""
    yaw = _yaw(slot)
    dx, dy = pose[0] - slot[0], pose[1] - slot[1]
    along, across = dx * math.cos(yaw) + dy * math.sin(yaw), dy * math.cos(yaw) - dx * math.sin(yaw)
    return abs(along) < 0.5 * FIXTURE_M[0] and abs(across) < 0.5 * FIXTURE_M[1] and pose[2] < 0.09


def _seated(pose: Sequence[float], slot: Sequence[float], height: float) -> bool:
    """Return whether a part stands in the slot, half a turn or not."""
    if math.hypot(pose[0] - slot[0], pose[1] - slot[1]) > SEATED_M:
        return False
    upright = 1.0 - 2.0 * (pose[3] ** 2 + pose[4] ** 2)
    low = pose[2] - FLOOR_M - 0.5 * height < SEATED_HEIGHT_M
    return low and upright > UPRIGHT_COSINE and abs(wrap(_yaw(pose) - _yaw(slot), math.pi)) < SEATED_RAD


def make(**options: object) -> WorkCell:
    """Build the cell; see `shopfloor.envs.description.CellOptions` for the options."""
    return WorkCell(CELL_ID, Kitting(), **options)


def expert(execute: int = 1) -> ScriptedExpert:
    """Return the scripted expert; `execute` is how many actions of a chunk callers run."""
    return ScriptedExpert(CELL_ID, VERSION, INSTRUCTIONS, decide, execute)
