"""Kinematics against PyBullet's, and rotations there and back."""

from __future__ import annotations

import math

import cell_episodes
import numpy as np
import pybullet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopfloor.envs.physics import kinematics
from shopfloor.envs.physics.world import indices

finite = st.floats(-3.0, 3.0)
shares = st.lists(st.floats(0.0, 1.0), min_size=7, max_size=7)


@pytest.fixture(scope="module", params=["panda", "ur5e"])
def arm(request):
    cell = cell_episodes.build("shopfloor/PickToTray-v0", robot=request.param)
    yield cell.robot
    cell.close()


def between_limits(chain, shares):
    """Return joints, rad, each a share of the way from its lower to its upper limit."""
    return chain.lower + np.array(shares[: len(chain.lower)]) * (chain.upper - chain.lower)


@settings(max_examples=60)
@given(shares=shares)
def test_forward_kinematics_equal_the_simulators(arm, shares):
    chain = arm.model.chain
    angles = between_limits(chain, shares)
    arm._set_joints(np.array([*angles, 0.02, 0.02]), np.zeros(len(angles) + 2))
    arm.read()
    position, rotation, _ = chain.forward(angles)
    np.testing.assert_allclose(position, arm.tool_position, atol=1e-6)
    np.testing.assert_allclose(rotation, arm.tool_rotation, atol=1e-6)


@settings(max_examples=60)
@given(shares=shares)
def test_jacobian_is_the_derivative(arm, shares):
    chain = arm.model.chain
    angles = between_limits(chain, shares)
    position, rotation, jacobian = chain.forward(angles)
    for joint in range(len(angles)):
        moved = angles.copy()
        moved[joint] += 1e-6
        after, turned, _ = chain.forward(moved)
        numeric = [*(after - position), *kinematics.rotation_vector(turned @ rotation.T)]
        np.testing.assert_allclose(np.array(numeric) / 1e-6, jacobian[:, joint], atol=1e-4)


@pytest.mark.parametrize("x", [0.32, 0.5, 0.68])
@pytest.mark.parametrize("y", [-0.25, 0.0, 0.25])
@pytest.mark.parametrize("yaw", [-1.2, 0.0, 1.2])
def test_inverse_kinematics_reach_the_work_area(arm, x, y, yaw):
    chain = arm.model.chain
    for z in (0.012, 0.15, 0.3):
        wanted = np.array([x, y, z])
        found = chain.inverse(wanted, kinematics.yaw_matrix(yaw))
        position, rotation, _ = chain.forward(found)
        assert np.linalg.norm(position - wanted) < 2e-4
        np.testing.assert_allclose(rotation, kinematics.yaw_matrix(yaw), atol=1e-3)
        assert (found >= chain.lower).all()
        assert (found <= chain.upper).all()


@given(vector=st.tuples(finite, finite, finite))
def test_rotations_there_and_back(vector):
    vector = np.array(vector)
    rotation = kinematics.rotation_matrix(vector)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    q = kinematics.quaternion(rotation)
    assert q[3] >= 0.0
    np.testing.assert_allclose(kinematics.matrix(q), rotation, atol=1e-9)
    np.testing.assert_allclose(
        kinematics.rotation_matrix(np.array(kinematics.rotation_vector(rotation))),
        rotation,
        atol=1e-7,
    )


@given(first=st.tuples(finite, finite, finite), second=st.tuples(finite, finite, finite))
def test_turns_between_orientations(first, second):
    a, b = (kinematics.rotation_matrix(np.array(vector)) for vector in (first, second))
    turn = np.array(kinematics.turn_between(kinematics.quaternion(a), kinematics.quaternion(b)))
    np.testing.assert_allclose(kinematics.rotation_matrix(turn) @ a, b, atol=1e-6)
    assert np.linalg.norm(turn) <= math.pi + 1e-6


def test_half_turns_have_an_axis():
    for axis in np.eye(3):
        rotation = kinematics.rotation_matrix(math.pi * axis)
        np.testing.assert_allclose(
            np.abs(np.array(kinematics.rotation_vector(rotation))), math.pi * axis, atol=1e-6
        )


def test_collisions_are_the_hands_and_fingers_only(arm):
    names = indices(arm.body, arm._client)
    hand = {names[name] for name in ("panda_hand", "panda_leftfinger", "panda_rightfinger")}
    assert len(hand) == 3
    for link in range(-1, max(names.values()) + 1):
        shapes = pybullet.getCollisionShapeData(arm.body, link, physicsClientId=arm._client)
        assert bool(shapes) == (link in hand), link
