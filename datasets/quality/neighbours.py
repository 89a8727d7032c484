"""Near-duplicates: the nearest other episode of each, by outlines of fixed length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.datasets.quality.series import Array, Series

POINTS = 16  # in time at which an episode is looked at
# Episodes compared with all others at a time: of 10,000, a block's distances take 20 MB.
BLOCK = 512
CANDIDATES = 4  # nearest by the quick distance, which are compared exactly
Outline = npt.NDArray[np.float32]


def outline(series: Series) -> Outline:
    """Return an episode's course: its numbers and actions at `POINTS` points evenly spaced in time.

    Returns:
        Shape (POINTS, C + A), float32.
    """
    T = series.steps
    rows = series.numbers[np.rint(np.linspace(0, T, POINTS)).astype(int)]
    if not T:
        return np.concatenate([rows, np.zeros((POINTS, series.actions.shape[1]))], axis=1).astype(
            np.float32
        )

    actions = series.actions[np.rint(np.linspace(0, T - 1, POINTS)).astype(int)]
    return np.concatenate([rows, actions], axis=1).astype(np.float32)


def nearest(outlines: Sequence[Outline]) -> tuple[Array, npt.NDArray[np.int64]]:
    """Return how far the nearest other episode is, and which it is.

    The distance of two episodes is the root mean square difference of their outlines, each column
    in units of its standard deviation over all of them.

    Args:
        outlines: outlines of N episodes of one cell, N at least 2.

    Returns:
        Distances, shape (N,), float64, and positions, shape (N,).
    """
    stacked = np.stack(outlines)  # (N, POINTS, C + A)
    spread = stacked.std(axis=(0, 1), dtype=np.float64)
    flat = (
        (stacked / np.where(spread > 1e-9, spread, np.inf))
        .reshape(len(stacked), -1)
        .astype(np.float32)
    )

    flat -= flat.mean(axis=0)
    squares = np.einsum("nd,nd->n", flat, flat)
    N = len(flat)
    distances, positions = np.empty(N), np.empty(N, np.int64)
    count = min(CANDIDATES, N - 1)

    for first in range(0, N, BLOCK):
        block = flat[first : first + BLOCK]
        quick = squares[first : first + BLOCK, None] + squares - 2.0 * (block @ flat.T)
        rows = np.arange(len(block))
        quick[rows, first + rows] = np.inf
        near = np.argpartition(quick, count - 1, axis=1)[:, :count]

        # The quick form loses small distances to rounding; they are what is looked for.
        exact = np.sqrt(((block[:, None].astype(np.float64) - flat[near]) ** 2).mean(axis=2))
        best = np.argmin(exact, axis=1)
        distances[first : first + BLOCK] = exact[rows, best]
        positions[first : first + BLOCK] = near[rows, best]

    return distances, positions


def later_copies(pairs: Sequence[tuple[int, int]], preferred: Sequence[Any]) -> dict[int, int]:
    """Return which of some copies of each other are to go, and which one stays for each.

    Args:
        pairs: positions of episodes that are almost the same.
        preferred: rank of each episode, of any type that sorts; of a group the lowest stays.

    Returns:
        Position -> position of the one that stays.
    """
    group: dict[int, int] = {}
    for one, other in pairs:
        group |= {one: one, other: other}

    def root(position: int) -> int:
        while group[position] != position:
            group[position] = group[group[position]]
            position = group[position]
        return position

    for one, other in pairs:
        first, second = sorted((root(one), root(other)), key=lambda position: preferred[position])
        group[second] = first

    copies = {}
    for position in group:
        stays = root(position)
        if stays != position:
            copies[position] = stays
    return copies
