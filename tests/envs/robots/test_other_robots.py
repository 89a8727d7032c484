"""Robots of another package, installed beside ours: found by its entry points, used like any other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shopfloor.datasets.reader import Dataset

PACKAGE = Path(__file__).parent / "other_robots"
PIP = "-m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --target"
CHECK = """
import gymnasium
import shopfloor
from shopfloor import check_cell
from shopfloor.envs.registry import make_cell

check_cell(make_cell("PickToTray", robot="acme_arm", privileged=True))
env = gymnasium.make("shopfloor/PickToTray-v0", robot="acme_arm", cameras=())
assert env.unwrapped.robot.model.name == env.unwrapped.describe()["robot"] == "acme_arm"
assert env.unwrapped.robot.state_names[5:7] == ("joint_6", "tool_x")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Install the package into a folder of its own; returns what runs Python with that folder on its path."""
    root = tmp_path_factory.mktemp("acme")
    shutil.copytree(PACKAGE, root / "source")  # the build writes beside it
    pip = [sys.executable, *PIP.split(), str(root / "installed"), str(root / "source")]
    subprocess.run(pip, check=True, capture_output=True, text=True)

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(root / "installed")}
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    return run


@pytest.fixture(scope="module")
def shopfloor(python):
    """Return what runs our command."""
    return lambda *arguments: python("-m", "shopfloor", *arguments)


def test_cells_list_them_after_their_own_and_report_the_broken_one(shopfloor):
    listed = shopfloor("cells", "--json")
    robots = {entry["id"]: entry["robots"] for entry in json.loads(listed.stdout)}
    assert robots["shopfloor/PickToTray-v0"] == ["panda", "ur5e", "acme_arm"]
    assert robots["shopfloor/MachineTending-v0"] == ["panda", "acme_arm"]
    assert robots["shopfloor/AisleDelivery-v0"][-1] == "acme_cart"
    assert robots["shopfloor/Kitting-v0"] == ["panda", "ur5e"]
    assert "acme_robots_that_are_not_there" in listed.stderr


def test_a_cell_with_the_arm_keeps_the_contract(python):
    done = python("-c", CHECK)
    assert done.returncode == 0, done.stderr


def test_episodes_with_the_arm_are_the_same_with_two_workers(shopfloor, tmp_path):
    for workers in (1, 2):
        command = f"collect PickToTray --robot acme_arm --policy expert --episodes 4 --workers {workers} --out"
        done = shopfloor(*command.split(), tmp_path / f"{workers}")
        assert done.returncode == 0, done.stderr

    files = [sorted((tmp_path / f"{workers}" / "episodes").iterdir()) for workers in (1, 2)]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    dataset = Dataset(tmp_path / "1")
    assert [record.outcome for record in dataset.records] == ["success"] * 4
    assert dataset.description["robot"] == "acme_arm"


def test_the_base_drives_where_bases_do(shopfloor):
    command = (
        "evaluate --cell AisleDelivery --robot acme_cart --policy expert --episodes 2 --seed 600000"
    )
    done = shopfloor(*command.split())
    assert done.returncode == 0, done.stderr
    assert "2 of 2 episodes succeeded" in done.stdout


@pytest.mark.parametrize(
    ("cell", "robot", "message"),
    [
        ("PickToTray", "acme_armm", "Did you mean 'acme_arm'? Known: acme_arm, panda, ur5e."),
        ("Kitting", "acme_arm", "Known: panda, ur5e. Its package has to name the cell"),
        (
            "PickToTray",
            "acme_cart",
            "Known: acme_arm, panda, ur5e. The cell cannot make its robot from a BaseModel",
        ),
        ("PickToTray", "acme_broken", "which cannot be loaded (No module named"),
    ],
)
def test_what_cannot_do_the_job_is_refused(shopfloor, cell, robot, message):
    command = f"evaluate --cell {cell} --robot {robot} --policy expert --episodes 1"
    failed = shopfloor(*command.split())
    assert failed.returncode == 2
    assert message in " ".join(failed.stderr.split())
    assert "Traceback" not in failed.stderr
