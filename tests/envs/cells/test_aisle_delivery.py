"""AisleDelivery's rules: what counts as docked, that any touch ends it, how people walk, and several robots."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cell_episodes import build, play

from shopfloor.envs.cells.aisle_delivery import (
    DOCKS,
    KEEP_M,
    MORE_STEPS,
    NEAR_M,
    PERSON_SPEED,
    AisleDelivery,
)
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.task import HOLD_STEPS

NAME = "AisleDelivery"


@pytest.fixture(scope="module", params=["easy", "nominal", "hard"])
def at_level(request):
    built = build(NAME, variation=request.param)
    yield built, AisleDelivery.jobs[request.param]
    built.close()


@pytest.fixture(scope="module")
def cell():
    built = build(NAME)
    yield built
    built.close()


def dock_pose(cell, row):
    pose = cell.world.poses[row]
    return float(pose[0]), float(pose[1]), 2 * math.atan2(pose[5], pose[6])


def park(cell, row, along=0.0, across=0.0, turn=0.0, base=0):
    """Put a robot at rest at a place in a dock's frame."""
    x, y, yaw = dock_pose(cell, row)
    c, s = math.cos(yaw), math.sin(yaw)
    cell.task._bases[base].reset(x + c * along - s * across, y + s * along + c * across, yaw + turn)


def wait(cell, steps):
    step, ended, info = 0, False, {}
    while step < steps and not ended:
        _, terminated, truncated, info = cell.advance(np.zeros(cell.action_size))
        step, ended = step + 1, terminated or truncated
    return step, info


def people(cell):
    progress = cell.task.progress
    return [cell.task._point(way) for way in progress.ways[: progress.people]]


def asked(texts, robots):
    """Return the keys of the texts that ask for a dock for each of some robots."""
    return {names for names in texts if len(names.split(", ")) == robots}


def test_starts_are_sound_and_as_the_module_says(at_level):
    cell, given = at_level
    yaws, docks, named, counts, aisles = [], [], set(), set(), set()
    for seed in range(200):
        cell.reset(seed=seed)
        base, rows = cell.robot, cell.world.poses
        verdict = cell.task.judge(cell.world, base)
        assert (verdict.success, verdict.failure) == (False, "")
        assert cell.world.overlap_m(base.body) == 0.0
        assert all(math.dist(spot, base.pose[:2]) > KEEP_M for spot in people(cell))
        yaws.append(base.pose[2])
        docks += [dock_pose(cell, row)[2] for row in range(DOCKS)]
        named.add(cell.task.named)
        counts.add(len(people(cell)))
        assert sorted(np.round(rows[:DOCKS, 1] - 0.5) + 0.5) == [-1.5, -0.5, 0.5, 1.5]
        if given.blocked:
            aisles.add(round(cell.task.progress.stack[1], 3))
    assert given.start_yaw - 0.05 < max(yaws) <= given.start_yaw
    assert given.dock_yaw - 0.02 < max(docks) + 1e-9
    assert max(docks) <= given.dock_yaw + 1e-9
    wording = AisleDelivery.wording
    assert named == asked(wording.usual, 1) == asked(wording.unseen, 1)
    assert counts == set(range(given.people[0], given.people[1] + 1))
    assert len(aisles) == (3 if given.blocked else 0)


def test_aisles_are_as_wide_as_said(at_level):
    cell, given = at_level
    cell.reset(seed=0)
    low, high = (cell.world.poses[row] for row in (DOCKS, DOCKS + 1))
    depth = cell.task.items[DOCKS].size[1]
    assert high[1] - low[1] - depth == pytest.approx(given.aisle)
    assert 2.0 - high[1] - depth / 2 == pytest.approx(given.aisle)


@pytest.mark.parametrize("row", range(DOCKS))
def test_docked_after_half_a_second_in_the_named_dock(cell, row):
    seed = next(seed for seed in range(100) if cell.reset(seed=seed) and cell.task._docks == [row])
    cell.reset(seed=seed)
    park(cell, row, 0.6 * NEAR_M, -0.6 * NEAR_M, math.radians(4.5))
    step, info = wait(cell, 30)
    assert (step, info["success"], info["failure"], info["stage"]) == (HOLD_STEPS, True, "", "done")


@pytest.mark.parametrize(
    "place",
    [
        {"along": 0.033},
        {"across": -0.033},
        {"turn": math.radians(5.5)},
        {"turn": -math.radians(5.5)},
    ],
)
def test_near_misses_are_not_docked(cell, place):
    cell.reset(seed=3)
    park(cell, cell.task._docks[0], **place)
    step, info = wait(cell, 2 * HOLD_STEPS)
    assert (step, info["success"], info["failure"]) == (2 * HOLD_STEPS, False, "")


def test_not_docked_while_it_moves(cell):
    for action in ((0.02, 0.0), (0.0, 0.03)):
        cell.reset(seed=3)
        park(cell, cell.task._docks[0], along=-0.008)
        for _ in range(HOLD_STEPS + 4):
            _, terminated, _, _ = cell.advance(np.array(action))
            assert not terminated
        cell.robot.reset(*cell.robot.pose)
        assert wait(cell, HOLD_STEPS)[1]["success"]


