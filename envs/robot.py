"""The Franka Panda: integrates tool-pose commands, solves for joints, drives its motors, reads itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shopfloor.envs import kinematics
from shopfloor.envs.engine import pybullet
from shopfloor.envs.world import FRICTION, SPINNING_FRICTION, World

Array = npt.NDArray[np.float64]

URDF = Path(__file__).parent / "assets" / "panda" / "panda.urdf"
ACTION_NAMES = ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")
FULL_SCALE_M = 0.025
FULL_SCALE_RAD = 0.2
LEASH_M = 0.060
LEASH_RAD = 0.3
MAX_OPENING_M = 0.08
# Radius about the base within which a tool that points down keeps clear of the straight arm, for z up to 0.35 m.
REACH_M = 0.74

_ARM = list(range(7))
_FINGERS = [9, 10]
_JOINTS = _ARM + _FINGERS
_TOOL_LINK = 11
_ARM_FORCES = [87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0]  # N m, effort limits of the URDF
_ARM_GAINS = [0.2] * 7  # of the lag per substep: about nine tenths of it per control step
_FINGER_FORCE_N = 12.0  # measured: 30 N squeezes parts out at 12 solver iterations
_FINGER_SPEED_M_S = 0.2
_GEAR_FORCE_N = 50.0

STATE_NAMES = (
    *(f"joint_{index}" for index in range(1, 8)),
    *(f"tool_{axis}" for axis in "xyz"),
    *(f"tool_q{axis}" for axis in "xyzw"),
    "finger_opening",
    *(f"offset_{axis}" for axis in "xyz"),
    *(f"offset_r{axis}" for axis in "xyz"),
    "last_gripper",
)
STATE_UNITS = ("rad",) * 7 + ("m",) * 3 + ("1",) * 4 + ("m",) + ("m",) * 3 + ("rad",) * 3 + ("1",)
STATE_SIZE = len(STATE_NAMES)
SIM_STATE_SIZE = 9 + 9 + 7 + 3 + 9 + 1


class Panda:
    """A Panda at the origin of the world.

    Attributes:
        body: PyBullet's body id.
        joints: shape (9,), float64, seven arm joints (rad) and two fingers (m) at the last `read`.
        tool_position: shape (3,), m, point between the fingertips at the last `read`.
        tool_quaternion: x, y, z, w (w >= 0), tool to base (axes: see `kinematics`).
        target_position: shape (3,), m, where the tool was told to go.
        target_rotation: shape (3, 3), how the tool was told to be turned.
        gripper: last gripper command, +1 closes, -1 opens.
    """

    def __init__(self, world: World, workspace: Array, frozen_axes: tuple[int, ...] = ()) -> None:
        """Load the arm into a world.

        Args:
            world: where it stands.
            workspace: shape (2, 3), m, lowest and highest target position; it is cut off at REACH_M about the base.
            frozen_axes: action components that are ignored, of 3, 4 (rotation about x and y).
        """
        self._world = world
        self._client = world.client
        self._low, self._high = workspace[0].tolist(), workspace[1].tolist()
        self._scale = [
            0.0 if axis in frozen_axes else FULL_SCALE_M if axis < 3 else FULL_SCALE_RAD for axis in range(6)
        ]
        self._upright = 3 in frozen_axes and 4 in frozen_axes
        self.build()
        self.joints: Array = np.zeros(9)
        self._joint_velocities: tuple[float, ...] = (0.0,) * 9
        self._command: Array = kinematics.HOME
        self.tool_position: Array = np.zeros(3)
        self.tool_quaternion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)
        self.target_position: Array = np.zeros(3)
        self.target_rotation: Array = np.eye(3)
        self.gripper = -1.0

    def build(self) -> None:
        """Load the arm into its world, which was just made or cleared."""
        self.body: int = pybullet.loadURDF(str(URDF), useFixedBase=True, physicsClientId=self._client)
        gear = pybullet.createConstraint(
            self.body,
            _FINGERS[0],
            self.body,
            _FINGERS[1],
            pybullet.JOINT_GEAR,
            [1, 0, 0],
            [0, 0, 0],
            [0, 0, 0],
            physicsClientId=self._client,
        )
        pybullet.changeConstraint(gear, gearRatio=-1, erp=0.1, maxForce=_GEAR_FORCE_N, physicsClientId=self._client)
        for finger in _FINGERS:
            pybullet.changeDynamics(
                self.body,
                finger,
                lateralFriction=FRICTION,
                spinningFriction=SPINNING_FRICTION,
                physicsClientId=self._client,
            )

    def reset(self, position: Array, yaw: float, opening_m: float = MAX_OPENING_M, gripper: float = -1.0) -> None:
        """Put the tool at a pose, pointing down and at rest.

        Args:
            position: shape (3,), m.
            yaw: rad, about z.
            opening_m: between the fingers.
            gripper: last gripper command, +1 or -1.
        """
        self.target_position = self.within_reach(position)
        self.target_rotation = kinematics.yaw_matrix(yaw)
        self._command = kinematics.inverse(self.target_position, self.target_rotation)
        self._set_joints(np.array([*self._command, 0.5 * opening_m, 0.5 * opening_m]), np.zeros(9))
        self.gripper = gripper
        self._drive_arm()
        self._drive_fingers()
        self.read()

    def command(self, action: Sequence[float]) -> None:
        """Move the target by an action and drive the motors there.

        Args:
            action: 7 numbers in [-1, 1]: position and rotation deltas in the base frame (full scale 25 mm and
                0.2 rad), gripper (> 0 closes). The target stays within the workspace and within 60 mm and 0.3 rad of
                where the tool is.
        """
        dx, dy, dz, rx, ry, rz = (value * scale for value, scale in zip(action[:6], self._scale, strict=True))
        x, y, z = self.target_position.tolist()
        tool = self.tool_position.tolist()
        lead = (x + dx - tool[0], y + dy - tool[1], z + dz - tool[2])
        distance = math.sqrt(lead[0] ** 2 + lead[1] ** 2 + lead[2] ** 2)
        share = LEASH_M / distance if distance > LEASH_M else 1.0
        self.target_position = self.within_reach([tool[axis] + share * lead[axis] for axis in range(3)])
        self.target_rotation = self._turn_yaw(rz) if self._upright else self._turn(np.array([rx, ry, rz]))
        self._command, _ = kinematics.inverse_step(self._command, self.target_position, self.target_rotation)
        self._drive_arm()
        gripper = 1.0 if action[6] > 0.0 else -1.0
        if gripper != self.gripper:  # motors keep their command
            self.gripper = gripper
            self._drive_fingers()

    def within_reach(self, position: Sequence[float] | Array) -> Array:
        """Return the nearest position, shape (3,), m, to which the tool may be sent."""
        x, y, z = (
            min(max(float(value), low), high) for value, low, high in zip(position, self._low, self._high, strict=True)
        )
        radius = math.sqrt(x * x + y * y)
        share = REACH_M / radius if radius > REACH_M else 1.0
        return np.array((x * share, y * share, z))

    def reaches(self, x: float, y: float) -> bool:
        """Return whether the tool can come above a point of the table."""
        inside = self._low[0] <= x <= self._high[0] and self._low[1] <= y <= self._high[1]
        return bool(inside) and math.hypot(x, y) <= REACH_M

    def _turn_yaw(self, angle: float) -> Array:
        """Return the target turned about z only, on its leash; the tool keeps pointing down."""
        measured = self.tool_yaw
        lead = math.atan2(self.target_rotation[1, 0], self.target_rotation[0, 0]) + angle - measured
        lead = (lead + math.pi) % (2.0 * math.pi) - math.pi
        return kinematics.yaw_matrix(measured + min(max(lead, -LEASH_RAD), LEASH_RAD))

    def _turn(self, vector: Array) -> Array:
        """Return the target turned by an axis-angle vector, on its leash."""
        turned = kinematics.rotation_matrix(vector) @ self.target_rotation
        lead = np.array(kinematics.rotation_vector(turned @ self.tool_rotation.T))
        angle = math.sqrt(float(lead @ lead))
        if angle > LEASH_RAD:
            turned = kinematics.rotation_matrix(lead * (LEASH_RAD / angle)) @ self.tool_rotation
        return turned

    def _drive_arm(self) -> None:
        pybullet.setJointMotorControlArray(
            self.body,
            _ARM,
            pybullet.POSITION_CONTROL,
            targetPositions=self._command.tolist(),
            forces=_ARM_FORCES,
            positionGains=_ARM_GAINS,
            physicsClientId=self._client,
        )

    def _drive_fingers(self) -> None:
        for finger in _FINGERS:
            pybullet.setJointMotorControl2(
                self.body,
                finger,
                pybullet.POSITION_CONTROL,
                targetPosition=0.0 if self.gripper > 0.0 else 0.5 * MAX_OPENING_M,
                force=_FINGER_FORCE_N,
                maxVelocity=_FINGER_SPEED_M_S,
                physicsClientId=self._client,
            )

    def _set_joints(self, joints: Array, velocities: Array) -> None:
        for index, position, velocity in zip(_JOINTS, joints.tolist(), velocities.tolist(), strict=True):
            pybullet.resetJointState(self.body, index, position, velocity, physicsClientId=self._client)

    def read(self) -> None:
        """Refresh what is measured."""
        states = pybullet.getJointStates(self.body, _JOINTS, self._client)
        self.joints = np.array([state[0] for state in states])
        self._joint_velocities = tuple(state[1] for state in states)
        link = pybullet.getLinkState(self.body, _TOOL_LINK, 0, 1, self._client)
        self.tool_position = np.array(link[4])
        x, y, z, w = link[5]
        # Half a turn about x: the link's z axis points along the reach of the hand, the tool's against it.
        self.tool_quaternion = (w, z, -y, -x) if x <= 0.0 else (-w, -z, y, x)

    @property
    def tool_rotation(self) -> Array:
        """Orientation of the tool, shape (3, 3), tool to base."""
        return kinematics.matrix(self.tool_quaternion)

    @property
    def tool_yaw(self) -> float:
        """Angle of the tool's x axis about z, rad."""
        x, y, z, w = self.tool_quaternion
        return math.atan2(2.0 * (x * y + z * w), 1.0 - 2.0 * (y * y + z * z))

    @property
    def opening_m(self) -> float:
        """Distance between the fingers, m."""
        return float(self.joints[7] + self.joints[8])

    def state(self) -> npt.NDArray[np.float32]:
        """Return the proprioception, shape (22,), float32; entries are named by STATE_NAMES."""
        joints, tool = self.joints.tolist(), self.tool_position.tolist()
        x, y, z = self.target_position.tolist()
        turn = kinematics.turn_between(self.tool_quaternion, kinematics.quaternion(self.target_rotation))
        offset = (x - tool[0], y - tool[1], z - tool[2])
        row = (*joints[:7], *tool, *self.tool_quaternion, joints[7] + joints[8], *offset, *turn, self.gripper)
        return np.array(row, dtype=np.float32)

    def sim_state(self) -> Array:
        """Return everything needed to come back, shape (38,), float64."""
        return np.concatenate(
            [
                self.joints,
                self._joint_velocities,
                self._command,
                self.target_position,
                self.target_rotation.ravel(),
                [self.gripper],
            ]
        )

    def set_sim_state(self, state: Array) -> None:
        """Come back to a `sim_state`."""
        self._set_joints(state[:9], state[9:18])
        self._command = state[18:25].copy()
        self.target_position, self.target_rotation = state[25:28].copy(), state[28:37].reshape(3, 3).copy()
        self.gripper = float(state[37])
        self._drive_arm()
        self._drive_fingers()
        self.read()
