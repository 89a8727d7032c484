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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.cells.aisle_delivery_expert import AisleExpert
from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.kinematics import yaw_quaternion
from shopfloor.envs.physics.world import FLOOR, SUBSTEP_S, Shape, World
from shopfloor.envs.robots.arm import Robot
from shopfloor.envs.robots.mobile import Base, Start, Team
from shopfloor.envs.task import HOLD_STEPS, REST_M_S, Item, Task, Verdict
from shopfloor.envs.variation import LEVELS

Array = npt.NDArray[np.float64]
Rgb = tuple[float, float, float]

CELL_ID = "shopfloor/AisleDelivery-v0"
MAX_STEPS, MORE_STEPS = 400, 100  # for one robot; for each further one: they go one after the other
HALF_X, HALF_Y = 3.2, 2.0  # of the floor within the walls
WALL_M, WALL_HEIGHT_M = 0.06, 0.25
PLACES_Y = (-1.5, -0.5, 0.5, 1.5)  # of starts and docks
START_X, START_SPREAD = (-2.75, -2.6), 0.08
DOCK_X, DOCK_SPREAD = 2.7, 0.05
PAD: tuple[float, float, float] = (0.72, 0.56, 0.012)  # painted on the floor
SIGN_X, SIGN_M = 0.41, (0.04, 0.50, 0.55)
RACK_HEIGHT_M = 1.0
SHELVES_M = (0.10, 0.55)
PERSON_M = (0.50, 0.50, 1.70)
LANE_X = 1.65  # of people's path, beyond the ends of the racks
KEEP_M, APART_M, STACK_KEEP_M = (
    0.9,
    0.6,
    0.6,
)  # how near people come to robots, to each other and to boxes
PERSON_SPEED = (0.5, 0.7)
START_ROOM_M = 0.2  # beyond that, at the start
STACK_M = (0.60, 0.60, 0.60)
STACK_X = (-0.9, -0.6)  # behind it people find room to make way
NEAR_M, NEAR_RAD, REST_RAD_S = 0.03, math.radians(5.0), 0.02
AWAY = (0.0, 0.0, -3.0)  # below the floor: people who do not take part
MOST_PEOPLE, DOCKS = 3, 4

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
TROUSERS_RGB, SKIN_RGB, HELMET_RGB = (0.16, 0.18, 0.26), (0.80, 0.62, 0.50), (0.95, 0.92, 0.85)
WALL_RGB: Rgb = (0.86, 0.86, 0.84)

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
TEAM_PHRASES = (
    "Drive {}.",
    "Send {}.",
    "Dock the robots: {}.",
    "Deliver the loads, {}.",
    "Loads are expected: {}.",
)
UNSEEN_TEAM_PHRASES = (
    "Park everybody, {}.",
    "Navigate through the warehouse: {}.",
    "Final stops are, {}.",
)
CAMERAS = (
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


@dataclass(frozen=True)
class Level:
    """What a level asks for; lengths in m, yaws in rad."""

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


CELL_LEVELS = {
    "easy": Level(1.1, 2.2, (0, 0), 0.3, 0.0),
    "nominal": Level(1.0, 2.2, (1, 2), 0.6, 0.1),
    "hard": Level(0.88, 2.6, (3, 3), 1.2, 0.2, blocked=True),
}


def _phrasings(robots: int, unseen: bool) -> dict[str, tuple[str, ...]]:
    """Return the phrasings for every choice of a dock per robot, keyed by their names, joined."""
    if robots == 1:
        phrases = UNSEEN_PHRASES if unseen else PHRASES
        return {name: tuple(text.format(name) for text in phrases) for name in COLOURS}
    found = {}
    for names in permutations(COLOURS, robots):
        ways = ", ".join(f"robot {number} to the {name}" for number, name in enumerate(names, 1))
        phrases = UNSEEN_TEAM_PHRASES if unseen else TEAM_PHRASES
        found[", ".join(names)] = tuple(text.format(ways) for text in phrases)
    return found


INSTRUCTIONS = {robots: _phrasings(robots, False) for robots in range(1, DOCKS + 1)}
UNSEEN = {robots: _phrasings(robots, True) for robots in range(1, DOCKS + 1)}
ROBOTS = {"amr": 1, "amr_x2": 2, "amr_x3": 3, "amr_x4": 4}


class AisleDelivery(Task):
    """The task; see the module's text."""

    max_episode_steps = MAX_STEPS
    robots = tuple(ROBOTS)
    ground = FLOOR
    cameras: tuple[Camera, ...] = CAMERAS
    instructions: Mapping[str, tuple[str, ...]] = INSTRUCTIONS[1]
    unseen_instructions: Mapping[str, tuple[str, ...]] = UNSEEN[1]
    levels = LEVELS
    moves = True

    def __init__(self) -> None:
        """Start with nothing built."""
        self.bodies: tuple[int, ...] = ()
        self._bases: list[Base] = []
        self._docks: list[int] = [0]  # row of each robot's dock
        self._held_steps = self._wrong_steps = 0
        self._ways: list[float] = []  # of people along their path, m
        self._speeds: list[float] = []  # along it, m/s, with a sign
        self._stack: tuple[float, float] | None = None
        self.named = next(iter(COLOURS))
        self.named_body = -1
        self.set_level("nominal")

    def set_level(self, level: str) -> None:
        """Change to one of `levels`; takes effect with the next `build` and `reset`."""
        super().set_level(level)
        given = self._given = CELL_LEVELS[level]
        docks = [Item(name, PAD, rgb, is_goal=True) for name, rgb in COLOURS.items()]
        rack = Item("rack", (given.rack, given.rack_depth, RACK_HEIGHT_M), RACK_RGB)
        people = [Item("person", PERSON_M, VEST_RGB)] * given.people[1]
        stack = [Item("boxes", STACK_M, STACK_RGB)] if given.blocked else []
        self.items = (*docks, rack, rack, *people, *stack)
        self.present = np.ones(len(self.items), dtype=bool)
        x, y = LANE_X, given.aisle_y
        self._path = ((x, -y), (x, y), (-x, y), (-x, -y))
        self._length = 4.0 * (x + y)

    def make_robot(self, world: World, name: str) -> Base | Team:
        """Make one to four bases."""
        count = ROBOTS[name]
        spread = Start((START_X[0], 0.0, 0.0), (START_X[1], 0.0, 0.0))
        self._bases = [Base(world, spread) for _ in range(count)]
        self.instructions, self.unseen_instructions = INSTRUCTIONS[count], UNSEEN[count]
        self.max_episode_steps = MAX_STEPS + MORE_STEPS * (count - 1)
        return self._bases[0] if count == 1 else Team(self._bases)

    def start(self, robot: Robot, rng: np.random.Generator) -> None:
        """Put each robot onto a place of its own on the left."""
        places = rng.permutation(DOCKS)
        for base, place in zip(self._bases, places, strict=False):
            x, y, yaw = rng.uniform(
                (START_X[0], -START_SPREAD, -self._given.start_yaw),
                (START_X[1], START_SPREAD, self._given.start_yaw),
            ).tolist()
            base.reset(x, PLACES_Y[place] + y, yaw)

    def build(self, world: World) -> None:
        """Add docks, racks with cartons, people, boxes and walls."""
        given = self._given
        docks = [_add_dock(world, item) for item in self.items[:DOCKS]]
        racks = [_add_rack(world, item) for item in self.items[DOCKS : DOCKS + 2]]
        self._cartons = [_add_cartons(world, self.items[DOCKS].size, number) for number in range(2)]
        people = [_add_vest(world) for _ in range(given.people[1])]
        self._limbs = [_add_limbs(world) for _ in people]
        stack = [_add_stack(world)] if given.blocked else []
        self._walls = _add_walls(world)
        self.bodies = (*docks, *racks, *people, *stack)
        self._people = people

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Place docks, racks, people and boxes; choose a dock for each robot."""
        given = self._given
        for body, place in zip(self.bodies[:DOCKS], rng.permutation(DOCKS), strict=True):
            x, y = rng.uniform(-DOCK_SPREAD, DOCK_SPREAD, 2)
            yaw = rng.uniform(-given.dock_yaw, given.dock_yaw)
            world.place(body, (DOCK_X + x, PLACES_Y[place] + y, 0.5 * PAD[2]), yaw_quaternion(yaw))

        for side, (rack, cartons) in enumerate(
            zip(self.bodies[DOCKS:], self._cartons, strict=False)
        ):
            place = (0.0, (2 * side - 1) * given.rack_y, 0.5 * RACK_HEIGHT_M)
            world.place(rack, place)
            world.place(cartons, place)

        world.place(self._walls, (0.0, 0.0, 0.5 * WALL_HEIGHT_M))
        docks = rng.permutation(DOCKS)[: len(self._bases)]
        count = int(rng.integers(given.people[0], given.people[1] + 1))

        if given.blocked:
            x, aisle = rng.uniform(*STACK_X), int(rng.integers(-1, 2))
            world.place(self.bodies[-1], (x, aisle * given.aisle_y, 0.5 * STACK_M[2]))
            self._stack = (float(x), aisle * given.aisle_y)

        ways = self._draw_ways(count, rng)
        speeds = rng.uniform(*PERSON_SPEED, MOST_PEOPLE) * rng.choice((-1.0, 1.0))
        memory = np.full(len(self.memory()), -1.0)
        memory[: len(docks)] = docks
        memory[DOCKS : DOCKS + 3] = 0, 0, count
        memory[DOCKS + 3 :][:count], memory[DOCKS + 6 :][:3] = ways, speeds
        memory[-2:] = self._stack or (0.0, 0.0)
        self.recall(memory)
        self._place_people(world)

    def _draw_ways(self, count: int, rng: np.random.Generator) -> list[float]:
        """Draw where people start, apart from each other and from all that they keep away from."""
        ways: list[float] = []
        while len(ways) < count:
            way = rng.uniform(0.0, self._length)
            here, others = self._point(way), [self._point(other) for other in ways]
            apart = all(math.dist(here, other) > APART_M for other in others)

            if apart and all(
                math.dist(here, spot) > least + START_ROOM_M for spot, least in self._kept_clear()
            ):
                ways.append(way)

        return ways

    def _kept_clear(self) -> Iterator[tuple[tuple[float, float], float]]:
        """Yield what people keep away from, and by how much, m."""
        for base in self._bases:
            yield (base.pose[0], base.pose[1]), KEEP_M
        if self._stack is not None:
            yield self._stack, STACK_KEEP_M

    def _point(self, way: float) -> tuple[float, float]:
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
        spots = [self._point(way) for way in self._ways]
        keep = list(self._kept_clear())
        for index, (way, speed) in enumerate(zip(self._ways, self._speeds, strict=True)):
            here, there = spots[index], self._point(way + speed * SUBSTEP_S)
            near = keep + [(spot, APART_M) for other, spot in enumerate(spots) if other != index]
            if any(
                math.dist(there, spot) < min(least, math.dist(here, spot)) for spot, least in near
            ):
                self._speeds[index] = -speed
            else:
                self._ways[index], spots[index] = (way + speed * SUBSTEP_S) % self._length, there

        self._place_people(world)

    def _place_people(self, world: World) -> None:
        for index, (body, limbs) in enumerate(zip(self._people, self._limbs, strict=True)):
            if index >= len(self._ways):
                world.place(body, AWAY)
                world.place(limbs, AWAY)
                continue
            way, ahead = self._ways[index], math.copysign(0.05, self._speeds[index])
            (x, y), (to_x, to_y) = self._point(way), self._point(way + ahead)
            turn = yaw_quaternion(math.atan2(to_y - y, to_x - x))
            world.place(body, (x, y, 0.5 * PERSON_M[2]), turn)
            world.place(limbs, (x, y, 0.5 * PERSON_M[2]), turn)

    def judge(self, world: World, robot: Base | Team) -> Verdict:
        """Judge where the robots stand, and whether they touched anything."""
        docked = [self._docked_at(world, base) for base in self._bases]
        at_home = [at == dock for at, dock in zip(docked, self._docks, strict=True)]
        self._held_steps = self._held_steps + 1 if all(at_home) else 0
        astray = any(at >= 0 and not home for at, home in zip(docked, at_home, strict=True))
        self._wrong_steps = self._wrong_steps + 1 if astray else 0
        stage = self._stage(at_home)
        if any(_touches(world, base.body) for base in self._bases):
            return Verdict(stage, failure="collision")

        if self._held_steps >= HOLD_STEPS:
            return Verdict("done", success=True)
        return Verdict(stage, failure="wrong_part" if self._wrong_steps >= HOLD_STEPS else "")

    def _stage(self, at_home: list[bool]) -> str:
        last = min(base.pose[0] for base in self._bases)
        if all(at_home):
            return "docked"
        half = 0.5 * self._given.rack
        return "depart" if last < -half else "aisle" if last < half else "dock"

    def _docked_at(self, world: World, base: Base) -> int:
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

    def memory(self) -> Array:
        """Return up to 4 docks, 2 counters of steps, people's number, ways and speeds, and the boxes, shape (15,)."""
        docks = [*self._docks, *([-1] * (DOCKS - len(self._docks)))]
        count = len(self._ways)
        ways = [*self._ways, *([0.0] * (MOST_PEOPLE - count))]
        speeds = [*self._speeds, *([0.0] * (MOST_PEOPLE - count))]
        stack = self._stack or (0.0, 0.0)
        return np.array(
            [*docks, self._held_steps, self._wrong_steps, count, *ways, *speeds, *stack],
            dtype=float,
        )

    def recall(self, memory: Array) -> None:
        """Come back to `memory`."""
        values = memory.tolist()
        self._docks = [int(dock) for dock in values[:DOCKS] if dock >= 0]
        self._held_steps, self._wrong_steps, count = (
            int(value) for value in values[DOCKS : DOCKS + 3]
        )
        self._ways, self._speeds = values[DOCKS + 3 :][:count], values[DOCKS + 6 :][:count]
        self._stack = (values[-2], values[-1]) if self._given.blocked else None
        names = list(COLOURS)
        self.named = ", ".join(names[dock] for dock in self._docks)
        self.named_body = self.bodies[self._docks[0]]
        self.present[:] = True
        self.present[DOCKS + 2 + count : DOCKS + 2 + self._given.people[1]] = False


def _touches(world: World, body: int) -> bool:
    """Return whether a robot touches anything; its wheels do not count, they are only drawn."""
    return any(
        point[8] <= 0.0 for point in pybullet.getContactPoints(body, physicsClientId=world.client)
    )


def _add_dock(world: World, item: Item) -> int:
    depth, width, height = SIGN_M
    shapes = [
        Shape("box", PAD),
        Shape("box", SIGN_M, (SIGN_X, 0.0, 0.5 * height)),
        Shape("box", (0.5 * depth, width + 0.1, 0.2), (SIGN_X + 0.25 * depth, 0.0, height + 0.1)),
    ]
    return world.add(shapes, [(*item.rgb, 1.0)] * len(shapes), 0.0)


def _add_rack(world: World, item: Item) -> int:
    """Add the frame of a rack, with its middle as origin: a plinth, a shelf and four posts."""
    length, depth, height = item.size
    low, shelf = SHELVES_M
    shapes = [
        Shape("box", (length, depth, low), (0.0, 0.0, 0.5 * (low - height))),
        Shape("box", (length, depth, 0.04), (0.0, 0.0, shelf - 0.02 - 0.5 * height)),
    ]

    for x in (-1, 1):
        for y in (-1, 1):
            place = (x * 0.5 * (length - 0.06), y * 0.5 * (depth - 0.06), 0.0)
            shapes.append(Shape("box", (0.06, 0.06, height), place))
    return world.add(shapes, [(*item.rgb, 1.0)] * len(shapes), 0.0)


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


def _add_vest(world: World) -> int:
    """Add the trunk and arms of a person, with the person's middle as origin; +x is where they look."""
    shapes = [
        Shape("box", (0.26, 0.36, 0.58), (0.0, 0.0, 0.22)),
        Shape("box", (0.12, 0.10, 0.56), (0.02, 0.20, 0.22)),
        Shape("box", (0.12, 0.10, 0.56), (0.02, -0.20, 0.22)),
    ]
    return world.add(shapes, [(*VEST_RGB, 1.0)] * len(shapes), 0.0)


def _add_limbs(world: World) -> int:
    """Add the rest of a person: legs that fill their stride, head and helmet."""
    shapes = [
        Shape("box", (0.42, 0.15, 0.78), (0.0, 0.10, -0.46)),
        Shape("box", (0.42, 0.15, 0.78), (0.0, -0.10, -0.46)),
        Shape("box", (0.20, 0.18, 0.20), (0.0, 0.0, 0.63)),
        Shape("box", (0.26, 0.23, 0.12), (0.0, 0.0, 0.79)),
    ]
    colours = [(*rgb, 1.0) for rgb in (TROUSERS_RGB, TROUSERS_RGB, SKIN_RGB, HELMET_RGB)]
    return world.add(shapes, colours, 0.0)


def _add_stack(world: World) -> int:
    """Add boxes on a pallet."""
    x, y, z = STACK_M
    shapes = [Shape("box", (x, y, 0.10), (0.0, 0.0, 0.05 - 0.5 * z))]
    for side in (-1, 1):
        shapes.append(
            Shape("box", (0.48 * x, 0.94 * y, 0.30), (side * 0.25 * x, 0.0, 0.25 - 0.5 * z))
        )
        shapes.append(
            Shape("box", (0.90 * x, 0.44 * y, 0.20), (0.0, side * 0.24 * y, 0.50 - 0.5 * z))
        )

    return world.add(shapes, [(*STACK_RGB, 1.0)] * len(shapes), 0.0)


def _add_walls(world: World) -> int:
    shapes = []
    for side in (-1, 1):
        x, y = side * (HALF_X + 0.5 * WALL_M), side * (HALF_Y + 0.5 * WALL_M)
        shapes.append(Shape("box", (WALL_M, 2 * HALF_Y + 2 * WALL_M, WALL_HEIGHT_M), (x, 0.0, 0.0)))
        shapes.append(Shape("box", (2 * HALF_X, WALL_M, WALL_HEIGHT_M), (0.0, y, 0.0)))
    return world.add(shapes, [(*WALL_RGB, 1.0)] * len(shapes), 0.0)


def make(**options: object) -> WorkCell:
    """Build the cell; see `shopfloor.envs.description.CellOptions` for the options."""
    return WorkCell(CELL_ID, AisleDelivery(), **options)


def expert(execute: int = 1) -> AisleExpert:
    """Return the scripted expert; `execute` is how many actions of a chunk callers run."""
    phrasings = [table for known in (INSTRUCTIONS, UNSEEN) for table in known.values()]
    return AisleExpert(CELL_ID, phrasings, execute)
