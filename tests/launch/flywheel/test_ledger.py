"""The ledger records each step once and survives being killed."""

import os
import sqlite3
import subprocess
import sys

import pytest

from shopfloor.core import InvalidInputError
from shopfloor.launch.flywheel.ledger import Ledger

pytestmark = pytest.mark.core

DATASET = {"name": "data/a", "cell": "c", "purpose": "train", "turn": 0, "episodes": 1, "steps": 5}


def test_a_step_runs_once(tmp_path):
    calls = []

    def run():
        calls.append(1)
        return {"value": len(calls)}

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.step("a", run) == {"value": 1}
        assert ledger.step("a", run) == {"value": 1}
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.step("a", run) == {"value": 1}
    assert calls == [1]


def test_rows_and_step_are_one_transaction(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        bad = [
            ("datasets", DATASET),
            ("checkpoint_datasets", {"checkpoint": "none", "dataset": "data/a"}),
        ]
        with pytest.raises(sqlite3.IntegrityError):
            ledger.record("a", {}, bad)
        assert ledger.done("a") is None
        assert ledger.rows("SELECT * FROM datasets") == []
        ledger.record("a", {}, bad[:1])
        ledger.record("b", {}, bad[:1])  # the same row again is harmless
        assert len(ledger.rows("SELECT * FROM datasets")) == 1
        assert ledger.rows("SELECT key, position FROM steps ORDER BY position") == [
            ("a", 1),
            ("b", 2),
        ]


def test_the_same_key_twice_is_refused(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.record("a", {"x": 1})
        with pytest.raises(sqlite3.IntegrityError):
            ledger.record("a", {"x": 2})
        assert ledger.done("a") == {"x": 1}


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(InvalidInputError, match="not a ledger"):
        Ledger(path)


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(InvalidInputError, match="format 99"):
        Ledger(path)


def test_a_kill_between_steps_keeps_what_was_recorded(tmp_path):
    script = """
import os, signal, sys
from pathlib import Path
from shopfloor.launch.flywheel.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
ledger.record("a", {"x": 1})
ledger._connection.execute("BEGIN IMMEDIATE")
ledger._connection.execute("INSERT INTO steps VALUES ('b', 2, '{}')")
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "ledger.sqlite"
    subprocess.run([sys.executable, "-c", script, str(path)], check=False, env=os.environ)
    with Ledger(path) as ledger:
        assert ledger.done("a") == {"x": 1}
        assert ledger.done("b") is None
