"""Rules for all tests: what may be skipped, and that runs leave no environment behind."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


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
