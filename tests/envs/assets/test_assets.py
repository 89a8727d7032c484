"""The robots made of code: files come out the same, load, and move as the published figures say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pybullet
import pytest

from shopfloor.envs.assets import carts, make_robots
from shopfloor.envs.assets.solids import SIDES, corner_normals, lathe, obj_text
from shopfloor.envs.physics import kinematics

ASSETS = Path(__file__).parents[3] / "envs" / "assets"
PANDA = tuple(f"panda_joint{index}" for index in range(1, 8))
FINGERS = ("panda_finger_joint1", "panda_finger_joint2")
DRIVE = ("base_x", "base_y", "base_yaw")
# Published: a (m), d (m), alpha (quarter turns).
UR5E_DH = (
    (0.0, 0.1625, 1),
    (-0.425, 0.0, 0),
    (-0.3922, 0.0, 0),
    (0.0, 0.1333, 1),
    (0.0, 0.0997, -1),
    (0.0, 0.0996, 0),
)
# Joints that move, in order, and the most triangles a picture of the robot may cost.
ROBOTS = {
    "ur5e/ur5e.urdf": ((*make_robots.UR5E_JOINTS, *FINGERS), 4000),
    "ur5e/ur5e_suction.urdf": (make_robots.UR5E_JOINTS, 4000),
    "panda/panda_suction.urdf": (PANDA, 3000),
    "mobile/amr.urdf": (DRIVE, 1500),
    "mobile/mobile_panda.urdf": ((*DRIVE, *PANDA, *FINGERS), 4500),
}


class Model:
    """A robot alone in a world of its own."""

    def __init__(self, path, looks=False):
        self.client = pybullet.connect(pybullet.DIRECT)
        flags = 0 if looks else pybullet.URDF_IGNORE_VISUAL_SHAPES
        self.body = pybullet.loadURDF(
            str(ASSETS / path), useFixedBase=True, flags=flags, physicsClientId=self.client
        )
        self.info = [
            pybullet.getJointInfo(self.body, index, self.client)
            for index in range(pybullet.getNumJoints(self.body, self.client))
        ]
        self.links = {info[12].decode(): info[0] for info in self.info}
        self.moving = [info for info in self.info if info[2] != pybullet.JOINT_FIXED]

    def put(self, values):
        for info, value in zip(self.moving, values, strict=False):
            pybullet.resetJointState(self.body, info[0], value, physicsClientId=self.client)

    def pose(self, link):
        state = pybullet.getLinkState(self.body, self.links[link], 0, True, self.client)
        return np.array(state[4]), kinematics.matrix(state[5])

    def boxes(self, link):
        """Return centre and size of a link's collision shapes, in its frame (its centre of mass is turned nowhere)."""
        centre = np.array(pybullet.getDynamicsInfo(self.body, self.links[link], self.client)[3])
        shapes = pybullet.getCollisionShapeData(self.body, self.links[link], self.client)
        assert {shape[2] for shape in shapes} <= {pybullet.GEOM_BOX}
        return [(centre + shape[5], np.array(shape[3])) for shape in shapes]


@pytest.fixture
def load():
    made = []

    def build(path, looks=False):
        made.append(Model(path, looks))
        return made[-1]

    yield build
    for model in made:
        pybullet.disconnect(model.client)


def standard_frames(joints):
    """Return the pose in the base of each link's standard frame, shape (6, 4, 4), by the published table alone."""
    pose, poses = np.eye(4), []
    pose[:3, :3] = kinematics.yaw_matrix(make_robots.UR5E_BASE_YAW)
    for (a, d, quarters), angle in zip(UR5E_DH, joints, strict=True):
        c, s, ca, sa = math.cos(angle), math.sin(angle), 1.0 - abs(quarters), float(quarters)
        pose = pose @ [
            [c, -s * ca, s * sa, a * c],
            [s, c * ca, -c * sa, a * s],
            [0.0, sa, ca, d],
            [0.0, 0.0, 0.0, 1.0],
        ]
        poses.append(pose)
    return np.array(poses)


def random_joints(seed, count, low=-math.pi, high=math.pi):
    return np.random.default_rng(seed).uniform(low, high, (20, count))


def test_files_come_out_byte_for_byte():
    made = make_robots.arms() | make_robots.mobile()
    for path, text in made.items():
        assert (ASSETS / path).read_bytes() == text.encode(), path
    for folder in ("ur5e", "suction", "mobile"):
        there = {path.relative_to(ASSETS).as_posix() for path in (ASSETS / folder).iterdir()}
        assert there == {path for path in made if path.startswith(f"{folder}/")}


