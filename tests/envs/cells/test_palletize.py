"""Palletize's rules: what counts as a place taken, as done and as lost, and how the levels differ."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cell_episodes import built_at, play, wait, waits_for

from shopfloor.envs.cells.palletize import (
    BOX_M,
    GAP_M,
    PALLET_HIGH,
    PALLET_LOW,
    PLACE_M,
    PLACE_RAD,
    STABLE_STEPS,
    Palletize,
)
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.physics.kinematics import matrix

STEPS = {"easy": 130, "nominal": 260, "hard": 400}
LAYERS = {"easy": 1, "nominal": 2, "hard": 3}
ON_ITS_SIDE = (math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5))


@pytest.fixture(scope="module")
def cells():
    with built_at("Palletize", LAYERS) as made:
        yield made


@pytest.fixture
def cell(cells):
    return cells["nominal"]


def named_rows(cell):
    return [index for index, item in enumerate(cell.task.items) if item.name == cell.task.named]


def other_rows(cell):
    return [
        index
        for index, item in enumerate(cell.task.items)
        if item.name not in (cell.task.named, "pallet")
    ]


def turn(yaw):
    return 0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)


def fill(cell, rows, off=(0.0, 0.0, 0.0), yaw=0.0):
    """Put boxes into the places, the last of them off its own: along and across it, up (m), turned (rad)."""
    places = [slot for layer in cell.task.slots(cell.world) for slot in layer]
    for index, (row, slot) in enumerate(zip(rows, places, strict=False)):
        last = index == len(places) - 1
        dx, dy, dz = off if last else (0.0, 0.0, 0.0)
        c, s = math.cos(slot.yaw), math.sin(slot.yaw)
        x, y, z = slot.position
        place = (x + c * dx - s * dy, y + s * dx + c * dy, z + dz)
        cell.world.place(
            cell.task.bodies[row], place, turn(slot.yaw + (yaw if last else math.pi * (index % 2)))
        )
    cell.world.read()


@pytest.mark.parametrize("level", LAYERS)
def test_scenes_are_as_the_module_says(cells, level):
    cell, pallets, yaws, named = cells[level], [], [], set()
    for seed in range(200):
        _, info = cell.reset(seed=seed)
        assert not info["success"]
        assert all(cell.world.overlap_m(body) < 5e-4 for body in cell.task.bodies)
        pose = cell.world.poses[len(cell.task.items) - 1]
        pallets.append(pose[:2])
        yaws.append(2 * math.atan2(pose[5], pose[6]))
        named.add(cell.task.named)
        assert all(
            cell.robot.reaches(*cell.world.poses[row, :2]) for row in range(len(cell.task.items))
        )
    np.testing.assert_allclose(
        [np.min(pallets, axis=0), np.max(pallets, axis=0)], [PALLET_LOW, PALLET_HIGH], atol=0.01
    )
    limit = Palletize.jobs[level].pallet_yaw
    assert (min(yaws), max(yaws)) == pytest.approx((-limit, limit), abs=0.05)
    assert named == {"red box", "blue box"}
    assert len(named_rows(cell)) == len(other_rows(cell)) == 2 * LAYERS[level]
    assert cell.max_episode_steps == STEPS[level]


def test_layers_lie_across_each_other(cell):
    cell.reset(seed=1)
    lower, upper = cell.task.slots(cell.world)
    assert upper[0].yaw - lower[0].yaw == pytest.approx(math.pi / 2)
    for layer in (lower, upper):
        assert math.dist(layer[0].position, layer[1].position) == pytest.approx(BOX_M[1] + GAP_M)
    assert upper[0].position[2] - lower[0].position[2] == pytest.approx(BOX_M[2])


@pytest.mark.parametrize("level", LAYERS)
def test_done_after_a_second_in_place_whichever_box_is_where(cells, level):
    cell = cells[level]
    cell.reset(seed=2)
    fill(cell, np.random.default_rng(0).permutation(named_rows(cell)).tolist())
    step = waits_for(cell)
    assert STABLE_STEPS <= step <= STABLE_STEPS + 5


@pytest.mark.parametrize(
    ("off", "yaw", "filled"),
    [
        ((PLACE_M - 5e-4, 0.0, 0.0), 0.0, True),
        ((PLACE_M + 5e-4, 0.0, 0.0), 0.0, False),
        ((0.0, PLACE_M + 5e-4, 0.0), 0.0, False),
        ((0.0, 0.0, 0.0), PLACE_RAD - 0.005, True),
        ((0.0, 0.0, 0.0), PLACE_RAD + 0.005, False),
        ((0.0, 0.0, 0.0), math.pi / 2, False),
        ((0.0, 0.0, 0.0045), 0.0, False),
    ],
)
def test_places_have_their_tolerance(cell, off, yaw, filled):
    """Judged where the box was put, not where it would fall."""
    cell.reset(seed=3)
    fill(cell, named_rows(cell), off, yaw)
    assert (cell.task.judge(cell.world, cell.robot).stage == "release") == filled


def test_not_done_while_a_box_is_missing_or_moves(cell):
    cell.reset(seed=4)
    fill(cell, named_rows(cell)[:-1])
    assert wait(cell, 30)[2] is False
    cell.reset(seed=4)
    fill(cell, named_rows(cell))
    body, pose = cell.task.bodies[named_rows(cell)[-1]], cell.world.poses[named_rows(cell)[-1]]
    for _ in range(STABLE_STEPS):
        cell.world.place(body, pose[:3], pose[3:], (0.006, 0.0, 0.0, 0.0, 0.0, 0.0))
        cell.world.read()
        assert cell.task.judge(cell.world, cell.robot).stage == "release"


def test_not_done_until_the_cup_has_let_go_and_is_clear(cell):
    cell.reset(seed=5)
    fill(cell, named_rows(cell))
    top = cell.world.poses[named_rows(cell)[-1], :3] + [0.0, 0.0, BOX_M[2] / 2 + 0.001]
    cell.robot.reset(top, 0.0)
    for gripper in (-1.0, 1.0):
        for _ in range(STABLE_STEPS + 5):
            assert not cell.advance(np.array([0, 0, 0, 0, 0, 0, gripper]))[1]
    assert cell.robot.holding == cell.task.bodies[named_rows(cell)[-1]]
    for _ in range(3):
        cell.advance(np.array([0, 0, 0, 0, 0, 0, -1.0]))
    for _ in range(3):
        cell.advance(np.array([0, 0, 1.0, 0, 0, 0, -1.0]))
    assert wait(cell)[3]["success"]


def test_other_boxes_on_the_pallet_are_wrong(cell):
    cell.reset(seed=6)
    fill(cell, [*named_rows(cell)[:-1], other_rows(cell)[0]])
    assert wait(cell)[3]["failure"] == "wrong_part"
    cell.reset(seed=6)
    fill(cell, other_rows(cell))
    assert wait(cell)[3]["failure"] == "wrong_part"


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (((1.4, 0.0, 0.05),), "dropped"),
        (((0.3, 0.3, 0.029), ON_ITS_SIDE), "dropped"),
        (((0.9, 0.1, 0.0225),), "out_of_reach"),
    ],
)
def test_lost_boxes(cell, place, reason):
    for row, expected in ((named_rows, reason), (other_rows, "")):  # others may be
        cell.reset(seed=7)
        cell.world.place(cell.task.bodies[row(cell)[0]], *place)
        cell.world.read()
        assert wait(cell, 40)[3]["failure"] == expected


def test_stacks_stand_still(cells):
    """Without friction's anchors three layers creep by millimetres."""
    cell = cells["hard"]
    cell.reset(seed=8)
    fill(cell, named_rows(cell))
    before = cell.world.poses.copy()
    for _ in range(60):
        cell.world.control_step()
    cell.world.read()
    assert np.abs(cell.world.poses - before)[:, :3].max() < 5e-4


