"""DepalletizeMixed: put all boxes of the colour that the instruction names from a mixed pallet onto a running conveyor.

Task: boxes of several sizes and colours stand on a pallet, some on others; the instruction names a
colour. Its boxes go onto the belt, which carries them past a line to an end stop; the others stay,
or go to the mat where they stand on one that is asked for. The hand is a suction cup. Observations
hold no speeds. Randomisation: which box stands where; each off its place by up to 4 mm and turned
by up to 0.1 rad; the pallet on 6 x 3 cm; the belt's speed, 0.06-0.12 m/s; the named colour; the
phrasing; where the tool starts; light and colours (mildly). Levels: easy: four boxes in one layer,
two of them named; nominal: six boxes, two of them on others, two named, none of them under one that
is not; hard: eight boxes, four on others of mixed heights, three named, at least one of them under
one that is not and has to be set aside. Success: every named box has been carried past the line,
upright on the belt (riding or at the end stop), and no other, with nothing in the cup, for 0.5 s.
Failure: a box of another colour past the line (`wrong_part`), any box off the table, or left on its
side or leaning (`dropped`), a named one left where the tool cannot come (`out_of_reach`), time
(`timeout`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shopfloor.envs.cells.cartons import StackProgress, add_carton, lost_carton, pallet, upright
from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.kinematics import yaw_quaternion
from shopfloor.envs.physics.shapes import Shape
from shopfloor.envs.physics.world import UPRIGHT, World
from shopfloor.envs.robots.arm import Arm, top_down
from shopfloor.envs.task import DONE, Item, Level, Task, Verdict, Wording, by_level

BELT_SPEED_M_S = (0.06, 0.12)
BELT_X_M, BELT_START_M, BELT_END_M, BELT_WIDTH_M, BELT_TOP_M = 0.45, 0.07, -0.51, 0.17, 0.03
BELT_LENGTH_M = BELT_START_M - BELT_END_M
BELT_PLACE = (BELT_X_M, 0.5 * (BELT_START_M + BELT_END_M), 0.5 * BELT_TOP_M)
RAIL_M, STOP_HEIGHT_M = (0.01, BELT_LENGTH_M, BELT_TOP_M + 0.004), BELT_TOP_M + 0.05
RAIL_X_M = 0.5 * (BELT_WIDTH_M + RAIL_M[0])
# The conveyor's rails, and the stop at its end.
FRAME = (
    Shape("box", RAIL_M, (-RAIL_X_M, 0.0, RAIL_M[2] / 2)),
    Shape("box", RAIL_M, (RAIL_X_M, 0.0, RAIL_M[2] / 2)),
    Shape(
        "box",
        (BELT_WIDTH_M + 2 * RAIL_M[0], RAIL_M[0], STOP_HEIGHT_M),
        (0.0, -0.5 * (BELT_LENGTH_M + RAIL_M[0]), STOP_HEIGHT_M / 2),
    ),
)
# Two posts where the line is.
LINE = (
    Shape("box", (0.012, 0.012, 0.06), (-RAIL_X_M - 0.014, 0.0, 0.03)),
    Shape("box", (0.012, 0.012, 0.06), (RAIL_X_M + 0.014, 0.0, 0.03)),
)
LINE_M = -0.20  # past it a box is delivered
BELT_RGB, FRAME_RGB, LINE_RGB = (0.20, 0.21, 0.23), (0.62, 0.64, 0.66), (0.95, 0.80, 0.15)
PALLET_M, PALLET_DECK_M, PALLET_RGB = (0.26, 0.22, 0.024), 0.008, (0.76, 0.60, 0.40)
RUNNER_Y_M = 0.095
PALLET_LOW, PALLET_HIGH = (0.44, 0.245), (0.50, 0.275)
COLUMNS_M = ((-0.0625, -0.0525), (-0.0625, 0.0525), (0.0625, -0.0525), (0.0625, 0.0525))
JITTER_M, JITTER_RAD = 0.004, 0.1
MAT_M, MAT_MIDDLE = (0.16, 0.26, 0.004), (0.64, -0.05)
BOX_MASS_KG = 0.2

RGB = {
    "red box": (0.80, 0.22, 0.18),
    "green box": (0.22, 0.60, 0.30),
    "blue box": (0.16, 0.36, 0.78),
}
LARGE, LOW_LARGE = (0.105, 0.085, 0.045), (0.100, 0.080, 0.035)
SMALL, LOW_SMALL = (0.080, 0.065, 0.035), (0.075, 0.060, 0.030)
LARGE_X_M = 0.09  # a longer box is a large one
MAT = Item("mat", MAT_M, (0.42, 0.36, 0.46), is_goal=True)
CONVEYOR = Item("conveyor", (BELT_WIDTH_M, BELT_LENGTH_M, BELT_TOP_M), BELT_RGB, is_goal=True)


@dataclass(frozen=True)
class Job(Level):
    """What differs between levels.

    Attributes:
        boxes: name and size (m) of each; the first ones are one of each colour that may be named.
        colours: how many colours may be named.
        blocked: whether a box that is not named stands on a named one.
    """

    boxes: tuple[tuple[str, tuple[float, float, float]], ...]
    colours: int = 2
    blocked: bool = False


@dataclass
class UnloadProgress(StackProgress):
    """How far an episode is.

    Attributes:
        belt_m_s: speed of the belt.
    """

    belt_m_s: float = 0.0


class DepalletizeMixed(Task):
    """The task; see the module's text."""

    max_episode_steps = 250
    robots = ("panda_suction", "ur5e_suction")
    post = top_down((0.28, -0.30, 0.0), (0.72, 0.38, 0.36), (0.42, -0.06, 0.22), (0.52, 0.06, 0.27))
    cameras = (
        Camera("front", eye=(1.0, -0.06, 0.98), target=(0.49, -0.06, 0.0), fov_deg=48.0),
        Camera(
            "wrist", eye=(0.11, 0.0, 0.12), target=(0.02, 0.0, -0.02), fov_deg=80.0, on_tool=True
        ),
    )
    wording = Wording.of(
        RGB,
        (
            "Put all {}es from the pallet onto the conveyor.",
            "Unload the {}es onto the belt, from the top down.",
            "Depalletize every {}; leave the others.",
            "Move each {} from the pallet to the conveyor.",
            "Send the {}es down the conveyor.",
        ),
        (
            "The order is all the {}es: get them off the stack and onto the belt.",
            "Clear the pallet of {}es and ship them.",
        ),
    )
    jobs = by_level(
        easy=Job(
            (("red box", LARGE), ("green box", LARGE), ("red box", SMALL), ("green box", SMALL))
        ),
        nominal=Job(
            (*((name, LARGE) for name in RGB), *((name, SMALL) for name in RGB)), colours=3
        ),
        hard=Job(
            (
                ("red box", LARGE),
                ("green box", LARGE),
                ("green box", LOW_LARGE),
                ("blue box", LOW_LARGE),
                ("red box", SMALL),
                ("red box", LOW_SMALL),
                ("green box", SMALL),
                ("blue box", LOW_SMALL),
            ),
            blocked=True,
            max_steps=400,
        ),
    )
    job: Job
    remembers = UnloadProgress
    progress: UnloadProgress
    part_scales = (0.84, 0.93)
    moves = True

    def set_level(self, level: str) -> None:
        """Change to one of `levels`; the phrasings are those of all of them."""
        super().set_level(level)
        self.instructions, self.unseen_instructions = self.wording.usual, self.wording.unseen

    def list_items(self) -> tuple[Item, ...]:
        """Return boxes, conveyor and mat."""
        boxes = (
            Item(name, size, RGB[name], belongs_to=CONVEYOR.name).scaled(self.part_scale)
            for name, size in self.job.boxes
        )
        return (*boxes, CONVEYOR, MAT)

    def build(self, world: World) -> None:
        """Add the boxes, the conveyor (a belt, its frame with an end stop, the line), the mat and the pallet."""
        boxes = [add_carton(world, item, BOX_MASS_KG, anchored=False) for item in self.items[:-2]]
        belt = world.add_fixed([Shape("box", CONVEYOR.size)], BELT_RGB)
        mat = world.add_fixed([Shape("box", MAT_M)], MAT.rgb)
        self.bodies = (*boxes, belt, mat)
        world.place(belt, BELT_PLACE)
        world.place(mat, (*MAT_MIDDLE, MAT_M[2] / 2))
        world.place(world.add_fixed(FRAME, FRAME_RGB), (*BELT_PLACE[:2], 0.0))
        world.place(world.add_fixed(LINE, LINE_RGB), (BELT_X_M, LINE_M, 0.0))
        self._pallet = world.add_fixed(pallet(PALLET_M, PALLET_DECK_M, RUNNER_Y_M), PALLET_RGB)

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Draw the belt's speed and stack the boxes on the pallet."""
        speed = rng.uniform(*BELT_SPEED_M_S)
        self.begin(named=int(rng.integers(self.job.colours)), belt_m_s=speed)
        x, y = rng.uniform(PALLET_LOW, PALLET_HIGH).tolist()
        world.place(self._pallet, (x, y, 0.0))
        tops = [PALLET_M[2]] * len(COLUMNS_M)

        for index, column in self._stacking(rng):
            size = self.items[index].size
            dx, dy = rng.uniform(-JITTER_M, JITTER_M, 2).tolist()
            column_x, column_y = COLUMNS_M[column]
            place = (x + column_x + dx, y + column_y + dy, tops[column] + 0.5 * size[2])
            yaw = rng.uniform(-JITTER_RAD, JITTER_RAD)
            world.place(self.bodies[index], place, yaw_quaternion(yaw))
            tops[column] += size[2]

    def _stacking(self, rng: np.random.Generator) -> list[tuple[int, int]]:
        """Draw which box stands in which column, the lower ones first, until it is as the level says."""
        boxes, columns = self.items[:-2], range(len(COLUMNS_M))
        least = LARGE_X_M * self.part_scale
        large = [index for index, item in enumerate(boxes) if item.size[0] > least]
        small = [index for index in range(len(boxes)) if index not in large]
        room = len(columns) - len(large)  # below, for small ones

        while True:
            order = rng.permutation(small).tolist()
            lower = rng.permutation(large + order[:room]).tolist()
            bearing = [column for column in columns if lower[column] in large]
            upper = list(zip(order[room:], rng.permutation(bearing).tolist(), strict=False))

            blocked = any(
                boxes[lower[column]].name == self.named != boxes[index].name
                for index, column in upper
            )
            if blocked == self.job.blocked:
                return [*((index, column) for column, index in enumerate(lower)), *upper]

    def before_substep(self, world: World) -> None:
        """Let the belt carry what lies on it: a body that has a speed but is put back where it was."""
        velocity = (0.0, -self.progress.belt_m_s, 0.0, 0.0, 0.0, 0.0)
        world.place(self.bodies[-2], BELT_PLACE, UPRIGHT, velocity)

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge where the boxes are."""
        rows, boxes = world.rows, self.items[:-2]
        named = [index for index, item in enumerate(boxes) if item.name == self.named]
        left = [index for index in range(len(boxes)) if self.bodies[index] != robot.holding]
        past = [index for index in left if _past_line(rows[index], boxes[index].size[2])]
        done = all(index in past for index in named) and robot.holding < 0
        if self.progress.held.count(done and len(past) == len(named)):
            return DONE

        self.progress.wrong.count(any(index not in named for index in past))
        lost = (
            lost_carton(rows[index], robot, wanted=index in named)
            for index in left
            if index not in past
        )
        return self.progress.verdict(robot, lost, done=done)


def _past_line(box: Sequence[float], height: float) -> bool:
    """Return whether a box stands on the belt past the line."""
    on_belt = abs(box[0] - BELT_X_M) < 0.5 * BELT_WIDTH_M and BELT_END_M < box[1] < LINE_M
    return on_belt and abs(box[2] - BELT_TOP_M - 0.5 * height) < 0.008 and upright(box)
