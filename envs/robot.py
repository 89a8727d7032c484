"""The Franka Panda: integrates tool-pose commands, solves for joints, drives its motors, reads itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pybullet

from shopfloor.envs import kinematics
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
_ARM_GAINS = [0.2] * 7
_FINGER_FORCE_N = 12.0
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
        tool_rotation: shape (3, 3), tool to base (axes: see `kinematics`).
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
        self._low, self._high = workspace
        self._active = np.array([float(axis not in frozen_axes) for axis in range(6)])
        self._active *= [FULL_SCALE_M] * 3 + [FULL_SCALE_RAD] * 3
        self._upright = 3 in frozen_axes and 4 in frozen_axes
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
        self.joints: Array = np.zeros(9)
        self._joint_velocities: Array = np.zeros(9)
        self._command: Array = kinematics.HOME
        self.tool_position: Array = np.zeros(3)
        self.tool_rotation: Array = np.eye(3)
        self.target_position: Array = np.zeros(3)
        self.target_rotation: Array = np.eye(3)
        self.gripper = -1.0

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
        self._drive()
        self.read()

    def command(self, action: Array) -> None:
        """Move the target by an action and drive the motors there.

        Args:
            action: shape (7,), in [-1, 1]: position and rotation deltas in the base frame (full scale 25 mm and
                0.2 rad), gripper (> 0 closes). The target stays within the workspace and within 60 mm and 0.3 rad of
                where the tool is.
        """
        move = action[:6] * self._active
        lead = self.target_position + move[:3] - self.tool_position
        distance = math.sqrt(float(lead @ lead))
        if distance > LEASH_M:
            lead *= LEASH_M / distance
        self.target_position = self.within_reach(self.tool_position + lead)
        self.target_rotation = self._turn(move[3:])
        self.gripper = 1.0 if action[6] > 0.0 else -1.0
        self._command, _ = kinematics.inverse_step(self._command, self.target_position, self.target_rotation)
        self._drive()

    def within_reach(self, position: Array) -> Array:
        """Return the nearest position, shape (3,), m, to which the tool may be sent."""
        position = np.minimum(np.maximum(position, self._low), self._high)
        radius = math.hypot(position[0], position[1])
        if radius > REACH_M:
            position[:2] *= REACH_M / radius
        return position

    def reaches(self, x: float, y: float) -> bool:
        """Return whether the tool can come above a point of the table."""
        inside = self._low[0] <= x <= self._high[0] and self._low[1] <= y <= self._high[1]
        return bool(inside) and math.hypot(x, y) <= REACH_M

    def _turn(self, vector: Array) -> Array:
        turned = kinematics.rotation_matrix(vector) @ self.target_rotation
        lead = kinematics.rotation_vector(turned @ self.tool_rotation.T)
        angle = math.sqrt(float(lead @ lead))
        if angle > LEASH_RAD:
            turned = kinematics.rotation_matrix(lead * (LEASH_RAD / angle)) @ self.tool_rotation
        if self._upright:
            return kinematics.yaw_matrix(math.atan2(turned[1, 0], turned[0, 0]))
        return turned

    def _drive(self) -> None:
        pybullet.setJointMotorControlArray(
            self.body,
            _ARM,
            pybullet.POSITION_CONTROL,
            targetPositions=self._command.tolist(),
            forces=_ARM_FORCES,
            positionGains=_ARM_GAINS,
            physicsClientId=self._client,
        )
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
        self._joint_velocities = np.array([state[1] for state in states])
        pose, _ = kinematics.forward(self.joints[:7])
        self.tool_position, self.tool_rotation = pose[:3, 3], pose[:3, :3]

    @property
    def opening_m(self) -> float:
        """Distance between the fingers, m."""
        return float(self.joints[7] + self.joints[8])

    def state(self) -> npt.NDArray[np.float32]:
        """Return the proprioception, shape (22,), float32; entries are named by STATE_NAMES."""
        row = np.empty(STATE_SIZE)
        row[:7] = self.joints[:7]
        row[7:10] = self.tool_position
        row[10:14] = kinematics.quaternion(self.tool_rotation)
        row[14] = self.opening_m
        row[15:18] = self.target_position - self.tool_position
        row[18:21] = kinematics.rotation_vector(self.target_rotation @ self.tool_rotation.T)
        row[21] = self.gripper
        return row.astype(np.float32)

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
        self._drive()
        self.read()
