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
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from shopfloor.envs.cells.cartons import StackProgress, add_carton, lost_carton, pallet
from shopfloor.envs.experts.scene import Vector, wrap
from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.kinematics import in_frame, uprightness, yaw_of, yaw_quaternion
from shopfloor.envs.physics.shapes import Shape
from shopfloor.envs.physics.world import World
from shopfloor.envs.robots.arm import Arm, top_down
from shopfloor.envs.task import (
    DONE,
    HOLD_STEPS,
    REST_M_S,
    Item,
    Level,
    Streak,
    Task,
    Verdict,
    Wording,
    by_level,
)

BOX_M, BOX_MASS_KG = (0.120, 0.058, 0.045), 0.25
PER_LAYER, GAP_M = 2, 0.004  # boxes of a layer; between them
PALLET_M, PALLET_HEIGHT_M, DECK_M, RUNNER_Y_M = 0.150, 0.024, 0.008, 0.065
PALLET_LOW, PALLET_HIGH = (0.42, 0.21), (0.58, 0.25)
INFEED_M, INFEED_MIDDLE, INFEED_RGB = (0.45, 0.42), (0.505, -0.13), (0.42, 0.44, 0.47)
# Middles of the fields of the infeed table, where boxes lie ready, and their height.
FIELDS_M = tuple((x, y) for x in (0.36, 0.505, 0.65) for y in (-0.28, -0.18, -0.08, 0.02))
FIELD_Z_M = 0.012
JITTER_M, JITTER_RAD = 0.006, 0.2
# How far a box may be off its place: sideways, turned, up or down.
PLACE_M, PLACE_RAD, LEVEL_M = 0.008, math.radians(5.0), 0.004
FLAT_COSINE = math.cos(math.radians(3.0))
STABLE_STEPS = 2 * HOLD_STEPS
CLEAR_M = 0.03  # from the cup to the tops of the boxes

KINDS = {"red box": (0.80, 0.22, 0.18), "blue box": (0.16, 0.36, 0.78)}
PALLET = Item("pallet", (PALLET_M, PALLET_M, PALLET_HEIGHT_M), (0.76, 0.60, 0.40), is_goal=True)


@dataclass(frozen=True)
class Job(Level):
    """What differs between levels.

    Attributes:
        layers: how many are to be stacked.
        pallet_yaw: the pallet is turned by up to that much, rad.
    """

    layers: int
    pallet_yaw: float


@dataclass
class PalletProgress(StackProgress):
    """How far an episode is; the stack has to stand for longer than other jobs have to be done."""

    held: Streak = field(default_factory=lambda: Streak(needed=STABLE_STEPS))


class Slot(NamedTuple):
    """A place on the pallet: where a box's middle goes, m, and its yaw, rad."""

    position: Vector
    yaw: float

    def off(self, box: Sequence[float], yaw: float) -> tuple[float, float, float]:
        """Return how far a box is off the place: sideways, up or down, m, and turned, rad.

        Args:
            box: position of its middle, m.
            yaw: of the box, rad; half a turn makes no difference.
        """
        x, y, z = (box[axis] - self.position[axis] for axis in range(3))
        return math.hypot(x, y), abs(z), abs(wrap(yaw - self.yaw, math.pi))


def slots_on(
    pose: Sequence[float], deck_m: float, size: Sequence[float], layers: int
) -> list[list[Slot]]:
    """Return the places of each layer; each layer lies across the one below.

    Args:
        pose: position and quaternion of the middle of the pallet's underside.
        deck_m: height of its upper side.
        size: of a box, full extents, m.
        layers: how many.
    """
    yaw, (x, y, z) = yaw_of(pose), pose[:3]
    shift = 0.5 * (size[1] + GAP_M)
    found = []

    for layer in range(layers):
        turned = yaw + 0.5 * math.pi * (layer % 2)
        height = z + deck_m + (layer + 0.5) * size[2]
        dx, dy = -math.sin(turned) * shift, math.cos(turned) * shift
        found.append([Slot((x + side * dx, y + side * dy, height), turned) for side in (-1, 1)])

    return found


