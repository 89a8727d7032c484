"""Actions against the changes of the state, at every lag: whether what was commanded is what moved.

Which action drives which column of the state, and after how many steps, is learned from a sample of
the dataset itself; an episode whose actions fit at another lag, or at none, was put together
wrongly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopfloor.datasets.quality.series import Array, Columns, Series

MAX_LAG = 6  # steps from action to motion, at the most: 0.3 s at 20 Hz
# Steps by which an episode's actions are tried earlier and later than the dataset's own lag.
SEARCH = 8
FEW_STEPS = 12  # steps that must overlap, at the least, for a correlation to mean anything
JUMPS = 2.0  # times the 90 % quantile of a column's steps: as far as a step counts
LEAST = 0.5  # correlation that makes an action and a column a pair


@dataclass(frozen=True)
class Pair:
    """An action and the column it drives.

    Attributes:
        action: action column.
        column: column of the joined observations.
        changes: whether the action's changes (an absolute target), not the action itself (a delta),
            drive it.
        sign: +1 or -1.
        lag: steps from action to motion.
    """

    action: int
    column: int
    changes: bool
    sign: float
    lag: int


@dataclass(frozen=True)
class Match:
    """How an episode's actions fit its motion.

    Attributes:
        late: steps by which motion follows later than usual in this dataset where the two fit best;
            negative: earlier.
        best: median correlation of the pairs there.
        usual: the same at the dataset's own lags.
    """

    late: int
    best: float
    usual: float


def find_pairs(sample: Sequence[Series], columns: Columns) -> tuple[Pair, ...]:
    """Learn from some episodes which actions drive which columns.

    Args:
        sample: episodes, most of them sound.
        columns: the columns' roles.

    Returns:
        At most one pair for each action that moves something; none where nothing fits.
    """
    found = []
    for action in columns.motion:
        best: tuple[float, Pair] | None = None
        for changes in (False, True):
            curves = []
            for one in sample:
                if one.steps >= FEW_STEPS + MAX_LAG:
                    driver, motion = _driver(one, action, changes), np.diff(one.numbers, axis=0)
                    curves.append(correlations(driver, motion, range(MAX_LAG + 1)))

            if not curves:
                return ()

            # (lags, C); no negative lags: only actions that come before the motion are causes. The
            # median holds against the few episodes of a sample that are put together wrongly.
            usual = np.median(curves, axis=0)
            if not usual.size:
                return ()

            lag, column = divmod(int(np.argmax(np.abs(usual))), usual.shape[1])
            strength = float(abs(usual[lag, column]))

            if strength >= LEAST and (best is None or strength > best[0]):
                best = (
                    strength,
                    Pair(action, column, changes, float(np.sign(usual[lag, column])), lag),
                )

        if best is not None:
            found.append(best[1])

    return tuple(found)


def driver(series: Series, pair: Pair) -> Array:
    """Return what of a pair's action drives its column, shape (T,)."""
    return _driver(series, pair.action, pair.changes)


def _driver(series: Series, action: int, changes: bool) -> Array:
    command = series.actions[:, action]
    return np.diff(command, prepend=command[:1]) if changes else command


def correlations(command: Array, motion: Array, lags: Sequence[int]) -> Array:
    """Return Pearson's correlation of a command with motions at some lags, 0 without variation.

    Args:
        command: shape (T,).
        motion: shape (T, C).
        lags: at lag l the command at step t meets the motion at step t + l.

    Returns:
        Shape (len(lags), C).
    """
    T = len(command)
    out = np.zeros((len(lags), motion.shape[1]))
    for row, lag in enumerate(lags):
        if T - abs(lag) < FEW_STEPS:
            continue

        one, other = command[max(-lag, 0) : T - max(lag, 0)], motion[max(lag, 0) : T + min(lag, 0)]
        one, other = one - one.mean(), other - other.mean(axis=0)
        scale = np.sqrt((one @ one) * (other * other).sum(axis=0))
        varies = scale > 1e-12
        out[row, varies] = (one @ other)[varies] / scale[varies]

    return out


def match(series: Series, pairs: Sequence[Pair], still: Array) -> Match | None:
    """Return how an episode's actions fit its motion.

    Args:
        series: the episode.
        pairs: what drives what.
        still: shape (C,), change of a column in one step below which it stands still; such steps do
            not count, because an arm that is pushed against an end of its range does not follow,
            and is no fault of the recording.

    Returns:
        The match; None where the episode is too short, moves too little, or no pairs are known.
    """
    curves = []
    for pair in pairs:
        motion = np.diff(series.numbers[:, pair.column])
        least = still[pair.column] if np.isfinite(still[pair.column]) else 0.0
        steps = np.flatnonzero(np.abs(motion) > least)
        curve = _curve(driver(series, pair), motion, steps, pair.lag)
        if curve is not None:
            curves.append(pair.sign * curve)

    if not curves:
        return None

    # The median: one column may fail to follow for reasons of its own, such as an angle that wraps
    # around.
    middle = np.median(curves, axis=0)
    return Match(int(np.argmax(middle)) - SEARCH, float(middle.max()), float(middle[SEARCH]))


def _curve(command: Array, motion: Array, steps: npt.NDArray[np.int64], lag: int) -> Array | None:
    """Return the correlation of some steps' motion with the command about `lag` before.

    The same steps are used at every lag, so that lags can be compared.

    Returns:
        Shape (2 * SEARCH + 1,); None where there are too few steps.
    """
    steps = steps[(steps - lag - SEARCH >= 0) & (steps - lag + SEARCH < len(command))]
    if len(steps) < FEW_STEPS:
        return None

    moved = motion[steps]
    # A single jump, of missing steps, would be all that counts.
    far = JUMPS * np.quantile(np.abs(moved), 0.9)
    moved = moved.clip(-far, far)
    moved = moved - moved.mean()

    # Motion that follows r steps later than usual answers the action of r steps before the usual
    # one.
    drivers = np.stack([command[steps - lag - late] for late in range(-SEARCH, SEARCH + 1)])
    drivers = drivers - drivers.mean(axis=1, keepdims=True)
    scale = np.sqrt((drivers * drivers).sum(axis=1) * (moved @ moved))
    return np.asarray(
        np.where(scale > 1e-12, drivers @ moved / np.maximum(scale, 1e-12), 0.0), dtype=np.float64
    )
