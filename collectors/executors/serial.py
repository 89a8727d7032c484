"""Running jobs in this process, one after the other: the engine `serial`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

from shopfloor.collectors.executors import signals
from shopfloor.collectors.executors.tries import Job, settle
from shopfloor.collectors.executors.worker import describe_failure, load_function, one_torch_thread
from shopfloor.core import InvalidInputError
from shopfloor.specs import TIMEOUT_S


def make(address: str, *, allowed: Sequence[str] = ()) -> SerialExecutor:
    """Return the executor of the address "serial", see `make_executor`."""
    if address != "serial":
        raise InvalidInputError(f"Engine is {address!r}; expected 'serial', with nothing after it.")
    return SerialExecutor(allowed=allowed)


class SerialExecutor:
    """Runs jobs in this process, one after the other: for debuggers, small runs, and tests."""

    workers = 1

    def __init__(self, *, allowed: Sequence[str] = ()) -> None:
        """Take the module prefixes, besides shopfloor's own, whose functions may be run."""
        self._allowed = tuple(allowed)

    def run(
        self,
        function: str,
        payloads: Iterable[dict[str, Any]],
        *,
        timeout_s: float = TIMEOUT_S,
        keep_going: bool = False,
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Run a function on each payload, see `Executor.run`; a hanging job cannot be stopped here."""
        del timeout_s
        call = load_function(function, self._allowed)

        for index, payload in enumerate(payloads):
            job = Job(index, payload)
            result = None

            while result is None:
                signals.check()
                try:
                    with one_torch_thread():
                        result = call(job.payload_of_try())
                except Exception as error:
                    failure = describe_failure(error)
                    if failure["fatal"]:
                        raise
                    result = settle(job, failure, keep_going)

            yield index, result

        signals.check()

    def close(self) -> None:
        """Do nothing: there is nothing to end."""

    def __enter__(self) -> SerialExecutor:
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
