"""ToteInspection: show the part that the instruction names to a camera, and sort it by the mark on its underside.

Task: parts of different colours stand in a shallow tote, each with a green (accept) or a red
(reject) mark underneath; the instruction names a part by its colour. It is held above the window of
a camera that looks up, upright, square to the window and still, until the station has read its mark
and lights the green or the red lamp. Then it goes into the bin of that colour. Neither the fixed
view nor the one on the wrist sees a mark before that; the view `inspect` does. Randomisation: parts
anywhere in the tote at a yaw within +-45 degrees, with room for the fingers between them; the
tote's centre on 4 x 3 cm and its yaw; the bins on 3 x 3 cm each, and which of them is which; the
marks; the named part; the phrasing; where the tool starts; light and colours (mildly). The station
is bolted down. Levels: at "easy", "nominal" and "hard" there are 2, 3 and 4 parts, the tote is
turned by up to 0, 0.1 and 0.25 rad, the part's middle has to be within 30, 20 and 12 mm of the
station's axis (in height within 40, 30 and 20 mm), square within 45, 20 and 9 degrees, for 0.2, 0.3
and 0.5 s, and the bins do not change places, do, do. Success: the named part has been shown and
lies in the bin of its mark, without other parts in the bins, slower than 5 mm/s, gripper open and
clear, for 0.5 s. Failure: the named part left in the other bin, or in a bin before it has been
shown, or another part left in a bin (`wrong_part`), the named part off the table or lying on its
side, where its mark cannot be shown any more (`dropped`), or left where the tool cannot come
(`out_of_reach`), time (`timeout`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.cells.tote_inspection_expert import (
    FLOOR_M,
    GRIP_ABOVE_M,
    SAME_TURN,
    VERSION,
    WALL_M,
    ZONE_M,
    decide,
)
from shopfloor.envs.experts.scripted import ScriptedExpert
from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.kinematics import uprightness, yaw_of, yaw_quaternion
from shopfloor.envs.physics.world import Shape, World, walls_around
from shopfloor.envs.robots.arm import Arm
from shopfloor.envs.task import HOLD_STEPS, REST_M_S, Item, Task, ToolPose, Verdict
from shopfloor.envs.variation import LEVELS

Array = npt.NDArray[np.float64]

CELL_ID = "shopfloor/ToteInspection-v0"
PART_M, PART_HEIGHT_M, PART_MASS_KG = 0.040, 0.050, 0.1
MARK_M, MARK_THICK_M, MARK_OUT_M = (
    0.026,
    0.0012,
    0.0009,
)  # how far it stands out of the part: it touches nothing
TOTE_M, BIN_M, SIDE_M = (0.320, 0.240), 0.110, 0.005  # inside; thickness of walls
WALL_GAP_M, SPACING_M, REACH_M = 0.035, 0.100, 0.700
TOTE_LOW, TOTE_HIGH = (0.48, -0.185), (0.52, -0.155)
BIN_AT, BIN_SHIFT_M = ((0.410, 0.250), (0.585, 0.250)), 0.015
WINDOW_AT, STATION_M, STATION_HEIGHT_M, GLASS_M = (0.500, 0.085), 0.070, 0.030, 0.044
LAMP_AT = ((0.425, 0.060), (0.425, 0.110))
LAMP_M, LAMP_HEIGHT_M, POST_M, POST_HEIGHT_M = 0.026, 0.028, 0.032, 0.056
MAX_YAW = math.pi / 4
STILL_M_S = 0.04
UPRIGHT_COSINE, LYING_COSINE = math.cos(math.radians(15.0)), math.cos(math.radians(45.0))
CLEAR_M, RELEASED_M = 0.050, 0.060  # tool to part and between the fingers, once let go
SLOW_M_S, LOW_M = 0.02, 0.06

NAMES = ("blue part", "yellow part", "purple part", "white part")
COLOURS = ((0.15, 0.30, 0.85), (0.92, 0.78, 0.15), (0.55, 0.20, 0.65), (0.92, 0.92, 0.90))
GREEN, RED = (0.10, 0.80, 0.25), (0.90, 0.12, 0.12)
# The items after the parts, by their place there.
WINDOW, ACCEPT_BIN, REJECT_BIN, ACCEPT_LAMP, REJECT_LAMP, ACCEPT_MARK, REJECT_MARK, TOTE = range(8)
_BIN_SIZE = (BIN_M + 2 * SIDE_M, BIN_M + 2 * SIDE_M, WALL_M)
_MARK_SIZE, _LAMP_SIZE = (MARK_M, MARK_M, MARK_THICK_M), (LAMP_M, LAMP_M, LAMP_HEIGHT_M)
FIXED = (
    Item("window", (GLASS_M, GLASS_M, 0.002), (0.08, 0.09, 0.14), is_goal=True),
    Item("accept bin", _BIN_SIZE, (0.45, 0.72, 0.48), is_goal=True),
    Item("reject bin", _BIN_SIZE, (0.80, 0.42, 0.40), is_goal=True),
    Item("accept lamp", _LAMP_SIZE, GREEN, is_goal=True),
    Item("reject lamp", _LAMP_SIZE, RED, is_goal=True),
    Item("accept mark", _MARK_SIZE, GREEN, is_goal=True),
    Item("reject mark", _MARK_SIZE, RED, is_goal=True),
    Item(
        "tote",
        (TOTE_M[0] + 2 * SIDE_M, TOTE_M[1] + 2 * SIDE_M, WALL_M),
        (0.45, 0.50, 0.58),
        is_goal=True,
    ),
)
PHRASES = (
    "Inspect the {} and sort it by its mark.",
    "Show the {} to the camera and put it into the bin of its mark.",
    "Take the {} out of the tote, have it inspected, and sort it.",
    "Hold the {} over the inspection window, then put it in the right bin.",
    "The {} has to be checked and sorted.",
)
UNSEEN_PHRASES = (
    "Find out whether the {} is good or scrap, and bin it accordingly.",
    "Quality check for the {}, please: look underneath, then sort.",
    "Let the station read the {} before it goes to its bin.",
)
INSTRUCTIONS = {name: tuple(text.format(name) for text in PHRASES) for name in NAMES}
UNSEEN_INSTRUCTIONS = {name: tuple(text.format(name) for text in UNSEEN_PHRASES) for name in NAMES}
CAMERAS = (
    Camera("front", eye=(0.98, 0.0, 0.66), target=(0.485, 0.0, 0.0), fov_deg=48.0),
    Camera("wrist", eye=(0.085, 0.0, 0.085), target=(0.02, 0.0, 0.0), fov_deg=80.0, on_tool=True),
    Camera(
        "inspect",
        eye=(*WINDOW_AT, STATION_HEIGHT_M + 0.004),
        target=(*WINDOW_AT, ZONE_M),
        up=(-1.0, 0.0, 0.0),
        fov_deg=60.0,
    ),
)


@dataclass(frozen=True)
class Level:
    """What differs between levels.

    Attributes:
        parts: how many are in the tote.
        yaw: the tote is turned by up to that much, rad.
        aside_m, height_m: how far the middle of a part that is shown may be off the zone's middle.
        turn: by how much it may be off square to the window, rad.
        steps: for how long it has to be shown, control steps.
        swaps: whether the bins change places.
    """

    parts: int
    yaw: float
    aside_m: float
    height_m: float
    turn: float
    steps: int
    swaps: bool


LEVEL = {
    "easy": Level(2, 0.0, 0.030, 0.040, math.radians(45.0), 4, swaps=False),
    "nominal": Level(3, 0.1, 0.020, 0.030, math.radians(20.0), 6, swaps=True),
    "hard": Level(4, 0.25, 0.012, 0.020, math.radians(9.0), 10, swaps=True),
}


class ToteInspection(Task):
    """The task; see the module's text.

    Attributes:
        shown: whether the named part has been shown long enough.
        accepts: per part, whether its mark is green.
    """

    max_episode_steps = 110
    frozen_axes: tuple[int, ...] = (3, 4)
    workspace: Array = np.array([[0.30, -0.34, 0.012], [0.70, 0.33, 0.35]])
    start_low: Array = np.array([0.44, -0.10, 0.17])
    start_high: Array = np.array([0.54, 0.02, 0.22])
    cameras: tuple[Camera, ...] = CAMERAS
    levels: tuple[str, ...] = LEVELS
    part_scales = (0.86, 1.05)
    moves = displaces = teleports = True

    def __init__(self) -> None:
        """Start with nothing built."""
        self.bodies: tuple[int, ...] = ()
        self.named = NAMES[0]
        self.named_body = -1
        self.shown = False
        self.accepts: tuple[bool, ...] = (False,) * len(NAMES)
        self._named_index = 0
        self._show_steps = 0
        self._held_steps = 0
        self._wrong_steps = 0

        self._lit: bool | None = None  # whether a lamp is; None unknown
        self._marks: tuple[int, ...] = ()
        self._station = -1
        self._world: World | None = None
        self.set_level("nominal")

    def set_level(self, level: str) -> None:
        """Change to one of `levels`; takes effect with the next `build` and `reset`."""
        super().set_level(level)
        self._parts = LEVEL[level].parts
        names = NAMES[: self._parts]
        self.instructions: Mapping[str, tuple[str, ...]] = {
            name: INSTRUCTIONS[name] for name in names
        }
        self.unseen_instructions: Mapping[str, tuple[str, ...]] = {
            name: UNSEEN_INSTRUCTIONS[name] for name in names
        }
        self._measure()

    def _measure(self) -> None:
        """Set what follows from the number of parts and their size."""
        scale = self.part_scale
        size = (PART_M * scale, PART_M * scale, PART_HEIGHT_M * scale)
        parts = (Item(name, size, rgb) for name, rgb in zip(NAMES, COLOURS, strict=True))
        self.items: tuple[Item, ...] = (*tuple(parts)[: self._parts], *FIXED)
        self.grip_m, self._height = size[0], size[2]
        self.present = np.ones(len(self.items), dtype=bool)

    def build(self, world: World) -> None:
        """Add parts with their marks, tote, bins and station."""
        self._measure()
        self._world = world
        parts = [
            world.add_box(item.size, item.rgb, PART_MASS_KG) for item in self.items[: self._parts]
        ]
        fixed = [self._add_fixed(world, index, item) for index, item in enumerate(FIXED)]
        self._marks = tuple(_add_plate(world, FIXED[ACCEPT_MARK]) for _ in parts)
        self._station = _add_station(world)
        self.bodies = (*parts, *fixed)

        for index in (ACCEPT_LAMP, REJECT_LAMP, ACCEPT_MARK, REJECT_MARK):
            _make_intangible(world, fixed[index])
        for mark in self._marks:
            _make_intangible(world, mark)

    def _add_fixed(self, world: World, index: int, item: Item) -> int:
        if index == TOTE:
            return _add_box(world, item, *TOTE_M)
        if index in (ACCEPT_BIN, REJECT_BIN):
            return _add_box(world, item, BIN_M, BIN_M)
        return _add_plate(world, item)

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Place everything; the lamps are off, the marks follow with the first `judge`."""
        level, count = LEVEL[self.level], self._parts
        accepts = [*rng.integers(0, 2, len(NAMES))]
        self.recall(np.array([rng.integers(count), 0, 0, 0, 0, *accepts], dtype=float))
        centre, yaw = rng.uniform(TOTE_LOW, TOTE_HIGH), rng.uniform(-level.yaw, level.yaw)
        world.place(self._fixed(TOTE), (*centre, 0.0), yaw_quaternion(yaw))

        for body, (x, y) in zip(self.bodies, _spots(centre, yaw, count, rng), strict=False):
            world.place(
                body,
                (x, y, FLOOR_M + 0.5 * self._height),
                yaw_quaternion(yaw + rng.uniform(-MAX_YAW, MAX_YAW)),
            )

        swapped = bool(rng.integers(2)) and level.swaps
        for index, place in zip(
            (ACCEPT_BIN, REJECT_BIN), BIN_AT[::-1] if swapped else BIN_AT, strict=True
        ):
            world.place(
                self._fixed(index), (*(rng.uniform(-BIN_SHIFT_M, BIN_SHIFT_M, 2) + place), 0.0)
            )

        world.place(self._station, (0.0, 0.0, 0.0))
        world.place(self._fixed(WINDOW), (*WINDOW_AT, STATION_HEIGHT_M + 0.001))
        self._light(world)

    def _fixed(self, index: int) -> int:
        return self.bodies[self._parts + index]

    def _light(self, world: World) -> None:
        """Put the lamps where they belong: on its post while lit, else inside it."""
        self._lit = self.shown
        accepted = self.accepts[self._named_index]
        for index, place, mine in zip(
            (ACCEPT_LAMP, REJECT_LAMP), LAMP_AT, (accepted, not accepted), strict=True
        ):
            lit = self.shown and mine
            world.place(
                self._fixed(index),
                (*place, POST_HEIGHT_M + (0.5 if lit else -0.75) * LAMP_HEIGHT_M),
            )

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places in the tote near the named part where it stands with room for the fingers."""
        named, tote = self._named_index, world.poses[self._parts + TOTE]
        pose = world.poses[named].copy()
        others = [world.poses[index, :2] for index in range(self._parts) if index != named]
        spots = []

        for _ in range(48):
            angle, distance = rng.uniform(-math.pi, math.pi), rng.uniform(low_m, high_m)
            spot = pose.copy()
            spot[:2] += distance * np.array([math.cos(angle), math.sin(angle)])
            along, across = _local(spot.tolist(), tote.tolist())

            inside = (
                abs(along) < 0.5 * TOTE_M[0] - WALL_GAP_M
                and abs(across) < 0.5 * TOTE_M[1] - WALL_GAP_M
            )

            near = float(np.hypot(*spot[:2])) < REACH_M
            if (
                inside
                and near
                and all(float(np.hypot(*(spot[:2] - other))) > SPACING_M for other in others)
            ):
                spots.append(spot)

        return spots

    def before_substep(self, world: World) -> None:
        """Light the lamp of the mark once the part has been shown."""
        if self._lit != self.shown:
            self._light(world)

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Move the marks with their parts, read the one that is shown, then judge where the parts are."""
        self._carry_marks(world)
        count, named, rows = self._parts, self._named_index, world.rows
        part, tool = rows[named], robot.tool_position.tolist()
        self._inspect(part, rows[count + WINDOW])
        clear = [math.dist(tool, row[:3]) > CLEAR_M for row in rows[:count]]
        accepted = self.accepts[named]
        right = rows[count + (ACCEPT_BIN if accepted else REJECT_BIN)]
        wrong = rows[count + (REJECT_BIN if accepted else ACCEPT_BIN)]
        sorted_right = self._in_bin(part, right)
        misplaced = self._in_bin(part, wrong) or (sorted_right and not self.shown)

        strays = [
            index
            for index in range(count)
            if index != named
            and (self._in_bin(rows[index], right) or self._in_bin(rows[index], wrong))
        ]

        speed, upright = math.hypot(*part[7:10]), uprightness(part)
        let_go = clear[named] and robot.opening_m > RELEASED_M
        done = sorted_right and self.shown and not strays and let_go and speed < REST_M_S
        self._held_steps = self._held_steps + 1 if done else 0
        amiss = (misplaced and clear[named]) or any(clear[index] for index in strays)
        self._wrong_steps = self._wrong_steps + 1 if amiss else 0
        if self._held_steps >= HOLD_STEPS:
            return Verdict("done", success=True)

        failure = ""
        left = part[2] < LOW_M and clear[named] and speed < SLOW_M_S
        if part[2] < -0.02 or (left and upright < LYING_COSINE and not sorted_right):
            failure = "dropped"
        elif self._wrong_steps >= HOLD_STEPS:
            failure = "wrong_part"
        elif left and not robot.reaches(part[0], part[1]):
            failure = "out_of_reach"

        held = math.dist(tool, part[:3]) < 0.03 and robot.gripper > 0.0
        return Verdict(self._stage(part, held=held, sorted_right=sorted_right), failure=failure)

    def _stage(self, part: Sequence[float], *, held: bool, sorted_right: bool) -> str:
        if sorted_right and self.shown:
            return "release"
        if not held:
            return "approach"
        if part[2] < FLOOR_M + 0.5 * self._height + 0.01:
            return "grasp"
        return "carry" if self.shown else "show"

    def _carry_marks(self, world: World) -> None:
        """Put each mark under its part, where the part was found after the last substep."""
        named = self._named_index
        shown = self._fixed(ACCEPT_MARK if self.accepts[named] else REJECT_MARK)
        low = 0.5 * self._height + MARK_OUT_M - 0.5 * MARK_THICK_M
        for index, row in enumerate(world.rows[: self._parts]):
            x, y, z, w = row[3:7]
            axis = (2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y))
            place = [row[at] - low * axis[at] for at in range(3)]
            world.place(shown if index == named else self._marks[index], place, row[3:7])
        world.read()

    def _inspect(self, part: Sequence[float], window: Sequence[float]) -> None:
        """Count how long the named part has been held still above the window."""
        level = LEVEL[self.level]
        aside = math.hypot(part[0] - window[0], part[1] - window[1])
        turn = (yaw_of(part) - yaw_of(window) + 0.5 * SAME_TURN) % SAME_TURN - 0.5 * SAME_TURN

        seen = (
            aside < level.aside_m
            and abs(part[2] - ZONE_M) < level.height_m
            and abs(turn) <= level.turn
            and uprightness(part) > UPRIGHT_COSINE
            and math.hypot(*part[7:10]) < STILL_M_S
        )

        self._show_steps = self._show_steps + 1 if seen else 0
        self.shown = self.shown or self._show_steps >= level.steps

    def _in_bin(self, row: Sequence[float], goal: Sequence[float]) -> bool:
        reach = 0.5 * BIN_M
        low = row[2] < FLOOR_M + 0.5 * self._height + 0.015
        return low and abs(row[0] - goal[0]) < reach and abs(row[1] - goal[1]) < reach

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named part; only used where it stands as placed."""
        pose = world.poses[self._named_index]
        return ToolPose(pose[:3] + np.array([0.0, 0.0, GRIP_ABOVE_M]), yaw_of(pose.tolist()))

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose at which the named part is shown: until then it must not be let go."""
        return ToolPose(np.array([*WINDOW_AT, ZONE_M + GRIP_ABOVE_M]), 0.0)

    def memory(self) -> Array:
        """Return the named part's number, what has been shown, three counters of steps and the marks, shape (9,)."""
        counters = (self._show_steps, self._held_steps, self._wrong_steps)
        return np.array([self._named_index, self.shown, *counters, *self.accepts], dtype=float)

    def recall(self, memory: Array) -> None:
        """Come back to `memory`."""
        self._named_index, shown, self._show_steps, self._held_steps, self._wrong_steps = (
            int(value) for value in memory[:5]
        )
        self.shown, self.accepts = bool(shown), tuple(bool(value) for value in memory[5:])
        self._lit = None
        self.named = NAMES[self._named_index]
        self.named_body = self.bodies[self._named_index]
        accepted = self.accepts[self._named_index]

        self.present[self._parts + ACCEPT_MARK], self.present[self._parts + REJECT_MARK] = (
            accepted,
            not accepted,
        )

        if self._world is not None:
            for mark, green in zip(self._marks, self.accepts, strict=False):
                self._world.colour(mark, (*(GREEN if green else RED), 1.0))


