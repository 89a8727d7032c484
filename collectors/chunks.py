"""A policy's answers: checked, and run action by action."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from shopfloor.core import CONTROL_HZ, ActionChunk


class PolicyFailure(Exception):  # noqa: N818  # an outcome, not an error
    """The policy's fault ends the episode: a failure with a reason.

    Attributes:
        reason: one of core's FAILURE_REASONS.
    """

    def __init__(self, reason: str, message: str) -> None:
        """Remember the reason code."""
        super().__init__(message)
        self.reason = reason


class ChunkQueue:
    """The policy's last chunk, and how much of it is left to run."""

    def __init__(self) -> None:
        """Start without a chunk."""
        self._chunk: ActionChunk | None = None
        self._done = 0

    @property
    def left(self) -> int:
        """Number of actions that are still to be run."""
        return 0 if self._chunk is None else self._chunk.execute - self._done

    @property
    def chunk(self) -> ActionChunk | None:
        """What is left of the chunk, the next action first, `execute` as answered; None if nothing is."""
        if self._chunk is None or not self.left:
            return None
        return replace(self._chunk, actions=self._chunk.actions[self._done :])

    def put(self, chunk: ActionChunk) -> None:
        """Replace what is left by a new chunk."""
        self._chunk, self._done = chunk, 0

    def advance(self) -> None:
        """Use up one action: a step has passed, whoever acted."""
        self._done += 1 if self.left else 0


def checked_chunk(reply: Any, action_size: int) -> ActionChunk:  # noqa: ANN401  # whatever a policy answers
    """Return a policy's answer as a sound chunk: float32, clipped to [-1, 1]; anything else is the policy's failure."""
    if not isinstance(reply, ActionChunk):
        raise PolicyFailure(
            "policy_bad_reply", f"the policy answered a {type(reply).__name__}, not an ActionChunk"
        )

    try:
        actions = np.asarray(reply.actions)
        numeric = actions.dtype.kind in "fiu"
    except Exception:  # anything can be in there
        numeric = False

    if not numeric or actions.ndim != 2 or actions.shape[0] < 1 or actions.shape[1] != action_size:
        shape = f"{actions.dtype} {actions.shape}" if numeric else "no array of numbers"
        raise PolicyFailure(
            "policy_bad_reply", f"actions are {shape}; expected numbers (H >= 1, {action_size})"
        )
    if isinstance(reply.execute, bool) or not isinstance(reply.execute, int | np.integer):
        raise PolicyFailure(
            "policy_bad_reply", f"execute is {reply.execute!r}; expected an integer"
        )

    if not 1 <= reply.execute <= len(actions):
        raise PolicyFailure(
            "policy_bad_reply", f"execute is {reply.execute}; expected 1 to {len(actions)}"
        )
    if reply.control_hz != CONTROL_HZ:
        raise PolicyFailure(
            "policy_bad_reply", f"the chunk is for {reply.control_hz} Hz; expected {CONTROL_HZ}"
        )

    with np.errstate(over="ignore"):
        actions = actions.astype(np.float32)
    if not np.isfinite(actions).all():
        raise PolicyFailure("nonfinite_action", "the policy answered non-finite actions")
    return ActionChunk(np.clip(actions, -1.0, 1.0), int(reply.execute), CONTROL_HZ)
