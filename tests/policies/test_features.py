import numpy as np
import pytest
import torch

from shopfloor.policies.networks.features import (
    FEATURE_WIDTH,
    OBJECT_WIDTH,
    STATE_WIDTH,
    measured_slots,
    read_tool,
    rotation_matrix,
    task_features,
)


def scene(generator, batch=5, slots=4):
    state = torch.zeros(batch, STATE_WIDTH)
    state[:, 7:10] = torch.rand(batch, 3, generator=generator)
    state[:, 10] = 1.0  # upside down: the tool points at the table
    objects = torch.zeros(batch, slots, OBJECT_WIDTH)
    objects[..., :3] = torch.rand(batch, slots, 3, generator=generator)
    yaw = torch.rand(batch, slots, generator=generator) - 0.5
    objects[..., 5], objects[..., 6] = (yaw / 2).sin(), (yaw / 2).cos()
    objects[..., 7:10], objects[..., 10] = 0.04, 1.0
    objects[:, -1, 11] = 1.0
    return state, objects, yaw


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def weights(batch, index, slots=4):
    return torch.nn.functional.one_hot(torch.full((batch,), index), slots).float()


def features(state, objects, part=0):
    tool = read_tool(state)
    return task_features(
        tool, measured_slots(objects, tool), weights(len(state), part), weights(len(state), 3)
    )


def test_width_is_as_declared(generator):
    state, objects, _ = scene(generator)
    assert features(state, objects).shape == (5, FEATURE_WIDTH)


def test_moving_everything_together_changes_no_offset(generator):
    state, objects, _ = scene(generator)
    before = features(state, objects)
    state[:, 7:9] += 0.1
    objects[..., :2] += 0.1
    assert torch.allclose(before, features(state, objects), atol=1e-4)


def test_other_parts_do_not_show(generator):
    state, objects, _ = scene(generator)
    before = features(state, objects)
    objects[:, 1:3, :3] += 0.2
    assert torch.equal(before, features(state, objects))


def test_millimetres_stay_visible(generator):
    state, objects, _ = scene(generator)
    objects[:, 0, :3] = state[:, 7:10]
    before = features(state, objects)
    objects[:, 0, 0] += 0.001
    assert float((features(state, objects) - before).abs().max()) > 0.15


def test_yaw_is_relative_to_the_tool(generator):
    state, objects, yaw = scene(generator)
    slots = measured_slots(objects, read_tool(state))
    # a tool turned upside down about x has its x axis along the base's: relative yaw is the part's
    assert torch.allclose(slots.angle[..., 0], yaw.cos(), atol=1e-5)
    assert torch.allclose(slots.angle[..., 1], yaw.sin(), atol=1e-5)
    assert torch.allclose(slots.angle[..., 4], (4 * yaw).cos(), atol=1e-4)


def test_rotation_matrices_are_rotations():
    quaternion = torch.nn.functional.normalize(
        torch.randn(20, 4, generator=torch.Generator().manual_seed(1)), dim=-1
    )
    matrix = rotation_matrix(quaternion)
    assert torch.allclose(matrix @ matrix.mT, torch.eye(3).expand(20, 3, 3), atol=1e-5)
    assert np.allclose(torch.linalg.det(matrix), 1.0, atol=1e-5)


def test_absent_objects_do_not_poison(generator):
    state, objects, _ = scene(generator)
    objects[:, 1] = 0.0
    assert features(state, objects).isfinite().all()
