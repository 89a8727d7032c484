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
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shopfloor.envs.looks.camera import Camera, wrist_camera
from shopfloor.envs.physics.kinematics import in_frame, yaw_quaternion
from shopfloor.envs.physics.shapes import Ground, Shape, walls_around
from shopfloor.envs.physics.world import World
from shopfloor.envs.robots.arm import Arm, top_down
from shopfloor.envs.robots.mobile import Team
from shopfloor.envs.robots.models import PANDA
from shopfloor.envs.task import (
    DONE,
    REST_M_S,
    Item,
    Level,
    Progress,
    Task,
    Verdict,
    Wording,
    by_level,
)

Array = npt.NDArray[np.float64]

SECOND_M = 1.10  # where the second arm stands, facing the first: x in the first's frame
TABLE = Ground((1.8, 2.0, 0.05), (0.5 * SECOND_M, 0.0), (0.55, 0.57, 0.60))
BAR_M = 0.030  # width and height
WALL_M, RIM_M, FLOOR_M = 0.006, 0.018, 0.004  # of the tray: thickness and height, and its floor
TRAY_RGB = (0.72, 0.74, 0.78)
COLOURS: dict[str, tuple[float, float, float]] = {
    "red bar": (0.82, 0.20, 0.18),
    "green bar": (0.20, 0.62, 0.25),
    "blue bar": (0.16, 0.34, 0.80),
}
BARS_LOW, BARS_HIGH = (0.34, -0.26), (0.41, 0.26)
TRAY_LOW, TRAY_HIGH = (0.70, -0.12), (0.76, 0.12)
GRIP_M = 0.050  # between the middle of the bar and each hand: hands are 60 mm wide
SPACING_M = 0.05  # between the middle lines of bars
HAND_M = 0.08  # from where a hand grips to the middle lines of other bars
AIR_M = 0.10
# Tool to a bar, and between the fingers beyond its width, where it is gripped.
GRIPPED_M, PLAY_M = 0.020, 0.006
CLEAR_M, OPEN_M = 0.050, 0.060  # tool to a bar and between the fingers, once let go
LAID_M, FLAT_SINE = 0.004, math.sin(math.radians(4.0))
LEFT_M, SLOW_M_S = 0.05, 0.02  # a bar lower and slower than that stays where it is
TRAY = 3  # row of the tray


@dataclass(frozen=True)
class Job(Level):
    """What differs between levels; lengths in m, yaws in rad, up to which bars and tray are turned.

    Attributes:
        length, mass_kg: of a bar.
        bar_yaw, tray_yaw: greatest yaws.
        inside: length and width between the walls of the tray.
    """

    length: float
    mass_kg: float
    bar_yaw: float
    tray_yaw: float
    inside: tuple[float, float]


@dataclass
class HandOverProgress(Progress):
    """How far an episode is.

    Attributes:
        handed: whether the named bar was handed over.
    """

    handed: bool = False


