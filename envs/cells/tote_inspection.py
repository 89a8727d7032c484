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
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from shopfloor.envs.cells.lamps import light_z, post_at
from shopfloor.envs.experts.scene import QUARTER_TURN, wrap
from shopfloor.envs.looks.camera import Camera, wrist_camera
from shopfloor.envs.physics.kinematics import (
    in_frame,
    over_square,
    uprightness,
    yaw_of,
    yaw_quaternion,
)
from shopfloor.envs.physics.scatter import apart, poses_near
from shopfloor.envs.physics.shapes import Shape, open_box
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

PART_SIZE, PART_MASS_KG, GRIP_ABOVE_M = (0.040, 0.040, 0.050), 0.1, 0.008
MARK_M, MARK_THICK_M = 0.026, 0.0012
MARK_OUT_M = 0.0009  # how far a mark stands out of its part: it touches nothing
# Of tote and bins: length and width inside, height and thickness of the walls, the floor.
TOTE_M, BIN_M, WALL_M, SIDE_M, FLOOR_M = (0.320, 0.240), 0.110, 0.026, 0.005, 0.004
WALL_GAP_M, SPACING_M, REACH_M = 0.035, 0.100, 0.700
TOTE_LOW, TOTE_HIGH = (0.48, -0.185), (0.52, -0.155)
BIN_AT, BIN_SHIFT_M = ((0.410, 0.250), (0.585, 0.250)), 0.015
WINDOW_AT, STATION_M, STATION_HEIGHT_M, GLASS_M = (0.500, 0.085), 0.070, 0.030, 0.044
STATION_RGB = (0.30, 0.33, 0.38)
LAMP_AT, LAMP_M, LAMP_HEIGHT_M = ((0.425, 0.060), (0.425, 0.110)), 0.026, 0.028
ZONE_M = 0.170  # height above the table at which the camera wants the part's middle
MAX_YAW = math.pi / 4
STILL_M_S = 0.04
UPRIGHT_COSINE, LYING_COSINE = math.cos(math.radians(15.0)), math.cos(math.radians(45.0))
CLEAR_M, RELEASED_M = 0.050, 0.060  # tool to part and between the fingers, once let go

PARTS = (
    Item("blue part", PART_SIZE, (0.15, 0.30, 0.85)),
    Item("yellow part", PART_SIZE, (0.92, 0.78, 0.15)),
    Item("purple part", PART_SIZE, (0.55, 0.20, 0.65)),
    Item("white part", PART_SIZE, (0.92, 0.92, 0.90)),
)
GREEN, RED = (0.10, 0.80, 0.25), (0.90, 0.12, 0.12)
# The items after the parts, by their place there.
WINDOW, ACCEPT_BIN, REJECT_BIN, ACCEPT_LAMP, REJECT_LAMP, ACCEPT_MARK, REJECT_MARK, TOTE = range(8)
_BIN_SIZE = (BIN_M + 2 * SIDE_M, BIN_M + 2 * SIDE_M, WALL_M)
_MARK_SIZE, _LAMP_SIZE = (MARK_M, MARK_M, MARK_THICK_M), (LAMP_M, LAMP_M, LAMP_HEIGHT_M)
_TOTE_SIZE = (TOTE_M[0] + 2 * SIDE_M, TOTE_M[1] + 2 * SIDE_M, WALL_M)
FIXED = (
    Item("window", (GLASS_M, GLASS_M, 0.002), (0.08, 0.09, 0.14), is_goal=True),
    Item("accept bin", _BIN_SIZE, (0.45, 0.72, 0.48), is_goal=True),
    Item("reject bin", _BIN_SIZE, (0.80, 0.42, 0.40), is_goal=True),
    Item("accept lamp", _LAMP_SIZE, GREEN, is_goal=True),
    Item("reject lamp", _LAMP_SIZE, RED, is_goal=True),
    Item("accept mark", _MARK_SIZE, GREEN, is_goal=True),
    Item("reject mark", _MARK_SIZE, RED, is_goal=True),
    Item("tote", _TOTE_SIZE, (0.45, 0.50, 0.58), is_goal=True),
)
INSIDE_M = {TOTE: TOTE_M, ACCEPT_BIN: (BIN_M, BIN_M), REJECT_BIN: (BIN_M, BIN_M)}


