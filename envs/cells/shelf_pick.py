"""ShelfPick: a mobile robot with an arm fetches the item that the instruction names from a rack into its own tote.

Task: items stand on the steps of a rack; each step lies higher and further back, so that a tool
that points down reaches all of them. The instruction names one. The robot drives up to the rack,
picks that item and lays it into the tote on its own deck. Robot: a Panda on a mobile base; nine
actions: seven of the arm, then the base's speed and rate of turn. The arm's state, targets and
actions are in the frame of its own base, which moves; the six last entries of the state say where
that is. `objects` are in the frame of the floor; the rack's face is at x = 0 there and looks at -x.
Randomisation: which item is where, and each by +-1 cm and a yaw; where the robot starts and its
yaw; where the tool starts; the named item; the phrasing; light and colours (mildly). Levels: items
and steps; where the robot starts: its distance from the rack, how far to the side, its yaw.
- easy: 3 on 1 step; 1.3 to 1.5 m, +-0.2 m, within +-0.15 rad. Items turned within +-0.15 rad.
- nominal: 4 on 2 steps; 1.3 to 1.7 m, +-0.5 m, within +-0.4 rad. Items turned within +-0.4 rad.
- hard: 6 on 3 steps; 1.3 to 1.8 m, +-0.6 m, within +-1.0 rad. Items turned within +-0.6 rad.
Success: the named item in the tote, slower than 5 mm/s, base at rest, gripper open and clear of it,
for 0.5 s. What lies there while the robot drives does not count. Failure: another item in the tote
(`wrong_part`), the named item below the steps (`dropped`), the chassis touches the rack
(`collision`), time (`timeout`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.cells.shelf_pick_expert import (
    BASE_STATE,
    MOUNT,
    TOTE,
    TOTE_INNER_M,
    VERSION,
    decide,
)
from shopfloor.envs.experts.scripted import ScriptedExpert
from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.kinematics import yaw_quaternion
from shopfloor.envs.physics.world import FLOOR, STEADY_INERTIA, Shape, World, box_inertia, indices
from shopfloor.envs.robots.arm import MOBILE_PANDA, Arm, Post
from shopfloor.envs.robots.mobile import Base, Start, Team
from shopfloor.envs.task import HOLD_STEPS, REST_M_S, Item, Task, Verdict
from shopfloor.envs.variation import LEVELS

Array = npt.NDArray[np.float64]
Rgb = tuple[float, float, float]

CELL_ID = "shopfloor/ShelfPick-v0"
RACK_M = (0.56, 1.16, 1.05)  # depth, width, height of the posts behind
STEP_TOPS_M = (0.38, 0.52, 0.66)
STEP_FRONTS_M = (0.0, 0.18, 0.36)
ITEM_X_M = (0.06, 0.24, 0.42)  # behind the face
BOARD_M = 0.02
RACK_RGB: Rgb = (0.24, 0.36, 0.58)
BACK_RGB, STOCK_RGB = (
    (0.55, 0.58, 0.62),
    ((0.72, 0.55, 0.37), (0.60, 0.44, 0.28), (0.40, 0.58, 0.66)),
)
ITEM_MASS_KG = 0.08
SPACING_M, SPREAD_M = 0.20, 0.01  # of the places along a step
TOTE_RIM_M = 0.10  # above the deck
CLEAR_M, OPEN_M = 0.050, 0.060  # tool to item and between the fingers, once let go
REST_RAD_S = 0.02
LOST_M = 0.30  # an item lower than that has fallen off rack and robot
# Of the tool in the arm's frame.
WORKSPACE: Array = np.array([[-0.50, -0.25, 0.02], [0.69, 0.50, 0.49]])
START_LOW, START_HIGH = np.array([0.28, -0.05, 0.38]), np.array([0.34, 0.05, 0.44])

SIZES_M: dict[str, tuple[float, float, float]] = {
    "red box": (0.055, 0.055, 0.085),
    "blue can": (0.056, 0.056, 0.090),
    "yellow carton": (0.065, 0.046, 0.080),
    "green can": (0.052, 0.052, 0.080),
    "white box": (0.056, 0.056, 0.065),
    "purple carton": (0.070, 0.050, 0.075),
}
COLOURS: dict[str, Rgb] = {
    "red box": (0.82, 0.18, 0.16),
    "blue can": (0.15, 0.34, 0.82),
    "yellow carton": (0.95, 0.78, 0.12),
    "green can": (0.16, 0.60, 0.26),
    "white box": (0.93, 0.93, 0.90),
    "purple carton": (0.52, 0.24, 0.62),
}
PHRASES = (
    "Pick the {} from the shelf.",
    "Fetch the {}.",
    "Put the {} into your tote.",
    "Take the {} off the rack and lay it into the tote.",
    "The order says: one {}.",
)
UNSEEN_PHRASES = (
    "A customer waits for the {}, load it.",
    "Drive over and collect the {}.",
    "Stow the {} in the container that you carry.",
)
INSTRUCTIONS = {name: tuple(text.format(name) for text in PHRASES) for name in SIZES_M}
UNSEEN = {name: tuple(text.format(name) for text in UNSEEN_PHRASES) for name in SIZES_M}
CAMERAS = (
    Camera(
        "front",
        eye=(-2.80, 2.40, 3.40),
        target=(-0.82, 0.06, 0.29),
        fov_deg=39.0,
        near_m=0.2,
        far_m=12.0,
    ),
    Camera(
        "wrist",
        eye=(0.085, 0.0, 0.085),
        target=(0.02, 0.0, 0.0),
        fov_deg=80.0,
        on_tool=True,
        far_m=12.0,
    ),
    Camera(
        "mast",
        eye=(-0.33, -0.16, 1.15),
        target=(0.30, 0.02, 0.40),
        fov_deg=75.0,
        on_tool=True,
        member=1,
        near_m=0.05,
        far_m=12.0,
    ),
)


@dataclass(frozen=True)
class Level:
    """What a level asks for; lengths in m, yaws in rad."""

    items: int
    steps: int
    distance: tuple[float, float]
    side: float
    yaw: float
    item_yaw: float


CELL_LEVELS = {
    "easy": Level(3, 1, (1.3, 1.5), 0.2, 0.15, 0.15),
    "nominal": Level(4, 2, (1.3, 1.7), 0.5, 0.4, 0.4),
    "hard": Level(6, 3, (1.3, 1.8), 0.6, 1.0, 0.6),
}


class ShelfPick(Task):
    """The task; see the module's text."""

    max_episode_steps = 400
    robots = ("mobile_panda",)
    ground = FLOOR
    frozen_axes: tuple[int, ...] = (3, 4)
    cameras: tuple[Camera, ...] = CAMERAS
    levels = LEVELS
    part_scales = (0.86, 0.93)
    instructions: Mapping[str, tuple[str, ...]]
    unseen_instructions: Mapping[str, tuple[str, ...]]

    def __init__(self) -> None:
        """Start with nothing built."""
        self.bodies: tuple[int, ...] = ()
        self.named = next(iter(SIZES_M))
        self.named_body = -1
        self._named_index = 0
        self._held_steps = self._wrong_steps = 0
        self.set_level("nominal")

    def set_level(self, level: str) -> None:
        """Change to one of `levels`; takes effect with the next `build` and `reset`."""
        super().set_level(level)
        self._given = CELL_LEVELS[level]
        names = list(SIZES_M)[: self._given.items]
        self.instructions = {name: INSTRUCTIONS[name] for name in names}
        self.unseen_instructions = {name: UNSEEN[name] for name in names}
        self._list_items()
        self.present = np.ones(len(self.items), dtype=bool)

    def _list_items(self) -> None:
        parts = [
            Item(name, SIZES_M[name], COLOURS[name]).scaled(self.part_scale)
            for name in self.instructions
        ]
        self.items = (*parts, Item("rack", RACK_M, RACK_RGB))

    def make_robot(self, world: World, name: str) -> Team:
        """Make an arm that rides on a base."""
        base = Base(world, Start((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)), MOBILE_PANDA.urdf)
        arm = Arm(
            world,
            MOBILE_PANDA,
            Post(WORKSPACE, START_LOW, START_HIGH, self.frozen_axes),
            carrier=base,
        )
        self._chassis = indices(base.body, world.client)["chassis"]
        return Team([arm, base])

    def start(self, robot: Team, rng: np.random.Generator) -> None:  # type: ignore[override]  # what make_robot made
        """Put the base before the rack and the tool over its deck's front."""
        given = self._given
        arm, base = _members(robot)
        far, near = given.distance[1], given.distance[0]
        base.reset(
            *rng.uniform((-far, -given.side, -given.yaw), (-near, given.side, given.yaw)).tolist()
        )
        arm.start(rng)

    def build(self, world: World) -> None:
        """Add the items and the rack."""
        self._list_items()
        parts = [_add_item(world, item) for item in self.items[:-1]]
        rack = _add_rack(world, self._given.steps)
        self._stock = _add_stock(world)
        self.bodies = (*parts, rack)

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Put the items on places of the rack."""
        given = self._given
        self.recall(np.array([rng.integers(given.items), 0, 0]))
        world.place(self.bodies[-1], (0.5 * RACK_M[0], 0.0, 0.0))
        world.place(self._stock, (0.5 * RACK_M[0], 0.0, 0.0))
        places = _places(given)
        chosen = rng.permutation(len(places))[: given.items]

        for body, item, place in zip(self.bodies, self.items, chosen, strict=False):
            step, y = places[place]
            x, y = (
                ITEM_X_M[step] + rng.uniform(-SPREAD_M, SPREAD_M),
                y + rng.uniform(-SPREAD_M, SPREAD_M),
            )

            turn = yaw_quaternion(rng.uniform(-given.item_yaw, given.item_yaw))
            world.place(body, (x, y, STEP_TOPS_M[step] + 0.5 * item.size[2]), turn)

    def judge(self, world: World, robot: Team) -> Verdict:
        """Judge where the items are, seen from the robot."""
        arm, base = _members(robot)
        named, rows, count = self._named_index, world.rows, self._given.items
        tool = arm.frame()[0].tolist()
        inside = [_in_tote(base, row) for row in rows[:count]]
        clear = [math.dist(tool, row[:3]) > CLEAR_M for row in rows[:count]]
        speed, turn = base.state()[4:].tolist()

        rest = (
            abs(speed) < REST_M_S
            and abs(turn) < REST_RAD_S
            and math.hypot(*rows[named][7:10]) < REST_M_S
        )

        others = [index for index in range(count) if inside[index] and index != named]
        done = inside[named] and rest and clear[named] and arm.opening_m > OPEN_M and not others
        self._held_steps = self._held_steps + 1 if done else 0
        self._wrong_steps = self._wrong_steps + 1 if any(clear[index] for index in others) else 0
        stage = self._stage(rows[named], tool, arm, base, inside[named])
        failure = ""

        if self._hits_rack(world, base):
            failure = "collision"
        elif rows[named][2] < LOST_M:
            failure = "dropped"
        elif self._wrong_steps >= HOLD_STEPS:
            failure = "wrong_part"

        if self._held_steps >= HOLD_STEPS and not failure:
            return Verdict("done", success=True)
        return Verdict(stage, failure=failure)

    def _stage(
        self, part: Sequence[float], tool: Sequence[float], arm: Arm, base: Base, inside: bool
    ) -> str:
        if inside:
            return "release"
        if math.dist(tool, part[:3]) < 0.04 and arm.gripper > 0.0:
            resting = any(abs(part[2] - top) < 0.045 for top in STEP_TOPS_M) and part[0] > -0.02
            return "grasp" if resting else "carry"
        return "approach" if math.dist(tool[:2], part[:2]) < 0.20 else "drive"

    def _hits_rack(self, world: World, base: Base) -> bool:
        points = pybullet.getContactPoints(
            base.body, self.bodies[-1], linkIndexA=self._chassis, physicsClientId=world.client
        )
        return any(point[8] <= 0.0 for point in points)

    def memory(self) -> Array:
        """Return the named item's number and the two counters of steps, shape (3,)."""
        return np.array([self._named_index, self._held_steps, self._wrong_steps], dtype=float)

    def recall(self, memory: Array) -> None:
        """Come back to `memory`."""
        self._named_index, self._held_steps, self._wrong_steps = (int(value) for value in memory)
        item = self.items[self._named_index]
        self.named, self.named_body, self.grip_m = (
            item.name,
            self.bodies[self._named_index],
            item.size[0],
        )


