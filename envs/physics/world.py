"""An owned PyBullet client: brought back to how it was built for every episode, read once per control step.

It holds no looks: what is drawn lies in a second client (`drawing`), so that building it stays
cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.kinematics import yaw_quaternion
from shopfloor.envs.physics.shapes import (
    STEADY_INERTIA,
    TABLE,
    Ground,
    Shape,
    Slide,
    Vector,
    box_inertia,
)

Array = npt.NDArray[np.float64]

SUBSTEPS = 12
SUBSTEP_S = 1.0 / 240.0
SOLVER_ITERATIONS = 12
GRAVITY = -9.81
# Measured: with the fingers geared together these hold a part without drift; lateral friction 0.5
# lets it slip.
FRICTION = 1.0
SPINNING_FRICTION = 0.005
# Friction against rolling, for round bodies only: it adds two solver rows a contact, a quarter of
# the step.
ROLLING_FRICTION = 0.001
UPRIGHT = (0.0, 0.0, 0.0, 1.0)
BODY_STATE = 13
_APART_M = 30.0  # more than any body's size
# Bits: Bullet's own for what nothing moves, and the one before those of robots.
_STATIC_GROUP, _ROBOT_GROUP = 2, 32


@dataclass(frozen=True)
class Built:
    """What a body was made of, for those who draw it.

    Attributes:
        urdf: a robot's file, or None.
        shapes: of every other body.
        colours: red, green, blue, alpha per shape.
        position, quaternion: of the base where it was built; of use for robots.
        slide: for a body that slides.
    """

    urdf: Path | None
    shapes: tuple[Shape, ...]
    colours: tuple[tuple[float, ...], ...]
    position: tuple[float, ...]
    quaternion: tuple[float, ...]
    slide: Slide | None = None


class World:
    """A PyBullet client with a table or floor whose top is the plane z = 0.

    Attributes:
        client: PyBullet's physicsClientId; every call must pass it.
        ground: PyBullet's id of the table or floor.
        bodies: ids of the bodies whose poses an episode changes, in the order they were added.
        built: how each body of the client came to be, by id; ids count from 0.
        colours: id -> red, green, blue, alpha for all shapes of a body; seen in pictures only.
        textures: id -> name of the texture of a body; seen in pictures only.
        builds: how often the world was built.
        rows: the last `read` in plain floats: per body position, quaternion xyzw, linear and
            angular velocity.
        poses: shape (B, 7), float64, position (m) and quaternion xyzw of each body at the last
            `read`.
        velocities: shape (B, 6), float64, linear (m/s) and angular (rad/s) velocity at the last
            `read`.
    """

    def __init__(self, ground: Ground = TABLE) -> None:
        """Open a client and build the ground."""
        self.client: int = pybullet.connect(pybullet.DIRECT)
        if self.client < 0:
            raise RuntimeError(
                "PyBullet gave no client: too many worlds are open in this process; close some."
            )

        self._ground = ground
        self.bodies: list[int] = []
        self.built: list[Built] = []
        self.colours: dict[int, tuple[float, ...]] = {}
        self.textures: dict[int, str] = {}
        self.builds = 0
        self.poses: Array = np.zeros((0, 7))
        self.velocities: Array = np.zeros((0, 6))
        self.rows: list[tuple[float, ...]] = []
        self._slides: dict[int, Slide] = {}
        # The row of each body that nothing pushes; None until it is read where it stands.
        self._fixed: dict[int, tuple[float, ...] | None] = {}
        self._states: Array = np.zeros((0, BODY_STATE))
        self._robots: dict[int, list[int]] = {}
        self._homes: list[tuple[Vector, Vector]] = []
        self._build()

    def _build(self) -> None:
        # The usual broad phase keeps trees whose shape depends on all that ever moved.
        pybullet.resetSimulation(
            flags=pybullet.RESET_USE_SIMPLE_BROADPHASE, physicsClientId=self.client
        )

        pybullet.setPhysicsEngineParameter(
            fixedTimeStep=SUBSTEP_S,
            numSolverIterations=SOLVER_ITERATIONS,
            deterministicOverlappingPairs=1,
            enableFileCaching=1,
            physicsClientId=self.client,
        )

        pybullet.setGravity(0, 0, GRAVITY, physicsClientId=self.client)
        ground = self._ground
        (x, y), depth = ground.centre, ground.size[2]
        self.ground = self._create(
            [Shape("box", ground.size)], [(*ground.rgb, 1.0)], 0.0, (x, y, -depth / 2)
        )
        self.builds += 1

    def clear(self) -> None:
        """Remove everything but the ground, as in a new world; other bodies may be built next."""
        self.bodies.clear()
        self.built.clear()
        self.colours.clear()
        self.textures.clear()
        self._slides.clear()
        self._fixed.clear()
        self._robots.clear()
        self._homes.clear()
        self._build()

    def add(
        self,
        shapes: Sequence[Shape],
        colours: Sequence[Vector],
        mass_kg: float,
        position: Vector = (0.0, 0.0, 5.0),
    ) -> int:
        """Add a body that episodes place; a cylinder must be its only shape, at its centre.

        Args:
            shapes: what it is made of.
            colours: red, green, blue, alpha in [0, 1] per shape.
            mass_kg: 0 for a body that nothing can push: `place` alone moves it, and it is read
                again only after that.
            position: where it waits until it is placed, m; keep waiting bodies apart.

        Returns:
            PyBullet's body id.
        """
        position = (position[0] + 0.5 * len(self.bodies), position[1], position[2])
        body = self._create(shapes, colours, mass_kg, position)
        self.bodies.append(body)
        if not mass_kg:
            self._fixed[body] = None

        return body

    def add_fixed(self, shapes: Sequence[Shape], rgb: Vector) -> int:
        """Add a body of one colour that nothing can push; see `add`.

        Args:
            shapes: what it is made of.
            rgb: colour in [0, 1].
        """
        return self.add(shapes, [(*rgb, 1.0)] * len(shapes), 0.0)

    def make_intangible(self, body: int) -> None:
        """Let nothing touch a body that is there to be seen only, such as a lamp's light."""
        pybullet.setCollisionFilterGroupMask(body, -1, 0, 0, physicsClientId=self.client)

    def add_box(self, size: tuple[float, float, float], rgb: Vector, mass_kg: float) -> int:
        """Add a box with more inertia than its mass has, so that it sways less in the hand; see `add`.

        Args:
            size: full extents, m.
            rgb: colour in [0, 1].
            mass_kg: of the box.
        """
        body = self.add([Shape("box", size)], [(*rgb, 1.0)], mass_kg)
        inertia = box_inertia(size, mass_kg, STEADY_INERTIA)
        pybullet.changeDynamics(body, -1, localInertiaDiagonal=inertia, physicsClientId=self.client)
        return body

    def add_sliding(
        self, shapes: Sequence[Shape], colours: Sequence[Vector], mass_kg: float, slide: Slide
    ) -> int:
        """Add a body that slides on a fixed frame; `place` puts the frame somewhere, with the body at way 0.

        Args:
            shapes: boxes it is made of.
            colours: red, green, blue, alpha in [0, 1] per shape.
            mass_kg: of the body.
            slide: how it moves.

        Returns:
            PyBullet's body id; its row in `poses` is the body's pose, not the frame's.
        """
        collision = self._collision(shapes)
        position = (0.5 * len(self.bodies), 0.0, 5.0)
        body = link_on(position, mass_kg, collision, -1, slide.axis, self.client)

        pybullet.changeDynamics(
            body,
            0,
            lateralFriction=FRICTION,
            jointLowerLimit=slide.low,
            jointUpperLimit=slide.high,
            physicsClientId=self.client,
        )

        pybullet.setJointMotorControl2(
            body,
            0,
            pybullet.POSITION_CONTROL if slide.spring_n else pybullet.VELOCITY_CONTROL,
            targetPosition=0.0,
            targetVelocity=0.0,
            force=slide.spring_n or slide.friction_n,
            physicsClientId=self.client,
        )

        self.bodies.append(body)
        self._slides[body] = slide
        self.built.append(_built(shapes, colours, position, slide))
        return body

    def add_robot(
        self, urdf: Path, position: Vector = (0.0, 0.0, 0.0), quaternion: Vector = UPRIGHT
    ) -> int:
        """Load a robot with a fixed base, without its looks, and return PyBullet's body id."""
        body: int = pybullet.loadURDF(
            str(urdf),
            position,
            quaternion,
            useFixedBase=True,
            flags=pybullet.URDF_IGNORE_VISUAL_SHAPES,
            physicsClientId=self.client,
        )

        self.built.append(Built(urdf, (), (), tuple(position), tuple(quaternion)))
        self._robots[body] = movable(body, self.client)
        self._set_apart(body, _ROBOT_GROUP << len(self._robots))
        return body

    def _set_apart(self, body: int, group: int) -> None:
        """Keep a robot's links, which pass through each other, from being pairs of the broad phase."""
        change = pybullet.setCollisionFilterGroupMask
        change(body, -1, _STATIC_GROUP, ~(_STATIC_GROUP | group), self.client)
        for link in range(pybullet.getNumJoints(body, self.client)):
            change(body, link, group, ~group, self.client)

    def _collision(self, shapes: Sequence[Shape]) -> int:
        kinds, positions, orientations = [], [], []
        for shape in shapes:
            kinds.append(pybullet.GEOM_BOX if shape.kind == "box" else pybullet.GEOM_CYLINDER)
            positions.append(shape.position)
            orientations.append(yaw_quaternion(shape.yaw))

        shape_id: int = pybullet.createCollisionShapeArray(
            shapeTypes=kinds,
            **extents(shapes),
            collisionFramePositions=positions,
            collisionFrameOrientations=orientations,
            physicsClientId=self.client,
        )

        return shape_id

    def _create(
        self, shapes: Sequence[Shape], colours: Sequence[Vector], mass_kg: float, position: Vector
    ) -> int:
        collision = self._collision(shapes)
        body: int = pybullet.createMultiBody(
            mass_kg, collision, -1, position, physicsClientId=self.client
        )
        round_one = any(shape.kind == "cylinder" for shape in shapes)

        pybullet.changeDynamics(
            body,
            -1,
            lateralFriction=FRICTION,
            spinningFriction=SPINNING_FRICTION,
            rollingFriction=ROLLING_FRICTION if round_one else 0.0,
            physicsClientId=self.client,
        )

        self.built.append(_built(shapes, colours, position))
        return body

    def seal(self) -> None:
        """Remember where everything stands now that all is built; `rewind` comes back to it."""
        self._homes.clear()
        for body in range(pybullet.getNumBodies(self.client)):
            self._homes.append(pybullet.getBasePositionAndOrientation(body, self.client))
        self.rewind()

    def rewind(self) -> None:
        """Bring everything back to where it was at `seal`.

        A used world then behaves as a new one, to the last digit. On the way all bodies are far
        apart once, so that Bullet drops every contact and every pair of its broad phase: what it
        keeps of these, and in which order, decides the last digit of what happens next
        (decisions/0010).
        """
        for body, joints in self._robots.items():
            for joint in joints:
                pybullet.resetJointState(body, joint, 0.0, 0.0, physicsClientId=self.client)

        for body in range(len(self._homes)):
            self.place(body, (_APART_M * body, 0.0, -_APART_M))
        pybullet.performCollisionDetection(self.client)
        for body, home in enumerate(self._homes):
            self.place(body, *home)

    def place(
        self,
        body: int,
        position: Vector,
        quaternion: Vector = UPRIGHT,
        velocity: Vector | None = None,
    ) -> None:
        """Put a body somewhere (a sliding one's frame, with the body at way 0).

        Args:
            body: its id.
            position: m.
            quaternion: x, y, z, w.
            velocity: linear (m/s) and angular (rad/s), 6 numbers; None for rest.
        """
        pybullet.resetBasePositionAndOrientation(
            body, position, quaternion, physicsClientId=self.client
        )
        if body in self._fixed:
            self._fixed[body] = None

        if body in self._slides:
            pybullet.resetJointState(body, 0, 0.0, 0.0, physicsClientId=self.client)
            return

        if velocity is None:
            velocity = (0, 0, 0, 0, 0, 0)
        linear, angular = velocity[:3], velocity[3:]
        pybullet.resetBaseVelocity(body, linear, angular, physicsClientId=self.client)

    def slide_to(self, body: int, way_m: float, speed_m_s: float = 0.0) -> None:
        """Put a sliding body somewhere along its way."""
        pybullet.resetJointState(body, 0, way_m, speed_m_s, physicsClientId=self.client)

    def way_m(self, body: int) -> float:
        """Return how far a sliding body has slid right now, m."""
        return float(pybullet.getJointState(body, 0, physicsClientId=self.client)[0])

    def substep(self) -> None:
        """Advance by 1/240 s."""
        pybullet.stepSimulation(physicsClientId=self.client)

    def control_step(self) -> None:
        """Advance by 1/20 s."""
        step, client = pybullet.stepSimulation, self.client
        for _ in range(SUBSTEPS):
            step(client)

    def read(self) -> None:
        """Refresh `poses` and `velocities`."""
        client, slides, fixed = self.client, self._slides, self._fixed
        pose, velocity = pybullet.getBasePositionAndOrientation, pybullet.getBaseVelocity
        rows = []

        for body in self.bodies:
            row = fixed.get(body)
            if row is None:
                if body in slides:
                    _, _, _, _, position, quaternion, linear, angular = pybullet.getLinkState(
                        body, 0, 1, 1, client
                    )
                else:
                    position, quaternion = pose(body, client)
                    linear, angular = velocity(body, client)

                row = position + quaternion + linear + angular
                if body in fixed:
                    fixed[body] = row

            rows.append(row)

        self.rows = rows
        self._states = np.fromiter(
            chain.from_iterable(rows), float, BODY_STATE * len(rows)
        ).reshape(-1, BODY_STATE)
        self.poses, self.velocities = self._states[:, :7], self._states[:, 7:]

    def touching(self, first: int, second: int) -> bool:
        """Return whether two bodies had a contact point in the last substep."""
        return bool(pybullet.getContactPoints(first, second, physicsClientId=self.client))

    def overlap_m(self, body: int) -> float:
        """Return how deep a body sits in anything else right now, m (0 where it is free)."""
        pybullet.performCollisionDetection(physicsClientId=self.client)
        points = pybullet.getContactPoints(body, physicsClientId=self.client)
        return max((-float(point[8]) for point in points), default=0.0)

    def sim_state(self) -> Array:
        """Return the bodies' state of the last `read`, shape (13 B,), float64.

        Pose and velocity of each; of a sliding body the pose of its frame, the way and the speed
        along it, and zeros.
        """
        if not self._slides:
            return self._states.reshape(-1)

        states = self._states.copy()
        for body in self._slides:
            position, quaternion = pybullet.getBasePositionAndOrientation(body, self.client)
            way, speed = pybullet.getJointState(body, 0, self.client)[:2]
            row = (*position, *quaternion, way, speed, 0.0, 0.0, 0.0, 0.0)
            states[self.bodies.index(body)] = row

        flat: Array = states.reshape(-1)
        return flat

    def set_sim_state(self, state: Array) -> None:
        """Put every body where `sim_state` found it."""
        for body, row in zip(self.bodies, state.reshape(-1, BODY_STATE).tolist(), strict=True):
            self.place(body, row[:3], row[3:7], row[7:])
            if body in self._slides:
                self.slide_to(body, row[7], row[8])

    def colour(self, body: int, rgba: Vector) -> None:
        """Change the colour of all of a body's shapes; seen in pictures only."""
        self.colours[body] = tuple(rgba)

    def close(self) -> None:
        """Close the client; closing twice is harmless."""
        if self.client >= 0:
            pybullet.disconnect(physicsClientId=self.client)
            self.client = -1