@pytest.mark.parametrize("path", ROBOTS)
def test_robots_load_with_their_joints_masses_and_few_triangles(load, path):
    names, most = ROBOTS[path]
    model = load(path, looks=True)
    assert tuple(info[1].decode() for info in model.moving) == names
    for info in model.moving:
        assert pybullet.getDynamicsInfo(model.body, info[0], model.client)[0] > 0.0, info[1]
    shapes = pybullet.getVisualShapeData(model.body, physicsClientId=model.client)
    files = [Path(shape[4].decode()) for shape in shapes if shape[2] == pybullet.GEOM_MESH]
    count = sum(line.startswith("f ") for file in files for line in file.read_text().splitlines())
    assert 500 < count < most
    assert all(shape[2] in (pybullet.GEOM_MESH, pybullet.GEOM_BOX) for shape in shapes)


def test_ur5e_moves_as_the_published_table_says(load):
    model = load("ur5e/ur5e.urdf")
    hand = np.eye(4)
    hand[:3, :3] = kinematics.yaw_matrix(make_robots.UR5E_FLANGE_TURN)
    hand[2, 3] = 0.212
    for joints in random_joints(0, 6):
        model.put(joints)
        flange = standard_frames(joints)[-1]
        position, rotation = model.pose("ur5e_link6")
        np.testing.assert_allclose(position, flange[:3, 3], atol=1e-5)
        np.testing.assert_allclose(rotation, flange[:3, :3], atol=1e-5)
        position, rotation = model.pose("panda_grasptarget")
        np.testing.assert_allclose(position, (flange @ hand)[:3, 3], atol=1e-5)
        np.testing.assert_allclose(rotation, (flange @ hand)[:3, :3], atol=1e-5)


def test_ur5e_at_home_holds_its_tool_straight_down_in_front_of_it(load):
    model = load("ur5e/ur5e.urdf")
    model.put(make_robots.UR5E_HOME)
    position, rotation = model.pose("panda_grasptarget")
    np.testing.assert_allclose(position, [0.49, 0.0, 0.2], atol=1e-5)
    np.testing.assert_allclose(rotation, np.diag([1.0, -1.0, -1.0]), atol=1e-5)
    assert model.pose("ur5e_link3")[0][2] > 0.5  # elbow up
    left, right = model.pose("panda_leftfinger")[0], model.pose("panda_rightfinger")[0]
    model.put([*make_robots.UR5E_HOME, 0.04, 0.04])
    opened = model.pose("panda_leftfinger")[0] - left, model.pose("panda_rightfinger")[0] - right
    np.testing.assert_allclose(opened, 0.04 * np.outer([1.0, -1.0], rotation[:, 1]), atol=1e-6)


def test_ur5e_has_the_published_limits_and_weight(load):
    model = load("ur5e/ur5e_suction.urdf")
    np.testing.assert_allclose([info[8] for info in model.moving], make_robots.UR5E_LOWER)
    np.testing.assert_allclose([info[9] for info in model.moving], make_robots.UR5E_UPPER)
    assert tuple(info[10] for info in model.moving) == make_robots.UR5E_EFFORT_NM
    masses = {
        name: pybullet.getDynamicsInfo(model.body, index, model.client)[0]
        for name, index in model.links.items()
    }
    arm = sum(masses[f"ur5e_link{index}"] for index in range(1, 7))
    assert arm + make_robots.UR5E_BASE_MASS_KG == pytest.approx(20.6)
    assert masses["suction_gripper"] + masses["suction_cup"] == pytest.approx(0.4)


def test_ur5e_centres_of_mass_are_where_the_published_table_has_them(load):
    model = load("ur5e/ur5e.urdf")
    joints = random_joints(3, 6)[0]
    model.put(joints)
    for index, pose in enumerate(standard_frames(joints)):
        wanted = pose @ [*make_robots.UR5E_MASSES[index][1], 1.0]
        link = model.links[f"ur5e_link{index + 1}"]
        found = pybullet.getLinkState(model.body, link, 0, True, model.client)[0]
        np.testing.assert_allclose(found, wanted[:3], atol=1e-5)


