"""Palletize: stack all boxes of the kind that the instruction names on the pallet, each layer across the one below.

Task: red and blue boxes of the same size lie mixed on the infeed table; the instruction names one
kind. Its boxes go onto the pallet, two side by side in a layer, 4 mm between them and the middle of
the layer over the pallet's; the second layer is turned by a quarter of a turn against the first,
and so on. Which box goes where within the pattern is free; half a turn of a box makes no
difference. The hand is a suction cup. Randomisation: which boxes lie where on the infeed table, off
the middle of their fields by up to 6 mm and turned by up to 0.2 rad; the pallet's place on 16 x 4
cm and its yaw; the named kind; the phrasing; where the tool starts; light and colours (mildly).
Levels: easy: one layer (2 boxes of each kind), the pallet straight; nominal: two layers (4 of
each), the pallet at a yaw within +-0.15 rad; hard: three layers (6 of each), within +-0.6 rad.
Success: every place holds a box of the kind, within 8 mm and 5 degrees, upright, and for 1 s
nothing of the kind moves faster than 5 mm/s while the cup holds nothing and is clear of them.
Failure: a box of the other kind left on the pallet (`wrong_part`), a named box off the table or
left on its side or leaning, where the cup cannot lay it right (`dropped`), or left where the tool
cannot come (`out_of_reach`), time (`timeout`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.cells.cartons import add_carton
from shopfloor.envs.cells.palletize_expert import (
    FIELD_Z_M,
    FIELDS_X_M,
    FIELDS_Y_M,
    PER_LAYER,
    VERSION,
    Slot,
    decide,
    slots,
)
from shopfloor.envs.experts.scene import Thing, wrap
from shopfloor.envs.experts.scripted import ScriptedExpert
from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.kinematics import uprightness, yaw_of, yaw_quaternion
from shopfloor.envs.physics.world import Shape, World
from shopfloor.envs.robots.arm import Arm
from shopfloor.envs.task import HOLD_STEPS, REST_M_S, Item, Task, Verdict

Array = npt.NDArray[np.float64]

CELL_ID = "shopfloor/Palletize-v0"
LAYERS = {"easy": 1, "nominal": 2, "hard": 3}
PALLET_YAW = {"easy": 0.0, "nominal": 0.15, "hard": 0.6}
STEPS = {"easy": 130, "nominal": 260, "hard": 400}
BOX_M, BOX_MASS_KG = (0.120, 0.058, 0.045), 0.25
PALLET_M, PALLET_HEIGHT_M, DECK_M = 0.150, 0.024, 0.008
PALLET_LOW, PALLET_HIGH = (0.42, 0.21), (0.58, 0.25)
INFEED_M, INFEED_MIDDLE, INFEED_RGB = (0.45, 0.42), (0.505, -0.13), (0.42, 0.44, 0.47)
JITTER_M, JITTER_RAD = 0.006, 0.2
PLACE_M, PLACE_RAD, LEVEL_M = (
    0.008,
    math.radians(5.0),
    0.004,
)  # off a place: sideways, turned, up or down
FLAT_COSINE = math.cos(math.radians(3.0))
LEANING_COSINE = 0.96  # the cup seals within 16 degrees
STABLE_STEPS = 2 * HOLD_STEPS
CLEAR_M, SLOW_M_S = (
    0.03,
    0.02,
)  # the cup above the box it is nearest to; slower than that a box is left

KINDS = {"red box": (0.80, 0.22, 0.18), "blue box": (0.16, 0.36, 0.78)}
PALLET = Item("pallet", (PALLET_M, PALLET_M, PALLET_HEIGHT_M), (0.76, 0.60, 0.40), is_goal=True)
PHRASES = (
    "Stack the {}es on the pallet, each layer across the one below.",
    "Palletize all {}es.",
    "Put every {} onto the pallet, two side by side in each layer.",
    "Build a stack of the {}es on the pallet in transposed layers.",
    "Load the pallet with the {}es, two to a layer.",
)
UNSEEN_PHRASES = (
    "The pallet is for the {}es: pile them up crosswise in pairs.",
    "Move each {} from the infeed to the pallet and turn every second layer.",
)
INSTRUCTIONS = {kind: tuple(text.format(kind) for text in PHRASES) for kind in KINDS}
UNSEEN = {kind: tuple(text.format(kind) for text in UNSEEN_PHRASES) for kind in KINDS}
CAMERAS = (
    Camera("front", eye=(1.0, 0.01, 0.86), target=(0.49, 0.01, 0.0), fov_deg=47.0),
    Camera("wrist", eye=(0.11, 0.0, 0.12), target=(0.02, 0.0, -0.02), fov_deg=80.0, on_tool=True),
)


class Palletize(Task):
    """The task; see the module's text."""

    robots = ("panda_suction",)
    frozen_axes: tuple[int, ...] = (3, 4)
    workspace: Array = np.array([[0.28, -0.33, 0.0], [0.72, 0.36, 0.36]])
    start_low: Array = np.array([0.44, -0.06, 0.22])
    start_high: Array = np.array([0.54, 0.06, 0.27])
    cameras: tuple[Camera, ...] = CAMERAS
    instructions: Mapping[str, tuple[str, ...]] = INSTRUCTIONS
    unseen_instructions: Mapping[str, tuple[str, ...]] = UNSEEN
    levels = ("easy", "nominal", "hard")
    part_scales = (0.84, 0.93)

    def __init__(self) -> None:
        """Start with nothing built."""
        self.bodies: tuple[int, ...] = ()
        self._kind = self._held_steps = self._wrong_steps = self._lost_steps = 0
        self._infeed = -1
        self.set_level("nominal")

    def set_level(self, level: str) -> None:
        """Change the number of layers."""
        self.level = level
        self.max_episode_steps = STEPS[level]
        self._of_kind = PER_LAYER * LAYERS[level]
        self._list_items()
        self.present = np.ones(len(self.items), dtype=bool)

    def _list_items(self) -> None:
        x, y, z = (self.part_scale * edge for edge in BOX_M)
        boxes = [
            Item(kind, (x, y, z), rgb) for kind, rgb in KINDS.items() for _ in range(self._of_kind)
        ]
        self.items = (*boxes, PALLET)
        self.named = self.items[self._kind * self._of_kind].name

    def build(self, world: World) -> None:
        """Add the boxes, the pallet (a deck on three runners) and the infeed table."""
        self._list_items()
        boxes = [add_carton(world, item, BOX_MASS_KG, anchored=True) for item in self.items[:-1]]
        feet = PALLET_HEIGHT_M - DECK_M
        shapes = [Shape("box", (PALLET_M, PALLET_M, DECK_M), (0.0, 0.0, feet + DECK_M / 2))]

        shapes += [
            Shape("box", (PALLET_M, 0.02, feet), (0.0, side * 0.065, feet / 2))
            for side in (-1, 0, 1)
        ]

        pallet = world.add(shapes, [(*PALLET.rgb, 1.0)] * len(shapes), 0.0)
        self.bodies = (*boxes, pallet)
        self._infeed = world.add([Shape("box", (*INFEED_M, FIELD_Z_M))], [(*INFEED_RGB, 1.0)], 0.0)
        world.place(self._infeed, (*INFEED_MIDDLE, FIELD_Z_M / 2))

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Lay the boxes on the infeed table and place the pallet."""
        self.recall(np.array([rng.integers(len(KINDS)), 0, 0, 0]))
        fields = [(x, y) for x in FIELDS_X_M for y in FIELDS_Y_M]
        chosen = rng.permutation(len(fields))[: len(self.items) - 1]

        for body, item, index in zip(self.bodies, self.items, chosen.tolist(), strict=False):
            dx, dy = rng.uniform(-JITTER_M, JITTER_M, 2)
            x, y = fields[index]
            place = (x + dx, y + dy, FIELD_Z_M + 0.5 * item.size[2])
            world.place(body, place, yaw_quaternion(rng.uniform(-JITTER_RAD, JITTER_RAD)))

        x, y = rng.uniform(PALLET_LOW, PALLET_HIGH)
        world.place(
            self.bodies[-1],
            (x, y, 0.0),
            yaw_quaternion(rng.uniform(-1.0, 1.0) * PALLET_YAW[self.level]),
        )

    def slots(self, world: World) -> list[list[Slot]]:
        """Return the places on the pallet, layer by layer."""
        row = world.rows[len(self.items) - 1]
        pallet = Thing("pallet", list(row[:3]), list(row[3:7]), list(PALLET.size), is_goal=True)
        return slots(pallet, list(self.items[0].size), self._of_kind // PER_LAYER)

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge how the boxes lie."""
        first = self._kind * self._of_kind
        named = range(first, first + self._of_kind)
        rows, tool = world.rows, robot.tool_position.tolist()
        half = 0.5 * self.items[0].size[2]
        filled = self._filled(world, [rows[index] for index in named])
        still = all(math.hypot(*rows[index][7:10]) < REST_M_S for index in named)
        clear = all(
            math.dist(tool, (*rows[index][:2], rows[index][2] + half)) > CLEAR_M for index in named
        )
        done = filled and still and clear and robot.holding < 0
        self._held_steps = self._held_steps + 1 if done else 0

        if self._held_steps >= STABLE_STEPS:
            return Verdict("done", success=True)

        left = [
            index for index in range(len(self.items) - 1) if self.bodies[index] != robot.holding
        ]

        wrong = any(
            index not in named and self._on_pallet(rows[index], rows[len(self.items) - 1])
            for index in left
        )

        self._wrong_steps = self._wrong_steps + 1 if wrong else 0
        lost = [_lost(rows[index], robot) for index in named if index in left]
        reason = next((reason for reason in lost if reason), "")
        self._lost_steps = self._lost_steps + 1 if reason else 0
        failure = reason if self._lost_steps >= HOLD_STEPS else ""
        if self._wrong_steps >= HOLD_STEPS:
            failure = "wrong_part"
        if filled:
            return Verdict("release", failure=failure)

        if robot.holding >= 0:
            return Verdict("carry", failure=failure)
        return Verdict("grasp" if robot.gripper > 0.0 else "approach", failure=failure)

    def _filled(self, world: World, boxes: Sequence[Sequence[float]]) -> bool:
        """Return whether every place holds a box."""
        places = [slot for layer in self.slots(world) for slot in layer]
        return all(any(_lies_in(slot, box) for box in boxes) for slot in places)

    def _on_pallet(self, box: Sequence[float], pallet: Sequence[float]) -> bool:
        """Return whether a box's middle is over the pallet."""
        x, y, yaw = box[0] - pallet[0], box[1] - pallet[1], yaw_of(pallet)
        along, across = x * math.cos(yaw) + y * math.sin(yaw), y * math.cos(yaw) - x * math.sin(yaw)
        return (
            abs(along) < 0.5 * PALLET_M
            and abs(across) < 0.5 * PALLET_M
            and box[2] > PALLET_HEIGHT_M
        )

    def memory(self) -> Array:
        """Return the named kind's number and the three counters of steps, shape (4,)."""
        return np.array(
            [self._kind, self._held_steps, self._wrong_steps, self._lost_steps], dtype=float
        )

    def recall(self, memory: Array) -> None:
        """Come back to `memory`."""
        self._kind, self._held_steps, self._wrong_steps, self._lost_steps = (
            int(value) for value in memory
        )
        first = self._kind * self._of_kind
        self.named, self.named_body = self.items[first].name, self.bodies[first]


