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

from shopfloor.envs.experts.scene import Thing
from shopfloor.envs.looks.camera import Camera, wrist_camera
from shopfloor.envs.physics import kinematics
from shopfloor.envs.physics.kinematics import in_frame, uprightness, yaw_of, yaw_quaternion
from shopfloor.envs.physics.scatter import poses_near
from shopfloor.envs.physics.shapes import open_box
from shopfloor.envs.physics.world import World
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

Size = tuple[float, float, float]
Slot = tuple[float, float]

ORDERS = {"red": (0.82, 0.20, 0.18), "blue": (0.16, 0.34, 0.80)}
KINDS = ("carton", "case", "block", "tub")
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
BOX_MASS_KG = 0.15
TOTE_RGB, FLOOR_M, WALL_M = (0.62, 0.66, 0.70), 0.004, 0.006
TOTE_LOW, TOTE_HIGH, TOTE_YAW = (0.47, 0.22), (0.53, 0.26), 0.2
BOX_HIGH, BOX_YAW, GAP_M, REACH_M = (0.69, 0.04), 0.6, 0.006, 0.70
TRIES = 150  # draws for all boxes together, after which all are drawn anew
HAND_M = 0.120  # between the outer sides of the open fingers, with some play
FINGER_M = 0.019  # room that fingertips, 14 mm thick, need at least beside a box in the tote
UNDER_TOP_M = 0.0045  # the tool that holds a box below the box's top
CLEAR_M, OPEN_M = 0.055, 0.074  # tool to a box and between the fingers, once let go
ENTRY_M = 0.002  # a box may stick this far into the tote's walls, as contacts allow
LOW_M = 0.07  # a box that is higher may still fall
LYING_COSINE = math.cos(math.radians(45.0))


@dataclass(frozen=True)
class Job(Level):
    """What differs between levels.

    Attributes:
        red, blue: kinds of boxes in the two orders; both have the same number.
        inside: of the tote, m.
        sizes: full extents by kind, m.
        low: x, y, m, nearest corner of where the middles of boxes are on the table.
    """

    red: tuple[str, ...]
    blue: tuple[str, ...]
    inside: Size
    sizes: Mapping[str, Size]
    low: tuple[float, float] = (0.33, -0.34)


