"""An owned PyBullet client: built anew for every episode, read once per control step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shopfloor.envs.engine import pybullet

Array = npt.NDArray[np.float64]
Vector = Sequence[float]

SUBSTEPS = 12
SUBSTEP_S = 1.0 / 240.0
SOLVER_ITERATIONS = 12
GRAVITY = -9.81
TABLE_SIZE_M = (1.5, 1.6, 0.05)
TABLE_CENTRE_M = (0.45, 0.0)
TABLE_RGB = (0.55, 0.57, 0.60)
# Measured: with the fingers geared together these hold a part without drift; lateral friction 0.5 lets it slip.
FRICTION = 1.0
SPINNING_FRICTION = 0.005
ROLLING_FRICTION = 0.0005
UPRIGHT = (0.0, 0.0, 0.0, 1.0)
BODY_STATE = 13
# Of radius 1 and height 1, with sharp rims: the renderer rounds its own cylinders. A file, because PyBullet never frees
# the memory of meshes that are handed to it as lists (50 kB each).
CYLINDER_MESH = Path(__file__).parent / "assets" / "cylinder.obj"


@dataclass(frozen=True)
class Shape:
    """One box or upright cylinder of a body.

    Attributes:
        kind: "box" or "cylinder" (axis along z).
        size: full extents x, y, z, m; a cylinder's x is its diameter.
        position: centre in the body's frame, m.
        yaw: turn about the body's z axis, rad.
    """

    kind: str
    size: tuple[float, float, float]
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 0.0


class World:
    """A PyBullet client with a table whose top is the plane z = 0; the world frame is the robot's base frame.

    Attributes:
        client: PyBullet's physicsClientId; every call must pass it.
        bodies: ids of the bodies whose poses an episode changes, in the order they were added.
        rows: the last `read` in plain floats: per body position, quaternion xyzw, linear and angular velocity.
        poses: shape (B, 7), float64, position (m) and quaternion xyzw of each body at the last `read`.
        velocities: shape (B, 6), float64, linear (m/s) and angular (rad/s) velocity at the last `read`.
    """

    def __init__(self) -> None:
        """Open a client and build the table."""
        self.client: int = pybullet.connect(pybullet.DIRECT)
        if self.client < 0:
            raise RuntimeError("PyBullet gave no client: too many worlds are open in this process; close some.")
        self.bodies: list[int] = []
        self.poses: Array = np.zeros((0, 7))
        self.velocities: Array = np.zeros((0, 6))
        self.rows: list[tuple[float, ...]] = []
        self._states: Array = np.zeros((0, BODY_STATE))
        self._pristine = -1
        self._build()

    def _build(self) -> None:
        pybullet.setPhysicsEngineParameter(
            fixedTimeStep=SUBSTEP_S,
            numSolverIterations=SOLVER_ITERATIONS,
            deterministicOverlappingPairs=1,
            enableFileCaching=1,
            physicsClientId=self.client,
        )
        pybullet.setGravity(0, 0, GRAVITY, physicsClientId=self.client)
        x, y = TABLE_CENTRE_M
        self.table = self._create([Shape("box", TABLE_SIZE_M)], [(*TABLE_RGB, 1.0)], 0.0, (x, y, -TABLE_SIZE_M[2] / 2))

    def clear(self) -> None:
        """Throw everything away but the table, as in a new world; build the rest again in the same order.

        Nothing less brings a used world back: Bullet keeps the trees of its broad phase, pairs that no longer overlap
        and the order of contacts, and these decide the last digit of what happens next. Body ids come out the same.
        """
        pybullet.resetSimulation(physicsClientId=self.client)
        self.bodies.clear()
        self._build()

    def add(
        self, shapes: Sequence[Shape], colours: Sequence[Vector], mass_kg: float, position: Vector = (0.0, 0.0, 5.0)
    ) -> int:
        """Add a body that episodes place; a cylinder must be its only shape, at its centre.

        Args:
            shapes: what it is made of.
            colours: red, green, blue, alpha in [0, 1] per shape.
            mass_kg: 0 for a body that nothing can push.
            position: where it waits until it is placed, m; keep waiting bodies apart.

        Returns:
            PyBullet's body id.
        """
        position = (position[0] + 0.5 * len(self.bodies), position[1], position[2])
        body = self._create(shapes, colours, mass_kg, position)
        self.bodies.append(body)
        return body

    def _create(self, shapes: Sequence[Shape], colours: Sequence[Vector], mass_kg: float, position: Vector) -> int:
        kinds = [pybullet.GEOM_BOX if shape.kind == "box" else pybullet.GEOM_CYLINDER for shape in shapes]
        halves = [[0.5 * edge for edge in shape.size] for shape in shapes]
        radii = [0.5 * shape.size[0] for shape in shapes]
        heights = [shape.size[2] for shape in shapes]
        centres = [shape.position for shape in shapes]
        turns = [[0.0, 0.0, math.sin(0.5 * shape.yaw), math.cos(0.5 * shape.yaw)] for shape in shapes]
        collision = pybullet.createCollisionShapeArray(
            shapeTypes=kinds,
            halfExtents=halves,
            radii=radii,
            lengths=heights,
            collisionFramePositions=centres,
            collisionFrameOrientations=turns,
            physicsClientId=self.client,
        )
        if shapes[0].kind == "cylinder":
            visual = pybullet.createVisualShape(
                pybullet.GEOM_MESH,
                fileName=str(CYLINDER_MESH),
                meshScale=[radii[0], radii[0], heights[0]],
                rgbaColor=list(colours[0]),
                physicsClientId=self.client,
            )
        else:
            visual = pybullet.createVisualShapeArray(
                shapeTypes=kinds,
                halfExtents=halves,
                radii=radii,
                lengths=heights,
                visualFramePositions=centres,
                visualFrameOrientations=turns,
                rgbaColors=[list(colour) for colour in colours],
                physicsClientId=self.client,
            )
        body: int = pybullet.createMultiBody(mass_kg, collision, visual, position, physicsClientId=self.client)
        pybullet.changeDynamics(
            body,
            -1,
            lateralFriction=FRICTION,
            spinningFriction=SPINNING_FRICTION,
            rollingFriction=ROLLING_FRICTION,
            physicsClientId=self.client,
        )
        return body

    def seal(self) -> None:
        """Remember the built world; `restore` comes back to it."""
        self._pristine = pybullet.saveState(physicsClientId=self.client)

    def restore(self) -> None:
        """Put every body back where it was built; good for looking, but see `clear` for what of the past survives."""
        pybullet.restoreState(self._pristine, physicsClientId=self.client)
        pybullet.performCollisionDetection(physicsClientId=self.client)

    def place(self, body: int, position: Vector, quaternion: Vector = UPRIGHT, velocity: Vector | None = None) -> None:
        """Put a body somewhere.

        Args:
            body: its id.
            position: m.
            quaternion: x, y, z, w.
            velocity: linear (m/s) and angular (rad/s), 6 numbers; None for rest.
        """
        pybullet.resetBasePositionAndOrientation(body, position, quaternion, physicsClientId=self.client)
        linear, angular = ((0, 0, 0), (0, 0, 0)) if velocity is None else (velocity[:3], velocity[3:])
        pybullet.resetBaseVelocity(body, linear, angular, physicsClientId=self.client)

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
        client = self.client
        pose, velocity = pybullet.getBasePositionAndOrientation, pybullet.getBaseVelocity
        rows = []
        for body in self.bodies:
            position, quaternion = pose(body, client)
            linear, angular = velocity(body, client)
            rows.append(position + quaternion + linear + angular)
        self.rows = rows
        self._states = np.array(rows)
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
        """Return the bodies' state of the last `read`, shape (13 B,), float64: pose and velocity of each."""
        return self._states.ravel()

    def set_sim_state(self, state: Array) -> None:
        """Put every body where `sim_state` found it."""
        for body, row in zip(self.bodies, state.reshape(-1, BODY_STATE).tolist(), strict=True):
            self.place(body, row[:3], row[3:7], row[7:])

    def colour(self, body: int, rgba: Vector) -> None:
        """Change the colour of all of a body's shapes; seen in pictures only."""
        pybullet.changeVisualShape(body, -1, rgbaColor=list(rgba), physicsClientId=self.client)

    def close(self) -> None:
        """Close the client; closing twice is harmless."""
        if self.client >= 0:
            pybullet.disconnect(physicsClientId=self.client)
            self.client = -1
