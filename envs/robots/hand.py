"""Hands at the end of an arm: two fingers, or a suction cup."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from shopfloor.envs.physics import kinematics
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.shapes import Shape
from shopfloor.envs.physics.world import FRICTION, SPINNING_FRICTION, World

Array = npt.NDArray[np.float64]
Pose = tuple[Sequence[float], Sequence[float]]

MAX_OPENING_M = 0.08
FINGER_JOINTS = ("panda_finger_joint1", "panda_finger_joint2")
_FINGER_FORCE_N = 20.0
# Soft pads: with hard ones the solver lets one corner of a pad bear all of a load, and parts turn
# about it.
_PAD_N_M, _PAD_N_S_M = 1e4, 100.0
_FINGER_SPEED_M_S = 0.2
_GEAR_FORCE_N = 50.0
CUP_LINK = "suction_cup"
# 22 mm of radius at 0.6 bar of vacuum holds about 90 N; half of it leaves room for pulling aside.
CUP_FORCE_N = 45.0
CUP_GAP_M = 0.003  # from the mouth to the surface that it takes hold of
CUP_COSINE = 0.96  # a cup seals on surfaces within 16 degrees of its mouth
CUP_SLIP_M = 0.008  # pulled off by this much, it has lost the vacuum
_PRESSED_M = 0.003  # how far the mouth may be pressed into a surface
_FAR_M = 0.5  # no face of a body is further from its middle


class Fingers:
    """Two fingers, geared together, that open to `MAX_OPENING_M`.

    Attributes:
        joints: indices of the finger joints.
        seeks: False: `drive` is called when the command changes.
        holding: -1: what fingers hold is for friction to decide.
    """

    seeks = False
    holding = -1

    def __init__(self, world: World, joint_names: tuple[str, str] = FINGER_JOINTS) -> None:
        """Make a hand for a robot in a world.

        Args:
            world: of the robot.
            joint_names: of the two fingers; each slides by 0 (closed) to half of `MAX_OPENING_M`.
        """
        self._world = world
        self._names = joint_names
        self.joints: tuple[int, ...] = ()
        self._body = -1

    def find(self, indices: Mapping[str, int]) -> None:
        """Look up the joints, given the robot's indices by name."""
        self.joints = tuple(indices[name] for name in self._names)

    def build(self, body: int) -> None:
        """Prepare the fingers of a robot that was just loaded."""
        self._body = body
        client = self._world.client
        first, second = self.joints

        gear = pybullet.createConstraint(
            body,
            first,
            body,
            second,
            pybullet.JOINT_GEAR,
            [1, 0, 0],
            [0, 0, 0],
            [0, 0, 0],
            physicsClientId=client,
        )

        pybullet.changeConstraint(
            gear, gearRatio=-1, erp=0.1, maxForce=_GEAR_FORCE_N, physicsClientId=client
        )

        for finger in self.joints:
            pybullet.changeDynamics(
                body,
                finger,
                lateralFriction=FRICTION,
                spinningFriction=SPINNING_FRICTION,
                contactStiffness=_PAD_N_M,
                contactDamping=_PAD_N_S_M,
                physicsClientId=client,
            )

    def drive(self, gripper: float) -> None:
        """Close (+1) or open (-1)."""
        for finger in self.joints:
            # With an anchor friction corrects positions, not speeds alone: without, parts creep by
            # millimetres. Anchored contacts keep the normals they began with; they would hold
            # fingers shut on turned parts.
            pybullet.changeDynamics(
                self._body,
                finger,
                frictionAnchor=int(gripper > 0.0),
                physicsClientId=self._world.client,
            )

            pybullet.setJointMotorControl2(
                self._body,
                finger,
                pybullet.POSITION_CONTROL,
                targetPosition=0.0 if gripper > 0.0 else 0.5 * MAX_OPENING_M,
                force=_FINGER_FORCE_N,
                maxVelocity=_FINGER_SPEED_M_S,
                physicsClientId=self._world.client,
            )

    def release(self) -> None:
        """Let go at once: nothing to do, as nothing but friction holds."""

    def positions(self, opening_m: float) -> list[float]:
        """Return where the two joints are when the fingers are so far apart."""
        return [0.5 * opening_m] * 2

    def opening(self, joints: Array) -> float:
        """Return the distance between the fingers, m, given the arm's `joints`."""
        return float(joints[-2] + joints[-1])

    def memory(self) -> list[float]:
        """Return what the positions of joints do not show: nothing."""
        return []

    def recall(self, memory: Array, gripper: float) -> None:
        """Come back to a `memory`."""
        self.drive(gripper)


