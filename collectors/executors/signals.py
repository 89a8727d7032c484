"""Stopping a run by a signal: handlers only set a flag, loops ask for it between steps.

A handler that raises is not safe around h5py (the exception can vanish in a weak-reference
callback), so nothing here raises from inside a handler.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from shopfloor.core import CancelledError
from shopfloor.platforms import handled_signals

HANDLED = handled_signals()


class _Flag:
    """The signal that asked this process to stop, and how many `handling` blocks are open."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self.depth = 0

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Remember the first signal; leave at once on the second."""
        del frame
        if self.signum is not None:
            os._exit(128 + signum)
        self.signum = signum


_flag = _Flag()


@contextlib.contextmanager
def handling() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into a flag while the block runs; a second signal ends the process at once.

    Blocks nest: the flag stays set until the outermost one is left. Outside the main thread, where
    Python allows no handlers, the block changes nothing. SIGHUP stays ignored where the process was
    started with it ignored (nohup).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    previous = {}
    if _flag.depth == 0:
        _flag.signum = None
        for signum in HANDLED:
            before = signal.getsignal(signum)
            if signum.name == "SIGHUP" and before == signal.SIG_IGN:
                continue

            previous[signum] = before
            signal.signal(signum, _flag.handle)

    _flag.depth += 1
    try:
        yield
    finally:
        _flag.depth -= 1
        for signum, before in previous.items():
            signal.signal(signum, signal.SIG_DFL if before is None else before)
        if _flag.depth == 0:
            _flag.signum = None


def requested() -> int | None:
    """Return the signal that asked to stop, or None."""
    return _flag.signum


def check() -> None:
    """Raise `CancelledError` if a signal asked to stop; call it between steps."""
    if _flag.signum is not None:
        raise CancelledError(_flag.signum)
