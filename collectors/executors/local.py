"""Running jobs in a pool of worker processes that survives crashes and hangs: the engine `local:W`."""

from __future__ import annotations

import json
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any

from shopfloor import children
from shopfloor.collectors.executors import signals
from shopfloor.collectors.executors.tries import Job, settle
from shopfloor.collectors.executors.worker import READY, check_function
from shopfloor.core import InfrastructureError, InvalidInputError
from shopfloor.platforms import STARTS_WORKERS
from shopfloor.specs import TIMEOUT_S

START_S = 120.0  # for a worker to say that it is there; the time of a job counts from then on
POLL_S = 0.2
FAILED_STARTS = 3
WORKER = "shopfloor.collectors.executors.worker:main"


def make(address: str, *, allowed: Sequence[str] = ()) -> LocalExecutor:
    """Return the executor of an address "local:W", see `make_executor`."""
    count = address.partition(":")[2]
    if not count.isdecimal() or int(count) < 1:
        raise InvalidInputError(
            f"Engine is {address!r}; expected local:W, where W is the number of worker processes, "
            "such as 'local:4'."
        )
    return LocalExecutor(int(count), allowed=allowed)


class _Worker:
    """A worker process and the driver's end of its pipe."""

    def __init__(self, allowed: Sequence[str]) -> None:
        # What a job commits is whole at any moment, so its worker may be killed at any moment.
        self.child = children.start(WORKER, allowed, at_once=True)
        self.process = self.child.process
        self.connection = self.child.connection
        self.ready = False
        self.job: Job | None = None
        self.timeout_s = TIMEOUT_S
        self.deadline = 0.0

    def give(self, function: str, job: Job, timeout_s: float) -> None:
        """Send a job; a worker that died meanwhile shows as end of file on the next receive."""
        self.job = job
        self.timeout_s = timeout_s
        self.deadline = time.monotonic() + (timeout_s if self.ready else START_S)

        try:
            self.connection.send_bytes(
                json.dumps({"function": function, "payload": job.payload_of_try()}).encode()
            )
        except OSError:
            self.process.kill()

    def receive(self) -> Any:  # noqa: ANN401  # decoded JSON
        """Return the next message, or None when the process has died."""
        try:
            return json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            return None


