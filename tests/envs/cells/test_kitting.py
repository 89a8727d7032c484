"""Kitting's rules: what counts as seated, as done and as lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cell_episodes import WAIT, build, play, wait, waits_for

from shopfloor.envs.cells.kitting import FIXTURE_HIGH, FIXTURE_LOW, FLOOR_M, Kitting
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.physics.kinematics import matrix
from shopfloor.envs.task import HOLD_STEPS

ITEMS, NOMINAL = Kitting().items, Kitting().job
CLEARANCE_M, PARTS_LOW, PARTS_HIGH = NOMINAL.clearance_m, NOMINAL.low, NOMINAL.high


@pytest.fixture(scope="module")
def cell():
    built = build("Kitting")
    yield built
    built.close()


def yaw_of(pose):
    return 2 * math.atan2(pose[5], pose[6])


def named_row(cell):
    return cell.task.bodies.index(cell.task.named_body)


def height(row):
    return ITEMS[row].size[2]


def put(cell, row, along=0.0, across=0.0, turn=0.0, lift=0.0):
    """Put a part into the slot: off its middle in the fixture's frame (m), turned (rad), above its floor (m)."""
    x, y, yaw = *cell.world.poses[2, :2], yaw_of(cell.world.poses[2])
    x += along * math.cos(yaw) - across * math.sin(yaw)
    y += along * math.sin(yaw) + across * math.cos(yaw)
    yaw += turn
    quaternion = (0.0, 0.0, math.sin(0.5 * yaw), math.cos(0.5 * yaw))
    cell.world.place(cell.task.bodies[row], (x, y, FLOOR_M + 0.5 * height(row) + lift), quaternion)
    cell.world.read()


def test_scenes_are_as_the_module_says(cell):
    spots, fixtures, part_yaws, slot_yaws, named = [], [], [], [], set()
    for seed in range(200):
        cell.reset(seed=seed)
        poses = cell.world.poses
        spots.append(poses[:2, :2])
        fixtures.append(poses[2, :2])
        part_yaws += [yaw_of(pose) for pose in poses[:2]]
        slot_yaws.append(yaw_of(poses[2]))
        named.add(cell.task.named)
        assert np.linalg.norm(poses[0, :2] - poses[1, :2]) >= NOMINAL.spacing_m
    np.testing.assert_allclose(np.min(spots, axis=(0, 1)), PARTS_LOW, atol=0.01)
    np.testing.assert_allclose(np.max(spots, axis=(0, 1)), PARTS_HIGH, atol=0.01)
    np.testing.assert_allclose(
        [np.min(fixtures, axis=0), np.max(fixtures, axis=0)], [FIXTURE_LOW, FIXTURE_HIGH], atol=0.01
    )
    assert (min(part_yaws), max(part_yaws)) == pytest.approx((-1.2, 1.2), abs=0.03)
    assert (min(slot_yaws), max(slot_yaws)) == pytest.approx((-0.7, 0.7), abs=0.03)
    assert named == {item.name for item in ITEMS if not item.is_goal}
    assert cell.describe()["vocabulary"]["goal_of"] == dict.fromkeys(named, "slot")


def test_parts_start_at_rest(cell):
    cell.reset(seed=1)
    before = cell.world.poses.copy()
    for _ in range(20):
        cell.advance(WAIT)
    assert np.abs(cell.world.poses - before).max() < 5e-4


def test_the_slot_has_5_mm_of_room_on_each_side(cell):
    cell.reset(seed=1)
    row = named_row(cell)
    for along, across in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        put(cell, row, along * (CLEARANCE_M - 5e-4), across * (CLEARANCE_M - 5e-4), lift=1e-4)
        assert cell.world.overlap_m(cell.task.named_body) < 1e-4
        put(cell, row, along * (CLEARANCE_M + 1e-3), across * (CLEARANCE_M + 1e-3), lift=1e-4)
        assert cell.world.overlap_m(cell.task.named_body) > 5e-4


@pytest.mark.parametrize("turn", [0.0, math.pi, 0.1, math.pi - 0.1])
@pytest.mark.parametrize("row", [0, 1])
def test_done_after_half_a_second_in_the_slot_half_a_turn_or_not(cell, row, turn):
    seed = next(seed for seed in range(50) if cell.reset(seed=seed) and named_row(cell) == row)
    cell.reset(seed=seed)
    put(cell, row, 0.002, -0.001, turn)
    step = waits_for(cell)
    assert HOLD_STEPS <= step <= HOLD_STEPS + 4