def _members(robot: Team) -> tuple[Arm, Base]:
    arm, base = robot.members
    assert isinstance(arm, Arm)
    assert isinstance(base, Base)
    return arm, base


def _places(given: Level) -> list[tuple[int, float]]:
    """Return the places for items: step, and y (m); those of neighbouring steps stand apart sideways too."""
    places = []
    for step in range(given.steps):
        count = 4 if step % 2 else 5
        places += [(step, SPACING_M * (index - 0.5 * (count - 1))) for index in range(count)]
    return places


def _in_tote(base: Base, row: Sequence[float]) -> bool:
    """Return whether an item's middle is within the tote on the robot's deck."""
    origin, rotation = base.frame()
    x, y, z = (rotation.T @ (np.array(row[:3]) - origin)).tolist()
    deck: float = MOUNT[2]
    x, y = x - MOUNT[0] - TOTE[0], y - MOUNT[1] - TOTE[1]
    inside = abs(x) < 0.5 * TOTE_INNER_M[0] and abs(y) < 0.5 * TOTE_INNER_M[1]
    return bool(inside and deck < z < deck + TOTE_RIM_M)


def _add_item(world: World, item: Item) -> int:
    kind = "cylinder" if "can" in item.name else "box"
    body = world.add([Shape(kind, item.size)], [(*item.rgb, 1.0)], ITEM_MASS_KG)
    inertia = box_inertia(item.size, ITEM_MASS_KG, STEADY_INERTIA)
    pybullet.changeDynamics(body, -1, localInertiaDiagonal=inertia, physicsClientId=world.client)
    return body


