"""TotePack's rules: what an order is, how full it makes the tote, what counts as packed, as done and as lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cell_episodes import WAIT, built_at, play, wait

from shopfloor.core import InvalidInputError
from shopfloor.envs.cells.tote_pack import FLOOR_M, ORDERS, WALL_M, TotePack, pack
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.physics.kinematics import quaternion, rotation_matrix, yaw_matrix
from shopfloor.envs.task import HOLD_STEPS
from shopfloor.envs.variation import LEVELS


@pytest.fixture(scope="module")
def cells():
    with built_at("TotePack", LEVELS) as made:
        yield made


@pytest.fixture
def cell(cells):
    return cells["nominal"]


def yaw_of(pose):
    return 2 * math.atan2(pose[5], pose[6])


def order_rows(cell):
    colour = cell.task.named.split()[0]
    return [row for row, item in enumerate(cell.task.items[:-1]) if item.name.startswith(colour)]


def slots_of(cell, rows):
    *boxes, tote = cell.task.items
    return pack([boxes[row] for row in rows], tote)


def put(cell, row, along, across, lift=0.0005, turned=None):
    """Put a box into the tote: its middle along and across it (m), its lower side above the floor (m)."""
    tote, size = cell.world.poses[len(cell.task.items) - 1], np.array(cell.task.items[row].size)
    own = np.eye(3) if turned is None else turned
    frame = yaw_matrix(yaw_of(tote))
    half = 0.5 * float(np.abs(own[2]) @ size)
    at = tote[:3] + frame @ [along, across, FLOOR_M + half + lift]
    cell.world.place(cell.task.bodies[row], at, quaternion(frame @ own))
    cell.world.read()


def pack_all(cell, but=()):
    rows = order_rows(cell)
    slots = slots_of(cell, rows)
    for row in rows:
        if row not in but:
            put(cell, row, *slots[cell.task.items[row].name])


@pytest.mark.parametrize(
    ("level", "boxes", "red", "blue"),
    [("easy", 4, 0.298, 0.298), ("nominal", 6, 0.469, 0.450), ("hard", 8, 0.604, 0.604)],
)
def test_levels_differ_in_how_full_the_tote_gets(cells, level, boxes, red, blue):
    items = cells[level].task.items
    x, y, z = items[-1].size
    inside = (x - 2 * WALL_M) * (y - 2 * WALL_M) * (z - FLOOR_M)
    assert len(items) == boxes + 1
    for order, fill in (("red", red), ("blue", blue)):
        volume = sum(math.prod(item.size) for item in items[:-1] if item.name.startswith(order))
        assert volume / inside == pytest.approx(fill, abs=1e-3)
        job = TotePack.jobs[level]
        filled = sum(math.prod(job.sizes[kind]) for kind in getattr(job, order))
        assert filled / math.prod(job.inside) == pytest.approx(fill, abs=1e-3)
    with pytest.raises(InvalidInputError, match="object rows"):
        cells[level].reset(seed=1, options={"variation": "easy" if level == "hard" else "hard"})


@pytest.mark.parametrize("level", LEVELS)
def test_starts_are_free_and_never_done(cells, level):
    cell, named, yaws = cells[level], set(), []
    for seed in range(200):
        _, info = cell.reset(seed=seed)
        assert not info["success"]
        assert max(cell.world.overlap_m(body) for body in cell.task.bodies) < 5e-4, seed
        assert all(cell.robot.reaches(*pose[:2]) for pose in cell.world.poses)
        named.add(cell.task.named)
        yaws += [yaw_of(pose) for pose in cell.world.poses[:-1]]
    assert named == {f"{order} carton" for order in ORDERS}
    assert (min(yaws), max(yaws)) == pytest.approx((-0.6, 0.6), abs=0.02)
    before = cell.world.poses.copy()
    wait(cell, 20)
    assert np.abs(cell.world.poses - before).max() < 5e-4


@pytest.mark.parametrize("level", LEVELS)
def test_done_after_half_a_second_with_the_whole_order_inside(cells, level):
    cell = cells[level]
    for seed in (1, 2, 3):
        cell.reset(seed=seed)
        pack_all(cell)
        step, reward, terminated, info = wait(cell)
        assert (reward, terminated, info["success"], info["stage"]) == (1.0, True, True, "done")
        assert HOLD_STEPS <= step <= HOLD_STEPS + 4


def test_not_done_while_one_is_missing(cell):
    for row in range(3):
        cell.reset(seed=1)
        pack_all(cell, but=[order_rows(cell)[row]])
        assert wait(cell)[3]["success"] is False


def test_a_box_on_top_of_others_keeps_the_lid_open(cell):
    cell.reset(seed=2)
    rows = order_rows(cell)
    pack_all(cell, but=rows[2:])
    put(cell, rows[2], -0.02, 0.0, lift=0.048)
    step, _, terminated, info = wait(cell)
    assert (step, terminated, info["stage"]) == (60, False, "approach")


def test_a_box_that_leans_on_the_wall_is_not_packed(cell):
    cell.reset(seed=2)
    rows = order_rows(cell)
    pack_all(cell, but=rows[2:])
    put(cell, rows[2], 0.09, 0.0, lift=0.002, turned=rotation_matrix(np.array([0.0, 0.45, 0.0])))
    assert cell.task.judge(cell.world, cell.robot).stage != "release"


def test_not_done_until_the_open_hand_is_clear(cell):
    cell.reset(seed=3)
    pack_all(cell)
    release = cell.task.release_pose(cell.world)
    cell.robot.reset(release.position, release.yaw)
    assert cell.world.overlap_m(cell.robot.body) < 1e-3
    step, _, terminated, info = wait(cell, 2 * HOLD_STEPS)
    assert (step, terminated, info["stage"]) == (2 * HOLD_STEPS, False, "release")
    for _ in range(3):
        cell.advance(np.array([0, 0, 1.0, 0, 0, 0, -1]))
    assert wait(cell)[3]["success"]


def test_not_done_while_the_hand_is_closed(cell):
    cell.reset(seed=3)
    pack_all(cell)
    for _ in range(2 * HOLD_STEPS):
        _, terminated, _, info = cell.advance(-WAIT)
        assert not terminated
    assert info["stage"] == "release"


def test_a_box_of_the_other_order_is_wrong(cell):
    cell.reset(seed=4)
    other = next(row for row in range(6) if row not in order_rows(cell))
    put(cell, other, 0.0, 0.0)
    step, _, terminated, info = wait(cell)
    assert (terminated, info["failure"]) == (True, "wrong_part")
    assert step >= HOLD_STEPS


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (((1.4, 0.0, 0.05),), "dropped"),
        (((0.5, -0.55, 0.04), (math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5))), "dropped"),
        (((0.85, 0.3, 0.03),), "out_of_reach"),
    ],
)
def test_lost_boxes(cell, place, reason):
    for row in (0, 2):
        cell.reset(seed=6)
        cell.world.place(cell.task.bodies[order_rows(cell)[row]], *place)
        cell.world.read()
        assert wait(cell)[3]["failure"] == reason
    cell.reset(seed=6)
    other = next(row for row in range(6) if row not in order_rows(cell))
    cell.world.place(cell.task.bodies[other], *place)  # those of the other order may be
    cell.world.read()
    assert wait(cell, 30)[3]["failure"] == ""


@pytest.mark.parametrize("level", LEVELS)
def test_the_plan_fits_the_tote_and_leaves_room_for_fingers(cells, level):
    cell = cells[level]
    for order in ORDERS:
        rows = [row for row, item in enumerate(cell.task.items[:-1]) if item.name.startswith(order)]
        sizes, slots = (
            {cell.task.items[row].name: cell.task.items[row].size for row in rows},
            slots_of(cell, rows),
        )
        x, y, _ = TotePack.jobs[level].inside
        for name, (along, across) in slots.items():
            assert abs(along) + 0.5 * sizes[name][0] <= 0.5 * x - 0.003
            assert abs(across) + 0.5 * sizes[name][1] <= 0.5 * y - 0.019
            for other, (at, beside) in slots.items():
                gap_x = abs(along - at) - 0.5 * (sizes[name][0] + sizes[other][0])
                gap_y = abs(across - beside) - 0.5 * (sizes[name][1] + sizes[other][1])
                assert name == other or gap_x > 0.003 or gap_y > 0.019


def test_stages_come_in_order(cells):
    run = play(cells["easy"], make_expert("TotePack"), 610_001, variation="easy")
    assert run.outcome == "success"
    once = ["approach", "grasp", "carry", "place"]
    changes = [
        stage
        for before, stage in zip(["", *run.stages], run.stages, strict=False)
        if stage != before
    ]
    assert [stage for stage in changes if stage != "release"] == once * 2
    assert changes[-1] == "release"


def test_the_expert_puts_a_box_aside_that_is_in_the_way(cell):
    """One that stands in the middle of the tote leaves too little room for the others."""
    _, info = cell.reset(seed=610_004)
    put(cell, order_rows(cell)[2], 0.0, 0.0)
    expert = make_expert("TotePack")
    expert.reset(0, info["instruction"])
    done = False
    while not done:
        action = expert.act({**cell.observe(()), "object_names": cell.object_names}).actions[0]
        _, terminated, truncated, info = cell.advance(action)
        done = terminated or truncated
    assert info["success"]
