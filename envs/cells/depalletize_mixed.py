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

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.cells.cartons import add_carton
from shopfloor.envs.cells.depalletize_mixed_expert import VERSION, decide
from shopfloor.envs.experts.scripted import ScriptedExpert
from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.kinematics import uprightness, yaw_quaternion
from shopfloor.envs.physics.world import UPRIGHT, Shape, World
from shopfloor.envs.robots.arm import Arm
from shopfloor.envs.task import HOLD_STEPS, Item, Task, Verdict

Array = npt.NDArray[np.float64]

CELL_ID = "shopfloor/DepalletizeMixed-v0"
BELT_SPEED_M_S = (0.06, 0.12)
BELT_X_M, BELT_START_M, BELT_END_M, BELT_WIDTH_M, BELT_TOP_M = 0.45, 0.07, -0.51, 0.17, 0.03
LINE_M = -0.20  # past it a box is delivered
BELT_RGB, FRAME_RGB, LINE_RGB = (0.20, 0.21, 0.23), (0.62, 0.64, 0.66), (0.95, 0.80, 0.15)
PALLET_M, PALLET_DECK_M, PALLET_RGB = (0.26, 0.22, 0.024), 0.008, (0.76, 0.60, 0.40)
PALLET_LOW, PALLET_HIGH = (0.44, 0.245), (0.50, 0.275)
COLUMNS_M = ((-0.0625, -0.0525), (-0.0625, 0.0525), (0.0625, -0.0525), (0.0625, 0.0525))
JITTER_M, JITTER_RAD = 0.004, 0.1
MAT_M, MAT_MIDDLE = (0.16, 0.26, 0.004), (0.64, -0.05)
BOX_MASS_KG = 0.2
UPRIGHT_COSINE = 0.96
SLOW_M_S = 0.02  # slower than that a box is left
STEPS = {"easy": 250, "nominal": 250, "hard": 400}

RGB = {
    "red box": (0.80, 0.22, 0.18),
    "green box": (0.22, 0.60, 0.30),
    "blue box": (0.16, 0.36, 0.78),
}
LARGE, LOW_LARGE = (0.105, 0.085, 0.045), (0.100, 0.080, 0.035)
SMALL, LOW_SMALL = (0.080, 0.065, 0.035), (0.075, 0.060, 0.030)
BOXES = {
    "easy": (("red box", LARGE), ("green box", LARGE), ("red box", SMALL), ("green box", SMALL)),
    "nominal": (
        *((name, LARGE) for name in RGB),
        *((name, SMALL) for name in RGB),
    ),
    "hard": (
        ("red box", LARGE),
        ("green box", LARGE),
        ("green box", LOW_LARGE),
        ("blue box", LOW_LARGE),
        ("red box", SMALL),
        ("red box", LOW_SMALL),
        ("green box", SMALL),
        ("blue box", LOW_SMALL),
    ),
}
KINDS = {"easy": ("red box", "green box"), "nominal": tuple(RGB), "hard": ("red box", "green box")}
MAT = Item("mat", MAT_M, (0.42, 0.36, 0.46), is_goal=True)
CONVEYOR = Item(
    "conveyor", (BELT_WIDTH_M, BELT_START_M - BELT_END_M, BELT_TOP_M), BELT_RGB, is_goal=True
)
PHRASES = (
    "Put all {}es from the pallet onto the conveyor.",
    "Unload the {}es onto the belt, from the top down.",
    "Depalletize every {}; leave the others.",
    "Move each {} from the pallet to the conveyor.",
    "Send the {}es down the conveyor.",
)
UNSEEN_PHRASES = (
    "The order is all the {}es: get them off the stack and onto the belt.",
    "Clear the pallet of {}es and ship them.",
)
INSTRUCTIONS = {name: tuple(text.format(name) for text in PHRASES) for name in RGB}
UNSEEN = {name: tuple(text.format(name) for text in UNSEEN_PHRASES) for name in RGB}
CAMERAS = (
    Camera("front", eye=(1.0, -0.06, 0.98), target=(0.49, -0.06, 0.0), fov_deg=48.0),
    Camera("wrist", eye=(0.11, 0.0, 0.12), target=(0.02, 0.0, -0.02), fov_deg=80.0, on_tool=True),
)


