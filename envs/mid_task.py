"""Departures during and at the start of an episode: a part that is moved, starts in the middle of the task."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from shopfloor.envs.physics import kinematics
from shopfloor.envs.physics.world import SUBSTEPS, World
from shopfloor.envs.robots.arm import Arm
from shopfloor.envs.robots.hand import MAX_OPENING_M
from shopfloor.envs.task import Task, ToolPose

Array = npt.NDArray[np.float64]


class Displacement:
    """Moves the named part once, when the tool first comes near it; until then nothing has touched it."""

    def __init__(self, span_m: tuple[float, float], rng: np.random.Generator) -> None:
        """Draw when and, later, where to from `rng`."""
        self._span_m = span_m
        self._rng = rng
        self._near_m = rng.uniform(0.085, 0.13)
        self.pending = True

    def update(self, world: World, robot: Arm, task: Task) -> None:
        """Move the part if its time has come."""
        if not self.pending:
            return

        row = task.bodies.index(task.named_body)
        gap = world.poses[world.bodies.index(task.bodies[row]), :3] - robot.tool_position
        if float(gap @ gap) > self._near_m**2:
            return

        self.pending = False
        for spot in task.free_spots(world, *self._span_m, self._rng):
            away = spot[:2] - robot.tool_position[:2]
            if robot.tool_position[2] > spot[2] + 0.05 or float(away @ away) > 0.10**2:
                world.place(task.named_body, spot[:3].tolist(), spot[3:].tolist())
                world.read()
                return


def start_mid_task(world: World, robot: Arm, task: Task, rng: np.random.Generator) -> None:
    """Teleport into a state of the kind that a policy meets on its way.

    Half of the states have the tool within 9 cm of the named part, 18 % have it anywhere, 32 % hold
    the part: half of these near the goal, some just released. Of the others 12 % have half-closed
    fingers. States in which anything overlaps are drawn again.

    Args:
        world: just reset and read.
        robot: to teleport.
        task: just reset.
        rng: stream of the episode.
    """
    before = world.sim_state()
    part = world.poses[world.bodies.index(task.named_body)].copy()
    grasp = task.grasp_pose(world)
    kind = rng.uniform()
    released = kind >= 0.68 and rng.uniform() < 0.15

    for _ in range(12):
        if kind < 0.68:
            tool = _near(grasp, rng) if kind < 0.5 else _anywhere(task, rng)
            half_closed = rng.uniform() < 0.12
            opening = rng.uniform(0.0, MAX_OPENING_M) if half_closed else MAX_OPENING_M
            _teleport(
                robot, tool, opening, 1.0 if half_closed and rng.uniform() < 0.5 else -1.0, rng
            )
        else:
            tool = _holding(world, task, grasp, released, rng)
            _put_in_hand(world, robot, task, part, grasp, tool, rng)

        if world.overlap_m(robot.body) < 5e-4 and world.overlap_m(task.named_body) < 5e-4:
            break
        world.set_sim_state(before)
    else:
        above = ToolPose(grasp.position + np.array([0.0, 0.0, 0.09]), grasp.yaw)
        _teleport(robot, above, MAX_OPENING_M, -1.0, rng)

    if robot.gripper > 0.0 and kind >= 0.68:
        _settle(world, robot, task, released, rng)
    world.read()


def _near(grasp: ToolPose, rng: np.random.Generator) -> ToolPose:
    direction = rng.normal(size=3)
    direction[2] = abs(direction[2])
    offset = direction / math.sqrt(float(direction @ direction)) * rng.uniform(0.0, 0.09)
    if rng.uniform() < 0.3:  # straight above, on the way down
        offset[:2] *= 0.1
    yaw = grasp.yaw + (rng.normal() * 0.05 if rng.uniform() < 0.5 else rng.uniform(-0.8, 0.8))
    return ToolPose(grasp.position + offset, yaw)


def _anywhere(task: Task, rng: np.random.Generator) -> ToolPose:
    low, high = _workspace(task)
    position = rng.uniform(
        [low[0] + 0.02, low[1] + 0.02, low[2] + 0.04],
        [high[0] - 0.02, high[1] - 0.02, min(high[2], 0.30)],
    )
    return ToolPose(position, rng.uniform(-0.8, 0.8))


def _workspace(task: Task) -> Array:
    """Return where an arm's tool may go, shape (2, 3), m."""
    assert task.post is not None, "only an arm at a table starts in the middle of its task"
    return task.post.workspace


def _holding(
    world: World, task: Task, grasp: ToolPose, released: bool, rng: np.random.Generator
) -> ToolPose:
    """Draw where a hand with the part in it is: at the goal, just above where it took it, or anywhere."""
    if released or rng.uniform() < 0.42:
        goal = task.release_pose(world)
        spread = rng.uniform(-1.0, 1.0, 3) * (0.012 if released else 0.05)
        spread[2] = 0.0 if released else rng.uniform(0.0, 0.10)
        return ToolPose(goal.position + spread, goal.yaw + rng.normal() * 0.1)
    if rng.uniform() < 0.35:
        return ToolPose(
            grasp.position + np.array([0.0, 0.0, rng.uniform(0.0, 0.08)]),
            grasp.yaw + rng.normal() * 0.05,
        )

    low, high = _workspace(task)
    position = rng.uniform([low[0], low[1], grasp.position[2]], [high[0], high[1], 0.20])
    return ToolPose(position, grasp.yaw + rng.normal() * 0.15)


def _put_in_hand(
    world: World,
    robot: Arm,
    task: Task,
    part: Array,
    grasp: ToolPose,
    tool: ToolPose,
    rng: np.random.Generator,
) -> None:
    """Teleport with the part between almost closed fingers, a little off the ideal grip."""
    _teleport(robot, tool, task.grip_m + 0.0005, 1.0, None)
    slip = rng.uniform(-0.006, 0.006, 3) * [1.0, 0.0, 1.0]
    turn = kinematics.yaw_matrix(robot.tool_yaw - grasp.yaw)
    at = robot.tool_position + robot.tool_rotation @ slip + turn @ (part[:3] - grasp.position)
    world.place(
        task.named_body, at.tolist(), kinematics.quaternion(turn @ kinematics.matrix(part[3:]))
    )


def _settle(world: World, robot: Arm, task: Task, released: bool, rng: np.random.Generator) -> None:
    """Let the fingers grip; where asked for, open them again and start to rise."""
    hold = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    rise = [0.0, 0.0, rng.uniform(0.0, 1.0), 0.0, 0.0, 0.0, -1.0]
    for action in [hold] + [rise] * (int(rng.integers(1, 4)) if released else 0):
        robot.command(action)
        for _ in range(SUBSTEPS):
            if task.moves:
                task.before_substep(world)
            world.substep()
        robot.read()


def _teleport(
    robot: Arm, tool: ToolPose, opening_m: float, gripper: float, rng: np.random.Generator | None
) -> None:
    robot.reset(tool.position, tool.yaw, opening_m, gripper)
    if rng is not None:  # on the way the target runs ahead of the tool
        robot.target_position = robot.within_reach(
            robot.target_position + rng.uniform(-0.008, 0.008, 3)
        )
