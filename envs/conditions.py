"""What one episode draws of its variation: light, and what a shift suite changes."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from shopfloor.envs.looks.camera import Camera, Light
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.shapes import Shape
from shopfloor.envs.physics.textures import TEXTURES
from shopfloor.envs.physics.world import World
from shopfloor.envs.task import Task
from shopfloor.envs.variation import Range, Variation

Array = npt.NDArray[np.float64]

MAX_CLUTTER = 8
CLUTTER_MASS_KG = 0.1
CLUTTER_GAP_M = 0.05
# Things that no instruction names: kind, size (m), colour.
CLUTTER = (
    ("box", (0.030, 0.030, 0.012), (0.55, 0.20, 0.60)),
    ("cylinder", (0.028, 0.028, 0.020), (0.10, 0.60, 0.62)),
    ("box", (0.050, 0.016, 0.010), (0.85, 0.75, 0.70)),
    ("cylinder", (0.040, 0.040, 0.008), (0.15, 0.15, 0.17)),
    ("box", (0.022, 0.022, 0.022), (0.70, 0.45, 0.25)),
    ("box", (0.060, 0.040, 0.006), (0.35, 0.45, 0.20)),
)
_SUITE_STREAM = 1
_Rectangle = tuple[float, float, float, float]  # least x and y, most x and y, m


@dataclass(frozen=True)
class Conditions:
    """What a shift suite changes in one episode; the defaults change nothing.

    Attributes:
        offsets: per camera of the task, by how much its eye is moved, m, in the camera's own frame.
        texture: number of the ground's texture in TEXTURES, -1 for none.
        clutter: numbers in CLUTTER of the foreign objects.
        part_scale: factor on the size of parts.
        mass, friction: factors.
    """

    offsets: tuple[tuple[float, float, float], ...] = ()
    texture: int = -1
    clutter: tuple[int, ...] = ()
    part_scale: float = 1.0
    mass: float = 1.0
    friction: float = 1.0

    def to_row(self) -> list[float]:
        """Return it as numbers, always the same count for a cell."""
        kinds = [*self.clutter, *([-1] * (MAX_CLUTTER - len(self.clutter)))]
        flat = itertools.chain.from_iterable(self.offsets)
        return [self.texture, self.part_scale, self.mass, self.friction, *kinds, *flat]

    @classmethod
    def from_row(cls, row: list[float]) -> Conditions:
        """Build from the numbers of `to_row`."""
        kinds = tuple(int(kind) for kind in row[4 : 4 + MAX_CLUTTER] if kind >= 0)
        flat = row[4 + MAX_CLUTTER :]
        offsets = tuple((flat[at], flat[at + 1], flat[at + 2]) for at in range(0, len(flat), 3))
        return cls(offsets, int(row[0]), kinds, row[1], row[2], row[3])


def row_size(task: Task) -> int:
    """Return the length of `Conditions.to_row`."""
    return 4 + MAX_CLUTTER + 3 * len(task.cameras)


@dataclass
class Draw:
    """The suite's own random stream of an episode; nothing else is drawn from it."""

    seed: int
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        """Open the stream: below the cell's, so that it meets no other."""
        self.rng = np.random.default_rng(np.random.SeedSequence([self.seed, 0, _SUITE_STREAM]))

    def conditions(self, variation: Variation, task: Task) -> Conditions:
        """Draw what is known before anything is built."""
        rng = self.rng
        offsets = tuple(_offset(camera, variation.camera_m, rng) for camera in task.cameras)
        texture = int(rng.integers(len(TEXTURES))) if variation.texture else -1

        count = 0
        if variation.clutter:
            count = int(rng.integers(variation.clutter[0], variation.clutter[1] + 1))

        kinds = tuple(int(kind) for kind in rng.integers(len(CLUTTER), size=count))
        scale = float(rng.uniform(*task.part_scales)) if variation.objects else 1.0
        mass = float(rng.uniform(*variation.mass)) if variation.mass else 1.0
        friction = float(rng.uniform(*variation.friction)) if variation.friction else 1.0

        return Conditions(offsets, texture, kinds, scale, mass, friction)

    def clutter_poses(self, world: World, task: Task, clutter: list[int]) -> None:
        """Lay foreign objects where they touch nothing and leave room for the hand.

        Where there is no such place, they go.
        """
        assert task.post is not None, "a variation with clutter is refused without one"
        low, high = task.post.workspace[0, :2] - 0.06, task.post.workspace[1, :2] + 0.06
        taken: list[_Rectangle] = []
        for body in world.bodies:
            if body not in clutter:
                least, most = pybullet.getAABB(body, -1, world.client)
                if least[2] < 1.0:
                    taken.append((least[0], least[1], most[0], most[1]))

        for number, body in enumerate(clutter):
            size = world.built[body].shapes[0].size
            spot = self._free(taken, low, high, 0.5 * max(size[0], size[1]))
            if spot is None:
                # A far corner, out of every view.
                world.place(body, (1.12, 0.74 - 0.1 * number, 0.5 * size[2]))
                continue

            x, y, radius = spot
            taken.append((x - radius, y - radius, x + radius, y + radius))
            yaw = self.rng.uniform(-math.pi, math.pi)
            turn = (0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2))
            world.place(body, (x, y, 0.5 * size[2]), turn)

    def _free(
        self, taken: list[_Rectangle], low: Array, high: Array, radius: float
    ) -> tuple[float, float, float] | None:
        reach = radius + CLUTTER_GAP_M
        for _ in range(60):
            x, y = self.rng.uniform(low, high).tolist()
            clear = all(_apart(rectangle, x, y, reach) for rectangle in taken)
            if clear and math.hypot(x, y) > 0.28:
                return x, y, radius
        return None