class LocalExecutor:
    """A pool of spawned processes, one thread each, kept from run to run until `close`.

    A worker that dies or overruns its time is replaced and its job tried again. The workers die
    with this process, however it ends. Create it in the thread that uses it.
    """

    def __init__(self, workers: int, *, allowed: Sequence[str] = (), grace_s: float = 2.0) -> None:
        """Prepare a pool; processes start with the first jobs.

        Args:
            workers: number of processes.
            allowed: module prefixes, besides shopfloor's own, whose functions may be run.
            grace_s: how long running jobs may go on after a signal asked to stop.
        """
        if workers < 1:
            raise InvalidInputError(f"Number of workers is {workers}; expected at least 1.")
        if not STARTS_WORKERS:
            raise InvalidInputError(
                f"Number of workers is {workers}, but worker processes cannot be started on this "
                "operating system; expected 1: leave out --workers."
            )

        self._workers = workers
        self._allowed = tuple(allowed)
        self._grace_s = grace_s
        self._pool: list[_Worker] = []
        self._running = False
        self._failed_starts = 0

    @property
    def workers(self) -> int:
        """How many processes the pool holds when busy."""
        return self._workers

    def run(
        self,
        function: str,
        payloads: Iterable[dict[str, Any]],
        *,
        timeout_s: float = TIMEOUT_S,
        keep_going: bool = False,
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Run a function on each payload, see `Executor.run`."""
        check_function(function, self._allowed)
        if self._running:
            raise RuntimeError(
                "This executor is already running jobs; finish or close that iterator first."
            )

        self._running = True
        waiting = enumerate(payloads)
        again: deque[Job] = deque()
        stop_at = float("inf")

        try:
            while True:
                if signals.requested() is None:
                    self._assign(function, waiting, again, timeout_s)
                else:
                    stop_at = min(stop_at, time.monotonic() + self._grace_s)

                if not self._busy() or time.monotonic() > stop_at:
                    break

                for worker in self._answering():
                    result = self._collect_from(worker, again, keep_going)
                    if result is not None:
                        yield result
        finally:
            for worker in self._busy():
                self._drop(worker)
            self._running = False

        signals.check()

    def close(self) -> None:
        """End the workers; harmless when called twice."""
        while self._pool:
            self._pool.pop().child.end(grace_s=1.0)

    def __enter__(self) -> LocalExecutor:
        """Return the executor."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the executor."""
        self.close()

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._pool if worker.job is not None]

    def _assign(
        self,
        function: str,
        waiting: Iterator[tuple[int, dict[str, Any]]],
        again: deque[Job],
        timeout_s: float,
    ) -> None:
        """Give every free worker a job, retries first, starting workers only where there is one for them."""
        while len(self._busy()) < self._workers:
            if again:
                job = again.popleft()
            else:
                drawn = next(waiting, None)
                if drawn is None:
                    return
                job = Job(*drawn)

            self._pool = [
                worker
                for worker in self._pool
                if worker.job is not None or worker.process.poll() is None
            ]

            free = next((worker for worker in self._pool if worker.job is None), None)
            if free is None:
                free = _Worker(self._allowed)
                self._pool.append(free)

            free.give(function, job, timeout_s)

    def _answering(self) -> list[_Worker]:
        """Wait a moment; return the workers that have something to say, the dead ones and those over time."""
        busy = self._busy()
        spoken = set(wait([worker.connection for worker in busy], timeout=POLL_S))
        now = time.monotonic()
        return [worker for worker in busy if worker.connection in spoken or now > worker.deadline]

    def _collect_from(
        self, worker: _Worker, again: deque[Job], keep_going: bool
    ) -> tuple[int, dict[str, Any]] | None:
        """Take one worker's answer: a result to yield, or None where there is nothing to say yet."""
        job = worker.job
        if job is None:
            return None

        hung = not worker.connection.poll()
        message = None if hung else worker.receive()
        if message == READY:
            worker.ready = True
            worker.deadline = time.monotonic() + worker.timeout_s
            self._failed_starts = 0
            return None

        if message and "value" in message:
            worker.job = None
            return job.index, message["value"]

        failure = message["error"] if message else self._death(worker, hung)
        self._drop(worker)  # a process that failed once is not trusted with the next job
        if failure is None:
            again.appendleft(job)
            return None

        result = settle(job, failure, keep_going)
        if result is None:
            again.appendleft(job)
            return None
        return job.index, result

    def _death(self, worker: _Worker, hung: bool) -> dict[str, Any] | None:
        """Describe a lost worker; None for one that never started, whose job is not to blame."""
        if hung and worker.ready:
            message = f"no answer within {worker.timeout_s:g} s, worker killed"
            return {"fatal": False, "type": "", "message": message, "reason": "env_hang"}

        code = 0 if hung else worker.child.end()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        if worker.ready:
            return {
                "fatal": False,
                "type": "",
                "message": f"worker process ended: {how}",
                "reason": "env_crash",
            }

        how = f"no sign of life within {START_S:g} s" if hung else how
        self._failed_starts += 1
        if self._failed_starts >= FAILED_STARTS and signals.requested() is None:
            raise InfrastructureError(
                f"Worker processes cannot start ({how}, {self._failed_starts} times in a row); "
                "what they wrote is on standard error. Try workers=1."
            )

        return None

    def _drop(self, worker: _Worker) -> None:
        """Kill a worker and forget it."""
        worker.job = None
        worker.process.kill()
        worker.child.end()
        if worker in self._pool:
            self._pool.remove(worker)
