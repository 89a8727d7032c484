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
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from shopfloor.envs.cells.lamps import light_z, post_at
from shopfloor.envs.experts.scene import QUARTER_TURN, wrap
from shopfloor.envs.looks.camera import Camera, wrist_camera
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.kinematics import over_square, yaw_of, yaw_quaternion
from shopfloor.envs.physics.scatter import scatter
from shopfloor.envs.physics.shapes import Shape, Slide, walls_around
from shopfloor.envs.physics.world import World
from shopfloor.envs.robots.arm import Arm, top_down
from shopfloor.envs.task import (
    DONE,
    REST_M_S,
    Array,
    Item,
    Level,
    Memory,
    Streak,
    Task,
    ToolPose,
    Verdict,
    Wording,
    by_level,
)

BLANK_M, BLANK_MASS_KG, GRIP_ABOVE_M = 0.040, 0.1, 0.006
# The machine's own frame has its origin in the middle of the nest and its x axis towards where the
# open door stands; the door and the button are where they are when nothing pushes them.
BLOCK_M, FLOOR_M, RIM_M = 0.090, 0.006, 0.018
DOOR_M, DOOR_THICK_M, DOOR_WAY_M, DOOR_Z_M = 0.100, 0.006, 0.130, 0.055
KNOB_X_M, KNOB_Y_M, KNOB_TOP_M = 0.012, 0.050, 0.077
BUTTON_M, BUTTON_THICK_M, BUTTON_TOP_M, BUTTON_WAY_M, BUTTON_N = 0.030, 0.012, 0.062, 0.009, 5.0
LAMP_M, LAMP_HEIGHT_M = 0.024, 0.026
RAIL_Y_M, RAIL_M, RAIL_X_M = 0.085, 0.012, -0.030
BUTTON_AT, LAMP_AT = (0.100, -0.090), (0.130, 0.118)
MAT_HEIGHT_M = 0.003
HOUSING_RGB, FLOOR_RGB = (0.42, 0.46, 0.50), (0.10, 0.11, 0.13)

BLANKS_LOW, BLANKS_HIGH = (0.33, -0.28), (0.51, -0.07)
NEST_LOW, NEST_HIGH = (0.44, 0.08), (0.54, 0.13)
MAT_LOW, MAT_HIGH = (0.62, -0.20), (0.66, -0.10)
SPACING_M = 0.105
TRIES = 1_000_000  # two blanks may leave the third but a tiny corner
MAX_YAW = math.pi / 4

SHUT_M, OPEN_M = 0.008, 0.030  # of the door's way, from either end
PRESSED_M = 0.004
RUN_STEPS = 20
SEATED_M = 0.003  # above the floor of the nest, and beyond its room sideways
ON_MAT_M = 0.003
CLEAR_M, RELEASED_M = 0.045, 0.060  # tool to blank and between the fingers, once let go
LOW_M = 0.07  # a blank that is higher may still fall
IDLE, RUNNING, FINISHED = range(3)

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


@dataclass(frozen=True)
class Job(Level):
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


@dataclass
class MachineProgress(Memory):
    """How far an episode is.

    Attributes:
        named: row of the named blank.
        phase: of the machine: IDLE, RUNNING or FINISHED.
        left: control steps for which the machine still runs.
        held: steps for which the job has been done.
        wrong: steps for which another blank has lain on the mat.
    """

    named: int = 0
    phase: int = IDLE
    left: int = 0
    held: Streak = field(default_factory=Streak)
    wrong: Streak = field(default_factory=Streak)