def test_another_dock_is_wrong(cell):
    cell.reset(seed=4)
    park(cell, (cell.task._docks[0] + 1) % DOCKS)
    step, info = wait(cell, 30)
    assert (step, info["success"], info["failure"]) == (HOLD_STEPS, False, "wrong_part")


@pytest.mark.parametrize("pose", [(-1.6, 0.0), (-2.75, 0.0), (2.2, 0.0)])
def test_any_touch_is_a_collision(cell, pose):
    """A rack, the wall behind, a sign: wherever a base drives on and on."""
    cell.reset(seed=5)
    rack = cell.world.poses[DOCKS]
    cell.robot.reset(
        pose[0], float(rack[1]) if pose[0] == -1.6 else float(cell.world.poses[0, 1]), 0.0
    )
    info = drive(cell, -1.0 if pose[0] == -2.75 else 1.0)
    assert (info["success"], info["failure"]) == (False, "collision")


def drive(cell, speed):
    info = {}
    for _ in range(80):
        _, terminated, _, info = cell.advance(np.array([speed] + [0.0] * (cell.action_size - 1)))
        if terminated:
            break
    return info


def test_driving_into_a_person_is_a_collision(cell):
    cell.reset(seed=6)
    x, y = people(cell)[0]
    cell.robot.reset(x - 0.5, y, 0.0)
    assert drive(cell, 1.0)["failure"] == "collision"


def test_people_walk_and_turn_back_before_a_robot(at_level):
    cell, given = at_level
    if not given.people[1]:
        return
    spot = (1.65, 0.0)
    for seed in range(6):
        cell.reset(seed=seed)
        if min(math.dist(there, spot) for there in people(cell)) < 1.0:
            continue
        cell.robot.reset(*spot, 0.5 * math.pi)
        nearest = []
        steps = []
        for _ in range(350):
            before = people(cell)
            _, terminated, _, _ = cell.advance(np.zeros(2))
            assert not terminated
            steps += [math.dist(*pair) for pair in zip(before, people(cell), strict=True)]
            nearest.append(min(math.dist(there, spot) for there in people(cell)))
        assert min(nearest) >= KEEP_M - 1e-6
        assert min(nearest) < KEEP_M + 0.03
        assert max(steps) <= PERSON_SPEED[1] * 0.05 + 1e-9
        assert np.median(steps) > PERSON_SPEED[0] * 0.04


def test_several_robots_each_have_a_dock():
    for count in (2, 3, 4):
        cell = build(NAME, robot=f"amr_x{count}")
        assert cell.action_size == 2 * count
        assert cell.max_episode_steps == 400 + MORE_STEPS * (count - 1)
        assert set(cell.instructions) == asked(AisleDelivery.wording.usual, count)
        _, info = cell.reset(seed=2)
        docks = cell.task.named.split(", ")
        assert len(set(docks)) == count
        assert all(
            f"obot {number} to the {dock}" in info["instruction"]
            for number, dock in enumerate(docks, 1)
        )
        for base, row in enumerate(cell.task._docks[:-1]):
            park(cell, row, base=base)
        assert wait(cell, 2 * HOLD_STEPS)[1]["success"] is False
        park(cell, cell.task._docks[-1], base=count - 1)
        assert wait(cell, HOLD_STEPS)[1]["success"] is True
        cell.close()
    assert [len(asked(AisleDelivery.wording.usual, count)) for count in (1, 2, 3, 4)] == [
        4,
        12,
        24,
        24,
    ]


def test_robots_that_swap_docks_are_wrong_and_may_not_touch():
    cell = build(NAME, robot="amr_x2")
    cell.reset(seed=2)
    first, second = cell.task._docks
    park(cell, second, base=0)
    park(cell, first, base=1)
    assert wait(cell, 30)[1]["failure"] == "wrong_part"
    cell.reset(seed=2)
    cell.task._bases[0].reset(-2.5, 0.0, 0.0)
    cell.task._bases[1].reset(-1.7, 0.0, math.pi)
    assert drive(cell, 1.0)["failure"] == "collision"
    cell.close()


@pytest.mark.parametrize("robot", ["amr_x2", "amr_x4"])
def test_the_expert_drives_several(robot):
    cell, expert = build(NAME, robot=robot), make_expert(NAME)
    run = play(cell, expert, 610_001)
    assert run.outcome == "success"
    assert play(cell, expert, 610_001).digest == run.digest
    named = cell.task.named
    cell.reset(seed=1)
    cell.set_sim_state(run.states[-1])
    assert cell.task.named == named
    cell.close()


def test_stages_come_in_order(cell):
    run = play(cell, make_expert(NAME), 600_201)
    assert list(dict.fromkeys(run.stages)) == ["depart", "aisle", "dock", "docked"]
    assert run.outcome == "success"
    assert 150 <= run.steps <= 330