class TotePack(Task):
    """The task; see the module's text."""

    max_episode_steps = 280
    post = top_down(
        (0.28, -0.40, 0.012), (0.72, 0.38, 0.35), (0.44, -0.06, 0.17), (0.54, 0.06, 0.22)
    )
    cameras = (
        Camera("front", eye=(0.90, -0.02, 0.84), target=(0.47, -0.02, 0.0), fov_deg=52.0),
        wrist_camera(),
    )
    # Every order has a carton: it stands for the order, whose name is {1}, and is packed first.
    wording = Wording.of(
        {f"{order} carton": order for order in ORDERS},
        (
            "Pack the {1} order into the tote.",
            "Put all {1} boxes into the tote so that its lid can close.",
            "Pack every {1} box into the tote.",
            "The {1} order goes into the tote.",
            "Fill the tote with the {1} order.",
        ),
        (
            "Load each {1} item in the container side by side.",
            "Get the {1} goods ready for shipping.",
            "Stow the {1} packages in the crate, nothing above its edge.",
        ),
    )
    jobs = by_level(
        easy=Job(KINDS[:2], KINDS[:2], (0.260, 0.130, 0.0495), SMALL, max_steps=200),
        nominal=Job(
            ("carton", "case", "block"), ("carton", "case", "tub"), (0.260, 0.117, 0.0495), SMALL
        ),
        hard=Job(KINDS, KINDS, (0.179, 0.205, 0.0492), LARGE, (0.33, -0.38), max_steps=360),
    )
    job: Job
    progress: Progress
    displaces = teleports = True
    part_scales = (0.86, 0.93)

    def list_items(self) -> tuple[Item, ...]:
        """Return the boxes of both orders, one order after the other, and the tote."""
        job, boxes = self.job, []
        for (order, rgb), kinds in zip(ORDERS.items(), (job.red, job.blue), strict=True):
            for kind in kinds:
                box = Item(f"{order} {kind}", job.sizes[kind], rgb)
                boxes.append(box.scaled(self.part_scale))

        x, y, z = job.inside
        size = (x + 2 * WALL_M, y + 2 * WALL_M, z + FLOOR_M)
        return (*boxes, Item("tote", size, TOTE_RGB, is_goal=True))

    @property
    def named_row(self) -> int:
        """Row of the named order's carton."""
        return self.progress.named * len(self.job.red)

    def build(self, world: World) -> None:
        """Add the boxes of both orders and the tote."""
        boxes = [world.add_box(item.size, item.rgb, BOX_MASS_KG) for item in self.items[:-1]]
        shapes = open_box(self.job.inside[:2], WALL_M, self.items[-1].size[2], FLOOR_M)
        self.bodies = (*boxes, world.add_fixed(shapes, TOTE_RGB))

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Place the tote and scatter the boxes."""
        self.begin(named=int(rng.integers(len(ORDERS))))
        x, y = rng.uniform(TOTE_LOW, TOTE_HIGH)
        yaw = rng.uniform(-TOTE_YAW, TOTE_YAW)
        world.place(self.bodies[-1], (x, y, 0.0), yaw_quaternion(yaw))
        spots = np.array(self._scatter((x, y, yaw), rng))
        self.lay_out(world, list(spots[:, :2]), spots[:, 2])

    def _scatter(self, tote: Sequence[float], rng: np.random.Generator) -> list[Sequence[float]]:
        """Draw x, y, yaw of every box, with room for the fingers beside it; start over where it gets too tight."""
        low, high = (*self.job.low, -BOX_YAW), (*BOX_HIGH, BOX_YAW)
        # Of the usual sizes, so that boxes of other sizes lie where these would.
        sizes = [self.job.sizes[item.name.split(" ", 1)[1]][:2] for item in self.items[:-1]]
        spots: list[Sequence[float]] = []
        tries = 0

        while len(spots) < len(sizes):
            tries += 1
            if tries > TRIES:
                spots, tries = [], 0
            spot = rng.uniform(low, high).tolist()
            placed = [*zip(spots, sizes, strict=False), (tote, self.items[-1].size[:2])]
            if _fits(spot, sizes[len(spots)], placed):
                spots.append(spot)

        return spots

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places near the named carton where it stands with room for the fingers."""
        named, placed = self.named_row, []
        for index, (row, item) in enumerate(zip(world.rows, self.items, strict=False)):
            if index != named:
                placed.append(((*row[:2], yaw_of(row)), item.size[:2]))

        def fits(pose: Array) -> bool:
            inside = (pose[:2] >= self.job.low).all() and (pose[:2] <= BOX_HIGH).all()
            spot = (*pose[:2].tolist(), yaw_of(pose))
            return bool(inside) and _fits(spot, self.items[named].size[:2], placed)

        return poses_near(world.poses[named], (low_m, high_m), fits, rng)

    def judge(self, world: World, robot: Arm) -> Verdict:
        """Judge what is in the tote and how."""
        rows, tote = world.rows, world.rows[len(self.items) - 1]
        order, others = self._order, self._others
        tool = robot.tool_position.tolist()
        gaps = [math.dist(tool, row[:3]) for row in rows]
        packed = all(self._packed(rows[index], tote, self.items[index].size) for index in order)
        wrong = [index for index in others if self._inside(rows[index], tote)]

        clear = min(gaps[index] for index in order) > CLEAR_M and robot.opening_m > OPEN_M
        still = all(math.hypot(*rows[index][7:10]) < REST_M_S for index in order)
        if self.progress.held.count(packed and not wrong and clear and still):
            return DONE

        self.progress.wrong.count(any(gaps[index] > CLEAR_M for index in wrong))
        failure = "wrong_part" if self.progress.wrong.full else ""
        for index in order:
            failure = failure or self._lost(rows[index], gaps[index], robot)
        stage = "release" if packed else self._stage(world, robot, gaps)
        return Verdict(stage, failure=failure)

    def _lost(self, row: Sequence[float], gap: float, robot: Arm) -> str:
        """Return why a box of the order can no longer be packed, or ""."""
        toppled = abs(uprightness(row)) < LYING_COSINE
        return self.failure(row, robot, let_go=gap > CLEAR_M, below_m=LOW_M, toppled=toppled)

    def _stage(self, world: World, robot: Arm, gaps: Sequence[float]) -> str:
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
        along, across = in_frame(row, tote)
        x, y, z = self.job.inside
        return abs(along) < 0.5 * x and abs(across) < 0.5 * y and row[2] < z + FLOOR_M + 0.03

    def _packed(self, row: Sequence[float], tote: Sequence[float], size: Size) -> bool:
        """Return whether all of a box is inside the tote and below its rim."""
        if not self._inside(row, tote):
            return False

        turned = kinematics.yaw_matrix(-yaw_of(tote)) @ kinematics.matrix(np.array(row[3:7]))
        half_x, half_y, half_z = (0.5 * np.abs(turned) @ size).tolist()
        along, across = in_frame(row, tote)
        x, y, z = self.job.inside

        fits_x = abs(along) + half_x < 0.5 * x + ENTRY_M
        fits_y = abs(across) + half_y < 0.5 * y + ENTRY_M
        return bool(fits_x and fits_y and row[2] + half_z < tote[2] + z + FLOOR_M)

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named carton; only used where it stands upright."""
        up = 0.5 * self.items[self.named_row].size[2] - UNDER_TOP_M
        return ToolPose.above(world.poses[self.named_row], up)

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose at which the named carton stands in its place in the tote."""
        pose, carton = world.poses[len(self.items) - 1], self.items[self.named_row]
        slots = pack([self.items[index] for index in self._order], self.items[-1])
        along, across = slots[self.named]
        place = np.array([along, across, FLOOR_M + carton.size[2] - UNDER_TOP_M])
        return ToolPose(pose[:3] + kinematics.matrix(pose[3:]) @ place, yaw_of(pose))

    def take_up(self) -> None:
        """Set what follows from `progress`: the rows of the named order, and those of the other."""
        super().take_up()
        first, count = self.named_row, len(self.job.red)
        self._order = range(first, first + count)
        self._others = range(count - first, 2 * count - first)


