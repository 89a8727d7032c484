"""HandOver's rules: what two arms can reach, what counts as handed over, as done and as lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cell_episodes import built_at, play, wait

from shopfloor.envs.cells import hand_over
from shopfloor.envs.cells.hand_over import (
    BAR_M,
    COLOURS,
    FLOOR_M,
    GRIP_M,
    SECOND_M,
    SPACING_M,
    TRAY,
    HandOver,
)
from shopfloor.envs.cells.hand_over_expert import second_scene
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.physics.kinematics import matrix, quaternion, yaw_matrix
from shopfloor.envs.task import HOLD_STEPS
from shopfloor.envs.variation import LEVELS

WAIT = np.array([0, 0, 0, 0, 0, 0, -1.0] * 2)
HANDED = 3  # entry of the task's memory


@pytest.fixture(scope="module")
def cells():
    with built_at("HandOver", LEVELS) as made:
        yield made


@pytest.fixture
def cell(cells):
    return cells["nominal"]


def yaw_of(pose):
    return 2 * math.atan2(pose[5], pose[6])


def named_row(cell):
    return cell.task.bodies.index(cell.task.named_body)


def lay(cell, row, along=0.0, across=0.0, turn=0.0, lift=0.0005):
    """Lay a bar into the tray: off its middle in the tray's frame (m), turned (rad), above its floor (m)."""
    tray = cell.world.poses[TRAY]
    frame = yaw_matrix(yaw_of(tray))
    at = tray[:3] + frame @ [along, across, FLOOR_M + 0.5 * BAR_M + lift]
    cell.world.place(cell.task.bodies[row], at, quaternion(frame @ yaw_matrix(turn)))
    cell.world.read()


def say_handed(cell):
    memory = cell.task.memory()
    memory[HANDED] = 1.0
    cell.task.recall(memory)


def follow(cell, seed, until):
    """Run the expert from the state at hand until a stage or the end; return the last info."""
    _, info = cell.reset(seed=seed)
    expert, ended = make_expert("HandOver"), False
    expert.reset(seed, info["instruction"])
    while not ended and info["stage"] != until:
        action = expert.act({**cell.observe(()), "object_names": info["object_names"]}).actions[0]
        _, terminated, truncated, info = cell.advance(action)
        ended = terminated or truncated
    return info


@pytest.mark.parametrize("level", LEVELS)
def test_starts_are_free_and_neither_arm_can_do_it_alone(cells, level):
    cell, given, named, bar_yaws, tray_yaws = cells[level], HandOver.jobs[level], set(), [], []
    for seed in range(200):
        _, info = cell.reset(seed=seed)
        assert not info["success"]
        assert max(cell.world.overlap_m(body) for body in cell.task.bodies) < 5e-4, seed
        named.add(cell.task.named)
        *bars, tray = cell.world.poses
        for bar in bars:
            axis = matrix(bar[3:])[:, 0]
            ends = [bar[:3] + sign * 0.5 * given.length * axis for sign in (-1, 1)]
            assert (
                max(end[0] for end in ends) < SECOND_M - HandOver.post.workspace[1, 0]
            )  # the second arm's tool ends there
            grip = bar[:3] - GRIP_M * axis
            assert cell.robot.members[0].reaches(*grip[:2])
            bar_yaws.append(yaw_of(bar))
        tray_yaws.append(yaw_of(tray))
        assert not cell.robot.members[0].reaches(*tray[:2])
        gaps = [
            np.linalg.norm(bars[one][:2] - bars[two][:2]) for one, two in ((0, 1), (0, 2), (1, 2))
        ]
        assert min(gaps) > SPACING_M - 1e-6
    assert named == set(COLOURS)
    assert max(np.abs(bar_yaws)) == pytest.approx(given.bar_yaw, abs=0.02)
    assert max(np.abs(tray_yaws)) == pytest.approx(given.tray_yaw, abs=0.02)
    before = cell.world.poses.copy()
    wait(cell, 20)
    assert np.abs(cell.world.poses - before).max() < 5e-4


def test_levels_differ_as_the_module_says(cells):
    sizes = [cells[level].task.items[0].size[0] for level in LEVELS]
    widths = [cells[level].task.items[TRAY].size[1] for level in LEVELS]
    assert sizes == [0.20, 0.22, 0.24]
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) == 3


def test_a_bar_that_was_not_handed_over_does_not_count(cell):
    cell.reset(seed=1)
    lay(cell, named_row(cell))
    step, _, terminated, info = wait(cell)
    assert (step, terminated, info["stage"]) == (60, False, "release")


@pytest.mark.parametrize(("turn", "along"), [(0.0, 0.01), (math.pi, -0.01), (0.05, 0.0)])
def test_done_after_half_a_second_in_the_tray(cell, turn, along):
    cell.reset(seed=1)
    lay(cell, named_row(cell), along, 0.005, turn)
    say_handed(cell)
    step, reward, terminated, info = wait(cell)
    assert (reward, terminated, info["success"], info["stage"]) == (1.0, True, True, "done")
    assert HOLD_STEPS <= step <= HOLD_STEPS + 4