class Cup:
    """A suction cup: a fixed joint of limited force to what its mouth lies on, made and broken on command.

    It takes hold of a flat face within `CUP_GAP_M` of the mouth's centre, and loses what is pulled
    off it.

    Attributes:
        joints: none.
        seeks: whether `drive` must be called in every step: while it sucks.
        holding: PyBullet's id of the body it holds, -1 for none.
    """

    joints: tuple[int, ...] = ()

    def __init__(self, world: World) -> None:
        """Make a hand for a robot in a world."""
        self._world = world
        self._body = self._link = self._joint = -1
        self.holding = -1
        self._grip: Pose = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
        self.seeks = False

    def find(self, indices: Mapping[str, int]) -> None:
        """Look up the cup, given the robot's indices by name."""
        self._link = indices[CUP_LINK]

    def build(self, body: int) -> None:
        """Start with nothing held, on a robot that was just loaded."""
        self._body, self._joint, self.holding, self.seeks = body, -1, -1, False

    def drive(self, gripper: float) -> None:
        """Suck (+1): hold what lies flat before the mouth, once something does. Let go (-1)."""
        self.seeks = gripper > 0.0
        if self.holding >= 0 and (not self.seeks or self._slipped()):
            self._let_go()
        if self.seeks and self.holding < 0:
            body = self._before_mouth()
            if body >= 0:
                self._hold(body, self._relative(body))

    def release(self) -> None:
        """Let go at once and stop sucking."""
        self._let_go()
        self.seeks = False

    def positions(self, opening_m: float) -> list[float]:
        """Return where its joints are: it has none."""
        return []

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
        self.seeks = gripper > 0.0
        if memory[0] >= 0.0:
            self._hold(
                self._world.bodies[int(memory[0])], (memory[1:4].tolist(), memory[4:8].tolist())
            )

    def _before_mouth(self) -> int:
        """Return the nearest body that lies flat before the mouth's centre and can move, or -1."""
        client, world = self._world.client, self._world
        centre, turn = pybullet.getLinkState(self._body, self._link, 0, 1, client)[4:6]
        ahead = kinematics.matrix(turn)[:, 2]
        found = []

        for body in world.bodies:
            if world.built[body].slide or pybullet.getDynamicsInfo(body, -1, client)[0] <= 0.0:
                continue

            position, quaternion = pybullet.getBasePositionAndOrientation(body, client)
            away = np.array(centre) - position
            if float(away @ away) > _FAR_M**2:
                continue

            rotation = kinematics.matrix(quaternion)
            gaps = [
                _gap(shape, rotation.T @ away, rotation.T @ ahead)
                for shape in world.built[body].shapes
            ]
            found.append((min(gaps), body))

        gap, body = min(found, default=(math.inf, -1))
        return body if gap <= CUP_GAP_M else -1

    def _relative(self, body: int) -> Pose:
        """Return a body's pose in the frame of the cup's centre of mass, the one that constraints count from."""
        client = self._world.client
        cup = pybullet.getLinkState(self._body, self._link, 0, 1, client)
        pose = pybullet.getBasePositionAndOrientation(body, client)
        relative: Pose = pybullet.multiplyTransforms(*pybullet.invertTransform(*cup[:2]), *pose)
        return relative

    def _slipped(self) -> bool:
        """Return whether what is held has been pulled off the mouth."""
        return math.dist(self._relative(self.holding)[0], self._grip[0]) > CUP_SLIP_M

    def _hold(self, body: int, grip: Pose) -> None:
        client = self._world.client
        self._joint = pybullet.createConstraint(
            self._body,
            self._link,
            body,
            -1,
            pybullet.JOINT_FIXED,
            [0, 0, 0],
            grip[0],
            [0, 0, 0],
            grip[1],
            [0, 0, 0, 1],
            physicsClientId=client,
        )

        pybullet.changeConstraint(self._joint, maxForce=CUP_FORCE_N, physicsClientId=client)
        self.holding, self._grip = body, grip

    def _let_go(self) -> None:
        if self.holding >= 0:
            pybullet.removeConstraint(self._joint, physicsClientId=self._world.client)
        self._joint = self.holding = -1


def _gap(shape: Shape, mouth: Array, ahead: Array) -> float:
    """Return how far before a cup's mouth a flat face of a shape lies, m; infinity where none does.

    Args:
        shape: of the body.
        mouth: shape (3,), m, the mouth's centre in the body's frame.
        ahead: shape (3,), the direction in which it sucks, in the body's frame.
    """
    inward = kinematics.yaw_matrix(-shape.yaw)
    centre, along = inward @ (mouth - shape.position), inward @ ahead
    axis = int(np.argmax(np.abs(along)))
    if abs(along[axis]) < CUP_COSINE or (shape.kind == "cylinder" and axis != 2):
        return math.inf

    gap = float((math.copysign(0.5 * shape.size[axis], -along[axis]) - centre[axis]) / along[axis])
    point = centre + gap * along
    if shape.kind == "cylinder":
        over = math.hypot(point[0], point[1]) < 0.5 * shape.size[0]
    else:
        over = all(abs(point[side]) < 0.5 * shape.size[side] for side in range(3) if side != axis)

    return gap if over and gap > -_PRESSED_M else math.inf
