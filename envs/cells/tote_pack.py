"""TotePack: pack the order that the instruction names into a tote, so that its lid can close.

Task: two orders lie on the table, one of red and one of blue boxes of different sizes; the
instruction names one by its colour. All its boxes go into the tote, beside each other: one on top
of another would keep the lid open. Randomisation: boxes anywhere on 36 x 38 cm (hard: 36 x 42 cm),
turned by up to +-0.6 rad, with room for the fingers beside them; the tote's centre on 6 x 4 cm, its
yaw within +-0.2 rad; the named order; the phrasing; where the tool starts; light and colours
(mildly). Levels: what is in an order, the tote's inside and the share of it that the order fills.
- easy: carton and case; 260 x 130 x 49.5 mm; 0.30.
- nominal: carton, case and block (red) or tub (blue); 260 x 117 x 49.5 mm; 0.47 and 0.45.
- hard: carton, case, block and tub, larger; 179 x 205 x 49.2 mm, two rows, boxes 4 mm apart; 0.60.
Success: every box of the order lies inside the tote with its top below the rim, slower than 5 mm/s,
none of the other order in it, gripper open and clear of the boxes, for 0.5 s. Failure: a box of the
other order in the tote (`wrong_part`), one of the named order off the table or on its side, which a
tool that points down cannot change (`dropped`), or left where the tool cannot come
(`out_of_reach`), time (`timeout`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.cells.tote_pack_expert import (
    FLOOR_M,
    UNDER_TOP_M,
    VERSION,
    WALL_M,
    decide,
    pack,
)
from shopfloor.envs.experts.scene import Thing
from shopfloor.envs.experts.scripted import ScriptedExpert
from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics import kinematics
from shopfloor.envs.physics.kinematics import uprightness, yaw_of, yaw_quaternion
from shopfloor.envs.physics.world import Shape, World, walls_around
from shopfloor.envs.robots.arm import Arm
from shopfloor.envs.task import HOLD_STEPS, REST_M_S, Item, Task, ToolPose, Verdict
from shopfloor.envs.variation import LEVELS

Array = npt.NDArray[np.float64]
Size = tuple[float, float, float]

CELL_ID = "shopfloor/TotePack-v0"
ORDERS: dict[str, tuple[float, float, float]] = {
    "red": (0.82, 0.20, 0.18),
    "blue": (0.16, 0.34, 0.80),
}
SMALL: dict[str, Size] = {
    "carton": (0.090, 0.064, 0.046),
    "case": (0.080, 0.062, 0.047),
    "block": (0.072, 0.064, 0.045),
    "tub": (0.066, 0.062, 0.044),
}
LARGE: dict[str, Size] = {
    "carton": (0.092, 0.072, 0.046),
    "case": (0.084, 0.072, 0.047),
    "block": (0.080, 0.071, 0.046),
    "tub": (0.076, 0.070, 0.045),
}
TOTE_RGB = (0.62, 0.66, 0.70)
BOX_MASS_KG = 0.15
TOTE_LOW, TOTE_HIGH, TOTE_YAW = (0.47, 0.22), (0.53, 0.26), 0.2
BOX_YAW, GAP_M = 0.6, 0.006
HAND_M = 0.120  # between the outer sides of the open fingers, with some play
CLEAR_M, OPEN_M = 0.055, 0.074  # tool to a box and between the fingers, once let go
ENTRY_M = 0.002  # a box may stick this far into the tote's walls, as contacts allow
SLOW_M_S = 0.02
LYING_COSINE = math.cos(math.radians(45.0))


@dataclass(frozen=True)
class Level:
    """What a level asks for.

    Attributes:
        kinds: of boxes, per order.
        sizes: full extents by kind, m.
        inside: of the tote, m.
        low, high: x, y, m, of the middles of boxes on the table.
        max_steps: of an episode.
    """

    kinds: dict[str, tuple[str, ...]]
    sizes: dict[str, Size]
    inside: Size
    low: tuple[float, float]
    high: tuple[float, float]
    max_steps: int

    def fill(self, order: str, scale: float = 1.0) -> float:
        """Return the share of the tote's inside that an order fills."""
        volume = sum(math.prod(self.sizes[kind]) for kind in self.kinds[order])
        return volume * scale**3 / math.prod(self.inside)


