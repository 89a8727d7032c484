"""PegInsertion's rules: how tight the hole is, what counts as inserted, as done and as lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cell_episodes import WAIT, build, play, wait, waits_for

from shopfloor.envs.cells.peg_insertion import (
    BLOCK_HIGH,
    BLOCK_LOW,
    FLOOR_M,
    PEG_HEIGHT_M,
    PEGS,
    PEGS_HIGH,
    PEGS_LOW,
    SAME_TURN,
    SPACING_M,
    PegInsertion,
)
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.physics.kinematics import matrix, quaternion, rotation_matrix, yaw_matrix
from shopfloor.envs.task import HOLD_STEPS

NOMINAL = PegInsertion().job
BLOCK_YAW, CLEARANCE_M, DEPTH_M = NOMINAL.block_yaw, NOMINAL.clearance_m, NOMINAL.depth_m
# Its lower end against one wall, its side against the rim across from it.
WEDGED = {"along": -0.0011, "lift": 0.001, "lean": math.radians(3.75)}
LYING = (0.0, math.sqrt(0.5), 0.0, math.sqrt(0.5))


@pytest.fixture(scope="module")
def cell():
    built = build("PegInsertion")
    yield built
    built.close()


def yaw_of(pose):
    return 2 * math.atan2(pose[5], pose[6])


def named_row(cell):
    return cell.task.bodies.index(cell.task.named_body)


def other_row(cell):
    return (named_row(cell) + 1) % 3


def lean_of(cell):
    return math.degrees(
        math.acos(min(1.0, abs(matrix(cell.world.poses[named_row(cell), 3:])[2, 2])))
    )


def put(cell, row, along=0.0, across=0.0, turn=0.0, lift=0.0, lean=0.0):
    """Put a peg into the hole: off its middle in the block's frame (m), turned and leaning (rad), above its floor (m).

    A leaning peg leans about the block's y axis, through the middle of its lower end.
    """
    frame = yaw_matrix(yaw_of(cell.world.poses[3]))
    turned = frame @ rotation_matrix(np.array([0.0, lean, 0.0])) @ yaw_matrix(turn)
    low = cell.world.poses[3, :3] + frame @ [along, across, 0.0] + [0.0, 0.0, FLOOR_M + lift]
    cell.world.place(
        cell.task.bodies[row], low + 0.5 * PEG_HEIGHT_M * turned[:, 2], quaternion(turned)
    )
    cell.world.read()


def test_scenes_are_as_the_module_says(cell):
    spots, blocks, peg_yaws, block_yaws, named = [], [], [], [], set()
    for seed in range(200):
        cell.reset(seed=seed)
        poses = cell.world.poses
        spots.append(poses[:3, :2])
        blocks.append(poses[3, :2])
        peg_yaws += [yaw_of(pose) for pose in poses[:3]]
        block_yaws.append(yaw_of(poses[3]))
        named.add(cell.task.named)
        for one, two in ((0, 1), (0, 2), (1, 2)):
            assert np.linalg.norm(poses[one, :2] - poses[two, :2]) >= SPACING_M
    np.testing.assert_allclose(np.min(spots, axis=(0, 1)), PEGS_LOW, atol=0.01)
    np.testing.assert_allclose(np.max(spots, axis=(0, 1)), PEGS_HIGH, atol=0.01)
    np.testing.assert_allclose(
        [np.min(blocks, axis=0), np.max(blocks, axis=0)], [BLOCK_LOW, BLOCK_HIGH], atol=0.01
    )
    assert (min(peg_yaws), max(peg_yaws)) == pytest.approx(
        (-SAME_TURN / 2, SAME_TURN / 2), abs=0.03
    )
    assert (min(block_yaws), max(block_yaws)) == pytest.approx((-BLOCK_YAW, BLOCK_YAW), abs=0.03)
    assert named == {item.name for item in PEGS}
    assert cell.describe()["vocabulary"]["goal_of"] == dict.fromkeys(named, "hole")


def test_pegs_start_at_rest(cell):
    cell.reset(seed=1)
    before = cell.world.poses.copy()
    for _ in range(20):
        cell.advance(WAIT)
    assert np.abs(cell.world.poses - before).max() < 5e-4


@pytest.mark.parametrize("turn", [0.0, 0.5 * math.pi, math.pi, 1.5 * math.pi])
@pytest.mark.parametrize(("along", "across"), [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1)])
def test_the_hole_leaves_1_mm_on_each_side(cell, along, across, turn):
    assert CLEARANCE_M == 0.001
    cell.reset(seed=1)
    row, free, stuck = named_row(cell), CLEARANCE_M - 1e-4, CLEARANCE_M + 5e-4
    put(cell, row, along * free, across * free, turn, lift=1e-4)
    assert cell.world.overlap_m(cell.task.named_body) < 1e-4
    put(cell, row, along * stuck, across * stuck, turn, lift=1e-4)
    assert cell.world.overlap_m(cell.task.named_body) > 3e-4


def test_an_eighth_of_a_turn_does_not_fit(cell):
    cell.reset(seed=1)
    put(cell, named_row(cell), turn=0.5 * SAME_TURN, lift=1e-4)
    assert cell.world.overlap_m(cell.task.named_body) > 2e-3


@pytest.mark.parametrize("turn", [0.0, 0.5 * math.pi, math.pi + 0.02])
@pytest.mark.parametrize("row", [0, 1, 2])
def test_done_after_half_a_second_in_the_hole_whichever_side_is_in_front(cell, row, turn):
    seed = next(seed for seed in range(50) if cell.reset(seed=seed) and named_row(cell) == row)
    cell.reset(seed=seed)
    put(cell, row, 0.0004, -0.0003, turn)
    step = waits_for(cell)
    assert HOLD_STEPS <= step <= HOLD_STEPS + 4


def test_a_peg_upside_down_is_as_good(cell):
    cell.reset(seed=1)
    put(cell, named_row(cell))
    pose = cell.world.poses[named_row(cell)]
    turned = matrix(pose[3:]) @ rotation_matrix(np.array([math.pi, 0.0, 0.0]))
    cell.world.place(cell.task.named_body, pose[:3], quaternion(turned))
    cell.world.read()
    assert wait(cell)[3]["success"]


def test_depth_is_measured_at_the_lower_end_and_only_in_the_hole(cell):
    cell.reset(seed=2)
    row = named_row(cell)

    def depth(**place):
        put(cell, row, **place)
        return cell.task._depth(cell.world.rows[row], cell.world.rows[3])

    assert depth() == pytest.approx(DEPTH_M)
    assert depth(lift=0.012, lean=0.1) == pytest.approx(DEPTH_M - 0.012)
    assert depth(lift=DEPTH_M + 1e-3) == 0.0
    assert depth(along=0.0155) == pytest.approx(DEPTH_M)
    assert depth(along=0.0165) == depth(across=-0.0165) == 0.0


@pytest.mark.parametrize(
    ("lift", "lean", "inserted"),
    [
        (0.0059, 0.0, True),
        (0.0061, 0.0, False),
        (0.0, 2.9, True),
        (0.0, 3.1, False),
        (0.0, -3.1, False),
    ],
)
def test_inserted_means_four_fifths_deep_and_upright(cell, lift, lean, inserted):
    """Judged where the peg was put, not where it would fall."""
    cell.reset(seed=2)
    put(cell, named_row(cell), lift=lift, lean=math.radians(lean))
    assert (cell.task.judge(cell.world, cell.robot).stage == "release") == inserted


def test_a_peg_that_leans_on_the_wall_is_not_done(cell):
    """It wedges: friction holds what was let go leaning."""
    cell.reset(seed=2)
    put(cell, named_row(cell), **WEDGED)
    assert (wait(cell, 30)[2], lean_of(cell) > 3.0) == (False, True)


def test_on_the_block_or_beside_it_is_not_done(cell):
    for place in (
        {"turn": 0.5 * SAME_TURN, "lift": DEPTH_M},
        {"along": 0.03, "lift": DEPTH_M},
        {"along": 0.075},
    ):
        cell.reset(seed=2)
        put(cell, named_row(cell), **place)
        step, _, terminated, info = wait(cell, 40)
        assert (step, terminated, info["stage"]) == (40, False, "approach"), place


def test_not_done_while_the_gripper_is_closed(cell):
    cell.reset(seed=3)
    put(cell, named_row(cell))
    for _ in range(2 * HOLD_STEPS):
        _, terminated, _, info = cell.advance(-WAIT)
        assert not terminated
    assert info["stage"] == "release"


def test_not_done_until_the_open_gripper_is_clear(cell):
    cell.reset(seed=3)
    put(cell, named_row(cell))
    release = cell.task.release_pose(cell.world)
    cell.robot.reset(release.position, release.yaw)
    step, _, terminated, info = wait(cell, 2 * HOLD_STEPS)
    assert (step, terminated, info["stage"]) == (2 * HOLD_STEPS, False, "release")
    for _ in range(3):
        cell.advance(np.array([0, 0, 1.0, 0, 0, 0, -1]))
    assert wait(cell)[3]["success"]


def test_another_peg_in_the_hole_is_wrong(cell):
    cell.reset(seed=4)
    put(cell, other_row(cell))
    step = waits_for(cell, "wrong_part")
    assert step >= HOLD_STEPS


def test_no_other_peg_may_be_in_the_hole(cell):
    """Judged as put: the hole has room for one."""
    cell.reset(seed=4)
    put(cell, named_row(cell))
    put(cell, other_row(cell), lift=0.02)
    verdicts = [cell.task.judge(cell.world, cell.robot) for _ in range(HOLD_STEPS)]
    assert not any(verdict.success for verdict in verdicts)
    assert verdicts[-1].failure == "wrong_part"


def test_other_pegs_may_stand_on_the_block(cell):
    cell.reset(seed=5)
    put(cell, named_row(cell))
    put(cell, other_row(cell), 0.032, 0.032, lift=DEPTH_M)
    assert wait(cell)[3]["success"]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (((1.4, 0.0, 0.05),), "dropped"),
        (((0.5, -0.25, 0.0151), LYING), "dropped"),
        (((0.85, 0.1, 0.0401),), "out_of_reach"),
    ],
)
def test_lost_pegs(cell, place, reason):
    cell.reset(seed=6)
    cell.world.place(cell.task.named_body, *place)
    cell.world.read()
    assert wait(cell)[3]["failure"] == reason
    cell.reset(seed=6)
    cell.world.place(cell.task.bodies[other_row(cell)], *place)  # others may be
    cell.world.read()
    assert wait(cell, 30)[3]["failure"] == ""


def test_a_peg_slides_down_into_the_hole(cell):
    """Let go a little off, turned and above the floor, a peg comes to stand on it."""
    for seed, along, across, lift in (
        (7, 8e-4, 0.0, 0.020),
        (8, -8e-4, 5e-4, 0.010),
        (9, 0.0, -8e-4, 0.004),
    ):
        cell.reset(seed=seed)
        put(cell, named_row(cell), along, across, 0.01, lift)
        assert wait(cell)[3]["success"], seed


def test_stages_come_in_order(cell):
    run = play(cell, make_expert("PegInsertion"), 600_201)
    assert list(dict.fromkeys(run.stages)) == ["approach", "grasp", "carry", "insert", "release"]
    assert run.outcome == "success"
    assert 35 <= run.steps <= 65


def follow(cell, expert, seed, info, each_step=lambda step: None):
    """Run the expert from the state at hand and return the last info."""
    expert.reset(seed, info["instruction"])
    step, ended = 0, False
    while not ended:
        each_step(step)
        observation = {**cell.observe(()), "object_names": info["object_names"]}
        _, terminated, truncated, info = cell.advance(expert.act(observation).actions[0])
        step, ended = step + 1, terminated or truncated
    return info


def test_nothing_is_touched_but_the_named_peg_and_by_it_the_hole(cell):
    """A peg is gripped above its middle and carried above the others; in these episodes others are in the way."""
    for seed in (600_246, 600_363, 600_387, 600_392):
        _, info = cell.reset(seed=seed)
        others = [body for body in cell.world.bodies if body != cell.task.named_body]

        def check(step, others=others, seed=seed):
            assert not any(cell.world.touching(cell.robot.body, body) for body in others), (
                seed,
                step,
            )
            assert not any(
                cell.world.touching(cell.task.named_body, body) for body in others[:2]
            ), (seed, step)

        assert follow(cell, make_expert("PegInsertion"), seed, info, check)["success"]


@pytest.mark.parametrize(("dx", "dy"), [(0.06, 0.0), (0.0, 0.085), (-0.07, -0.08)])
def test_from_beside_a_peg_the_tool_rises_first(cell, dx, dy):
    """Straight at it the fingers would tip the peg over."""
    _, info = cell.reset(seed=600_215)
    cell.robot.reset(cell.world.poses[named_row(cell), :3] + [dx, dy, 0.015], 0.0)
    assert follow(cell, make_expert("PegInsertion"), 600_215, info)["success"]


def test_the_expert_stands_a_wedged_peg_up(cell):
    """Found leaning in the hole, a peg is gripped again and let go upright."""
    for seed in (600_220, 600_221, 600_222):
        _, info = cell.reset(seed=seed)
        put(cell, named_row(cell), **WEDGED)
        leans = []
        info = follow(
            cell,
            make_expert("PegInsertion"),
            seed,
            info,
            lambda step, leans=leans: leans.append(lean_of(cell)),
        )
        assert info["success"], seed
        assert leans[5] > 3.0
        assert leans[-1] < 3.0


def test_a_held_peg_hardly_leans_and_never_slips(cell):
    for seed in range(600_230, 600_236):
        run = play(cell, make_expert("PegInsertion"), seed)
        leans, heights = [], []
        for state, stage in zip(run.states, run.stages, strict=True):
            if stage == "carry":
                cell.set_sim_state(state)
                leans.append(lean_of(cell))
                heights.append(cell.world.poses[named_row(cell), 2] - cell.robot.tool_position[2])
        assert max(leans) < 6.0, seed
        assert np.ptp(heights) < 0.002, seed


def test_the_expert_never_turns_the_last_joint_to_its_limit(cell):
    for seed in range(600_240, 600_246):
        run = play(cell, make_expert("PegInsertion"), seed)
        for state in run.states[::4]:
            cell.set_sim_state(state)
            assert -2.6 < cell.robot.joints[6] < 2.6, seed