@dataclass(frozen=True)
class Job(Level):
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
    swaps: bool = True


@dataclass
class InspectionProgress(Memory):
    """How far an episode is.

    Attributes:
        named: row of the named part.
        shown: whether the named part has been shown long enough.
        showing: steps for which it has been held above the window.
        held: steps for which the job has been done.
        wrong: steps for which a part has lain in a bin where it does not belong.
        accepts: per part, whether its mark is green.
    """

    named: int = 0
    shown: bool = False
    showing: Streak = field(default_factory=Streak)
    held: Streak = field(default_factory=Streak)
    wrong: Streak = field(default_factory=Streak)
    accepts: tuple[bool, ...] = (False,) * len(PARTS)

    @property
    def accepted(self) -> bool:
        """Whether the named part's mark is green."""
        return self.accepts[self.named]


class ToteInspection(Task):
    """The task; see the module's text."""

    max_episode_steps = 110
    post = top_down(
        (0.30, -0.34, 0.012), (0.70, 0.33, 0.35), (0.44, -0.10, 0.17), (0.54, 0.02, 0.22)
    )
    cameras = (
        Camera("front", eye=(0.98, 0.0, 0.66), target=(0.485, 0.0, 0.0), fov_deg=48.0),
        wrist_camera(),
        Camera(
            "inspect",
            eye=(*WINDOW_AT, STATION_HEIGHT_M + 0.004),
            target=(*WINDOW_AT, ZONE_M),
            up=(-1.0, 0.0, 0.0),
            fov_deg=60.0,
        ),
    )
    wording = Wording.of(
        (item.name for item in PARTS),
        (
            "Inspect the {} and sort it by its mark.",
            "Show the {} to the camera and put it into the bin of its mark.",
            "Take the {} out of the tote, have it inspected, and sort it.",
            "Hold the {} over the inspection window, then put it in the right bin.",
            "The {} has to be checked and sorted.",
        ),
        (
            "Find out whether the {} is good or scrap, and bin it accordingly.",
            "Quality check for the {}, please: look underneath, then sort.",
            "Let the station read the {} before it goes to its bin.",
        ),
    )
    jobs = by_level(
        easy=Job(2, 0.0, 0.030, 0.040, math.radians(45.0), 4, swaps=False),
        nominal=Job(3, 0.1, 0.020, 0.030, math.radians(20.0), 6),
        hard=Job(4, 0.25, 0.012, 0.020, math.radians(9.0), 10),
    )
    job: Job
    remembers = InspectionProgress
    progress: InspectionProgress
    part_scales = (0.86, 1.05)
    moves = displaces = teleports = True
    _lit: bool | None = None  # whether a lamp is; None where that is not known

    def list_items(self) -> tuple[Item, ...]:
        """Return the parts, and what stands around them as goals."""
        return (*(item.scaled(self.part_scale) for item in PARTS[: self.job.parts]), *FIXED)

    def build(self, world: World) -> None:
        """Add parts with their marks, tote, bins and station."""
        count = self.job.parts
        parts = [world.add_box(item.size, item.rgb, PART_MASS_KG) for item in self.items[:count]]
        fixed = [_add_fixed(world, index) for index in range(len(FIXED))]
        self._marks = [_add_fixed(world, ACCEPT_MARK) for _ in parts]
        self._station = _add_station(world)
        self.bodies = (*parts, *fixed)

        self._world = world
        for body in (*fixed[ACCEPT_LAMP:TOTE], *self._marks):
            world.make_intangible(body)

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Place everything; the lamps are off, the marks follow with the first `judge`."""
        job = self.job
        accepts = tuple(map(bool, rng.integers(0, 2, len(PARTS)).tolist()))
        self.begin(named=int(rng.integers(job.parts)), accepts=accepts)
        centre, yaw = rng.uniform(TOTE_LOW, TOTE_HIGH), rng.uniform(-job.yaw, job.yaw)
        world.place(self._fixed(TOTE), (*centre, 0.0), yaw_quaternion(yaw))

        height = FLOOR_M + 0.5 * self._height
        for body, (x, y) in zip(self.bodies, _spots(centre, yaw, job.parts, rng), strict=False):
            turn = yaw + rng.uniform(-MAX_YAW, MAX_YAW)
            world.place(body, (x, y, height), yaw_quaternion(turn))

        swapped = bool(rng.integers(2)) and job.swaps
        places = BIN_AT[::-1] if swapped else BIN_AT
        for index, place in zip((ACCEPT_BIN, REJECT_BIN), places, strict=True):
            spot = rng.uniform(-BIN_SHIFT_M, BIN_SHIFT_M, 2) + place
            world.place(self._fixed(index), (*spot, 0.0))

        world.place(self._station, (0.0, 0.0, 0.0))
        world.place(self._fixed(WINDOW), (*WINDOW_AT, STATION_HEIGHT_M + 0.001))
        self._light(world)

    def _fixed(self, index: int) -> int:
        return self.bodies[self.job.parts + index]

    @property
    def _height(self) -> float:
        return self.items[0].size[2]

    def _light(self, world: World) -> None:
        """Put the lamps where they belong: on its post while lit, else inside it."""
        shown, accepted = self.progress.shown, self.progress.accepted
        self._lit = shown
        for index, place, mine in zip(
            (ACCEPT_LAMP, REJECT_LAMP), LAMP_AT, (accepted, not accepted), strict=True
        ):
            height = light_z(FIXED[index], lit=shown and mine)
            world.place(self._fixed(index), (*place, height))

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places in the tote near the named part where it stands with room for the fingers."""
        named, count = self.progress.named, self.job.parts
        tote = world.poses[count + TOTE]
        others = [world.poses[index, :2] for index in range(count) if index != named]

        def fits(spot: Array) -> bool:
            along, across = map(abs, in_frame(spot.tolist(), tote))
            inside = along < 0.5 * TOTE_M[0] - WALL_GAP_M and across < 0.5 * TOTE_M[1] - WALL_GAP_M
            near = float(np.hypot(*spot[:2])) < REACH_M
            return inside and near and apart(spot[:2], others, SPACING_M)

        return poses_near(world.poses[named], (low_m, high_m), fits, rng, tries=48)

    def before_substep(self, world: World) -> None:
        """Light the lamp of the mark once the part has been shown."""
        if self._lit != self.progress.shown:
            self._light(world)

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Move the marks with their parts, read the one that is shown, then judge where the parts are."""
        self._carry_marks(world)
        progress, named = self.progress, self.progress.named
        rows, count = world.rows, self.job.parts
        part, tool = rows[named], robot.tool_position.tolist()
        self._inspect(part, rows[count + WINDOW])

        accept, reject = rows[count + ACCEPT_BIN], rows[count + REJECT_BIN]
        right, wrong = (accept, reject) if progress.accepted else (reject, accept)
        in_right = [index for index in range(count) if self._in_bin(rows[index], right)]
        in_wrong = [index for index in range(count) if self._in_bin(rows[index], wrong)]
        sorted_right = named in in_right
        strays = [index for index in (*in_right, *in_wrong) if index != named]

        clear = [math.dist(tool, row[:3]) > CLEAR_M for row in rows[:count]]
        let_go = clear[named] and robot.opening_m > RELEASED_M
        done = sorted_right and progress.shown and not strays and let_go
        if progress.held.count(done and math.hypot(*part[7:10]) < REST_M_S):
            return DONE

        misplaced = named in in_wrong or (sorted_right and not progress.shown)
        amiss = [*strays, named] if misplaced else strays
        progress.wrong.count(any(clear[index] for index in amiss))
        toppled = uprightness(part) < LYING_COSINE and not sorted_right
        failure = self.failure(part, robot, let_go=clear[named], toppled=toppled)
        held = math.dist(tool, part[:3]) < 0.03 and robot.gripper > 0.0
        return Verdict(self._stage(part, held=held, sorted_right=sorted_right), failure=failure)

    def _stage(self, part: Sequence[float], *, held: bool, sorted_right: bool) -> str:
        if sorted_right and self.progress.shown:
            return "release"
        if not held:
            return "approach"
        if part[2] < FLOOR_M + 0.5 * self._height + 0.01:
            return "grasp"
        return "carry" if self.progress.shown else "show"

    def _carry_marks(self, world: World) -> None:
        """Put each mark under its part, where the part was found after the last substep."""
        marks = list(self._marks)
        shown = ACCEPT_MARK if self.progress.accepted else REJECT_MARK
        marks[self.progress.named] = self._fixed(shown)
        low = 0.5 * self._height + MARK_OUT_M - 0.5 * MARK_THICK_M

        for mark, row in zip(marks, world.rows, strict=False):
            x, y, z, w = row[3:7]
            axis = (2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y))
            place = [row[at] - low * axis[at] for at in range(3)]
            world.place(mark, place, row[3:7])
        world.read()

    def _inspect(self, part: Sequence[float], window: Sequence[float]) -> None:
        """Count how long the named part has been held still above the window."""
        job, progress = self.job, self.progress
        turn = wrap(yaw_of(part) - yaw_of(window), QUARTER_TURN)
        seen = (
            math.dist(part[:2], window[:2]) < job.aside_m
            and abs(part[2] - ZONE_M) < job.height_m
            and abs(turn) <= job.turn
            and uprightness(part) > UPRIGHT_COSINE
            and math.hypot(*part[7:10]) < STILL_M_S
        )
        progress.showing.count(seen)
        progress.shown = progress.shown or progress.showing.steps >= job.steps

    def _in_bin(self, row: Sequence[float], goal: Sequence[float]) -> bool:
        low = row[2] < FLOOR_M + 0.5 * self._height + 0.015
        return low and over_square(row, goal, BIN_M)

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named part; only used where it stands as placed."""
        return ToolPose.above(world.poses[self.progress.named], GRIP_ABOVE_M)

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose at which the named part is shown: until then it must not be let go."""
        return ToolPose(np.array([*WINDOW_AT, ZONE_M + GRIP_ABOVE_M]), 0.0)

    def take_up(self) -> None:
        """Set what follows from `progress`: the marks' colours, and which of them is present."""
        super().take_up()
        count, accepted = self.job.parts, self.progress.accepted
        self.present[count + ACCEPT_MARK] = accepted
        self.present[count + REJECT_MARK] = not accepted
        self._lit = None
        for mark, green in zip(self._marks, self.progress.accepts, strict=False):
            self._world.colour(mark, (*(GREEN if green else RED), 1.0))


