"""A first look at some episodes of a cell: scales, limits and drivers that the metrics of each episode need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shopfloor.datasets.quality.coupling import Pair, find_pairs
from shopfloor.datasets.quality.signals import Array, Columns, Signals

# Slower than this is standing still: 5 mm/s as in the cells' own test of rest, and the like for the other units.
STILL_PER_S = {"m": 0.005, "rad": 0.05, "mm": 5.0, "deg": 3.0}
STILL_SPREADS_PER_S = 0.05  # of a column's spread, where its unit is not known
TWO_VALUED = 0.95  # share of a gripper's commands that are at its two ends, where no name says that it is one


@dataclass(frozen=True)
class Survey:
    """What a sample of a cell's episodes says.

    Attributes:
        columns: what is what; a gripper that no name announced is found by its two values.
        spread: shape (C,), float64, standard deviation of each column; 1 where it never changes.
        still: shape (C,), float64, change of a column in one step below which it stands still; infinite for columns
            that say nothing about motion.
        low, high: shape (A,), float64, ends of the actions' range.
        middle: gripper commands above it close (or open): the other side of the range.
        pairs: which action drives which column.
    """

    columns: Columns
    spread: Array
    still: Array
    low: Array
    high: Array
    middle: float
    pairs: tuple[Pair, ...]


def survey(columns: Columns, sample: Sequence[Signals]) -> Survey:
    """Look at some episodes of a cell.

    Args:
        columns: what is what.
        sample: at least one episode.
    """
    numbers = np.concatenate([one.numbers for one in sample])
    commands = np.concatenate([one.commands for one in sample])
    executed = np.concatenate([one.actions for one in sample])
    spread = numbers.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    width = commands.shape[1]
    if columns.unit_actions:
        low, high = -np.ones(width), np.ones(width)
    elif len(commands):
        both = np.concatenate([commands, executed])
        low, high = both.min(axis=0), both.max(axis=0)
    else:
        low = high = np.zeros(width)
    columns = _with_gripper(columns, commands, low, high)
    middle = 0.5 * float(low[columns.gripper] + high[columns.gripper]) if columns.gripper is not None else 0.0
    return Survey(columns, spread, _still(columns, spread), low, high, middle, find_pairs(sample, columns))


def _with_gripper(columns: Columns, commands: Array, low: Array, high: Array) -> Columns:
    if columns.gripper is not None or not len(commands):
        return columns
    span = np.where(high > low, high - low, np.inf)
    ends = np.minimum(np.abs(commands - low), np.abs(high - commands)) < 0.01 * span
    both = (np.abs(commands - low) < 0.01 * span).any(axis=0) & (np.abs(high - commands) < 0.01 * span).any(axis=0)
    found = np.flatnonzero((ends.mean(axis=0) >= TWO_VALUED) & both)
    if not len(found):
        return columns
    gripper = int(found[-1])  # by custom it comes last
    motion = tuple(column for column in columns.motion if column != gripper)
    return Columns(**{**columns.__dict__, "gripper": gripper, "motion": motion})


def _still(columns: Columns, spread: Array) -> Array:
    known = np.array([STILL_PER_S.get(unit, np.nan) for unit in columns.units], dtype=np.float64)
    if np.isfinite(known).any():
        return np.where(np.isfinite(known), known, np.inf) / columns.hz  # quaternions and flags move with the rest
    still: Array = STILL_SPREADS_PER_S * spread / columns.hz
    return still
