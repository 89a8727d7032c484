"""RingOnShaft's rules: what a ring is, what counts as on the shaft, as done and as lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cell_episodes import WAIT, build, play, wait, waits_for

from shopfloor.envs.cells import ring_on_shaft
from shopfloor.envs.cells.ring_on_shaft import (
    BASE_HEIGHT_M,
    HOLE_M,
    OUTER_M,
    RING_HEIGHT_M,
    RINGS,
    RINGS_HIGH,
    RINGS_LOW,
    SAME_TURN,
    SHAFT_HIGH,
    SHAFT_LOW,
    SPACING_M,
    RingOnShaft,
)
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.physics.kinematics import matrix
from shopfloor.envs.physics.shapes import Shape
from shopfloor.envs.physics.world import World
from shopfloor.envs.task import HOLD_STEPS

SHAFT_M, SHAFT_HEIGHT_M = RingOnShaft().job.shaft_m, RingOnShaft().job.shaft_height_m
CLEARANCE_M = 0.5 * (HOLE_M - SHAFT_M)
ON_BASE_M = BASE_HEIGHT_M + 0.5 * RING_HEIGHT_M
UPRIGHT = (0.0, 0.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def cell():
    built = build("RingOnShaft")
    yield built
    built.close()


def named_row(cell):
    return cell.task.bodies.index(cell.task.named_body)


def other_row(cell):
    return (named_row(cell) + 1) % 3


def put(cell, row, off=(0.0, 0.0), lift=0.0, quaternion=UPRIGHT):
    """Put a ring around the shaft: off its axis (m), above the base (m)."""
    x, y = cell.world.poses[3, :2] + off
    cell.world.place(cell.task.bodies[row], (x, y, ON_BASE_M + lift), quaternion)
    cell.world.read()


def test_scenes_are_as_the_module_says(cell):
    spots, shafts, yaws, named = [], [], [], set()
    for seed in range(200):
        cell.reset(seed=seed)
        poses = cell.world.poses
        spots.append(poses[:3, :2])
        shafts.append(poses[3, :2])
        yaws += [2 * math.atan2(pose[5], pose[6]) for pose in poses[:3]]
        named.add(cell.task.named)
        for one, two in ((0, 1), (0, 2), (1, 2)):
            assert np.linalg.norm(poses[one, :2] - poses[two, :2]) >= SPACING_M
    np.testing.assert_allclose(np.min(spots, axis=(0, 1)), RINGS_LOW, atol=0.01)
    np.testing.assert_allclose(np.max(spots, axis=(0, 1)), RINGS_HIGH, atol=0.01)
    np.testing.assert_allclose(
        [np.min(shafts, axis=0), np.max(shafts, axis=0)], [SHAFT_LOW, SHAFT_HIGH], atol=0.01
    )
    assert (min(yaws), max(yaws)) == pytest.approx((-SAME_TURN / 2, SAME_TURN / 2), abs=0.01)
    assert named == {item.name for item in RINGS}
    assert cell.describe()["vocabulary"]["goal_of"] == dict.fromkeys(named, "shaft")


def test_rings_start_at_rest(cell):
    cell.reset(seed=1)
    before = cell.world.poses.copy()
    for _ in range(20):
        cell.advance(WAIT)
    assert np.abs(cell.world.poses - before).max() < 5e-4


@pytest.mark.parametrize("angle", np.radians([0, 15, 30, 45, 90, 100, 180, 270]))
def test_the_hole_leaves_3_5_mm_around_the_shaft(cell, angle):
    cell.reset(seed=1)
    row, way = named_row(cell), np.array([math.cos(angle), math.sin(angle)])
    put(cell, row, (CLEARANCE_M - 2e-4) * way, lift=1e-4)
    assert cell.world.overlap_m(cell.task.named_body) < 1e-4
    put(cell, row, (CLEARANCE_M + 2e-3) * way, lift=1e-4)
    assert cell.world.overlap_m(cell.task.named_body) > 5e-4


def test_a_ring_is_round_and_whole():
    """A small block meets it where it should be, at its sides and its corners, and not a millimetre further out."""
    world, edge = World(), 0.004
    ring = ring_on_shaft._add_ring(world, RINGS[0], HOLE_M)
    block = world.add([Shape("box", (edge,) * 3)], [(1, 1, 1, 1)], 0.1)
    world.place(ring, (0.5, 0.0, 0.5))
    for step in range(24):
        angle, corner = 0.5 * step * SAME_TURN, step % 2
        radius = 0.5 * OUTER_M / math.cos(0.5 * SAME_TURN * corner)
        for further, met in ((1e-3, False), (-1.5e-3, True)):
            reach = radius + 0.5 * edge + further
            turn = (0.0, 0.0, math.sin(angle / 2), math.cos(angle / 2))
            world.place(block, (0.5 + reach * math.cos(angle), reach * math.sin(angle), 0.5), turn)
            assert (world.overlap_m(block) > 5e-4) == met, (step, further)
    world.close()


def test_lying_flat_a_ring_touches_the_table_with_three_pads(cell):
    """With all twelve sides on the table a control step costs three times as much."""
    cell.reset(seed=1)
    cell.advance(WAIT)
    for body in cell.task.bodies[:3]:
        assert (
            len(ring_on_shaft.pybullet.getContactPoints(body, physicsClientId=cell.world.client))
            <= 12
        )


@pytest.mark.parametrize("quaternion", [UPRIGHT, (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.1, 0.995)])
@pytest.mark.parametrize("row", [0, 1, 2])
def test_done_after_half_a_second_around_the_shaft_either_face_up(cell, row, quaternion):
    seed = next(seed for seed in range(50) if cell.reset(seed=seed) and named_row(cell) == row)
    cell.reset(seed=seed)
    put(cell, row, (0.002, -0.001), quaternion=quaternion)
    step = waits_for(cell)
    assert HOLD_STEPS <= step <= HOLD_STEPS + 4


def test_seated_means_around_the_shaft_low_and_flat(cell):
    shaft = (0.5, 0.2, BASE_HEIGHT_M + 0.5 * SHAFT_HEIGHT_M, *UPRIGHT)

    def seated(dx=0.0, lift=0.0, tilt=0.0):
        quaternion = (math.sin(tilt / 2), 0.0, 0.0, math.cos(tilt / 2))
        return cell.task._seated((0.5 + dx, 0.2, ON_BASE_M + lift, *quaternion), shaft)

    assert seated()
    assert seated(dx=CLEARANCE_M)
    assert not seated(dx=0.0047)  # no ring that is around the shaft comes that far
    assert seated(lift=0.0019)
    assert not seated(lift=0.0021)
    assert seated(tilt=math.radians(4.9))
    assert not seated(tilt=math.radians(5.1))
    assert seated(tilt=math.pi)


def test_on_top_of_the_shaft_or_beside_it_is_not_done(cell):
    cell.reset(seed=2)
    put(cell, named_row(cell), (0.022, 0.0), lift=SHAFT_HEIGHT_M)  # it falls off and leans
    assert not wait(cell, 40)[3]["success"]
    cell.reset(seed=2)
    put(cell, named_row(cell), (0.0, 0.075))  # beside the base
    step, _, terminated, info = wait(cell, 40)
    assert (step, terminated, info["stage"]) == (40, False, "approach")


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
    cell.robot.reset(cell.task.release_pose(cell.world).position, 0.0)
    step, _, terminated, info = wait(cell, 2 * HOLD_STEPS)
    assert (step, terminated, info["stage"]) == (2 * HOLD_STEPS, False, "release")
    for _ in range(3):
        cell.advance(np.array([0, 0, 1.0, 0, 0, 0, -1]))
    assert wait(cell)[3]["success"]


def test_another_ring_on_the_shaft_is_wrong(cell):
    cell.reset(seed=4)
    put(cell, other_row(cell))
    step = waits_for(cell, "wrong_part")
    assert step >= HOLD_STEPS


@pytest.mark.parametrize("named_below", [True, False])
def test_nothing_else_may_be_on_the_shaft(cell, named_below):
    cell.reset(seed=5)
    rows = (named_row(cell), other_row(cell))
    low, high = rows if named_below else rows[::-1]
    put(cell, low)
    put(cell, high, lift=RING_HEIGHT_M)
    assert wait(cell)[3]["failure"] == "wrong_part"


def test_other_rings_may_lie_by_the_base(cell):
    cell.reset(seed=5)
    put(cell, named_row(cell))
    put(cell, other_row(cell), (0.0, 0.075), lift=-BASE_HEIGHT_M)
    assert wait(cell)[3]["success"]


def test_lost_rings(cell):
    for place, reason in (((1.4, 0.0, 0.05), "dropped"), ((0.85, 0.1, 0.013), "out_of_reach")):
        cell.reset(seed=6)
        cell.world.place(cell.task.named_body, place)
        cell.world.read()
        assert wait(cell)[3]["failure"] == reason
        cell.reset(seed=6)
        cell.world.place(cell.task.bodies[other_row(cell)], place)  # others may be
        cell.world.read()
        assert wait(cell, 30)[3]["failure"] == ""


def test_a_ring_slides_down_the_shaft(cell):
    """Let go a little off and tilted around the shaft, a ring comes to lie on its base."""
    for seed, off, lift in (
        (7, (0.002, 0.0), 0.030),
        (8, (-0.001, 0.002), 0.020),
        (9, (0.0, -0.002), 0.010),
    ):
        cell.reset(seed=seed)
        put(cell, named_row(cell), off, lift, (math.sin(0.01), 0.0, 0.0, math.cos(0.01)))
        assert wait(cell)[3]["success"], seed


def test_stages_come_in_order(cell):
    run = play(cell, make_expert("RingOnShaft"), 600_201)
    assert list(dict.fromkeys(run.stages)) == ["approach", "grasp", "carry", "lower", "release"]
    assert run.outcome == "success"
    assert 35 <= run.steps <= 65


def test_the_hand_never_meets_the_shaft_or_its_base(cell):
    """The shaft is shorter than the fingers for this, and the ring is let go above the base."""
    expert = make_expert("RingOnShaft")
    for seed in range(600_210, 600_214):
        _, info = cell.reset(seed=seed)
        expert.reset(seed, info["instruction"])
        ended = False
        while not ended:
            observation = {**cell.observe(()), "object_names": info["object_names"]}
            _, terminated, truncated, info = cell.advance(expert.act(observation).actions[0])
            ended = terminated or truncated
            assert not any(
                cell.world.touching(cell.robot.body, body) for body in cell.world.bodies[3:]
            ), seed
        assert info["success"]


def test_a_held_ring_hardly_tilts_or_slips(cell):
    for seed in range(600_220, 600_226):
        run = play(cell, make_expert("RingOnShaft"), seed)
        tilts, heights = [], []
        for state, stage in zip(run.states, run.stages, strict=True):
            if stage in ("carry", "lower"):
                cell.set_sim_state(state)
                pose = cell.world.poses[named_row(cell)]
                tilts.append(math.acos(min(1.0, matrix(pose[3:])[2, 2])))
                heights.append(pose[2] - cell.robot.tool_position[2])
        assert math.degrees(max(tilts)) < 4.0, seed
        assert np.ptp(heights) < 0.002, seed
