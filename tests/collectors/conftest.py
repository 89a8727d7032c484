"""Puts this folder's fakes where tests, and the worker processes they start, can import them."""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from shopfloor.collectors import executors  # noqa: E402


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Install the fake cell as a third party's distribution would be."""
    import fake_cell

    folder = fake_cell.plugin_path(tmp_path / "plugin")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("FAKE_CELL_MARKS", str(tmp_path))
    return folder


@pytest.fixture(scope="module")
def pool():
    """Two workers, kept for a module's tests."""
    with executors.LocalExecutor(2, allowed=("fault_jobs",)) as pool:
        yield pool


@pytest.fixture
def child_environment():
    """Environment of a driver process started by a test."""
    paths = [str(HERE), *(path for path in sys.path if path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
