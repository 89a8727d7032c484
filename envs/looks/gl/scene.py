"""What the OpenGL renderer reads from PyBullet: shapes and colours once, poses for each picture."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shopfloor.envs.looks.gl.meshes import mesh_of
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.kinematics import Quaternion, matrix

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

_CASTER_M = 1.5  # larger things, tables and floors, receive shadows and cast none
# Position, normal and place in a picture; frame, part and id.
VERTEX = np.dtype([("floats", np.float32, 8), ("slot", np.int32, 3)])


class Part(NamedTuple):
    """A visual shape, without its colour.

    Attributes:
        body, link: whose it is; link -1 is the base.
        kind, dimensions, file: what it is, see `gl_meshes.mesh_of`.
        position, quaternion: of the shape in the link's frame.
        inertial: position and quaternion of the base's centre of mass in the base's frame.
    """

    body: int
    link: int
    kind: int
    dimensions: tuple[float, ...]
    file: str
    position: tuple[float, ...]
    quaternion: Quaternion
    inertial: tuple[tuple[float, ...], Quaternion]


class Geometry(NamedTuple):
    """The triangles of a client's parts, each in the frame that moves it.

    That frame is a base's centre of mass, or a link.

    Attributes:
        frames: per body its id, whether its base has shapes, and which links have; frames are in
            this order.
        vertices: shape (V,), of type `VERTEX`.
        triangles: shape (F, 3), int32.
        casts: shape (P,), float32, 1.0 for parts that cast shadows.
        spheres: shape (C, 4), m, centre and radius around each part that does, in its frame.
        sphere_frames: shape (C,), int64, rows of the frames.
    """

    frames: list[tuple[int, bool, list[int]]]
    vertices: npt.NDArray[np.void]
    triangles: npt.NDArray[np.int32]
    casts: Floats
    spheres: Array
    sphere_frames: npt.NDArray[np.int64]


def read_parts(client: int) -> tuple[list[Part], Floats]:
    """Return all visual shapes of a client, and their colours.

    Returns:
        The parts, and shape (P, 4), float32, red to alpha in [0, 1].
    """
    parts, colours = [], []
    for index in range(pybullet.getNumBodies(client)):
        body = pybullet.getBodyUniqueId(index, client)
        inertial = pybullet.getDynamicsInfo(body, -1, client)[3:5]
        for row in pybullet.getVisualShapeData(body, physicsClientId=client):
            parts.append(
                Part(body, row[1], row[2], row[3], row[4].decode(), row[5], row[6], inertial)
            )
            colours.append(row[7])

    return parts, np.array(colours, np.float32).reshape(-1, 4)


def build_geometry(parts: list[Part]) -> Geometry:
    """Return the triangles of all parts."""
    links: dict[int, set[int]] = {}
    for part in parts:
        links.setdefault(part.body, set()).add(part.link)

    frames: list[tuple[int, bool, list[int]]] = []
    rows: dict[tuple[int, int], int] = {}
    for body, used in links.items():
        frames.append((body, -1 in used, sorted(used - {-1})))
        for link in sorted(used):
            rows[body, link] = len(rows)

    vertices, triangles = [np.zeros(0, VERTEX)], [np.zeros((0, 3), np.int32)]
    casts = np.zeros(len(parts), np.float32)
    spheres, sphere_frames, count = [], [], 0

    for index, part in enumerate(parts):
        mesh = mesh_of(part.kind, part.dimensions, part.file)
        if mesh is None:
            continue

        row = rows[part.body, part.link]
        table = np.zeros(len(mesh.vertices), VERTEX)
        table["floats"] = _in_frame(mesh.vertices, part)
        table["slot"] = (row, index, part.body + ((part.link + 1) << 24))
        vertices.append(table)
        triangles.append(mesh.triangles + np.int32(count))
        count += len(table)
        low, high = table["floats"][:, :3].min(0), table["floats"][:, :3].max(0)
        diameter = math.dist(low, high)

        if diameter < _CASTER_M:
            casts[index] = 1.0
            spheres.append([*(0.5 * (low + high)), 0.5 * diameter])
            sphere_frames.append(row)

    return Geometry(
        frames,
        np.concatenate(vertices),
        np.concatenate(triangles),
        casts,
        np.array(spheres, np.float64).reshape(-1, 4),
        np.array(sphere_frames, np.int64),
    )


def _in_frame(vertices: Floats, part: Part) -> Array:
    """Return a part's vertices in the frame that moves it."""
    rotation, shift = matrix(part.quaternion), np.array(part.position)
    if part.link == -1:
        centre, turn = part.inertial
        back = matrix(turn).T
        rotation, shift = back @ rotation, back @ (shift - centre)
    moved = vertices.astype(np.float64)
    moved[:, :3] = moved[:, :3] @ rotation.T + shift
    moved[:, 3:6] = moved[:, 3:6] @ rotation.T
    return moved


def read_frames(geometry: Geometry, client: int) -> Floats:
    """Return where the frames are right now: rotation and translation (m).

    Returns:
        Shape (N, 3, 4), float32; at least one frame.
    """
    rows: list[tuple[float, ...]] = []
    for body, has_base, links in geometry.frames:
        if has_base:
            position, quaternion = pybullet.getBasePositionAndOrientation(body, client)
            rows.append(position + quaternion)

        if links:
            # Without velocities; poses follow the joints even right after `resetJointState`.
            for state in pybullet.getLinkStates(body, links, 0, 1, client):
                rows.append(state[4] + state[5])

    table = np.array(rows or [(0.0,) * 6 + (1.0,)])
    frames = np.empty((len(table), 3, 4), np.float32)
    frames[:, :, 3] = table[:, :3]
    x, y, z, w = table[:, 3:].T

    xx, yy, zz = x * x, y * y, z * z
    xy, xz, yz = x * y, x * z, y * z
    wx, wy, wz = w * x, w * y, w * z

    frames[:, 0, 0] = 1 - 2 * (yy + zz)
    frames[:, 0, 1] = 2 * (xy - wz)
    frames[:, 0, 2] = 2 * (xz + wy)
    frames[:, 1, 0] = 2 * (xy + wz)
    frames[:, 1, 1] = 1 - 2 * (xx + zz)
    frames[:, 1, 2] = 2 * (yz - wx)
    frames[:, 2, 0] = 2 * (xz - wy)
    frames[:, 2, 1] = 2 * (yz + wx)
    frames[:, 2, 2] = 1 - 2 * (xx + yy)

    return frames
