"""LeRobot's statistics of a feature: min, max, mean, std, count and five quantiles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)
# Quantiles over a whole dataset come from at most this many rows, evenly spaced; with fewer rows
# they are exact.
SAMPLED_ROWS = 1 << 16
# LeRobot looks at this many pictures of an episode (n ** 0.75, at least 100) and makes large ones
# about 150 px wide.
_LEAST_PICTURES, _MOST_PICTURES, _PICTURE_POWER = 100, 10_000, 0.75
_LARGE_SIDE_PX, _SAMPLED_SIDE_PX = 300, 150

# Name of a statistic -> array: (n,) for rows whose last axis has n entries, (1,) for the count, (3,
# 1, 1) for pictures.
Statistics: TypeAlias = dict[str, npt.NDArray[Any]]


class RunningRows:
    """Statistics of a feature's rows, episode after episode, in bounded memory.

    Everything but the quantiles is exact. Quantiles are those of every k-th row, where k is 1 until
    there are more than `SAMPLED_ROWS` rows and doubles whenever there are again: the same rows give
    the same figures, no drawing needed. As in LeRobot, rows of several axes have statistics along
    the last one; the count is of rows all the same.
    """

    def __init__(self, sampled_rows: int = SAMPLED_ROWS) -> None:
        """Start without rows."""
        self._limit = sampled_rows
        self._every, self._next, self._count, self._values = 1, 0, 0, 0
        self._mean = self._squares = self._min = self._max = np.zeros(0)
        self._sample: list[npt.NDArray[Any]] = []
        self._sampled = 0

    def update(self, rows: npt.NDArray[Any]) -> None:
        """Add the rows of an episode, shape (T, ...), T at least 1."""
        values = _flat(rows)
        mean, squares = values.mean(0), ((values - values.mean(0)) ** 2).sum(0)
        if self._values == 0:
            self._mean, self._squares = mean, squares
            self._min, self._max = values.min(0), values.max(0)
        else:
            # Chan, Golub and LeVeque's pairwise update: sums of squares around the mean do not
            # cancel.
            total = self._values + len(values)
            delta = mean - self._mean
            self._mean = self._mean + delta * (len(values) / total)
            self._squares = (
                self._squares + squares + delta**2 * (self._values * len(values) / total)
            )

            self._min, self._max = (
                np.minimum(self._min, values.min(0)),
                np.maximum(self._max, values.max(0)),
            )

        self._keep(rows)
        self._values += len(values)
        self._count += len(rows)

    def _keep(self, rows: npt.NDArray[Any]) -> None:
        picked = rows[self._next - self._count :: self._every]
        self._next += len(picked) * self._every
        self._sample.append(picked.copy())
        self._sampled += len(picked)
        while self._sampled > self._limit:
            thinned = np.concatenate(self._sample)[::2]
            self._sample, self._sampled = [thinned.copy()], len(thinned)
            self._every *= 2
            self._next = -(-(self._count + len(rows)) // self._every) * self._every

    def result(self) -> Statistics:
        """Return the statistics of all rows so far; there must be one."""
        sample = _flat(np.concatenate(self._sample))
        found = {
            "min": self._min,
            "max": self._max,
            "mean": self._mean,
            "std": np.sqrt(self._squares / self._values),
            **dict(
                zip(QUANTILES, np.quantile(sample, list(QUANTILES.values()), axis=0), strict=True)
            ),
        }

        result = {"count": np.array([self._count])}
        for name, value in found.items():
            result[name] = np.atleast_1d(value)
        return result


def _flat(rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    values = rows.astype(np.float64)
    return values.reshape(-1, rows.shape[-1]) if rows.ndim > 2 else values


class RunningPictures:
    """Exact statistics of a camera's sampled pictures, by counts of the 256 values of each channel.

    Attributes:
        counts: shape (3, 256), int64, how often each channel had each value.
        pictures: number of pictures that were looked at.
    """

    def __init__(self) -> None:
        """Start without pictures."""
        self.counts = np.zeros((3, 256), np.int64)
        self.pictures = 0

    def update(self, pictures: npt.NDArray[np.uint8]) -> None:
        """Add an episode's pictures, shape (T, H, W, 3), of which some are looked at."""
        every = sampled_side_step(*pictures.shape[1:3])
        for index in sampled_pictures(len(pictures)):
            picture = pictures[index, ::every, ::every]
            for channel in range(3):
                self.counts[channel] += np.bincount(
                    picture[..., channel].reshape(-1), minlength=256
                )
            self.pictures += 1

    def merge(self, other: RunningPictures) -> None:
        """Add what another one has seen."""
        self.counts += other.counts
        self.pictures += other.pictures

    def result(self) -> Statistics:
        """Return the statistics of the sampled pictures, shape (3, 1, 1), values divided by 255.

        "count" is the number of pictures.
        """
        values = np.arange(256) / 255.0
        total = self.counts.sum(1)
        mean = self.counts @ values / total
        variance = (self.counts * (values - mean[:, None]) ** 2).sum(1) / total

        found: dict[str, Any] = {
            "min": [values[counts > 0].min() for counts in self.counts],
            "max": [values[counts > 0].max() for counts in self.counts],
            "mean": mean,
            "std": np.sqrt(variance),
        }
        for name, share in QUANTILES.items():
            found[name] = [_quantile(counts, share) for counts in self.counts]

        result = {"count": np.array([self.pictures])}
        for name, value in found.items():
            result[name] = np.reshape(value, (3, 1, 1))
        return result


def _quantile(counts: npt.NDArray[np.int64], share: float) -> float:
    """Return the quantile of 0..255 values given their counts, interpolated as NumPy does."""
    place = share * (counts.sum() - 1)
    below = int(place)
    ends = np.cumsum(counts)
    above = min(below + 1, int(ends[-1]) - 1)
    low, high = np.searchsorted(ends, [below, above], side="right").tolist()
    return float(low + (high - low) * (place - below)) / 255.0


def sampled_pictures(count: int) -> list[int]:
    """Return which of an episode's pictures are looked at: evenly spaced, first and last among them."""
    wanted = max(min(_LEAST_PICTURES, count), min(int(count**_PICTURE_POWER), _MOST_PICTURES))
    picked: list[int] = np.round(np.linspace(0, count - 1, wanted)).astype(int).tolist()
    return picked


def sampled_side_step(height: int, width: int) -> int:
    """Return the step between the pixels that are looked at, 1 for all but large pictures."""
    side = max(height, width)
    return 1 if side < _LARGE_SIDE_PX else side // _SAMPLED_SIDE_PX


def of_rows(rows: npt.NDArray[Any]) -> Statistics:
    """Return the statistics of one episode's rows, shape (T, ...)."""
    running = RunningRows(sampled_rows=len(rows))
    running.update(rows)
    return running.result()


def plain(statistics: Statistics) -> dict[str, Any]:
    """Return statistics as JSON lists, in the order of `NAMES`."""
    return {name: statistics[name].tolist() for name in NAMES}


def all_finite(rows: Iterable[npt.NDArray[Any]]) -> bool:
    """Whether statistics of these rows exist."""
    return all(bool(np.isfinite(values).all()) for values in rows if values.dtype.kind == "f")
