"""The loop, end to end, on the real cell: resuming, kills, workers, the ledger, the page in a browser."""

import importlib.util
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shopfloor.core import CancelledError, InvalidInputError, UnknownNameError
from shopfloor.datasets.reader import Dataset
from shopfloor.launch.flywheel.loop import flywheel
from shopfloor.launch.flywheel.setups import FlywheelConfig

pytestmark = [pytest.mark.slow, pytest.mark.torch]
TINY = Path(__file__).parents[1] / "tiny.py"
CELL = "shopfloor/PickToTray-v0"
KILLS = 4


def _tiny():
    spec = importlib.util.spec_from_file_location("tiny", TINY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny = _tiny()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("flywheel") / "whole"
    return out, tiny.run(out)


def decisions(out):
    with sqlite3.connect(out / "ledger.sqlite") as connection:
        return connection.execute(
            "SELECT turn, cell, verdict, why FROM decisions ORDER BY turn, cell"
        ).fetchall()


def files(out):
    with sqlite3.connect(out / "ledger.sqlite") as connection:
        return connection.execute(
            "SELECT dataset, episode_id, sha256 FROM episodes ORDER BY 1, 2"
        ).fetchall()


def checkpoints(out):
    with sqlite3.connect(out / "ledger.sqlite") as connection:
        return connection.execute(
            "SELECT name, digest, parent FROM checkpoints ORDER BY 1"
        ).fetchall()


def same(out, other):
    ours, theirs = (json.loads((folder / "summary.json").read_text()) for folder in (out, other))
    assert tiny.timeless(ours) == tiny.timeless(theirs)
    assert (decisions(out), files(out), checkpoints(out)) == (
        decisions(other),
        files(other),
        checkpoints(other),
    )


def test_the_folder_holds_what_was_promised(whole, validate):
    out, summary = whole
    names = {
        "run.json",
        "summary.json",
        "report.html",
        "ledger.sqlite",
        "data",
        "checkpoints",
        "evaluations",
    }
    assert names == {path.name for path in out.iterdir()}
    assert json.loads((out / "summary.json").read_text()) == summary
    validate(summary, "flywheel-summary")
    validate(json.loads((out / "run.json").read_text()), "run")
    assert [entry["turn"] for entry in summary["turns"]] == [0, 1, 2]
    assert (out / "report.html").read_text().count("<video") == 6


def test_datasets_are_sound_and_for_their_purpose(whole):
    out, _ = whole
    purposes = {"data": "train", "evaluations": None}
    for folder, purpose in purposes.items():
        for path in sorted((out / folder).iterdir()):
            dataset = Dataset(path)
            assert dataset.verify() == []
            expected = purpose or ("gate" if "-gate-" in path.name else "report")
            assert {record.purpose for record in dataset.records} == {expected}


def test_the_ledger_joins_episode_to_decision(whole):
    out, summary = whole
    query = """
        SELECT decisions.turn, decisions.candidate, COUNT(DISTINCT episodes.episode_id)
        FROM decisions
        JOIN checkpoint_datasets ON checkpoint_datasets.checkpoint = decisions.candidate
        JOIN episodes ON episodes.dataset = checkpoint_datasets.dataset
        GROUP BY decisions.turn ORDER BY decisions.turn
    """
    with sqlite3.connect(out / "ledger.sqlite") as connection:
        assert connection.execute(query).fetchall() == [
            (1, "checkpoints/turn-1", 4),
            (2, "checkpoints/turn-2", 6),
        ]
        assert connection.execute("SELECT COUNT(*) FROM evaluations").fetchone() == (3 + 2 * 2,)
    turn = summary["turns"][1]
    in_service = (
        turn["gate"]["candidate"] if turn["decision"] == "promote" else turn["gate"]["in_service"]
    )
    assert turn["policy"] == in_service


def test_candidates_start_from_the_policy_in_service(whole):
    out, summary = whole
    parents = {name: parent for name, _, parent in checkpoints(out)}
    for before, after in zip(summary["turns"], summary["turns"][1:], strict=False):
        assert parents[after["candidate"]["policy"]] == before["policy"]


def test_running_again_changes_nothing(whole):
    out, summary = whole
    kept = [
        path for path in out.rglob("*") if path.suffix in (".h5", ".safetensors", ".html", ".json")
    ]
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert tiny.run(out) == summary
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_settings_in_the_same_folder_are_refused(whole):
    out, _ = whole
    with pytest.raises(InvalidInputError, match="episodes is 2 there and 3 here"):
        tiny.run(out, episodes=3)


def test_an_unknown_engine_is_refused_before_anything_is_made(tmp_path):
    config = FlywheelConfig(tmp_path / "out", smoke=True)
    with pytest.raises(UnknownNameError, match="Unknown engine 'ray://host'"):
        flywheel(config, workers="ray://host")
    assert not (tmp_path / "out").exists()


def test_two_workers_give_the_same_run(whole, tmp_path):
    tiny.run(tmp_path / "out", workers=2)
    same(tmp_path / "out", whole[0])


def count_files(out):
    """Return how many files a run has made: how far it has come, on a machine however busy."""
    return sum(len(names) for _, _, names in os.walk(out))


def start(out, *settings):
    return subprocess.Popen(
        [sys.executable, str(TINY), str(out), *settings],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_run_killed_at_random_moments_comes_to_the_same_end(whole, tmp_path, wait_until):
    out, rng, kills = tmp_path / "killed", random.Random(4), 0
    reached = sorted(rng.sample(range(1, count_files(whole[0])), KILLS))
    for count in reached:
        with start(out, "workers=2") as process:
            wait_until(lambda: count_files(out) >= count or process.poll() is not None)  # noqa: B023  # called here
            time.sleep(rng.uniform(0.0, 1.0))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
    assert kills >= KILLS - 1

    with start(out, "workers=2") as process:
        _, err = process.communicate()
    assert process.returncode == 0, err
    same(out, whole[0])


def test_a_signal_stops_it_soon_and_it_resumes(whole, tmp_path, wait_until):
    out, files = tmp_path / "out", count_files(whole[0])
    for signum, share, code in ((signal.SIGTERM, 0.3, 143), (signal.SIGINT, 0.6, 130)):
        with start(out) as process:
            wait_until(lambda: count_files(out) >= share * files or process.poll() is not None)  # noqa: B023  # called here
            os.kill(process.pid, signum)
            _, err = process.communicate(timeout=600)
        assert process.returncode == code, err
        assert "Traceback" not in err
        assert not (out / "summary.json").exists()
    tiny.run(tmp_path / "out")
    same(tmp_path / "out", whole[0])


def test_a_stop_asked_for_in_training_is_heard(tmp_path, monkeypatch):
    from shopfloor.collectors.executors import signals

    monkeypatch.setattr(signals, "requested", lambda: signal.SIGTERM)

    def check():
        raise CancelledError(signal.SIGTERM)

    monkeypatch.setattr(signals, "check", check)
    with pytest.raises(CancelledError):
        tiny.run(tmp_path / "out")


def test_without_a_teacher_only_own_successes_are_learnt(tmp_path):
    summary = tiny.run(tmp_path / "out", teacher="none", turns=1)
    turn = summary["turns"][1]
    assert turn["collected"]["expert_steps"] == 0
    assert "filtered behaviour cloning" in summary["labels"]["statement"]
    records = Dataset(tmp_path / "out" / turn["collected"]["dataset"]).records
    own = sum(record.steps for record in records if record.outcome == "success")
    assert turn["training"]["label_sources"]["own_success"] == own


def test_controls_are_shown_beside(tmp_path, validate):
    summary = tiny.run(tmp_path / "out", control=True, shuffle_control=True, turns=1)
    validate(summary, "flywheel-summary")
    (control,) = summary["control"]
    trained = {name: parent for name, _, parent in checkpoints(tmp_path / "out")}
    assert trained["checkpoints/control-1"] == "checkpoints/turn-0"
    assert control["steps"] == sum(entry["training"]["steps"] for entry in summary["turns"])
    assert summary["shuffle_control"][0]["seeds"] == summary["turns"][0]["seeds"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "instructions shuffled" in page
    assert "trained equally long" in page


def test_several_cells_share_a_policy_and_have_a_gate_each(tmp_path, validate):
    summary = tiny.run(tmp_path / "out", cells=("PickToTray", "ConveyorSort"), turns=1)
    validate(summary, "flywheel-summary")
    cells = ["shopfloor/PickToTray-v0", "shopfloor/ConveyorSort-v0"]
    assert [(entry["turn"], entry["cell"]) for entry in summary["turns"]] == [
        (t, c) for t in (0, 1) for c in cells
    ]
    assert {entry["candidate"]["policy"] for entry in summary["turns"][2:]} == {
        "checkpoints/turn-1"
    }
    assert [row[:2] for row in decisions(tmp_path / "out")] == [(1, cell) for cell in sorted(cells)]
    total, active = (summary["efficiency"][0][f"parameters_{kind}"] for kind in ("total", "active"))
    assert active < total  # a sparse mixture by default
