"""The benchmark of the store runs, checks what it reads and reports what it promises; its figures are not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}


def run(*arguments):
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_it_reports_ratios():
    small = ["--episodes", "2", "--state-episodes", "3", "--rounds", "1"]
    out = run("benchmarks.dataset", "--json", *small)
    assert out.returncode == 0, out.stderr
    result = json.loads(out.stdout)
    assert {row["group"] for row in result["rows"]} == {"writes", "windows", "state-only windows"}
    assert all(row["per_cpu_second"] > 0 for row in result["rows"])
    names = {row["name"] for row in result["rows"]}
    assert {
        "ours, blosc",
        "ours, gzip",
        "ours, cached",
        "NumPy memory map",
        "raw h5py, 1-step chunks",
    } <= names
    assert any(row.get("fsync_wall_ms") for row in result["rows"])
    # What was not installed is said, and no target is judged without both sides.
    assert result["peers"].keys() | set(result["skipped"]) == {"robomimic", "minari", "lerobot"}
    for target in result["targets"]:
        both = {(target["group"], target["of"]), (target["group"], target["to"])}
        assert (target["ratio"] is not None) == (
            both <= {(row["group"], row["name"]) for row in result["rows"]}
        )
    text = run("benchmarks.dataset", *small).stdout
    assert "windows: ours, blosc / raw h5py, 1-step chunks:" in text
    for package in result["skipped"]:
        assert f"{package} is not installed here: skipped" in text


@pytest.mark.slow
def test_codecs_and_chunks():
    out = run("benchmarks.dataset_chunks", "--rounds", "1")
    assert out.returncode == 0, out.stderr
    assert len(out.stdout.splitlines()) == 1 + 8 * 3
