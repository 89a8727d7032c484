"""The seeds that each step of a flywheel may use."""

from __future__ import annotations


def train_seed(loop: int, turn: int) -> int:
    """Return the first of a turn's 1,000 training seeds."""
    return loop * 20_000 + turn * 1_000


def scene_seed(loop: int) -> int:
    """Return the first of a loop's 10,000 seeds of perception scenes."""
    return loop * 20_000 + 10_000


def gate_seed(loop: int, turn: int) -> int:
    """Return the first of a turn's 200 gate seeds."""
    return 700_000 + loop * 2_000 + turn * 200


def report_seed(loop: int) -> int:
    """Return the first of a loop's 1,000 report seeds: the same every turn."""
    return 800_000 + loop * 1_000
