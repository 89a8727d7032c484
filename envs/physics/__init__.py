"""The simulated world and the bodies in it."""

from shopfloor.envs.physics.shapes import Shape
from shopfloor.envs.physics.world import World

__all__ = ["Shape", "World"]