class Palletize(Task):
    """The task; see the module's text."""

    max_episode_steps = 260
    robots = ("panda_suction",)
    post = top_down((0.28, -0.33, 0.0), (0.72, 0.36, 0.36), (0.44, -0.06, 0.22), (0.54, 0.06, 0.27))
    cameras = (
        Camera("front", eye=(1.0, 0.01, 0.86), target=(0.49, 0.01, 0.0), fov_deg=47.0),
        Camera(
            "wrist", eye=(0.11, 0.0, 0.12), target=(0.02, 0.0, -0.02), fov_deg=80.0, on_tool=True
        ),
    )
    wording = Wording.of(
        KINDS,
        (
            "Stack the {}es on the pallet, each layer across the one below.",
            "Palletize all {}es.",
            "Put every {} onto the pallet, two side by side in each layer.",
            "Build a stack of the {}es on the pallet in transposed layers.",
            "Load the pallet with the {}es, two to a layer.",
        ),
        (
            "The pallet is for the {}es: pile them up crosswise in pairs.",
            "Move each {} from the infeed to the pallet and turn every second layer.",
        ),
    )
    jobs = by_level(
        easy=Job(1, 0.0, max_steps=130), nominal=Job(2, 0.15), hard=Job(3, 0.6, max_steps=400)
    )
    job: Job
    remembers = PalletProgress
    progress: PalletProgress
    part_scales = (0.84, 0.93)

    def list_items(self) -> tuple[Item, ...]:
        """Return the boxes, one kind after the other, and the pallet."""
        boxes: list[Item] = []
        for kind, rgb in KINDS.items():
            boxes += [Item(kind, BOX_M, rgb).scaled(self.part_scale)] * self._count
        return (*boxes, PALLET)

    @property
    def _count(self) -> int:
        """How many boxes of each kind there are."""
        return PER_LAYER * self.job.layers

    @property
    def named_row(self) -> int:
        """Row of the first box of the named kind."""
        return self.progress.named * self._count

    def build(self, world: World) -> None:
        """Add the boxes, the pallet and the infeed table."""
        boxes = [add_carton(world, item, BOX_MASS_KG, anchored=True) for item in self.items[:-1]]
        shapes = pallet(PALLET.size, DECK_M, RUNNER_Y_M)
        self.bodies = (*boxes, world.add_fixed(shapes, PALLET.rgb))
        infeed = world.add_fixed([Shape("box", (*INFEED_M, FIELD_Z_M))], INFEED_RGB)
        world.place(infeed, (*INFEED_MIDDLE, FIELD_Z_M / 2))

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Lay the boxes on the infeed table and place the pallet."""
        self.begin(named=int(rng.integers(len(KINDS))))
        chosen = rng.permutation(len(FIELDS_M))[: len(self.items) - 1]
        for body, item, index in zip(self.bodies, self.items, chosen.tolist(), strict=False):
            dx, dy = rng.uniform(-JITTER_M, JITTER_M, 2)
            x, y = FIELDS_M[index]
            place = (x + dx, y + dy, FIELD_Z_M + 0.5 * item.size[2])
            world.place(body, place, yaw_quaternion(rng.uniform(-JITTER_RAD, JITTER_RAD)))

        x, y = rng.uniform(PALLET_LOW, PALLET_HIGH)
        yaw = rng.uniform(-1.0, 1.0) * self.job.pallet_yaw
        world.place(self.bodies[-1], (x, y, 0.0), yaw_quaternion(yaw))

    def slots(self, world: World) -> list[list[Slot]]:
        """Return the places on the pallet, layer by layer."""
        pose = world.rows[len(self.items) - 1]
        return slots_on(pose[:7], PALLET_HEIGHT_M, self.items[0].size, self.job.layers)

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge how the boxes lie."""
        rows, count = world.rows, len(self.items) - 1
        named = range(self.named_row, self.named_row + self._count)
        boxes = [rows[index] for index in named]
        filled = self._filled(world, boxes)
        still = all(math.hypot(*box[7:10]) < REST_M_S for box in boxes)

        half, tool = 0.5 * self.items[0].size[2], robot.tool_position.tolist()
        clear = all(math.dist(tool, (*box[:2], box[2] + half)) > CLEAR_M for box in boxes)
        if self.progress.held.count(filled and still and clear and robot.holding < 0):
            return DONE

        left = [index for index in range(count) if self.bodies[index] != robot.holding]
        others = (rows[index] for index in left if index not in named)
        self.progress.wrong.count(any(_on_pallet(box, rows[count]) for box in others))
        lost = (lost_carton(rows[index], robot) for index in left if index in named)
        return self.progress.verdict(robot, lost, done=filled)

    def _filled(self, world: World, boxes: Sequence[Sequence[float]]) -> bool:
        """Return whether every place holds a box."""
        places = [slot for layer in self.slots(world) for slot in layer]
        return all(any(_lies_in(slot, box) for box in boxes) for slot in places)


def _on_pallet(box: Sequence[float], pose: Sequence[float]) -> bool:
    """Return whether a box's middle is over the pallet."""
    along, across = in_frame(box, pose)
    return max(abs(along), abs(across)) < 0.5 * PALLET_M and box[2] > PALLET_HEIGHT_M


def _lies_in(slot: Slot, box: Sequence[float]) -> bool:
    aside, height, turn = slot.off(box, yaw_of(box))
    straight = turn < PLACE_RAD and abs(uprightness(box)) > FLAT_COSINE
    return straight and aside < PLACE_M and height < LEVEL_M