class MachineTending(Task):
    """The task; see the module's text."""

    max_episode_steps = 220
    post = top_down(
        (0.30, -0.32, 0.012), (0.72, 0.36, 0.35), (0.42, -0.10, 0.17), (0.52, 0.02, 0.22)
    )
    cameras = (
        Camera("front", eye=(0.96, 0.03, 0.62), target=(0.49, 0.03, 0.0), fov_deg=46.0),
        wrist_camera(),
    )
    wording = Wording.of(
        (item.name for item in ITEMS[:FIXTURE]),
        (
            "Machine the {} and put it on the out mat.",
            "Load the {} into the machine, run it, and place it on the out mat.",
            "Have the machine work on the {}, then put it on the out mat.",
            "The {} goes through the machine and then onto the out mat.",
            "Put the {} in the machine, close the door, press the button, and unload it onto the out mat.",
        ),
        (
            "Process the {}: in, door, start, out to the mat.",
            "I need the {} finished and laid out on the mat.",
            "Next job for the machine is the {}; leave it on the mat afterwards.",
        ),
    )
    jobs = by_level(
        easy=Job(0.1, 0.003, 1.0, 0.2, 0.12),
        nominal=Job(0.3, 0.002, 2.0, 0.3, 0.10),
        hard=Job(0.5, 0.0012, 6.0, 0.8, 0.08),
    )
    job: Job
    remembers = MachineProgress
    progress: MachineProgress
    part_scales = (0.86, 0.97)
    moves = displaces = teleports = True

    def list_items(self) -> tuple[Item, ...]:
        """Return the blanks, and machine and mat as goals."""
        blanks = (item.scaled(self.part_scale) for item in ITEMS[:FIXTURE])
        mat = replace(ITEMS[MAT], size=(self.job.mat_m, self.job.mat_m, MAT_HEIGHT_M))
        return (*blanks, *ITEMS[FIXTURE:MAT], mat)

    def build(self, world: World) -> None:
        """Add blanks and machine."""
        blanks = [
            world.add_box(item.size, item.rgb, BLANK_MASS_KG) for item in self.items[:FIXTURE]
        ]
        hole = BLANK_M + 2.0 * self.job.room_m
        block = walls_around((hole, hole), (BLOCK_M, BLOCK_M), RIM_M)
        fixture = world.add_fixed(block, ITEMS[FIXTURE].rgb)
        door, button = _add_door(world, self.job), _add_button(world)

        plates = [
            world.add_fixed([Shape("box", item.size)], item.rgb) for item in self.items[AMBER:]
        ]
        self._housing = world.add_fixed(_housing_shapes(), HOUSING_RGB)
        self._floor = world.add_fixed([Shape("box", (hole, hole, FLOOR_M))], FLOOR_RGB)
        self.bodies = (*blanks, fixture, door, button, *plates)

        for lamp in self.bodies[AMBER:MAT]:
            world.make_intangible(lamp)
        # The slides guide door and button; without it they would rub on the housing.
        for sliding in (door, button):
            pybullet.setCollisionFilterPair(
                sliding, self._housing, 0, -1, 0, physicsClientId=world.client
            )

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Scatter the blanks, place the machine with its door open, and the mat."""
        self.begin(named=int(rng.integers(FIXTURE)))
        spots = scatter(BLANKS_LOW, BLANKS_HIGH, FIXTURE, SPACING_M, rng, TRIES)
        self.lay_out(world, spots, rng.uniform(-MAX_YAW, MAX_YAW, FIXTURE))
        x, y = rng.uniform(NEST_LOW, NEST_HIGH).tolist()
        yaw = 0.5 * math.pi + rng.uniform(-self.job.yaw, self.job.yaw)
        self._place_machine(world, x, y, yaw)
        world.place(self.bodies[MAT], (*rng.uniform(MAT_LOW, MAT_HIGH), 0.5 * MAT_HEIGHT_M))

    def _place_machine(self, world: World, x: float, y: float, yaw: float) -> None:
        """Place everything that stands where the machine does, its nest at x and y; the lamps are off."""
        places = (
            (self.bodies[FIXTURE], (0.0, 0.0), 0.0),
            (self._housing, (0.0, 0.0), 0.0),
            (self._floor, (0.0, 0.0), 0.5 * FLOOR_M),
            (self.bodies[DOOR], (DOOR_WAY_M, 0.0), DOOR_Z_M),
            (self.bodies[BUTTON], BUTTON_AT, BUTTON_TOP_M - 0.5 * BUTTON_THICK_M),
            (self.bodies[AMBER], LAMP_AT, light_z(ITEMS[AMBER], lit=False)),
            (self.bodies[GREEN], LAMP_AT, light_z(ITEMS[GREEN], lit=False)),
        )

        c, s = math.cos(yaw), math.sin(yaw)
        for body, (along, across), height in places:
            place = (x + c * along - s * across, y + s * along + c * across, height)
            world.place(body, place, yaw_quaternion(yaw))

        self._shown = IDLE

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places near the named blank where it fits with room for the fingers."""
        rectangle = (BLANKS_LOW, BLANKS_HIGH)
        return self.spots_beside(world, rectangle, (low_m, high_m), SPACING_M, rng)

    def before_substep(self, world: World) -> None:
        """Show the phase: a lit lamp stands on its post, the others are inside it."""
        phase = self.progress.phase
        if self._shown == phase:
            return

        self._shown = phase
        for lamp, meaning in ((AMBER, RUNNING), (GREEN, FINISHED)):
            row = world.rows[lamp]
            place = (*row[:2], light_z(ITEMS[lamp], lit=phase == meaning))
            world.place(self.bodies[lamp], place, row[3:7])

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Run the machine, then judge where the blanks are."""
        progress, rows = self.progress, world.rows
        named, blanks = progress.named, rows[:FIXTURE]
        seated = [self._seated(row, rows[FIXTURE]) for row in blanks]
        way = world.way_m(self.bodies[DOOR])
        shut = way > DOOR_WAY_M - SHUT_M
        started_wrong = self._run(world, seated, shut=shut)

        part, tool = rows[named], robot.tool_position.tolist()
        clear = [math.dist(tool, row[:3]) > CLEAR_M for row in blanks]
        on_mat = [index for index, row in enumerate(blanks) if self._on_mat(row, rows[MAT])]
        out = progress.phase == FINISHED and on_mat == [named] and way < OPEN_M
        let_go = clear[named] and robot.opening_m > RELEASED_M
        if progress.held.count(out and let_go and math.hypot(*part[7:10]) < REST_M_S):
            return DONE

        progress.wrong.count(any(clear[index] for index in on_mat if index != named))
        failure = self.failure(part, robot, let_go=clear[named], below_m=LOW_M)
        if started_wrong and failure != "dropped":
            failure = "wrong_part"

        if progress.phase != IDLE:
            return Verdict("running" if progress.phase == RUNNING else "unload", failure=failure)
        if seated[named]:
            return Verdict("press" if shut else "close", failure=failure)
        held = math.dist(tool, part[:3]) < 0.03 and robot.gripper > 0.0
        return Verdict("load" if held else "approach", failure=failure)

    def _run(self, world: World, seated: list[bool], *, shut: bool) -> bool:
        """Advance the machine by one control step; return whether it started on another blank than the named one."""
        progress = self.progress
        if progress.phase == IDLE:
            pressed = world.way_m(self.bodies[BUTTON]) > PRESSED_M
            if not (shut and pressed and any(seated)):
                return False
            if not seated[progress.named]:
                return True
            progress.phase, progress.left = RUNNING, RUN_STEPS

        elif progress.phase == RUNNING:
            progress.left -= 1
            if not shut:
                progress.phase, progress.left = IDLE, 0
            elif progress.left == 0:
                progress.phase = FINISHED

        return False

    def _seated(self, row: Sequence[float], fixture: Sequence[float]) -> bool:
        """Return whether a blank lies on the floor of the nest."""
        room = 0.5 * (BLANK_M - self.grip_m) + self.job.room_m
        low = row[2] < FLOOR_M + 0.5 * self.grip_m + SEATED_M
        return low and math.dist(row[:2], fixture[:2]) < math.sqrt(2.0) * room + SEATED_M

    def _on_mat(self, row: Sequence[float], mat: Sequence[float]) -> bool:
        low = row[2] < MAT_HEIGHT_M + 0.5 * self.grip_m + ON_MAT_M
        return low and over_square(row, mat, self.job.mat_m)

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named blank; only used where it lies as placed."""
        return ToolPose.above(world.poses[self.progress.named], GRIP_ABOVE_M)

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose at which the named blank is in the nest."""
        fixture = world.poses[FIXTURE]
        height = FLOOR_M + 0.5 * self.grip_m + GRIP_ABOVE_M
        return ToolPose(
            fixture[:3] + np.array([0.0, 0.0, height]), wrap(yaw_of(fixture), QUARTER_TURN)
        )

    def take_up(self) -> None:
        """Set what follows from `progress`; the lamps may show another phase."""
        super().take_up()
        self._shown = -1


def _add_door(world: World, job: Job) -> int:
    """Add the lid with the bar that stands on it and the arm by which its rail guides it, against the machine's x."""
    knob, reach = KNOB_TOP_M - DOOR_Z_M - 0.5 * DOOR_THICK_M, RAIL_Y_M - 0.5 * DOOR_M
    shapes = [
        Shape("box", ITEMS[DOOR].size),
        Shape("box", (KNOB_X_M, KNOB_Y_M, knob), (0.0, 0.0, 0.5 * (DOOR_THICK_M + knob))),
        Shape("box", (0.030, reach, DOOR_THICK_M), (0.0, 0.5 * DOOR_M + 0.5 * reach, 0.0)),
    ]
    slide = Slide((-1.0, 0.0, 0.0), 0.0, DOOR_WAY_M, friction_n=job.door_n)
    return world.add_sliding(shapes, [(*ITEMS[DOOR].rgb, 1.0)] * len(shapes), job.door_kg, slide)


