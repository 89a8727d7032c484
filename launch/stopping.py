"""Leaving in time when a signal asks to stop, whatever is being computed."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from shopfloor.collectors.executors import signals
from shopfloor.core import CancelledError
from shopfloor.launch.console import note

GRACE_S = 6.0
POLL_S = 0.2


@contextlib.contextmanager
def stopping_in_time(grace_s: float = GRACE_S) -> Iterator[None]:
    """Handle signals while the block runs, and end the process if it has not stopped soon after one.

    Loops ask for the signal between steps; a long computation that does not (loading data,
    rendering a report) is cut off. That is harmless: everything on disk is committed whole or not
    at all, and every run can be resumed.

    Args:
        grace_s: how long the block may take to stop by itself.
    """
    left = threading.Event()

    def watch() -> None:
        while not left.wait(POLL_S):
            signum = signals.requested()
            if signum is not None:
                if not left.wait(grace_s):
                    note(f"shopfloor: {CancelledError(signum)}")
                    os._exit(128 + signum)
                return

    with signals.handling():
        watcher = threading.Thread(target=watch, name="stopping", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            left.set()
            watcher.join()