ALL = ("carton", "case", "block", "tub")
CELL_LEVELS = {
    "easy": Level(
        {"red": ALL[:2], "blue": ALL[:2]},
        SMALL,
        (0.260, 0.130, 0.0495),
        (0.33, -0.34),
        (0.69, 0.04),
        200,
    ),
    "nominal": Level(
        {"red": ("carton", "case", "block"), "blue": ("carton", "case", "tub")},
        SMALL,
        (0.260, 0.117, 0.0495),
        (0.33, -0.34),
        (0.69, 0.04),
        280,
    ),
    "hard": Level(
        {"red": ALL, "blue": ALL}, LARGE, (0.179, 0.205, 0.0492), (0.33, -0.38), (0.69, 0.04), 360
    ),
}
PHRASES = (
    "Pack the {} order into the tote.",
    "Put all {} boxes into the tote so that its lid can close.",
    "Pack every {} box into the tote.",
    "The {} order goes into the tote.",
    "Fill the tote with the {} order.",
)
UNSEEN_PHRASES = (
    "Load each {} item in the container side by side.",
    "Get the {} goods ready for shipping.",
    "Stow the {} packages in the crate, nothing above its edge.",
)
# Every order has a carton: it stands for the order, and is packed first.
INSTRUCTIONS = {
    f"{order} carton": tuple(text.format(order) for text in PHRASES) for order in ORDERS
}
UNSEEN = {
    f"{order} carton": tuple(text.format(order) for text in UNSEEN_PHRASES) for order in ORDERS
}
CAMERAS = (
    Camera("front", eye=(0.90, -0.02, 0.84), target=(0.47, -0.02, 0.0), fov_deg=52.0),
    Camera("wrist", eye=(0.085, 0.0, 0.085), target=(0.02, 0.0, 0.0), fov_deg=80.0, on_tool=True),
)


