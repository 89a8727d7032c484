"""Kinds of robots: by name, and what of an arm is read from its URDF file."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from shopfloor.core import InvalidInputError, MissingDependencyError, UnknownNameError
from shopfloor.envs.physics.kinematics import Chain
from shopfloor.envs.physics.urdf import read_chain
from shopfloor.envs.physics.world import World
from shopfloor.envs.robots import (
    AMR,
    MOBILE_PANDA,
    PANDA,
    UR5E,
    Arm,
    ArmModel,
    robot_model,
    table,
    top_down,
)

pytestmark = pytest.mark.core

SMALL = """<robot name="small">
  <link name="foot"/><link name="boom"/><link name="mast"/><link name="tip"/>
  <joint name="turn" type="{kind}"><parent link="foot"/><child link="mast"/>
    <origin xyz="0 0 0.1" rpy="0 0 0.3"/><axis xyz="0 0 -2"/>
    <limit lower="-1" upper="1" effort="30" velocity="1"/></joint>
  <joint name="swing" type="continuous"><parent link="mast"/><child link="boom"/>
    <origin xyz="0 0 0.2"/><axis xyz="0 1 0"/><limit effort="20" velocity="1"/></joint>
  <joint name="end" type="fixed"><parent link="boom"/><child link="tip"/><origin xyz="0.5 0 0"/></joint>
</robot>
"""


@pytest.fixture
def small(tmp_path):
    """Return what writes an arm with two joints to a file."""

    def write(old="", new="", kind="revolute"):
        path = tmp_path / "small.urdf"
        path.write_text(SMALL.format(kind=kind).replace(old, new))
        return path

    return write


@pytest.fixture
def announced(monkeypatch):
    """Return what announces an object as a robot of another package."""

    def announce(name, model):
        module = types.ModuleType("acme_robots")
        module.MODEL = model
        monkeypatch.setitem(sys.modules, "acme_robots", module)
        points = [EntryPoint(name, "acme_robots:MODEL", table.GROUP)]
        monkeypatch.setattr(
            table, "entry_points", lambda group: points if group == table.GROUP else []
        )

    return announce


@pytest.mark.parametrize("model", [PANDA, UR5E], ids=["panda", "ur5e"])
def test_a_chain_that_is_read_equals_the_one_by_hand(model):
    chain, forces_nm = read_chain(model.urdf, model.joints, model.tool_link, model.chain.home)
    rng = np.random.default_rng(0)
    for _ in range(20):
        joints = rng.uniform(model.chain.lower, model.chain.upper)
        for found, wanted in zip(chain.forward(joints), model.chain.forward(joints), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-9)

    assert forces_nm == model.forces_nm
    assert (chain.lower <= model.chain.lower).all()
    assert (chain.upper >= model.chain.upper).all()


def test_axes_may_have_any_direction(small):
    chain, forces_nm = read_chain(small(), ("turn", "swing"), "tip", (0.0, 0.0))
    position, rotation, _ = chain.forward(np.array([0.3, 0.5 * np.pi]))
    np.testing.assert_allclose(position, [0.0, 0.0, -0.2], atol=1e-12)
    np.testing.assert_allclose(rotation, [[0, 0, -1], [0, -1, 0], [-1, 0, 0]], atol=1e-12)
    assert forces_nm == (30.0, 20.0)
    np.testing.assert_allclose(chain.upper, [1.0, 2.0 * np.pi])


@pytest.mark.parametrize(
    ("change", "tool", "message"),
    [
        ({"old": "</robot>"}, "tip", "cannot be read as a URDF file"),
        ({"old": 'effort="30"'}, "tip", "joint 'turn' has no limit with effort"),
        ({"old": "0 0 -2", "new": "0 -2"}, "tip", "'0 -2' is not three numbers"),
        ({"old": "0 0 -2", "new": "0 0 0"}, "tip", "joint 'turn' has an axis of no length"),
        ({"old": '"turn"', "new": '"spin"'}, "tip", "are spin, swing; expected turn, swing"),
        ({"kind": "prismatic"}, "tip", "joint 'turn' is prismatic; expected revolute"),
        ({}, "hook", "no joint to a link 'hook'; those with one: mast, boom, tip"),
        ({"old": 'link="foot"/><child', "new": 'link="tip"/><child'}, "tip", "in a circle"),
    ],
)
def test_files_without_such_an_arm_are_refused(small, change, tool, message):
    with pytest.raises(InvalidInputError, match=message):
        read_chain(small(**change), ("turn", "swing"), tool, (0.0, 0.0))


def test_a_file_that_is_not_there_is_refused():
    with pytest.raises(InvalidInputError, match=r"none\.urdf cannot be read"):
        read_chain(Path("none.urdf"), ("turn",), "tip", (0.0,))


def test_parts_of_different_arms_are_refused():
    with pytest.raises(InvalidInputError, match="7 joints, 6 forces and a chain of 7"):
        replace(PANDA, forces_nm=UR5E.forces_nm)
    with pytest.raises(InvalidInputError, match="6 joints in its home posture, 7 lower"):
        Chain(PANDA.chain.links, UR5E.chain.home, PANDA.chain.lower, PANDA.chain.upper)


def test_a_name_that_the_file_lacks_is_refused():
    post = top_down((0.3, -0.3, 0.0), (0.7, 0.3, 0.3), (0.5, 0.0, 0.2), (0.5, 0.0, 0.2))
    world = World()
    with pytest.raises(InvalidInputError, match=r"ur5e\.urdf has no joint or link 'tip'; it has"):
        Arm(world, replace(UR5E, tool_link="tip"), post)
    world.close()


def test_our_robots_have_names():
    for model in (PANDA, UR5E, MOBILE_PANDA, AMR):
        assert robot_model(model.name) is model
    with pytest.raises(UnknownNameError, match=r"Unknown robot 'ur5'. Did you mean 'ur5e'\?"):
        robot_model("ur5")


def test_ours_are_before_those_of_other_packages(announced):
    announced("panda", replace(UR5E, name="panda"))
    assert robot_model("panda") is PANDA


def test_others_are_found_by_the_name_they_announce(announced):
    model = replace(UR5E, name="acme_arm")
    announced("acme_arm", model)
    assert robot_model("acme_arm") is model
    assert table.installed_robots() == ["acme_arm"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("an arm", "as a str; expected an ArmModel or a BaseModel"),
        (UR5E, "its model has the name 'ur5e'; expected one name"),
        (replace(UR5E, name="acme_arm", urdf=Path("gone.urdf")), r"gone\.urdf is not there"),
    ],
)
def test_what_is_no_robot_is_refused(announced, model, message):
    announced("acme_arm", model)
    with pytest.raises(InvalidInputError, match=message):
        robot_model("acme_arm")


def test_what_cannot_be_loaded_is_refused(announced):
    announced("acme_arm", UR5E)
    del sys.modules["acme_robots"].MODEL
    with pytest.raises(MissingDependencyError, match="acme_robots:MODEL, which cannot be loaded"):
        robot_model("acme_arm")


@pytest.mark.parametrize("name", ["Kitting", "Kitting-v0", "shopfloor/Kitting-v0"])
def test_a_robot_names_cells_in_any_form(name):
    model: ArmModel = replace(UR5E, cells=(name,))
    assert table.is_for(model, "shopfloor/Kitting-v0")
    assert not table.is_for(model, "shopfloor/PickToTray-v0")
