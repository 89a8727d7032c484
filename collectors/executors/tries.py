"""A job and its tries: what becomes of one that fails, the same in every engine."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from shopfloor import core
from shopfloor.core import InfrastructureError, ShopfloorError

logger = logging.getLogger(__name__)

ATTEMPTS = 3


@dataclass
class Job:
    """A payload, its position among all, and which try this is."""

    index: int
    payload: dict[str, Any]
    attempt: int = 1

    def payload_of_try(self) -> dict[str, Any]:
        """Return the payload, with the number of this try where it asks for it."""
        if "attempt" not in self.payload:
            return self.payload
        return {**self.payload, "attempt": self.attempt}


def settle(job: Job, failure: dict[str, Any], keep_going: bool) -> dict[str, Any] | None:
    """Decide on a failed try: None to try again, a quarantined result, or raise.

    Args:
        job: its try is counted up where there is to be another.
        failure: what `worker.describe_failure` returned.
        keep_going: see `Executor.run`.
    """
    if failure["fatal"]:
        raise _rebuilt(failure)

    logger.warning("job %d, try %d of %d: %s", job.index, job.attempt, ATTEMPTS, failure["message"])
    if job.attempt < ATTEMPTS:
        job.attempt += 1
        return None

    if not keep_going:
        raise InfrastructureError(
            f"Job {job.index} failed {ATTEMPTS} times; the last time: {failure['message']}"
        )

    return {
        "quarantined": True,
        "reason": failure["reason"],
        "message": failure["message"],
        "attempts": ATTEMPTS,
    }


def _rebuilt(failure: dict[str, Any]) -> ShopfloorError:
    """Turn a worker's described error back into one of the same class."""
    kind = getattr(core, failure["type"], ShopfloorError)
    if not (isinstance(kind, type) and issubclass(kind, ShopfloorError)):
        kind = ShopfloorError

    error: ShopfloorError = kind.__new__(kind)
    error.args = (failure["message"],)
    error.exit_code = failure["exit_code"]
    return error
