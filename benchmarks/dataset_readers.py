"""What the benchmark of the store measures in its own process: ours, raw h5py and a NumPy memory map."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.windows.windows import Windows

OBSERVATION_HORIZON, ACTION_HORIZON, BATCH = 2, 16, 64
NOT_READ = ("sim_states", "rewards")
Batch = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Places:
    """Windows asked for.

    Attributes:
        order: places in our order of windows, shape (B,).
        pairs: the same windows as (episode, step).
    """

    order: npt.NDArray[np.int64]
    pairs: list[tuple[int, int]]

    def rows(
        self, steps: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return episodes (B, 1), observation rows (B, 2) and action rows (B, 16), edges repeated."""
        episode, step = np.array(self.pairs).T[:, :, None]
        before = np.maximum(step + np.arange(1 - OBSERVATION_HORIZON, 1), 0)
        return episode, before, np.minimum(step + np.arange(ACTION_HORIZON), steps - 1)


def windows(path: Path, cameras: Sequence[str], *, cache: bool = False) -> Windows:
    """Return our windows of a dataset."""
    return Windows(
        Dataset(path),
        ("state", *cameras),
        OBSERVATION_HORIZON,
        ACTION_HORIZON,
        actions="executed",
        batch_size=BATCH,
        cache=cache,
    )


@dataclass
class Local:
    """A reader in this process.

    Attributes:
        make: opens the data, returns a function that reads a batch.
    """

    make: Callable[[], Callable[[Places], Batch]]

    def open(self, batch: Places) -> tuple[float, Batch]:
        """Open the data and read a batch; returns CPU seconds and the batch."""
        began = time.process_time()
        self._read = self.make()
        first = self._read(batch)
        return time.process_time() - began, first

    def read(self, batches: Sequence[Places], limit_s: float) -> tuple[int, float]:
        """Read batches until a limit of CPU time; returns windows and CPU seconds."""
        began, count = time.process_time(), 0
        for batch in batches:
            count += len(self._read(batch)["actions"])
            if time.process_time() - began > limit_s:
                break
        return count, time.process_time() - began


def ours(path: Path, cameras: Sequence[str], *, cache: bool = False) -> Local:
    """Our windows."""

    def make() -> Callable[[Places], Batch]:
        opened = windows(path, cameras, cache=cache)
        for index in range(0 if cache else len(opened.datasets[0])):
            opened.datasets[0].open_episode(
                index
            )  # checks the file, which the first window of it would do
        return lambda batch: opened.read(batch.order)

    return Local(make)


def expected(arrays: Path, batch: Places) -> Batch:
    """Return a batch as it has to be, from the source."""
    return memmap(arrays).make()(batch)


def memmap(arrays: Path, *, gathered: bool = True) -> Local:
    """NumPy memory maps of one array of all episodes each; a gather an array and batch, or slices of each window."""

    def make() -> Callable[[Places], Batch]:
        maps = {path.stem: np.load(path, mmap_mode="r") for path in sorted(arrays.glob("*.npy"))}
        maps = {key: maps[key] for key in maps if key not in NOT_READ}
        steps = maps["actions"].shape[1]

        def read(batch: Places) -> Batch:
            episode, before, after = batch.rows(steps)
            return {
                key: array[episode, after if key == "actions" else before]
                for key, array in maps.items()
            }

        sets = [
            {key: array[index] for key, array in maps.items()}
            for index in range(len(maps["actions"]))
        ]
        return read if gathered else lambda batch: _slices(sets, batch)

    return Local(make)


def write_raw(path: Path, arrays: Path, *, step_chunks: bool) -> None:
    """Write an uncompressed HDF5 file without checksums, as a careful user would."""
    maps = {key.stem: np.load(key, mmap_mode="r") for key in arrays.glob("*.npy")}
    with h5py.File(path, "w") as file:
        for index in range(len(maps["actions"])):
            for key, values in maps.items():
                chunks = (1, *values.shape[2:]) if step_chunks else None
                file.create_dataset(f"demo_{index}/{key}", data=values[index], chunks=chunks)


def raw(path: Path) -> Local:
    """H5py with all handles kept open, one slice an array and window."""

    def make() -> Callable[[Places], Batch]:
        file = h5py.File(path, "r")
        demos = [file[f"demo_{index}"] for index in range(len(file))]
        sets = [{key: data for key, data in demo.items() if key not in NOT_READ} for demo in demos]
        return lambda batch: _slices(sets, batch)

    return Local(make)


def _slices(sets: Sequence[Mapping[str, Any]], batch: Places) -> Batch:
    """Read window by window, as a `Dataset` of torch does, and stack."""
    rows: dict[str, list[npt.NDArray[Any]]] = {key: [] for key in sets[0]}
    for episode, step in batch.pairs:
        for key, array in sets[episode].items():
            if key == "actions":
                part = array[step : step + ACTION_HORIZON]
                missing = ACTION_HORIZON - len(part)
                rows[key].append(
                    np.concatenate([part, part[-1:].repeat(missing, 0)]) if missing else part
                )
            else:
                part = array[max(step + 1 - OBSERVATION_HORIZON, 0) : step + 1]
                missing = OBSERVATION_HORIZON - len(part)
                rows[key].append(
                    np.concatenate([part[:1].repeat(missing, 0), part]) if missing else part
                )
    return {key: np.stack(parts) for key, parts in rows.items()}
