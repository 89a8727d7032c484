"""HandOver: one arm hands the bar that the instruction names to another arm, which lays it into a tray.

Task: two arms face each other across a table. Three bars lie on the first arm's side, out of the
second's reach; a tray stands on the second's side, out of the first's. The instruction names a bar
by its colour. The first arm holds it up, the second grips it too, the first lets go, the second
lays it into the tray. Half a turn of a bar makes no difference. Robot: two Pandas; 14 actions and
44 entries of the state, the first arm's, then the second's, each in the frame of its own base: the
second stands 1.10 m ahead of the first and is turned by half a turn. `objects` are in the first's
frame. Randomisation: bars on 7 x 52 cm, turned; the tray's centre on 6 x 24 cm, turned; the named
bar; the phrasing; where the tools start; light and colours (mildly). Levels: length and mass of a
bar, its yaw and the tray's, the tray's inside.
- easy: 200 mm, 0.06 kg, within +-0.2 and +-0.1 rad, 270 x 150 mm.
- nominal: 220 mm, 0.10 kg, within +-0.5 and +-0.3 rad, 270 x 130 mm.
- hard: 240 mm, 0.15 kg, within +-0.9 and +-0.6 rad, 270 x 112 mm. Success: the named bar lies on
the floor of the tray, slower than 5 mm/s, both grippers open and clear of it, for 0.5 s, and it was
handed over in the air: both hands gripped it at least 10 cm above the table, and since then the
first has not had it to itself. Failure: another bar in the tray (`wrong_part`), the named bar off
the table (`dropped`) or left where no arm that may take it can (`out_of_reach`), time (`timeout`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.cells.hand_over_expert import (
    ARM_STATE,
    FLOOR_M,
    GRIP_M,
    SECOND_M,
    VERSION,
    decide,
)
from shopfloor.envs.experts.scripted import ScriptedExpert
from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.kinematics import yaw_of, yaw_quaternion
from shopfloor.envs.physics.world import Ground, Shape, World, walls_around
from shopfloor.envs.robots.arm import PANDA, Arm, Post
from shopfloor.envs.robots.mobile import Team
from shopfloor.envs.task import HOLD_STEPS, REST_M_S, Item, Task, Verdict
from shopfloor.envs.variation import LEVELS

Array = npt.NDArray[np.float64]

CELL_ID = "shopfloor/HandOver-v0"
TABLE = Ground((1.8, 2.0, 0.05), (0.5 * SECOND_M, 0.0), (0.55, 0.57, 0.60))
BAR_M = 0.030  # width and height
WALL_M, RIM_M = 0.006, 0.018  # of the tray: thickness and height
TRAY_RGB = (0.72, 0.74, 0.78)
COLOURS: dict[str, tuple[float, float, float]] = {
    "red bar": (0.82, 0.20, 0.18),
    "green bar": (0.20, 0.62, 0.25),
    "blue bar": (0.16, 0.34, 0.80),
}
# An arm's tool in its own frame. Its end at 0.56 m keeps the bars from the second arm and the tray
# from the first.
WORKSPACE: Array = np.array([[0.26, -0.34, 0.012], [0.56, 0.34, 0.40]])
START_LOW, START_HIGH = np.array([0.34, -0.06, 0.24]), np.array([0.42, 0.06, 0.30])
BARS_LOW, BARS_HIGH = (0.34, -0.26), (0.41, 0.26)
TRAY_LOW, TRAY_HIGH = (0.70, -0.12), (0.76, 0.12)
SPACING_M, HAND_M = (
    0.05,
    0.08,
)  # between the middle lines of bars, and from where a hand grips to other bars' lines
AIR_M = 0.10
GRIPPED_M, PLAY_M = (
    0.020,
    0.006,
)  # tool to a bar and between the fingers beyond its width, where it is gripped
CLEAR_M, OPEN_M = 0.050, 0.060  # tool to a bar and between the fingers, once let go
LAID_M, FLAT_SINE = 0.004, math.sin(math.radians(4.0))
SLOW_M_S = 0.02
TRAY = 3  # row of the tray


@dataclass(frozen=True)
class Level:
    """What a level asks for; lengths in m, yaws in rad, up to which bars and tray are turned."""

    length: float
    mass_kg: float
    bar_yaw: float
    tray_yaw: float
    inside: tuple[float, float]
    max_steps: int = 220


CELL_LEVELS = {
    "easy": Level(0.200, 0.06, 0.2, 0.1, (0.270, 0.150)),
    "nominal": Level(0.220, 0.10, 0.5, 0.3, (0.270, 0.130)),
    "hard": Level(0.240, 0.15, 0.9, 0.6, (0.270, 0.112)),
}
PHRASES = (
    "Hand the {} over and lay it into the tray.",
    "Pass the {} to the other arm, which puts it into the tray.",
    "Hand over the {}.",
    "The {} goes from one arm to the other and into the tray.",
    "Give the {} to the second arm for the tray.",
)
UNSEEN_PHRASES = (
    "Let the robots exchange the {} mid-air, then store it.",
    "Transfer the {} across to the far container.",
    "Bring the {} to the opposite side, from gripper to gripper.",
)
INSTRUCTIONS = {name: tuple(text.format(name) for text in PHRASES) for name in COLOURS}
UNSEEN = {name: tuple(text.format(name) for text in UNSEEN_PHRASES) for name in COLOURS}
CAMERAS = (
    Camera("front", eye=(0.56, -0.75, 1.15), target=(0.56, 0.0, 0.04), fov_deg=38.0),
    Camera("wrist", eye=(0.085, 0.0, 0.085), target=(0.02, 0.0, 0.0), fov_deg=80.0, on_tool=True),
    Camera(
        "wrist_2",
        eye=(0.085, 0.0, 0.085),
        target=(0.02, 0.0, 0.0),
        fov_deg=80.0,
        on_tool=True,
        member=1,
    ),
)


class HandOver(Task):
    """The task; see the module's text."""

    max_episode_steps = CELL_LEVELS["nominal"].max_steps
    robots = ("panda_pair",)
    ground = TABLE
    frozen_axes: tuple[int, ...] = (3, 4)
    workspace: Array = WORKSPACE
    start_low: Array = START_LOW
    start_high: Array = START_HIGH
    cameras: tuple[Camera, ...] = CAMERAS
    instructions: Mapping[str, tuple[str, ...]] = INSTRUCTIONS
    unseen_instructions: Mapping[str, tuple[str, ...]] = UNSEEN
    levels = LEVELS
    part_scales = (0.86, 0.93)

    def __init__(self) -> None:
        """Start with nothing built."""
        self.bodies: tuple[int, ...] = ()
        self.named = next(iter(COLOURS))
        self.named_body = -1
        self._named_index = 0
        self._held_steps = self._wrong_steps = 0
        self._handed = False
        self.set_level("nominal")

    def set_level(self, level: str) -> None:
        """Change to one of `levels`; takes effect with the next `build` and `reset`."""
        self.level, self._given = level, CELL_LEVELS[level]
        self.max_episode_steps = self._given.max_steps
        self._list_items()
        self.present = np.ones(len(self.items), dtype=bool)

    def _list_items(self) -> None:
        given, scale = self._given, self.part_scale
        size = (scale * given.length, scale * BAR_M, scale * BAR_M)
        x, y = given.inside
        bars = [Item(name, size, rgb) for name, rgb in COLOURS.items()]
        self.items = (
            *bars,
            Item("tray", (x + 2 * WALL_M, y + 2 * WALL_M, RIM_M), TRAY_RGB, is_goal=True),
        )
        self.grip_m = size[1]

    def make_robot(self, world: World, name: str) -> Team:
        """Make two arms that face each other."""
        first = Post(WORKSPACE, START_LOW, START_HIGH, self.frozen_axes)
        second = Post(
            WORKSPACE, START_LOW, START_HIGH, self.frozen_axes, (SECOND_M, 0.0, 0.0), math.pi
        )
        return Team([Arm(world, PANDA, first), Arm(world, PANDA, second)])

    def build(self, world: World) -> None:
        """Add three bars and the tray: a floor and four low walls."""
        self._list_items()
        bars = [
            world.add_box(item.size, item.rgb, self._given.mass_kg) for item in self.items[:TRAY]
        ]
        length, width, height = self.items[TRAY].size
        shapes = [Shape("box", (length, width, FLOOR_M), (0.0, 0.0, 0.5 * FLOOR_M))]
        shapes += walls_around(self._given.inside, (length, width), height, WALL_M)
        tray = world.add(shapes, [(*TRAY_RGB, 1.0)] * len(shapes), 0.0)
        self.bodies = (*bars, tray)

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Scatter the bars, with room for the fingers where they are gripped, and place the tray."""
        self.recall(np.array([rng.integers(len(COLOURS)), 0, 0, 0]))
        yaw = self._given.bar_yaw
        spots: list[list[float]] = []
        tries = 0

        while len(spots) < TRAY:
            tries += 1
            spot = rng.uniform((*BARS_LOW, -yaw), (*BARS_HIGH, yaw)).tolist()
            if all(self._apart(spot, other) for other in spots):
                spots.append(spot)
            elif tries % 60 == 0:
                spots = []

        for body, (x, y, yaw) in zip(self.bodies, spots, strict=False):
            world.place(body, (x, y, 0.5 * self.items[0].size[2]), yaw_quaternion(yaw))
        x, y = rng.uniform(TRAY_LOW, TRAY_HIGH)

        world.place(
            self.bodies[TRAY],
            (x, y, 0.0),
            yaw_quaternion(rng.uniform(-self._given.tray_yaw, self._given.tray_yaw)),
        )

    def _apart(self, first: Sequence[float], second: Sequence[float]) -> bool:
        """Return whether two bars (x, y, yaw) leave room for each other and for the fingers."""
        lines = [_line(spot, self._given.length) for spot in (first, second)]
        if _nearest(lines[0], lines[1]) < SPACING_M:
            return False
        grips = [_line(spot, 2 * GRIP_M)[:1] for spot in (first, second)]
        return min(_nearest(grips[0], lines[1]), _nearest(grips[1], lines[0])) > HAND_M

    def judge(self, world: World, robot: Team) -> Verdict:
        """Judge where the bars are and who has the named one."""
        first, second = (member for member in robot.members if isinstance(member, Arm))
        rows, named, tray = world.rows, self._named_index, world.rows[TRAY]
        bar, size = rows[named], self.items[named].size
        gaps = [_gap(arm, bar, size[0]) for arm in (first, second)]
        grips = [
            self._grips(world, arm, gap) for arm, gap in zip((first, second), gaps, strict=True)
        ]
        if grips[0]:
            self._handed = grips[1] and (self._handed or bar[2] > AIR_M)

        laid = [self._lies_in(rows[index], tray) for index in range(TRAY)]
        others = [index for index in range(TRAY) if laid[index] and index != named]
        clear, speed = min(gaps) > CLEAR_M, math.hypot(*bar[7:10])
        is_open = min(first.opening_m, second.opening_m) > OPEN_M
        done = (
            laid[named] and self._handed and not others and clear and is_open and speed < REST_M_S
        )
        self._held_steps = self._held_steps + 1 if done else 0
        wrong = any(_gap(second, rows[index], size[0]) > CLEAR_M for index in others)
        self._wrong_steps = self._wrong_steps + 1 if wrong else 0

        if self._held_steps >= HOLD_STEPS:
            return Verdict("done", success=True)

        failure = ""
        if bar[2] < -0.02:
            failure = "dropped"
        elif self._wrong_steps >= HOLD_STEPS:
            failure = "wrong_part"
        elif bar[2] < 0.05 and clear and speed < SLOW_M_S and not laid[named]:
            takers = (first, second) if self._handed else (first,)
            failure = "" if any(_reaches(arm, bar, size[0]) for arm in takers) else "out_of_reach"

        return Verdict(_stage(grips, bar[2], laid[named]), failure=failure)

    def _grips(self, world: World, arm: Arm, gap: float) -> bool:
        """Return whether a hand holds the named bar."""
        closed = arm.gripper > 0.0 and abs(arm.opening_m - self.grip_m) < PLAY_M
        return closed and gap < GRIPPED_M and world.touching(arm.body, self.named_body)

    def _lies_in(self, row: Sequence[float], tray: Sequence[float]) -> bool:
        """Return whether a bar lies flat on the tray's floor."""
        yaw, dx, dy = yaw_of(tray), row[0] - tray[0], row[1] - tray[1]
        along, across = (
            dx * math.cos(yaw) + dy * math.sin(yaw),
            dy * math.cos(yaw) - dx * math.sin(yaw),
        )
        x, y = self._given.inside
        inside = abs(along) < 0.5 * x and abs(across) < 0.5 * y
        low = row[2] - tray[2] - FLOOR_M - 0.5 * self.grip_m < LAID_M
        return inside and low and abs(_axis(row)[2]) < FLAT_SINE

    def memory(self) -> Array:
        """Return the named bar's number, two counters of steps, and whether it was handed over, shape (4,)."""
        return np.array(
            [self._named_index, self._held_steps, self._wrong_steps, self._handed], dtype=float
        )

    def recall(self, memory: Array) -> None:
        """Come back to `memory`."""
        self._named_index, self._held_steps, self._wrong_steps, handed = (
            int(value) for value in memory
        )
        self._handed = bool(handed)
        self.named = self.items[self._named_index].name
        self.named_body = self.bodies[self._named_index]


