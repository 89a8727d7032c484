"""What bodies are made of: boxes and cylinders, and how some are put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Vector = Sequence[float]

# Applied to a box's own inertia: a peg found wedged in the hole is seated in 20 of 30 episodes with
# its own inertia, in 30 with this.
STEADY_INERTIA = 5.0


@dataclass(frozen=True)
class Ground:
    """What everything stands on: a box whose top is the plane z = 0.

    Attributes:
        size: extents x, y, z, m.
        centre: x, y, m.
        rgb: nominal colour in [0, 1].
    """

    size: tuple[float, float, float]
    centre: tuple[float, float]
    rgb: tuple[float, float, float]


TABLE = Ground((1.5, 1.6, 0.05), (0.45, 0.0), (0.55, 0.57, 0.60))
FLOOR = Ground((12.0, 12.0, 0.1), (0.0, 0.0), (0.58, 0.58, 0.56))


@dataclass(frozen=True)
class Shape:
    """One box or upright cylinder of a body.

    Attributes:
        kind: "box" or "cylinder" (axis along z).
        size: full extents x, y, z, m; a cylinder's x is its diameter.
        position: centre in the body's frame, m.
        yaw: turn about the body's z axis, rad.
    """

    kind: str
    size: tuple[float, float, float]
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 0.0


@dataclass(frozen=True)
class Slide:
    """How a body slides on a fixed frame, as a door or a push button does.

    Attributes:
        axis: unit vector in the frame.
        low, high: limits of the way along it, m; the way is 0 where the body was placed.
        spring_n: force with which a motor brings it back to 0, N; 0 for one that stays where it is.
        friction_n: force against moving, N.
    """

    axis: tuple[float, float, float]
    low: float
    high: float
    spring_n: float = 0.0
    friction_n: float = 2.0


def box_inertia(size: Vector, mass_kg: float, scale: float) -> list[float]:
    """Return `scale` times the inertia of a box about its axes x, y, z, kg m^2; `size`: full extents, m."""
    x, y, z = (edge**2 * mass_kg / 12 * scale for edge in size)
    return [y + z, x + z, x + y]


def pair_across(size: tuple[float, float, float], place: tuple[float, float, float]) -> list[Shape]:
    """Return two boxes that mirror each other in y, first the one where y is negative.

    Args:
        size: full extents of each, m.
        place: centre of the second in the body's frame, m.
    """
    x, y, z = place
    return [Shape("box", size, (x, side * y, z)) for side in (-1, 1)]


def walls_around(
    inner: tuple[float, float], outer: tuple[float, float], height: float, wall: float | None = None
) -> list[Shape]:
    """Return four boxes that stand around a rectangle: the walls of a tray, the block around a hole.

    Args:
        inner: length and width of the rectangle, m.
        outer: of the whole, m.
        height: of the boxes, which stand on z = 0 of the body, m.
        wall: their thickness, m; None for what lies between inner and outer.
    """
    if wall is None:
        along, across = 0.5 * (outer[0] - inner[0]), 0.5 * (outer[1] - inner[1])
    else:
        along = across = wall

    shapes = []
    for side in (-1, 1):
        x, y = side * (0.5 * (inner[0] + along)), side * (0.5 * (inner[1] + across))
        shapes.append(Shape("box", (along, outer[1], height), (x, 0.0, 0.5 * height)))
        shapes.append(Shape("box", (inner[0], across, height), (0.0, y, 0.5 * height)))

    return shapes


def square_tray(inside_m: float, wall_m: float, height_m: float, floor_m: float) -> list[Shape]:
    """Return a square tray: a floor, two walls along y, two along x.

    Args:
        inside_m: between walls that face each other.
        wall_m: thickness of a wall.
        height_m: of the walls, which stand on z = 0 of the body.
        floor_m: thickness of the floor.
    """
    half, outer = 0.5 * (inside_m + wall_m), inside_m + 2 * wall_m
    shapes = [Shape("box", (outer, outer, floor_m), (0.0, 0.0, floor_m / 2))]

    for side in (-1, 1):
        middle = (side * half, 0.0, height_m / 2)
        shapes.append(Shape("box", (wall_m, outer, height_m), middle))
    for side in (-1, 1):
        middle = (0.0, side * half, height_m / 2)
        shapes.append(Shape("box", (inside_m, wall_m, height_m), middle))

    return shapes


def open_box(
    inner: tuple[float, float], wall_m: float, height_m: float, floor_m: float
) -> list[Shape]:
    """Return an open box, such as a tote: a floor and four walls around it.

    Args:
        inner: length and width between the walls, m.
        wall_m: thickness of a wall.
        height_m: of the walls, which stand on z = 0 of the body.
        floor_m: thickness of the floor.
    """
    outer = (inner[0] + 2 * wall_m, inner[1] + 2 * wall_m)
    floor = Shape("box", (*outer, floor_m), (0.0, 0.0, 0.5 * floor_m))
    return [floor, *walls_around(inner, outer, height_m, wall_m)]
