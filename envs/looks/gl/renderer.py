"""Pictures drawn with OpenGL (EGL, no screen), many times faster than with PyBullet's renderer.

It reproduces TinyRenderer: the same light on the same pixels. One context serves a whole process.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import InvalidInputError
from shopfloor.envs.looks.camera import Image, Light, View
from shopfloor.envs.looks.gl.device import TEXELS_A_ROW, Device
from shopfloor.envs.looks.gl.scene import Geometry, Part, build_geometry, read_frames, read_parts

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

_SPECULAR = 0.05  # as cells ask of TinyRenderer
_SHADE = 0.8  # share of the lamp's light that TinyRenderer leaves in shadow
_LARGEST_PICTURE_PX = 2048

# Of this process: contexts do not survive a fork, so the key is its id.
_devices: dict[int, Device] = {}
_lock = threading.RLock()  # one thread at a time has the context


@contextmanager
def _device() -> Iterator[Device]:
    """Lend the context of this process to this thread."""
    with _lock:
        if os.getpid() not in _devices:
            _devices.clear()
            _devices[os.getpid()] = Device()
        device = _devices[os.getpid()]
        with device.context:
            yield device


@dataclass
class _Scene:
    """How a client's bodies look, and what of it lies on the device.

    Attributes:
        parts: all visual shapes.
        colours: shape (P, 4), float32, of the parts.
        geometry: the parts' triangles.
        pictures: body id -> shape (h, w, 3), uint8, for all shapes of its base.
        kept: buffers, vertex arrays and textures on the device; what is missing is made when it is
            needed.
    """

    parts: list[Part] = field(default_factory=list)
    colours: Floats = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    geometry: Geometry = field(default_factory=lambda: build_geometry([]))
    pictures: dict[int, Image] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)


class GlRenderer:
    """Draws a PyBullet client's bodies with OpenGL.

    What bodies are made of is read once and kept; poses are read for every picture. Call `refresh`
    when bodies were built anew or colours changed.
    """

    def __init__(self) -> None:
        """Make the context of this process, unless another renderer did.

        Raises:
            MissingDependencyError: moderngl or EGL is not installed.
        """
        self._scenes: dict[int, _Scene] = {}
        with _device() as device:
            self._device = device

    @property
    def renderer_name(self) -> str:
        """Renderer and version of OpenGL; with others, pictures may differ in the last bit."""
        return self._device.name

    def refresh(self, client: int) -> None:
        """Read what a client's bodies are made of and their colours; cheap where none changed."""
        scene = self._scenes.setdefault(client, _Scene())
        parts, colours = read_parts(client)
        if parts != scene.parts:
            self._release(scene, "array", "lamp_array", "vertices", "triangles", "frames", "looks")
            scene.parts, scene.geometry = parts, build_geometry(parts)
        if not np.array_equal(colours, scene.colours):
            self._release(scene, "looks")
            scene.colours = colours

    def set_texture(self, client: int, body: int, picture: Image | None) -> None:
        """Put a picture on a body's base, as TinyRenderer does.

        Each face of a box shows another sixteenth of it.

        Args:
            client: PyBullet's physicsClientId.
            body: its id.
            picture: shape (h, w, 3), uint8; None takes it away.
        """
        scene = self._scenes.setdefault(client, _Scene())
        if picture is None:
            scene.pictures.pop(body, None)
        else:
            scene.pictures[body] = _checked(picture, body)

        self._release(scene, "looks", "pictures")

    def forget(self, client: int) -> None:
        """Let go of what is kept of a client.

        Do so when it closes, as PyBullet gives its number to the next.
        """
        scene = self._scenes.pop(client, None)
        if scene is not None:
            self._release(scene, *scene.kept)

    def draw(
        self,
        client: int,
        extrinsics: Array,
        fov_deg: float,
        size: tuple[int, int],
        light: Light,
        *,
        shadows: bool = False,
        near_m: float = 0.01,
        far_m: float = 3.0,
        poses: int | None = None,
    ) -> View:
        """Draw a client's bodies where they are right now.

        Args:
            client: PyBullet's physicsClientId of the bodies with their looks.
            extrinsics: shape (4, 4), float64, camera to world, OpenCV axes, m.
            fov_deg: vertical field of view.
            size: height and width, pixels.
            light: of the episode.
            shadows: whether the lamp casts them.
            near_m: nothing nearer is seen.
            far_m: nothing farther is seen.
            poses: physicsClientId of another client with the same bodies, which says where they
                are.
        """
        if client not in self._scenes or not self._scenes[client].parts:
            self.refresh(client)
        scene = self._scenes[client]
        frames = read_frames(scene.geometry, client if poses is None else poses)

        with _device() as device:
            if device is not self._device:  # after a fork
                self._device = device
                for other in self._scenes.values():
                    other.kept.clear()

            _prepare(device, scene, frames)
            _set_light(
                device,
                light,
                shadows=shadows and _cast(device, scene, frames, light, extrinsics[:3, 3], far_m),
            )

            view = _projection(extrinsics, math.radians(fov_deg), size, near_m, far_m)
            device.program["view"].write(np.ascontiguousarray(view.T, np.float32))
            device.empty_program["far"].value = far_m
            pixels = device.render(scene.kept.get("array"), size)

        height, width = size
        table = np.frombuffer(pixels, np.uint32).reshape(height, width, 4)
        rgba = np.ascontiguousarray(table[:, :, :1]).view(np.uint8)

        return View(
            np.ascontiguousarray(rgba[:, :, :3]),
            np.ascontiguousarray(table[:, :, 2]).view(np.float32),
            np.ascontiguousarray(table[:, :, 1]).view(np.int32),
        )

    def _release(self, scene: _Scene, *names: str) -> None:
        with _device() as device:
            for name in names:
                kept = scene.kept.pop(name, None)
                # On another device it went with the process that forked.
                if kept is not None and device is self._device:
                    kept.release()


