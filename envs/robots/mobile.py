"""Mobile bases with two driven wheels, and several robots driven by one action."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import InvalidInputError
from shopfloor.envs.physics import kinematics
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.world import World, indices
from shopfloor.envs.robots.arm import Arm
from shopfloor.envs.robots.models import AMR, BaseModel
from shopfloor.envs.robots.protocol import Array, Frame

BASE_CONVENTION = "base_velocity_v1"
MAX_SPEED_M_S = 1.0
MAX_TURN_RAD_S = 1.5
MAX_CHANGE_M_S2 = 2.0
MAX_CHANGE_RAD_S2 = 6.0
STEP_S = 0.05
JOINT_NAMES = ("base_x", "base_y", "base_yaw")
_FORCES = [600.0, 600.0, 200.0]  # N, N, N m: of the drive; what is heavier stops it


@dataclass(frozen=True)
class Start:
    """Where a base starts an episode.

    Attributes:
        low, high: x (m), y (m), yaw (rad) of the chassis in the world.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]


class Base:
    """A base that drives forward and turns; it cannot move sideways.

    Its chassis hangs on three motors, x, y and yaw, that follow its wheels: nothing rolls,
    everything collides.

    Attributes:
        model: what kind of base.
        body: PyBullet's body id.
        pose: x (m), y (m), yaw (rad) in the world at the last `read`.
        speed_m_s, turn_rad_s: commanded, after limits of acceleration.
    """

    action_names: tuple[str, ...] = ("v", "omega")
    convention = BASE_CONVENTION
    state_names: tuple[str, ...] = (
        "base_x",
        "base_y",
        "base_cos",
        "base_sin",
        "base_v",
        "base_omega",
    )
    state_units: tuple[str, ...] = ("m", "m", "1", "1", "m/s", "rad/s")

    def __init__(self, world: World, start: Start, model: BaseModel = AMR) -> None:
        """Load the base into a world.

        Args:
            world: where it drives.
            start: where it starts an episode.
            model: what kind of base.
        """
        self._world, self._client = world, world.client
        self._start, self.model = start, model
        self._joints: list[int] = []
        self.pose: tuple[float, float, float] = (0.0, 0.0, 0.0)
        self.speed_m_s = self.turn_rad_s = 0.0
        self._measured: tuple[float, ...] = (0.0,) * 6
        self.build()

    def build(self) -> None:
        """Load the base into its world, which was just made or cleared."""
        self.body: int = self._world.add_robot(self.model.urdf)
        if not self._joints:
            self._find()

    def _find(self) -> None:
        """Look up the joints by their names."""
        found = indices(self.body, self._client)
        try:
            self._joints = [found[name] for name in JOINT_NAMES]
        except KeyError as error:
            raise InvalidInputError(
                f"Robot {self.model.name!r}: {self.model.urdf} has no joint {error}; expected "
                f"{', '.join(JOINT_NAMES)}."
            ) from error

    def release(self) -> None:
        """Do nothing: it holds nothing."""

    def start(self, rng: np.random.Generator) -> None:
        """Put the base at rest somewhere in the box where episodes start."""
        self.reset(*rng.uniform(self._start.low, self._start.high).tolist())

    def reset(self, x: float, y: float, yaw: float) -> None:
        """Put the base somewhere, at rest (m, m, rad)."""
        self._set_joints((x, y, yaw), (0.0, 0.0, 0.0))
        self.speed_m_s = self.turn_rad_s = 0.0
        self._drive(yaw)
        self.read()

    def command(self, action: Sequence[float]) -> None:
        """Drive: forward speed and rate of turn, each in [-1, 1] of 1 m/s and 1.5 rad/s."""
        self.speed_m_s = _towards(
            self.speed_m_s, action[0] * MAX_SPEED_M_S, MAX_CHANGE_M_S2 * STEP_S
        )
        self.turn_rad_s = _towards(
            self.turn_rad_s, action[1] * MAX_TURN_RAD_S, MAX_CHANGE_RAD_S2 * STEP_S
        )
        self._drive(self.pose[2] + 0.5 * STEP_S * self.turn_rad_s)

    def _drive(self, heading: float) -> None:
        speed = self.speed_m_s
        pybullet.setJointMotorControlArray(
            self.body,
            self._joints,
            pybullet.VELOCITY_CONTROL,
            targetVelocities=[
                speed * math.cos(heading),
                speed * math.sin(heading),
                self.turn_rad_s,
            ],
            forces=_FORCES,
            physicsClientId=self._client,
        )

    def _set_joints(self, positions: Sequence[float], velocities: Sequence[float]) -> None:
        for index, position, velocity in zip(self._joints, positions, velocities, strict=True):
            pybullet.resetJointState(
                self.body, index, position, velocity, physicsClientId=self._client
            )

    def read(self) -> None:
        """Refresh what is measured."""
        states = pybullet.getJointStates(self.body, self._joints, self._client)
        x, y, yaw = (state[0] for state in states)
        self.pose = (x, y, yaw)
        self._measured = (x, y, yaw, *(state[1] for state in states))

    def frame(self, member: int = 0) -> Frame:
        """Return the chassis in the world: position, shape (3,), m, and rotation, shape (3, 3)."""
        x, y, yaw = self.pose
        return np.array([x, y, 0.0]), kinematics.yaw_matrix(yaw)

    def state(self) -> npt.NDArray[np.float32]:
        """Return the odometry, shape (6,), float32; entries are named by `state_names`."""
        x, y, yaw, vx, vy, turn = self._measured
        forward = vx * math.cos(yaw) + vy * math.sin(yaw)
        return np.array((x, y, math.cos(yaw), math.sin(yaw), forward, turn), dtype=np.float32)

    def sim_state(self) -> Array:
        """Return everything needed to come back, shape (8,), float64."""
        return np.array((*self._measured, self.speed_m_s, self.turn_rad_s))

    def set_sim_state(self, state: Array) -> None:
        """Come back to a `sim_state`."""
        values = state.tolist()
        self._set_joints(values[:3], values[3:6])
        self.speed_m_s, self.turn_rad_s = values[6:]
        self._drive(values[2])
        self.read()

    def describe(self) -> dict[str, Any]:
        """Return plain JSON data on what its actions do."""
        return {
            "action_full_scale": {"speed_m_s": MAX_SPEED_M_S, "turn_rad_s": MAX_TURN_RAD_S},
            "frozen_actions": [],
        }


