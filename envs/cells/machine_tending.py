"""MachineTending: have a machine work on the blank that the instruction names, and put it out.

Task: three blanks, cubes of different colours, lie on the table beside a small machine; the
instruction names one. It goes into the machine's nest; the door, a lid that slides over the nest,
is pushed shut by its knob; the button is pressed. The machine then runs for a second, with its
amber lamp lit, and lights the green one: the blank is finished. The door is pushed open, and the
blank put on the out mat. A button pressed while the door is open or the nest is empty does nothing;
a door pushed open while the machine runs stops it, and it has to be started again. Randomisation:
blanks anywhere on 18 x 21 cm at a yaw within +-45 degrees, with room for the fingers between them;
the nest on 10 x 5 cm; the machine's yaw; the mat on 4 x 10 cm; the named blank; the phrasing; where
the tool starts; light and colours (mildly). Levels: at "easy", "nominal" and "hard" the machine is
turned by up to 0.1, 0.3 and 0.5 rad, the nest has 3, 2 and 1.2 mm of room on each side, the door
needs 1, 2 and 6 N and the mat is 12, 10 and 8 cm wide. Success: the named blank is finished and
lies on the mat with nothing else on it, slower than 5 mm/s, the door open, gripper open and clear,
for 0.5 s. Failure: the machine runs on another blank, or another one is left on the mat
(`wrong_part`), the named blank off the table (`dropped`) or left where the tool cannot come
(`out_of_reach`), time (`timeout`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.cells.machine_tending_expert import (
    BUTTON_TOP_M,
    DOOR_WAY_M,
    DOOR_Z_M,
    FLOOR_M,
    GRIP_ABOVE_M,
    KNOB_TOP_M,
    KNOB_X_M,
    RIM_M,
    SAME_TURN,
    VERSION,
    decide,
)
from shopfloor.envs.experts.scripted import ScriptedExpert
from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.kinematics import yaw_of, yaw_quaternion
from shopfloor.envs.physics.world import Shape, Slide, World, walls_around
from shopfloor.envs.robots.arm import Arm
from shopfloor.envs.task import HOLD_STEPS, REST_M_S, Item, Task, ToolPose, Verdict
from shopfloor.envs.variation import LEVELS

Array = npt.NDArray[np.float64]

CELL_ID = "shopfloor/MachineTending-v0"
BLANK_M, BLANK_MASS_KG = 0.040, 0.1
BLOCK_M = 0.090
DOOR_M, DOOR_THICK_M, KNOB_Y_M = 0.100, 0.006, 0.050
BUTTON_M, BUTTON_THICK_M, BUTTON_WAY_M, BUTTON_N = 0.030, 0.012, 0.009, 5.0
LAMP_M, LAMP_HEIGHT_M, POST_M, POST_HEIGHT_M = 0.024, 0.026, 0.032, 0.056
RAIL_Y_M, RAIL_M = 0.085, 0.012
BUTTON_AT, LAMP_AT = (0.100, -0.090), (0.130, 0.118)  # in the machine's frame
MAT_HEIGHT_M = 0.003
BLANKS_LOW, BLANKS_HIGH = (0.33, -0.28), (0.51, -0.07)
NEST_LOW, NEST_HIGH = (0.44, 0.08), (0.54, 0.13)
MAT_LOW, MAT_HIGH = (0.62, -0.20), (0.66, -0.10)
SPACING_M = 0.105
MAX_YAW = math.pi / 4
SHUT_M, OPEN_M = 0.008, 0.030  # of the door's way, from either end
PRESSED_M = 0.004
RUN_STEPS = 20
SEATED_M = 0.003  # above the floor of the nest, and beyond its room sideways
ON_MAT_M = 0.003
CLEAR_M, RELEASED_M = 0.045, 0.060  # tool to blank and between the fingers, once let go
SLOW_M_S, LOW_M = 0.02, 0.07
IDLE, RUNNING, FINISHED = range(3)
HOUSING_RGB, FLOOR_RGB = (0.42, 0.46, 0.50), (0.10, 0.11, 0.13)

FIXTURE, DOOR, BUTTON, AMBER, GREEN, MAT = range(3, 9)
ITEMS = (
    Item("red blank", (BLANK_M,) * 3, (0.85, 0.15, 0.15), belongs_to="out mat"),
    Item("blue blank", (BLANK_M,) * 3, (0.15, 0.30, 0.85), belongs_to="out mat"),
    Item("purple blank", (BLANK_M,) * 3, (0.55, 0.20, 0.65), belongs_to="out mat"),
    Item("fixture", (BLOCK_M, BLOCK_M, RIM_M), (0.75, 0.78, 0.80), is_goal=True),
    Item("door", (DOOR_M, DOOR_M, DOOR_THICK_M), (0.45, 0.70, 0.80), is_goal=True),
    Item("button", (BUTTON_M, BUTTON_M, BUTTON_THICK_M), (0.95, 0.85, 0.15), is_goal=True),
    Item("amber lamp", (LAMP_M, LAMP_M, LAMP_HEIGHT_M), (1.00, 0.50, 0.05), is_goal=True),
    Item("green lamp", (LAMP_M, LAMP_M, LAMP_HEIGHT_M), (0.10, 0.85, 0.30), is_goal=True),
    Item("out mat", (0.100, 0.100, MAT_HEIGHT_M), (0.16, 0.34, 0.30), is_goal=True),
)
PHRASES = (
    "Machine the {} and put it on the out mat.",
    "Load the {} into the machine, run it, and place it on the out mat.",
    "Have the machine work on the {}, then put it on the out mat.",
    "The {} goes through the machine and then onto the out mat.",
    "Put the {} in the machine, close the door, press the button, and unload it onto the out mat.",
)
UNSEEN_PHRASES = (
    "Process the {}: in, door, start, out to the mat.",
    "I need the {} finished and laid out on the mat.",
    "Next job for the machine is the {}; leave it on the mat afterwards.",
)
BLANKS = tuple(item.name for item in ITEMS[:FIXTURE])
CAMERAS = (
    Camera("front", eye=(0.96, 0.03, 0.62), target=(0.49, 0.03, 0.0), fov_deg=46.0),
    Camera("wrist", eye=(0.085, 0.0, 0.085), target=(0.02, 0.0, 0.0), fov_deg=80.0, on_tool=True),
)


@dataclass(frozen=True)
class Level:
    """What differs between levels.

    Attributes:
        yaw: the machine is turned by up to that much, rad.
        room_m: between blank and nest, on each side.
        door_n: force that moves the door.
        door_kg: its mass.
        mat_m: width of the mat.
    """

    yaw: float
    room_m: float
    door_n: float
    door_kg: float
    mat_m: float


LEVEL = {
    "easy": Level(0.1, 0.003, 1.0, 0.2, 0.12),
    "nominal": Level(0.3, 0.002, 2.0, 0.3, 0.10),
    "hard": Level(0.5, 0.0012, 6.0, 0.8, 0.08),
}


class MachineTending(Task):
    """The task; see the module's text."""

    max_episode_steps = 220
    frozen_axes: tuple[int, ...] = (3, 4)
    workspace: Array = np.array([[0.30, -0.32, 0.012], [0.72, 0.36, 0.35]])
    start_low: Array = np.array([0.42, -0.10, 0.17])
    start_high: Array = np.array([0.52, 0.02, 0.22])
    cameras: tuple[Camera, ...] = CAMERAS
    items: tuple[Item, ...] = ITEMS
    instructions: Mapping[str, tuple[str, ...]] = {
        name: tuple(text.format(name) for text in PHRASES) for name in BLANKS
    }
    unseen_instructions: Mapping[str, tuple[str, ...]] = {
        name: tuple(text.format(name) for text in UNSEEN_PHRASES) for name in BLANKS
    }
    levels: tuple[str, ...] = LEVELS
    part_scales = (0.86, 0.97)
    moves = displaces = teleports = True

    def __init__(self) -> None:
        """Start with nothing built."""
        self.bodies: tuple[int, ...] = ()
        self.present = np.ones(len(ITEMS), dtype=bool)
        self.named = ITEMS[0].name
        self.named_body = -1
        self.phase = IDLE
        self._named_index = 0
        self._left_steps = 0
        self._held_steps = 0
        self._wrong_steps = 0
        self._shown = -1  # the phase that the lamps show; -1 unknown
        self._fixed: tuple[int, ...] = ()

    def build(self, world: World) -> None:
        """Add blanks and machine."""
        level = LEVEL[self.level]
        edge = self.grip_m = BLANK_M * self.part_scale
        mat = (level.mat_m, level.mat_m, MAT_HEIGHT_M)

        self.items = (
            *(replace(item, size=(edge,) * 3) for item in ITEMS[:FIXTURE]),
            *ITEMS[FIXTURE:MAT],
            replace(ITEMS[MAT], size=mat),
        )

        blanks = [
            world.add_box(item.size, item.rgb, BLANK_MASS_KG) for item in self.items[:FIXTURE]
        ]
        hole = BLANK_M + 2.0 * level.room_m
        block = walls_around((hole, hole), (BLOCK_M, BLOCK_M), RIM_M)
        fixture = world.add(block, [(*ITEMS[FIXTURE].rgb, 1.0)] * len(block), 0.0)
        door, button = _add_door(world, level), _add_button(world)

        lamps = [
            world.add([Shape("box", item.size)], [(*item.rgb, 1.0)], 0.0)
            for item in ITEMS[AMBER:MAT]
        ]

        mat_body = world.add([Shape("box", mat)], [(*ITEMS[MAT].rgb, 1.0)], 0.0)
        housing = _add_housing(world)
        floor = world.add([Shape("box", (hole, hole, FLOOR_M))], [(*FLOOR_RGB, 1.0)], 0.0)
        self._fixed = (housing, floor)
        self.bodies = (*blanks, fixture, door, button, *lamps, mat_body)
        for lamp in lamps:  # light is not in the way of anything
            pybullet.setCollisionFilterGroupMask(lamp, -1, 0, 0, physicsClientId=world.client)

        for sliding in (
            door,
            button,
        ):  # their slide guides them; without it they would rub on the housing
            pybullet.setCollisionFilterPair(
                sliding, housing, 0, -1, 0, physicsClientId=world.client
            )

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Scatter the blanks, place the machine with its door open, and the mat."""
        self.recall(np.array([rng.integers(3), IDLE, 0, 0, 0]))
        spots: list[Array] = []
        while len(spots) < FIXTURE:
            spot = rng.uniform(BLANKS_LOW, BLANKS_HIGH)
            if all(float(np.hypot(*(spot - other))) > SPACING_M for other in spots):
                spots.append(spot)

        for body, item, (x, y) in zip(self.bodies, self.items, spots, strict=False):
            world.place(
                body, (x, y, 0.5 * item.size[2]), yaw_quaternion(rng.uniform(-MAX_YAW, MAX_YAW))
            )

        x, y = rng.uniform(NEST_LOW, NEST_HIGH).tolist()
        limit = LEVEL[self.level].yaw
        self._place_machine(world, x, y, 0.5 * math.pi + rng.uniform(-limit, limit))
        world.place(self.bodies[MAT], (*rng.uniform(MAT_LOW, MAT_HIGH), 0.5 * MAT_HEIGHT_M))

    def _place_machine(self, world: World, x: float, y: float, yaw: float) -> None:
        """Place everything that stands where the machine does, its nest at x and y; the lamps are off."""
        housing, floor = self._fixed
        c, s = math.cos(yaw), math.sin(yaw)
        places = (
            (self.bodies[FIXTURE], (0.0, 0.0), 0.0),
            (housing, (0.0, 0.0), 0.0),
            (floor, (0.0, 0.0), 0.5 * FLOOR_M),
            (self.bodies[DOOR], (DOOR_WAY_M, 0.0), DOOR_Z_M),
            (self.bodies[BUTTON], BUTTON_AT, BUTTON_TOP_M - 0.5 * BUTTON_THICK_M),
            (self.bodies[AMBER], LAMP_AT, _lamp_height(lit=False)),
            (self.bodies[GREEN], LAMP_AT, _lamp_height(lit=False)),
        )

        for body, (along, across), height in places:
            world.place(
                body,
                (x + c * along - s * across, y + s * along + c * across, height),
                yaw_quaternion(yaw),
            )

        self._shown = IDLE

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places near the named blank where it fits with room for the fingers."""
        named = self._named_index
        pose = world.poses[named].copy()
        others = [world.poses[index, :2] for index in range(FIXTURE) if index != named]
        spots = []

        for _ in range(24):
            angle, distance = rng.uniform(-math.pi, math.pi), rng.uniform(low_m, high_m)
            spot = pose.copy()
            spot[:2] += distance * np.array([math.cos(angle), math.sin(angle)])
            inside = (spot[:2] >= BLANKS_LOW).all() and (spot[:2] <= BLANKS_HIGH).all()
            if inside and all(float(np.hypot(*(spot[:2] - other))) > SPACING_M for other in others):
                spots.append(spot)

        return spots

    def before_substep(self, world: World) -> None:
        """Show the phase: a lit lamp stands on its post, the others are inside it."""
        if self._shown == self.phase:
            return

        self._shown = self.phase
        for lamp, phase in ((AMBER, RUNNING), (GREEN, FINISHED)):
            x, y = world.rows[lamp][:2]
            world.place(
                self.bodies[lamp],
                (x, y, _lamp_height(lit=self.phase == phase)),
                world.rows[lamp][3:7],
            )

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Run the machine, then judge where the blanks are."""
        named, rows = self._named_index, world.rows
        part, tool = rows[named], robot.tool_position.tolist()
        edge, mat = self.grip_m, rows[MAT]
        room = 0.5 * (BLANK_M - edge) + LEVEL[self.level].room_m
        seated = [_seated(row, rows[FIXTURE], edge, room) for row in rows[:FIXTURE]]
        way = world.way_m(self.bodies[DOOR])
        started_wrong = self._run(world, seated, shut=way > DOOR_WAY_M - SHUT_M)
        clear = [math.dist(tool, row[:3]) > CLEAR_M for row in rows[:FIXTURE]]
        on_mat = [self._on_mat(row, mat) for row in rows[:FIXTURE]]
        others = [index for index in range(FIXTURE) if on_mat[index] and index != named]
        speed = math.hypot(*part[7:10])
        out = self.phase == FINISHED and on_mat[named] and not others and way < OPEN_M
        done = out and clear[named] and robot.opening_m > RELEASED_M and speed < REST_M_S
        self._held_steps = self._held_steps + 1 if done else 0
        self._wrong_steps = self._wrong_steps + 1 if any(clear[index] for index in others) else 0

        if self._held_steps >= HOLD_STEPS:
            return Verdict("done", success=True)

        failure = ""
        if part[2] < -0.02:
            failure = "dropped"
        elif started_wrong or self._wrong_steps >= HOLD_STEPS:
            failure = "wrong_part"
        elif (
            part[2] < LOW_M
            and clear[named]
            and speed < SLOW_M_S
            and not robot.reaches(part[0], part[1])
        ):
            failure = "out_of_reach"

        if self.phase != IDLE:
            return Verdict("running" if self.phase == RUNNING else "unload", failure=failure)
        if seated[named]:
            return Verdict("press" if way > DOOR_WAY_M - SHUT_M else "close", failure=failure)

        held = math.dist(tool, part[:3]) < 0.03 and robot.gripper > 0.0
        return Verdict("load" if held else "approach", failure=failure)

    def _run(self, world: World, seated: list[bool], *, shut: bool) -> bool:
        """Advance the machine by one control step; return whether it started on another blank than the named one."""
        if (
            self.phase == IDLE
            and shut
            and any(seated)
            and world.way_m(self.bodies[BUTTON]) > PRESSED_M
        ):
            if not seated[self._named_index]:
                return True
            self.phase, self._left_steps = RUNNING, RUN_STEPS
        elif self.phase == RUNNING:
            self._left_steps -= 1
            if not shut:
                self.phase, self._left_steps = IDLE, 0
            elif self._left_steps == 0:
                self.phase = FINISHED

        return False

    def _on_mat(self, row: Sequence[float], mat: Sequence[float]) -> bool:
        reach = 0.5 * LEVEL[self.level].mat_m
        low = row[2] < MAT_HEIGHT_M + 0.5 * self.grip_m + ON_MAT_M
        return low and abs(row[0] - mat[0]) < reach and abs(row[1] - mat[1]) < reach

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named blank; only used where it lies as placed."""
        pose = world.poses[self._named_index]
        return ToolPose(pose[:3] + np.array([0.0, 0.0, GRIP_ABOVE_M]), yaw_of(pose.tolist()))

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose at which the named blank is in the nest."""
        fixture = world.poses[FIXTURE]
        height = FLOOR_M + 0.5 * self.grip_m + GRIP_ABOVE_M
        yaw = (yaw_of(fixture.tolist()) + 0.5 * SAME_TURN) % SAME_TURN - 0.5 * SAME_TURN
        return ToolPose(fixture[:3] + np.array([0.0, 0.0, height]), yaw)

    def memory(self) -> Array:
        """Return the named blank's number, the machine's phase and three counters of steps, shape (5,)."""
        counters = (self._left_steps, self._held_steps, self._wrong_steps)
        return np.array([self._named_index, self.phase, *counters], dtype=float)

    def recall(self, memory: Array) -> None:
        """Come back to `memory`."""
        self._named_index, self.phase, self._left_steps, self._held_steps, self._wrong_steps = (
            int(value) for value in memory
        )
        self._shown = -1
        self.named = ITEMS[self._named_index].name
        self.named_body = self.bodies[self._named_index]


def _add_door(world: World, level: Level) -> int:
    """Add the lid with the bar that stands on it and the arm by which its rail guides it, against the machine's x."""
    knob, reach = KNOB_TOP_M - DOOR_Z_M - 0.5 * DOOR_THICK_M, RAIL_Y_M - 0.5 * DOOR_M
    shapes = [
        Shape("box", ITEMS[DOOR].size),
        Shape("box", (KNOB_X_M, KNOB_Y_M, knob), (0.0, 0.0, 0.5 * (DOOR_THICK_M + knob))),
        Shape("box", (0.030, reach, DOOR_THICK_M), (0.0, 0.5 * DOOR_M + 0.5 * reach, 0.0)),
    ]
    slide = Slide((-1.0, 0.0, 0.0), 0.0, DOOR_WAY_M, friction_n=level.door_n)
    return world.add_sliding(shapes, [(*ITEMS[DOOR].rgb, 1.0)] * len(shapes), level.door_kg, slide)