def _flat(pose: Sequence[float]) -> float:
    """Return the cosine of a box's lean, whichever side is up."""
    return abs(uprightness(pose))


def _lies_in(slot: Slot, box: Sequence[float]) -> bool:
    x, y, z = (box[axis] - slot.position[axis] for axis in range(3))
    straight = abs(wrap(yaw_of(box) - slot.yaw, math.pi)) < PLACE_RAD and _flat(box) > FLAT_COSINE
    return straight and math.hypot(x, y) < PLACE_M and abs(z) < LEVEL_M


def _lost(box: Sequence[float], robot: Arm) -> str:
    """Return why a box that the cup does not hold is lost for good, or ""."""
    if box[2] < -0.02:
        return "dropped"
    if math.hypot(*box[7:10]) > SLOW_M_S:
        return ""
    if _flat(box) < LEANING_COSINE:
        return "dropped"
    return "" if robot.reaches(box[0], box[1]) else "out_of_reach"


def make(**options: object) -> WorkCell:
    """Build the cell; see `shopfloor.envs.description.CellOptions` for the options."""
    return WorkCell(CELL_ID, Palletize(), **options)


def expert(execute: int = 1) -> ScriptedExpert:
    """Return the scripted expert; `execute` is how many actions of a chunk callers run."""
    return ScriptedExpert(CELL_ID, VERSION, INSTRUCTIONS, decide, execute, unseen=UNSEEN, cup=True)
