"""ConveyorSort: take the part that the instruction names off a moving belt and drop it into its own bin.

Task: three parts of three classes ride on a belt towards the robot; the instruction names one; it
goes into the bin of its colour. Observations hold no speeds. Randomisation: belt speed 0.03-0.09
m/s; order, spacing and place of the parts (the named one stays in reach for at least 3.2 s), up to
2 cm off the belt's middle at a yaw within +-30 degrees (the can, round, at 0); the row of bins on 4
x 6 cm; the named part; the phrasing; where the tool starts; light and colours (mildly). Success:
the named part, and nothing else, lies in its bin, slower than 5 mm/s, gripper open and clear, for
0.5 s. Failure: a part in a bin that is not its own or not asked for (`wrong_part`), the named part
past the belt's end or where the tool cannot come (`out_of_reach`) or off the table (`dropped`),
time (`timeout`). Levels, where they differ from `nominal`: `easy` has a belt of 0.02-0.05 m/s and
yaws within +-10 degrees; `hard` has 0.1-0.3 m/s and five parts, two of them of another's colour or
shape; they come from further up a longer belt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shopfloor.envs.looks.camera import Camera, wrist_camera
from shopfloor.envs.physics.kinematics import yaw_quaternion
from shopfloor.envs.physics.shapes import Shape, square_tray
from shopfloor.envs.physics.world import UPRIGHT, World
from shopfloor.envs.robots.arm import Arm, top_down
from shopfloor.envs.task import (
    DONE,
    REST_M_S,
    Array,
    Item,
    Level,
    Progress,
    Task,
    ToolPose,
    Verdict,
    Wording,
    by_level,
)

BELT_END_M, BELT_Y_M, BELT_WIDTH_M, BELT_TOP_M = 0.28, -0.12, 0.17, 0.03
BELT_RGB, FRAME_RGB = (0.20, 0.21, 0.23), (0.62, 0.64, 0.66)
RAIL_M, RAIL_HEIGHT_M = 0.01, BELT_TOP_M + 0.004
LOST_M = 0.30  # a part this far down the belt is past its end
REACH_M, REACH_S = 0.70, 3.2
# The least range of places of the named part, where the belt is too fast for one in reach.
AHEAD_M = 0.10
FIRST_M = 0.33  # no part starts further down the belt
SPACING_M = (0.11, 0.14)
OFF_MIDDLE_M = 0.02
# Corners between which the named part may be moved.
MOVED_LOW, MOVED_HIGH = (LOST_M + 0.04, BELT_Y_M - 0.04), (REACH_M + 0.02, BELT_Y_M + 0.04)
BIN_INNER_M, BIN_WALL_M, BIN_HEIGHT_M, BIN_FLOOR_M = 0.11, 0.005, 0.05, 0.004
BIN_X_M, BIN_Y_M = (0.37, 0.50, 0.63), 0.15
PART_MASS_KG = 0.1
CLEAR_M, OPEN_M = 0.045, 0.06  # tool to part and between the fingers, once let go

_BIN_SIZE = (BIN_INNER_M + 2 * BIN_WALL_M,) * 2 + (BIN_HEIGHT_M,)
RED, GREEN, BLUE = (0.85, 0.15, 0.15), (0.15, 0.65, 0.25), (0.15, 0.30, 0.85)
PARTS = (
    Item("red box", (0.05, 0.04, 0.05), RED, belongs_to="red bin"),
    Item("green can", (0.04, 0.04, 0.055), GREEN, belongs_to="green bin"),
    Item("blue block", (0.07, 0.04, 0.03), BLUE, belongs_to="blue bin"),
    # These two at `hard` only.
    Item("green box", (0.05, 0.04, 0.05), GREEN, belongs_to="green bin"),
    Item("red can", (0.04, 0.04, 0.055), RED, belongs_to="red bin"),
)
BINS = (
    Item("red bin", _BIN_SIZE, (0.95, 0.55, 0.50), is_goal=True),
    Item("green bin", _BIN_SIZE, (0.60, 0.85, 0.60), is_goal=True),
    Item("blue bin", _BIN_SIZE, (0.55, 0.68, 0.95), is_goal=True),
)
BIN_OF = {part.name: part.belongs_to for part in PARTS}
BIN_NAMES = [item.name for item in BINS]


@dataclass(frozen=True)
class Job(Level):
    """What differs between levels.

    Attributes:
        parts: how many of PARTS there are.
        speed_m_s: lowest and highest of the belt.
        max_yaw: of parts, rad.
        start_m: where the belt starts.
        last_m: no part starts further up the belt.
    """

    parts: int = 3
    speed_m_s: tuple[float, float] = (0.03, 0.09)
    max_yaw: float = math.pi / 6
    start_m: float = 0.90
    last_m: float = 0.80


@dataclass
class BeltProgress(Progress):
    """How far an episode is.

    Attributes:
        speed_m_s: of the belt.
    """

    speed_m_s: float = 0.0


class ConveyorSort(Task):
    """The task; see the module's text."""

    max_episode_steps = 120
    robots = ("panda", "ur5e")
    post = top_down(
        (0.28, -0.24, 0.012), (0.74, 0.28, 0.35), (0.44, -0.06, 0.16), (0.54, 0.06, 0.21)
    )
    cameras = (
        Camera("front", eye=(0.98, 0.01, 0.64), target=(0.555, 0.01, 0.0), fov_deg=45.0),
        wrist_camera(0.075, looks_at=0.025),
    )
    wording = Wording.of(
        BIN_OF,
        (
            "Pick the {} off the belt and drop it into its bin.",
            "Sort the {} into its bin.",
            "Take the {} from the conveyor and put it into the bin of its colour.",
            "Catch the {} on the belt; it belongs in the {}.",
            "Move the {} from the moving belt to the {}.",
        ),
        (
            "Do not let the {} ride past; into the {} with it.",
            "Separate the {} from the rest that comes along.",
            "The {1} is waiting for the {0}.",
        ),
    )
    jobs = by_level(
        easy=Job(speed_m_s=(0.02, 0.05), max_yaw=math.pi / 18),
        nominal=Job(),
        hard=Job(parts=5, speed_m_s=(0.10, 0.30), start_m=1.70, last_m=1.60),
    )
    job: Job
    remembers = BeltProgress
    progress: BeltProgress
    moves = displaces = teleports = True
    part_scales = (0.85, 0.94)

    def list_items(self) -> tuple[Item, ...]:
        """Return parts and bins."""
        return (*(item.scaled(self.part_scale) for item in PARTS[: self.job.parts]), *BINS)

    def build(self, world: World) -> None:
        """Add the parts, the bins and the conveyor: a belt between two rails."""
        parts = [_add_part(world, item) for item in self.items if not item.is_goal]
        tray = square_tray(BIN_INNER_M, BIN_WALL_M, BIN_HEIGHT_M, BIN_FLOOR_M)
        self.bodies = (*parts, *(world.add_fixed(tray, item.rgb) for item in BINS))

        length = self.job.start_m - BELT_END_M
        side = 0.5 * (BELT_WIDTH_M + RAIL_M)
        rails = [
            Shape("box", (length, RAIL_M, RAIL_HEIGHT_M), (0.0, sign * side, 0.0))
            for sign in (-1, 1)
        ]
        belt = world.add_fixed([Shape("box", (length, BELT_WIDTH_M, BELT_TOP_M))], BELT_RGB)
        frame = world.add_fixed(rails, FRAME_RGB)

        middle = 0.5 * (self.job.start_m + BELT_END_M)
        self._belt = belt, (middle, BELT_Y_M, 0.5 * BELT_TOP_M)
        world.place(*self._belt)
        world.place(frame, (middle, BELT_Y_M, 0.5 * RAIL_HEIGHT_M))

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Draw the belt's speed, spread the parts along it and place the bins."""
        job = self.job
        speed = rng.uniform(*job.speed_m_s)
        self.begin(named=int(rng.integers(job.parts)), speed_m_s=speed)

        for row, x in enumerate(self._spread(rng)):
            item = self.items[row]
            yaw = 0.0 if "can" in item.name else rng.uniform(-job.max_yaw, job.max_yaw)
            y = BELT_Y_M + rng.uniform(-OFF_MIDDLE_M, OFF_MIDDLE_M)
            place = (x, y, BELT_TOP_M + 0.5 * item.size[2])
            world.place(self.bodies[row], place, yaw_quaternion(yaw), self._ride)

        shift_x, shift_y = rng.uniform(-0.02, 0.02), rng.uniform(-0.03, 0.03)
        for body, x in zip(self.bodies[job.parts :], BIN_X_M, strict=True):
            world.place(body, (x + shift_x, BIN_Y_M + shift_y, 0.0))

    def _spread(self, rng: np.random.Generator) -> list[float]:
        """Draw where along the belt each part starts, m: the named one in reach, the others before and after."""
        job, named = self.job, self.progress.named
        nearest = LOST_M + self.progress.speed_m_s * REACH_S
        first = last = rng.uniform(nearest, max(REACH_M, nearest + AHEAD_M))
        along = [first] * job.parts

        for row in rng.permutation(job.parts).tolist():
            if row == named:
                continue

            gap, ahead = rng.uniform(*SPACING_M), rng.uniform() < 0.5
            if (ahead or last + gap > job.last_m) and first - gap > FIRST_M:
                along[row] = first = first - gap
            else:
                along[row] = last = last + gap

        return along

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places on the belt near the named part, clear of the other parts and of the belt's end."""
        rectangle = (MOVED_LOW, MOVED_HIGH)
        return self.spots_beside(world, rectangle, (low_m, high_m), SPACING_M[0] - 0.02, rng)

    @property
    def _ride(self) -> tuple[float, ...]:
        """Velocity of the belt and of what lies on it: m/s along x, y, z, rad/s about them."""
        return -self.progress.speed_m_s, 0.0, 0.0, 0.0, 0.0, 0.0

    def before_substep(self, world: World) -> None:
        """Let the belt carry what lies on it: a body that has a speed but is put back where it was."""
        world.place(*self._belt, UPRIGHT, self._ride)

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge where the parts lie."""
        named, rows, count = self.progress.named, world.rows, self.job.parts
        part, tool = rows[named], robot.tool_position.tolist()
        bins = [_bin_of(row, rows[count : count + 3]) for row in rows[:count]]
        clear = [math.dist(tool, row[:3]) > CLEAR_M for row in rows[:count]]
        home = bins[named] == self._home

        # Counted even where the job is done: another part may lie in another bin meanwhile.
        astray = [row for row in range(count) if bins[row] >= 0 and not (row == named and home)]
        self.progress.wrong.count(any(clear[row] for row in astray))
        let_go = clear[named] and robot.opening_m > OPEN_M
        done = home and bins.count(self._home) == 1 and let_go
        if self.progress.held.count(done and math.hypot(*part[7:10]) < REST_M_S):
            return DONE

        failure = self.failure(part, robot, let_go=clear[named], below_m=BELT_TOP_M)
        past = part[0] < LOST_M and part[2] < BELT_TOP_M + 0.04
        if clear[named] and past:
            failure = failure or "out_of_reach"

        if home:
            return Verdict("release", failure=failure)
        if math.dist(tool, part[:3]) < 0.03 and robot.gripper > 0.0:
            return Verdict("carry" if part[2] > BELT_TOP_M + 0.04 else "grasp", failure=failure)
        return Verdict("approach", failure=failure)

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named part across the belt; only used where it stands upright."""
        return ToolPose.above(world.poses[self.progress.named], 0.0)

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose above the middle of the named part's bin."""
        return ToolPose(world.poses[self.job.parts + self._home, :3] + [0.0, 0.0, 0.065], 0.0)

    def take_up(self) -> None:
        """Set what follows from `progress`, and the number of the named part's bin."""
        super().take_up()
        self._home = BIN_NAMES.index(BIN_OF[self.named])


def _add_part(world: World, item: Item) -> int:
    kind = "cylinder" if "can" in item.name else "box"
    return world.add([Shape(kind, item.size)], [(*item.rgb, 1.0)], PART_MASS_KG)


def _bin_of(pose: Sequence[float], bins: Sequence[Sequence[float]]) -> int:
    """Return the number of the bin that a part is in, or -1."""
    reach = 0.5 * BIN_INNER_M
    low = pose[2] < BIN_HEIGHT_M + 0.005
    for number, middle in enumerate(bins):
        if low and abs(pose[0] - middle[0]) < reach and abs(pose[1] - middle[1]) < reach:
            return number
    return -1
