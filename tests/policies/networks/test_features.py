"""Object-centric features: what they show, what they leave out, and that no motion of the whole scene changes them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from shopfloor.policies.networks.features import (
    FEATURE_WIDTH,
    OBJECT_WIDTH,
    STATE_WIDTH,
    measured_slots,
    read_tool,
    rotation_matrix,
    task_features,
)

GOAL = 3  # row of the goal in `scene`
# Where the entries of `task_features` lie.
TO_PART, PART_TO_GOAL, TO_GOAL = slice(0, 9), slice(9, 18), slice(18, 27)
PART_ANGLE, GOAL_ANGLE, BETWEEN = slice(30, 36), slice(36, 42), slice(42, 48)


def yawed(yaw):
    """Quaternions xyzw of turns about z, shape (..., 4)."""
    zero = torch.zeros_like(yaw)
    return torch.stack([zero, zero, (yaw / 2).sin(), (yaw / 2).cos()], -1)


def scene(generator, batch=5, slots=4):
    state = torch.zeros(batch, STATE_WIDTH)
    state[:, 7:10] = torch.rand(batch, 3, generator=generator)
    state[:, 10] = 1.0  # upside down: the tool points at the table
    objects = torch.zeros(batch, slots, OBJECT_WIDTH)
    objects[..., :3] = torch.rand(batch, slots, 3, generator=generator)
    yaw = torch.rand(batch, slots, generator=generator) - 0.5
    objects[..., 3:7] = yawed(yaw)
    objects[..., 7:10], objects[..., 10] = 0.04, 1.0
    objects[:, -1, 11] = 1.0
    return state, objects, yaw


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def weights(batch, index, slots=4):
    return functional.one_hot(torch.full((batch,), index), slots).float()


def features(state, objects, part=0):
    tool = read_tool(state)
    return task_features(
        tool, measured_slots(objects, tool), weights(len(state), part), weights(len(state), GOAL)
    )


# --------------------------------------------------------------------------------------------------
# What is read
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joints", [6, 7])
def test_the_tool_is_read_from_the_end_of_a_state(joints):
    """Arms of six and of seven joints have the same tail."""
    tail = torch.arange(15.0)[None]
    tail[:, 3:7] = torch.tensor([0.0, 0.0, 0.0, 1.0])
    tool = read_tool(torch.cat([torch.full((1, joints), 9.0), tail], -1))
    assert tool.position.tolist() == [[0.0, 1.0, 2.0]]
    assert torch.equal(tool.rotation[0], torch.eye(3))
    assert tool.rest.tolist() == [[7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0]]


def test_the_columns_of_objects(generator):
    state, objects, _ = scene(generator)
    objects[:, 1, 10] = 0.0
    slots = measured_slots(objects, read_tool(state))
    assert torch.equal(slots.position, objects[..., :3])
    assert torch.equal(slots.size, objects[..., 7:10])
    assert slots.present.tolist() == [[True, False, True, True]] * 5
    assert slots.is_goal.tolist() == [[False, False, False, True]] * 5
    assert not slots.spread.any()


def test_rotation_matrices_are_rotations():
    quaternion = functional.normalize(
        torch.randn(20, 4, generator=torch.Generator().manual_seed(1)), dim=-1
    )
    matrix = rotation_matrix(quaternion)
    assert torch.allclose(matrix @ matrix.mT, torch.eye(3).expand(20, 3, 3), atol=1e-5)
    assert np.allclose(torch.linalg.det(matrix), 1.0, atol=1e-5)
    assert torch.equal(rotation_matrix(-quaternion), matrix)  # both mean one rotation


def test_quaternions_are_xyzw():
    quarter = rotation_matrix(yawed(torch.tensor(math.pi / 2)))
    turned = quarter @ torch.tensor([1.0, 0.0, 0.0])
    assert torch.allclose(turned, torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)


def test_yaw_is_relative_to_the_tool(generator):
    state, objects, yaw = scene(generator)
    slots = measured_slots(objects, read_tool(state))
    # A tool turned upside down about x has its x axis along the base's: relative yaw is the part's.
    assert torch.allclose(slots.angle[..., 0], yaw.cos(), atol=1e-5)
    assert torch.allclose(slots.angle[..., 1], yaw.sin(), atol=1e-5)
    assert torch.allclose(slots.angle[..., 4], (4 * yaw).cos(), atol=1e-4)


def test_a_quarter_turn_of_a_square_part_keeps_its_fourth_harmonic(generator):
    state, objects, yaw = scene(generator)
    tool = read_tool(state)
    before = measured_slots(objects, tool).angle
    objects[..., 3:7] = yawed(yaw + math.pi / 2)
    after = measured_slots(objects, tool).angle
    assert torch.allclose(after[..., 4:], before[..., 4:], atol=1e-4)
    assert torch.allclose(after[..., 2:4], -before[..., 2:4], atol=1e-4)


# --------------------------------------------------------------------------------------------------
# What features show and what they do not
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "slots"), [(5, 4), (1, 4), (3, 9)])
def test_width_is_as_declared_for_any_number_of_objects(generator, batch, slots):
    state, objects, _ = scene(generator, batch, slots)
    tool = read_tool(state)
    part, goal = weights(batch, 0, slots), weights(batch, slots - 1, slots)
    rows = task_features(tool, measured_slots(objects, tool), part, goal)
    assert rows.shape == (batch, FEATURE_WIDTH)
    assert rows.dtype == torch.float32


def test_moving_everything_together_changes_no_offset(generator):
    state, objects, _ = scene(generator)
    before = features(state, objects)
    state[:, 7:9] += 0.1
    objects[..., :2] += 0.1
    assert torch.allclose(before, features(state, objects), atol=1e-4)


def test_turning_tool_and_parts_together_changes_no_angle(generator):
    state, objects, yaw = scene(generator)
    before = features(state, objects)
    half = torch.tensor(0.35)
    state[:, 10:14] = torch.tensor([half.cos(), half.sin(), 0.0, 0.0])  # 0.7 rad about z
    objects[..., 3:7] = yawed(yaw + 0.7)
    after = features(state, objects)
    for entries in (PART_ANGLE, GOAL_ANGLE, BETWEEN):
        assert torch.allclose(after[:, entries], before[:, entries], atol=1e-4)


def test_the_angle_between_part_and_goal_does_not_depend_on_the_tool(generator):
    state, objects, yaw = scene(generator)
    rows = features(state, objects)
    turn = yaw[:, GOAL] - yaw[:, 0]
    assert torch.allclose(rows[:, BETWEEN.start], turn.cos(), atol=1e-5)
    assert torch.allclose(rows[:, BETWEEN.start + 1], turn.sin(), atol=1e-5)

    state[:, 10:14] = torch.tensor([0.8, 0.6, 0.0, 0.0])
    turned = features(state, objects)
    assert torch.allclose(turned[:, BETWEEN], rows[:, BETWEEN], atol=1e-4)
    assert not torch.allclose(turned[:, PART_ANGLE], rows[:, PART_ANGLE], atol=1e-2)


def test_offsets_point_from_tool_to_part_to_goal(generator):
    state, objects, _ = scene(generator)
    rows = features(state, objects, part=1)
    tool, part, goal = state[:, 7:10], objects[:, 1, :3], objects[:, GOAL, :3]
    for entries, offset in (
        (TO_PART, part - tool),
        (PART_TO_GOAL, goal - part),
        (TO_GOAL, goal - tool),
    ):
        coarse, fine, finest = rows[:, entries].unflatten(-1, (3, 3)).unbind(1)
        assert torch.allclose(coarse, 8.0 * offset, atol=1e-5)
        assert torch.equal(fine.sign(), offset.sign())
        assert (finest.abs() >= fine.abs()).all()
        assert finest.abs().max() <= 1.0


def test_other_parts_do_not_show(generator):
    state, objects, _ = scene(generator)
    before = features(state, objects)
    objects[:, 1:3, :3] += 0.2
    assert torch.equal(before, features(state, objects))


def test_joints_do_not_show(generator):
    state, objects, _ = scene(generator)
    before = features(state, objects)
    state[:, :7] += 1.0
    assert torch.equal(before, features(state, objects))


def test_millimetres_stay_visible(generator):
    state, objects, _ = scene(generator)
    objects[:, 0, :3] = state[:, 7:10]
    before = features(state, objects)
    objects[:, 0, 0] += 0.001
    assert float((features(state, objects) - before).abs().max()) > 0.15


@pytest.mark.parametrize("column", range(14, 22))
def test_every_entry_of_the_gripper_and_the_target_shows(generator, column):
    state, objects, _ = scene(generator)
    before = features(state, objects)
    state[:, column] += 0.01
    assert int((features(state, objects) != before).any(0).sum()) == 1


def test_weights_mix_slots_linearly(generator):
    state, objects, _ = scene(generator)
    tool = read_tool(state)
    slots = measured_slots(objects, tool)
    goal = weights(5, GOAL)
    mixed = task_features(tool, slots, 0.25 * weights(5, 0) + 0.75 * weights(5, 1), goal)
    one, other = (task_features(tool, slots, weights(5, part), goal) for part in (0, 1))
    wanted = 0.25 * one[:, :3] + 0.75 * other[:, :3]
    assert torch.allclose(mixed[:, :3], wanted, atol=1e-5)


def test_absent_objects_do_not_poison(generator):
    state, objects, _ = scene(generator)
    objects[:, 1] = 0.0
    assert features(state, objects).isfinite().all()
    assert features(state, objects, part=1).isfinite().all()


def test_gradients_flow_to_the_choice_of_part(generator):
    state, objects, _ = scene(generator)
    tool = read_tool(state)
    logits = torch.zeros(5, 4, requires_grad=True)
    rows = task_features(tool, measured_slots(objects, tool), logits.softmax(-1), weights(5, GOAL))
    rows.square().sum().backward()
    assert logits.grad is not None
    assert (logits.grad.abs().sum(0) > 0).all()
