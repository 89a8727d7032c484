"""The order of windows: it looks random, needs no table of all windows and can be entered anywhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_ROUNDS = 4  # of the Feistel network; four make a permutation that passes for random


class EpochSlots:
    """An epoch's windows as numbered slots, each window in as many slots as its weight gives it.

    Attributes:
        count: slots in an epoch, as many as windows.
        weight: shape (episodes,), weights scaled to average 1 over windows.
    """

    def __init__(self, steps: npt.NDArray[np.int64], weight: npt.NDArray[np.float64]) -> None:
        """Lay out an epoch.

        Args:
            steps: shape (episodes,), windows of each.
            weight: shape (episodes,), weight of each of an episode's windows, above 0.
        """
        self.count = int(steps.sum())
        equal = bool((weight == weight[0]).all())
        # Scaled so that weights average 1 over windows; equal ones are exactly 1 and the sums below
        # exact integers.
        self.weight = (
            np.ones(len(weight)) if equal else weight * (self.count / float((weight * steps).sum()))
        )
        self._steps = steps
        self._ends = np.cumsum(self.weight * steps)

    def window(
        self, slots: npt.NDArray[np.uint64], seed: int, epoch: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return (episode, step) of each slot.

        A new offset each epoch changes which windows are rounded up.
        """
        generator = np.random.default_rng(np.random.SeedSequence([seed, epoch, 1]))
        # A multiple of 2**-10, so that slot + offset is exact.
        offset = generator.integers(1024) / 1024
        at = slots.astype(np.float64) + offset
        episode = np.minimum(np.searchsorted(self._ends, at, side="right"), len(self._ends) - 1)
        inside = (at - (self._ends - self.weight * self._steps)[episode]) / self.weight[episode]

        return episode.astype(np.int64), np.clip(
            inside.astype(np.int64), 0, self._steps[episode] - 1
        )


def permute(
    values: npt.NDArray[np.uint64], count: int, seed: int, epoch: int
) -> npt.NDArray[np.uint64]:
    """Permute 0 .. count - 1 in an order that looks random, without a table of `count` entries.

    A Feistel network permutes the next power of four; values that leave the range go through it
    again.
    """
    half = np.uint64(max((count - 1).bit_length() + 1, 2) // 2)
    low = (np.uint64(1) << half) - np.uint64(1)
    keys = np.random.default_rng(np.random.SeedSequence([seed, epoch, 0])).integers(
        0, 1 << 63, size=_ROUNDS, dtype=np.uint64
    )

    def once(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        left, right = numbers >> half, numbers & low
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key) & low)
        joined: npt.NDArray[np.uint64] = (left << half) | right
        return joined

    out = once(values)
    while len(outside := np.flatnonzero(out >= count)):
        out[outside] = once(out[outside])
    return out


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble 64-bit numbers (the finaliser of SplitMix64, Steele et al. 2014)."""
    mixed: npt.NDArray[np.uint64] = (values ^ (values >> np.uint64(30))) * np.uint64(
        0xBF58476D1CE4E5B9
    )
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
