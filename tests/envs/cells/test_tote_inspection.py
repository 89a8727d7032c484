"""ToteInspection's rules: what counts as shown, as sorted and as lost, and who can see a mark when."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cell_episodes import WAIT, build, play

from shopfloor.envs.cells.lamps import LAMP_ON_M
from shopfloor.envs.cells.tote_inspection import (
    ACCEPT_BIN,
    ACCEPT_LAMP,
    ACCEPT_MARK,
    FLOOR_M,
    PART_SIZE,
    PARTS,
    REJECT_BIN,
    REJECT_LAMP,
    REJECT_MARK,
    SPACING_M,
    TOTE,
    WINDOW_AT,
    ZONE_M,
    ToteInspection,
)
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.physics.kinematics import matrix, quaternion, rotation_matrix
from shopfloor.envs.task import HOLD_STEPS

AWAY = np.array([0.35, 0.0, 0.30])
JOBS = ToteInspection.jobs
NOMINAL = JOBS["nominal"]
COUNT = NOMINAL.parts
PART_HEIGHT_M = PART_SIZE[2]
ON_SIDE = (math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5))


@pytest.fixture(scope="module")
def cell():
    built = build("ToteInspection")
    yield built
    built.close()


def start(cell, seed):
    cell.reset(seed=seed)
    cell.robot.reset(AWAY, 0.0)


def named(cell):
    return cell.task.bodies.index(cell.task.named_body)


def hold(cell, offset=(0.0, 0.0, 0.0), turn=0.0, lean=0.0, part=None, speed=0.0):
    """Put a part into the camera's zone, off its middle (m), turned and leaning (rad), and judge it there."""
    index = named(cell) if part is None else part
    rotation = rotation_matrix(np.array([0.0, lean, 0.0])) @ rotation_matrix(
        np.array([0.0, 0.0, turn])
    )
    place = np.array([*WINDOW_AT, ZONE_M]) + offset
    velocity = (0.0, speed, 0.0, 0.0, 0.0, 0.0)
    cell.world.place(cell.task.bodies[index], place.tolist(), quaternion(rotation), velocity)
    cell.world.read()
    return cell.task.judge(cell.world, cell.robot)


def show(cell):
    for _ in range(NOMINAL.steps):
        hold(cell)
    assert cell.task.progress.shown


def put(cell, index, goal, across=0.0):
    """Stand a part in one of the boxes, `across` off its middle (m)."""
    x, y, _ = cell.world.poses[COUNT + goal, :3]
    cell.world.place(cell.task.bodies[index], (x, y + across, FLOOR_M + 0.5 * PART_HEIGHT_M))
    cell.world.read()


def bins(cell):
    """Return the right and the wrong bin of the named part."""
    accepted = cell.task.progress.accepts[named(cell)]
    return (ACCEPT_BIN, REJECT_BIN) if accepted else (REJECT_BIN, ACCEPT_BIN)


def wait(cell, steps=30):
    for _ in range(steps):
        reward, terminated, truncated, info = cell.advance(WAIT)
        if terminated or truncated:
            break
    assert reward == float(info["success"])
    return info


@pytest.mark.parametrize("level", ["easy", "nominal", "hard"])
def test_scenes_are_sound(level):
    """Nothing overlaps, parts have room, tote and bins are as the level says, and nothing is done yet."""
    cell = build("ToteInspection", variation=level)
    count, yaws, cases = JOBS[level].parts, [], set()
    for seed in range(200):
        _, info = cell.reset(seed=seed)
        poses = cell.world.poses
        spots = poses[:count, :2]
        assert all(
            np.linalg.norm(spots[a] - spots[b]) >= SPACING_M for a in range(count) for b in range(a)
        )
        assert max(cell.world.overlap_m(body) for body in cell.task.bodies[:count]) < 5e-4
        assert cell.world.overlap_m(cell.robot.body) < 5e-4
        assert (info["stage"], info["success"], cell.task.progress.shown) == (
            "approach",
            False,
            False,
        )
        assert all(cell.robot.reaches(x, y) for x, y in spots)
        yaws.append(2 * math.atan2(*poses[count + TOTE, 5:7]))
        swapped = poses[count + ACCEPT_BIN, 0] > poses[count + REJECT_BIN, 0]
        cases.add((cell.task.named, cell.task.progress.accepts[named(cell)], bool(swapped)))
    limit = JOBS[level].yaw
    assert 0.9 * limit <= np.max(np.abs(yaws)) <= limit + 1e-9
    assert (
        {name for name, *_ in cases}
        == {item.name for item in PARTS[:count]}
        == set(cell.instructions)
    )
    assert len(cases) == count * 2 * (2 if JOBS[level].swaps else 1)
    assert len(cell.task.items) == count + TOTE + 1
    cell.close()


def test_levels_get_harder():
    easy, nominal, hard = (JOBS[name] for name in ("easy", "nominal", "hard"))
    for one, two in ((easy, nominal), (nominal, hard)):
        assert one.parts < two.parts
        assert one.yaw < two.yaw
        assert one.steps < two.steps
        assert (one.aside_m, one.height_m, one.turn) > (two.aside_m, two.height_m, two.turn)


