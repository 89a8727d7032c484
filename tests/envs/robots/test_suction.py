"""The suction cup: what it takes hold of, how it holds, what tears it off, and that it repeats exactly."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.kinematics import quaternion, rotation_matrix
from shopfloor.envs.physics.shapes import Shape
from shopfloor.envs.physics.world import World
from shopfloor.envs.robots.arm import Arm, Post
from shopfloor.envs.robots.hand import CUP_FORCE_N, CUP_GAP_M
from shopfloor.envs.robots.models import PANDA_SUCTION

BOX = (0.10, 0.06, 0.04)
SUCK, RELEASE = 1.0, -1.0
X, Y = 0.5, 0.05


class Rig:
    """A suction arm over a table with one box at rest."""

    def __init__(self, mass_kg=0.25, shape=None, extra=()):
        self.world = World()
        low, high = np.array([0.28, -0.4, 0.0]), np.array([0.74, 0.4, 0.45])
        self.robot = Arm(self.world, PANDA_SUCTION, Post(np.array([low, high]), low, high, (3, 4)))
        self.shape, self.mass_kg, self.extra = shape or Shape("box", BOX), mass_kg, extra
        self.fill()

    def fill(self):
        self.body = self.world.add([self.shape], [(1, 0, 0, 1)], self.mass_kg)
        self.others = [
            self.world.add([Shape("box", size)], [(0, 1, 0, 1)], mass)
            for size, mass, _ in self.extra
        ]
        self.world.place(self.body, (X, Y, 0.5 * self.shape.size[2]))
        for body, (_, _, place) in zip(self.others, self.extra, strict=True):
            self.world.place(body, place)
        self.world.read()

    def clear(self):
        self.world.clear()
        self.robot.build()
        self.fill()

    def to(self, dx=0.0, dy=0.0, gap=0.0, yaw=0.0):
        """Put the open cup over the box: off its middle and above its top (m)."""
        self.robot.reset(np.array([X + dx, Y + dy, self.shape.size[2] + gap]), yaw)

    def step(self, dx=0.0, dy=0.0, dz=0.0, turn=0.0, gripper=SUCK):
        self.robot.command([dx, dy, dz, 0.0, 0.0, turn, gripper])
        self.world.control_step()
        self.world.read()
        self.robot.read()

    def take(self):
        self.to(gap=0.001)
        self.step()
        assert self.robot.holding == self.body
        for _ in range(8):
            self.step(dz=1.0)
        for _ in range(10):
            self.step()

    def relative(self, body=None):
        """Return where the box is in the cup's frame, m."""
        row = self.world.bodies.index(self.body if body is None else body)
        return self.robot.tool_rotation.T @ (self.world.poses[row, :3] - self.robot.tool_position)

    def digest(self):
        return hashlib.sha256(
            self.world.sim_state().tobytes() + self.robot.sim_state().tobytes()
        ).hexdigest()


@pytest.fixture
def rigs():
    made = []

    def make(**options):
        made.append(Rig(**options))
        return made[-1]

    yield make
    for rig in made:
        rig.world.close()


@pytest.mark.parametrize(
    ("place", "takes"),
    [
        ({"gap": CUP_GAP_M - 5e-4}, True),
        ({"gap": CUP_GAP_M + 5e-4}, False),
        ({"gap": -0.002}, True),
        ({"gap": -0.006}, False),
        ({"dx": 0.049}, True),
        ({"dx": 0.051}, False),
        ({"dy": -0.029}, True),
        ({"dy": -0.031}, False),
        ({"dx": -0.045, "dy": 0.025, "yaw": 1.2}, True),
    ],
)
def test_it_takes_hold_of_what_is_before_the_middle_of_its_mouth(rigs, place, takes):
    rig = rigs()
    rig.to(**place)
    assert rig.robot.opening_m == 1.0
    rig.robot.command([0, 0, 0, 0, 0, 0, SUCK])
    assert rig.robot.holding == (rig.body if takes else -1)
    assert rig.robot.opening_m == (0.0 if takes else 1.0)


