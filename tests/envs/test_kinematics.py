"""Kinematics against PyBullet's, and rotations there and back."""

from __future__ import annotations

import math

import cell_episodes
import numpy as np
import pybullet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopfloor.envs import kinematics
from shopfloor.envs.kinematics import PANDA

finite = st.floats(-3.0, 3.0)
joints = st.tuples(*(st.floats(low, high) for low, high in zip(PANDA.lower, PANDA.upper, strict=True)))


@pytest.fixture(scope="module")
def arm():
    cell = cell_episodes.build("shopfloor/PickToTray-v0")
    yield cell.robot
    cell.close()


@settings(max_examples=60, deadline=None)
@given(angles=joints)
def test_forward_kinematics_equal_the_simulators(arm, angles):
    arm._set_joints(np.array([*angles, 0.02, 0.02]), np.zeros(9))
    arm.read()
    position, rotation, _ = PANDA.forward(np.array(angles))
    np.testing.assert_allclose(position, arm.tool_position, atol=1e-6)
    np.testing.assert_allclose(rotation, arm.tool_rotation, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(angles=joints)
def test_jacobian_is_the_derivative(angles):
    angles = np.array(angles)
    position, rotation, jacobian = PANDA.forward(angles)
    for joint in range(7):
        moved = angles.copy()
        moved[joint] += 1e-6
        after, turned, _ = PANDA.forward(moved)
        numeric = [*(after - position), *kinematics.rotation_vector(turned @ rotation.T)]
        np.testing.assert_allclose(np.array(numeric) / 1e-6, jacobian[:, joint], atol=1e-4)


@pytest.mark.parametrize("x", [0.32, 0.5, 0.68])
@pytest.mark.parametrize("y", [-0.25, 0.0, 0.25])
@pytest.mark.parametrize("yaw", [-1.2, 0.0, 1.2])
def test_inverse_kinematics_reach_the_work_area(x, y, yaw):
    for z in (0.012, 0.15, 0.3):
        wanted = np.array([x, y, z])
        found = PANDA.inverse(wanted, kinematics.yaw_matrix(yaw))
        position, rotation, _ = PANDA.forward(found)
        assert np.linalg.norm(position - wanted) < 2e-4
        np.testing.assert_allclose(rotation, kinematics.yaw_matrix(yaw), atol=1e-3)
        assert (found >= PANDA.lower).all()
        assert (found <= PANDA.upper).all()


@given(vector=st.tuples(finite, finite, finite))
def test_rotations_there_and_back(vector):
    vector = np.array(vector)
    rotation = kinematics.rotation_matrix(vector)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    q = kinematics.quaternion(rotation)
    assert q[3] >= 0.0
    np.testing.assert_allclose(kinematics.matrix(q), rotation, atol=1e-9)
    np.testing.assert_allclose(
        kinematics.rotation_matrix(np.array(kinematics.rotation_vector(rotation))), rotation, atol=1e-7
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
        np.testing.assert_allclose(np.abs(np.array(kinematics.rotation_vector(rotation))), math.pi * axis, atol=1e-6)


def test_collisions_are_the_hands_and_fingers_only(arm):
    for link in range(-1, 12):
        shapes = pybullet.getCollisionShapeData(arm.body, link, physicsClientId=arm._client)
        assert bool(shapes) == (link in (8, 9, 10)), link
