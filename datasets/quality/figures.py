"""Figures of an episode by name, and how reports round them."""

from __future__ import annotations

import math
from collections.abc import Mapping

# None stands for a figure that could not be had.
Metrics = dict[str, float | None]


def report(values: Mapping[str, float | None]) -> Metrics:
    """Return figures with six significant digits, as in reports; None for what is no number."""
    return {name: rounded(value) for name, value in values.items()}


def rounded(value: float | None) -> float | None:
    """Return a figure with six significant digits, None for what is no number."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
