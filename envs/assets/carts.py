"""Shapes of the mobile robots: a low cart, and a taller one that carries an arm and a tote.

Their front is at +x.
"""

from __future__ import annotations

import math

import numpy as np

from shopfloor.envs.assets import urdf_text as urdf
from shopfloor.envs.assets.solids import Profile, Solid, hull, lathe, outline
from shopfloor.envs.assets.urdf_text import Vector

AMR_SIZE: Vector = (0.62, 0.46, 0.22)  # m
AMR_MASS_KG = 45.0
CARRIER_SIZE: Vector = (0.70, 0.50, 0.35)  # m
CARRIER_MASS_KG = 80.0
CLEARANCE_M = 0.03  # between the floor and what collides of a chassis

# On the carrier's deck, in the chassis frame, m. The tote lies to the arm's rear left, where the
# first joint still reaches (it ends 166 degrees from straight ahead) and a tool that points down
# has room.
ARM_ON_CARRIER: Vector = (0.22, -0.12, 0.35)
TOTE_CENTRE = (-0.11, 0.12)
TOTE_INNER = (0.26, 0.22)
TOTE_HEIGHT_M = 0.10
TOTE_WALL_M = 0.008
TOTE_FLOOR_M = 0.004

_SLIDER_MASS_KG = 0.1  # of the links between the world and a chassis
_WHEEL_M = 0.010  # by which wheels stand out at the sides
_SLIDE_M = 50.0
_Parts = dict[str, list[Solid]]


def _shell(
    size: Vector, front: float, rows: Profile, closed: bool = False, grow: float = 0.0
) -> Solid:
    """Return part of a chassis.

    Args:
        size: of the chassis, m.
        front: radius of the corners ahead, m.
        rows: inset and height, m, from the lowest up.
        closed: whether a lid lies on the last row.
        grow: by how much it is larger on all sides, m.
    """
    x, y = 0.5 * size[0], 0.5 * size[1] - _WHEEL_M
    return hull(
        [(outline((-x, -y), (x, y), front, 0.05, inset - grow), height) for inset, height in rows],
        closed,
    )


def _plate(
    low: tuple[float, float], high: tuple[float, float], corner: float, heights: tuple[float, float]
) -> Solid:
    ring = outline(low, high, corner, corner)
    return hull([(ring, heights[0]), (ring, heights[1])], closed=True)


def _arrow(
    tip: tuple[float, float], length: float, width: float, heights: tuple[float, float]
) -> Solid:
    x, y = tip
    ring = np.array([(x, y), (x - length, y + 0.5 * width), (x - length, y - 0.5 * width)])
    return hull([(ring, heights[0]), (ring, heights[1])], closed=True)


def _wheels(size: Vector, radius: float, parts: _Parts) -> None:
    """Add two driven wheels in the middle and a castor below each corner."""
    side = 0.5 * size[1]
    for sign, axis in ((1.0, "y"), (-1.0, "-y")):
        at = (0.0, sign * (side - 0.04), radius)
        tyre = [
            (radius, 0.0),
            (radius, 0.034),
            (radius - 0.006, 0.04),
            (0.62 * radius, 0.04),
            (0.58 * radius, 0.034),
        ]

        parts["dark"].append(lathe(tyre, axis, at, 20))
        parts["grey"].append(
            lathe(
                [
                    (0.60 * radius, 0.033),
                    (0.30 * radius, 0.036),
                    (0.22 * radius, 0.04),
                    (0.0, 0.04),
                ],
                axis,
                at,
                20,
            )
        )

        for x in (-0.36 * size[0], 0.36 * size[0]):
            castor = [(0.0, 0.0), (0.03, 0.0), (0.03, 0.024), (0.0, 0.024)]
            parts["dark"].append(lathe(castor, axis, (x, sign * (side - 0.10), 0.03), 12))


def _visor(size: Vector, front: float, low: float, high: float) -> Solid:
    """Return the dark window of a laser scanner around the front."""
    x, y = 0.5 * size[0], 0.5 * size[1] - _WHEEL_M
    ring = outline((x - front - 0.03, -y), (x, y), front, 0.002, -0.002)
    return hull([(ring, low), (ring, high)])


