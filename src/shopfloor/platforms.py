"""What the operating system may lack: Linux has all of it, macOS and Windows do not.

Everything else asks here, so that the differences stand once. Where there is a simple, right
replacement it is used; what there is none for is said in one sentence (`limits`) or refused.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator

LINUX = sys.platform == "linux"
LIMITS = {
    "darwin": (
        "on macOS a power cut may cost the last episodes, what a killed run leaves half written is "
        "swept after a day, the renderer gl does not work, and shopfloor is tested on Linux only."
    ),
    "win32": (
        "on Windows episodes run in one process (no --workers, no gymnasium.make_vec) that only "
        "Ctrl-C stops cleanly, a power cut may cost the last episodes, commands that change one "
        "dataset do not notice each other, the "
        "renderer gl does not work, and shopfloor is tested on Linux only."
    ),
}

# Flags of `os.open`. Windows lacks the first four and would change line ends without the last.
NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
NO_BLOCK: int = getattr(os, "O_NONBLOCK", 0)
CLOSED_IN_CHILDREN: int = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
FOLDER: int = getattr(os, "O_DIRECTORY", 0)
AS_IT_IS: int = getattr(os, "O_BINARY", 0)

# Windows opens no folders, and syncs only what is open for writing.
SYNCS_FOLDERS = hasattr(os, "O_DIRECTORY")
OPEN_TO_SYNC = os.O_RDONLY if SYNCS_FOLDERS else os.O_RDWR

# A worker process inherits its end of a socket pair, starts with SIGINT blocked and polls for the end of its parent.
STARTS_WORKERS = hasattr(signal, "pthread_sigmask") and hasattr(select, "poll")

_position = threading.Lock()


def limits() -> str:
    """Return the one sentence that says what shopfloor cannot do on this operating system; "" on Linux."""
    return LIMITS.get(sys.platform, "")


def usable_cores() -> int:
    """Return how many processor cores this process may use, as far as the operating system says so."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def handled_signals() -> tuple[signal.Signals, ...]:
    """Return those signals that ask a run to stop; Windows has no SIGHUP."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


def shared_memory(name: str) -> int:
    """Return a descriptor of memory that processes can share; the caller closes it.

    Args:
        name: for whoever looks at the process's open files.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:  # macOS: a file without a name
        return os.dup(file.fileno())


def read_at(fd: int, count: int, position: int) -> bytes:
    """Read at most `count` bytes from a position, as `os.pread`."""
    if hasattr(os, "pread"):
        return os.pread(fd, count, position)
    with _at(fd, position):
        return os.read(fd, count)


def read_into(fd: int, out: memoryview, position: int) -> int:
    """Read into `out` from a position and return how many bytes came, as `os.preadv` with one buffer."""
    if hasattr(os, "preadv"):
        return os.preadv(fd, [out], position)
    data = read_at(fd, out.nbytes, position)
    out.cast("B")[: len(data)] = data
    return len(data)


def write_at(fd: int, data: memoryview, position: int) -> int:
    """Write at a position and return how many bytes were taken, as `os.pwrite`."""
    if hasattr(os, "pwrite"):
        return os.pwrite(fd, data, position)
    with _at(fd, position):
        return os.write(fd, data)


@contextlib.contextmanager
def _at(fd: int, position: int) -> Iterator[None]:
    """Move to a position and back again; threads wait for each other."""
    with _position:
        before = os.lseek(fd, 0, os.SEEK_CUR)
        os.lseek(fd, position, os.SEEK_SET)
        try:
            yield
        finally:
            os.lseek(fd, before, os.SEEK_SET)
