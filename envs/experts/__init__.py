"""Scripted experts: what a cell needs to have one, and how to get a cell's."""

from shopfloor.envs.experts.scene import Decision, Scene, Thing, grasp_yaw, wrap
from shopfloor.envs.experts.scripted import Reader, ScriptedExpert, make_expert, make_random

__all__ = [
    "Decision",
    "Reader",
    "Scene",
    "ScriptedExpert",
    "Thing",
    "grasp_yaw",
    "make_expert",
    "make_random",
    "wrap",
]
