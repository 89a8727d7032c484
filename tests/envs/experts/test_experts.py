"""Experts: stateless, good, and never asked for more than they were made for."""

from __future__ import annotations

import cell_episodes
import numpy as np
import pytest
from cell_episodes import CELLS, build, cells_with, count, play

from shopfloor.core import InvalidInputError, Policy, UnknownNameError
from shopfloor.envs.experts.scene import grasp_yaw, wrap
from shopfloor.envs.experts.scripted import make_expert, make_expert_from, make_random

QUICK = range(600_100, 600_106)
MANY = range(600_200, 600_260)
# Level, actions between two looks, episodes, and the share of them that succeeds at least.
SAMPLES = (("nominal", 1, 16, 0.9), ("nominal", 2, 8, 0.85), ("hard", 1, 12, 0.8))
AT_LENGTH = (("nominal", 1, 60, 0.95), ("nominal", 2, 30, 0.9), ("hard", 1, 40, 0.85))
DISPLACING, TELEPORTING = cells_with("displaced"), cells_with("mid_task")


@pytest.mark.parametrize("name", CELLS)
def test_experts_are_policies(name):
    expert = make_expert(name)
    assert isinstance(expert, Policy)
    assert expert.info.cells == (name,)
    assert set(expert.info.observation_keys) == {"state", "objects", "object_names"}
    assert expert.info.digest == make_expert_from(cell=name).info.digest
    assert expert.info.digest != make_expert(name, execute=2).info.digest
    assert make_random(name).info.digest != expert.info.digest
    with pytest.raises(InvalidInputError, match=r"cannot read the instruction .Dance\.."):
        expert.reset(0, "Dance.")
    with pytest.raises(
        UnknownNameError, match=r"Unknown cell .PickToTry.\. Did you mean .PickToTray."
    ):
        make_expert("PickToTry")


@pytest.mark.parametrize(
    ("name", "variation", "execute"),
    [
        (name, variation, execute)
        for variation, execute in (
            ("nominal", 1),
            ("nominal", 2),
            ("displaced", 1),
            ("mid_task", 1),
        )
        for name in {"displaced": DISPLACING, "mid_task": TELEPORTING}.get(variation, CELLS)
    ],
)
def test_expert_succeeds(name, variation, execute):
    outcomes = count(name, QUICK, variation=variation, execute=execute)
    assert outcomes.count("success") >= len(QUICK) - (2 if variation == "displaced" else 1), (
        outcomes
    )


@pytest.mark.parametrize("name", CELLS)
def test_expert_succeeds_with_every_other_robot(name):
    """The same expert: actions mean the same."""
    cell = build(name)
    robots = cell.task.robots[1:]
    cell.close()
    for robot in robots:
        cell = build(name, robot=robot)
        outcomes = [play(cell, make_expert(name), seed).outcome for seed in QUICK]
        assert outcomes.count("success") >= len(QUICK) - 1, (robot, outcomes)
        cell.close()


@pytest.mark.parametrize("name", CELLS)
def test_random_fails(name):
    assert count(name, range(600_100, 600_106), expert=False).count("success") == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(
    ("level", "execute", "episodes", "share"),
    [*SAMPLES, *(pytest.param(*sample, marks=pytest.mark.long) for sample in AT_LENGTH)],
)
def test_expert_succeeds_at_a_sample(name, level, execute, episodes, share):
    """`python -m benchmarks.experts` measures 200 episodes a level."""
    outcomes = count(name, MANY[:episodes], variation=level, execute=execute)
    assert outcomes.count("success") >= share * episodes, outcomes


@pytest.mark.slow
@pytest.mark.parametrize("episodes", [10, pytest.param(40, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", DISPLACING)
def test_expert_recovers_when_the_part_is_moved(name, episodes):
    outcomes = count(name, MANY[:episodes], variation="displaced")
    assert outcomes.count("success") >= 0.8 * episodes, outcomes


@pytest.mark.long
@pytest.mark.parametrize("name", CELLS)
def test_random_succeeds_in_at_most_2_of_100(name):
    assert count(name, MANY, expert=False).count("success") <= 0.02 * len(MANY)


@pytest.mark.parametrize("name", CELLS)
def test_experts_have_no_memory(name):
    cell, expert = build(name), make_expert(name)
    run = play(cell, expert, 600_120)
    cell.reset(seed=600_120)
    fresh = make_expert(name)
    fresh.reset(1, cell.instruction)
    for state in reversed(run.states[::7]):
        cell.set_sim_state(state)
        observation = {**cell.observe(()), "object_names": cell.object_names}
        first = fresh.act(observation)
        assert np.array_equal(first.actions, expert.act(observation).actions)
        assert first.actions.shape[1] == cell.action_size
        assert first.actions.dtype == np.float32
        assert np.abs(first.actions).max() <= 1.0
    cell.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", DISPLACING)
def test_the_named_part_is_moved_once_on_the_way(name):
    """The variation does what it says, and not before the tool comes near."""
    cell, expert = build(name), make_expert(name)
    jumps = []
    for seed in range(600_130, 600_140):
        run = play(cell, expert, seed, variation="displaced")
        cell.set_sim_state(run.states[0])
        row = cell.world.bodies.index(cell.task.named_body)
        for before, after in zip(run.states, run.states[1:], strict=False):
            if len(jumps) and jumps[-1][0] == seed:
                break
            shift = np.linalg.norm(
                (after - before)[-13 * len(cell.world.bodies) :].reshape(-1, 13)[row, :2]
            )
            if shift > 0.028:
                jumps.append((seed, shift))
    assert len(jumps) >= 8
    assert all(0.028 < shift < 0.056 for _, shift in jumps)
    cell.close()


@pytest.mark.parametrize("name", TELEPORTING)
def test_mid_task_starts_cover_the_task_and_are_sound(name):
    cell = build(name)
    near = held = odd = 0
    for seed in range(100):
        cell.reset(seed=seed, options={"variation": "mid_task"})
        part = cell.world.poses[cell.world.bodies.index(cell.task.named_body), :3]
        gap = float(np.linalg.norm(part - cell.robot.tool_position))
        near += gap < 0.10
        if (
            cell.robot.gripper > 0
            and cell.robot.opening_m < cell.task.grip_m + 0.006
            and gap < 0.03
        ):
            held += 1
            before = part - cell.robot.tool_position
            for _ in range(4):
                cell.advance(np.array([0, 0, 0.8, 0, 0, 0, 1]))
            part = cell.world.poses[cell.world.bodies.index(cell.task.named_body), :3]
            odd += float(np.linalg.norm(part - cell.robot.tool_position - before)) > 0.01
        assert cell.world.overlap_m(cell.task.named_body) < 0.004
    assert near > 50
    assert 15 < held < 45
    assert odd <= 2  # what is held is really held
    cell.close()


def test_turns_are_the_nearest():
    assert wrap(3.5, 3.0) == pytest.approx(0.5)
    assert wrap(-1.6, 3.0) == pytest.approx(1.4)


def test_grasps_go_across_the_short_side():
    cell = build("PickToTray")
    for seed in range(600_150, 600_160):
        cell.reset(seed=seed)
        expert = make_expert("PickToTray")
        expert.reset(0, cell.instruction)
        scene = expert._scene({**cell.observe(()), "object_names": cell.object_names})
        bar = next(thing for thing in scene.things if thing.name == "blue bar")
        yaw, width = grasp_yaw(bar, 0.0)
        assert width == pytest.approx(0.04)
        assert abs(wrap(yaw - bar.yaw, np.pi)) < 1e-4
    cell.close()
    assert cell_episodes.CELLS