def _checked(picture: Image, body: int) -> Image:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InvalidInputError(
            f"Texture of body {body} has shape {picture.shape}, {picture.dtype}; expected (height, "
            "width, 3), uint8."
        )
    if not 1 <= min(picture.shape[:2]) <= max(picture.shape[:2]) <= _LARGEST_PICTURE_PX:
        raise InvalidInputError(
            f"Texture of body {body} is {picture.shape[0]} x {picture.shape[1]} px; expected 1 to "
            f"{_LARGEST_PICTURE_PX} px in each direction."
        )
    return np.array(picture, np.uint8)


def _prepare(device: Device, scene: _Scene, frames: Floats) -> None:
    """Bring to the device what it lacks, and where everything is right now."""
    kept, context, geometry = scene.kept, device.context, scene.geometry
    if "array" not in kept and len(geometry.triangles):
        vertices = kept["vertices"] = context.buffer(geometry.vertices.tobytes())
        triangles = kept["triangles"] = context.buffer(geometry.triangles.tobytes())
        layout = (vertices, "3f 3f 2f 3i", "position", "normal", "place", "slot")
        kept["array"] = context.vertex_array(device.program, [layout], triangles)
        lamp_layout = (vertices, "3f 20x 3i", "position", "slot")
        kept["lamp_array"] = context.vertex_array(device.lamp_program, [lamp_layout], triangles)

    if "pictures" not in kept:
        kept["pictures"] = device.table(_sheet(scene), "f1")
    if "looks" not in kept:
        kept["looks"] = device.table(_looks(scene), "f4")

    if "frames" not in kept:
        kept["frames"] = device.table(frames, "f4")
    else:
        kept["frames"].write(frames)

    for unit, name in enumerate(("frames", "looks", "pictures")):
        kept[name].use(unit)