@pytest.mark.parametrize(("arm", "count"), [("ur5e", 6), ("panda", 7)])
def test_cup_and_grasp_target_coincide(load, arm, count):
    hand, cup = load(f"{arm}/{arm}.urdf"), load(f"{arm}/{arm}_suction.urdf")
    for joints in random_joints(1, count):
        hand.put(joints)
        cup.put(joints)
        for one, other in zip(hand.pose("panda_grasptarget"), cup.pose("suction_cup"), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("path", ["ur5e/ur5e_suction.urdf", "panda/panda_suction.urdf"])
def test_only_gripper_and_cup_collide_and_the_mouth_is_their_end(load, path):
    model = load(path)
    boxes = {link: model.boxes(link) for link in model.links}
    assert {link for link, found in boxes.items() if found} == {"suction_gripper", "suction_cup"}
    [(centre, size)] = boxes["suction_cup"]
    np.testing.assert_allclose([centre[0], centre[1], centre[2] + 0.5 * size[2]], 0.0, atol=1e-9)
    assert size[0] == size[1] == pytest.approx(math.sqrt(math.pi) * 0.022, rel=0.01)
    [(centre, size)] = boxes["suction_gripper"]
    assert centre[2] + 0.5 * size[2] == pytest.approx(make_robots.HAND_REACH_M - 0.030)


@pytest.mark.parametrize("path", ["mobile/amr.urdf", "mobile/mobile_panda.urdf"])
def test_carts_drive_and_carry(load, path):
    model = load(path)
    model.put([1.5, -0.7, 0.5 * math.pi])
    position, rotation = model.pose("chassis")
    np.testing.assert_allclose(position, [1.5, -0.7, 0.0], atol=1e-9)
    np.testing.assert_allclose(rotation, kinematics.yaw_matrix(0.5 * math.pi), atol=1e-6)
    wanted = carts.AMR_SIZE if "amr" in path else carts.CARRIER_SIZE
    centre, size = model.boxes("chassis")[0]
    np.testing.assert_allclose(
        centre + 0.5 * size, [0.5 * wanted[0], 0.5 * wanted[1], wanted[2]], atol=1e-9
    )
    assert centre[2] - 0.5 * size[2] == pytest.approx(carts.CLEARANCE_M)
    np.testing.assert_allclose(size[:2], wanted[:2])
    if "panda" in path:
        x, y, z = carts.ARM_ON_CARRIER
        np.testing.assert_allclose(model.pose("panda_link0")[0], [1.5 - y, -0.7 + x, z], atol=1e-6)


def test_tote_is_open_above_and_lies_on_the_deck(load):
    boxes = load("mobile/mobile_panda.urdf").boxes("chassis")[1:]
    assert len(boxes) == 5
    low = np.min([centre - 0.5 * size for centre, size in boxes], axis=0)
    high = np.max([centre + 0.5 * size for centre, size in boxes], axis=0)
    deck = carts.CARRIER_SIZE[2]
    assert low[2] == pytest.approx(deck)
    assert high[2] == pytest.approx(deck + carts.TOTE_HEIGHT_M)
    assert (np.abs([low[:2], high[:2]]) < [0.35, 0.25]).all()
    for x in np.linspace(-0.12, 0.12, 7):
        for y in np.linspace(-0.10, 0.10, 7):
            point = np.array([carts.TOTE_CENTRE[0] + x, carts.TOTE_CENTRE[1] + y])
            over = [
                centre[2] + 0.5 * size[2]
                for centre, size in boxes
                if (abs(point - centre[:2]) < 0.5 * size[:2]).all()
            ]
            assert over == [pytest.approx(deck + carts.TOTE_FLOOR_M)]


def test_panda_reaches_all_of_the_tote_with_its_tool_down():
    chain = kinematics.PANDA
    turned = kinematics.yaw_matrix(0.5 * math.pi)
    middle = np.array([*carts.TOTE_CENTRE, 0.0]) - [*carts.ARM_ON_CARRIER[:2], 0.0]
    for x in (-0.08, 0.0, 0.08):
        for y in (-0.06, 0.0, 0.06):
            for z in (0.10, 0.20):
                wanted = middle + np.array([x, y, z])
                found = chain.inverse(wanted, turned)
                position, rotation, _ = chain.forward(found)
                assert np.linalg.norm(position - wanted) < 5e-4
                np.testing.assert_allclose(rotation, turned, atol=2e-3)
                assert np.minimum(found - chain.lower, chain.upper - found).min() > 0.05


def test_faces_look_outwards():
    families = [*make_robots.ur5e_parts(), make_robots.gripper_parts(), make_robots.cup_parts()]
    families += [carts.amr_parts(), carts.carrier_parts()]
    for parts in families:
        for solid in (solid for solids in parts.values() for solid in solids):
            corners = solid.points[solid.faces] - solid.points.mean(axis=0)
            area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            assert np.linalg.norm(area, axis=1).min() > 1e-8
            assert np.einsum("fi,fi->", area, corners.mean(axis=1)) > 0.0
            flat = area / np.linalg.norm(area, axis=1, keepdims=True)
            assert np.einsum("fi,fci->fc", flat, corner_normals(solid)).min() > 0.6


@pytest.mark.parametrize(
    ("axis", "along"), [(name, np.eye(3)["xyz".index(name[-1])]) for name in ("x", "-y", "z")]
)
def test_a_lathe_turns_about_its_axis(axis, along):
    sign = -1.0 if axis.startswith("-") else 1.0
    solid = lathe([(0.0, 0.0), (0.5, 0.0), (0.5, 2.0), (0.0, 2.0)], axis, (1.0, 2.0, 3.0))
    local = solid.points - [1.0, 2.0, 3.0]
    assert np.unique(np.round(local @ (sign * along), 6)).tolist() == [0.0, 2.0]
    assert len(solid.faces) == 4 * SIDES
    corners = solid.points[solid.faces]
    volume = np.einsum("fi,fi->", np.cross(corners[:, 0], corners[:, 1]), corners[:, 2]) / 6.0
    assert volume == pytest.approx(
        2.0 * 0.5 * SIDES * 0.25 * math.sin(2.0 * math.pi / SIDES), abs=1e-5
    )
    assert obj_text([solid]).count("\nf ") == len(solid.faces)
