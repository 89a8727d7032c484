"""What verbs that run episodes share: a check of the policy, progress, and how outcomes read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from shopfloor.launch.console import make_progress
from shopfloor.launch.later import Later
from shopfloor.launch.needs import require_torch
from shopfloor.specs import PolicyRef, Receipt

sources = Later("shopfloor.collectors.sources")


def check_policy(policy: str | PolicyRef) -> None:
    """Refuse a checkpoint where torch is not installed, before any process starts."""
    if isinstance(policy, PolicyRef):
        return
    if policy not in sources.policy_kinds() and Path(policy).is_dir():
        require_torch()


@contextlib.contextmanager
def counting(title: str, episodes: int, quiet: bool) -> Iterator[Callable[[Receipt], None]]:
    """Draw progress while receipts come in."""
    with make_progress(quiet).phase(title, episodes) as phase:
        yield lambda receipt: phase.advance(receipt.outcome == "success")


def outcomes_text(outcomes: Mapping[str, int]) -> str:
    """List how episodes ended, the most frequent first."""
    return ", ".join(
        f"{reason} {count}" for reason, count in sorted(outcomes.items(), key=lambda item: -item[1])
    )
