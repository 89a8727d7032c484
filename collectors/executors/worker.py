"""A worker process: takes one job at a time from its pipe, answers with JSON, and never outlives its driver."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from shopfloor.core import DiskError, InfrastructureError, InvalidInputError, ShopfloorError

READY = "ready"
PACKAGE = "shopfloor."


def check_function(function: str, allowed: Sequence[str] = ()) -> None:
    """Refuse a job name that is not ``module:function`` inside shopfloor or one of the `allowed` module prefixes."""
    module, separator, name = function.partition(":")
    inside = module.startswith(PACKAGE) or any(module == prefix.rstrip(".") for prefix in allowed)
    inside = inside or any(module.startswith(prefix.rstrip(".") + ".") for prefix in allowed)
    if not (inside and separator and name.isidentifier()):
        raise InvalidInputError(
            f"Job {function!r} is not allowed; expected 'shopfloor.<module>:<function>'"
            + (f" or a function of {', '.join(allowed)}." if allowed else ".")
        )


def load_function(
    function: str, allowed: Sequence[str] = ()
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Import a job's function by its checked name."""
    check_function(function, allowed)
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def describe_failure(error: Exception) -> dict[str, Any]:
    """Turn a job's exception into JSON: whether to give up at once, the error's type, its message and reason.

    A user's mistake and a full disk come back the same on every try, so they are `fatal`; all else
    may be retried.
    """
    fatal = isinstance(error, ShopfloorError) and (
        isinstance(error, DiskError) or not isinstance(error, InfrastructureError)
    )
    known = isinstance(error, ShopfloorError)
    message = str(error) if known else "".join(traceback.format_exception(error)[-4:]).strip()
    reason = getattr(error, "reason", "env_crash")
    exit_code = getattr(error, "exit_code", InfrastructureError.exit_code)

    return {
        "fatal": fatal,
        "type": type(error).__name__,
        "message": message,
        "reason": reason,
        "exit_code": exit_code,
    }


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Hold torch, where something has imported it, to one thread, so that sums come out as in a worker process."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 0
    if torch is not None and before != 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch is not None and before != 1:
            torch.set_num_threads(before)


def main(connection: Connection, allowed: Sequence[str]) -> None:
    """Serve jobs until the driver closes the pipe; started by `children.start`, at once to end with it.

    Args:
        connection: the worker's end of the pipe.
        allowed: module prefixes, besides shopfloor's own, that jobs may come from.
    """
    connection.send_bytes(json.dumps(READY).encode())

    with contextlib.suppress(EOFError, OSError):
        while True:
            message = json.loads(connection.recv_bytes())
            connection.send_bytes(json.dumps(_answer(message, allowed)).encode())


def _answer(message: dict[str, Any], allowed: Sequence[str]) -> dict[str, Any]:
    try:
        value = load_function(message["function"], allowed)(message["payload"])
        json.dumps(value)
    except Exception as error:  # the driver decides what a failure means
        return {"error": describe_failure(error)}
    return {"value": value}
