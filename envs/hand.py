"""Hands at the end of an arm: two fingers, or a suction cup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from shopfloor.envs.engine import pybullet
from shopfloor.envs.world import FRICTION, SPINNING_FRICTION, World

Array = npt.NDArray[np.float64]

MAX_OPENING_M = 0.08
_FINGER_NAMES = ("panda_finger_joint1", "panda_finger_joint2")
_FINGER_FORCE_N = 12.0  # measured: 30 N squeezes parts out at 12 solver iterations
_FINGER_SPEED_M_S = 0.2
_GEAR_FORCE_N = 50.0
CUP_LINK = "suction_cup"
# 22 mm of radius at 0.6 bar of vacuum holds about 90 N; half of it leaves room for pulling aside.
CUP_FORCE_N = 45.0
CUP_GAP_M = 0.003
CUP_COSINE = 0.96  # a cup seals on surfaces within 16 degrees of its mouth


class Fingers:
    """Two fingers, geared together.

    Attributes:
        joints: indices of the finger joints.
        seeks: whether `drive` must be called in every step.
        holding: -1: what fingers hold is for friction to decide.
    """

    seeks = False
    holding = -1

    def __init__(self, world: World) -> None:
        """Make a hand for a robot in a world."""
        self._world = world
        self.joints: tuple[int, ...] = ()
        self._body = -1

    def find(self, indices: Mapping[str, int]) -> None:
        """Look up the joints: indices by name."""
        self.joints = tuple(indices[name] for name in _FINGER_NAMES)

    def build(self, body: int) -> None:
        """Prepare the fingers of a robot that was just loaded."""
        self._body = body
        client = self._world.client
        first, second = self.joints
        gear = pybullet.createConstraint(
            body, first, body, second, pybullet.JOINT_GEAR, [1, 0, 0], [0, 0, 0], [0, 0, 0], physicsClientId=client
        )
        pybullet.changeConstraint(gear, gearRatio=-1, erp=0.1, maxForce=_GEAR_FORCE_N, physicsClientId=client)
        for finger in self.joints:
            pybullet.changeDynamics(
                body, finger, lateralFriction=FRICTION, spinningFriction=SPINNING_FRICTION, physicsClientId=client
            )

    def drive(self, gripper: float) -> None:
        """Close (+1) or open (-1)."""
        for finger in self.joints:
            pybullet.setJointMotorControl2(
                self._body,
                finger,
                pybullet.POSITION_CONTROL,
                targetPosition=0.0 if gripper > 0.0 else 0.5 * MAX_OPENING_M,
                force=_FINGER_FORCE_N,
                maxVelocity=_FINGER_SPEED_M_S,
                physicsClientId=self._world.client,
            )

    def opening(self, joints: Array) -> float:
        """Return the distance between the fingers, m, given the arm's `joints`."""
        return float(joints[-2] + joints[-1])

    def memory(self) -> list[float]:
        """Return what joints do not tell: nothing."""
        return []

    def recall(self, memory: Array, gripper: float) -> None:
        """Come back to a `memory`."""
        self.drive(gripper)


class Cup:
    """A suction cup: a fixed joint of limited force to what its mouth lies on, made and broken on command.

    Attributes:
        joints: none.
        seeks: whether `drive` must be called in every step: while it sucks and holds nothing.
        holding: PyBullet's id of the body it holds, -1 for none.
    """

    joints: tuple[int, ...] = ()

    def __init__(self, world: World) -> None:
        """Make a hand for a robot in a world."""
        self._world = world
        self._body = self._link = self._joint = -1
        self.holding = -1
        self._grip: tuple[Sequence[float], Sequence[float]] = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
        self._sucks = False

    @property
    def seeks(self) -> bool:
        """Whether `drive` must be called in every step."""
        return self._sucks and self.holding < 0

    def find(self, indices: Mapping[str, int]) -> None:
        """Look up the cup: indices by name."""
        self._link = indices[CUP_LINK]

    def build(self, body: int) -> None:
        """Start with nothing held, on a robot that was just loaded."""
        self._body, self._joint, self.holding, self._sucks = body, -1, -1, False

    def drive(self, gripper: float) -> None:
        """Suck (+1): hold what lies flat before the mouth, once something does. Let go (-1)."""
        self._sucks = gripper > 0.0
        if not self._sucks:
            self._let_go()
        elif self.holding < 0:
            body = self._before_mouth()
            if body >= 0:
                self._hold(body, *self._relative(body))

    def opening(self, joints: Array) -> float:
        """Return 1 while nothing is held, else 0."""
        return 1.0 if self.holding < 0 else 0.0

    def memory(self) -> list[float]:
        """Return which of the world's bodies is held (-1 for none) and its pose in the cup's frame."""
        if self.holding < 0:
            return [-1.0] + [0.0] * 6 + [1.0]
        return [float(self._world.bodies.index(self.holding)), *self._grip[0], *self._grip[1]]

    def recall(self, memory: Array, gripper: float) -> None:
        """Come back to a `memory`."""
        self._let_go()
        self._sucks = gripper > 0.0
        if memory[0] >= 0.0:
            self._hold(self._world.bodies[int(memory[0])], memory[1:4].tolist(), memory[4:8].tolist())

    def _before_mouth(self) -> int:
        """Return the nearest body that lies flat before the mouth and can move, or -1."""
        client = self._world.client
        mouth = pybullet.getLinkState(self._body, self._link, 0, 1, client)
        x, y, z, w = mouth[5]
        reach = (2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y))
        found = []
        for body in self._world.bodies:
            for point in pybullet.getClosestPoints(self._body, body, CUP_GAP_M, self._link, -1, physicsClientId=client):
                flat = -sum(a * b for a, b in zip(point[7], reach, strict=True)) > CUP_COSINE
                if flat and pybullet.getDynamicsInfo(body, -1, client)[0] > 0.0:
                    found.append((point[8], body))
        return min(found)[1] if found else -1

    def _relative(self, body: int) -> tuple[Sequence[float], Sequence[float]]:
        """Return a body's pose in the cup's frame."""
        client = self._world.client
        mouth = pybullet.getLinkState(self._body, self._link, 0, 1, client)
        inverse = pybullet.invertTransform(mouth[4], mouth[5])
        pose = pybullet.getBasePositionAndOrientation(body, client)
        position, quaternion = pybullet.multiplyTransforms(*inverse, *pose)
        return position, quaternion

    def _hold(self, body: int, position: Sequence[float], quaternion: Sequence[float]) -> None:
        client = self._world.client
        self._joint = pybullet.createConstraint(
            self._body,
            self._link,
            body,
            -1,
            pybullet.JOINT_FIXED,
            [0, 0, 0],
            position,
            [0, 0, 0],
            quaternion,
            [0, 0, 0, 1],
            physicsClientId=client,
        )
        pybullet.changeConstraint(self._joint, maxForce=CUP_FORCE_N, physicsClientId=client)
        self.holding, self._grip = body, (position, quaternion)

    def _let_go(self) -> None:
        if self.holding >= 0:
            pybullet.removeConstraint(self._joint, physicsClientId=self._world.client)
        self._joint = self.holding = -1
