"""Triangles of the shapes that PyBullet reports, for the OpenGL renderer."""

from __future__ import annotations

import functools
import itertools
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shopfloor.core import InvalidInputError
from shopfloor.envs.physics.engine import pybullet

Floats = npt.NDArray[np.float32]

_SLICES = 32  # around a cylinder, capsule or sphere
_RINGS = 16  # from pole to pole


class Mesh(NamedTuple):
    """A surface in a shape's own frame.

    Attributes:
        vertices: shape (V, 8), float32: position (m), unit normal, place in a picture (column and
            row, shares from its upper left corner).
        triangles: shape (F, 3), int32, rows of `vertices`, counter-clockwise seen from outside.
    """

    vertices: Floats
    triangles: npt.NDArray[np.int32]


@functools.lru_cache(maxsize=512)
def mesh_of(kind: int, dimensions: tuple[float, ...], file: str) -> Mesh | None:
    """Return the triangles of a visual shape.

    Args:
        kind: PyBullet's GEOM_... number.
        dimensions: as `getVisualShapeData` reports them; scales of a mesh, m else.
        file: of a mesh.

    Returns:
        None for what TinyRenderer does not draw either.
    """
    if kind == pybullet.GEOM_MESH:
        mesh = read_obj(Path(file))
        vertices = mesh.vertices.copy()
        # Normals stay as they are, as in TinyRenderer.
        vertices[:, :3] *= np.array(dimensions, np.float32)
        return Mesh(vertices, mesh.triangles)

    if kind == pybullet.GEOM_BOX:
        return box(dimensions)

    if kind == pybullet.GEOM_CYLINDER:
        return lathe(
            [(0.0, -0.5), (0.5, -0.5), (0.5, 0.5), (0.0, 0.5)], dimensions[1], dimensions[0]
        )
    if kind == pybullet.GEOM_SPHERE:
        return ball(dimensions[0], 0.0)
    if kind == pybullet.GEOM_CAPSULE:
        return ball(dimensions[1], dimensions[0])

    return None


@functools.lru_cache(maxsize=256)
def read_obj(path: Path) -> Mesh:
    """Read a Wavefront file: `v`, `vt`, `vn` and `f` lines.

    Polygons are read as fans; a face without normals is flat.

    Raises:
        InvalidInputError: no such file, or a file of another kind.
    """
    numbers: dict[str, list[list[float]]] = {"v": [], "vt": [], "vn": []}
    corners: list[list[float]] = []
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            word, *rest = line.split() or [""]
            if word in numbers:
                numbers[word].append([float(number) for number in rest[:3]])
            elif word == "f":
                corners += _fan([corner.split("/") for corner in rest], numbers)
    except (OSError, ValueError, IndexError) as error:
        raise InvalidInputError(
            f"Mesh {path} cannot be drawn with OpenGL ({error}); expected a Wavefront OBJ file "
            "with v, vn and f lines. "
            'Convert it, or use renderer="tiny".'
        ) from error

    if not corners:
        raise InvalidInputError(
            f'Mesh {path} has no faces; expected "f" lines. Convert it, or use renderer="tiny".'
        )

    rows, index = np.unique(np.array(corners, np.float32), axis=0, return_inverse=True)
    return Mesh(rows, index.reshape(-1, 3).astype(np.int32))


def _fan(corners: list[list[str]], numbers: dict[str, list[list[float]]]) -> list[list[float]]:
    """Return the corners of a face's triangles, 8 numbers each."""

    def pick(corner: list[str], place: int, word: str) -> list[float] | None:
        if len(corner) <= place or not corner[place]:
            return None
        number = int(corner[place])
        return numbers[word][number - 1 if number > 0 else number]

    points = [pick(corner, 0, "v") or [] for corner in corners]

    def edge(end: int) -> list[float]:
        return [points[end][axis] - points[0][axis] for axis in range(3)]

    ax, ay, az = edge(1)
    bx, by, bz = edge(2)
    flat = [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx]
    length = math.hypot(*flat) or 1.0
    flat = [part / length for part in flat]
    rows = []

    for corner, point in zip(corners, points, strict=True):
        u, v = (pick(corner, 1, "vt") or [0.0, 0.0])[:2]
        rows.append([*point, *(pick(corner, 2, "vn") or flat), u, v])

    fan: list[list[float]] = []
    for k in range(1, len(rows) - 1):
        fan += [rows[0], rows[k], rows[k + 1]]
    return fan


