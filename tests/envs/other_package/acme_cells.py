"""PushToLine: push the crate over the line with the closed hand. A whole cell of another package.

Task: one crate on the table, a line beyond it. Success: beyond the line for 0.5 s, at rest.
Failure: `timeout`.
"""

import numpy as np

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.experts.scripted import ScriptedExpert
from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.shapes import Shape
from shopfloor.envs.task import HOLD_STEPS, REST_M_S, Item, Task, Verdict

CELL_ID = "acme/PushToLine-v0"
CRATE = Item("green crate", (0.06, 0.06, 0.06), (0.20, 0.60, 0.30))
LINE = Item("line", (0.01, 0.30, 0.002), (0.90, 0.90, 0.90), is_goal=True)
INSTRUCTIONS = {CRATE.name: ("Push the green crate over the line.",)}
BEHIND_M, PUSH_M = 0.09, 0.025  # the tool behind the crate, and its height


class PushToLine(Task):
    max_episode_steps = 100
    frozen_axes = (3, 4)
    workspace = np.array([[0.30, -0.28, 0.02], [0.72, 0.28, 0.35]])
    start_low, start_high = np.array([0.34, -0.02, 0.12]), np.array([0.38, 0.02, 0.16])
    cameras = (
        Camera("front", eye=(0.90, 0.04, 0.62), target=(0.49, 0.04, 0.0)),
        Camera(
            "wrist", eye=(0.075, 0.0, 0.085), target=(0.015, 0.0, 0.0), fov_deg=80.0, on_tool=True
        ),
    )
    items = (CRATE, LINE)
    instructions = INSTRUCTIONS
    named = CRATE.name
    grip_m = CRATE.size[1]

    def __init__(self):
        self.present = np.ones(2, dtype=bool)
        self.bodies, self.named_body, self.held_steps = (), -1, 0

    def build(self, world):
        crate = world.add([Shape("box", CRATE.size)], [(*CRATE.rgb, 1.0)], mass_kg=0.1)
        line = world.add([Shape("box", LINE.size)], [(*LINE.rgb, 1.0)], mass_kg=0.0)
        self.bodies, self.named_body = (crate, line), crate

    def reset(self, world, rng):
        self.held_steps = 0
        world.place(
            self.bodies[0], (rng.uniform(0.45, 0.50), rng.uniform(-0.1, 0.1), 0.5 * CRATE.size[2])
        )
        world.place(self.bodies[1], (0.60, 0.0, -0.0009))

    def judge(self, world, robot):
        over = world.poses[0, 0] - 0.5 * CRATE.size[0] > world.poses[1, 0]
        still = np.abs(world.velocities[0, :3]).max() < REST_M_S
        self.held_steps = self.held_steps + 1 if over and still else 0
        if self.held_steps >= HOLD_STEPS:
            return Verdict("done", success=True)
        return Verdict("over" if over else "push")

    def memory(self):
        return np.array([float(self.held_steps)])

    def recall(self, memory):
        self.held_steps = int(memory[0])


def decide(scene):
    """Come down behind the crate, then push it as far as need be."""
    (x, y, _), line = scene.part.position, scene.goal().position[0]
    behind = x - BEHIND_M
    if scene.tool[2] > PUSH_M + 0.02 and scene.tool[0] > behind + 0.02:  # too near to come down
        return scene.servo((behind, y, 0.14), 0.0, close=True), 0.0
    if scene.tool[2] > PUSH_M + 0.01:
        return scene.servo((behind, y, PUSH_M), 0.0, close=True), 0.0
    if x - 0.5 * CRATE.size[0] > line + 0.005:
        return scene.servo(scene.tool, 0.0, close=True), 0.0
    return scene.servo((scene.tool[0] + 0.02, y, PUSH_M), 0.0, close=True), 0.0


def make(**options):
    return WorkCell(CELL_ID, PushToLine(), **options)


def expert(execute=1):
    return ScriptedExpert(CELL_ID, "1", INSTRUCTIONS, decide, execute)
