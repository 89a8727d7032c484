"""Forward and inverse kinematics of serial arms, exact and quick enough for every control step.

The tool frame lies between the fingertips (or in the mouth of a suction cup); its x axis points
forward and its z axis against the direction in which the hand reaches, so a gripper that points
straight down has the identity as its orientation (w of the quaternion stays far from 0). All poses
are in the robot's base frame.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shopfloor.errors import InvalidInputError

Array = npt.NDArray[np.float64]
Quaternion = tuple[float, float, float, float]

_DAMPING = np.diag([1e-4] * 6)
_POSTURE_GAIN = 0.05


# The tool's position (m), its x, y and z axes one after the other, and the Jacobian column by column.
Placement = tuple[tuple[float, ...], tuple[float, ...], list[float]]


class Links(Protocol):
    """What lies between a base and a tool: where the tool is, given the joints."""

    def place(self, joints: list[float]) -> Placement:
        """Return the tool's pose and its Jacobian, in plain floats: for so few joints that beats arrays.

        Args:
            joints: rad, from the base to the tool.

        Returns:
            Position, m; x, y and z axes; per joint velocity and angular velocity of the tool.
        """


@dataclass(frozen=True)
class HartenbergLinks:
    """The links of an arm whose neighbouring joint axes are parallel or at right angles.

    Attributes:
        rows: modified Denavit-Hartenberg rows: a (m), d (m), sine of alpha (alpha is 0 or a quarter
            turn).
        tool_offset_m: from the last joint's frame along its z axis to the tool.
        turn: q, u, v: the tool's x axis is q (u x + v y) of the last joint's axes.
        facing: +1.0, or -1.0 for an arm whose base is mounted turned by half a turn.
    """

    rows: tuple[tuple[float, float, float], ...]
    tool_offset_m: float
    turn: tuple[float, float, float] = (1.0, 1.0, 0.0)
    facing: float = 1.0

    def place(self, joints: list[float]) -> Placement:
        """Return where the tool is; see `Links`."""
        px = py = pz = 0.0
        ax, ay, az = self.facing, 0.0, 0.0  # the link's x, y and z axes in the base frame
        bx, by, bz = 0.0, self.facing, 0.0
        cx, cy, cz = 0.0, 0.0, 1.0
        frames = []

        for (a, d, turn), angle in zip(self.rows, joints, strict=True):
            if a:
                px, py, pz = px + a * ax, py + a * ay, pz + a * az
            if turn > 0.0:  # alpha = +90 degrees: y becomes z, z becomes -y
                bx, by, bz, cx, cy, cz = cx, cy, cz, -bx, -by, -bz
            elif turn < 0.0:
                bx, by, bz, cx, cy, cz = -cx, -cy, -cz, bx, by, bz

            if d:
                px, py, pz = px + d * cx, py + d * cy, pz + d * cz
            c, s = math.cos(angle), math.sin(angle)

            ax, ay, az, bx, by, bz = (
                c * ax + s * bx,
                c * ay + s * by,
                c * az + s * bz,
                c * bx - s * ax,
                c * by - s * ay,
                c * bz - s * az,
            )
            frames.append((px, py, pz, cx, cy, cz))

        # Along the last axis to the tool, turned about it, then half a turn about x so that z
        # points back at the hand.
        offset, (q, u, v) = self.tool_offset_m, self.turn
        px, py, pz = px + offset * cx, py + offset * cy, pz + offset * cz
        x_axis = (q * (u * ax + v * bx), q * (u * ay + v * by), q * (u * az + v * bz))
        y_axis = (q * (v * ax - u * bx), q * (v * ay - u * by), q * (v * az - u * bz))
        columns: list[float] = []

        for ox, oy, oz, zx, zy, zz in frames:
            x, y, z = px - ox, py - oy, pz - oz
            columns += (zy * z - zz * y, zz * x - zx * z, zx * y - zy * x, zx, zy, zz)
        return (px, py, pz), (*x_axis, *y_axis, -cx, -cy, -cz), columns


@dataclass(frozen=True, eq=False)
class Chain:
    """A serial arm.

    Attributes:
        links: its geometry.
        home: shape (n,), rad, posture towards which spare motion pulls and from which solutions are
            sought.
        lower, upper: shape (n,), rad, joint limits.
    """

    links: Links
    home: Array
    lower: Array
    upper: Array

    def __post_init__(self) -> None:
        """Refuse a posture and limits of different arms."""
        shapes = {self.home.shape, self.lower.shape, self.upper.shape}
        if len(shapes) > 1:
            raise InvalidInputError(
                f"A chain has {len(self.home)} joints in its home posture, {len(self.lower)} lower "
                f"and {len(self.upper)} upper limits; expected as many of each."
            )

    def forward(self, joints: Array) -> tuple[Array, Array, Array]:
        """Return the tool's pose and its Jacobian.

        Args:
            joints: shape (n,), rad.

        Returns:
            Position, shape (3,), m; rotation, shape (3, 3); Jacobian, shape (6, n): velocity and
            angular velocity.
        """
        position, axes, columns = self.links.place(joints.tolist())
        return (
            np.array(position),
            np.array(axes).reshape(3, 3).T,
            np.array(columns).reshape(-1, 6).T,
        )

    def inverse_step(self, joints: Array, position: Array, rotation: Array) -> tuple[Array, float]:
        """Take one damped least-squares step towards a tool pose; spare motion pulls towards the home posture.

        Args:
            joints: shape (n,), rad, where to start.
            position: shape (3,), m, wanted.
            rotation: shape (3, 3), wanted.

        Returns:
            The new joints, shape (n,), rad, within limits, and the error before the step (m and rad
            together).
        """
        reached, axes, columns = self.links.place(joints.tolist())
        turn = rotation @ np.array(axes).reshape(3, 3)
        error = (*map(operator.sub, position.tolist(), reached), *rotation_vector(turn))
        jacobian = np.array(columns).reshape(-1, 6).T
        posture = _POSTURE_GAIN * (self.home - joints)
        gram = jacobian @ jacobian.T + _DAMPING
        step = posture + jacobian.T @ np.linalg.solve(gram, error - jacobian @ posture)

        return np.minimum(np.maximum(joints + step, self.lower), self.upper), math.hypot(*error)

    def inverse(self, position: Array, rotation: Array) -> Array:
        """Return joints, shape (n,), rad, that put the tool at a pose (as near as limits allow)."""
        joints = self.home
        for _ in range(30):
            joints, error = self.inverse_step(joints, position, rotation)
            if error < 1e-4:
                break
        return joints


# Of the franka_panda URDF; limits of the datasheet (soft limits).
PANDA = Chain(
    HartenbergLinks(
        rows=(
            (0.0, 0.333, 0.0),
            (0.0, 0.0, -1.0),
            (0.0, 0.316, 1.0),
            (0.0825, 0.0, 1.0),
            (-0.0825, 0.384, -1.0),
            (0.0, 0.0, 1.0),
            (0.088, 0.0, 1.0),
        ),
        # Flange and hand, as in the URDF: joint 7 to the point between the fingertips.
        tool_offset_m=0.107 + 0.105,
        # The hand is turned by -45 degrees on the flange.
        turn=(math.sqrt(0.5), 1.0, -1.0),
    ),
    home=np.array([0.0, -0.35, 0.0, -2.35, 0.0, 2.0, math.pi / 4]),
    lower=np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973]),
    upper=np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973]),
)

# Of Universal Robots' table of Denavit-Hartenberg parameters; the elbow's limits are half a turn.
UR5E = Chain(
    HartenbergLinks(
        rows=(
            (0.0, 0.1625, 0.0),
            (0.0, 0.0, 1.0),
            (-0.425, 0.0, 0.0),
            (-0.3922, 0.1333, 0.0),
            (0.0, 0.0997, 1.0),
            (0.0, 0.0996, -1.0),
        ),
        # Coupling and hand.
        tool_offset_m=0.107 + 0.105,
        # The hand is turned by -90 degrees on the flange.
        turn=(1.0, 0.0, -1.0),
        facing=-1.0,
    ),
    home=np.array([-0.275513, -1.601401, 1.795636, -1.765032, -0.5 * math.pi, -0.275513]),
    lower=np.array([-2.0, -2.0, -1.0, -2.0, -2.0, -2.0]) * math.pi,
    upper=np.array([2.0, 2.0, 1.0, 2.0, 2.0, 2.0]) * math.pi,
)


def rotation_vector(rotation: Array) -> tuple[float, float, float]:
    """Return the axis-angle vector, 3 numbers, rad, of a rotation matrix, shape (3, 3)."""
    x, y, z, w = quaternion(rotation)
    sine = math.sqrt(x * x + y * y + z * z)
    scale = 2.0 if sine < 1e-9 else 2.0 * math.atan2(sine, w) / sine
    return x * scale, y * scale, z * scale


def rotation_matrix(vector: Array) -> Array:
    """Return the rotation matrix, shape (3, 3), of an axis-angle vector, shape (3,), rad."""
    x, y, z = (float(value) for value in vector)
    angle = math.sqrt(x * x + y * y + z * z)
    if angle < 1e-12:
        return np.eye(3)

    x, y, z = x / angle, y / angle, z / angle
    s, c = math.sin(angle), math.cos(angle)
    d = 1.0 - c

    return np.array(
        [
            [c + x * x * d, x * y * d - z * s, x * z * d + y * s],
            [y * x * d + z * s, c + y * y * d, y * z * d - x * s],
            [z * x * d - y * s, z * y * d + x * s, c + z * z * d],
        ]
    )


def quaternion(rotation: Array) -> Quaternion:
    """Return the quaternion (x, y, z, w), w >= 0, of a rotation matrix, shape (3, 3)."""
    (a, b, c), (d, e, f), (g, h, i) = rotation.tolist()
    trace = a + e + i
    if trace > 0.0:
        s = 2.0 * math.sqrt(trace + 1.0)
        q = ((h - f) / s, (c - g) / s, (d - b) / s, 0.25 * s)
    elif a >= e and a >= i:
        s = 2.0 * math.sqrt(1.0 + a - e - i)
        q = (0.25 * s, (b + d) / s, (c + g) / s, (h - f) / s)
    elif e >= i:
        s = 2.0 * math.sqrt(1.0 + e - a - i)
        q = ((b + d) / s, 0.25 * s, (f + h) / s, (c - g) / s)
    else:
        s = 2.0 * math.sqrt(1.0 + i - a - e)
        q = ((c + g) / s, (f + h) / s, 0.25 * s, (d - b) / s)

    return q if q[3] >= 0.0 else (-q[0], -q[1], -q[2], -q[3])


def turn_between(first: Quaternion, second: Quaternion) -> tuple[float, float, float]:
    """Return the axis-angle vector, rad, base frame, that turns one orientation (x, y, z, w) into another."""
    ax, ay, az, aw = first
    bx, by, bz, bw = second
    w = aw * bw + ax * bx + ay * by + az * bz
    x = aw * bx - ax * bw + ay * bz - az * by
    y = aw * by - ay * bw + az * bx - ax * bz
    z = aw * bz - az * bw + ax * by - ay * bx
    if w < 0.0:
        x, y, z, w = -x, -y, -z, -w

    sine = math.sqrt(x * x + y * y + z * z)
    scale = 2.0 if sine < 1e-9 else 2.0 * math.atan2(sine, w) / sine
    return x * scale, y * scale, z * scale


def matrix(q: Quaternion | Array) -> Array:
    """Return the rotation matrix, shape (3, 3), of a unit quaternion (x, y, z, w)."""
    x, y, z, w = (float(value) for value in q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def yaw_quaternion(yaw: float) -> Quaternion:
    """Return the quaternion (x, y, z, w) of the rotation by `yaw` rad about z."""
    return 0.0, 0.0, math.sin(0.5 * yaw), math.cos(0.5 * yaw)


def yaw_of(pose: Sequence[float] | Array) -> float:
    """Return the angle about z, rad, of the own x axis of a pose: position, then quaternion (x, y, z, w)."""
    x, y, z, w = (float(value) for value in pose[3:7])
    return math.atan2(2.0 * (x * y + z * w), 1.0 - 2.0 * (y * y + z * z))


def in_frame(position: Sequence[float], frame: Sequence[float]) -> tuple[float, float]:
    """Return x and y, m, of a position in the frame of a pose that stands upright: position, then quaternion."""
    yaw, dx, dy = yaw_of(frame), position[0] - frame[0], position[1] - frame[1]
    return dx * math.cos(yaw) + dy * math.sin(yaw), dy * math.cos(yaw) - dx * math.sin(yaw)


def over_square(position: Sequence[float], middle: Sequence[float], edge_m: float) -> bool:
    """Return whether a position is over a square with that middle and edges along x and y."""
    reach = 0.5 * edge_m
    return abs(position[0] - middle[0]) < reach and abs(position[1] - middle[1]) < reach


def uprightness(pose: Sequence[float] | Array) -> float:
    """Return the cosine between the own z axis of a pose (position, quaternion) and the vertical, -1 upside down."""
    return float(1.0 - 2.0 * (pose[3] ** 2 + pose[4] ** 2))


def yaw_matrix(yaw: float) -> Array:
    """Return the rotation by `yaw` rad about z, shape (3, 3)."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array((c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0)).reshape(3, 3)  # quicker than from rows
