"""PickToTray's rules: what counts as done and what as lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cell_episodes import WAIT, build, play, wait, waits_for

from shopfloor.envs.cells.pick_to_tray import (
    PARTS_HIGH,
    PARTS_LOW,
    TRAY_HIGH,
    TRAY_LOW,
    PickToTray,
)
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.task import HOLD_STEPS

ITEMS = PickToTray().items


@pytest.fixture(scope="module")
def cell():
    built = build("PickToTray")
    yield built
    built.close()


def parts(cell):
    """Return the body of the named part and those of the others."""
    named = cell.task.named_body
    return named, [body for body in cell.task.bodies[:3] if body != named]


def drop(cell, body, x, y, z):
    cell.world.place(body, (x, y, z))
    cell.world.read()


def tray(cell):
    return cell.world.poses[3, :2]


def test_scenes_are_as_the_module_says(cell):
    seen, yaws, named = [], [], set()
    for seed in range(150):
        cell.reset(seed=seed)
        poses = cell.world.poses
        seen.append(poses[:, :2])
        yaws.append([2 * math.atan2(pose[5], pose[6]) for pose in poses[:3]])
        named.add(cell.task.named)
        gaps = [np.linalg.norm(poses[a, :2] - poses[b, :2]) for a, b in ((0, 1), (0, 2), (1, 2))]
        assert min(gaps) > PickToTray().job.spacing_m
        for pose in poses[:3]:  # fingers around a part stay clear of the tray
            assert max(abs(pose[:2] - poses[3, :2])) > 0.5 * ITEMS[3].size[0] + 0.05
    low, high = np.min(seen, axis=0), np.max(seen, axis=0)
    np.testing.assert_allclose(low[:3].min(axis=0), PARTS_LOW, atol=0.02)
    np.testing.assert_allclose(high[:3].max(axis=0), PARTS_HIGH, atol=0.02)
    np.testing.assert_allclose([low[3], high[3]], [TRAY_LOW, TRAY_HIGH], atol=0.01)
    assert np.subtract(PARTS_HIGH, PARTS_LOW) == pytest.approx([0.34, 0.24])
    assert np.subtract(TRAY_HIGH, TRAY_LOW) == pytest.approx([0.16, 0.08])
    assert np.max(np.abs(yaws)) == pytest.approx(math.pi / 4, abs=0.05)
    assert named == {item.name for item in ITEMS if not item.is_goal}


def test_parts_start_at_rest(cell):
    cell.reset(seed=1)
    before = cell.world.poses.copy()
    for _ in range(20):
        cell.advance(WAIT)
    assert np.abs(cell.world.poses - before).max() < 5e-4


def test_done_after_half_a_second_in_the_tray(cell):
    cell.reset(seed=2)
    named, _ = parts(cell)
    drop(cell, named, *tray(cell), 0.03)
    step = waits_for(cell)
    assert HOLD_STEPS <= step <= HOLD_STEPS + 8


def test_not_done_while_the_gripper_is_closed_or_near(cell):
    cell.reset(seed=3)
    named, _ = parts(cell)
    drop(cell, named, *tray(cell), 0.03)
    for _ in range(2 * HOLD_STEPS):
        _, terminated, _, info = cell.advance(np.array([0, 0, 0, 0, 0, 0, 1.0]))
        assert not terminated
    assert info["stage"] == "release"


def test_another_part_in_the_tray_is_wrong(cell):
    cell.reset(seed=4)
    _, others = parts(cell)
    drop(cell, others[0], *tray(cell), 0.03)
    step = waits_for(cell, "wrong_part")
    assert step >= HOLD_STEPS


def test_nothing_else_may_be_in_the_tray(cell):
    cell.reset(seed=5)
    named, others = parts(cell)
    x, y = tray(cell)
    drop(cell, named, x - 0.03, y, 0.03)
    drop(cell, others[1], x + 0.03, y, 0.03)
    assert wait(cell)[3]["failure"] == "wrong_part"


def test_a_part_off_the_table_is_dropped(cell):
    cell.reset(seed=6)
    named, _ = parts(cell)
    drop(cell, named, 1.4, 0.0, 0.05)
    assert wait(cell)[3]["failure"] == "dropped"


def test_a_part_beyond_the_arm_is_out_of_reach(cell):
    cell.reset(seed=7)
    named, _ = parts(cell)
    drop(cell, named, 0.85, 0.1, 0.02)
    assert wait(cell)[3]["failure"] == "out_of_reach"


def test_other_parts_may_fall(cell):
    cell.reset(seed=8)
    _, others = parts(cell)
    drop(cell, others[0], 1.4, 0.0, 0.05)
    assert wait(cell, 30)[3]["failure"] == ""


def test_stages_come_in_order(cell):
    run = play(cell, make_expert("PickToTray"), 600_001)
    stages = list(dict.fromkeys(run.stages))
    assert stages == ["approach", "grasp", "carry", "release"]
    assert run.outcome == "success"
    assert 30 <= run.steps <= 60


def test_a_held_part_hardly_drifts(cell):
    """Gear, friction and force of the fingers hold; without them parts slide by centimetres."""
    for seed in range(600_020, 600_026):
        run = play(cell, make_expert("PickToTray"), seed)
        gaps = []
        for state, stage in zip(run.states, run.stages, strict=True):
            if stage == "carry":
                cell.set_sim_state(state)
                part = cell.world.poses[cell.task.bodies.index(cell.task.named_body), :3]
                gaps.append(part - cell.robot.tool_position)
        assert np.ptp(np.array(gaps[2:]), axis=0).max() < 0.005, seed


def test_the_expert_takes_up_after_a_mess():
    """Random actions first: parts lie anywhere, turned over or pushed together."""
    cell, expert = build("PickToTray"), make_expert("PickToTray")
    good = 0
    for seed in range(600_030, 600_042):
        _, info = cell.reset(seed=seed)
        rng = np.random.default_rng(seed)
        cell.max_episode_steps = 160
        drift = np.zeros(3)
        done = False
        for step in range(50):
            if step % 12 == 0:
                drift = rng.uniform((-0.8, -0.8, -0.9), (0.8, 0.8, 0.5))
            action = rng.uniform(-1, 1, 7)
            action[:3] = np.clip(0.4 * action[:3] + drift, -1, 1)
            _, terminated, truncated, info = cell.advance(action)
            done = terminated or truncated
            if done:
                break
        expert.reset(seed, info["instruction"])
        while not done:
            observation = {**cell.observe(()), "object_names": info["object_names"]}
            _, terminated, truncated, info = cell.advance(expert.act(observation).actions[0])
            done = terminated or truncated
        good += info["success"]
    cell.close()
    assert good >= 9