def _spots(centre: Array, yaw: float, count: int, rng: np.random.Generator) -> list[Array]:
    """Draw places in the tote, shape (2,) each, m, within reach and with room for the fingers between them."""
    c, s = math.cos(yaw), math.sin(yaw)
    half = 0.5 * np.array(TOTE_M) - WALL_GAP_M
    while True:
        local = rng.uniform(-half, half, (count, 2)).tolist()
        spots = [centre + np.array([c * x - s * y, s * x + c * y]) for x, y in local]
        near = all(float(np.hypot(*spot)) < REACH_M for spot in spots)
        if near and all(apart(spot, spots[:at], SPACING_M) for at, spot in enumerate(spots)):
            return spots


def _add_fixed(world: World, index: int) -> int:
    """Add one of FIXED: an open box or a plate."""
    item = FIXED[index]
    shapes = [Shape("box", item.size)]
    if index in INSIDE_M:
        shapes = open_box(INSIDE_M[index], SIDE_M, WALL_M, FLOOR_M)
    return world.add_fixed(shapes, item.rgb)


def _add_station(world: World) -> int:
    """Add what carries window and lamps, in the world's frame."""
    size = (STATION_M, STATION_M, STATION_HEIGHT_M)
    shapes = [Shape("box", size, (*WINDOW_AT, 0.5 * STATION_HEIGHT_M)), *map(post_at, LAMP_AT)]
    return world.add_fixed(shapes, STATION_RGB)
