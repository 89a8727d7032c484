"""The README's table of cells is what their records say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from shopfloor.envs.record import CellRecord
from shopfloor.envs.registry import cell_entry

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("cell_table", ROOT / "docs" / "cell_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_in_the_readme_is_up_to_date(script):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert script.with_table(text) == text, "run `python docs/cell_table.py`"
    assert script.table().count("\n") == 14


def test_a_cell_that_does_not_say_what_it_does_is_named(script, monkeypatch):
    record = cell_entry("Kitting")
    silent = CellRecord(record.cell_id, record.task, record.version, record.decide)
    monkeypatch.setattr(script, "cell_entry", lambda name: silent)
    with pytest.raises(SystemExit, match="does"):
        script.table()
