"""Forward and inverse kinematics of the Franka Panda, exact and quick enough for every control step.

The tool frame lies between the fingertips; its x axis points forward and its z axis against the direction in which the
hand reaches, so a gripper that points straight down has the identity as its orientation (w of the quaternion stays far
from 0). All poses are in the robot's base frame.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

HOME: Array = np.array([0.0, -0.35, 0.0, -2.35, 0.0, 2.0, math.pi / 4])
# Limits of the datasheet (franka_panda URDF, soft limits), rad.
LOWER: Array = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
UPPER: Array = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
TOOL_OFFSET_M = 0.107 + 0.105  # flange and hand, as in the URDF: joint 7 to the point between the fingertips
_DAMPING = 1e-4
_POSTURE_GAIN = 0.05


def _modified_dh() -> tuple[Array, Array, Array]:
    """Return A, B, C, each (7, 4, 4), with joint transforms A + B cos(q) + C sin(q)."""
    half = math.pi / 2
    rows = (
        (0.0, 0.333, 0.0),
        (0.0, 0.0, -half),
        (0.0, 0.316, half),
        (0.0825, 0.0, half),
        (-0.0825, 0.384, -half),
        (0.0, 0.0, half),
        (0.088, 0.0, half),
    )
    constant, cosine, sine = (np.zeros((7, 4, 4)) for _ in range(3))
    for joint, (a, d, alpha) in enumerate(rows):
        c, s = round(math.cos(alpha), 12), round(math.sin(alpha), 12)
        constant[joint] = np.array([[0, 0, 0, a], [0, 0, -s, -s * d], [0, 0, c, c * d], [0, 0, 0, 1]])
        cosine[joint, :3, :2] = np.array([[1, 0], [0, c], [0, s]])
        sine[joint, :3, :2] = np.array([[0, -1], [c, 0], [s, 0]])
    return constant, cosine, sine


_CONSTANT, _COSINE, _SINE = _modified_dh()
_QUARTER = math.sqrt(0.5)
# Joint 7 to tool: down the flange, turned by -45 degrees, then half a turn about x so that z points back at the hand.
_TOOL: Array = np.array(
    [
        [_QUARTER, -_QUARTER, 0, 0],
        [-_QUARTER, -_QUARTER, 0, 0],
        [0, 0, -1, TOOL_OFFSET_M],
        [0, 0, 0, 1],
    ]
)


def forward(joints: Array) -> tuple[Array, Array]:
    """Return the tool's pose and its Jacobian.

    Args:
        joints: shape (7,), rad.

    Returns:
        The pose, shape (4, 4), m, and the Jacobian, shape (6, 7): velocity (m/s) and angular velocity (rad/s).
    """
    links = _CONSTANT + _COSINE * np.cos(joints)[:, None, None] + _SINE * np.sin(joints)[:, None, None]
    for joint in range(1, 7):
        links[joint] = links[joint - 1] @ links[joint]
    pose = links[6] @ _TOOL
    axes = links[:, :3, 2]
    arms = pose[:3, 3] - links[:, :3, 3]
    jacobian = np.empty((6, 7))
    jacobian[0] = axes[:, 1] * arms[:, 2] - axes[:, 2] * arms[:, 1]
    jacobian[1] = axes[:, 2] * arms[:, 0] - axes[:, 0] * arms[:, 2]
    jacobian[2] = axes[:, 0] * arms[:, 1] - axes[:, 1] * arms[:, 0]
    jacobian[3:] = axes.T
    return pose, jacobian


def inverse_step(joints: Array, position: Array, rotation: Array) -> tuple[Array, float]:
    """Take one damped least-squares step towards a tool pose; spare motion pulls towards the home posture.

    Args:
        joints: shape (7,), rad, where to start.
        position: shape (3,), m, wanted.
        rotation: shape (3, 3), wanted.

    Returns:
        The new joints, shape (7,), rad, within limits, and the error before the step (m and rad together).
    """
    pose, jacobian = forward(joints)
    error = np.empty(6)
    error[:3] = position - pose[:3, 3]
    error[3:] = rotation_vector(rotation @ pose[:3, :3].T)
    posture = _POSTURE_GAIN * (HOME - joints)
    gram = jacobian @ jacobian.T
    gram.flat[::7] += _DAMPING
    step = posture + jacobian.T @ np.linalg.solve(gram, error - jacobian @ posture)
    return np.minimum(np.maximum(joints + step, LOWER), UPPER), math.sqrt(float(error @ error))


def inverse(position: Array, rotation: Array, start: Array = HOME) -> Array:
    """Return joints, shape (7,), rad, that put the tool at a pose (as near as limits allow)."""
    joints = start
    for _ in range(30):
        joints, error = inverse_step(joints, position, rotation)
        if error < 1e-4:
            break
    return joints


def rotation_vector(rotation: Array) -> Array:
    """Return the axis-angle vector, shape (3,), rad, of a rotation matrix, shape (3, 3)."""
    x, y, z = rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]
    sine = 0.5 * math.sqrt(x * x + y * y + z * z)
    cosine = 0.5 * (rotation[0, 0] + rotation[1, 1] + rotation[2, 2] - 1.0)
    if sine < 1e-9 and cosine < 0.0:  # half a turn: the axis is the largest column of R + 1
        column = (rotation + np.eye(3))[:, int(np.argmax(np.diag(rotation)))]
        return math.pi * column / math.sqrt(float(column @ column))
    scale = 0.5 if sine < 1e-9 else 0.5 * math.atan2(sine, cosine) / sine
    return np.array([x * scale, y * scale, z * scale])


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


def quaternion(rotation: Array) -> tuple[float, float, float, float]:
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


def matrix(q: tuple[float, float, float, float] | Array) -> Array:
    """Return the rotation matrix, shape (3, 3), of a unit quaternion (x, y, z, w)."""
    x, y, z, w = (float(value) for value in q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def yaw_matrix(yaw: float) -> Array:
    """Return the rotation by `yaw` rad about z, shape (3, 3)."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
