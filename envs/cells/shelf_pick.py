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
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shopfloor.envs.looks.camera import Camera, wrist_camera
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.kinematics import yaw_quaternion
from shopfloor.envs.physics.shapes import FLOOR, STEADY_INERTIA, Shape, box_inertia, pair_across
from shopfloor.envs.physics.world import World, indices
from shopfloor.envs.robots.arm import Arm, top_down
from shopfloor.envs.robots.mobile import Base, Start, Team
from shopfloor.envs.robots.models import CART, MOBILE_PANDA
from shopfloor.envs.task import DONE, REST_M_S, Item, Level, Task, Verdict, Wording, by_level

MOUNT = (0.22, -0.12, 0.35)  # of the arm on the chassis
# The middle of the tote, x and y in the arm's frame, and its inside; its floor is on the deck.
TOTE, TOTE_INNER_M, TOTE_FLOOR_M = (-0.33, 0.24), (0.26, 0.22), 0.004
TOTE_RIM_M = 0.10  # above the deck
RACK_M = (0.56, 1.16, 1.05)  # depth, width, height of the posts behind
RACK_PLACE = (0.5 * RACK_M[0], 0.0, 0.0)
STEP_TOPS_M = (0.38, 0.52, 0.66)
STEP_FRONTS_M = (0.0, 0.18, 0.36)
ITEM_X_M = (0.06, 0.24, 0.42)  # behind the face
BOARD_M = 0.02
RACK_RGB = (0.24, 0.36, 0.58)
# A back wall, and cartons on the bottom board that nobody asks for.
STOCK = (
    Shape(
        "box",
        (0.02, RACK_M[1] - 0.1, RACK_M[2] - 0.1),
        (0.5 * RACK_M[0] - 0.03, 0.0, 0.5 * RACK_M[2] + 0.05),
    ),
    Shape("box", (0.40, 0.29, 0.13), (-0.03, -0.34, 0.185)),
    Shape("box", (0.40, 0.29, 0.19), (-0.03, 0.0, 0.215)),
    Shape("box", (0.40, 0.29, 0.16), (-0.03, 0.34, 0.20)),
)
STOCK_RGB = (
    (0.55, 0.58, 0.62, 1.0),
    (0.72, 0.55, 0.37, 1.0),
    (0.60, 0.44, 0.28, 1.0),
    (0.40, 0.58, 0.66, 1.0),
)
ITEM_MASS_KG = 0.08
SPACING_M, SPREAD_M = 0.20, 0.01  # of the places along a step
CLEAR_M, OPEN_M = 0.050, 0.060  # tool to item and between the fingers, once let go
REST_RAD_S = 0.02
LOST_M = 0.30  # an item lower than that has fallen off rack and robot
# Of the arm on its base, in the arm's frame.
ARM_POST = top_down(
    (-0.50, -0.25, 0.02), (0.69, 0.50, 0.49), (0.28, -0.05, 0.38), (0.34, 0.05, 0.44)
)

PARTS = (
    Item("red box", (0.055, 0.055, 0.085), (0.82, 0.18, 0.16)),
    Item("blue can", (0.056, 0.056, 0.090), (0.15, 0.34, 0.82)),
    Item("yellow carton", (0.065, 0.046, 0.080), (0.95, 0.78, 0.12)),
    Item("green can", (0.052, 0.052, 0.080), (0.16, 0.60, 0.26)),
    Item("white box", (0.056, 0.056, 0.065), (0.93, 0.93, 0.90)),
    Item("purple carton", (0.070, 0.050, 0.075), (0.52, 0.24, 0.62)),
)


@dataclass(frozen=True)
class Job(Level):
    """What differs between levels; lengths in m, yaws in rad.

    Attributes:
        items: how many of PARTS there are.
        steps: on how many steps of the rack they stand.
        distance: of the base from the rack at the start, least and greatest.
        side: how far the base starts to either side, at most.
        yaw: of the base at the start, at most.
        item_yaw: of items, at most.
    """

    items: int
    steps: int
    distance: tuple[float, float]
    side: float
    yaw: float
    item_yaw: float


