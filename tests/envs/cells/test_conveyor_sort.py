"""ConveyorSort's rules: what the belt does, what counts as done and what as lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cell_episodes import WAIT, build, play, wait, waits_for

from shopfloor.envs.cells import conveyor_sort
from shopfloor.envs.cells.conveyor_sort import (
    BELT_TOP_M,
    BELT_Y_M,
    BIN_OF,
    FIRST_M,
    LOST_M,
    ConveyorSort,
)
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.task import HOLD_STEPS

ITEMS = ConveyorSort().items
PARTS_M = (FIRST_M, ConveyorSort().job.last_m)


@pytest.fixture(scope="module")
def cell():
    built = build("ConveyorSort")
    yield built
    built.close()


def named_row(cell):
    return cell.task.bodies.index(cell.task.named_body)


def belt_speed(cell):
    return cell.task.memory()[3]


def drop(cell, row, x, y, z):
    cell.world.place(cell.task.bodies[row], (x, y, z))
    cell.world.read()


def drop_into(cell, row, bin_row, dx=0.0):
    x, y = cell.world.poses[bin_row, :2]
    drop(cell, row, x + dx, y, 0.035)


def test_scenes_are_as_the_module_says(cell):
    along, across, yaws, speeds, named, bins, time_left = [], [], [], [], set(), [], []
    for seed in range(200):
        cell.reset(seed=seed)
        poses, row = cell.world.poses, named_row(cell)
        along.append(poses[:3, 0])
        across.append(poses[:3, 1] - BELT_Y_M)
        yaws.append([2 * math.atan2(pose[5], pose[6]) for pose in poses[:3]])
        speeds.append(belt_speed(cell))
        named.add(cell.task.named)
        bins.append(poses[3:6, :2])
        time_left.append((poses[row, 0] - LOST_M) / speeds[-1])
        assert np.diff(np.sort(poses[:3, 0])).min() >= conveyor_sort.SPACING_M[0]
    assert PARTS_M[0] <= np.min(along) < PARTS_M[0] + 0.03
    assert PARTS_M[1] - 0.03 < np.max(along) <= PARTS_M[1]
    assert 0.017 < np.abs(across).max() <= 0.02
    assert np.max(np.abs(yaws)) == pytest.approx(math.pi / 6, abs=0.02)
    assert np.abs(np.array(yaws)[:, 1]).max() == 0.0  # the can is round
    assert (min(speeds), max(speeds)) == pytest.approx((0.03, 0.09), abs=0.002)
    assert min(time_left) >= 3.2
    np.testing.assert_allclose(np.ptp(bins, axis=0), [[0.04, 0.06]] * 3, atol=0.004)
    assert named == {item.name for item in ITEMS if not item.is_goal}


def test_every_class_has_its_own_bin(cell):
    goal_of = cell.describe()["vocabulary"]["goal_of"]
    assert len(goal_of) == len(set(goal_of.values())) == 3
    assert goal_of == {part: BIN_OF[part] for part in goal_of}
    assert set(goal_of.values()) == {item.name for item in ITEMS if item.is_goal}
    for part, texts in cell.instructions.items():
        assert len(set(texts)) >= 4
        assert all(part in text for text in texts)
        assert not any(other in text for text in texts for other in goal_of if other != part)


def test_the_belt_carries_parts_at_its_speed_and_stays_where_it_is(cell):
    for seed in range(3):
        cell.reset(seed=seed)
        before = cell.world.poses.copy()
        for _ in range(20):
            cell.advance(WAIT)
        moved = cell.world.poses - before
        assert moved[:3, 0] == pytest.approx(-belt_speed(cell), abs=1e-3)  # in one second
        assert np.abs(moved[:3, 1:3]).max() < 1e-3
        assert np.abs(moved[3:, :3]).max() < 1e-3


def test_a_belt_goes_on_after_a_state_is_set(cell):
    cell.reset(seed=5)
    cell.advance(WAIT)
    state, speed = cell.sim_state(), belt_speed(cell)
    cell.reset(seed=6)
    cell.set_sim_state(state)
    assert belt_speed(cell) == speed != 0.0
    before = cell.world.poses[0, 0]
    for _ in range(10):
        cell.advance(WAIT)
    assert before - cell.world.poses[0, 0] == pytest.approx(0.5 * speed, abs=1e-3)


def test_observations_hold_no_speed(cell):
    """Two scenes that differ in the belt's speed alone look the same."""
    cell.reset(seed=7)
    first, speeds = cell.observe(("front",)), cell.world.velocities.copy()
    cell.task.recall(cell.task.memory() * [1, 1, 1, 2])
    for body, pose, speed in zip(
        cell.task.bodies[:3], cell.world.poses.tolist(), speeds.tolist(), strict=False
    ):
        cell.world.place(body, pose[:3], pose[3:], [2 * value for value in speed])
    cell.world.read()
    assert not np.array_equal(speeds, cell.world.velocities)
    second = cell.observe(("front",))
    assert sorted(first) == ["front", "objects", "state"]
    assert all(np.array_equal(first[key], second[key]) for key in first)


