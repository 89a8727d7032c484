"""Trying things in a child process that may crash, hang or eat memory, and saying which it did."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

CPU_S = 20.0
WAIT_S = 600.0  # only for what waits without computing: no busy machine keeps a case that long


@dataclass(frozen=True)
class Outcome:
    """What came of one case.

    Attributes:
        case: its position.
        how: "returned", "crashed" (a signal, or the process ended) or "hung" (over the limit of
            CPU time, or it waited for ten minutes).
        value: what the function returned, JSON; for a crash, what the process ended with.
        cpu_s: CPU time.
        memory: growth of the process's peak resident memory over what it was before the case,
            bytes.
    """

    case: int
    how: str
    value: Any
    cpu_s: float = 0.0
    memory: int = 0


def outcomes(
    function: Callable[[int], Any],
    cases: Sequence[int],
    cpu_s: float = CPU_S,
    *,
    alone: bool = False,
    address_space: int | None = None,
) -> Iterator[Outcome]:
    """Run a function on each case in forked children, which go on behind a case that killed one.

    Args:
        function: takes a case, returns JSON data; what it raises is a crash.
        cases: what it is called with.
        cpu_s: CPU time a case may take; the clock would tell how busy the machine is.
        alone: give each case a process of its own, so that the memory measured is its own.
        address_space: limit of each child's address space, bytes.

    Yields:
        One outcome a case, in order.
    """
    left = list(cases)
    while left:
        batch = left[:1] if alone else list(left)
        for outcome in _child(function, batch, cpu_s, address_space):
            left.pop(0)
            yield outcome


def _child(
    function: Callable[[int], Any], cases: list[int], cpu_s: float, address_space: int | None
) -> Iterator[Outcome]:
    """Run cases in one child until one of them ends it."""
    read_end, write_end = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(read_end)
        _serve(function, cases, cpu_s, address_space, write_end)
    os.close(write_end)
    done = 0
    try:
        with os.fdopen(read_end, "rb") as answers:
            for line in answers:
                if line.endswith(b"\n"):
                    yield Outcome(cases[done], "returned", **json.loads(line))
                    done += 1
    finally:
        if done < len(cases) and _runs(process):  # the caller has seen enough
            os.kill(process, signal.SIGKILL)
        status = os.waitpid(process, 0)[1]
    if done < len(cases):
        hung = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM)
        ended = (
            f"signal {os.WTERMSIG(status)}"
            if os.WIFSIGNALED(status)
            else f"exit {os.WEXITSTATUS(status)}"
        )
        yield Outcome(cases[done], "hung" if hung else "crashed", ended)


def _runs(process: int) -> bool:
    """Whether a child has not ended yet: its end of the pipe is closed before it has."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _serve(
    function: Callable[[int], Any],
    cases: list[int],
    cpu_s: float,
    address_space: int | None,
    answers: int,
) -> None:
    code = 1
    try:
        # Their default action ends the process even in the middle of an endless loop in C.
        for signum in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(signum, signal.SIG_DFL)
        if address_space:
            resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
        for case in cases:
            before, began = _resident(), time.process_time()
            _limit(cpu_s, WAIT_S)
            value = function(case)
            _limit(0, 0)

            answer = {
                "value": value,
                "cpu_s": time.process_time() - began,
                "memory": max(
                    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before, 0
                ),
            }
            os.write(answers, json.dumps(answer).encode() + b"\n")
        code = 0
    finally:
        if code:
            import traceback  # only for a case that raised

            traceback.print_exc()
        os._exit(code)


def _limit(cpu_s: float, wait_s: float) -> None:
    """End this process after so much CPU time or waiting, 0 for never."""
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    signal.setitimer(signal.ITIMER_REAL, wait_s)


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  # no Path: nothing may allocate here
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
