"""Signal lamps: while one is lit, its light stands on a post; otherwise the light is inside the post."""

from __future__ import annotations

from shopfloor.envs.experts.scene import Scene
from shopfloor.envs.physics.shapes import Shape
from shopfloor.envs.task import Item

POST_M, POST_HEIGHT_M = 0.032, 0.056
LAMP_ON_M = 0.050  # the middle of a light is higher than that while it is lit


def post_at(place: tuple[float, float]) -> Shape:
    """Return the post of a lamp; `place`: its x and y in the frame of the body to which it belongs, m."""
    return Shape("box", (POST_M, POST_M, POST_HEIGHT_M), (*place, 0.5 * POST_HEIGHT_M))


def light_z(light: Item, *, lit: bool) -> float:
    """Return the height of a light's middle, m."""
    return POST_HEIGHT_M + (0.5 if lit else -0.75) * light.size[2]


def is_lit(scene: Scene, name: str) -> bool:
    """Return whether the lamp of that name is lit."""
    return scene.goal(name).position[2] > LAMP_ON_M
