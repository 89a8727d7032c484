"""Small closed shapes, and the OBJ text of them.

Tubes and lids are turned on a lathe, hulls are lofted over outlines. Normals are rounded by
`exact_normal` of `decimate_panda`, so that PyBullet's renderer leaves them as they are.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shopfloor.envs.assets.decimate_panda import DECIMALS, Faces, Points, exact_normal

SIDES = 16
_SMOOTH = 0.77  # cosine: faces that bend by less than about 40 degrees look like one round surface

# Where the axes x, y, z of a lathe go (columns) so that its axis, z, points along a named one.
_TURNS = {
    "z": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "-z": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "x": ((0, 0, 1), (1, 0, 0), (0, 1, 0)),
    "-x": ((0, 0, -1), (1, 0, 0), (0, -1, 0)),
    "y": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    "-y": ((0, -1, 0), (0, 0, -1), (1, 0, 0)),
}

Vector = tuple[float, float, float]
Profile = Sequence[tuple[float, float]]


class Solid(NamedTuple):
    """Triangles, counter-clockwise seen from outside.

    Attributes:
        points: shape (V, 3), float64, m.
        faces: shape (F, 3), int64, rows of `points`.
    """

    points: Points
    faces: Faces


def loft(rings: Sequence[Points]) -> Solid:
    """Return the surface over closed rings of equally many points, each shape (N, 3), m.

    Args:
        rings: counter-clockwise seen from the end; a ring may be N times one point, which closes
            that end.
    """
    count = len(rings[0])
    points, place = np.unique(np.round(np.concatenate(rings), 6) + 0.0, axis=0, return_inverse=True)
    place = place.reshape(len(rings), count)
    faces = []

    for low, high in itertools.pairwise(place):
        for here in range(count):
            there = (here + 1) % count
            faces += [(low[here], low[there], high[there]), (low[here], high[there], high[here])]

    kept = [face for face in faces if len(set(face)) == 3]
    return Solid(points, np.array(kept, dtype=np.int64))


def lathe(
    profile: Profile, axis: str = "z", at: Vector = (0.0, 0.0, 0.0), sides: int = SIDES
) -> Solid:
    """Return a profile turned about an axis.

    Args:
        profile: radius and place along the axis, m; with the surface to the right of its way.
            Radius 0 closes an end.
        axis: x, y, z, -x, -y or -z.
        at: where place 0 lies.
        sides: corners around.
    """
    angles = [2.0 * math.pi * side / sides for side in range(sides)]
    circle = [(math.cos(angle), math.sin(angle)) for angle in angles]
    turn = np.array(_TURNS[axis], dtype=np.float64)
    rings = []
    for radius, along in profile:
        ring = np.array([(radius * c, radius * s, along) for c, s in circle])
        rings.append(ring @ turn.T + at)

    return loft(rings)


def hull(outlines: Sequence[tuple[Points, float]], closed: bool = False) -> Solid:
    """Return the surface over outlines, from the lowest up.

    Args:
        outlines: points, shape (N, 2), m, counter-clockwise seen from above, and their height, m.
        closed: whether a lid lies on the last, which must be convex.
    """
    rings = [np.column_stack([points, np.full(len(points), height)]) for points, height in outlines]
    if closed:
        rings.append(np.repeat(rings[-1].mean(axis=0, keepdims=True), len(rings[-1]), axis=0))
    return loft(rings)


def outline(
    low: tuple[float, float],
    high: tuple[float, float],
    front: float,
    rear: float,
    inset: float = 0.0,
) -> Points:
    """Return a rectangle with round corners, shape (N, 2), m, counter-clockwise.

    Args:
        low: corner of least x and y, m.
        high: corner of most x and y, m.
        front: radius of the corners at high x, m.
        rear: radius of the corners at low x, m.
        inset: how much smaller it is on all sides, m.
    """
    corners = (
        (high[0], low[1], front, (-1.0, 1.0), -0.5),
        (high[0], high[1], front, (-1.0, -1.0), 0.0),
        (low[0], high[1], rear, (1.0, -1.0), 0.5),
        (low[0], low[1], rear, (1.0, 1.0), 1.0),
    )

    points = []
    for x, y, radius, (right, up), start in corners:
        for step in range(5):
            angle = math.pi * (start + 0.125 * step)
            reach = radius - inset
            points.append(
                (
                    x + right * radius + reach * math.cos(angle),
                    y + up * radius + reach * math.sin(angle),
                )
            )

    return np.array(points)


@functools.lru_cache(maxsize=65536)
def _normal_text(x: float, y: float, z: float) -> str:
    return " ".join(f"{value:.{DECIMALS}f}" for value in exact_normal(np.array((x, y, z))))


def corner_normals(solid: Solid) -> Points:
    """Return a unit normal per corner of each face, shape (F, 3, 3).

    It is the average of the faces that bend little there.
    """
    corners = solid.points[solid.faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    unit = area / np.linalg.norm(area, axis=1, keepdims=True)
    around: dict[int, list[int]] = {}
    for index, face in enumerate(solid.faces.tolist()):
        for vertex in face:
            around.setdefault(vertex, []).append(index)

    normals = np.zeros((len(solid.faces), 3, 3))
    for index, face in enumerate(solid.faces.tolist()):
        for corner, vertex in enumerate(face):
            near = [other for other in around[vertex] if unit[other] @ unit[index] > _SMOOTH]
            normals[index, corner] = area[near].sum(axis=0)

    return np.asarray(normals / np.linalg.norm(normals, axis=2, keepdims=True))


def obj_text(solids: Sequence[Solid]) -> str:
    """Return an OBJ file that holds all these solids."""
    points: list[str] = []
    normals: dict[tuple[int, str], int] = {}
    faces: list[str] = []

    for solid in solids:
        first = len(points) + 1
        points += [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in np.round(solid.points, 5) + 0.0]
        turned = np.round(corner_normals(solid), 6) + 0.0

        for face, corners in zip(solid.faces.tolist(), turned.tolist(), strict=True):
            words = []
            for vertex, corner in zip(face, corners, strict=True):
                pair = (first + vertex, _normal_text(*corner))
                words.append(f"{pair[0]}//{normals.setdefault(pair, len(normals) + 1)}")
            faces.append("f " + " ".join(words))

    lines = [*points, *(f"vn {text}" for _, text in normals), *faces]
    return "# Made by shopfloor's make_robots.py\n" + "\n".join(lines) + "\n"
