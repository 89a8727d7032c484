"""The one door to engines: what an engine does for its caller, and which one an address names.

A job is a function of the package, named "module:function", that takes a JSON payload and returns a
JSON object. The same payloads give the same results on any engine; only their order differs.

An engine is one file. Ours have a line in `ENGINES`; other packages announce theirs in the
entry-point group `shopfloor.engines`, under the scheme of their addresses.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from types import TracebackType
from typing import Any, Protocol

from shopfloor.core import InvalidInputError, MissingDependencyError, UnknownNameError
from shopfloor.specs import TIMEOUT_S

GROUP = "shopfloor.engines"

# The scheme of an address -> "module:factory".
ENGINES = {
    "serial": "shopfloor.collectors.executors.serial:make",
    "local": "shopfloor.collectors.executors.local:make",
}


class Executor(Protocol):
    """Runs jobs somewhere and yields their results as they come."""

    @property
    def workers(self) -> int:
        """How many jobs run at a time."""

    def run(
        self,
        function: str,
        payloads: Iterable[dict[str, Any]],
        *,
        timeout_s: float = TIMEOUT_S,
        keep_going: bool = False,
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Run a function on each payload, at most `workers` at a time; payloads are drawn only as they are needed.

        A job that raises, crashes its process or runs past its time is tried again, three times in
        all. A payload that has a key "attempt" finds there which try it is. User errors
        (`InvalidInputError`, ...) and `DiskError` are raised at once.

        Args:
            function: "shopfloor.module:function", taking a payload and returning a JSON object.
            payloads: JSON objects.
            timeout_s: longest wall time of one try; only worker processes can be stopped.
            keep_going: yield ``{"quarantined": True, "reason", "message", "attempts"}`` for a job
                that failed three times; by default that raises `InfrastructureError`.

        Yields:
            (position of the payload, result), in the order of completion.

        Raises:
            CancelledError: if a signal asked to stop; results of jobs that end within the grace
                time are yielded first.
        """

    def close(self) -> None:
        """End the workers; harmless when called twice."""

    def __enter__(self) -> Executor:
        """Return the executor."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the executor."""


def make_executor(engine: int | str, *, allowed: Sequence[str] = ()) -> Executor:
    """Return the executor that an address names.

    Args:
        engine: "serial" runs in this process; "local:4" in four worker processes; SCHEME or
            SCHEME:REST on the engine that an installed package announces as SCHEME. A number W of
            workers is short for "serial" where it is 1, for "local:W" where it is more.
        allowed: module prefixes, besides shopfloor's own, whose functions may be run.

    Raises:
        UnknownNameError: no such engine.
        InvalidInputError: the engine cannot make anything of the rest of the address.
        MissingDependencyError: the package that announces the engine cannot be loaded.
    """
    if isinstance(engine, str):
        return _factory(engine)(engine, allowed=allowed)

    if engine < 1:
        raise InvalidInputError(f"Number of workers is {engine}; expected at least 1.")
    return make_executor("serial" if engine == 1 else f"local:{engine}", allowed=allowed)


def _factory(address: str) -> Callable[..., Executor]:
    """Find what makes an engine: called with the whole address and `allowed`, returns an `Executor`."""
    scheme = address.partition(":")[0]
    if scheme in ENGINES:
        module, _, name = ENGINES[scheme].partition(":")
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]

    others = {point.name: point for point in entry_points(group=GROUP)}
    if scheme not in others:
        advice = "'serial' runs in this process, 'local:4' in four worker processes."
        raise UnknownNameError("engine", address, {*ENGINES, *others}, advice)

    try:
        return others[scheme].load()  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f"Engine {scheme!r} is announced by an installed package as {others[scheme].value}, "
            f"which cannot be loaded ({error}). Install what it needs, or remove that package."
        ) from error
