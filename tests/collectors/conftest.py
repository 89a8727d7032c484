"""Puts this folder's fakes where tests, and the worker processes they start, can import them."""

import os
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from shopfloor.collectors.executors import local as executors  # noqa: E402


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


class SkippingClock:
    """An executor's clock, which skips ahead while the only job that runs is one that hangs.

    So no test needs a limit so short that a busy machine would pass it by itself. A job that hangs
    says so by a file `hangs-PID`.
    """

    def __init__(self, executor, marks):
        self.executor, self.marks, self.skipped_s = executor, marks, 0.0

    def monotonic(self):
        busy = self.executor._busy()
        if len(busy) == 1 and (self.marks / f"hangs-{busy[0].process.pid}").exists():
            self.skipped_s += 2 * executors.TIMEOUT_S
        return time.monotonic() + self.skipped_s


@pytest.fixture
def skip_hangs(tmp_path, monkeypatch):
    """Give a function that makes an executor's time pass by itself where one of its jobs hangs."""
    return lambda executor: monkeypatch.setattr(
        executors, "time", SkippingClock(executor, tmp_path)
    )


@pytest.fixture
def child_environment():
    """Environment of a driver process started by a test."""
    paths = [str(HERE), *(path for path in sys.path if path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
