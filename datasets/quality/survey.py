"""A survey of some episodes of a cell: scales, limits and drivers for each episode's figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shopfloor.datasets.quality.coupling import Pair, find_pairs
from shopfloor.datasets.quality.series import Array, Columns, Series

# Slower than this is standing still: 5 mm/s as in the cells' own test of rest, and its like in the
# other units.
STILL_PER_S = {"m": 0.005, "rad": 0.05, "mm": 5.0, "deg": 3.0}
STILL_SPREADS_PER_S = 0.1  # of a column's spread, where its unit is not known
# Spreads: columns that usually change by more in a step hold flags, commands or wrapping angles.
SMOOTH = 0.75
# Share of a gripper's commands that are at its two ends, where no name announces a gripper.
TWO_VALUED = 0.95


@dataclass(frozen=True)
class Survey:
    """What a sample of a cell's episodes shows.

    Attributes:
        columns: the columns' roles; a gripper that no name announced is found by its two values.
        spread: shape (C,), float64, standard deviation of each column; 1 where it never changes.
        smooth: columns that change little by little, which stand for the robot's place where no
            names tell which do.
        still: shape (C,), float64, change of a column in one step below which it stands still;
            infinite for columns that tell nothing of motion.
        low, high: shape (A,), float64, ends of the actions' range.
        middle: gripper commands above it close (or open): the other side of the range.
        pairs: which action drives which column.
    """

    columns: Columns
    spread: Array
    smooth: tuple[int, ...]
    still: Array
    low: Array
    high: Array
    middle: float
    pairs: tuple[Pair, ...]


def survey(columns: Columns, sample: Sequence[Series]) -> Survey:
    """Look at some episodes of a cell.

    Args:
        columns: the columns' roles.
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

    sample = [one for one in sample if one.steps]
    columns = _with_gripper(columns, sample, low, high)
    smooth = _smooth(sample, spread)
    middle = 0.0
    if columns.gripper is not None:
        middle = 0.5 * float(low[columns.gripper] + high[columns.gripper])

    still = _still(columns, spread, smooth)
    return Survey(columns, spread, smooth, still, low, high, middle, find_pairs(sample, columns))


def _with_gripper(columns: Columns, sample: Sequence[Series], low: Array, high: Array) -> Columns:
    if columns.gripper is not None or not sample:
        return columns

    near = 0.01 * np.where(high > low, high - low, np.inf)
    closed = []
    opened = []
    for one in sample:
        closed.append((np.abs(high - one.commands) < near).mean(axis=0))
        opened.append((np.abs(one.commands - low) < near).mean(axis=0))

    # In most episodes: policies that draw actions at random are no reason to overlook a gripper.
    two_valued = np.median(np.add(closed, opened), axis=0) >= TWO_VALUED
    found = np.flatnonzero(
        two_valued & (np.median(closed, axis=0) > 0) & (np.median(opened, axis=0) > 0)
    )
    if not len(found):
        return columns

    gripper = int(found[-1])  # by custom it comes last
    motion = tuple(column for column in columns.motion if column != gripper)
    return Columns(**{**columns.__dict__, "gripper": gripper, "motion": motion})


def _smooth(sample: Sequence[Series], spread: Array) -> tuple[int, ...]:
    every = tuple(range(len(spread)))
    if not sample:
        return every

    largest = [np.abs(np.diff(one.numbers, axis=0)).max(axis=0) / spread for one in sample]
    found = np.flatnonzero(np.median(largest, axis=0) < SMOOTH).tolist()
    return tuple(found) or every


def _still(columns: Columns, spread: Array, smooth: Sequence[int]) -> Array:
    known = np.array([STILL_PER_S.get(unit, np.nan) for unit in columns.units], dtype=np.float64)
    if np.isfinite(known).any():
        return (
            np.where(np.isfinite(known), known, np.inf) / columns.hz
        )  # quaternions and flags move with the rest
    still = np.full(len(spread), np.inf)
    still[list(smooth)] = STILL_SPREADS_PER_S * spread[list(smooth)] / columns.hz
    return still
