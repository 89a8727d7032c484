"""Cells of another package, installed beside ours: found by its entry points, used like any other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shopfloor.datasets.reader import Dataset

PACKAGE = Path(__file__).parent / "other_package"
CELL = "acme/PushToLine-v0"


@pytest.fixture(scope="module")
def shopfloor(tmp_path_factory):
    """Install the package into a folder of its own; returns what runs our command with that folder on its path."""
    root = tmp_path_factory.mktemp("acme")
    shutil.copytree(PACKAGE, root / "source")  # the build writes beside it
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--no-deps",
    ]
    pip += ["--no-build-isolation", "--target", str(root / "installed"), str(root / "source")]
    subprocess.run(pip, check=True, capture_output=True, text=True)

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(root / "installed")}
        command = [sys.executable, "-m", "shopfloor", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    return run


def test_it_is_listed_with_our_cells(shopfloor):
    listed = {entry["id"]: entry for entry in json.loads(shopfloor("cells", "--json").stdout)}
    assert listed[CELL]["instruction"] == "Push the green crate over the line."
    assert "shopfloor/PickToTray-v0" in listed


def test_its_expert_fills_a_dataset_that_is_the_same_with_two_workers(shopfloor, tmp_path):
    for workers in (1, 2):
        out = tmp_path / f"{workers}"
        collect = (
            "collect",
            "PushToLine",
            "--policy",
            "expert",
            "--episodes",
            4,
            "--out",
            out,
            "--workers",
            workers,
        )
        assert shopfloor(*collect).returncode == 0
    files = [sorted((tmp_path / f"{workers}" / "episodes").iterdir()) for workers in (1, 2)]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    dataset = Dataset(tmp_path / "1")
    assert [record.outcome for record in dataset.records] == ["success"] * 4
    assert dataset.records[0].cell == CELL


def test_a_name_that_nobody_offers_is_refused_with_theirs_among_the_known(shopfloor):
    failed = shopfloor("evaluate", "--policy", "expert", "--cell", "PushToLin", "--episodes", 1)
    assert failed.returncode == 2
    assert "PushToLine" in failed.stderr
