"""What cameras see."""

from shopfloor.envs.looks.camera import Camera, Light, View, wrist_camera

__all__ = ["Camera", "Light", "View", "wrist_camera"]
