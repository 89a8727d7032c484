"""What fingers hold stays where it is in the hand; for cups see test_suction.py."""

from __future__ import annotations

import numpy as np
import pytest
from cell_episodes import build

from shopfloor.envs.conditions import Conditions, apply_physics
from shopfloor.envs.engine import pybullet
from shopfloor.envs.experts import make_expert

STILL, HOLD = 10, 100  # steps in which the arm comes to rest, and five seconds
GRIP = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]


def lift(cell, seed, mass_kg):
    """Let the expert lift the named part, which weighs `mass_kg`."""
    expert = make_expert(cell.cell_id)
    _, info = cell.reset(seed=seed)
    expert.reset(seed, info["instruction"])
    usual_kg = pybullet.getDynamicsInfo(cell.task.named_body, -1, cell.world.client)[0]
    apply_physics(cell.world, Conditions(mass=mass_kg / usual_kg))
    for _ in range(100):
        action = expert.act({**cell.observe(()), "object_names": cell.object_names}).actions[0]
        *_, info = cell.advance(action)
        if info["stage"] in ("carry", "load") and cell.robot.tool_position[2] > 0.08 and cell.robot.gripper > 0.0:
            return
    raise AssertionError(f"not lifted: {info}")


def in_hand(cell, steps):
    """Stand still with closed fingers, then return the named part's place in the tool's frame, m."""
    for _ in range(steps):
        cell.robot.command(GRIP)
        cell.world.control_step()
        cell.robot.read()
    cell.world.read()
    part = cell.world.poses[cell.world.bodies.index(cell.task.named_body), :3]
    return cell.robot.tool_rotation.T @ (part - cell.robot.tool_position)


@pytest.mark.parametrize("mass_kg", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("name", ["PickToTray", "Kitting", "MachineTending", "PegInsertion"])
def test_held_parts_creep_less_than_a_millimetre_in_five_seconds(name, mass_kg):
    for seed in (610_002, 610_004, 610_008):
        cell = build(name)
        lift(cell, seed, mass_kg)
        before = in_hand(cell, STILL)
        assert before[2] > -0.08, "still in the hand"
        assert np.linalg.norm(in_hand(cell, HOLD) - before) < 0.001, seed
        cell.close()
