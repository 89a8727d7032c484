"""AisleDelivery: mobile robots drive through the aisles of a warehouse to the docks that the instruction names.

Task: racks stand between the robots' places on the left and four docks on the right, each with a
sign of its own colour; people walk round the racks. The instruction names a dock for each robot.
Robots: one to four mobile bases ("amr" to "amr_x4"); two actions and six entries of the state for
each. Everything is in the frame of the floor: 6.4 x 4 m within walls, x to the docks. There are 400
steps, 100 more for each further robot. People walk on a path once round all racks. They come no
nearer than 0.9 m to the middle of a robot (nor to each other): there they turn back, so they never
stay in anyone's way for long. Randomisation: which dock is where, and each by +-5 cm and a yaw;
where the robots start and their yaws; people: how many, where, how fast; the named docks; the
phrasing; light and colours (mildly). Levels: width of the aisles and length of the racks, people,
yaws of robots and docks.
- easy: 1.1 m, 2.2 m, nobody, within +-0.3 and 0 rad.
- nominal: 1.0 m, 2.2 m, one or two, within +-0.6 and +-0.1 rad.
- hard: 0.88 m, 2.6 m, three, within +-1.2 and +-0.2 rad; a stack of boxes blocks one of the three
aisles. Success: every robot within 3 cm and 5 degrees of its dock, slower than 5 mm/s and 0.02
rad/s, for 0.5 s. Failure: a robot touches a rack, a person, a wall, a sign, boxes or another robot
(`collision`); it rests in a dock that is not its own (`wrong_part`); time (`timeout`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np

from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.kinematics import yaw_quaternion
from shopfloor.envs.physics.shapes import FLOOR, Shape, pair_across
from shopfloor.envs.physics.world import SUBSTEP_S, UPRIGHT, World
from shopfloor.envs.robots.mobile import Base, Start, Team
from shopfloor.envs.robots.models import BaseModel, RobotModel
from shopfloor.envs.robots.protocol import Robot
from shopfloor.envs.robots.table import robot_model
from shopfloor.envs.task import (
    DONE,
    REST_M_S,
    Item,
    Level,
    Memory,
    Streak,
    Task,
    Verdict,
    Wording,
    by_level,
)

Rgb = tuple[float, float, float]
Point = tuple[float, float]

MORE_STEPS = 100  # for each further robot: they go one after the other
HALF_X, HALF_Y = 3.2, 2.0  # of the floor within the walls
WALL_M, WALL_HEIGHT_M = 0.06, 0.25
PLACES_Y = (-1.5, -0.5, 0.5, 1.5)  # of starts and docks
START_X, START_SPREAD = (-2.75, -2.6), 0.08
DOCK_X, DOCK_SPREAD = 2.7, 0.05
PAD = (0.72, 0.56, 0.012)  # painted on the floor
SIGN_X, SIGN_M = 0.41, (0.04, 0.50, 0.55)
RACK_HEIGHT_M = 1.0
SHELVES_M = (0.10, 0.55)
PERSON_M = (0.50, 0.50, 1.70)
LANE_X = 1.65  # of people's path, beyond the ends of the racks
# How near people come to robots, to each other and to boxes.
KEEP_M, APART_M, STACK_KEEP_M = 0.9, 0.6, 0.6
PERSON_SPEED = (0.5, 0.7)
START_ROOM_M = 0.2  # beyond that, at the start
STACK_M = (0.60, 0.60, 0.60)
STACK_X = (-0.9, -0.6)  # behind it people find room to make way
NEAR_M, NEAR_RAD, REST_RAD_S = 0.03, math.radians(5.0), 0.02
AWAY = (0.0, 0.0, -3.0)  # below the floor: people who do not take part
MOST_PEOPLE, DOCKS, RACKS = 3, 4, 2
FIRST_PERSON = DOCKS + RACKS  # row of the first person

COLOURS: dict[str, Rgb] = {
    "red dock": (0.82, 0.18, 0.16),
    "blue dock": (0.15, 0.34, 0.82),
    "green dock": (0.16, 0.60, 0.26),
    "yellow dock": (0.95, 0.78, 0.12),
}
RACK_RGB: Rgb = (0.22, 0.32, 0.52)
VEST_RGB: Rgb = (0.98, 0.45, 0.08)
STACK_RGB: Rgb = (0.66, 0.49, 0.32)
CARTON_RGB: tuple[Rgb, ...] = (
    (0.72, 0.55, 0.37),
    (0.60, 0.44, 0.28),
    (0.40, 0.58, 0.66),
    (0.80, 0.70, 0.52),
)
WALL_RGB: Rgb = (0.86, 0.86, 0.84)

DOCK_SHAPES = (
    Shape("box", PAD),
    Shape("box", SIGN_M, (SIGN_X, 0.0, 0.5 * SIGN_M[2])),
    Shape(
        "box",
        (0.5 * SIGN_M[0], SIGN_M[1] + 0.1, 0.2),
        (SIGN_X + 0.25 * SIGN_M[0], 0.0, SIGN_M[2] + 0.1),
    ),
)
# The trunk and arms of a person, with the person's middle as origin; +x is where they look.
VEST = (
    Shape("box", (0.26, 0.36, 0.58), (0.0, 0.0, 0.22)),
    Shape("box", (0.12, 0.10, 0.56), (0.02, 0.20, 0.22)),
    Shape("box", (0.12, 0.10, 0.56), (0.02, -0.20, 0.22)),
)
# The rest of a person: legs that fill their stride, head and helmet.
LIMBS = (
    Shape("box", (0.42, 0.15, 0.78), (0.0, 0.10, -0.46)),
    Shape("box", (0.42, 0.15, 0.78), (0.0, -0.10, -0.46)),
    Shape("box", (0.20, 0.18, 0.20), (0.0, 0.0, 0.63)),
    Shape("box", (0.26, 0.23, 0.12), (0.0, 0.0, 0.79)),
)
LIMBS_RGB = (
    (0.16, 0.18, 0.26, 1.0),
    (0.16, 0.18, 0.26, 1.0),
    (0.80, 0.62, 0.50, 1.0),
    (0.95, 0.92, 0.85, 1.0),
)
# Boxes on a pallet, with their middle as origin.
STACK_FLOOR_M = -0.5 * STACK_M[2]
STACK = (
    Shape("box", (0.60, 0.60, 0.10), (0.0, 0.0, 0.05 + STACK_FLOOR_M)),
    Shape("box", (0.288, 0.564, 0.30), (-0.15, 0.0, 0.25 + STACK_FLOOR_M)),
    Shape("box", (0.54, 0.264, 0.20), (0.0, -0.144, 0.50 + STACK_FLOOR_M)),
    Shape("box", (0.288, 0.564, 0.30), (0.15, 0.0, 0.25 + STACK_FLOOR_M)),
    Shape("box", (0.54, 0.264, 0.20), (0.0, 0.144, 0.50 + STACK_FLOOR_M)),
)
WALL_X, WALL_Y = HALF_X + 0.5 * WALL_M, HALF_Y + 0.5 * WALL_M
ACROSS_M = (WALL_M, 2 * HALF_Y + 2 * WALL_M, WALL_HEIGHT_M)
ALONG_M = (2 * HALF_X, WALL_M, WALL_HEIGHT_M)
WALLS = (
    Shape("box", ACROSS_M, (-WALL_X, 0.0, 0.0)),
    Shape("box", ALONG_M, (0.0, -WALL_Y, 0.0)),
    Shape("box", ACROSS_M, (WALL_X, 0.0, 0.0)),
    Shape("box", ALONG_M, (0.0, WALL_Y, 0.0)),
)
ROBOTS = {"amr": 1, "amr_x2": 2, "amr_x3": 3, "amr_x4": 4}

PHRASES = (
    "Drive to the {}.",
    "Go to the {} and dock there.",
    "Dock at the {}.",
    "Deliver your load to the {}.",
    "The load is expected at the {}.",
)
UNSEEN_PHRASES = (
    "Park at the station with the sign of the {}.",
    "Navigate through the warehouse, final stop: {}.",
    "Somebody waits for these goods by the {}.",
)
# Each {1} stands for all robots with their docks.
TEAM_PHRASES = (
    "Drive {1}.",
    "Send {1}.",
    "Dock the robots: {1}.",
    "Deliver the loads, {1}.",
    "Loads are expected: {1}.",
)
UNSEEN_TEAM_PHRASES = (
    "Park everybody, {1}.",
    "Navigate through the warehouse: {1}.",
    "Final stops are, {1}.",
)


def _wording() -> Wording:
    """Return the texts that ask for a dock per robot; several docks are asked for by joined names."""
    ways = {}
    for robots in range(2, DOCKS + 1):
        for names in permutations(COLOURS, robots):
            each = (f"robot {index} to the {name}" for index, name in enumerate(names, 1))
            ways[", ".join(names)] = ", ".join(each)

    alone = Wording.of(COLOURS, PHRASES, UNSEEN_PHRASES)
    team = Wording.of(ways, TEAM_PHRASES, UNSEEN_TEAM_PHRASES)
    return Wording({**alone.usual, **team.usual}, {**alone.unseen, **team.unseen})


@dataclass(frozen=True)
class Job(Level):
    """What differs between levels; lengths in m, yaws in rad.

    Attributes:
        aisle: width of an aisle.
        rack: length of a rack.
        people: how many there are, least and most.
        start_yaw, dock_yaw: greatest yaws of robots at the start and of docks.
        blocked: whether boxes stand in one of the aisles.
    """

    aisle: float
    rack: float
    people: tuple[int, int]
    start_yaw: float
    dock_yaw: float
    blocked: bool = False

    @property
    def rack_depth(self) -> float:
        """Three aisles and two racks fill the width."""
        return HALF_Y - 1.5 * self.aisle

    @property
    def rack_y(self) -> float:
        """Middle of the rack on the left."""
        return 0.5 * (self.aisle + self.rack_depth)

    @property
    def aisle_y(self) -> float:
        """Middle of the aisle on the left."""
        return HALF_Y - 0.5 * self.aisle


@dataclass
class AisleProgress(Memory):
    """How far an episode is.

    Attributes:
        docks: row of each robot's dock, -1 for robots that there are not.
        held: steps for which all robots have rested in their docks.
        wrong: steps for which a robot has rested in another one.
        people: how many walk.
        ways: of people along their path, m.
        speeds: of people along their path, m/s, with a sign.
        stack: x and y of the boxes, m; 0 where there are none.
    """

    docks: tuple[int, ...] = (-1,) * DOCKS
    held: Streak = field(default_factory=Streak)
    wrong: Streak = field(default_factory=Streak)
    people: int = 0
    ways: tuple[float, ...] = (0.0,) * MOST_PEOPLE
    speeds: tuple[float, ...] = (0.0,) * MOST_PEOPLE
    stack: Point = (0.0, 0.0)


class AisleDelivery(Task):
    """The task; see the module's text."""

    max_episode_steps = 400
    robots = tuple(ROBOTS)
    ground = FLOOR
    cameras = (
        Camera(
            "front",
            eye=(-5.0, 0.0, 5.6),
            target=(-0.22, 0.0, 0.0),
            fov_deg=46.0,
            near_m=1.0,
            far_m=15.0,
        ),
        Camera(
            "wrist",
            eye=(0.25, 0.0, 0.38),
            target=(1.25, 0.0, 0.20),
            fov_deg=75.0,
            on_tool=True,
            near_m=0.05,
            far_m=15.0,
        ),
    )
    wording = _wording()
    jobs = by_level(
        easy=Job(1.1, 2.2, (0, 0), 0.3, 0.0),
        nominal=Job(1.0, 2.2, (1, 2), 0.6, 0.1),
        hard=Job(0.88, 2.6, (3, 3), 1.2, 0.2, blocked=True),
    )
    job: Job
    remembers = AisleProgress
    progress: AisleProgress
    moves = True
    _bases: Sequence[Base] = ()

    def set_level(self, level: str) -> None:
        """Change to one of `levels`; ask for a dock for each robot, with time for all of them."""
        super().set_level(level)
        more = max(1, len(self._bases)) - 1
        asked = self.wording.only(
            [names for names in self.wording.usual if names.count(",") == more]
        )
        self.instructions, self.unseen_instructions = asked.usual, asked.unseen
        self.max_episode_steps += MORE_STEPS * more

    def list_items(self) -> tuple[Item, ...]:
        """Return docks, racks, people and boxes."""
        job = self.job
        docks = (Item(name, PAD, rgb, is_goal=True) for name, rgb in COLOURS.items())
        racks = [Item("rack", (job.rack, job.rack_depth, RACK_HEIGHT_M), RACK_RGB)] * RACKS
        people = [Item("person", PERSON_M, VEST_RGB)] * job.people[1]
        stack = [Item("boxes", STACK_M, STACK_RGB)] if job.blocked else []
        return (*docks, *racks, *people, *stack)

    def make_robot(self, world: World, name: str) -> Base | Team:
        """Make one to four bases, or one of another package."""
        model = robot_model("amr" if name in ROBOTS else name)
        assert isinstance(model, BaseModel), "only bases drive here"
        spread = Start((START_X[0], 0.0, 0.0), (START_X[1], 0.0, 0.0))
        self._bases = [Base(world, spread, model) for _ in range(ROBOTS.get(name, 1))]
        self.set_level(self.level)
        return self._bases[0] if len(self._bases) == 1 else Team(self._bases)

    def takes(self, model: RobotModel) -> bool:
        """Return whether a robot of another package is a base."""
        return isinstance(model, BaseModel)

    def start(self, robot: Robot, rng: np.random.Generator) -> None:
        """Put each robot onto a place of its own on the left."""
        places, yaw = rng.permutation(DOCKS), self.job.start_yaw
        low, high = (START_X[0], -START_SPREAD, -yaw), (START_X[1], START_SPREAD, yaw)
        for base, place in zip(self._bases, places, strict=False):
            x, y, turn = rng.uniform(low, high).tolist()
            base.reset(x, PLACES_Y[place] + y, turn)

    def build(self, world: World) -> None:
        """Add docks, racks with cartons, people, boxes and walls."""
        job = self.job
        docks = [world.add_fixed(DOCK_SHAPES, item.rgb) for item in self.items[:DOCKS]]
        racks = [_add_rack(world, item) for item in self.items[DOCKS:FIRST_PERSON]]
        self._cartons = [_add_cartons(world, self.items[DOCKS].size, side) for side in range(RACKS)]
        self._people = [world.add_fixed(VEST, VEST_RGB) for _ in range(job.people[1])]
        self._limbs = [world.add(LIMBS, LIMBS_RGB, 0.0) for _ in self._people]
        stack = [world.add_fixed(STACK, STACK_RGB)] if job.blocked else []
        self._walls = world.add_fixed(WALLS, WALL_RGB)
        self.bodies = (*docks, *racks, *self._people, *stack)
        x, y = LANE_X, job.aisle_y
        self._path = ((x, -y), (x, y), (-x, y), (-x, -y))
        self._length = 4.0 * (x + y)

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Place docks, racks, people and boxes; choose a dock for each robot."""
        job = self.job
        for body, place in zip(self.bodies[:DOCKS], rng.permutation(DOCKS), strict=True):
            x, y = rng.uniform(-DOCK_SPREAD, DOCK_SPREAD, 2)
            yaw = rng.uniform(-job.dock_yaw, job.dock_yaw)
            world.place(body, (DOCK_X + x, PLACES_Y[place] + y, 0.5 * PAD[2]), yaw_quaternion(yaw))

        for side, cartons in enumerate(self._cartons):
            at = (0.0, (2 * side - 1) * job.rack_y, 0.5 * RACK_HEIGHT_M)
            world.place(self.bodies[DOCKS + side], at)
            world.place(cartons, at)
        world.place(self._walls, (0.0, 0.0, 0.5 * WALL_HEIGHT_M))

        docks = rng.permutation(DOCKS).tolist()
        unused = [-1] * (DOCKS - len(self._bases))
        people = int(rng.integers(job.people[0], job.people[1] + 1))
        self.begin(docks=(*docks[: len(self._bases)], *unused), people=people)
        if job.blocked:
            x, y = float(rng.uniform(*STACK_X)), int(rng.integers(-1, 2)) * job.aisle_y
            world.place(self.bodies[-1], (x, y, 0.5 * STACK_M[2]))
            self.progress.stack = (x, y)

        nobody = [0.0] * (MOST_PEOPLE - people)
        self.progress.ways = (*self._draw_ways(people, rng), *nobody)
        speeds = rng.uniform(*PERSON_SPEED, MOST_PEOPLE) * rng.choice((-1.0, 1.0))
        self.progress.speeds = (*speeds[:people].tolist(), *nobody)
        self._place_people(world)

    def take_up(self) -> None:
        """Set which docks are named, and who takes part."""
        self._docks = [dock for dock in self.progress.docks if dock >= 0]
        self.named = ", ".join(self.items[dock].name for dock in self._docks)
        self.named_body = self.bodies[self._docks[0]]
        absent = FIRST_PERSON + self.progress.people
        self.present[:] = True
        self.present[absent : FIRST_PERSON + self.job.people[1]] = False

    def _draw_ways(self, count: int, rng: np.random.Generator) -> list[float]:
        """Draw where people start, apart from each other and from all that they keep away from."""
        ways: list[float] = []
        while len(ways) < count:
            way = rng.uniform(0.0, self._length)
            here, others = self._point(way), [self._point(other) for other in ways]
            apart = all(math.dist(here, other) > APART_M for other in others)
            keep = self._kept_clear()
            if apart and all(math.dist(here, spot) > least + START_ROOM_M for spot, least in keep):
                ways.append(way)

        return ways

    def _kept_clear(self) -> list[tuple[Point, float]]:
        """List what people keep away from, and by how much, m."""
        robots = [(base.pose[:2], KEEP_M) for base in self._bases]
        return [*robots, (self.progress.stack, STACK_KEEP_M)] if self.job.blocked else robots

    def _point(self, way: float) -> Point:
        """Return the point at a length along the people's path, m."""
        way %= self._length
        path = self._path
        for (ax, ay), (bx, by) in zip(path, (*path[1:], path[0]), strict=True):
            side = abs(bx - ax) + abs(by - ay)
            if way <= side:
                return ax + (bx - ax) * way / side, ay + (by - ay) * way / side
            way -= side

        return path[0]

    def before_substep(self, world: World) -> None:
        """Let people walk on, or turn back where they would come too near to something."""
        progress = self.progress
        ways, speeds = list(progress.ways), list(progress.speeds)
        spots = [self._point(way) for way in ways[: progress.people]]
        keep = self._kept_clear()

        for index, here in enumerate(spots):
            way = ways[index] + speeds[index] * SUBSTEP_S
            there = self._point(way)
            near = keep + [(spot, APART_M) for other, spot in enumerate(spots) if other != index]
            limits = ((spot, min(least, math.dist(here, spot))) for spot, least in near)
            if any(math.dist(there, spot) < limit for spot, limit in limits):
                speeds[index] = -speeds[index]
            else:
                ways[index], spots[index] = way % self._length, there

        progress.ways, progress.speeds = tuple(ways), tuple(speeds)
        self._place_people(world)

    def _place_people(self, world: World) -> None:
        progress = self.progress
        for index, (body, limbs) in enumerate(zip(self._people, self._limbs, strict=True)):
            place, turn = AWAY, UPRIGHT
            if index < progress.people:
                way, ahead = progress.ways[index], math.copysign(0.05, progress.speeds[index])
                (x, y), (to_x, to_y) = self._point(way), self._point(way + ahead)
                place = (x, y, 0.5 * PERSON_M[2])
                turn = yaw_quaternion(math.atan2(to_y - y, to_x - x))

            world.place(body, place, turn)
            world.place(limbs, place, turn)

    def judge(self, world: World, robot: Base | Team) -> Verdict:
        """Judge where the robots stand, and whether they touched anything."""
        docked = [_docked_at(world, base) for base in self._bases]
        at_home = [at == dock for at, dock in zip(docked, self._docks, strict=True)]
        astray = any(at >= 0 and not home for at, home in zip(docked, at_home, strict=True))
        self.progress.held.count(all(at_home))
        self.progress.wrong.count(astray)

        failure = "wrong_part" if self.progress.wrong.full else ""
        if any(_touches(world, base.body) for base in self._bases):
            failure = "collision"
        elif self.progress.held.full:
            return DONE
        return Verdict("docked" if all(at_home) else self._stage(), failure=failure)

    def _stage(self) -> str:
        """Return where the last robot is."""
        last, half = min(base.pose[0] for base in self._bases), 0.5 * self.job.rack
        if last < -half:
            return "depart"
        return "aisle" if last < half else "dock"