class TotePack(Task):
    """The task; see the module's text."""

    max_episode_steps = CELL_LEVELS["nominal"].max_steps
    frozen_axes: tuple[int, ...] = (3, 4)
    workspace: Array = np.array([[0.28, -0.40, 0.012], [0.72, 0.38, 0.35]])
    start_low: Array = np.array([0.44, -0.06, 0.17])
    start_high: Array = np.array([0.54, 0.06, 0.22])
    cameras: tuple[Camera, ...] = CAMERAS
    instructions: Mapping[str, tuple[str, ...]] = INSTRUCTIONS
    unseen_instructions: Mapping[str, tuple[str, ...]] = UNSEEN
    levels = LEVELS
    displaces = teleports = True
    part_scales = (0.86, 0.93)

    def __init__(self) -> None:
        """Start with nothing built."""
        self.bodies: tuple[int, ...] = ()
        self.named_body = -1
        self._named_index = 0
        self._order: list[int] = []
        self._others: list[int] = []
        self._held_steps = 0
        self._wrong_steps = 0
        self.set_level("nominal")

    def set_level(self, level: str) -> None:
        """Change to one of `levels`; takes effect with the next `build` and `reset`."""
        self.level, self._given = level, CELL_LEVELS[level]
        self.max_episode_steps = self._given.max_steps
        self._list_items()
        self.present = np.ones(len(self.items), dtype=bool)
        self.named = self.items[0].name

    def _list_items(self) -> None:
        given, scale = self._given, self.part_scale
        x, y, z = given.inside
        boxes = [
            Item(f"{order} {kind}", (scale * size[0], scale * size[1], scale * size[2]), rgb)
            for order, rgb in ORDERS.items()
            for kind, size in given.sizes.items()
            if kind in given.kinds[order]
        ]
        tote = Item("tote", (x + 2 * WALL_M, y + 2 * WALL_M, z + FLOOR_M), TOTE_RGB, is_goal=True)
        self.items = (*boxes, tote)

    def build(self, world: World) -> None:
        """Add the boxes of both orders and the tote: a floor and four walls."""
        self._list_items()
        boxes = [world.add_box(item.size, item.rgb, BOX_MASS_KG) for item in self.items[:-1]]
        length, width, height = self.items[-1].size
        shapes = [Shape("box", (length, width, FLOOR_M), (0.0, 0.0, 0.5 * FLOOR_M))]
        shapes += walls_around(self._given.inside[:2], (length, width), height, WALL_M)
        tote = world.add(shapes, [(*TOTE_RGB, 1.0)] * len(shapes), 0.0)
        self.bodies = (*boxes, tote)

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Place the tote and scatter the boxes."""
        order = int(rng.integers(len(ORDERS)))
        self.recall(np.array([order, 0, 0]))
        x, y = rng.uniform(TOTE_LOW, TOTE_HIGH)
        yaw = rng.uniform(-TOTE_YAW, TOTE_YAW)
        world.place(self.bodies[-1], (x, y, 0.0), yaw_quaternion(yaw))
        spots = self._scatter((x, y, yaw), rng)
        for body, item, (x, y, yaw) in zip(self.bodies, self.items, spots, strict=False):
            world.place(body, (x, y, 0.5 * item.size[2]), yaw_quaternion(yaw))

    def _scatter(self, tote: Sequence[float], rng: np.random.Generator) -> list[Sequence[float]]:
        """Draw x, y, yaw of every box, with room for the fingers beside it; start over where it gets too tight."""
        low, high = (*self._given.low, -BOX_YAW), (*self._given.high, BOX_YAW)
        # Of the usual sizes, so that boxes of other sizes lie where these would.
        sizes = [self._given.sizes[item.name.split(" ", 1)[1]][:2] for item in self.items[:-1]]
        spots: list[Sequence[float]] = []
        tries = 0

        while len(spots) < len(sizes):
            tries += 1
            if tries > 150:
                spots, tries = [], 0
            spot = rng.uniform(low, high).tolist()
            placed = [*zip(spots, sizes, strict=False), (tote, self.items[-1].size[:2])]
            if self._fits(spot, sizes[len(spots)], placed):
                spots.append(spot)

        return spots

    def _fits(
        self,
        spot: Sequence[float],
        size: Sequence[float],
        placed: Sequence[tuple[Sequence[float], Sequence[float]]],
    ) -> bool:
        """Return whether a box can stand at x, y, yaw among others, with room for the fingers beside each."""
        if math.hypot(spot[0], spot[1]) > 0.70:
            return False
        own, hand = _grown(size, GAP_M), _with_hand(size)
        return all(
            not _overlap(spot, hand, other, other_size)
            and not _overlap(other, _with_hand(other_size), spot, own)
            for other, other_size in placed
        )

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places near the named carton where it stands with room for the fingers."""
        named, sizes = self._named_index, [item.size[:2] for item in self.items]
        pose = world.poses[named].copy()
        placed = [
            ((*row[:2], yaw_of(row)), size)
            for index, (row, size) in enumerate(zip(world.rows, sizes, strict=False))
            if index != named
        ]

        spots = []
        for _ in range(24):
            angle, distance = rng.uniform(-math.pi, math.pi), rng.uniform(low_m, high_m)
            spot = pose.copy()
            spot[:2] += distance * np.array([math.cos(angle), math.sin(angle)])
            inside = (spot[:2] >= self._given.low).all() and (spot[:2] <= self._given.high).all()
            if inside and self._fits((*spot[:2], yaw_of(pose.tolist())), sizes[named], placed):
                spots.append(spot)

        return spots

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge what is in the tote and how."""
        rows, tote = world.rows, world.rows[len(self.items) - 1]
        tool = robot.tool_position.tolist()
        gaps = {index: math.dist(tool, rows[index][:3]) for index in (*self._order, *self._others)}
        packed = [self._packed(rows[index], tote, self.items[index].size) for index in self._order]
        wrong = [index for index in self._others if self._inside(rows[index], tote)]
        clear = min(gaps[index] for index in self._order) > CLEAR_M and robot.opening_m > OPEN_M
        still = all(math.hypot(*rows[index][7:10]) < REST_M_S for index in self._order)
        done = all(packed) and not wrong and clear and still
        self._held_steps = self._held_steps + 1 if done else 0
        self._wrong_steps = (
            self._wrong_steps + 1 if any(gaps[index] > CLEAR_M for index in wrong) else 0
        )

        if self._held_steps >= HOLD_STEPS:
            return Verdict("done", success=True)

        failure = "wrong_part" if self._wrong_steps >= HOLD_STEPS else ""
        for index in self._order:
            failure = failure or self._lost(rows[index], gaps[index], robot)
        return Verdict(self._stage(world, robot, packed, gaps), failure=failure)

    def _lost(self, row: Sequence[float], gap: float, robot: Arm) -> str:
        """Return why a box of the order can no longer be packed, or ""."""
        if row[2] < -0.02:
            return "dropped"
        left = row[2] < 0.07 and gap > CLEAR_M and math.hypot(*row[7:10]) < SLOW_M_S
        if left and abs(uprightness(row)) < LYING_COSINE:
            return "dropped"
        return "out_of_reach" if left and not robot.reaches(row[0], row[1]) else ""

    def _stage(
        self, world: World, robot: Arm, packed: Sequence[bool], gaps: Mapping[int, float]
    ) -> str:
        if all(packed):
            return "release"
        near = min(self._order, key=lambda index: gaps[index])
        if gaps[near] > 0.035 or robot.gripper < 0.0:
            return "approach"
        row, tote = world.rows[near], world.rows[len(self.items) - 1]
        height = row[2] - 0.5 * self.items[near].size[2]
        if height < self.items[-1].size[2] and self._inside(row, tote):
            return "place"
        return "carry" if height > 0.01 else "grasp"

    def _inside(self, row: Sequence[float], tote: Sequence[float]) -> bool:
        """Return whether the middle of a box is over the tote's inside and not far above it."""
        along, across = _in_frame(row, tote)
        x, y, z = self._given.inside
        return abs(along) < 0.5 * x and abs(across) < 0.5 * y and row[2] < z + FLOOR_M + 0.03

    def _packed(self, row: Sequence[float], tote: Sequence[float], size: Size) -> bool:
        """Return whether all of a box is inside the tote and below its rim."""
        if not self._inside(row, tote):
            return False

        turned = kinematics.yaw_matrix(-yaw_of(tote)) @ kinematics.matrix(
            (row[3], row[4], row[5], row[6])
        )
        half_x, half_y, half_z = (0.5 * np.abs(turned) @ size).tolist()
        along, across = _in_frame(row, tote)
        x, y, z = self._given.inside
        beside = (
            abs(along) + half_x < 0.5 * x + ENTRY_M and abs(across) + half_y < 0.5 * y + ENTRY_M
        )

        return bool(beside and row[2] + half_z < tote[2] + z + FLOOR_M)

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named carton; only used where it stands upright."""
        pose = world.poses[self._named_index]
        up = 0.5 * self.items[self._named_index].size[2] - UNDER_TOP_M
        return ToolPose(pose[:3] + np.array([0.0, 0.0, up]), yaw_of(pose.tolist()))

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose at which the named carton stands in its place in the tote."""
        tote, size = world.poses[len(self.items) - 1], self.items[self._named_index].size
        things = [self._thing(index) for index in (*self._order, len(self.items) - 1)]
        order = sorted(things[:-1], key=lambda thing: (-thing.size[0], thing.name))
        along, across = pack(order, things[-1])[self.named]
        frame = kinematics.matrix(tote[3:])
        height = FLOOR_M + size[2] - UNDER_TOP_M
        return ToolPose(tote[:3] + frame @ np.array([along, across, height]), yaw_of(tote.tolist()))

    def _thing(self, index: int) -> Thing:
        item = self.items[index]
        return Thing(
            item.name, [0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], list(item.size), item.is_goal
        )

    def memory(self) -> Array:
        """Return the named order's number and the two counters of steps, shape (3,)."""
        colours = list(ORDERS)
        return np.array(
            [colours.index(self.named.split()[0]), self._held_steps, self._wrong_steps], dtype=float
        )

    def recall(self, memory: Array) -> None:
        """Come back to `memory`."""
        number, self._held_steps, self._wrong_steps = (int(value) for value in memory)
        colour, boxes = list(ORDERS)[number], self.items[:-1]
        self._order = [index for index, item in enumerate(boxes) if item.name.startswith(colour)]
        self._others = [index for index in range(len(boxes)) if index not in self._order]
        self._named_index = self._order[0]
        self.named = boxes[self._named_index].name
        self.named_body = self.bodies[self._named_index]
        self.grip_m = boxes[self._named_index].size[1]