def amr_parts() -> _Parts:
    """Return the low cart's chassis by colour, in its frame (on the floor below its middle)."""
    size, front = AMR_SIZE, 0.13
    parts: _Parts = {
        "dark": [
            _shell(size, front, [(0.03, 0.03), (0.02, 0.07)]),
            _visor(size, front, 0.095, 0.13),
            _plate((-0.285, -0.195), (0.12, 0.195), 0.03, (0.210, 0.220)),
        ],
        "white": [
            _shell(
                size,
                front,
                [(0.02, 0.06), (0.003, 0.075), (0.003, 0.195), (0.022, 0.214)],
                closed=True,
            )
        ],
        "light": [_shell(size, front, [(0.0, 0.155), (0.0, 0.172)])],
        "orange": [_arrow((0.275, 0.0), 0.10, 0.17, (0.210, 0.218))],
        "red": [
            lathe([(0.018, 0.0), (0.018, 0.010), (0.0, 0.010)], "-x", (-0.305, -0.12, 0.115), 12)
        ],
        "grey": [],
    }

    _wheels(size, 0.08, parts)
    return parts


def carrier_parts() -> _Parts:
    """Return the taller cart's chassis by colour, in its frame (on the floor below its middle)."""
    size, front = CARRIER_SIZE, 0.10
    arm_x, arm_y, deck = ARM_ON_CARRIER
    parts: _Parts = {
        "dark": [
            _shell(size, front, [(0.03, 0.03), (0.02, 0.08)]),
            _visor(size, front, 0.115, 0.155),
            _shell(size, front, [(0.020, deck - 0.012), (0.026, deck - 0.001)], closed=True),
        ],
        "white": [
            _shell(
                size,
                front,
                [(0.02, 0.07), (0.003, 0.085), (0.003, 0.31), (0.022, 0.34)],
                closed=True,
            )
        ],
        "light": [_shell(size, front, [(0.0, 0.255), (0.0, 0.275)])],
        "orange": [_arrow((0.315, 0.10), 0.10, 0.16, (deck - 0.005, deck))],
        "red": [lathe([(0.02, 0.0), (0.02, 0.012), (0.0, 0.012)], "-x", (-0.345, -0.15, 0.20), 12)],
        "grey": [
            _plate(
                (arm_x - 0.17, arm_y - 0.11),
                (arm_x + 0.09, arm_y + 0.11),
                0.02,
                (deck - 0.01, deck),
            ),
            _plate((-0.30, -0.20), (-0.18, -0.06), 0.01, (deck - 0.01, deck + 0.012)),
        ],
    }

    _wheels(size, 0.095, parts)
    return parts


def tote_boxes() -> list[tuple[Vector, Vector]]:
    """Return centre and size, m, of the floor and the walls of the tote on the carrier's deck."""
    (x, y), (length, width), wall = TOTE_CENTRE, TOTE_INNER, TOTE_WALL_M
    deck, height = CARRIER_SIZE[2], TOTE_HEIGHT_M
    middle = deck + 0.5 * height
    boxes: list[tuple[Vector, Vector]] = [
        ((x, y, deck + 0.5 * TOTE_FLOOR_M), (length, width, TOTE_FLOOR_M))
    ]

    for sign in (1.0, -1.0):
        boxes.append(
            ((x + sign * 0.5 * (length + wall), y, middle), (wall, width + 2 * wall, height))
        )
        boxes.append(((x, y + sign * 0.5 * (width + wall), middle), (length, wall, height)))

    return boxes


def drive() -> str:
    """Return the links and joints that carry a link named chassis: forward, sideways, turn."""
    text = urdf.link("world_root", urdf.inertial(_SLIDER_MASS_KG, urdf.ORIGIN, (0.1, 0.1, 0.1)))
    parent = "world_root"
    for name, kind, axis, child in (
        ("base_x", "prismatic", (1.0, 0.0, 0.0), "base_x_slider"),
        ("base_y", "prismatic", (0.0, 1.0, 0.0), "base_y_slider"),
        ("base_yaw", "continuous", (0.0, 0.0, 1.0), "chassis"),
    ):
        bounds = (-_SLIDE_M, _SLIDE_M, 600.0, 2.0)
        if kind == "continuous":
            bounds = (0.0, -1.0, 200.0, math.tau)

        text += urdf.joint(
            name, kind, parent, child, urdf.origin(), urdf.axis(axis), urdf.limit(*bounds)
        )
        if child != "chassis":
            text += urdf.link(child, urdf.inertial(_SLIDER_MASS_KG, urdf.ORIGIN, (0.1, 0.1, 0.1)))
        parent = child

    return text


def chassis(size: Vector, mass_kg: float, *elements: str) -> str:
    """Return the link named chassis: a box that collides, and `elements`."""
    height = size[2] - CLEARANCE_M
    centre = (0.0, 0.0, CLEARANCE_M + 0.5 * height)
    body = (size[0], size[1], height)
    weight = urdf.inertial(mass_kg, (0.0, 0.0, 0.4 * size[2]), body)
    return urdf.link("chassis", weight, urdf.collision_box(centre, body), *elements)
