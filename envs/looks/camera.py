"""Views of a work cell: fixed ones and ones that ride on a robot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shopfloor.core import InvalidInputError

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

MIN_SIZE_PX, MAX_SIZE_PX = 16, 2048


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
        on_tool: whether it rides on a robot: on an arm's tool, or on a base; `eye` and `target` are
            then in that frame.
        member: on which of the cell's robots.
        near_m, far_m: nothing nearer or farther is seen.
    """

    name: str
    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)
    fov_deg: float = 51.0
    on_tool: bool = False
    member: int = 0
    near_m: float = 0.01
    far_m: float = 3.0

    def extrinsics(self, tool_position: Array, tool_rotation: Array) -> Array:
        """Return camera to world, shape (4, 4), float64, m, OpenCV axes: x right, y down, z ahead.

        Args:
            tool_position: shape (3,), m, world frame, of the robot on which it rides; not used by
                others.
            tool_rotation: shape (3, 3), likewise.
        """
        eye, target, up = np.array(self.eye), np.array(self.target), np.array(self.up)
        if self.on_tool:
            eye = tool_position + tool_rotation @ eye
            target = tool_position + tool_rotation @ target
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
        """Return the pinhole matrix for a height and width: shape (3, 3), float64, pixels."""
        height, width = size
        focal = 0.5 * height / math.tan(0.5 * math.radians(self.fov_deg))
        return np.array([[focal, 0.0, 0.5 * width], [0.0, focal, 0.5 * height], [0.0, 0.0, 1.0]])


def wrist_camera(x: float = 0.085, looks_at: float = 0.02) -> Camera:
    """Return a camera beside an arm's fingers.

    Args:
        x: how far it is before and above the tool, m.
        looks_at: how far before the tool it looks, m.
    """
    return Camera(
        "wrist", eye=(x, 0.0, 0.085), target=(looks_at, 0.0, 0.0), fov_deg=80.0, on_tool=True
    )


class View(NamedTuple):
    """What a camera sees.

    Attributes:
        rgb: shape (H, W, 3), uint8.
        depth: shape (H, W), float32, m along the optical axis; the camera's `far_m` where nothing
            is.
        ids: shape (H, W), int32, body id + (link index + 1) * 2**24, -1 where nothing is.
    """

    rgb: Image
    depth: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int32]


def check_size(size: object) -> tuple[int, int]:
    """Return (height, width) as integers, or say what is wrong with them."""
    try:
        height, width = (int(edge) for edge in size)  # type: ignore[attr-defined]  # see except
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"image_size is {size!r}; expected (height, width) in pixels, such as (96, 96)."
        ) from None

    if not all(MIN_SIZE_PX <= edge <= MAX_SIZE_PX for edge in (height, width)):
        raise InvalidInputError(
            f"image_size is {height} x {width} px; expected {MIN_SIZE_PX} to {MAX_SIZE_PX} px in "
            "each direction."
        )
    return height, width
