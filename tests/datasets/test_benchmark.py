"""The benchmark of the store runs and reports what it promises; its figures are not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_it_reports_ratios():
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    run = [sys.executable, "-m", "benchmarks.dataset", "--json", "--episodes", "2"]
    out = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    result = json.loads(out.stdout)
    assert result["targets"].keys() == {"committed writes", "random windows"}
    assert {row["unit"] for row in result["rows"]} == {"steps", "windows"}
    assert all(row["ratio"] > 0 for row in result["rows"])
    assert any(row.get("fsync_wall_ms") for row in result["rows"])
