"""Starting a Python process for a worker: the one safe way, for executors and for vectors.

What a child can rely on, whoever starts it:

- It is a new process, not a fork: it copies neither the simulator nor the locks of the parent's
  threads. It runs no line of the caller's main program, so scripts need no guard and notebooks work.
- It imports what the parent would: `sys.path` is the parent's.
- It speaks to the parent through a socket pair of their own. Of the parent's open files it has that
  one, standard error and those it was given; its own children inherit none of them.
- Whatever it prints goes to standard error, even from C: standard output belongs to the caller. Its
  standard input is empty.
- Ctrl-C, which reaches the whole group of processes, is the parent's to deal with: SIGINT is blocked
  before the first instruction of the child and ignored from then on.
- Libraries that would start a thread for each core start one.
- It never outlives its parent for long, see `start`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
PR_SET_PDEATHSIG = 1  # linux/prctl.h

# Nothing but `sys` is imported before the path is the parent's.
_BOOT = (
    "import sys; sys.path[:] = sys.argv[1].split('\\n'); "
    "from shopfloor.children import serve; serve(sys.argv[2])"
)


@dataclass(frozen=True)
class Child:
    """A process that was started, and the parent's end of the connection to it."""

    process: subprocess.Popen[bytes]
    connection: Connection

    def wait(self, grace_s: float) -> int:
        """Wait for the process to go, kill it if it does not, and return its exit status, negative for a signal."""
        try:
            return self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def end(self, grace_s: float = 0.0) -> int:
        """Hang up, and wait as `wait` does."""
        self.connection.close()
        return self.wait(grace_s)


def start(
    function: str,
    arguments: Sequence[str] = (),
    *,
    descriptors: Sequence[int] = (),
    at_once: bool = False,
) -> Child:
    """Start a process that calls a function and ends when the function returns.

    The operating system must have what `platforms.STARTS_WORKERS` asks for.

    Args:
        function: "module:function", called with the child's end of the connection (a `Connection`)
            and the arguments, a list.
        arguments: words for the function.
        descriptors: open files of this process that the child has too, under the same numbers.
        at_once: how the child ends when this process is gone or hangs up. By default the connection
            ends (`EOFError`, `ConnectionError`), and the function returns in its own time. With
            `at_once` the process is killed in the middle of whatever it does, a long call into C
            included: for work that is safe to lose at any moment. On Linux the death of the
            *thread* that called `start` counts as well, so the thread must outlive the child.
    """
    ours, theirs = socket.socketpair()
    parcel = {
        "function": function,
        "arguments": list(arguments),
        "connection": theirs.fileno(),
        "descriptors": list(descriptors),
        "parent": os.getpid() if at_once else None,
    }

    command = [sys.executable, "-c", _BOOT, "\n".join(sys.path), json.dumps(parcel)]

    # The child inherits the mask, so that Ctrl-C cannot hit it while it imports.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=2,  # PyBullet prints from C
            pass_fds=(theirs.fileno(), *descriptors),
            env={**os.environ, **ONE_THREAD},
        )
    except BaseException:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()

    return Child(process, Connection(ours.detach()))


def serve(document: str) -> None:
    """Be the child: what `start` lets a new process run.

    Args:
        document: the parcel of `start`, JSON.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parcel = json.loads(document)
    for descriptor in (parcel["connection"], *parcel["descriptors"]):
        os.set_inheritable(descriptor, False)

    if parcel["parent"] is not None:
        _end_at_once(parcel["parent"], parcel["connection"])

    module, _, name = parcel["function"].partition(":")
    function = getattr(importlib.import_module(module), name)
    with Connection(parcel["connection"]) as connection:
        function(connection, parcel["arguments"])


def _end_at_once(parent: int, connection: int) -> None:
    """See to it that this process ends with its parent, or when the parent hangs up."""
    # Linux kills this process when its parent dies, even in the middle of a long call into C.
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    # The parent may have died before that was asked for.
    if os.getppid() != parent:
        os._exit(1)

    threading.Thread(target=_exit_on_hang_up, args=(connection,), daemon=True).start()


def _exit_on_hang_up(connection: int) -> None:
    poll = select.poll()
    poll.register(connection, 0)
    poll.poll()
    os._exit(0)