def test_the_expert_sets_right_what_lies_wrong(cell):
    """A named box across both places of the first layer, and another named one askew on it."""
    _, info = cell.reset(seed=610_201)
    x, y, _ = cell.world.poses[len(cell.task.items) - 1, :3]
    for row, height in zip(named_rows(cell), (0.024, 0.069), strict=False):
        cell.world.place(cell.task.bodies[row], (x, y, height + BOX_M[2] / 2), turn(0.7))
    cell.world.read()
    expert, ended = make_expert("Palletize"), False
    expert.reset(0, info["instruction"])
    while not ended:
        observation = {**cell.observe(()), "object_names": info["object_names"]}
        _, terminated, truncated, info = cell.advance(expert.act(observation).actions[0])
        ended = terminated or truncated
    assert info["success"]


def test_smaller_boxes_and_unseen_words(cell):
    run = play(cell, make_expert("Palletize"), 610_202, variation="objects")
    assert run.outcome == "success"
    assert cell.task.items[0].size[0] < 0.95 * BOX_M[0]
    _, info = cell.reset(seed=3, options={"variation": "instruction"})
    assert info["instruction"] in Palletize.wording.unseen[cell.task.named]


def test_held_boxes_stay_upright_and_in_place(cell):
    run = play(cell, make_expert("Palletize"), 610_203)
    leans = []
    for state, stage in zip(run.states, run.stages, strict=True):
        if stage == "carry":
            cell.set_sim_state(state)
            row = cell.world.bodies.index(cell.robot.holding)
            leans.append(
                math.degrees(math.acos(min(1.0, abs(matrix(cell.world.poses[row, 3:])[2, 2]))))
            )
    assert max(leans) < 4.0