class Team:
    """Several robots driven by one action: arms in order, then bases.

    Attributes:
        members: the robots, in the order of their actions.
    """

    def __init__(self, members: Sequence[Arm | Base]) -> None:
        """Join robots of one world; those that carry others are built first."""
        self.members = tuple(members)
        counts = np.cumsum([len(member.action_names) for member in members])
        self._ends = counts.tolist()
        self._widths = [len(member.sim_state()) for member in members]
        self._order = sorted(members, key=lambda member: isinstance(member, Arm))

    @property
    def action_names(self) -> tuple[str, ...]:
        """One per action component; those of the second robot of a kind end in _2."""
        return self._joined("action_names")

    @property
    def state_names(self) -> tuple[str, ...]:
        """One per entry of `state`."""
        return self._joined("state_names")

    @property
    def state_units(self) -> tuple[str, ...]:
        """One per entry of `state`."""
        return tuple(unit for member in self.members for unit in member.state_units)

    @property
    def convention(self) -> str:
        """Id of the meaning of its actions: those of its members, each once."""
        return "+".join(dict.fromkeys(member.convention for member in self.members))

    def _joined(self, attribute: str) -> tuple[str, ...]:
        seen: dict[str, int] = {}
        names: list[str] = []
        for member in self.members:
            count = seen[member.convention] = seen.get(member.convention, 0) + 1
            suffix = "" if count == 1 else f"_{count}"
            names += [name + suffix for name in getattr(member, attribute)]
        return tuple(names)

    def build(self) -> None:
        """Load all into their world, bases before the arms that ride on them."""
        for member in self._order:
            member.build()

    def release(self) -> None:
        """Let go of what they hold, at once."""
        for member in self.members:
            member.release()

    def start(self, rng: np.random.Generator) -> None:
        """Put each where an episode starts."""
        for member in self._order:
            member.start(rng)

    def command(self, action: Sequence[float]) -> None:
        """Give each its part of the action."""
        begin = 0
        for member, end in zip(self.members, self._ends, strict=True):
            member.command(action[begin:end])
            begin = end

    def read(self) -> None:
        """Refresh what is measured."""
        for member in self.members:
            member.read()

    def state(self) -> npt.NDArray[np.float32]:
        """Return the members' states, joined."""
        return np.concatenate([member.state() for member in self.members])

    def sim_state(self) -> Array:
        """Return the members' simulator states, joined."""
        return np.concatenate([member.sim_state() for member in self.members])

    def set_sim_state(self, state: Array) -> None:
        """Come back to a `sim_state`."""
        parts = np.split(state, np.cumsum(self._widths)[:-1])
        found: dict[Arm | Base, Array] = dict(zip(self.members, parts, strict=True))
        for member in self._order:
            member.set_sim_state(found[member])

    def frame(self, member: int) -> Frame:
        """Return where a camera on a member rides."""
        return self.members[member].frame()

    def describe(self) -> dict[str, Any]:
        """Return plain JSON data on what the actions of each member do."""
        return {"members": [member.describe() for member in self.members]}


def _towards(value: float, wanted: float, most: float) -> float:
    return value + max(-most, min(most, wanted - value))
