"""`Windows` for torch's DataLoader: one order for any number of workers, and resumable.

    loader = DataLoader(WindowIterable(windows, epochs=1), batch_size=None, num_workers=2)
    for batch in loader:
        ...
        state = state_after(windows, batch)  # JSON

`windows.load_state_dict(state)` and a new loader go on from there.

`WindowIterable` reads whole batches, which is the fast way. `WindowDataset` gives single windows to
code that brings its own sampler. Workers may be forked or spawned; each opens files for itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from shopfloor.core import InvalidInputError
from shopfloor.datasets.windows.windows import Windows

Tensors = dict[str, torch.Tensor]


class WindowIterable(IterableDataset[Tensors]):
    """Batches of windows, from where `windows` stands when iteration starts.

    Use it with `batch_size=None` (it makes batches of `windows.batch_size` itself) and the loader's
    order left on. A batch has the entries that `Windows` documents, as tensors, and "place": (B,)
    int64, for `state_after`. Iterating does not move `windows` on: after an epoch, load
    `state_after` of the last batch to get the next one.
    """

    def __init__(self, windows: Windows, epochs: int | None = None) -> None:
        """Wrap windows.

        Args:
            windows: what to read.
            epochs: how many epochs to give, the rest of the current one counting as one; endless by
                default.

        Raises:
            InvalidInputError: `epochs` is below 1.
        """
        _check_epochs(epochs)
        self._windows, self._epochs = windows, epochs
        self._process = os.getpid()

    def __iter__(self) -> Iterator[Tensors]:
        """Yield batches; in one of n workers of a loader, every n-th."""
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for number, places in enumerate(_batches(self._windows, self._epochs)):
            if number % step == first:
                self._process = _own_files(self._windows, self._process)
                yield _read(self._windows, places)


class WindowDataset(Dataset[Tensors]):
    """Single windows by their place in the order.

    Item i is the i-th window of epoch 0, item len + i that of epoch 1, and so on. A loader without
    shuffling gives the order of `Windows`; one with `batch_sampler=dataset.batches()` goes on from
    where the windows stand. An item has the entries that `Windows` documents, without the batch's
    axis, and "place".
    """

    def __init__(self, windows: Windows) -> None:
        """Wrap windows."""
        self._windows, self._process = windows, os.getpid()

    def __len__(self) -> int:
        """Return the number of windows in an epoch."""
        return len(self._windows)

    def __getitem__(self, place: int) -> Tensors:
        """Read one window."""
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[int]) -> list[Tensors]:
        """Read windows together, which torch's loader does for a batch."""
        self._process = _own_files(self._windows, self._process)
        batch = _read(self._windows, places)
        items: list[Tensors] = []
        for row in range(len(places)):
            items.append({name: tensor[row] for name, tensor in batch.items()})
        return items

    def batches(self, epochs: int | None = None) -> Iterator[range]:
        """Return places in batches from where the windows stand: a loader's `batch_sampler`.

        They serve one pass of the loader.

        Args:
            epochs: how many epochs, the rest of the current one counting as one; endless by
                default.
        """
        _check_epochs(epochs)
        return _batches(self._windows, epochs)


def state_after(windows: Windows, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the state that goes on behind a batch of a loader.

    It is about the batch that was used, not about those that workers have read ahead.

    Args:
        windows: what the loader reads.
        batch: the last batch that was used.

    Returns:
        Plain JSON data for `windows.load_state_dict`.
    """
    epoch, position = divmod(int(batch["place"].max()) + 1, len(windows))
    return {**windows.state_dict(), "epoch": epoch, "position": position}


def _check_epochs(epochs: int | None) -> None:
    if epochs is not None and epochs < 1:
        raise InvalidInputError(f"epochs is {epochs}; expected at least 1, or None for no end.")


def _batches(windows: Windows, epochs: int | None) -> Iterator[range]:
    """Yield the places of each batch; none reaches over the end of an epoch."""
    state, count = windows.state_dict(), len(windows)
    first, position = state["epoch"], state["position"]
    epoch = first
    while epochs is None or epoch < first + epochs:
        for start in range(position, count, windows.batch_size):
            yield range(
                epoch * count + start, epoch * count + min(start + windows.batch_size, count)
            )
        epoch, position = epoch + 1, 0


def _read(windows: Windows, places: Sequence[int]) -> Tensors:
    numbers = np.asarray(places, np.int64)
    return {
        name: torch.from_numpy(array)
        for name, array in {**windows.read(numbers), "place": numbers}.items()
    }


def _own_files(windows: Windows, process: int) -> int:
    """Close, in a forked process, the files that the parent had open; returns this process's id."""
    here = os.getpid()
    if here != process:
        for dataset in windows.datasets:
            dataset.close()
    return here