def _stage(grips: Sequence[bool], height: float, laid: bool) -> str:
    if all(grips):
        return "hand_over"
    if grips[0]:
        return "carry" if height > 0.04 else "grasp"
    if grips[1]:
        return "place"
    return "release" if laid else "approach"


def _axis(row: Sequence[float]) -> tuple[float, float, float]:
    """Return the direction of a bar's length."""
    x, y, z, w = row[3:7]
    return 1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + z * w), 2.0 * (x * z - y * w)


def _gap(arm: Arm, row: Sequence[float], length: float) -> float:
    """Return how far an arm's tool is from a bar's middle line, m."""
    tool, axis = arm.frame()[0].tolist(), _axis(row)
    off = [tool[index] - row[index] for index in range(3)]
    along = sum(a * b for a, b in zip(off, axis, strict=True))
    along = min(max(along, -0.5 * length), 0.5 * length)
    return math.dist(off, [along * value for value in axis])


def _reaches(arm: Arm, row: Sequence[float], length: float) -> bool:
    """Return whether an arm's tool can come above any part of a bar."""
    origin, rotation = arm.mount
    for share in (-0.4, -0.2, 0.0, 0.2, 0.4):
        point = np.array(row[:3]) + share * length * np.array(_axis(row))
        x, y, _ = (rotation.T @ (point - origin)).tolist()
        if arm.reaches(x, y):
            return True
    return False


def _line(spot: Sequence[float], length: float) -> Array:
    """Return points along a bar that lies at x, y, yaw, from its near end on, shape (9, 2), m."""
    steps = np.linspace(-0.5, 0.5, 9)[:, None] * length
    points: Array = np.array(spot[:2]) + steps * [math.cos(spot[2]), math.sin(spot[2])]
    return points


def _nearest(first: Array, second: Array) -> float:
    return float(np.min(np.hypot(*(first[:, None] - second[None]).transpose(2, 0, 1))))


def make(**options: object) -> WorkCell:
    """Build the cell; see `shopfloor.envs.description.CellOptions` for the options."""
    return WorkCell(CELL_ID, HandOver(), **options)


def expert(execute: int = 1) -> ScriptedExpert:
    """Return the scripted expert; `execute` is how many actions of a chunk callers run."""
    return ScriptedExpert(
        CELL_ID, VERSION, INSTRUCTIONS, decide, execute, unseen=UNSEEN, rest=ARM_STATE, chunk=1
    )
