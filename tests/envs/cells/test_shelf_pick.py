"""ShelfPick's rules: how the rack is filled, what counts as in the tote and at rest, and what is lost."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from cell_episodes import WAIT, built_at, each_arm, play, wait, waits_for

from shopfloor.envs.cells.shelf_pick import (
    MOUNT,
    STEP_TOPS_M,
    TOTE,
    TOTE_FLOOR_M,
    TOTE_INNER_M,
    ShelfPick,
)
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.physics.kinematics import yaw_matrix, yaw_of
from shopfloor.envs.task import HOLD_STEPS
from shopfloor.envs.variation import LEVELS

NAME = "ShelfPick"


@pytest.fixture(scope="module")
def cells():
    with built_at(NAME, LEVELS) as made:
        yield made


@pytest.fixture
def cell(cells):
    return cells["nominal"]


def parts_of(cell):
    arm, base = cell.robot.members
    return arm, base


def put(cell, row, along=0.0, across=0.0, lift=0.001):
    """Put an item into the tote: off its middle along the chassis and across, above its floor, m."""
    _, base = parts_of(cell)
    height = cell.task.items[row].size[2]
    point = np.array(
        [MOUNT[0] + TOTE[0] + along, MOUNT[1] + TOTE[1] + across, MOUNT[2] + TOTE_FLOOR_M + lift]
    )
    origin, rotation = base.frame()
    cell.world.place(
        cell.task.bodies[row], origin + rotation @ (point + np.array([0.0, 0.0, 0.5 * height]))
    )
    cell.world.read()


def driving(cell, speed, turn=0.0):
    """Return the action in which the arm stays, its hand open, and the base drives: shares of full speed and turn."""
    action = each_arm(cell, WAIT)
    action[7:] = speed, turn
    return action


@pytest.mark.parametrize("level", LEVELS)
def test_starts_are_sound_and_as_the_module_says(cells, level):
    cell, given = cells[level], ShelfPick.jobs[level]
    poses, steps, yaws, named = [], set(), [], set()
    for seed in range(200):
        cell.reset(seed=seed)
        _, base = parts_of(cell)
        verdict = cell.task.judge(cell.world, cell.robot)
        assert (verdict.success, verdict.failure) == (False, "")
        assert all(cell.world.overlap_m(body) < 5e-4 for body in cell.task.bodies)
        assert cell.world.overlap_m(base.body) == 0.0
        poses.append(base.pose)
        rows = cell.world.poses[: given.items]
        for row, item in zip(rows, cell.task.items, strict=False):
            steps.add(round(float(row[2]) - 0.5 * item.size[2], 3))
        yaws += [yaw_of(row) for row in rows]
        assert min(math.dist(a[:3], b[:3]) for a, b in combinations(rows, 2)) > 0.17
        named.add(cell.task.named)
    low, high = np.min(poses, axis=0), np.max(poses, axis=0)
    np.testing.assert_allclose(low, (-given.distance[1], -given.side, -given.yaw), atol=0.03)
    np.testing.assert_allclose(high, (-given.distance[0], given.side, given.yaw), atol=0.03)
    assert steps == set(STEP_TOPS_M[: given.steps])
    assert max(yaws) == pytest.approx(given.item_yaw, abs=0.02)
    wording = ShelfPick.wording
    assert named == set(cell.instructions) <= set(wording.usual) == set(wording.unseen)
    assert len(cell.task.items) == given.items + 1


def test_items_start_at_rest(cell):
    cell.reset(seed=1)
    before = cell.world.poses.copy()
    wait(cell, 20)
    assert np.abs(cell.world.poses - before).max() < 5e-4


@pytest.mark.parametrize("named", range(4))
def test_done_after_half_a_second_in_the_tote(cell, named):
    seed = next(
        seed for seed in range(50) if cell.reset(seed=seed) and cell.task.progress.named == named
    )
    cell.reset(seed=seed)
    put(cell, named)
    step = waits_for(cell)
    assert HOLD_STEPS <= step <= HOLD_STEPS + 5


def test_beside_the_tote_is_not_done(cell):
    """On its rim, and on the deck behind it; both are judged where they were put."""
    for place in (
        {"across": 0.5 * TOTE_INNER_M[1] + 0.01},
        {"along": -0.5 * TOTE_INNER_M[0] - 0.01},
        {"lift": 0.08},
    ):
        cell.reset(seed=2)
        put(cell, cell.task.progress.named, **place)
        assert cell.task.judge(cell.world, cell.robot).stage != "release"
    put(cell, cell.task.progress.named)
    assert cell.task.judge(cell.world, cell.robot).stage == "release"


def test_the_tote_goes_where_the_robot_goes(cell):
    """What lies in it is carried, and does not count before the base stands."""
    cell.reset(seed=3)
    arm, base = parts_of(cell)
    base.reset(-1.5, 0.3, 1.9)
    arm.reset(np.array([0.3, 0.0, 0.42]), 0.0)
    put(cell, cell.task.progress.named)
    step, _, terminated, info = wait(cell, 4 * HOLD_STEPS, driving(cell, 0.15, 0.1))
    assert (step, terminated, info["stage"]) == (4 * HOLD_STEPS, False, "release")
    assert wait(cell)[3]["success"]


def test_not_done_while_the_gripper_is_closed_or_near(cell):
    cell.reset(seed=4)
    arm, _ = parts_of(cell)
    put(cell, cell.task.progress.named)
    closed = WAIT.copy()
    closed[6] = 1.0
    _, _, terminated, info = wait(cell, 2 * HOLD_STEPS, closed)
    assert (terminated, info["stage"]) == (False, "release")
    cell.reset(seed=4)
    arm.reset(np.array([*TOTE, 0.06]), math.atan2(TOTE[1], TOTE[0]))
    put(cell, cell.task.progress.named)
    assert not wait(cell, 2 * HOLD_STEPS)[2]


def test_another_item_in_the_tote_is_wrong(cell):
    cell.reset(seed=5)
    named = cell.task.progress.named
    put(cell, (named + 1) % 4)
    step, _, terminated, info = wait(cell)
    assert (terminated, info["success"], info["failure"]) == (True, False, "wrong_part")
    assert step >= HOLD_STEPS
    cell.reset(seed=5)
    put(cell, named, across=0.06)
    put(cell, (named + 1) % 4, across=-0.06)
    assert wait(cell)[3]["failure"] == "wrong_part"


def test_off_the_rack_is_dropped(cell):
    cell.reset(seed=6)
    named = cell.task.progress.named
    cell.world.place(cell.task.bodies[(named + 1) % 4], (-0.6, 1.0, 0.2))
    cell.world.read()
    assert wait(cell, 30)[3]["failure"] == ""  # others may be
    cell.world.place(cell.task.named_body, (-0.6, -1.0, 0.29))
    cell.world.read()
    assert wait(cell, 2)[3]["failure"] == "dropped"


@pytest.mark.parametrize("yaw", [0.0, 0.5])
def test_the_chassis_may_not_touch_the_rack(cell, yaw):
    cell.reset(seed=7)
    _, base = parts_of(cell)
    base.reset(-0.9, 0.0, yaw)
    assert wait(cell, 80, driving(cell, 0.5))[3]["failure"] == "collision"


def test_the_arm_is_commanded_in_its_own_frame(cell):
    cell.reset(seed=8)
    arm, base = parts_of(cell)
    base.reset(-1.4, 0.2, 0.9)
    arm.reset(np.array([0.35, 0.05, 0.40]), 0.0)
    before, action = arm.frame()[0], driving(cell, 0.0)
    action[0] = 1.0
    wait(cell, 4, action)
    wait(cell, 6)
    moved = yaw_matrix(-0.9) @ (arm.frame()[0] - before)
    np.testing.assert_allclose(moved, (0.1, 0.0, 0.0), atol=4e-3)
    np.testing.assert_allclose(arm.mount[0], base.frame()[0] + base.frame()[1] @ MOUNT, atol=1e-4)


def test_the_expert_drives_back_when_it_stands_askew(cell):
    for pose in ((-0.50, -0.45, 0.3), (-0.55, 0.5, -0.25), (-0.8, 0.0, 2.6)):
        _, info = cell.reset(seed=9)
        arm, base = parts_of(cell)
        base.reset(*pose)
        arm.reset(np.array([0.3, 0.0, 0.42]), 0.0)
        expert = make_expert(NAME)
        expert.reset(0, info["instruction"])
        for _ in range(cell.max_episode_steps):
            observation = {**cell.observe(()), "object_names": info["object_names"]}
            _, terminated, truncated, info = cell.advance(expert.act(observation).actions[0])
            if terminated or truncated:
                break
        assert info["success"], pose


def test_stages_come_in_order(cell):
    run = play(cell, make_expert(NAME), 600_201)
    assert list(dict.fromkeys(run.stages)) == ["drive", "approach", "grasp", "carry", "release"]
    assert run.outcome == "success"
    assert 110 <= run.steps <= 260