def by_length(box: Item | Thing) -> tuple[float, str]:
    """Return the key that sorts the boxes of an order: the longest first."""
    return -box.size[0], box.name


def pack(order: Sequence[Item | Thing], tote: Item | Thing) -> dict[str, Slot]:
    """Return where each box of an order goes: along and across the tote, m from its middle.

    Boxes are dealt out to rows, the longest first, each to the row with the most room left, and
    spread evenly.

    Args:
        order: its boxes.
        tote: what they go into.
    """
    length, width = tote.size[0] - 2 * WALL_M, tote.size[1] - 2 * WALL_M
    widest = max(box.size[1] for box in order)
    count = max(1, min(len(order), int((width - FINGER_M) / (widest + FINGER_M))))
    rows: list[list[Item | Thing]] = [[] for _ in range(count)]
    for box in sorted(order, key=by_length):
        min(rows, key=_taken).append(box)

    slots = {}
    across = (width - count * widest) / (count + 1)
    for number, row in enumerate(rows):
        gap = (length - _taken(row)) / (len(row) + 1)
        start = -0.5 * length
        aside = (number + 1) * (across + widest) - 0.5 * (width + widest)
        for box in row:
            slots[box.name] = (start + gap + 0.5 * box.size[0], aside)
            start += gap + box.size[0]

    return slots


def _taken(row: Sequence[Item | Thing]) -> float:
    """Return the length that the boxes of a row take, m."""
    return sum(box.size[0] for box in row)


def _fits(
    spot: Sequence[float],
    size: Sequence[float],
    placed: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> bool:
    """Return whether a box can stand at x, y, yaw among others, with room for the fingers beside each."""
    if math.hypot(spot[0], spot[1]) > REACH_M:
        return False

    own, hand = (size[0] + 2 * GAP_M, size[1] + 2 * GAP_M), _with_hand(size)
    return all(
        not _overlap(spot, hand, other, other_size)
        and not _overlap(other, _with_hand(other_size), spot, own)
        for other, other_size in placed
    )


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
        beyond = 2 * along > own[0] + c * other[0] + s * other[1]
        if beyond or 2 * across > own[1] + s * other[0] + c * other[1]:
            return False

    return True