@pytest.mark.parametrize(
    ("place", "counts"),
    [
        ({}, True),
        ({"offset": (0.019, 0.0, 0.0)}, True),
        ({"offset": (0.015, 0.015, 0.0)}, False),
        ({"offset": (0.0, 0.0, 0.029)}, True),
        ({"offset": (0.0, 0.0, -0.031)}, False),
        ({"turn": math.radians(19.0)}, True),
        ({"turn": math.radians(-21.0)}, False),
        ({"turn": math.radians(109.0)}, True),
        ({"lean": math.radians(14.0)}, True),
        ({"lean": math.radians(16.0)}, False),
        ({"lean": math.pi}, False),
        ({"speed": 0.05}, False),
    ],
)
def test_shown_means_upright_square_and_still_in_the_zone(cell, place, counts):
    start(cell, 1)
    for step in range(NOMINAL.steps):
        assert not cell.task.progress.shown, step
        hold(cell, **place)
    assert cell.task.progress.shown == counts


def test_showing_must_last_and_be_of_the_named_part(cell):
    start(cell, 2)
    for _ in range(3):
        for _ in range(NOMINAL.steps - 1):
            hold(cell)
        hold(cell, offset=(0.03, 0.0, 0.0))
    assert not cell.task.progress.shown
    put(cell, named(cell), TOTE)
    for _ in range(2 * NOMINAL.steps):
        hold(cell, part=(named(cell) + 1) % COUNT)
    assert not cell.task.progress.shown


def test_the_lamp_of_the_mark_lights_and_only_that_mark_is_present(cell):
    for seed in range(8):
        start(cell, seed)
        accepted = cell.task.progress.accepts[named(cell)]
        marks = cell.task.present[[COUNT + ACCEPT_MARK, COUNT + REJECT_MARK]].tolist()
        assert marks == [accepted, not accepted]
        lamps = [COUNT + ACCEPT_LAMP, COUNT + REJECT_LAMP]
        assert not (cell.world.poses[lamps, 2] > LAMP_ON_M).any()
        show(cell)
        cell.advance(WAIT)
        assert (cell.world.poses[lamps, 2] > LAMP_ON_M).tolist() == [accepted, not accepted]


def test_shown_and_released_in_the_right_bin_is_done(cell):
    start(cell, 3)
    show(cell)
    put(cell, named(cell), bins(cell)[0])
    for step in range(HOLD_STEPS):
        _, terminated, _, info = cell.advance(WAIT)
        assert terminated == info["success"] == (step == HOLD_STEPS - 1)


@pytest.mark.parametrize("miss", ["beside", "closed", "near", "moving"])
def test_near_misses_are_not_done(cell, miss):
    start(cell, 4)
    show(cell)
    put(cell, named(cell), bins(cell)[0], across=-0.09 if miss == "beside" else 0.0)
    if miss == "near":
        cell.robot.reset(cell.world.poses[named(cell), :3] + [0.0, 0.0, 0.025], 0.0)
    for _ in range(2 * HOLD_STEPS):
        if miss == "moving":
            pose = cell.world.poses[named(cell)]
            cell.world.place(cell.task.named_body, pose[:3], pose[3:], (0, 0, 0.25, 0, 0, 0))
        _, terminated, _, info = cell.advance(WAIT * (-1.0 if miss == "closed" else 1.0))
        assert not terminated, info


@pytest.mark.parametrize("case", ["wrong bin", "not shown", "another part"])
def test_what_is_sorted_wrongly_is_wrong(cell, case):
    start(cell, 5)
    if case != "not shown":
        show(cell)
    put(cell, named(cell), TOTE)
    right, wrong = bins(cell)
    index = (named(cell) + 1) % COUNT if case == "another part" else named(cell)
    put(cell, index, wrong if case == "wrong bin" else right)
    assert wait(cell)["failure"] == "wrong_part"


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (((1.4, 0.0, 0.05),), "dropped"),
        (((0.36, 0.05, 0.0201), ON_SIDE), "dropped"),
        (((0.80, 0.05, 0.0251),), "out_of_reach"),
        (((0.36, 0.05, 0.0251),), ""),
    ],
)
def test_lost_parts(cell, place, reason):
    start(cell, 6)
    cell.world.place(cell.task.named_body, *place)
    cell.world.read()
    assert wait(cell)["failure"] == reason


def bodies_seen(cell, camera, size):
    ids = cell.look(camera, (size, size)).ids
    return np.where(ids >= 0, ids & ((1 << 24) - 1), -1)


def test_marks_stay_under_their_parts_and_only_the_inspection_view_sees_them(cell):
    """In the whole of an episode, but for the moments in which the camera of the station sees the mark from near."""
    played = play(cell, make_expert("ToteInspection"), 600_311)
    assert played.outcome == "success"
    assert list(dict.fromkeys(played.stages)) == ["approach", "grasp", "show", "carry", "release"]
    read = []
    for state in played.states[::3]:
        cell.set_sim_state(state)
        part = cell.world.poses[named(cell)]
        row = COUNT + (ACCEPT_MARK if cell.task.progress.accepts[named(cell)] else REJECT_MARK)
        below = part[:3] - (0.5 * PART_HEIGHT_M + 0.0003) * matrix(part[3:])[:, 2]
        np.testing.assert_allclose(cell.world.poses[row, :3], below, atol=1e-9)
        marks = [
            cell.task.bodies[COUNT + ACCEPT_MARK],
            cell.task.bodies[COUNT + REJECT_MARK],
            *cell.task._marks,
        ]
        assert not any(
            np.isin(bodies_seen(cell, camera, 96), marks).any() for camera in ("front", "wrist")
        )
        seen = bodies_seen(cell, "inspect", 96) == cell.task.bodies[row]
        read.append(seen.sum() > 300)
        if read[-1]:
            red, green, _ = cell.look("inspect").rgb[seen].mean(axis=0)
            assert (green > red + 40) == cell.task.progress.accepts[named(cell)]
    assert any(read)
    assert not read[0]