def _add_button(world: World) -> int:
    slide = Slide((0.0, 0.0, -1.0), 0.0, BUTTON_WAY_M, spring_n=BUTTON_N)
    return world.add_sliding(
        [Shape("box", ITEMS[BUTTON].size)], [(*ITEMS[BUTTON].rgb, 1.0)], 0.05, slide
    )


def _add_housing(world: World) -> int:
    """Add what carries door, button and lamps: a cabinet beside the fixture, a rail along both, and two posts."""
    below = DOOR_Z_M - 0.5 * DOOR_THICK_M - 0.004
    start, end, rail = 0.5 * BLOCK_M + 0.034, DOOR_WAY_M + 0.5 * DOOR_M + 0.005, -0.030
    bottom = BUTTON_TOP_M - BUTTON_THICK_M - BUTTON_WAY_M

    shapes = [
        Shape("box", (end - start, DOOR_M, below), (0.5 * (start + end), 0.0, 0.5 * below)),
        Shape(
            "box",
            (end - rail, RAIL_M, RAIL_M),
            (0.5 * (rail + end), RAIL_Y_M, below - 0.5 * RAIL_M),
        ),
        Shape("box", (RAIL_M, RAIL_M, below), (rail + 0.5 * RAIL_M, RAIL_Y_M, 0.5 * below)),
        Shape("box", (RAIL_M, RAIL_M, below), (end - 0.5 * RAIL_M, RAIL_Y_M, 0.5 * below)),
        Shape("box", (0.044, 0.056, bottom), (BUTTON_AT[0], BUTTON_AT[1] + 0.006, 0.5 * bottom)),
        Shape("box", (POST_M, POST_M, POST_HEIGHT_M), (*LAMP_AT, 0.5 * POST_HEIGHT_M)),
    ]

    return world.add(shapes, [(*HOUSING_RGB, 1.0)] * len(shapes), 0.0)


def _lamp_height(*, lit: bool) -> float:
    """Return the height of a lamp's middle, m."""
    return POST_HEIGHT_M + (0.5 if lit else -0.75) * LAMP_HEIGHT_M


def _seated(row: Sequence[float], fixture: Sequence[float], edge: float, room: float) -> bool:
    """Return whether a blank lies on the floor of the nest."""
    away = math.hypot(row[0] - fixture[0], row[1] - fixture[1])
    return row[2] < FLOOR_M + 0.5 * edge + SEATED_M and away < math.sqrt(2.0) * room + SEATED_M


def make(**options: object) -> WorkCell:
    """Build the cell; see `shopfloor.envs.description.CellOptions` for the options."""
    return WorkCell(CELL_ID, MachineTending(), **options)


def expert(execute: int = 1) -> ScriptedExpert:
    """Return the scripted expert; `execute` is how many actions of a chunk callers run."""
    task = MachineTending
    return ScriptedExpert(
        CELL_ID, VERSION, task.instructions, decide, execute, unseen=task.unseen_instructions
    )