class DepalletizeMixed(Task):
    """The task; see the module's text."""

    robots = ("panda_suction", "ur5e_suction")
    frozen_axes: tuple[int, ...] = (3, 4)
    workspace: Array = np.array([[0.28, -0.30, 0.0], [0.72, 0.38, 0.36]])
    start_low: Array = np.array([0.42, -0.06, 0.22])
    start_high: Array = np.array([0.52, 0.06, 0.27])
    cameras: tuple[Camera, ...] = CAMERAS
    instructions: Mapping[str, tuple[str, ...]] = INSTRUCTIONS
    unseen_instructions: Mapping[str, tuple[str, ...]] = UNSEEN
    levels = ("easy", "nominal", "hard")
    part_scales = (0.84, 0.93)
    moves = True

    def __init__(self) -> None:
        """Start with nothing built."""
        self.bodies: tuple[int, ...] = ()
        self._kind = self._held_steps = self._wrong_steps = self._lost_steps = 0
        self._speed_m_s = 0.0
        self._pallet = -1
        self.set_level("nominal")

    def set_level(self, level: str) -> None:
        """Change the number of boxes."""
        self.level = level
        self.max_episode_steps = STEPS[level]
        self._list_items()
        self.present = np.ones(len(self.items), dtype=bool)

    def _list_items(self) -> None:
        boxes = []
        for name, (x, y, z) in BOXES[self.level]:
            size = (self.part_scale * x, self.part_scale * y, self.part_scale * z)
            boxes.append(Item(name, size, RGB[name], belongs_to=CONVEYOR.name))
        self.items = (*boxes, CONVEYOR, MAT)
        self.named = self._names()[self._kind % len(self._names())]

    def _names(self) -> tuple[str, ...]:
        return KINDS[self.level]

    def build(self, world: World) -> None:
        """Add the boxes, the conveyor (a belt, its frame with an end stop, the line), the mat and the pallet."""
        self._list_items()
        boxes = [add_carton(world, item, BOX_MASS_KG, anchored=False) for item in self.items[:-2]]
        belt = world.add([Shape("box", CONVEYOR.size)], [(*BELT_RGB, 1.0)], 0.0)
        mat = world.add([Shape("box", MAT_M)], [(*MAT.rgb, 1.0)], 0.0)
        self.bodies = (*boxes, belt, mat)
        world.place(belt, self._belt_place())
        world.place(mat, (*MAT_MIDDLE, MAT_M[2] / 2))
        self._add_frame(world)

        x, y, height = PALLET_M
        feet = height - PALLET_DECK_M
        shapes = [Shape("box", (x, y, PALLET_DECK_M), (0.0, 0.0, feet + PALLET_DECK_M / 2))]
        shapes += [
            Shape("box", (x, 0.02, feet), (0.0, side * 0.095, feet / 2)) for side in (-1, 0, 1)
        ]
        self._pallet = world.add(shapes, [(*PALLET_RGB, 1.0)] * len(shapes), 0.0)

    def _add_frame(self, world: World) -> None:
        rail, height, length = 0.01, BELT_TOP_M + 0.004, BELT_START_M - BELT_END_M
        side = 0.5 * (BELT_WIDTH_M + rail)
        shapes = [
            Shape("box", (rail, length, height), (sign * side, 0.0, height / 2)) for sign in (-1, 1)
        ]
        stop = BELT_TOP_M + 0.05

        shapes.append(
            Shape(
                "box",
                (BELT_WIDTH_M + 2 * rail, rail, stop),
                (0.0, -0.5 * (length + rail), stop / 2),
            )
        )

        frame = world.add(shapes, [(*FRAME_RGB, 1.0)] * len(shapes), 0.0)
        world.place(frame, (BELT_X_M, 0.5 * (BELT_START_M + BELT_END_M), 0.0))
        posts = [
            Shape("box", (0.012, 0.012, 0.06), (sign * (side + 0.014), 0.0, 0.03))
            for sign in (-1, 1)
        ]

        line = world.add(posts, [(*LINE_RGB, 1.0)] * 2, 0.0)
        world.place(line, (BELT_X_M, LINE_M, 0.0))

    @staticmethod
    def _belt_place() -> tuple[float, float, float]:
        return BELT_X_M, 0.5 * (BELT_START_M + BELT_END_M), 0.5 * BELT_TOP_M

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Draw the belt's speed and stack the boxes on the pallet."""
        speed = rng.uniform(*BELT_SPEED_M_S)
        self.recall(np.array([rng.integers(len(self._names())), 0, 0, 0, speed]))
        x, y = rng.uniform(PALLET_LOW, PALLET_HIGH).tolist()
        world.place(self._pallet, (x, y, 0.0))
        tops = [PALLET_M[2]] * len(COLUMNS_M)

        for index, column in self._stacking(rng):
            size = self.items[index].size
            dx, dy = rng.uniform(-JITTER_M, JITTER_M, 2).tolist()
            place = (
                x + COLUMNS_M[column][0] + dx,
                y + COLUMNS_M[column][1] + dy,
                tops[column] + 0.5 * size[2],
            )

            yaw = rng.uniform(-JITTER_RAD, JITTER_RAD)
            world.place(self.bodies[index], place, yaw_quaternion(yaw))
            tops[column] += size[2]

    def _stacking(self, rng: np.random.Generator) -> list[tuple[int, int]]:
        """Draw which box stands in which column, the lower ones first, until it is as the level says."""
        boxes = self.items[:-2]
        large = [index for index, item in enumerate(boxes) if item.size[0] > 0.09 * self.part_scale]
        small = [index for index in range(len(boxes)) if index not in large]

        while True:
            order = rng.permutation(small).tolist()
            lower = rng.permutation(large + order[: len(COLUMNS_M) - len(large)]).tolist()
            upper = order[len(COLUMNS_M) - len(large) :]
            under = rng.permutation(
                [column for column in range(len(COLUMNS_M)) if lower[column] in large]
            ).tolist()
            pairs = list(zip(upper, under, strict=False))

            blocked = any(
                boxes[lower[column]].name == self.named != boxes[index].name
                for index, column in pairs
            )

            if blocked == (self.level == "hard"):
                return [*((index, column) for column, index in enumerate(lower)), *pairs]

    def before_substep(self, world: World) -> None:
        """Let the belt carry what lies on it: a body that has a speed but is put back where it was."""
        velocity = (0.0, -self._speed_m_s, 0.0, 0.0, 0.0, 0.0)
        world.place(self.bodies[-2], self._belt_place(), UPRIGHT, velocity)

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge where the boxes are."""
        rows, boxes = world.rows, self.items[:-2]
        named = [index for index, item in enumerate(boxes) if item.name == self.named]
        left = [index for index in range(len(boxes)) if self.bodies[index] != robot.holding]
        past = [index for index in left if _past_line(rows[index], boxes[index].size[2])]
        done = all(index in past for index in named) and robot.holding < 0
        self._held_steps = self._held_steps + 1 if done and len(past) == len(named) else 0
        if self._held_steps >= HOLD_STEPS:
            return Verdict("done", success=True)

        self._wrong_steps = (
            self._wrong_steps + 1 if any(index not in named for index in past) else 0
        )
        lost = [_lost(rows[index], robot, index in named) for index in left if index not in past]
        reason = next((reason for reason in lost if reason), "")
        self._lost_steps = self._lost_steps + 1 if reason else 0
        failure = reason if self._lost_steps >= HOLD_STEPS else ""
        if self._wrong_steps >= HOLD_STEPS:
            failure = "wrong_part"
        if done:
            return Verdict("release", failure=failure)

        if robot.holding >= 0:
            return Verdict("carry", failure=failure)
        return Verdict("grasp" if robot.gripper > 0.0 else "approach", failure=failure)

    def memory(self) -> Array:
        """Return the named colour's number, the three counters of steps and the belt's speed (m/s), shape (5,)."""
        counters = (self._kind, self._held_steps, self._wrong_steps, self._lost_steps)
        return np.array([*counters, self._speed_m_s], dtype=float)

    def recall(self, memory: Array) -> None:
        """Come back to `memory`."""
        self._kind, self._held_steps, self._wrong_steps, self._lost_steps = (
            int(value) for value in memory[:4]
        )
        self._speed_m_s = float(memory[4])
        self.named = self._names()[self._kind]

        self.named_body = next(
            body
            for body, item in zip(self.bodies, self.items, strict=True)
            if item.name == self.named
        )


def _upright(pose: Sequence[float]) -> bool:
    """Return whether a box stands flat, whichever side is up."""
    return abs(uprightness(pose)) > UPRIGHT_COSINE


def _past_line(box: Sequence[float], height: float) -> bool:
    """Return whether a box stands on the belt past the line."""
    on_belt = abs(box[0] - BELT_X_M) < 0.5 * BELT_WIDTH_M and BELT_END_M < box[1] < LINE_M
    return on_belt and abs(box[2] - BELT_TOP_M - 0.5 * height) < 0.008 and _upright(box)


def _lost(box: Sequence[float], robot: Arm, named: bool) -> str:
    """Return why a box that the cup does not hold is lost for good, or ""."""
    if box[2] < -0.02:
        return "dropped"
    if math.hypot(*box[7:10]) > SLOW_M_S:
        return ""
    if not _upright(box):
        return "dropped"
    return "out_of_reach" if named and not robot.reaches(box[0], box[1]) else ""


def make(**options: object) -> WorkCell:
    """Build the cell; see `shopfloor.envs.description.CellOptions` for the options."""
    return WorkCell(CELL_ID, DepalletizeMixed(), **options)


def expert(execute: int = 1) -> ScriptedExpert:
    """Return the scripted expert; `execute` is how many actions of a chunk callers run."""
    return ScriptedExpert(CELL_ID, VERSION, INSTRUCTIONS, decide, execute, unseen=UNSEEN, cup=True)