def _built(
    shapes: Sequence[Shape], colours: Sequence[Vector], position: Vector, slide: Slide | None = None
) -> Built:
    rgba = tuple(map(tuple, colours))
    return Built(None, tuple(shapes), rgba, tuple(position), UPRIGHT, slide)


def indices(body: int, client: int) -> dict[str, int]:
    """Return the index of every joint and link of a robot by its name."""
    found = {}
    for index in range(pybullet.getNumJoints(body, client)):
        info = pybullet.getJointInfo(body, index, client)
        found[info[1].decode()] = found[info[12].decode()] = index
    return found


def movable(body: int, client: int) -> list[int]:
    """Return the indices of a body's joints that are not fixed."""
    found = []
    for joint in range(pybullet.getNumJoints(body, client)):
        if pybullet.getJointInfo(body, joint, client)[2] != pybullet.JOINT_FIXED:
            found.append(joint)
    return found


def extents(shapes: Sequence[Shape]) -> dict[str, list[Any]]:
    """Return the sizes of shapes as PyBullet's functions that make arrays of shapes take them."""
    halves, radii, lengths = [], [], []
    for shape in shapes:
        x, y, z = shape.size
        halves.append([0.5 * x, 0.5 * y, 0.5 * z])
        radii.append(0.5 * x)
        lengths.append(z)

    return {"halfExtents": halves, "radii": radii, "lengths": lengths}


def link_on(
    position: Vector, mass_kg: float, collision: int, visual: int, axis: Vector, client: int
) -> int:
    """Make a body of one link that slides on a fixed frame, and return PyBullet's id.

    Args:
        position: of the frame, m.
        mass_kg: of the link.
        collision: shape, or -1.
        visual: shape, or -1.
        axis: unit vector along which it slides.
        client: PyBullet's physicsClientId.
    """
    body: int = pybullet.createMultiBody(
        0.0,
        -1,
        -1,
        position,
        linkMasses=[mass_kg],
        linkCollisionShapeIndices=[collision],
        linkVisualShapeIndices=[visual],
        linkPositions=[[0, 0, 0]],
        linkOrientations=[[0, 0, 0, 1]],
        linkInertialFramePositions=[[0, 0, 0]],
        linkInertialFrameOrientations=[[0, 0, 0, 1]],
        linkParentIndices=[0],
        linkJointTypes=[pybullet.JOINT_PRISMATIC],
        linkJointAxis=[list(axis)],
        physicsClientId=client,
    )

    return body
