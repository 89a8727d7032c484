"""Intervals for success rates."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Return Wilson's score interval of a binomial proportion (Wilson 1927).

    Args:
        successes: number of successes, 0 to `trials`.
        trials: number of trials; 0 gives the whole range.
        z: normal quantile; the default gives 95 % coverage.

    Returns:
        (low, high), each in [0, 1].
    """
    if not 0 <= successes <= trials:
        raise ValueError(
            f"{successes} successes of {trials} trials; expected 0 <= successes <= trials."
        )
    if trials == 0:
        return 0.0, 1.0

    rate = successes / trials
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    centre = rate + z * z / (2 * trials)
    scale = 1 + z * z / trials
    low = 0.0 if successes == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if successes == trials else min(1.0, (centre + spread) / scale)

    return low, high