def _add_rack(world: World, steps: int) -> int:
    """Add steps from front to back, the upper ones left out where nothing stands on them, and four posts."""
    depth, width, height = RACK_M
    shapes = []
    for front, top in list(zip(STEP_FRONTS_M, STEP_TOPS_M, strict=True))[: max(2, steps)]:
        middle = 0.5 * front  # each board goes to the back
        shapes.append(
            Shape("box", (depth - front, width - 0.1, BOARD_M), (middle, 0.0, top - 0.5 * BOARD_M))
        )

    shapes.append(Shape("box", (depth, width - 0.1, 0.04), (0.0, 0.0, 0.10)))
    for x, tall in (
        (-1, STEP_TOPS_M[0]),
        (1, height),
    ):  # nothing in front that an arm could be caught by
        for y in (-1, 1):
            place = (x * 0.5 * (depth - 0.05), y * 0.5 * (width - 0.05), 0.5 * tall)
            shapes.append(Shape("box", (0.05, 0.05, tall), place))

    return world.add(shapes, [(*RACK_RGB, 1.0)] * len(shapes), 0.0)


def _add_stock(world: World) -> int:
    """Add a back wall, and cartons on the bottom board that nobody asks for."""
    depth, width, height = RACK_M
    shapes = [
        Shape(
            "box", (0.02, width - 0.1, height - 0.1), (0.5 * depth - 0.03, 0.0, 0.5 * height + 0.05)
        )
    ]

    colours = [(*BACK_RGB, 1.0)]
    for index in range(3):
        tall = 0.13 + 0.03 * (index * 2 % 3)
        shapes.append(
            Shape("box", (0.40, 0.29, tall), (-0.03, 0.34 * (index - 1), 0.12 + 0.5 * tall))
        )
        colours.append((*STOCK_RGB[index % len(STOCK_RGB)], 1.0))

    return world.add(shapes, colours, 0.0)


def make(**options: object) -> WorkCell:
    """Build the cell; see `shopfloor.envs.description.CellOptions` for the options."""
    return WorkCell(CELL_ID, ShelfPick(), **options)


def expert(execute: int = 1) -> ScriptedExpert:
    """Return the scripted expert; `execute` is how many actions of a chunk callers run."""
    return ScriptedExpert(
        CELL_ID, VERSION, INSTRUCTIONS, decide, execute, unseen=UNSEEN, rest=BASE_STATE, chunk=1
    )
