"""Rules for all tests: what may be skipped, which files need torch, and that none measures the clock."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

LONG_S = 600.0  # ends what never happens; no machine is so busy that something takes as long
POLL_S = 0.02

# Nothing of Hypothesis measures the clock; a fixture may serve all examples of a property.
settings.register_profile(
    "shopfloor",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("shopfloor")

HERE = Path(__file__).resolve().parent
# Files, and folders of them, whose imports need torch. Where it is not installed they are not collected, so they may
# hold no test with the marker `core`; tests/test_repository.py checks that, and that no other file imports torch.
NEED_TORCH = ("policies", "envs/test_packages.py")
collect_ignore = [] if importlib.util.find_spec("torch") else list(NEED_TORCH)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the files that need torch; elsewhere a test says so itself."""
    folders = tuple(HERE / name for name in NEED_TORCH)
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in folders):
            item.add_marker(pytest.mark.torch)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one where nothing may be missing (SHOPFLOOR_NO_SKIPS, set by .ci/run)."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("SHOPFLOOR_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and here no test may be: {call.excinfo and call.excinfo.value}"
    return report


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], object]], None]:
    """Give a function that waits until another returns something true, however busy the machine is."""

    def wait(happened: Callable[[], object]) -> None:
        end = time.monotonic() + LONG_S
        while not happened():
            assert time.monotonic() < end, f"it did not happen within {LONG_S:g} s"
            time.sleep(POLL_S)

    return wait
