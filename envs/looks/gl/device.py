"""What the OpenGL renderer keeps on the device: the process's context, programs, framebuffers."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import numpy.typing as npt

from shopfloor.core import InvalidInputError, MissingDependencyError, install_command
from shopfloor.platforms import LINUX

SHADOW_PX = 384
TEXELS_A_ROW = 1024  # of the texture that holds all pictures
_FRAMEBUFFERS = 8

_COMMON = """
#version 330
uniform sampler2D frames;   // three texels a frame: rows of rotation and translation
uniform sampler2D looks;    // two texels a part: colour; first texel, width and height of its picture
in vec3 position;
in ivec3 slot;              // frame, part, id
vec3 placed() {
    vec4 point = vec4(position, 1.0);
    return vec3(
        dot(texelFetch(frames, ivec2(0, slot.x), 0), point),
        dot(texelFetch(frames, ivec2(1, slot.x), 0), point),
        dot(texelFetch(frames, ivec2(2, slot.x), 0), point));
}
"""

_VERTEX = (
    _COMMON
    + """
uniform mat4 view;
uniform mat4 lamp_view;
in vec3 normal;
in vec2 place;
flat out vec4 colour;
flat out ivec4 picture;
flat out int id;
out vec3 facing;
out vec2 at;
out vec3 lamp_at;
void main() {
    vec3 point = placed();
    colour = texelFetch(looks, ivec2(0, slot.y), 0);
    picture = ivec4(texelFetch(looks, ivec2(1, slot.y), 0));
    id = slot.z;
    facing = vec3(
        dot(texelFetch(frames, ivec2(0, slot.x), 0).xyz, normal),
        dot(texelFetch(frames, ivec2(1, slot.x), 0).xyz, normal),
        dot(texelFetch(frames, ivec2(2, slot.x), 0).xyz, normal));
    at = place;
    lamp_at = (lamp_view * vec4(point, 1.0)).xyz * 0.5 + 0.5;
    gl_Position = colour.a > 0.0 ? view * vec4(point, 1.0) : vec4(0.0, 0.0, 2.0, 1.0);
}
"""
)

# TinyRenderer's formula, with its steps through whole numbers. It takes reflections for an eye that
# looks down on the world from infinitely far above, wherever the camera is.
_FRAGMENT = """
#version 330
const int TEXELS = TEXELS_A_ROW;  // of `pictures`, which holds the texels of all, one after another
uniform sampler2D pictures;
uniform sampler2DShadow lamp_depth;
uniform vec3 lamp;
uniform vec3 lamp_colour;
uniform vec4 shares;        // ambient, diffuse, specular, what is left in shadow
flat in vec4 colour;
flat in ivec4 picture;
flat in int id;
in vec3 facing;
in vec2 at;
in vec3 lamp_at;
out uvec4 pixel;            // colour, id, bits of the depth
void main() {
    vec3 base = vec3(255.0);
    if (picture.y > 0) {
        ivec2 cell = ivec2(fract(at) * vec2(picture.yz));
        int texel = picture.x + cell.y * picture.y + cell.x;
        base = floor(texelFetch(pictures, ivec2(texel % TEXELS, texel / TEXELS), 0).rgb * 255.0 + 0.5);
    }
    base = floor(base * colour.rgb + 0.0001);
    vec3 n = normalize(facing);
    float slope = dot(n, lamp);
    float shine = max(2.0 * slope * n.z - lamp.z, 0.0);
    float lit = shares.y * max(slope, 0.0) + shares.z * shine * shine;
    if (shares.w < 1.0) {
        bool reached = all(lessThan(abs(lamp_at.xy - 0.5), vec2(0.5)));
        lit *= reached ? mix(shares.w, 1.0, texture(lamp_depth, lamp_at)) : 1.0;
    }
    uvec3 whole = uvec3(min(base * (shares.x + lit * lamp_colour), 255.0));
    pixel = uvec4(whole.r | (whole.g << 8) | (whole.b << 16), id, floatBitsToUint(1.0 / gl_FragCoord.w), 0u);
}
""".replace("TEXELS_A_ROW", str(TEXELS_A_ROW))

_LAMP_VERTEX = (
    _COMMON
    + """