@pytest.mark.parametrize(
    ("lean", "takes"), [(15.0, True), (17.5, False), (45.0, False), (90.0, True), (180.0, True)]
)
@pytest.mark.parametrize("axis", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)])
def test_it_takes_hold_of_flat_faces_only(rigs, lean, takes, axis):
    rig = rigs()
    turned = rotation_matrix(math.radians(lean) * np.array(axis))
    top = float(
        np.abs(turned[2] / np.array(BOX)).max()
    )  # from the middle straight up to the surface
    rig.world.place(rig.body, (X, Y, BOX[2] - 0.5 / top), quaternion(turned))
    rig.to(gap=0.001)
    rig.robot.command([0, 0, 0, 0, 0, 0, SUCK])
    assert (rig.robot.holding >= 0) == takes


def test_round_things_are_held_at_their_ends(rigs):
    rig = rigs(shape=Shape("cylinder", (0.05, 0.05, 0.04)))
    for place, takes in (({"dx": 0.024}, True), ({"dx": 0.018, "dy": 0.018}, False)):
        rig.to(**place)
        rig.robot.command([0, 0, 0, 0, 0, 0, SUCK])
        assert (rig.robot.holding >= 0) == takes
    rig.robot.command([0, 0, 0, 0, 0, 0, RELEASE])
    rig.world.place(rig.body, (X, Y, 0.015), (math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)))
    rig.to(gap=0.0)
    rig.robot.command([0, 0, 0, 0, 0, 0, SUCK])
    assert rig.robot.holding < 0


def test_it_takes_the_nearest_and_nothing_that_is_fixed(rigs):
    sheet = ((0.06, 0.05, 0.002), 0.05, (X, Y, BOX[2] + 0.001))
    rig = rigs(extra=[sheet])
    rig.to(gap=0.003)
    rig.robot.command([0, 0, 0, 0, 0, 0, SUCK])
    assert rig.robot.holding == rig.others[0]
    rig = rigs(mass_kg=0.0)
    rig.to()
    rig.robot.command([0, 0, 0, 0, 0, 0, SUCK])
    assert rig.robot.holding < 0


@pytest.mark.parametrize("place", [{}, {"dx": 0.03, "dy": -0.02, "yaw": 0.9, "gap": 0.002}])
def test_taking_hold_moves_nothing(rigs, place):
    """The joint starts at the pose at hand, counted from the right frames; the arm itself settles by half a mm."""
    rig = rigs()
    rig.to(**place)
    before = rig.world.poses[0].copy()
    for _ in range(4):
        rig.step()
    assert rig.robot.holding == rig.body
    assert np.abs(rig.world.poses[0] - before)[:3].max() < 7e-4
    assert np.abs(rig.world.poses[0] - before)[3:].max() < 5e-3


@pytest.mark.parametrize("mass_kg", [0.1, 0.25, 0.5])
def test_held_parts_do_not_drift(rigs, mass_kg):
    rig = rigs(mass_kg=mass_kg)
    rig.take()
    before = rig.relative()
    for _ in range(100):
        rig.step()
    assert np.abs(rig.relative() - before).max() < 1e-4


@pytest.mark.parametrize("mass_kg", [0.1, 0.5])
def test_quick_moves_do_not_tear_it_off(rigs, mass_kg):
    rig = rigs(mass_kg=mass_kg)
    rig.take()
    before, rng, worst = rig.relative(), np.random.default_rng(0), 0.0
    for step in range(100):
        if step % 6 == 0:
            move = rng.choice([-1.0, 1.0], 4)
        if rig.robot.target_position[2] < 0.15:
            move[2] = 1.0
        rig.step(*move)
        assert rig.robot.holding == rig.body
        worst = max(worst, float(np.abs(rig.relative() - before).max()))
    assert worst < 0.004


