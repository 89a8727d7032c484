"""SIGKILL at random moments: of writers, and of whole jobs that are then run again until they are done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fault_episodes import ROOT, load

from shopfloor.core import sha256_hex
from shopfloor.datasets.reader import Dataset

pytestmark = pytest.mark.slow

# A sample; `python -m benchmarks.durability` goes on as long as one likes.
KILLS = 30
FUZZ_FILES = 300  # some of every kind of file
JOBS, EPISODES = 3, 25


def durability(*arguments):
    """Run the benchmark as a user does; returns its document."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, "-m", "benchmarks.durability", "--json", *arguments]
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(run.stdout)


def test_no_kill_of_a_writer_loses_what_it_reported():
    told = durability("--kills", str(KILLS), "--seed", "1")["kills"]
    assert told["kills"] == KILLS
    assert told["committed"] > KILLS
    assert [told[what] for what in ("lost", "unreadable", "torn", "left")] == [0, 0, 0, 0]


def test_no_changed_file_crashes_the_reader():
    told = durability("--fuzz-files", str(FUZZ_FILES), "--seed", "1")["fuzz"]
    assert told["files"] >= FUZZ_FILES
    assert told["refused"] > told["read"] > 0
    assert [told[what] for what in ("crashed", "hung", "other")] == [0, 0, 0], told["findings"]


def test_a_job_killed_and_run_again_until_it_is_done_gives_the_same_files(tmp_path):
    plugin = load("tests/collectors/fake_cell.py", "fake_cell").plugin_path(tmp_path / "plugin")
    paths = os.pathsep.join([str(plugin), *(path for path in sys.path if path)])
    environment = {**os.environ, "PYTHONPATH": paths, "FAKE_CELL_MARKS": str(tmp_path)}
    made, kills = [], 0
    for job in range(JOBS + 1):
        command = [
            sys.executable,
            str(Path(__file__).with_name("resuming.py")),
            str(tmp_path / f"{job}"),
            str(job),
        ]
        command += [str(EPISODES), "alone" if job == JOBS else "kill"]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        told = json.loads(run.stdout)
        kills += told["kills"]
        left = list((tmp_path / f"{job}").rglob("*.*"))
        assert not [
            path for path in left if path.suffix == ".tmp"
        ]  # the last run swept what killed ones left
        files = {
            f"episodes/{path.name}": sha256_hex(path.read_bytes())
            for path in left
            if path.suffix == ".h5"
        }
        assert files.items() >= told["reported"].items()
        assert Dataset(tmp_path / f"{job}").verify() == []
        made.append(files)
    assert kills > JOBS
    assert told["kills"] == 0
    assert len(made[-1]) == EPISODES
    assert all(files == made[-1] for files in made)
