"""Small per-step arrays of many episodes, end to end in memory: a batch is one gather each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import InvalidInputError
from shopfloor.datasets.format.decode import EpisodeFile

# A row of up to this many bytes and fewer axes than a picture's counts as low-dimensional.
MAX_ROW_BYTES = 4096
PICTURE_AXES = 3


def check_kind(file: EpisodeFile, key: str, other: npt.NDArray[Any]) -> None:
    """Raise InvalidInputError unless an episode's array has rows like those of `other`, shape (N, ...)."""
    array = file.array(key)
    if other.shape[1:] != array.row_shape or other.dtype != array.dtype:
        raise InvalidInputError(
            f"{file.path}: {key!r} has rows of shape {array.row_shape}, dtype {array.dtype}; "
            f"others have {other.shape[1:]} and {other.dtype}. Choose episodes of one kind."
        )


class StepCache:
    """Low-dimensional arrays of episodes, rows 0 to T-1 of each, one episode behind the other.

    Attributes:
        arrays: name -> shape (steps of all episodes, ...), as recorded; names whose rows are
            pictures are left out.
    """

    def __init__(
        self, files: Iterable[EpisodeFile], steps: npt.NDArray[np.int64], keys: Sequence[str]
    ) -> None:
        """Read the arrays of all episodes.

        Args:
            files: the episodes, opened one by one.
            steps: shape (episodes,), their steps T.
            keys: names of per-step arrays.
        """
        self.arrays: dict[str, npt.NDArray[Any]] = {}
        self._last = steps - 1
        ends = np.cumsum(steps)
        self._starts = ends - steps

        for file, start, end in zip(files, self._starts.tolist(), ends.tolist(), strict=True):
            if not start:
                for key in keys:
                    array = file.array(key)
                    row = np.empty(array.row_shape, array.dtype)
                    if row.ndim < PICTURE_AXES and row.nbytes <= MAX_ROW_BYTES:
                        self.arrays[key] = np.empty((int(ends[-1]), *row.shape), row.dtype)

            for key, kept in self.arrays.items():
                check_kind(file, key, kept)
                file.array(key).read_into(kept[start:end], 0)

    def choose(self, name: str, other: str, where: str) -> bool:
        """Replace rows of `name` by those of `other` where `where` holds, and drop the latter two.

        Returns:
            Whether all three are here; nothing is done otherwise.
        """
        if not {name, other, where} <= self.arrays.keys():
            return False
        chosen = self.arrays.pop(where)
        np.copyto(self.arrays[name], self.arrays.pop(other), where=chosen[:, None])
        return True

    def gather(
        self, key: str, episode: npt.NDArray[np.int64], first: npt.NDArray[np.int64], rows: int
    ) -> npt.NDArray[Any]:
        """Return some rows of windows; those outside an episode repeat its first or last row.

        Args:
            key: name of the array.
            episode: shape (B,), position of each window's episode.
            first: shape (B,), first row of each window inside its episode, may be negative.
            rows: rows of each window.

        Returns:
            Shape (B, rows, ...).
        """
        inside = np.maximum(
            np.minimum(first[:, None] + np.arange(rows), self._last[episode][:, None]), 0
        )
        gathered: npt.NDArray[Any] = self.arrays[key].take(
            self._starts[episode][:, None] + inside, axis=0
        )

        return gathered