def test_it_lets_go(rigs):
    rig = rigs()
    rig.take()
    rig.step(gripper=RELEASE)
    assert (rig.robot.holding, rig.robot.opening_m) == (-1, 1.0)
    for _ in range(20):
        rig.step(gripper=RELEASE)
    assert rig.world.poses[0, 2] == pytest.approx(0.5 * BOX[2], abs=1e-3)


def test_it_takes_hold_once_it_comes_near(rigs):
    rig = rigs()
    rig.to(gap=0.03)
    held = []
    for _ in range(12):
        rig.step(dz=-0.2)
        held.append(rig.robot.holding == rig.body)
    assert not held[0]
    assert held[-1]
    assert held == sorted(held)


def deepest(rig):
    return max(
        (
            -point[8]
            for point in pybullet.getContactPoints(rig.body, physicsClientId=rig.world.client)
        ),
        default=0,
    )


def test_what_is_stuck_is_torn_off_and_not_pulled_through(rigs):
    """A fixed bar lies over each end of the box."""
    bars = [((0.03, 0.1, 0.02), 0.0, (X + side * 0.05, Y, BOX[2] + 0.0101)) for side in (-1, 1)]
    rig = rigs(extra=bars)
    rig.to(gap=0.001)
    depths = []
    for _ in range(20):
        rig.step(dz=1.0)
        depths.append(deepest(rig))
    assert rig.robot.holding < 0
    assert max(depths) < 0.001
    for _ in range(10):
        rig.step(gripper=RELEASE)
    assert rig.world.poses[0, 2] == pytest.approx(0.5 * BOX[2], abs=1e-3)


def test_walls_stop_what_is_held(rigs):
    rig = rigs(extra=[((0.02, 0.6, 0.6), 0.0, (X + 0.15, Y, 0.3))])
    rig.take()
    depths = []
    for _ in range(30):
        rig.step(dx=1.0)
        depths.append(deepest(rig))
        assert rig.world.poses[0, 0] + 0.5 * BOX[0] < X + 0.15
    assert max(depths) < 0.003


def test_it_lifts_no_more_than_its_force(rigs):
    for mass_kg, lifts in ((0.8 * CUP_FORCE_N / 9.81, True), (1.2 * CUP_FORCE_N / 9.81, False)):
        rig = rigs(mass_kg=mass_kg)
        rig.to(gap=0.001)
        for _ in range(20):
            rig.step(dz=0.15)
        assert (rig.world.poses[0, 2] > 0.5 * BOX[2] + 0.02) == lifts
        assert (rig.robot.holding >= 0) == lifts


def test_states_bring_back_what_is_held(rigs):
    rig, other = rigs(), rigs()
    rig.take()
    robot, world, before = rig.robot.sim_state(), rig.world.sim_state().copy(), rig.relative()
    for _ in range(12):
        rig.step(dx=1.0, dz=0.5, gripper=RELEASE)
    for each in (rig, other):
        each.world.set_sim_state(world)
        each.world.read()
        each.robot.set_sim_state(robot)
        assert each.robot.holding == each.body
        for _ in range(15):
            each.step(dx=-0.5, turn=0.5)
        assert np.abs(each.relative() - before).max() < 1e-3
        each.step(gripper=RELEASE)
        assert each.robot.holding < 0
    assert len(rig.robot.sim_state()) == len(
        robot
    )  # the same length, whether it holds something or not


def play(rig):
    digests = []
    rig.to(gap=0.02)
    for step in range(90):
        swing = math.sin(0.3 * step)
        gripper = RELEASE if 50 < step < 60 else SUCK
        rig.step(swing, 0.4 * swing, -0.3 if step % 60 < 12 else 0.4, swing, gripper)
        digests.append(rig.digest())
    return digests


def test_used_worlds_repeat_new_ones(rigs):
    expected, rig = play(rigs()), rigs()
    rig.take()
    rig.step(dx=1.0)
    for _ in range(2):  # cleared with something in the cup
        rig.clear()
        assert rig.robot.holding < 0
        assert play(rig) == expected
