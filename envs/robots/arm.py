"""Arms: they follow commands of a tool pose, within where their post lets them go."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import ACTION_CONVENTION, InvalidInputError
from shopfloor.envs.physics import kinematics
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.world import World, indices
from shopfloor.envs.robots.hand import MAX_OPENING_M
from shopfloor.envs.robots.models import ArmModel
from shopfloor.envs.robots.protocol import (
    ACTION_NAMES,
    FULL_SCALE_M,
    FULL_SCALE_RAD,
    LEASH_M,
    LEASH_RAD,
    TAIL_NAMES,
    TAIL_UNITS,
    Array,
    Carrier,
    Frame,
    Hand,
)

_ARM_GAIN = 0.2  # of the lag per substep: about nine tenths of it per control step
_ORIGIN = (0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Post:
    """Where an arm stands and where its tool may go; all but the first two in the arm's base frame.

    Attributes:
        position: of the base in the world, m.
        yaw: of the base in the world, rad.
        workspace: shape (2, 3), m, lowest and highest target position of the tool; cut off at the
            arm's reach.
        start_low, start_high: shape (3,), m, box in which the tool starts, pointing down.
        frozen_axes: action components that the arm ignores, of 3, 4 (rotation about x and y).
    """

    workspace: Array
    start_low: Array
    start_high: Array
    frozen_axes: tuple[int, ...] = ()
    position: tuple[float, float, float] = _ORIGIN
    yaw: float = 0.0


def top_down(
    low: Sequence[float],
    high: Sequence[float],
    start_low: Sequence[float],
    start_high: Sequence[float],
) -> Post:
    """Return the post of an arm at the origin whose tool always points straight down; see `Post`.

    Args:
        low: x, y, z, m, lowest target position of the tool.
        high: x, y, z, m, highest target position of the tool.
        start_low: x, y, z, m, lowest corner of the box in which the tool starts.
        start_high: x, y, z, m, its highest corner.
    """
    return Post(np.array([low, high]), np.array(start_low), np.array(start_high), (3, 4))


class Arm:
    """An arm with a hand: a gripper or a suction cup.

    Attributes:
        model: what kind of arm.
        post: where it stands.
        body: PyBullet's body id.
        hand: its fingers or its cup.
        joints: shape (n,), float64, positions of the arm's joints (rad) and of the hand's (two
            fingers, m) at the last `read`.
        tool_position: shape (3,), m, base frame, point between the fingertips or in the cup's mouth
            at the last `read`.
        tool_quaternion: x, y, z, w (w >= 0), tool to base (axes: see `kinematics`).
        target_position: shape (3,), m, base frame, where the tool was commanded to go.
        target_rotation: shape (3, 3), how the tool was commanded to be turned.
        gripper: last gripper command, +1 closes (or sucks), -1 opens.
    """

    action_names = ACTION_NAMES
    convention = ACTION_CONVENTION

    def __init__(
        self, world: World, model: ArmModel, post: Post, carrier: Carrier | None = None
    ) -> None:
        """Load the arm into a world.

        Args:
            world: where it stands.
            model: what kind of arm.
            post: where it stands and may go.
            carrier: the mobile base whose URDF holds the arm; None for an arm that stands on its
                own.
        """
        self.model, self.post = model, post
        self._world = world
        self._client = world.client
        self._carrier = carrier
        self._low, self._high = post.workspace[0].tolist(), post.workspace[1].tolist()

        self._scale = [FULL_SCALE_M] * 3 + [FULL_SCALE_RAD] * 3
        for axis in post.frozen_axes:
            self._scale[axis] = 0.0
        self._upright = 3 in post.frozen_axes and 4 in post.frozen_axes

        self._arm: list[int] = []
        self.hand: Hand = model.hand(world)
        self._count = len(model.joints)
        self._gains = [_ARM_GAIN] * self._count

        half = 0.5 * post.yaw
        self._mount_quaternion = (0.0, 0.0, math.sin(half), math.cos(half))
        position = np.array(post.position, dtype=np.float64)
        self._mount: Frame = (position, kinematics.yaw_matrix(post.yaw))
        # Whether the base frame is another than the world's.
        self._mounted = carrier is not None or post.position != _ORIGIN or post.yaw != 0.0
        self._tool_in_world: Frame = np.zeros(3), np.eye(3)
        self.build()

        size = self._count + len(self.hand.joints)
        # Positions of the joints, then their velocities.
        self._motion: Array = np.zeros(2 * size)
        self.joints: Array = self._motion[:size]
        self._command: Array = model.chain.home
        self.tool_position: Array = np.zeros(3)
        self.tool_quaternion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)
        self.target_position: Array = np.zeros(3)
        self.target_rotation: Array = np.eye(3)
        self.gripper = -1.0

    @property
    def state_names(self) -> tuple[str, ...]:
        """One per entry of `state`."""
        return (*(f"joint_{index}" for index in range(1, self._count + 1)), *TAIL_NAMES)

    @property
    def state_units(self) -> tuple[str, ...]:
        """One per entry of `state`."""
        return ("rad",) * self._count + TAIL_UNITS

    def build(self) -> None:
        """Load the arm into its world, which was just made or cleared."""
        self.body: int
        if self._carrier is None:
            urdf, position = self.model.urdf, self.post.position
            self.body = self._world.add_robot(urdf, position, self._mount_quaternion)
        else:
            self.body = self._carrier.body

        if not self._arm:
            self._find()
        self.hand.build(self.body)

    def _find(self) -> None:
        """Look up joints and links by their names."""
        model = self.model
        found = indices(self.body, self._client)
        try:
            self._arm = [found[name] for name in model.joints]
            self._tool_link = found[model.tool_link]
            self._base_link = found[model.base_link] if model.base_link else -1
            self.hand.find(found)
        except KeyError as error:
            raise InvalidInputError(
                f"Robot {model.name!r}: {model.urdf} has no joint or link {error}; it has: "
                f"{', '.join(found)}."
            ) from error

        self._all = [*self._arm, *self.hand.joints]

    def release(self) -> None:
        """Let go at once."""
        self.hand.release()

    def start(self, rng: np.random.Generator) -> None:
        """Put the open hand somewhere in the box where episodes start."""
        self.reset(rng.uniform(self.post.start_low, self.post.start_high), 0.0)

    def reset(
        self, position: Array, yaw: float, opening_m: float = MAX_OPENING_M, gripper: float = -1.0
    ) -> None:
        """Put the tool at a pose, pointing down and at rest.

        Args:
            position: shape (3,), m, base frame.
            yaw: rad, about z.
            opening_m: between the fingers.
            gripper: last gripper command, +1 or -1.
        """
        self.target_position = self.within_reach(position)
        self.target_rotation = kinematics.yaw_matrix(yaw)

        self._command = self.model.chain.inverse(self.target_position, self.target_rotation)
        fingers = self.hand.positions(opening_m)
        self._set_joints(np.array([*self._command, *fingers]), np.zeros(len(self._all)))

        self.gripper = gripper
        self._drive_arm()
        self.hand.drive(gripper)
        self.read()

    def command(self, action: Sequence[float]) -> None:
        """Move the target by an action and drive the motors there.

        Args:
            action: 7 numbers in [-1, 1]: position and rotation deltas in the base frame (full scale
                25 mm and 0.2 rad), gripper (> 0 closes). The target stays within the workspace and
                within 60 mm and 0.3 rad of where the tool is.
        """
        dx, dy, dz, rx, ry, rz = map(operator.mul, action, self._scale)
        x, y, z = self.target_position.tolist()
        at_x, at_y, at_z = self.tool_position.tolist()
        dx, dy, dz = x + dx - at_x, y + dy - at_y, z + dz - at_z
        distance = math.sqrt(dx**2 + dy**2 + dz**2)
        share = LEASH_M / distance if distance > LEASH_M else 1.0

        self.target_position = self.within_reach(
            (at_x + share * dx, at_y + share * dy, at_z + share * dz)
        )
        if self._upright:
            self.target_rotation = self._turn_yaw(rz)
        else:
            self.target_rotation = self._turn(np.array([rx, ry, rz]))
        self._command, _ = self.model.chain.inverse_step(
            self._command, self.target_position, self.target_rotation
        )

        self._drive_arm()
        gripper = 1.0 if action[6] > 0.0 else -1.0
        # Motors keep their command.
        if gripper != self.gripper or self.hand.seeks:
            self.gripper = gripper
            self.hand.drive(gripper)

    def within_reach(self, position: Sequence[float] | Array) -> Array:
        """Return the nearest position, shape (3,), m, base frame, to which the tool may be sent."""
        x, y, z = map(min, map(max, map(float, position), self._low), self._high)
        radius = math.sqrt(x * x + y * y)
        share = self.model.reach_m / radius if radius > self.model.reach_m else 1.0
        return np.array((x * share, y * share, z))

    def reaches(self, x: float, y: float) -> bool:
        """Return whether the tool can come above a point of the table (base frame, m)."""
        inside = self._low[0] <= x <= self._high[0] and self._low[1] <= y <= self._high[1]
        return bool(inside) and math.hypot(x, y) <= self.model.reach_m

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
            self._arm,
            pybullet.POSITION_CONTROL,
            targetPositions=self._command.tolist(),
            forces=self.model.forces_nm,
            positionGains=self._gains,
            physicsClientId=self._client,
        )

    def _set_joints(self, joints: Array, velocities: Array) -> None:
        for index, position, velocity in zip(
            self._all, joints.tolist(), velocities.tolist(), strict=True
        ):
            pybullet.resetJointState(
                self.body, index, position, velocity, physicsClientId=self._client
            )

    def read(self) -> None:
        """Refresh what is measured."""
        states = pybullet.getJointStates(self.body, self._all, self._client)
        positions, velocities, _, _ = zip(*states, strict=True)
        self._motion = np.array(positions + velocities)
        self.joints = self._motion[: len(positions)]
        link = pybullet.getLinkState(self.body, self._tool_link, 0, 1, self._client)
        self.tool_position = np.array(link[4])
        x, y, z, w = link[5]

        # Half a turn about x: the link's z axis points along the reach of the hand, the tool's
        # against it.
        self.tool_quaternion = (w, z, -y, -x) if x <= 0.0 else (-w, -z, y, x)
        if self._mounted:
            self._read_mounted()

    def _read_mounted(self) -> None:
        """Bring what `read` found in the world into the base frame."""
        if self._carrier is not None:
            link = pybullet.getLinkState(self.body, self._base_link, 0, 1, self._client)
            self._mount = np.array(link[4]), kinematics.matrix(link[5])

        origin, rotation = self._mount
        turned = kinematics.matrix(self.tool_quaternion)
        self._tool_in_world = self.tool_position, turned
        self.tool_position = rotation.T @ (self.tool_position - origin)
        self.tool_quaternion = kinematics.quaternion(rotation.T @ turned)

    @property
    def mount(self) -> Frame:
        """The base in the world: position, shape (3,), m, and rotation, shape (3, 3)."""
        return self._mount

    def frame(self, member: int = 0) -> Frame:
        """Return the tool in the world: position, shape (3,), m, and rotation, shape (3, 3)."""
        return self._tool_in_world if self._mounted else (self.tool_position, self.tool_rotation)

    @property
    def tool_rotation(self) -> Array:
        """Orientation of the tool, shape (3, 3), tool to base."""
        return kinematics.matrix(self.tool_quaternion)

    @property
    def tool_yaw(self) -> float:
        """Angle of the tool's x axis about z, rad, base frame."""
        x, y, z, w = self.tool_quaternion
        return math.atan2(2.0 * (x * y + z * w), 1.0 - 2.0 * (y * y + z * z))

    @property
    def opening_m(self) -> float:
        """Distance between the fingers, m; of a cup 1 while it holds nothing, else 0."""
        return self.hand.opening(self.joints)

    @property
    def holding(self) -> int:
        """The body that the cup holds, -1 for none and for fingers."""
        return self.hand.holding

    def state(self) -> npt.NDArray[np.float32]:
        """Return the proprioception, shape (joints + 15,), float32; entries are named by `state_names`."""
        tool = self.tool_position.tolist()
        x, y, z = self.target_position.tolist()
        turn = kinematics.turn_between(
            self.tool_quaternion, kinematics.quaternion(self.target_rotation)
        )
        offset = (x - tool[0], y - tool[1], z - tool[2])

        joints = self.joints[: self._count].tolist()
        row = (*joints, *tool, *self.tool_quaternion, self.opening_m, *offset, *turn, self.gripper)
        return np.array(row, dtype=np.float32)

    def sim_state(self) -> Array:
        """Return everything needed to come back, float64 (shape (38,) for a Panda with fingers)."""
        return np.concatenate(
            [
                self._motion,
                self._command,
                self.target_position,
                self.target_rotation.ravel(),
                [self.gripper],
                self.hand.memory(),
            ]
        )

    def set_sim_state(self, state: Array) -> None:
        """Come back to a `sim_state`; where a cup holds something, put the world's bodies back first."""
        size, count = len(self._all), self._count
        widths = np.cumsum([size, size, count, 3, 9, 1])
        joints, velocities, command, position, rotation, gripper, hand = np.split(state, widths)

        self._set_joints(joints, velocities)
        self._command = command.copy()
        self.target_position, self.target_rotation = position.copy(), rotation.reshape(3, 3).copy()
        self.gripper = float(gripper[0])

        self._drive_arm()
        self.hand.recall(hand, self.gripper)
        self.read()

    def describe(self) -> dict[str, Any]:
        """Return plain JSON data on what its actions do."""
        return {
            "action_full_scale": {"position_m": FULL_SCALE_M, "rotation_rad": FULL_SCALE_RAD},
            "frozen_actions": [ACTION_NAMES[axis] for axis in self.post.frozen_axes],
            "workspace_m": self.post.workspace.tolist(),
        }
