"""The simulated world and the bodies in it."""

from shopfloor.envs.physics.world import Shape, World

__all__ = ["Shape", "World"]
