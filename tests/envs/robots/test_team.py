"""Two arms driven by one action: each in its own frame, joined in order, and exactly repeatable."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shopfloor.envs.physics.world import World
from shopfloor.envs.robots.arm import Arm, Post
from shopfloor.envs.robots.mobile import Team
from shopfloor.envs.robots.models import PANDA

WORKSPACE = np.array([[0.28, -0.30, 0.02], [0.60, 0.30, 0.40]])
LOW, HIGH = np.array([0.36, -0.05, 0.20]), np.array([0.46, 0.05, 0.30])
PLACE, YAW = (1.10, 0.20, 0.0), 0.75 * math.pi  # of the second arm
TOOL = np.array([0.45, 0.03, 0.25])


def two_arms(world):
    first = Post(WORKSPACE, LOW, HIGH, (3, 4))
    second = Post(WORKSPACE, LOW, HIGH, (3, 4), PLACE, YAW)
    team = Team([Arm(world, PANDA, first), Arm(world, PANDA, second)])
    for arm in team.members:
        arm.reset(TOOL, 0.0)
    return team


@pytest.fixture
def world():
    made = World()
    yield made
    made.close()


def run(world, team, actions):
    for action in actions:
        team.command(action)
        world.control_step()
        team.read()


def in_world(point):
    c, s = math.cos(YAW), math.sin(YAW)
    return np.array(
        [PLACE[0] + c * point[0] - s * point[1], PLACE[1] + s * point[0] + c * point[1], point[2]]
    )


def test_names_are_joined_in_order_and_differ(world):
    team = two_arms(world)
    assert len(team.action_names) == len(set(team.action_names)) == 14
    assert team.action_names[6:9] == ("gripper", "dx_2", "dy_2")
    assert (
        len(team.state_names)
        == len(set(team.state_names))
        == len(team.state_units)
        == len(team.state())
        == 44
    )
    assert team.state_names[22 + 7] == "tool_x_2"
    assert team.convention == team.members[0].convention
    assert [member["workspace_m"] for member in team.describe()["members"]] == [
        WORKSPACE.tolist()
    ] * 2


def test_the_second_arm_stands_where_its_post_says(world):
    team = two_arms(world)
    assert team.members[1].tool_position == pytest.approx(TOOL, abs=1e-4)
    position, rotation = team.frame(1)
    assert position == pytest.approx(in_world(TOOL), abs=1e-4)
    assert math.atan2(rotation[1, 0], rotation[0, 0]) == pytest.approx(YAW, abs=1e-4)
    assert team.frame(0)[0] == pytest.approx(TOOL, abs=1e-4)


def test_equal_commands_do_the_same_in_each_arms_own_frame(world):
    team = two_arms(world)
    one = [0.4, -0.3, 0.2, 0.0, 0.0, 0.5, 1.0]
    run(world, team, [one * 2] * 4)
    first, second = np.split(team.state(), 2)
    assert first == pytest.approx(second, abs=2e-4)
    assert first[7:10] - TOOL == pytest.approx([0.04, -0.03, 0.02], abs=6e-3)
    assert team.frame(1)[0] == pytest.approx(in_world(second[7:10]), abs=1e-5)


@pytest.mark.parametrize("moved", [0, 1])
def test_each_arm_obeys_its_own_part_of_the_action(world, moved):
    team = two_arms(world)
    before = [arm.frame()[0].copy() for arm in team.members]
    action = [0.0] * 14
    action[7 * moved], action[7 * moved + 6], action[13 - 7 * moved] = 1.0, 1.0, -1.0
    run(world, team, [action] * 4)
    shifts = [arm.frame()[0] - start for arm, start in zip(team.members, before, strict=True)]
    forward = np.array([1.0, 0.0, 0.0]) if moved == 0 else in_world([1, 0, 0]) - in_world([0, 0, 0])
    assert float(shifts[moved] @ forward) > 0.07
    assert np.abs(shifts[1 - moved]).max() < 2e-3
    assert team.members[moved].opening_m < 0.02
    assert team.members[1 - moved].opening_m > 0.075


def test_targets_stay_in_each_arms_own_workspace(world):
    team = two_arms(world)
    for direction in (1.0, -1.0):
        run(world, team, [[direction] * 14] * 30)
        for arm in team.members:
            assert (arm.target_position >= WORKSPACE[0] - 1e-9).all()
            assert (arm.target_position <= WORKSPACE[1] + 1e-9).all()


def test_states_come_back_in_another_world(world):
    team = two_arms(world)
    rng = np.random.default_rng(1)
    run(world, team, rng.uniform(-1.0, 1.0, (9, 14)).tolist())
    other = World()
    again = two_arms(other)
    again.set_sim_state(team.sim_state())
    assert np.array_equal(again.sim_state(), team.sim_state())
    assert again.state() == pytest.approx(team.state(), abs=1e-6)
    assert len(team.sim_state()) == 2 * len(team.members[0].sim_state())
    assert not np.array_equal(*np.split(team.sim_state(), 2))
    other.close()


def test_starts_differ_and_runs_repeat_exactly():
    def episode(seed):
        world = World()
        team, rng = two_arms(world), np.random.default_rng(seed)
        team.start(rng)
        start = team.state()
        run(world, team, rng.uniform(-1.0, 1.0, (20, 14)).tolist())
        world.clear()  # and once more in the used world
        team.build()
        rng = np.random.default_rng(seed)
        first = team.sim_state().tobytes()
        team.start(rng)
        run(world, team, rng.uniform(-1.0, 1.0, (20, 14)).tolist())
        second = team.sim_state().tobytes()
        world.close()
        return start, first, second

    (start, *runs), (_, *again), (_, *others) = episode(5), episode(5), episode(6)
    first, second = np.split(start, 2)
    assert not np.allclose(first[7:10], second[7:10])
    assert len({*runs, *again}) == 1
    assert others[0] != runs[0]