class HandOver(Task):
    """The task; see the module's text."""

    max_episode_steps = 220
    robots = ("panda_pair",)
    ground = TABLE
    # Of both arms, each in its own frame. Its end at 0.56 m keeps the bars from the second arm and
    # the tray from the first.
    post = top_down(
        (0.26, -0.34, 0.012), (0.56, 0.34, 0.40), (0.34, -0.06, 0.24), (0.42, 0.06, 0.30)
    )
    cameras = (
        Camera("front", eye=(0.56, -0.75, 1.15), target=(0.56, 0.0, 0.04), fov_deg=38.0),
        wrist_camera(),
        replace(wrist_camera(), name="wrist_2", member=1),
    )
    wording = Wording.of(
        COLOURS,
        (
            "Hand the {} over and lay it into the tray.",
            "Pass the {} to the other arm, which puts it into the tray.",
            "Hand over the {}.",
            "The {} goes from one arm to the other and into the tray.",
            "Give the {} to the second arm for the tray.",
        ),
        (
            "Let the robots exchange the {} mid-air, then store it.",
            "Transfer the {} across to the far container.",
            "Bring the {} to the opposite side, from gripper to gripper.",
        ),
    )
    jobs = by_level(
        easy=Job(0.200, 0.06, 0.2, 0.1, (0.270, 0.150)),
        nominal=Job(0.220, 0.10, 0.5, 0.3, (0.270, 0.130)),
        hard=Job(0.240, 0.15, 0.9, 0.6, (0.270, 0.112)),
    )
    job: Job
    remembers = HandOverProgress
    progress: HandOverProgress
    part_scales = (0.86, 0.93)

    def list_items(self) -> tuple[Item, ...]:
        """Return bars and tray."""
        size, (x, y) = (self.job.length, BAR_M, BAR_M), self.job.inside
        bars = (Item(name, size, rgb).scaled(self.part_scale) for name, rgb in COLOURS.items())
        outer = (x + 2 * WALL_M, y + 2 * WALL_M, RIM_M)
        return (*bars, Item("tray", outer, TRAY_RGB, is_goal=True))

    def make_robot(self, world: World, name: str) -> Team:
        """Make two arms that face each other."""
        facing = replace(self.post, position=(SECOND_M, 0.0, 0.0), yaw=math.pi)
        return Team([Arm(world, PANDA, self.post), Arm(world, PANDA, facing)])

    def build(self, world: World) -> None:
        """Add three bars and the tray: a floor and four low walls."""
        *bars, tray = self.items
        bodies = [world.add_box(item.size, item.rgb, self.job.mass_kg) for item in bars]
        length, width, height = tray.size
        floor = Shape("box", (length, width, FLOOR_M), (0.0, 0.0, 0.5 * FLOOR_M))
        walls = walls_around(self.job.inside, (length, width), height, WALL_M)
        self.bodies = (*bodies, world.add_fixed([floor, *walls], TRAY_RGB))

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Scatter the bars, with room for the fingers where they are gripped, and place the tray."""
        self.begin(named=int(rng.integers(TRAY)))
        for body, (x, y, yaw) in zip(self.bodies, self._scatter(rng), strict=False):
            world.place(body, (x, y, 0.5 * self.items[0].size[2]), yaw_quaternion(yaw))

        x, y = rng.uniform(TRAY_LOW, TRAY_HIGH)
        turn = rng.uniform(-self.job.tray_yaw, self.job.tray_yaw)
        world.place(self.bodies[TRAY], (x, y, 0.0), yaw_quaternion(turn))

    def _scatter(self, rng: np.random.Generator) -> list[list[float]]:
        """Draw x, y (m) and yaw (rad) of each bar."""
        turn = self.job.bar_yaw
        spots: list[list[float]] = []
        tries = 0

        while len(spots) < TRAY:
            tries += 1
            spot = rng.uniform((*BARS_LOW, -turn), (*BARS_HIGH, turn)).tolist()
            if all(self._apart(spot, other) for other in spots):
                spots.append(spot)
            elif tries % 60 == 0:
                spots = []

        return spots

    def _apart(self, first: Sequence[float], second: Sequence[float]) -> bool:
        """Return whether two bars (x, y, yaw) leave room for each other and for the fingers."""
        lines = [_line(spot, self.job.length) for spot in (first, second)]
        if _nearest(lines[0], lines[1]) < SPACING_M:
            return False

        grips = [_line(spot, 2 * GRIP_M)[:1] for spot in (first, second)]
        return min(_nearest(grips[0], lines[1]), _nearest(grips[1], lines[0])) > HAND_M

    def judge(self, world: World, robot: Team) -> Verdict:
        """Judge where the bars are and who has the named one."""
        arms = [member for member in robot.members if isinstance(member, Arm)]
        rows, named, progress = world.rows, self.progress.named, self.progress
        bar, length = rows[named], self.items[named].size[0]
        gaps = [_gap(arm, bar, length) for arm in arms]
        grips = [self._grips(world, arm, gap) for arm, gap in zip(arms, gaps, strict=True)]
        if grips[0]:
            progress.handed = grips[1] and (progress.handed or bar[2] > AIR_M)

        laid = [self._lies_in(row, rows[TRAY]) for row in rows[:TRAY]]
        others = [index for index in range(TRAY) if laid[index] and index != named]
        clear, speed = min(gaps) > CLEAR_M, math.hypot(*bar[7:10])
        let_go = clear and min(arm.opening_m for arm in arms) > OPEN_M
        done = laid[named] and progress.handed and not others and let_go and speed < REST_M_S
        if progress.held.count(done):
            return DONE

        progress.wrong.count(any(_gap(arms[1], rows[index], length) > CLEAR_M for index in others))
        failure = self.failure(bar, arms[0], let_go=False)
        left = bar[2] < LEFT_M and clear and speed < SLOW_M_S and not laid[named]
        takers = arms if progress.handed else arms[:1]
        if not failure and left and not any(_reaches(arm, bar, length) for arm in takers):
            failure = "out_of_reach"

        return Verdict(_stage(grips, bar[2], laid[named]), failure=failure)

    def _grips(self, world: World, arm: Arm, gap: float) -> bool:
        """Return whether a hand holds the named bar."""
        closed = arm.gripper > 0.0 and abs(arm.opening_m - self.grip_m) < PLAY_M
        return closed and gap < GRIPPED_M and world.touching(arm.body, self.named_body)

    def _lies_in(self, row: Sequence[float], tray: Sequence[float]) -> bool:
        """Return whether a bar lies flat on the tray's floor."""
        along, across = in_frame(row, tray)
        x, y = self.job.inside
        inside = abs(along) < 0.5 * x and abs(across) < 0.5 * y
        low = row[2] - tray[2] - FLOOR_M - 0.5 * self.grip_m < LAID_M
        return inside and low and abs(_axis(row)[2]) < FLAT_SINE


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
