"""Pictures of a world, from a second PyBullet client that holds its looks and no physics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

import shopfloor
from shopfloor.envs.looks.camera import Camera, Light, View
from shopfloor.envs.looks.gl.renderer import GlRenderer
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.kinematics import yaw_quaternion
from shopfloor.envs.physics.shapes import Shape
from shopfloor.envs.physics.textures import texture_file, texture_pixels
from shopfloor.envs.physics.world import Built, World, extents, link_on, movable

# Of radius 1 and height 1, with sharp rims: the renderer rounds its own cylinders. A file, because
# PyBullet never frees the memory of meshes that are handed to it as lists (50 kB each).
CYLINDER_MESH = Path(shopfloor.__file__).parent / "envs" / "assets" / "cylinder.obj"


class Drawing:
    """Looks of one world: made at the first picture, kept while the world has the same bodies.

    Attributes:
        client: PyBullet's physicsClientId, -1 before the first picture. Body and link ids are the
            world's.
    """

    def __init__(self, renderer: str = "tiny", *, shadows: bool = False) -> None:
        """Start with nothing.

        Args:
            renderer: "tiny", PyBullet's own, or "gl" (`shopfloor.envs.looks.gl.renderer`).
            shadows: whether the lamp casts them.

        Raises:
            MissingDependencyError: "gl" without what it needs.
        """
        self.client = -1
        self._shadows = shadows
        self._gl = GlRenderer() if renderer == "gl" else None
        self._built: list[Built] = []
        self._builds = -1
        self._joints: list[list[int]] = []
        self._dress: tuple[dict[int, tuple[float, ...]], dict[int, str]] = ({}, {})
        self._textures: dict[str, int] = {}
        self._textured: dict[int, str] = {}

    def follow(self, world: World) -> None:
        """Take over how a world looks right now."""
        self._restyle(world)
        self._pose(world)

    def _restyle(self, world: World) -> bool:
        """Take over what a world is made of and its colours; return whether either changed."""
        changed = False
        if self.client < 0 or (self._builds != world.builds and self._built != world.built):
            self._make(world)
            changed = True
        self._builds = world.builds
        if (world.colours, world.textures) != self._dress:
            self._put_on(world)
            changed = True
        return changed

    def _pose(self, world: World) -> None:
        """Put every body and joint where the world has it."""
        client, mirrored = world.client, self.client
        for body in range(len(self._built)):
            position, quaternion = pybullet.getBasePositionAndOrientation(body, client)
            pybullet.resetBasePositionAndOrientation(body, position, quaternion, mirrored)
            joints = self._joints[body]
            if joints:
                states = pybullet.getJointStates(body, joints, client)
                values = [[state[0]] for state in states]
                pybullet.resetJointStatesMultiDof(body, joints, values, physicsClientId=mirrored)

    def look(
        self,
        world: World,
        camera: Camera,
        extrinsics: npt.NDArray[np.float64],
        size: tuple[int, int],
        light: Light,
    ) -> View:
        """Draw a world.

        Args:
            world: as it is right now.
            camera: field of view and range.
            extrinsics: shape (4, 4), of `Camera.extrinsics`.
            size: height and width, pixels.
            light: of the episode.
        """
        if self._gl is not None:
            if self._restyle(world):
                self._gl.refresh(self.client)
                for body, name in self._textured.items():
                    self._gl.set_texture(self.client, body, texture_pixels(name) if name else None)

            near, far = camera.near_m, camera.far_m
            return self._gl.draw(
                self.client,
                extrinsics,
                camera.fov_deg,
                size,
                light,
                shadows=self._shadows,
                near_m=near,
                far_m=far,
                poses=world.client,
            )

        self.follow(world)
        height, width = size
        rotation, eye = extrinsics[:3, :3], extrinsics[:3, 3]
        axes = rotation.T * [[1.0], [-1.0], [-1.0]]  # OpenGL looks along -z, y up
        view = np.eye(4)
        view[:3, :3], view[:3, 3] = axes, -axes @ eye
        near, far = camera.near_m, camera.far_m

        _, _, rgba, buffer, ids = pybullet.getCameraImage(
            width,
            height,
            view.T.ravel().tolist(),
            pybullet.computeProjectionMatrixFOV(camera.fov_deg, width / height, near, far),
            lightDirection=light.direction,
            lightColor=light.colour,
            lightDistance=2.0,
            shadow=int(self._shadows),
            lightAmbientCoeff=light.ambient,
            lightDiffuseCoeff=light.diffuse,
            lightSpecularCoeff=0.05,
            renderer=pybullet.ER_TINY_RENDERER,
            flags=pybullet.ER_SEGMENTATION_MASK_OBJECT_AND_LINKINDEX,
            physicsClientId=self.client,
        )

        picture = np.asarray(rgba, np.uint8).reshape(height, width, 4)[:, :, :3]
        share = np.asarray(buffer, np.float32).reshape(height, width)
        depth = np.float32(near * far) / (np.float32(far) - np.float32(far - near) * share)
        return View(
            np.ascontiguousarray(picture), depth, np.asarray(ids, np.int32).reshape(height, width)
        )

    def close(self) -> None:
        """Close the client; closing twice is harmless."""
        if self.client >= 0:
            if self._gl is not None:
                self._gl.forget(self.client)
            pybullet.disconnect(physicsClientId=self.client)
            self.client = -1

    def _make(self, world: World) -> None:
        if self.client < 0:
            self.client = pybullet.connect(pybullet.DIRECT)
            if self.client < 0:
                raise RuntimeError(
                    "PyBullet gave no client: too many worlds are open in this process; close some."
                )
        else:
            pybullet.resetSimulation(physicsClientId=self.client)

        pybullet.setPhysicsEngineParameter(enableFileCaching=1, physicsClientId=self.client)
        self._built = list(world.built)
        self._dress, self._textures = ({}, {}), {}
        self._joints = []

        for built in self._built:
            body = self._robot(built) if built.urdf else self._body(built)
            self._joints.append(movable(body, self.client))

    def _robot(self, built: Built) -> int:
        body: int = pybullet.loadURDF(
            str(built.urdf),
            built.position,
            built.quaternion,
            useFixedBase=True,
            physicsClientId=self.client,
        )
        return body

    def _body(self, built: Built) -> int:
        visual, position = self._visual(built), built.position
        if built.slide is not None:
            return link_on(position, 1.0, -1, visual, built.slide.axis, self.client)
        body: int = pybullet.createMultiBody(0.0, -1, visual, position, physicsClientId=self.client)
        return body

    def _visual(self, built: Built) -> int:
        shapes: tuple[Shape, ...] = built.shapes
        visual: int
        if shapes[0].kind == "cylinder":
            radius = 0.5 * shapes[0].size[0]
            visual = pybullet.createVisualShape(
                pybullet.GEOM_MESH,
                fileName=str(CYLINDER_MESH),
                meshScale=[radius, radius, shapes[0].size[2]],
                rgbaColor=list(built.colours[0]),
                physicsClientId=self.client,
            )

            return visual

        visual = pybullet.createVisualShapeArray(
            shapeTypes=[pybullet.GEOM_BOX] * len(shapes),
            **extents(shapes),
            visualFramePositions=[shape.position for shape in shapes],
            visualFrameOrientations=[yaw_quaternion(shape.yaw) for shape in shapes],
            rgbaColors=[list(colour) for colour in built.colours],
            physicsClientId=self.client,
        )

        return visual

    def _put_on(self, world: World) -> None:
        _, textures = self._dress
        for body, rgba in world.colours.items():
            link = 0 if world.built[body].slide else -1
            pybullet.changeVisualShape(
                body, link, rgbaColor=list(rgba), physicsClientId=self.client
            )

        self._textured = {}
        for body in {*world.textures, *textures}:
            self._textured[body] = world.textures.get(body, "")

        for body, name in self._textured.items():
            pybullet.changeVisualShape(
                body, -1, textureUniqueId=self._texture(name), physicsClientId=self.client
            )
        self._dress = (dict(world.colours), dict(world.textures))

    def _texture(self, name: str) -> int:
        if name not in self._textures:
            loaded = -1
            if name:
                file = str(texture_file(name))
                loaded = int(pybullet.loadTexture(file, physicsClientId=self.client))
            self._textures[name] = loaded
        return self._textures[name]
