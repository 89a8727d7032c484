"""PyBullet, imported without the line it prints: commands write results to the same streams."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

__all__ = ["pybullet"]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Send what C code writes to standard output and standard error to nowhere."""
    kept = {}
    for stream in (1, 2):
        with contextlib.suppress(OSError):  # closed: nothing can be written there
            kept[stream] = os.dup(stream)

    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in kept:
            os.dup2(nowhere, stream)
        yield
    finally:
        for stream, copy in kept.items():
            os.dup2(copy, stream)
            os.close(copy)
        os.close(nowhere)


with _silence():
    import pybullet
