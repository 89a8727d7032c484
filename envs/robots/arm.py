"""Robots: what `WorkCell` drives, and arms, which follow commands of a tool pose."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

import shopfloor
from shopfloor.core import ACTION_CONVENTION
from shopfloor.envs.physics import kinematics
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.kinematics import Chain
from shopfloor.envs.physics.world import World, indices
from shopfloor.envs.robots.hand import MAX_OPENING_M, Cup, Fingers

Array = npt.NDArray[np.float64]
Frame = tuple[Array, Array]

FULL_SCALE_M = 0.025
FULL_SCALE_RAD = 0.2
LEASH_M = 0.060
LEASH_RAD = 0.3
_ARM_GAIN = 0.2  # of the lag per substep: about nine tenths of it per control step
_ORIGIN = (0.0, 0.0, 0.0)
_ASSETS = Path(shopfloor.__file__).parent / "envs" / "assets"

ACTION_NAMES = ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")
# What follows the joints in an arm's state. An opening is the fingers', or 1 while a suction cup
# holds nothing, else 0.
TAIL_NAMES = (
    *(f"tool_{axis}" for axis in "xyz"),
    *(f"tool_q{axis}" for axis in "xyzw"),
    "finger_opening",
    *(f"offset_{axis}" for axis in "xyz"),
    *(f"offset_r{axis}" for axis in "xyz"),
    "last_gripper",
)
TAIL_UNITS = ("m",) * 3 + ("1",) * 4 + ("m",) + ("m",) * 3 + ("rad",) * 3 + ("1",)
TAIL_SIZE = len(TAIL_NAMES)


class Robot(Protocol):
    """What a cell drives: an arm, a mobile base, or several of these together.

    Attributes:
        action_names: one per action component.
        state_names, state_units: one per entry of `state`.
        convention: id of the meaning of its actions.
    """

    @property
    def action_names(self) -> tuple[str, ...]: ...  # noqa: D102  # see above
    @property
    def state_names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def state_units(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def convention(self) -> str: ...  # noqa: D102

    def build(self) -> None:
        """Load it into its world, which was just made or cleared."""

    def release(self) -> None:
        """Let go of what it holds, at once: its world is about to be brought back to how it was built."""

    def start(self, rng: np.random.Generator) -> None:
        """Put it where an episode starts; all randomness comes from `rng`."""

    def command(self, action: Sequence[float]) -> None:
        """Drive the motors by an action: one number in [-1, 1] per component."""

    def read(self) -> None:
        """Refresh what is measured."""

    def state(self) -> npt.NDArray[np.float32]:
        """Return the proprioception, float32; entries are named by `state_names`."""

    def sim_state(self) -> Array:
        """Return everything needed to come back, float64, always of the same length."""

    def set_sim_state(self, state: Array) -> None:
        """Come back to a `sim_state`."""

    def frame(self, member: int) -> Frame:
        """Return where cameras ride: position, shape (3,), m, and rotation, shape (3, 3), in the world frame."""

    def describe(self) -> dict[str, Any]:
        """Return plain JSON data on what its actions do."""


@dataclass(frozen=True, eq=False)
class ArmModel:
    """A kind of arm with its hand.

    Attributes:
        name: as in `gymnasium.make(..., robot=name)`.
        urdf: its file.
        chain: its kinematics.
        joints: names of the arm's joints.
        forces_nm: their effort limits.
        tool_link: name of the link at the tool point.
        suction: whether the hand is a suction cup.
        reach_m: radius about the base within which a tool that points down keeps clear of the
            straight arm, for z up to 0.35 m.
        base_link: name of the link that is the arm's base frame, where the arm rides on something
            else.
    """

    name: str
    urdf: Path
    chain: Chain
    joints: tuple[str, ...]
    forces_nm: tuple[float, ...]
    tool_link: str
    suction: bool
    reach_m: float
    base_link: str = ""


_PANDA_JOINTS = tuple(f"panda_joint{index}" for index in range(1, 8))
_PANDA_FORCES = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)  # of the URDF
PANDA = ArmModel(
    "panda",
    _ASSETS / "panda" / "panda.urdf",
    kinematics.PANDA,
    _PANDA_JOINTS,
    _PANDA_FORCES,
    "panda_grasptarget",
    suction=False,
    reach_m=0.74,
)
PANDA_SUCTION = ArmModel(
    "panda_suction",
    _ASSETS / "panda" / "panda_suction.urdf",
    kinematics.PANDA,
    _PANDA_JOINTS,
    _PANDA_FORCES,
    "suction_cup",
    suction=True,
    reach_m=0.74,
)
# Its work is from straight ahead to the tote, 144 degrees to the left: a posture in the middle
# suits both ends.
_ON_DECK = replace(
    kinematics.PANDA, home=kinematics.PANDA.home + np.array([1.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
)
MOBILE_PANDA = ArmModel(
    "mobile_panda",
    _ASSETS / "mobile" / "mobile_panda.urdf",
    _ON_DECK,
    _PANDA_JOINTS,
    _PANDA_FORCES,
    "panda_grasptarget",
    suction=False,
    reach_m=0.69,  # for z up to 0.49 m
    base_link="panda_link0",
)
_UR5E_JOINTS = tuple(f"ur5e_joint{index}" for index in range(1, 7))
_UR5E_FORCES = (150.0, 150.0, 150.0, 28.0, 28.0, 28.0)  # of the datasheet
UR5E = ArmModel(
    "ur5e",
    _ASSETS / "ur5e" / "ur5e.urdf",
    kinematics.UR5E,
    _UR5E_JOINTS,
    _UR5E_FORCES,
    "panda_grasptarget",
    suction=False,
    reach_m=0.70,
)
UR5E_SUCTION = ArmModel(
    "ur5e_suction",
    _ASSETS / "ur5e" / "ur5e_suction.urdf",
    kinematics.UR5E,
    _UR5E_JOINTS,
    _UR5E_FORCES,
    "suction_cup",
    suction=True,
    reach_m=0.70,
)
ARMS = {model.name: model for model in (PANDA, PANDA_SUCTION, UR5E, UR5E_SUCTION)}


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


class Arm:
    """An arm with a gripper or a suction cup.

    Attributes:
        model: what kind of arm.
        post: where it stands.
        body: PyBullet's body id.
        hand: its fingers or its cup.
        joints: shape (n,), float64, the arm's joints (rad) and, of a gripper, two fingers (m) at
            the last `read`.
        tool_position: shape (3,), m, base frame, point between the fingertips or in the cup's mouth
            at the last `read`.
        tool_quaternion: x, y, z, w (w >= 0), tool to base (axes: see `kinematics`).
        target_position: shape (3,), m, base frame, where the tool was told to go.
        target_rotation: shape (3, 3), how the tool was told to be turned.
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

        self._scale = [
            0.0 if axis in post.frozen_axes else FULL_SCALE_M if axis < 3 else FULL_SCALE_RAD
            for axis in range(6)
        ]

        self._upright = 3 in post.frozen_axes and 4 in post.frozen_axes
        self._arm: list[int] = []
        self.hand: Fingers | Cup = Cup(world) if model.suction else Fingers(world)
        self._count = len(model.joints)
        self._gains = [_ARM_GAIN] * self._count

        # The base in the world: position and rotation, or None where they are the same frame.
        half = 0.5 * post.yaw
        self._mount_quaternion = (0.0, 0.0, math.sin(half), math.cos(half))
        self._mounted = carrier is not None or post.position != _ORIGIN or post.yaw != 0.0

        self._mount: Frame = (
            np.array(post.position, dtype=np.float64),
            kinematics.yaw_matrix(post.yaw),
        )

        self._tool_in_world: Frame = np.zeros(3), np.eye(3)
        self.build()
        size = self._count + len(self.hand.joints)
        self._motion: Array = np.zeros(2 * size)  # positions of the joints, then their velocities
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
        post, world = self.post, self._world
        self.body: int = (
            world.add_robot(self.model.urdf, post.position, self._mount_quaternion)
            if self._carrier is None
            else self._carrier.body
        )
        if not self._arm:
            self._find()
        self.hand.build(self.body)

    def _find(self) -> None:
        """Look up joints and links by their names."""
        found = indices(self.body, self._client)
        self._arm = [found[name] for name in self.model.joints]
        self._tool_link = found[self.model.tool_link]
        self._base_link = found[self.model.base_link] if self.model.base_link else -1
        self.hand.find(found)
        self._all = self._arm + list(self.hand.joints)

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
        fingers = [0.5 * opening_m] * len(self.hand.joints)
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
        self.target_rotation = (
            self._turn_yaw(rz) if self._upright else self._turn(np.array([rx, ry, rz]))
        )
        self._command, _ = self.model.chain.inverse_step(
            self._command, self.target_position, self.target_rotation
        )

        self._drive_arm()
        gripper = 1.0 if action[6] > 0.0 else -1.0
        if gripper != self.gripper or self.hand.seeks:  # motors keep their command
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


class Carrier(Protocol):
    """What an arm may ride on."""

    body: int