def _spots(centre: Array, yaw: float, count: int, rng: np.random.Generator) -> list[Array]:
    """Draw places in the tote, shape (2,) each, m, within reach and with room for the fingers between them."""
    c, s = math.cos(yaw), math.sin(yaw)
    half = 0.5 * np.array(TOTE_M) - WALL_GAP_M
    while True:
        local = rng.uniform(-half, half, (count, 2))
        spots = [centre + np.array([c * x - s * y, s * x + c * y]) for x, y in local.tolist()]
        apart = all(
            float(np.hypot(*(one - two))) > SPACING_M
            for at, one in enumerate(spots)
            for two in spots[:at]
        )

        if apart and all(float(np.hypot(*spot)) < REACH_M for spot in spots):
            return spots


def _add_plate(world: World, item: Item) -> int:
    return world.add([Shape("box", item.size)], [(*item.rgb, 1.0)], 0.0)


def _make_intangible(world: World, body: int) -> None:
    """Let nothing touch a body: light and marks are there to be seen."""
    pybullet.setCollisionFilterGroupMask(body, -1, 0, 0, physicsClientId=world.client)


def _add_box(world: World, item: Item, length: float, width: float) -> int:
    """Add an open box, given its inside."""
    shapes = [Shape("box", (item.size[0], item.size[1], FLOOR_M), (0.0, 0.0, 0.5 * FLOOR_M))]
    shapes += walls_around((length, width), item.size[:2], WALL_M, SIDE_M)
    return world.add(shapes, [(*item.rgb, 1.0)] * len(shapes), 0.0)


