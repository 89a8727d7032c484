"""Mobile bases: they drive and turn as told, never sideways, stop at walls, and repeat exactly."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest

from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.shapes import FLOOR, Shape
from shopfloor.envs.physics.world import World
from shopfloor.envs.robots.arm import Arm, Post
from shopfloor.envs.robots.mobile import Base, Start, Team
from shopfloor.envs.robots.models import CART, MOBILE_PANDA

HERE = Start((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
FORCE_N = 600.0
HALF_LENGTH_M = 0.31


@pytest.fixture
def world():
    made = World(FLOOR)
    yield made
    made.close()


def drive(world, robot, *actions):
    """Run actions; return the poses (or, of a team, the states) after each."""
    found = []
    for action in actions:
        robot.command(action)
        world.control_step()
        robot.read()
        found.append(robot.pose if isinstance(robot, Base) else robot.state())
    return np.array(found)


def add_wall(world, x):
    wall = world.add([Shape("box", (0.2, 4.0, 1.0))], [(1, 1, 1, 1)], 0.0)
    world.place(wall, (x, 0.0, 0.5))
    return wall


@pytest.mark.parametrize("yaw", [0.0, 0.7, -2.0, 3.1])
def test_drives_straight_at_the_commanded_speed(world, yaw):
    base = Base(world, HERE)
    base.reset(0.3, -0.2, yaw)
    poses = drive(world, base, *[(0.6, 0.0)] * 30)
    steps = np.diff(poses[10:], axis=0)
    np.testing.assert_allclose(steps[:, 0], 0.03 * math.cos(yaw), atol=2e-5)
    np.testing.assert_allclose(steps[:, 1], 0.03 * math.sin(yaw), atol=2e-5)
    assert poses[-1, 2] == pytest.approx(yaw)
    x, y, c, s, speed, turn = base.state().tolist()
    assert (x, y, math.atan2(s, c), speed, turn) == pytest.approx(
        (*poses[-1, :2], yaw, 0.6, 0.0), abs=1e-3
    )


def test_turns_on_the_spot_at_the_commanded_rate(world):
    base = Base(world, HERE)
    poses = drive(world, base, *[(0.0, -0.5)] * 30)
    np.testing.assert_allclose(np.diff(poses[5:, 2]), -0.5 * 1.5 * 0.05, atol=1e-4)
    assert np.abs(poses[:, :2]).max() < 1e-6
    assert base.state()[5] == pytest.approx(-0.75, abs=1e-3)


@pytest.mark.parametrize("action", [(1.0, 1.0), (-0.7, 0.6), (0.4, -1.0)])
def test_never_slips_sideways(world, action):
    base = Base(world, HERE)
    base.reset(0.0, 0.0, 0.4)
    poses = drive(world, base, *[action] * 40)
    middle = 0.5 * (poses[1:, 2] + poses[:-1, 2])
    steps = np.diff(poses[:, :2], axis=0)
    across = steps[:, 1] * np.cos(middle) - steps[:, 0] * np.sin(middle)
    assert np.abs(across).max() < 2e-4
    assert abs(poses[-1, 2] - 0.4) > 1.0


def test_acceleration_is_limited(world):
    base = Base(world, HERE)
    speeds, turns = [0.0], [0.0]
    for action in [(1.0, 1.0)] * 15 + [(-1.0, -1.0)] * 25:
        drive(world, base, action)
        speeds.append(float(base.state()[4]))
        turns.append(float(base.state()[5]))
    assert np.abs(np.diff(speeds)).max() == pytest.approx(2.0 * 0.05, abs=2e-3)
    assert np.abs(np.diff(turns)).max() == pytest.approx(6.0 * 0.05, abs=5e-3)
    assert (max(speeds), min(speeds)) == pytest.approx((1.0, -1.0), abs=2e-3)


def test_stands_still_without_a_command(world):
    base = Base(world, HERE)
    base.reset(0.5, 0.4, 1.0)
    poses = drive(world, base, *[(0.0, 0.0)] * 60)
    np.testing.assert_allclose(poses, [(0.5, 0.4, 1.0)] * 60, atol=1e-9)


def test_stops_at_a_wall_with_bounded_force(world):
    base = Base(world, HERE)
    wall = add_wall(world, 1.5)
    forces = []
    for _ in range(60):
        poses = drive(world, base, (1.0, 0.0))
        points = pybullet.getContactPoints(base.body, wall, physicsClientId=world.client)
        forces.append(sum(point[9] for point in points))
    assert poses[-1, 0] == pytest.approx(1.4 - HALF_LENGTH_M, abs=2e-3)
    assert world.overlap_m(base.body) < 1e-3
    assert forces[-1] == pytest.approx(FORCE_N, rel=0.05)
    assert base.state()[4] == pytest.approx(0.0, abs=1e-3)
    assert drive(world, base, *[(-0.5, 0.0)] * 40)[-1, 0] < 0.6  # and it can leave


def test_pushes_light_boxes(world):
    base = Base(world, HERE)
    light = world.add([Shape("box", (0.3, 0.3, 0.3))], [(1, 1, 1, 1)], 2.0)
    world.place(light, (0.7, 0.0, 0.15))
    drive(world, base, *[(0.4, 0.0)] * 40)
    world.read()
    assert world.poses[0, 0] > 0.9


def test_state_there_and_back(world):
    base = Base(world, HERE)
    drive(world, base, *[(0.8, 0.5)] * 12)
    state, seen = base.sim_state(), base.state()
    after = drive(world, base, *[(0.2, -0.4)] * 8)
    base.reset(1.0, 1.0, 2.0)
    base.set_sim_state(state)
    assert np.array_equal(base.sim_state(), state)
    assert np.array_equal(base.state(), seen)
    np.testing.assert_allclose(drive(world, base, *[(0.2, -0.4)] * 8), after, atol=1e-9)


def test_starts_are_within_the_box_and_at_rest(world):
    base = Base(world, Start((-1.0, 0.2, -0.5), (-0.8, 0.4, 0.5)))
    rng = np.random.default_rng(1)
    poses = []
    for _ in range(100):
        base.start(rng)
        poses.append(base.pose)
        assert not base.sim_state()[3:].any()
    np.testing.assert_allclose(np.min(poses, axis=0), (-1.0, 0.2, -0.5), atol=0.05)
    np.testing.assert_allclose(np.max(poses, axis=0), (-0.8, 0.4, 0.5), atol=0.05)


def two_bases(world):
    team = Team([Base(world, HERE), Base(world, HERE)])
    for base, y in zip(team.members, (-0.6, 0.6), strict=True):
        base.reset(-1.0, y, 0.3)
    return team


def test_two_bases_obey_their_own_parts_and_collide(world):
    team = two_bases(world)
    assert team.action_names == ("v", "omega", "v_2", "omega_2")
    assert len(set(team.state_names)) == len(team.state()) == 12
    assert team.convention == "base_velocity_v1"
    states = drive(world, team, *[(0.5, 0.0, 0.0, 0.0)] * 20)
    assert states[-1, 0] > -0.7
    np.testing.assert_allclose(states[-1, 6:8], (-1.0, 0.6), atol=1e-6)
    first, second = team.members
    first.reset(-1.0, 0.0, 0.0)
    second.reset(1.0, 0.0, math.pi)
    states = drive(world, team, *[(0.5, 0.0, 0.5, 0.0)] * 60)
    assert world.touching(first.body, second.body)
    assert states[-1, 6] - states[-1, 0] == pytest.approx(2 * HALF_LENGTH_M, abs=5e-3)


def test_an_arm_rides_along(world):
    base = Base(world, HERE, CART)
    box = np.array([[0.25, -0.4, 0.0], [0.7, 0.4, 0.5]])
    arm = Arm(
        world,
        MOBILE_PANDA,
        Post(box, np.array([0.4, 0.0, 0.3]), np.array([0.4, 0.0, 0.3])),
        carrier=base,
    )
    team = Team([arm, base])
    team.start(np.random.default_rng(0))
    mount = arm.mount[0]
    assert arm.tool_position == pytest.approx((0.4, 0.0, 0.3), abs=1e-3)
    drive(world, team, *[(0.0,) * 6 + (-1.0, 0.6, 0.3)] * 30)
    assert base.pose[0] > 0.6
    forward, side = mount[:2]
    c, s = math.cos(base.pose[2]), math.sin(base.pose[2])
    expected = (
        base.pose[0] + c * forward - s * side,
        base.pose[1] + s * forward + c * side,
        mount[2],
    )
    assert arm.mount[0] == pytest.approx(expected, abs=2e-3)
    assert arm.tool_position == pytest.approx((0.4, 0.0, 0.3), abs=0.02)
    state = team.sim_state()
    drive(world, team, *[(0.5,) * 6 + (-1.0, -0.6, 0.3)] * 5)
    team.set_sim_state(state)
    np.testing.assert_allclose(team.sim_state(), state, atol=1e-12)


def wander(world, team, seed):
    """Return the digest of a ride of two bases that meet each other and a wall."""
    rng, digest, walk = np.random.default_rng(seed), hashlib.sha256(), np.zeros(4)
    add_wall(world, 0.3)
    for base, y in zip(team.members, (-0.6, 0.6), strict=True):
        base.reset(-1.0, y, -math.copysign(0.4, y))
    for _ in range(80):
        walk = 0.8 * walk + rng.normal(0.1, 0.4, 4)
        drive(world, team, np.clip(walk, -1.0, 1.0).tolist())
        digest.update(team.sim_state().tobytes())
    return digest.hexdigest()


def fresh(seed):
    world = World(FLOOR)
    try:
        return wander(world, two_bases(world), seed)
    finally:
        world.close()


def test_a_used_world_repeats_exactly(world):
    team = two_bases(world)
    for seed in (3, 1, 2, 1):
        world.clear()
        team.build()
        assert wander(world, team, seed) == fresh(seed)


def test_a_new_process_repeats_exactly():
    output = subprocess.run(
        [sys.executable, __file__, "5"], check=True, capture_output=True, text=True
    ).stdout
    assert output.split()[-1] == fresh(5)
    assert fresh(5) != fresh(6)


if __name__ == "__main__":
    sys.stdout.write(fresh(int(sys.argv[1])) + "\n")
