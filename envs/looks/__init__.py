"""What cameras see."""

from shopfloor.envs.looks.camera import Camera, Light, View

__all__ = ["Camera", "Light", "View"]
