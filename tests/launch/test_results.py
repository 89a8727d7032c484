"""The results page from finished runs."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest


@pytest.fixture
def results(monkeypatch):
    """The program, which is no installed module."""
    path = Path(__file__).parents[2] / "benchmarks" / "results.py"
    spec = importlib.util.spec_from_file_location("benchmark_results", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmark_results", module)
    spec.loader.exec_module(module)
    return module


def test_the_page_pools_seeds_and_shows_controls(results, summary, tmp_path):
    for seed in (0, 1):
        folder = results.run_folder(tmp_path / "runs", "PickToTray", "poses", seed)
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "report.html").touch()
    out = tmp_path / "results.md"
    common = ["--runs", str(tmp_path / "runs"), "--out", str(out), "--report-only"]
    results.main([*common, "--cells", "PickToTray", "--observations", "poses", "--seeds", "0", "1"])
    text = out.read_text()
    assert (
        "| turn 0: the demonstrations alone | 20.0 % | 20.0 % | 20.0 % [13.3, 28.9] (20/100) |"
        in text
    )
    assert "| turn 2 | 80.0 %, hold | 80.0 %, hold | 80.0 % [71.1, 86.7] (80/100) |" in text
    assert "instructions shuffled across episodes | 22.0 %" in text
    assert "demonstrations alone | 24.0 %" in text
    assert "teacher distillation, not self-improvement" in text
    assert "python -m benchmarks.results --runs" in text
    assert "expert 1,000, own_success 20" in text
    assert "--report-only" not in text
    assert "Not measured yet" not in text
    results.main([*common, "--cells", "PickToTray", "--observations", "poses", "--seeds", "0", "7"])
    assert "Not measured yet: PickToTray from poses, loop seed 7." in out.read_text()