uniform mat4 lamp_view;
void main() {
    bool casts = texelFetch(looks, ivec2(1, slot.y), 0).w > 0.0;
    gl_Position = casts ? lamp_view * vec4(placed(), 1.0) : vec4(0.0, 0.0, 2.0, 1.0);
}
"""
)
_LAMP_FRAGMENT = "#version 330\nvoid main() {}"


# Drawn last, behind everything.
_EMPTY_VERTEX = """
#version 330
void main() { gl_Position = vec4(gl_VertexID == 2 ? 3.0 : -1.0, gl_VertexID == 1 ? 3.0 : -1.0, 1.0, 1.0); }
"""
_EMPTY_FRAGMENT = """
#version 330
uniform float far;
out uvec4 pixel;
void main() { pixel = uvec4(0x00ffffffu, 0xffffffffu, floatBitsToUint(far), 0u); }
"""


class Device:
    """The OpenGL context of a process, with what all scenes share.

    Attributes:
        context: moderngl's.
        name: renderer and version of OpenGL.
    """

    def __init__(self) -> None:
        """Make the context."""
        self.context = _context()
        info = self.context.info
        self.name = f"{info['GL_RENDERER']}, OpenGL {info['GL_VERSION']}"
        self.program = self.context.program(_VERTEX, _FRAGMENT)
        self.lamp_program = self.context.program(_LAMP_VERTEX, _LAMP_FRAGMENT)
        self.empty_program = self.context.program(_EMPTY_VERTEX, _EMPTY_FRAGMENT)
        self._empty = self.context.vertex_array(self.empty_program, [])
        self._framebuffers: dict[tuple[int, int], Any] = {}

        for unit, name in enumerate(("frames", "looks", "pictures", "lamp_depth")):
            self.program[name].value = unit
        for unit, name in enumerate(("frames", "looks")):
            self.lamp_program[name].value = unit
        self.lamp_depth = self.context.depth_texture((SHADOW_PX, SHADOW_PX))
        self.lamp_depth.compare_func = "<="
        self.lamp_depth.filter = (self.context.LINEAR, self.context.LINEAR)
        self.lamp_depth.repeat_x = self.lamp_depth.repeat_y = False
        self._lamp_framebuffer = self.context.framebuffer(depth_attachment=self.lamp_depth)

    def table(self, values: npt.NDArray[Any], kind: str) -> Any:  # noqa: ANN401  # moderngl is optional
        """Return a texture of numbers for shaders to look up.

        Args:
            values: shape (rows, columns, 4).
            kind: "f4" for float32, "f1" for bytes.
        """
        rows, columns = values.shape[0], values.size // values.shape[0] // 4
        return self.context.texture((columns, rows), 4, values.tobytes(), dtype=kind)

    def render(self, array: Any | None, size: tuple[int, int]) -> bytes:  # noqa: ANN401
        """Draw a vertex array, or nothing.

        Returns:
            Four uint32 per pixel: colour, id, bits of the depth, 0.
        """
        framebuffer, context = self._framebuffer(size), self.context
        framebuffer.use()
        framebuffer.clear(depth=1.0)
        context.enable_only(context.DEPTH_TEST | context.CULL_FACE)
        context.front_face = "cw"  # pictures are drawn upside down
        context.depth_func = "<="
        self.lamp_depth.use(3)
        if array is not None:
            array.render()

        self._empty.render(vertices=3)
        pixels: bytes = framebuffer.read(components=4, dtype="u4")
        return pixels

    def render_lamp(self, array: Any) -> None:  # noqa: ANN401
        """Draw how far from the lamp things are."""
        context = self.context
        self._lamp_framebuffer.use()
        self._lamp_framebuffer.clear(depth=1.0)
        context.enable_only(context.DEPTH_TEST)  # with back faces: meshes may be open
        context.depth_func = "<="
        context.polygon_offset = 2.0, 4.0  # or surfaces would shade themselves
        array.render()
        context.polygon_offset = 0.0, 0.0

    def _framebuffer(self, size: tuple[int, int]) -> Any:  # noqa: ANN401
        """Return what to draw a height and width into; those used last are kept."""
        kept = self._framebuffers.pop(size, None)
        if kept is None:
            height, width = size
            colour = self.context.texture((width, height), 4, dtype="u4")
            kept = self.context.framebuffer(
                [colour], self.context.depth_renderbuffer((width, height))
            )

        self._framebuffers[size] = kept
        if len(self._framebuffers) > _FRAMEBUFFERS:
            oldest = self._framebuffers.pop(next(iter(self._framebuffers)))
            for surface in (*oldest.color_attachments, oldest.depth_attachment, oldest):
                surface.release()

        return kept


def _context() -> Any:  # noqa: ANN401  # moderngl is optional
    if not LINUX:
        raise InvalidInputError(
            f'The OpenGL renderer needs EGL, which {sys.platform} does not have; use renderer="tiny".'
        )

    try:
        # By name: type checkers need not find it.
        moderngl: Any = importlib.import_module("moderngl")
    except ImportError:
        raise MissingDependencyError(
            "The OpenGL renderer needs the package moderngl, which is not installed. Install it "
            "with "
            f'{install_command("gl")}; or use renderer="tiny".'
        ) from None

    # Mesa's software renderer would start a thread per core, though workers already share the
    # cores, and one more for a cache on disk that saves 0.1 s; neither lives on in a process that
    # forks. Pictures are the same.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    os.environ.setdefault("MESA_SHADER_CACHE_DISABLE", "true")
    try:
        return moderngl.create_context(standalone=True, backend="egl", require=330)
    except Exception as error:  # whatever the driver raises
        raise MissingDependencyError(
            f"The OpenGL renderer got no context from EGL ({error}). Install the system libraries: "
            'apt-get install libegl1 libgl1-mesa-dri; or use renderer="tiny".'
        ) from error