def _add_button(world: World) -> int:
    item = ITEMS[BUTTON]
    slide = Slide((0.0, 0.0, -1.0), 0.0, BUTTON_WAY_M, spring_n=BUTTON_N)
    return world.add_sliding([Shape("box", item.size)], [(*item.rgb, 1.0)], 0.05, slide)


def _housing_shapes() -> list[Shape]:
    """Return what carries door, button and lamps: a cabinet beside the fixture, a rail along both, and two posts."""
    below = DOOR_Z_M - 0.5 * DOOR_THICK_M - 0.004
    start, end = 0.5 * BLOCK_M + 0.034, DOOR_WAY_M + 0.5 * DOOR_M + 0.005
    rail, foot = (end - RAIL_X_M, RAIL_M, RAIL_M), (RAIL_M, RAIL_M, below)
    bottom = BUTTON_TOP_M - BUTTON_THICK_M - BUTTON_WAY_M

    return [
        Shape("box", (end - start, DOOR_M, below), (0.5 * (start + end), 0.0, 0.5 * below)),
        Shape("box", rail, (0.5 * (RAIL_X_M + end), RAIL_Y_M, below - 0.5 * RAIL_M)),
        Shape("box", foot, (RAIL_X_M + 0.5 * RAIL_M, RAIL_Y_M, 0.5 * below)),
        Shape("box", foot, (end - 0.5 * RAIL_M, RAIL_Y_M, 0.5 * below)),
        Shape("box", (0.044, 0.056, bottom), (BUTTON_AT[0], BUTTON_AT[1] + 0.006, 0.5 * bottom)),
        post_at(LAMP_AT),
    ]