def _apart(rectangle: _Rectangle, x: float, y: float, reach: float) -> bool:
    """Whether a place is more than `reach` (m) away from a rectangle, in x or in y."""
    left, low, right, high = rectangle
    return x < left - reach or x > right + reach or y < low - reach or y > high + reach


def draw_light(
    variation: Variation, rng: np.random.Generator, shift: np.random.Generator | None
) -> Light:
    """Draw the lamp of an episode.

    Args:
        variation: how far light may differ.
        rng: draws it as in training.
        shift: draws how far it is beyond that; None for no further.
    """
    drawn = np.concatenate([rng.uniform(-1.0, 1.0, 3), rng.uniform(-1.0, 1.0, 3)])
    values = drawn * variation.light_jitter
    if variation.light is not None and shift is not None:
        values = np.where(values < 0.0, -1.0, 1.0) * shift.uniform(*variation.light, 6)
    side, front, warmth, ambient, diffuse, shade = values.tolist()
    nominal = Light()

    red = 1.0 + 0.06 * min(warmth, 0.0) - 0.02 * abs(shade)
    blue = 1.0 - 0.06 * max(warmth, 0.0) - 0.02 * abs(shade)
    return Light(
        (0.3 + 0.5 * front, 0.8 * side, 1.0),
        (red, 1.0 - 0.03 * abs(warmth), blue),
        nominal.ambient + 0.08 * ambient,
        nominal.diffuse + 0.08 * diffuse,
    )


def build_clutter(world: World, conditions: Conditions) -> list[int]:
    """Add an episode's foreign objects after everything else; return their bodies."""
    bodies = []
    for kind in conditions.clutter:
        shape, size, rgb = CLUTTER[kind]
        bodies.append(world.add([Shape(shape, size)], [(*rgb, 1.0)], CLUTTER_MASS_KG))
    return bodies


def apply_physics(world: World, conditions: Conditions) -> None:
    """Change mass and friction of everything that can be moved."""
    if conditions.mass == conditions.friction == 1.0:
        return

    client = world.client
    for body in world.bodies:
        mass, lateral, inertia = pybullet.getDynamicsInfo(body, -1, client)[:3]
        if mass > 0.0:
            pybullet.changeDynamics(
                body,
                -1,
                mass=mass * conditions.mass,
                localInertiaDiagonal=[conditions.mass * value for value in inertia],
                lateralFriction=lateral * conditions.friction,
                physicsClientId=client,
            )


def moved(cameras: tuple[Camera, ...], conditions: Conditions) -> dict[str, Camera]:
    """Return the cameras by name, where the episode has them."""
    if not conditions.offsets:
        return {camera.name: camera for camera in cameras}

    found = {}
    for camera, (dx, dy, dz) in zip(cameras, conditions.offsets, strict=True):
        x, y, z = camera.eye
        found[camera.name] = replace(camera, eye=(x + dx, y + dy, z + dz))
    return found


def _offset(
    camera: Camera, span_m: Range | None, rng: np.random.Generator
) -> tuple[float, float, float]:
    if span_m is None:
        return (0.0, 0.0, 0.0)
    direction = rng.normal(size=3)
    distance = rng.uniform(*span_m) * (0.25 if camera.on_tool else 1.0)
    x, y, z = (direction / math.sqrt(float(direction @ direction)) * distance).tolist()
    return (x, y, z)