def _docked_at(world: World, base: Base) -> int:
    """Return the row of the dock in which a robot rests, -1 for none."""
    speed, turn = base.state()[4:].tolist()
    if abs(speed) > REST_M_S or abs(turn) > REST_RAD_S:
        return -1

    x, y, yaw = base.pose
    for row, pose in enumerate(world.rows[:DOCKS]):
        off = math.remainder(yaw - 2.0 * math.atan2(pose[5], pose[6]), math.tau)
        if math.hypot(x - pose[0], y - pose[1]) < NEAR_M and abs(off) < NEAR_RAD:
            return row

    return -1


def _touches(world: World, body: int) -> bool:
    """Return whether a robot touches anything; its wheels do not count, they are only drawn."""
    points = pybullet.getContactPoints(body, physicsClientId=world.client)
    return any(point[8] <= 0.0 for point in points)


def _add_rack(world: World, item: Item) -> int:
    """Add the frame of a rack, with its middle as origin: a plinth, a shelf and four posts."""
    length, depth, height = item.size
    low, shelf = SHELVES_M
    shapes = [
        Shape("box", (length, depth, low), (0.0, 0.0, 0.5 * (low - height))),
        Shape("box", (length, depth, 0.04), (0.0, 0.0, shelf - 0.02 - 0.5 * height)),
    ]

    for side in (-1, 1):
        place = (side * 0.5 * (length - 0.06), 0.5 * (depth - 0.06), 0.0)
        shapes += pair_across((0.06, 0.06, height), place)
    return world.add_fixed(shapes, item.rgb)


def _add_cartons(world: World, size: tuple[float, float, float], number: int) -> int:
    """Add what stands in a rack: always the same cartons of several sizes and colours."""
    length, depth, height = size
    shapes, colours = [], []
    rng = np.random.default_rng(number)

    for shelf in SHELVES_M:
        x = -0.5 * length + 0.10
        while True:
            wide, tall = rng.uniform(0.18, 0.34), rng.uniform(0.20, 0.38)
            if x + wide > 0.5 * length - 0.08:
                break

            middle = (x + 0.5 * wide, 0.0, shelf + 0.5 * tall - 0.5 * height)
            shapes.append(Shape("box", (wide, depth - 0.08, tall), middle))
            colours.append((*CARTON_RGB[int(rng.integers(len(CARTON_RGB)))], 1.0))
            x += wide + rng.uniform(0.03, 0.12)

    return world.add(shapes, colours, 0.0)
