"""Views of a work cell: fixed ones and ones that ride on the tool, drawn by PyBullet's software renderer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopfloor.core import InvalidInputError
from shopfloor.envs.engine import pybullet
from shopfloor.envs.world import World

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

MIN_SIZE_PX, MAX_SIZE_PX = 16, 2048
_NEAR_M, _FAR_M = 0.01, 3.0


@dataclass(frozen=True)
class Light:
    """The light of an episode; it changes pictures and nothing else.

    Attributes:
        direction: towards the lamp, in the base frame.
        colour: red, green, blue in [0, 1].
        ambient: share of light that comes from everywhere.
        diffuse: share that comes from the lamp.
    """

    direction: tuple[float, float, float] = (0.3, 0.4, 1.0)
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    ambient: float = 0.6
    diffuse: float = 0.45

    def to_row(self) -> list[float]:
        """Return the light as 8 numbers."""
        return [*self.direction, *self.colour, self.ambient, self.diffuse]

    @classmethod
    def from_row(cls, row: list[float]) -> Light:
        """Build a light from the numbers of `to_row`."""
        return cls((row[0], row[1], row[2]), (row[3], row[4], row[5]), row[6], row[7])


LIGHT_SIZE = 8


@dataclass(frozen=True)
class Camera:
    """A pinhole view.

    Attributes:
        name: key of its pictures in observations.
        eye: where it is, m, in the base frame or, riding on the tool, in the tool frame.
        target: what it looks at, m, in the same frame.
        up: what is up in its pictures, in the same frame.
        fov_deg: vertical field of view.
        on_tool: whether it rides on the tool.
    """

    name: str
    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)
    fov_deg: float = 51.0
    on_tool: bool = False

    def extrinsics(self, tool_position: Array, tool_rotation: Array) -> Array:
        """Return camera to world, shape (4, 4), float64, OpenCV axes (x right, y down, z forward), m."""
        eye, target, up = np.array(self.eye), np.array(self.target), np.array(self.up)
        if self.on_tool:
            eye, target = tool_position + tool_rotation @ eye, tool_position + tool_rotation @ target
            up = tool_rotation @ up
        forward = target - eye
        forward /= math.sqrt(float(forward @ forward))
        right = np.array(
            [
                forward[1] * up[2] - forward[2] * up[1],
                forward[2] * up[0] - forward[0] * up[2],
                forward[0] * up[1] - forward[1] * up[0],
            ]
        )
        right /= math.sqrt(float(right @ right))
        pose = np.eye(4)
        pose[:3, 0], pose[:3, 2], pose[:3, 3] = right, forward, eye
        pose[0, 1] = forward[1] * right[2] - forward[2] * right[1]
        pose[1, 1] = forward[2] * right[0] - forward[0] * right[2]
        pose[2, 1] = forward[0] * right[1] - forward[1] * right[0]
        return pose

    def intrinsics(self, size: tuple[int, int]) -> Array:
        """Return the pinhole matrix, shape (3, 3), float64, pixels, for pictures of (height, width)."""
        height, width = size
        focal = 0.5 * height / math.tan(0.5 * math.radians(self.fov_deg))
        return np.array([[focal, 0.0, 0.5 * width], [0.0, focal, 0.5 * height], [0.0, 0.0, 1.0]])

    def render(
        self, world: World, extrinsics: Array, size: tuple[int, int], light: Light
    ) -> tuple[Image, npt.NDArray[np.int32]]:
        """Draw the world.

        Args:
            world: what to draw.
            extrinsics: from `extrinsics`.
            size: height and width, pixels.
            light: of the episode.

        Returns:
            The picture, shape (height, width, 3), uint8, and per pixel body id + (link index + 1) * 2**24, -1 where
            nothing is, shape (height, width), int32.
        """
        height, width = size
        rotation, eye = extrinsics[:3, :3], extrinsics[:3, 3]
        axes = rotation.T * [[1.0], [-1.0], [-1.0]]  # OpenGL looks along -z, y up
        view = np.eye(4)
        view[:3, :3], view[:3, 3] = axes, -axes @ eye
        projection = pybullet.computeProjectionMatrixFOV(self.fov_deg, width / height, _NEAR_M, _FAR_M)
        _, _, rgba, _, ids = pybullet.getCameraImage(
            width,
            height,
            view.T.ravel().tolist(),
            projection,
            lightDirection=light.direction,
            lightColor=light.colour,
            lightDistance=2.0,
            shadow=0,
            lightAmbientCoeff=light.ambient,
            lightDiffuseCoeff=light.diffuse,
            lightSpecularCoeff=0.05,
            renderer=pybullet.ER_TINY_RENDERER,
            flags=pybullet.ER_SEGMENTATION_MASK_OBJECT_AND_LINKINDEX,
            physicsClientId=world.client,
        )
        picture = np.asarray(rgba, np.uint8).reshape(height, width, 4)[:, :, :3]
        return np.ascontiguousarray(picture), np.asarray(ids, np.int32).reshape(height, width)


def check_size(size: object) -> tuple[int, int]:
    """Return (height, width) as integers, or say what is wrong with them."""
    try:
        height, width = (int(edge) for edge in size)  # type: ignore[attr-defined]  # wrong types are caught below
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"image_size is {size!r}; expected (height, width) in pixels, such as (96, 96)."
        ) from None
    if not all(MIN_SIZE_PX <= edge <= MAX_SIZE_PX for edge in (height, width)):
        raise InvalidInputError(
            f"image_size is {height} x {width} px; expected {MIN_SIZE_PX} to {MAX_SIZE_PX} px in each direction."
        )
    return height, width