def test_on_the_rim_or_beside_the_tray_is_not_done(cell):
    for place in ({"turn": 0.5 * math.pi, "lift": 0.02}, {"across": 0.075, "lift": 0.02}):
        cell.reset(seed=2)
        lay(cell, named_row(cell), **place)
        say_handed(cell)
        assert not wait(cell)[3]["success"], place


def test_not_done_while_a_hand_is_closed_or_near(cell):
    for arm in (0, 1):
        cell.reset(seed=3)
        lay(cell, named_row(cell))
        say_handed(cell)
        closed = WAIT.copy()
        closed[7 * arm + 6] = 1.0
        step, _, terminated, _ = wait(cell, 2 * HOLD_STEPS, closed)
        assert (step, terminated) == (2 * HOLD_STEPS, False), arm
    cell.reset(seed=3)
    lay(cell, named_row(cell))
    say_handed(cell)
    second = cell.robot.members[1]
    origin, rotation = second.mount
    second.reset(
        rotation.T @ (cell.world.poses[named_row(cell), :3] + [0.05, 0.0, 0.01] - origin), 0.0
    )
    assert not wait(cell, 2 * HOLD_STEPS)[2]
    assert wait(cell, 30, np.array([0, 0, 0, 0, 0, 0, -1, 0, 0, 1.0, 0, 0, 0, -1]))[3]["success"]


def test_both_hands_in_the_air_make_a_hand_over_and_giving_back_unmakes_it(cell):
    info = follow(cell, 610_001, "hand_over")
    assert info["stage"] == "hand_over"
    assert cell.task.memory()[HANDED] == 1.0
    state = cell.sim_state()
    keep_second = np.array([0, 0, 0, 0, 0, 0, -1.0, 0, 0, 0, 0, 0, 0, 1.0])
    wait(cell, 3, keep_second)
    assert cell.task.memory()[HANDED] == 1.0
    cell.set_sim_state(state)
    wait(cell, 3, -keep_second)
    assert cell.task.memory()[HANDED] == 0.0


def test_too_low_over_the_table_is_no_hand_over(cell, monkeypatch):
    monkeypatch.setattr(hand_over, "AIR_M", 0.30)
    info = follow(cell, 610_001, "done")
    assert (info["success"], info["failure"]) == (False, "timeout")


def test_another_bar_in_the_tray_is_wrong(cell):
    cell.reset(seed=4)
    lay(cell, (named_row(cell) + 1) % 3)
    step, _, terminated, info = wait(cell)
    assert (terminated, info["failure"]) == (True, "wrong_part")
    assert step >= HOLD_STEPS


def test_lost_bars(cell):
    for place, handed, reason in (
        ((0.55, 1.2, 0.05), False, "dropped"),
        ((0.75, 0.30, 0.0151), False, "out_of_reach"),
        ((0.75, 0.30, 0.0151), True, ""),  # the second arm may still take it
        ((0.75, 0.60, 0.0151), True, "out_of_reach"),
        ((0.45, 0.33, 0.0151), False, ""),
    ):
        cell.reset(seed=6)
        cell.world.place(cell.task.named_body, place)
        cell.world.read()
        if handed:
            say_handed(cell)
        assert wait(cell, 30)[3]["failure"] == reason, place


def test_stages_come_in_order(cells):
    for level in LEVELS:
        run = play(cells[level], make_expert("HandOver"), 610_002, variation=level)
        assert run.outcome == "success"
        wanted = ["approach", "grasp", "carry", "hand_over", "place", "release"]
        assert list(dict.fromkeys(run.stages)) == wanted


def test_the_second_scene_is_the_first_seen_from_the_other_side(cell):
    cell.reset(seed=7)
    cell.advance(np.array([0.2, 0.1, -0.3, 0, 0, 0.4, 1, -0.5, 0.3, 0.1, 0, 0, -0.2, -1]))
    expert = make_expert("HandOver")
    expert.reset(0, cell.instruction)
    scene = expert._scene({**cell.observe(()), "object_names": cell.object_names})
    other, arm = second_scene(scene), cell.robot.members[1]
    origin, rotation = arm.mount
    assert other.tool == pytest.approx(arm.tool_position, abs=1e-6)
    assert other.target == pytest.approx(arm.target_position, abs=1e-6)
    assert (other.yaw, other.opening) == pytest.approx((arm.tool_yaw, arm.opening_m), abs=1e-5)
    pose = cell.world.poses[named_row(cell)]
    assert other.part.position == pytest.approx(rotation.T @ (pose[:3] - origin), abs=1e-6)
    assert np.allclose(
        matrix(np.array(other.part.quaternion)), rotation.T @ matrix(pose[3:]), atol=1e-6
    )


def test_both_wrists_see_their_own_hand(cell):
    cell.reset(seed=8)
    for camera, arm in (("wrist", 0), ("wrist_2", 1)):
        ids = cell.segment(camera)
        bodies = np.where(ids >= 0, ids & ((1 << 24) - 1), -1)
        own, other = (
            int((bodies == cell.robot.members[index].body).sum()) for index in (arm, 1 - arm)
        )
        assert own > 60
        assert own > other