def _in_frame(row: Sequence[float], tote: Sequence[float]) -> tuple[float, float]:
    """Return a box's middle along and across the tote, m from the tote's."""
    yaw, dx, dy = yaw_of(tote), row[0] - tote[0], row[1] - tote[1]
    return dx * math.cos(yaw) + dy * math.sin(yaw), dy * math.cos(yaw) - dx * math.sin(yaw)


def _grown(size: Sequence[float], margin: float) -> tuple[float, float]:
    return size[0] + 2 * margin, size[1] + 2 * margin


def _with_hand(size: Sequence[float]) -> tuple[float, float]:
    """Return the room that a box takes with open fingers on both sides; a tote takes none for fingers."""
    return size[0] + 2 * GAP_M, max(size[1], HAND_M if max(size) < HAND_M else 0.0) + 2 * GAP_M


def _overlap(
    first: Sequence[float],
    first_size: Sequence[float],
    second: Sequence[float],
    second_size: Sequence[float],
) -> bool:
    """Return whether two rectangles (x, y, yaw and extents, m) overlap: no side of either parts them."""
    dx, dy = second[0] - first[0], second[1] - first[1]
    if math.hypot(dx, dy) > 0.5 * (math.hypot(*first_size) + math.hypot(*second_size)):
        return False

    turn = second[2] - first[2]
    c, s = abs(math.cos(turn)), abs(math.sin(turn))
    for yaw, own, other in (
        (first[2], first_size, second_size),
        (second[2], second_size, first_size),
    ):
        along = abs(dx * math.cos(yaw) + dy * math.sin(yaw))
        across = abs(dy * math.cos(yaw) - dx * math.sin(yaw))
        if (
            2 * along > own[0] + c * other[0] + s * other[1]
            or 2 * across > own[1] + s * other[0] + c * other[1]
        ):
            return False

    return True


def make(**options: object) -> WorkCell:
    """Build the cell; see `shopfloor.envs.description.CellOptions` for the options."""
    return WorkCell(CELL_ID, TotePack(), **options)


def expert(execute: int = 1) -> ScriptedExpert:
    """Return the scripted expert; `execute` is how many actions of a chunk callers run."""
    return ScriptedExpert(CELL_ID, VERSION, INSTRUCTIONS, decide, execute, unseen=UNSEEN)