def _sheet(scene: _Scene) -> Image:
    """Return the texels of all pictures one after another, in rows, shape (R, TEXELS_A_ROW, 4)."""
    texels = [picture.reshape(-1, 3) for picture in scene.pictures.values()]
    count = sum(map(len, texels))
    sheet = np.zeros((max(1, -(-count // TEXELS_A_ROW)), TEXELS_A_ROW, 4), np.uint8)
    if texels:
        sheet.reshape(-1, 4)[:count, :3] = np.concatenate(texels)
    return sheet


def _looks(scene: _Scene) -> Floats:
    """Return what the shaders know of each part, shape (P, 2, 4), float32.

    The first row is the colour; the second the picture's first texel, width and height, and
    whether the part casts shadows.
    """
    looks = np.zeros((max(1, len(scene.parts)), 2, 4), np.float32)
    first, places = 0, {}
    for body, picture in scene.pictures.items():
        height, width = picture.shape[:2]
        places[body] = (first, width, height)
        first += width * height

    for row, part in enumerate(scene.parts):
        looks[row, 0] = scene.colours[row]
        if part.link == -1:
            looks[row, 1, :3] = places.get(part.body, (0, 0, 0))
        looks[row, 1, 3] = scene.geometry.casts[row] * (scene.colours[row, 3] > 0.0)

    return looks


def _projection(
    extrinsics: Array, fov: float, size: tuple[int, int], near: float, far: float
) -> Array:
    """Return world to clip space, shape (4, 4).

    The first row of the picture is at the bottom, where OpenGL's rows begin.
    """
    height, width = size
    focal = 1.0 / math.tan(0.5 * fov)
    projection = np.zeros((4, 4))
    projection[0, 0], projection[1, 1] = focal * height / width, focal
    projection[2, 2:] = (far + near) / (far - near), -2.0 * far * near / (far - near)
    projection[3, 2] = 1.0

    # TinyRenderer samples a pixel at its lower left corner, OpenGL in its middle.
    projection[0, 2], projection[1, 2] = 1.0 / width, -1.0 / height
    rotation, eye = extrinsics[:3, :3], extrinsics[:3, 3]
    view = np.eye(4)
    view[:3, :3], view[:3, 3] = rotation.T, -rotation.T @ eye

    return np.asarray(projection @ view)


def _lamp(light: Light) -> Array:
    """Return the unit vector towards the lamp."""
    lamp = np.array(light.direction, np.float64)
    return np.asarray(lamp / math.sqrt(float(lamp @ lamp)))


def _set_light(device: Device, light: Light, *, shadows: bool) -> None:
    program = device.program
    program["lamp"].value = tuple(_lamp(light).tolist())
    program["lamp_colour"].value = tuple(light.colour)
    program["shares"].value = (light.ambient, light.diffuse, _SPECULAR, _SHADE if shadows else 1.0)


def _cast(
    device: Device, scene: _Scene, frames: Floats, light: Light, eye: Array, far: float
) -> bool:
    """Draw what the lamp sees of all that is no farther from the eye than `far`, m.

    Returns:
        Whether there is anything.
    """
    moved = frames[scene.geometry.sphere_frames].astype(np.float64)
    centres, radii = scene.geometry.spheres[:, :3], scene.geometry.spheres[:, 3:]
    centres = (moved[:, :, :3] @ centres[:, :, None])[:, :, 0] + moved[:, :, 3]
    near = ((centres - eye) ** 2).sum(1) < (far + radii[:, 0]) ** 2
    if not near.any():
        return False

    view = _lamp_view(_lamp(light), centres[near], radii[near])
    for program in (device.program, device.lamp_program):
        program["lamp_view"].write(np.ascontiguousarray(view.T, np.float32))
    device.render_lamp(scene.kept["lamp_array"])

    return True


def _lamp_view(lamp: Array, centres: Array, radii: Array) -> Array:
    """Return world to the lamp's clip space, shape (4, 4).

    Its rays are parallel and just wide enough for the spheres.
    """
    aside = np.array([1.0, 0.0, 0.0]) if abs(lamp[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    across = np.cross(lamp, aside)
    across /= math.sqrt(float(across @ across))
    axes = np.stack([across, np.cross(lamp, across), -lamp])
    placed = centres @ axes.T
    low, high = (placed - radii).min(0) - 0.01, (placed + radii).max(0) + 0.01
    view = np.eye(4)
    view[:3, :3] = axes * (2.0 / (high - low))[:, None]
    view[:3, 3] = -(high + low) / (high - low)

    return view