class ShelfPick(Task):
    """The task; see the module's text."""

    max_episode_steps = 400
    robots = ("mobile_panda",)
    ground = FLOOR
    cameras = (
        Camera(
            "front",
            eye=(-2.80, 2.40, 3.40),
            target=(-0.82, 0.06, 0.29),
            fov_deg=39.0,
            near_m=0.2,
            far_m=12.0,
        ),
        replace(wrist_camera(), far_m=12.0),
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
    wording = Wording.of(
        (item.name for item in PARTS),
        (
            "Pick the {} from the shelf.",
            "Fetch the {}.",
            "Put the {} into your tote.",
            "Take the {} off the rack and lay it into the tote.",
            "The order says: one {}.",
        ),
        (
            "A customer waits for the {}, load it.",
            "Drive over and collect the {}.",
            "Stow the {} in the container that you carry.",
        ),
    )
    jobs = by_level(
        easy=Job(3, 1, (1.3, 1.5), 0.2, 0.15, 0.15),
        nominal=Job(4, 2, (1.3, 1.7), 0.5, 0.4, 0.4),
        hard=Job(6, 3, (1.3, 1.8), 0.6, 1.0, 0.6),
    )
    job: Job
    part_scales = (0.86, 0.93)

    def list_items(self) -> tuple[Item, ...]:
        """Return items and rack."""
        parts = (item.scaled(self.part_scale) for item in PARTS[: self.job.items])
        return (*parts, Item("rack", RACK_M, RACK_RGB))

    def make_robot(self, world: World, name: str) -> Team:
        """Make an arm that rides on a base."""
        base = Base(world, Start((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)), CART)
        arm = Arm(world, MOBILE_PANDA, ARM_POST, carrier=base)
        self._chassis = indices(base.body, world.client)["chassis"]
        return Team([arm, base])

    def start(self, robot: Team, rng: np.random.Generator) -> None:  # type: ignore[override]  # what make_robot made
        """Put the base before the rack and the tool over its deck's front."""
        job, (arm, base) = self.job, _members(robot)
        near, far = job.distance
        pose = rng.uniform((-far, -job.side, -job.yaw), (-near, job.side, job.yaw))
        base.reset(*pose.tolist())
        arm.start(rng)

    def build(self, world: World) -> None:
        """Add the items and the rack."""
        parts = [_add_item(world, item) for item in self.items[:-1]]
        self.bodies = (*parts, _add_rack(world, self.job.steps))
        self._stock = world.add(STOCK, STOCK_RGB, 0.0)

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Put the items on places of the rack."""
        job = self.job
        self.begin(named=int(rng.integers(job.items)))
        world.place(self.bodies[-1], RACK_PLACE)
        world.place(self._stock, RACK_PLACE)
        places = _places(job.steps)
        chosen = rng.permutation(len(places))[: job.items]

        for body, item, place in zip(self.bodies, self.items, chosen, strict=False):
            step, y = places[place]
            x = ITEM_X_M[step] + rng.uniform(-SPREAD_M, SPREAD_M)
            y += rng.uniform(-SPREAD_M, SPREAD_M)
            turn = yaw_quaternion(rng.uniform(-job.item_yaw, job.item_yaw))
            world.place(body, (x, y, STEP_TOPS_M[step] + 0.5 * item.size[2]), turn)

    def judge(self, world: World, robot: Team) -> Verdict:
        """Judge where the items are, seen from the robot."""
        arm, base = _members(robot)
        named, rows, progress = self.progress.named, world.rows[: self.job.items], self.progress
        part, tool = rows[named], arm.frame()[0].tolist()
        inside = [_in_tote(base, row) for row in rows]
        clear = [math.dist(tool, row[:3]) > CLEAR_M for row in rows]
        speed, turn = base.state()[4:].tolist()
        stands = abs(speed) < REST_M_S and abs(turn) < REST_RAD_S

        others = [index for index in range(len(rows)) if inside[index] and index != named]
        let_go = clear[named] and arm.opening_m > OPEN_M
        rests = stands and math.hypot(*part[7:10]) < REST_M_S
        progress.held.count(inside[named] and rests and let_go and not others)
        progress.wrong.count(any(clear[index] for index in others))

        failure = "wrong_part" if progress.wrong.full else ""
        if part[2] < LOST_M:
            failure = "dropped"
        if self._hits_rack(world, base):
            failure = "collision"
        if progress.held.full and not failure:
            return DONE
        return Verdict(_stage(part, tool, arm, inside[named]), failure=failure)

    def _hits_rack(self, world: World, base: Base) -> bool:
        points = pybullet.getContactPoints(
            base.body, self.bodies[-1], linkIndexA=self._chassis, physicsClientId=world.client
        )
        return any(point[8] <= 0.0 for point in points)


def _stage(part: Sequence[float], tool: Sequence[float], arm: Arm, inside: bool) -> str:
    if inside:
        return "release"
    if math.dist(tool, part[:3]) < 0.04 and arm.gripper > 0.0:
        resting = any(abs(part[2] - top) < 0.045 for top in STEP_TOPS_M) and part[0] > -0.02
        return "grasp" if resting else "carry"
    return "approach" if math.dist(tool[:2], part[:2]) < 0.20 else "drive"


def _members(robot: Team) -> tuple[Arm, Base]:
    arm, base = robot.members
    assert isinstance(arm, Arm)
    assert isinstance(base, Base)
    return arm, base


def _places(steps: int) -> list[tuple[int, float]]:
    """Return the places for items: step, and y (m); those of neighbouring steps stand apart sideways too."""
    places = []
    for step in range(steps):
        count = 4 if step % 2 else 5
        places += [(step, SPACING_M * (index - 0.5 * (count - 1))) for index in range(count)]
    return places


def _in_tote(base: Base, row: Sequence[float]) -> bool:
    """Return whether an item's middle is within the tote on the robot's deck."""
    origin, rotation = base.frame()
    x, y, z = (rotation.T @ (np.array(row[:3]) - origin)).tolist()
    x, y = x - MOUNT[0] - TOTE[0], y - MOUNT[1] - TOTE[1]
    inside = abs(x) < 0.5 * TOTE_INNER_M[0] and abs(y) < 0.5 * TOTE_INNER_M[1]
    return bool(inside and MOUNT[2] < z < MOUNT[2] + TOTE_RIM_M)


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
        board = (depth - front, width - 0.1, BOARD_M)  # each goes to the back
        shapes.append(Shape("box", board, (0.5 * front, 0.0, top - 0.5 * BOARD_M)))
    shapes.append(Shape("box", (depth, width - 0.1, 0.04), (0.0, 0.0, 0.10)))

    # Nothing in front that an arm could be caught by.
    for x, tall in ((-1, STEP_TOPS_M[0]), (1, height)):
        place = (x * 0.5 * (depth - 0.05), 0.5 * (width - 0.05), 0.5 * tall)
        shapes += pair_across((0.05, 0.05, tall), place)

    return world.add_fixed(shapes, RACK_RGB)
