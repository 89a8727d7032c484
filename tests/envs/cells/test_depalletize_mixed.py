"""DepalletizeMixed's rules: how boxes are stacked, what counts as delivered and as lost, what the belt does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cell_episodes import WAIT, built_at, play, wait, waits_for

from shopfloor.envs.cells.depalletize_mixed import (
    BELT_END_M,
    BELT_SPEED_M_S,
    BELT_TOP_M,
    BELT_X_M,
    LINE_M,
    PALLET_HIGH,
    PALLET_LOW,
    DepalletizeMixed,
)
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.task import HOLD_STEPS

ON_ITS_SIDE = (math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5))
COUNTS = {"easy": (4, 2, 0), "nominal": (6, 2, 2), "hard": (8, 3, 4)}  # boxes, named, on others
STEPS = {"easy": 250, "nominal": 250, "hard": 400}


@pytest.fixture(scope="module")
def cells():
    with built_at("DepalletizeMixed", COUNTS) as made:
        yield made


@pytest.fixture
def cell(cells):
    return cells["nominal"]


def boxes(cell):
    return range(len(cell.task.items) - 2)


def named_rows(cell):
    return [index for index in boxes(cell) if cell.task.items[index].name == cell.task.named]


def other_rows(cell):
    return [index for index in boxes(cell) if cell.task.items[index].name != cell.task.named]


def under(cell, row):
    """Return the box below one, -1 for none."""
    pose = cell.world.poses
    found = [
        low
        for low in boxes(cell)
        if math.dist(pose[low, :2], pose[row, :2]) < 0.03 and pose[low, 2] < pose[row, 2]
    ]
    return found[0] if found else -1


def put(cell, row, y, x=BELT_X_M, lift=0.0):
    """Put a box onto the belt."""
    place = (x, y, BELT_TOP_M + 0.5 * cell.task.items[row].size[2] + lift)
    cell.world.place(cell.task.bodies[row], place)
    cell.world.read()


def deliver(cell, rows, y=LINE_M - 0.01):
    for index, row in enumerate(rows):
        put(cell, row, y - 0.095 * index)


@pytest.mark.parametrize("level", COUNTS)
def test_scenes_are_as_the_module_says(cells, level):
    cell, speeds, pallets = cells[level], [], []
    count, named, upper = COUNTS[level]
    assert len(boxes(cell)) == count
    names = set()
    for seed in range(200):
        _, info = cell.reset(seed=seed)
        assert not info["success"]
        assert all(cell.world.overlap_m(body) < 5e-4 for body in cell.task.bodies)
        below = [under(cell, row) for row in boxes(cell)]
        blocked = [row for row in other_rows(cell) if below[row] in named_rows(cell)]
        assert (len(named_rows(cell)), sum(row >= 0 for row in below)) == (named, upper)
        assert bool(blocked) == (level == "hard")
        assert all(cell.robot.reaches(*cell.world.poses[row, :2]) for row in boxes(cell))
        speeds.append(cell.task.memory()[4])
        pallets.append(cell.world.poses[cell.world.bodies.index(cell.task._pallet), :2])
        names.add(cell.task.named)
    assert (min(speeds), max(speeds)) == pytest.approx(BELT_SPEED_M_S, abs=0.003)
    np.testing.assert_allclose(
        [np.min(pallets, axis=0), np.max(pallets, axis=0)], [PALLET_LOW, PALLET_HIGH], atol=5e-3
    )
    assert names == {"red box", "green box", "blue box"} - (
        {"blue box"} if level != "nominal" else set()
    )
    assert cell.max_episode_steps == STEPS[level]


@pytest.mark.parametrize("level", COUNTS)
def test_stacks_stand_still(cells, level):
    cell = cells[level]
    cell.reset(seed=1)
    before = cell.world.poses.copy()
    for _ in range(60):
        cell.advance(WAIT)
    assert np.abs(cell.world.poses - before)[boxes(cell), :3].max() < 1e-3


def test_the_belt_carries_at_its_speed_and_stays(cell):
    cell.reset(seed=2)
    put(cell, other_rows(cell)[0], 0.0)
    for _ in range(5):
        cell.advance(WAIT)
    before = cell.world.poses.copy()
    for _ in range(20):
        cell.advance(WAIT)
    way = cell.world.poses[:, 1] - before[:, 1]
    assert way[other_rows(cell)[0]] == pytest.approx(-cell.task.memory()[4], rel=0.02)
    assert way[len(cell.task.items) - 2] == 0.0


@pytest.mark.parametrize("level", COUNTS)
def test_done_half_a_second_after_the_last_one_is_past_the_line(cells, level):
    cell = cells[level]
    cell.reset(seed=3)
    deliver(cell, named_rows(cell))
    step = waits_for(cell)
    assert step == HOLD_STEPS


def test_the_end_stop_holds_what_is_delivered(cells):
    """Three boxes find room behind the line, and success does not ask for rest."""
    cell = cells["hard"]
    cell.reset(seed=4)
    deliver(cell, named_rows(cell)[:2])
    put(cell, named_rows(cell)[2], 0.02)
    step, _, _, info = wait(cell, 200)
    assert info["success"]
    assert step > 0.2 / BELT_SPEED_M_S[1] * 20
    for row in named_rows(cell):
        assert BELT_END_M < cell.world.poses[row, 1] < LINE_M


def test_not_done_before_the_line_or_beside_the_belt(cell):
    cell.reset(seed=5)
    deliver(cell, named_rows(cell)[:1])
    for place in (
        {"y": LINE_M + 0.002},
        {"y": LINE_M - 0.05, "lift": 0.012},
        {"y": LINE_M - 0.05, "x": 0.60},
    ):
        put(cell, named_rows(cell)[1], **place)
        assert cell.task.judge(cell.world, cell.robot).stage == "approach", place
    put(cell, named_rows(cell)[1], LINE_M - 0.002)
    assert cell.task.judge(cell.world, cell.robot).stage == "release"


def test_not_done_while_the_cup_holds_a_box(cell):
    cell.reset(seed=6)
    deliver(cell, named_rows(cell))
    free = next(
        row for row in other_rows(cell) if all(under(cell, above) != row for above in boxes(cell))
    )
    top = cell.world.poses[free, :3] + [0.0, 0.0, 0.5 * cell.task.items[free].size[2] + 0.001]
    cell.robot.reset(top, 0.0)
    for _ in range(2 * HOLD_STEPS):
        assert not cell.advance(-WAIT)[1]
    assert cell.robot.holding == cell.task.bodies[free]
    assert wait(cell)[3]["success"]


def test_another_colour_past_the_line_is_wrong(cell):
    for rows in (lambda: other_rows(cell)[:1], lambda: [*named_rows(cell), other_rows(cell)[0]]):
        cell.reset(seed=7)
        deliver(cell, rows())
        step, reward, _, info = wait(cell)
        assert (reward, info["failure"]) == (0.0, "wrong_part")
        assert step == HOLD_STEPS


@pytest.mark.parametrize(
    ("place", "of_named", "of_others"),
    [
        (((1.4, 0.0, 0.05),), "dropped", "dropped"),
        (((0.635, -0.05, 0.04), ON_ITS_SIDE), "dropped", "dropped"),
        (((0.9, 0.1, 0.0225),), "out_of_reach", ""),
    ],
)
def test_lost_boxes(cell, place, of_named, of_others):
    for rows, expected in ((named_rows, of_named), (other_rows, of_others)):
        cell.reset(seed=8)
        cell.world.place(cell.task.bodies[rows(cell)[0]], *place)
        cell.world.read()
        assert wait(cell, 40)[3]["failure"] == expected


def test_boxes_in_the_way_are_set_aside(cells):
    """They end on the mat, and what need not be moved is not."""
    cell = cells["hard"]
    cell.reset(seed=610_300)
    below = [under(cell, row) for row in boxes(cell)]
    blocking = [row for row in other_rows(cell) if below[row] in named_rows(cell)]
    before = cell.world.poses.copy()
    run = play(cell, make_expert("DepalletizeMixed"), 610_300, variation="hard")
    assert run.outcome == "success"
    for row in other_rows(cell):
        moved = math.dist(before[row, :3], cell.world.poses[row, :3]) > 0.02
        assert moved == (row in blocking)
        assert not moved or abs(cell.world.poses[row, 0] - 0.64) < 0.03


def test_smaller_boxes_and_unseen_words(cell):
    assert (
        play(cell, make_expert("DepalletizeMixed"), 610_301, variation="objects").outcome
        == "success"
    )
    _, info = cell.reset(seed=3, options={"variation": "instruction"})
    assert info["instruction"] in DepalletizeMixed.wording.unseen[cell.task.named]