def _add_station(world: World) -> int:
    """Add what carries window and lamps, in the world's frame."""
    shapes = [
        Shape(
            "box", (STATION_M, STATION_M, STATION_HEIGHT_M), (*WINDOW_AT, 0.5 * STATION_HEIGHT_M)
        ),
        *(
            Shape("box", (POST_M, POST_M, POST_HEIGHT_M), (*place, 0.5 * POST_HEIGHT_M))
            for place in LAMP_AT
        ),
    ]

    return world.add(shapes, [(0.30, 0.33, 0.38, 1.0)] * len(shapes), 0.0)


def _local(pose: Sequence[float], frame: Sequence[float]) -> tuple[float, float]:
    """Return x and y of a position in the frame of a pose."""
    yaw, dx, dy = yaw_of(frame), pose[0] - frame[0], pose[1] - frame[1]
    return dx * math.cos(yaw) + dy * math.sin(yaw), dy * math.cos(yaw) - dx * math.sin(yaw)


def make(**options: object) -> WorkCell:
    """Build the cell; see `shopfloor.envs.description.CellOptions` for the options."""
    return WorkCell(CELL_ID, ToteInspection(), **options)


def expert(execute: int = 1) -> ScriptedExpert:
    """Return the scripted expert; `execute` is how many actions of a chunk callers run."""
    return ScriptedExpert(
        CELL_ID, VERSION, INSTRUCTIONS, decide, execute, unseen=UNSEEN_INSTRUCTIONS
    )