def test_done_after_half_a_second_in_its_bin(cell):
    for seed in range(3):
        cell.reset(seed=seed)
        row = named_row(cell)
        drop_into(cell, row, row + 3)
        step, reward, terminated, info = wait(cell)
        assert (reward, terminated, info["success"], info["failure"], info["stage"]) == (
            1.0,
            True,
            True,
            "",
            "done",
        )
        assert HOLD_STEPS <= step <= HOLD_STEPS + 8


def test_not_done_while_the_gripper_is_closed(cell):
    cell.reset(seed=3)
    drop_into(cell, named_row(cell), named_row(cell) + 3)
    for _ in range(2 * HOLD_STEPS):
        _, terminated, _, info = cell.advance(-WAIT)
        assert not terminated
    assert info["stage"] == "release"


@pytest.mark.parametrize(
    "case", ["named in another bin", "other in the named bin", "other in its own bin", "both"]
)
def test_wrong_parts_and_wrong_bins(cell, case):
    cell.reset(seed=4)
    row = named_row(cell)
    other = (row + 1) % 3
    if case == "named in another bin":
        drop_into(cell, row, other + 3)
    elif case == "other in the named bin":
        drop_into(cell, other, row + 3)
    elif case == "other in its own bin":  # nobody asked for it
        drop_into(cell, other, other + 3)
    else:
        drop_into(cell, row, row + 3, -0.025)
        drop_into(cell, other, row + 3, 0.025)
    step = waits_for(cell, "wrong_part")
    assert step >= HOLD_STEPS


def test_past_the_end_is_never_done(cell):
    cell.reset(seed=5)
    row = named_row(cell)
    cell.max_episode_steps, limit = 400, cell.max_episode_steps
    step, reward, terminated, info = wait(cell, 400)
    cell.max_episode_steps = limit
    assert (reward, terminated, info["success"], info["failure"]) == (
        0.0,
        True,
        False,
        "out_of_reach",
    )
    assert cell.world.poses[row, 0] < LOST_M
    assert step >= 3.2 * 20


def test_other_parts_may_pass_the_end(cell):
    cell.reset(seed=6)
    other = (named_row(cell) + 1) % 3
    drop(cell, other, LOST_M - 0.01, BELT_Y_M, BELT_TOP_M + 0.03)
    info = wait(cell, 30)[3]
    assert info["failure"] == ""
    assert cell.world.poses[other, 0] < LOST_M


def test_lost_parts(cell):
    for place, reason in (
        ((1.4, 0.5, 0.05), "dropped"),
        ((0.75, 0.30, 0.03), "out_of_reach"),
        ((0.45, -0.40, 0.03), "out_of_reach"),
    ):
        cell.reset(seed=8)
        drop(cell, named_row(cell), *place)
        assert wait(cell)[3]["failure"] == reason


def test_a_part_upstream_of_reach_is_not_lost(cell):
    cell.reset(seed=9)
    drop(cell, named_row(cell), 0.86, BELT_Y_M, BELT_TOP_M + 0.03)
    info = wait(cell, 20)[3]
    assert (info["failure"], info["stage"]) == ("", "approach")


def test_stages_come_in_order(cell):
    run = play(cell, make_expert("ConveyorSort"), 600_001)
    assert list(dict.fromkeys(run.stages)) == ["approach", "grasp", "carry", "release"]
    assert run.outcome == "success"
    assert 25 <= run.steps <= 60


def test_the_expert_copes_with_every_speed(cell):
    """It sees no speed and aims a fixed way ahead; slow and fast belts must both be within its tolerance."""
    expert = make_expert("ConveyorSort")
    slow, fast, seed = 0, 0, 601_000
    while slow < 3 or fast < 3:
        cell.reset(seed=seed)
        speed = belt_speed(cell)
        if speed < 0.034 or speed > 0.086:
            assert play(cell, expert, seed).outcome == "success", (seed, speed)
            slow, fast = slow + (speed < 0.06), fast + (speed > 0.06)
        seed += 1


def test_plans_follow_the_belt(cell):
    """Four steps of a plan run open loop stay close to what would be decided on the way."""
    expert = make_expert("ConveyorSort")
    for seed in range(601_100, 601_104):
        assert play(cell, expert, seed, execute=4).outcome == "success", seed