def test_seated_means_within_5_mm_and_8_degrees_and_on_the_floor(cell):
    slot = (0.5, 0.18, 0.0, *_turn(0.3))
    tall = ITEMS[0].size[2]

    def seated(dx=0.0, turn=0.0, lift=0.0, tilt=0.0):
        quaternion = (
            _turn(0.3 + turn) if not tilt else (math.sin(tilt / 2), 0.0, 0.0, math.cos(tilt / 2))
        )
        base = slot if not tilt else (0.5, 0.18, 0.0, 0.0, 0.0, 0.0, 1.0)
        return cell.task._seated(
            (0.5 + dx, 0.18, FLOOR_M + tall / 2 + lift, *quaternion), base, tall
        )

    assert seated()
    assert seated(dx=0.0049)
    assert not seated(dx=0.0051)
    assert seated(turn=math.radians(7.9))
    assert seated(turn=math.pi + math.radians(7.9))
    assert not seated(turn=math.radians(8.1))
    assert not seated(turn=0.5 * math.pi)
    assert not seated(lift=0.0031)
    assert seated(tilt=math.radians(4.9))
    assert not seated(tilt=math.radians(5.1))


def _turn(yaw):
    return 0.0, 0.0, math.sin(0.5 * yaw), math.cos(0.5 * yaw)


def test_on_top_of_the_fixture_is_not_done(cell):
    cell.reset(seed=2)
    put(cell, named_row(cell), turn=0.5 * math.pi, lift=0.026)  # across the slot: it cannot fall in
    step, _, terminated, info = wait(cell, 40)
    assert (step, terminated, info["stage"]) == (40, False, "approach")
    cell.reset(seed=2)
    put(cell, named_row(cell), along=0.03, lift=0.026)  # on the rim
    assert not wait(cell, 40)[2]


def test_not_done_while_the_gripper_is_closed(cell):
    cell.reset(seed=3)
    put(cell, named_row(cell))
    for _ in range(2 * HOLD_STEPS):
        _, terminated, _, info = cell.advance(-WAIT)
        assert not terminated
    assert info["stage"] == "release"


def test_another_part_in_the_slot_is_wrong(cell):
    cell.reset(seed=4)
    put(cell, 1 - named_row(cell))
    step = waits_for(cell, "wrong_part")
    assert step >= HOLD_STEPS


def test_nothing_else_may_be_on_the_fixture(cell):
    cell.reset(seed=5)
    put(cell, named_row(cell))
    put(cell, 1 - named_row(cell), along=-0.055, lift=0.026)
    assert wait(cell)[3]["failure"] == "wrong_part"


def test_lost_parts(cell):
    for place, reason in (((1.4, 0.0, 0.05), "dropped"), ((0.85, 0.1, 0.03), "out_of_reach")):
        cell.reset(seed=6)
        cell.world.place(cell.task.named_body, place)
        cell.world.read()
        assert wait(cell)[3]["failure"] == reason
        cell.reset(seed=6)
        cell.world.place(cell.task.bodies[1 - named_row(cell)], place)  # others may be
        cell.world.read()
        assert wait(cell, 30)[3]["failure"] == ""


def test_a_part_slides_down_into_the_slot(cell):
    """Let go a little off, turned and above the floor, a part comes to lie on it."""
    for seed, along, across, lift in (
        (7, 0.003, 0.0, 0.008),
        (8, -0.003, 0.002, 0.010),
        (9, 0.0, -0.003, 0.006),
    ):
        cell.reset(seed=seed)
        put(cell, named_row(cell), along, across, 0.05, lift)
        assert wait(cell)[3]["success"], seed


def test_stages_come_in_order(cell):
    run = play(cell, make_expert("Kitting"), 600_001)
    assert list(dict.fromkeys(run.stages)) == ["approach", "grasp", "carry", "insert", "release"]
    assert run.outcome == "success"
    assert 35 <= run.steps <= 65


def test_fingers_stay_above_the_fixture(cell):
    """The part is gripped above its centre for this."""
    expert = make_expert("Kitting")
    for seed in range(600_010, 600_014):
        _, info = cell.reset(seed=seed)
        expert.reset(seed, info["instruction"])
        ended = False
        while not ended:
            observation = {**cell.observe(()), "object_names": info["object_names"]}
            _, terminated, truncated, info = cell.advance(expert.act(observation).actions[0])
            ended = terminated or truncated
            assert not cell.world.touching(cell.robot.body, cell.task.bodies[2]), seed
        assert info["success"]


def test_a_held_part_hardly_tilts(cell):
    """One that leans by ten degrees jams in the slot."""
    for seed in range(600_020, 600_026):
        run = play(cell, make_expert("Kitting"), seed)
        tilts = []
        for state, stage in zip(run.states, run.stages, strict=True):
            if stage in ("carry", "insert"):
                cell.set_sim_state(state)
                tilts.append(
                    math.acos(min(1.0, matrix(cell.world.poses[named_row(cell), 3:])[2, 2]))
                )
        assert math.degrees(max(tilts)) < 6.0, seed


def test_the_expert_never_turns_the_last_joint_to_its_limit(cell):
    for seed in range(600_030, 600_036):
        run = play(cell, make_expert("Kitting"), seed)
        for state in run.states[::4]:
            cell.set_sim_state(state)
            assert -2.6 < cell.robot.joints[6] < 2.6, seed