# Which part of a picture TinyRenderer puts on a box's faces, measured: a sixteenth of it each. Per
# face: axis and side, then column and row at the corners (low, low), (high, low), (low, high) of
# the other two axes, in quarters.
_FACES = (
    (0, 1, (1, 2), (1, 3), (0, 2)),
    (0, -1, (2, 4), (3, 4), (2, 3)),
    (1, 1, (0, 4), (1, 4), (0, 3)),
    (1, -1, (1, 2), (2, 2), (1, 3)),
    (2, 1, (3, 3), (4, 3), (3, 4)),
    (2, -1, (2, 3), (1, 3), (2, 4)),
)


def box(size: tuple[float, ...]) -> Mesh:
    """Return a box with the extents x, y, z, m."""
    rows: list[list[float]] = []
    triangles: list[list[int]] = []
    for axis, side, *picture in _FACES:
        first, second = (other for other in range(3) if other != axis)
        origin, right, up = (np.array(corner) / 4.0 for corner in picture)
        # x, y and z, x are right-handed pairs; y's other two axes, x and z, are not.
        turned = side * (-1 if axis == 1 else 1) < 0
        start = len(rows)

        for one, other in ((0, 0), (1, 0), (1, 1), (0, 1)):
            point, normal = [0.0] * 3, [0.0] * 3
            point[axis], normal[axis] = 0.5 * side * size[axis], float(side)
            point[first], point[second] = (one - 0.5) * size[first], (other - 0.5) * size[second]
            rows.append(
                [*point, *normal, *(origin + one * (right - origin) + other * (up - origin))]
            )

        order = (0, 2, 1, 0, 3, 2) if turned else (0, 1, 2, 0, 2, 3)
        triangles += [
            [start + corner for corner in order[:3]],
            [start + corner for corner in order[3:]],
        ]

    return Mesh(np.array(rows, np.float32), np.array(triangles, np.int32))


def lathe(profile: list[tuple[float, float]], radius: float, height: float) -> Mesh:
    """Return a profile turned about z with sharp rims.

    Args:
        profile: from the bottom up: distance from the axis in diameters (0 to 0.5) and height in
            [-0.5, 0.5].
        radius: largest distance from the axis, m.
        height: from end to end, m.
    """
    rows: list[list[float]] = []
    triangles: list[list[int]] = []
    for (inner, low), (outer, high) in itertools.pairwise(profile):
        across, along = 2.0 * radius * (outer - inner), height * (high - low)
        length = math.hypot(across, along)
        normal = (along / length, -across / length)

        rings = [
            (2 * radius * inner, height * low, normal),
            (2 * radius * outer, height * high, normal),
        ]
        _strip(rows, triangles, rings)

    return Mesh(np.array(rows, np.float32), np.array(triangles, np.int32))


def ball(radius: float, length: float) -> Mesh:
    """Return a sphere, or a capsule along z whose straight part is `length` long, m."""
    rows: list[list[float]] = []
    triangles: list[list[int]] = []
    rings = []

    for ring in range(_RINGS + 1):
        angle = math.pi * ring / _RINGS - 0.5 * math.pi
        normal = (math.cos(angle), math.sin(angle))
        shift = -0.5 * length if 2 * ring <= _RINGS else 0.5 * length
        rings.append((radius * normal[0], radius * normal[1] + shift, normal))
        if length and 2 * ring == _RINGS:
            rings.append((radius, 0.5 * length, normal))

    _strip(rows, triangles, rings)
    return Mesh(np.array(rows, np.float32), np.array(triangles, np.int32))


def _strip(
    rows: list[list[float]],
    triangles: list[list[int]],
    rings: list[tuple[float, float, tuple[float, float]]],
) -> None:
    """Add the surface between rings of (radius, height, normal outwards and up), smoothly."""
    start = len(rows)
    for radius, height, (out, up) in rings:
        for step in range(_SLICES):
            c, s = math.cos(2 * math.pi * step / _SLICES), math.sin(2 * math.pi * step / _SLICES)
            rows.append([radius * c, radius * s, height, out * c, out * s, up, 0.0, 0.0])

    for ring in range(len(rings) - 1):
        for step in range(_SLICES):
            low = start + ring * _SLICES + step
            following = start + ring * _SLICES + (step + 1) % _SLICES
            triangles += [
                [low, following, following + _SLICES],
                [low, following + _SLICES, low + _SLICES],
            ]
