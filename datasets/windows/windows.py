"""Random windows of episodes for training, in an order that can be resumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import InvalidInputError, UnknownNameError, canonical_json, listed, sha256_hex
from shopfloor.datasets.format.decode import EpisodeFile
from shopfloor.datasets.format.record import EpisodeRecord
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.windows.cache import StepCache, check_kind
from shopfloor.datasets.windows.order import EpochSlots, permute

_OWN_NAMES = ("episode", "step", "place", "observation_mask", "action_mask")
ACTIONS = ("label", "executed")
# So many places of the order are worked out together: one by one the batches of cached windows
# would wait for it.
ORDER_BLOCK = 8192

Batch = dict[str, npt.NDArray[Any]]
# (name in the batch, array, rows, how far before step t they start)
Read = tuple[str, str, int, int]


@dataclass(frozen=True)
class WindowSource:
    """Where one of the episodes of `Windows` is.

    Attributes:
        dataset: position in the sequence of datasets.
        index: position in that dataset's `records`.
        record: its record.
    """

    dataset: int
    index: int
    record: EpisodeRecord


class Windows:
    """Windows of episodes, one for each step (each decision point) of each episode.

    The window of step t holds the observations of steps t - observation_horizon + 1 .. t and the
    actions of steps t .. t + action_horizon - 1. It never leaves its episode: rows before the first
    step repeat it, rows after the last action repeat that, and masks are False there.

    An epoch has as many windows as the episodes have steps. Without weights each comes exactly
    once; with weights, a window comes about weight / mean weight times (rounded up or down). The
    order depends on seed and epoch alone.

    Iterating gives the batches of the rest of the current epoch, each a dict of arrays (B windows,
    H rows):
        each of `keys`: (B, observation_horizon, ...), as recorded;
        each of `step_keys`: (B, ...), as recorded, at step t;
        "actions": (B, action_horizon, A) float32; "action_mask": (B, action_horizon) bool;
        "observation_mask": (B, observation_horizon) bool;
        "episode": (B,) int64, position in `sources`; "step": (B,) int64, t.
    """

    def __init__(
        self,
        datasets: Dataset | Sequence[Dataset],
        keys: Sequence[str] = ("state",),
        observation_horizon: int = 1,
        action_horizon: int = 1,
        *,
        episodes: Callable[[EpisodeRecord], bool] | None = None,
        weights: Callable[[EpisodeRecord], float] | None = None,
        mixture: Sequence[float] | None = None,
        step_keys: Sequence[str] = (),
        actions: str = "label",
        batch_size: int = 64,
        seed: int = 0,
        cache: bool = False,
    ) -> None:
        """Index the windows of some episodes; no file is opened, unless `cache` is on.

        Args:
            datasets: one or more datasets; those mixed must have equal shapes of what is read.
            keys: observations to read.
            observation_horizon: rows of each observation, the last one at step t.
            action_horizon: rows of actions, the first one at step t.
            episodes: which episodes to take, all by default.
            weights: weight of each window of an episode, at least 0; by default that of overlays
                (1.0 without).
            mixture: share of the windows that comes from each dataset; by default in proportion to
                their weights.
            step_keys: other per-step arrays to read at step t alone, such as "label_chunks" or
                "actor".
            actions: "label" (the teacher's command where there is one, else what was executed) or
                "executed".
            batch_size: windows a batch; the last of an epoch may be smaller.
            seed: seed of the order.
            cache: read all low-dimensional arrays (not pictures) into memory now, so that windows
                of them cost a gather; memory then grows by their size. Batches are the same.

        Raises:
            InvalidInputError: a horizon, weight or share that cannot be used, or no window at all.
        """
        if actions not in ACTIONS:
            raise UnknownNameError("choice of actions", actions, ACTIONS)

        for name, value in (
            ("observation_horizon", observation_horizon),
            ("action_horizon", action_horizon),
            ("batch_size", batch_size),
        ):
            if value < 1:
                raise InvalidInputError(f"{name} is {value}; expected at least 1.")

        self.datasets = [datasets] if isinstance(datasets, Dataset) else list(datasets)
        self.keys, self.step_keys = listed(keys), listed(step_keys)
        self.observation_horizon, self.action_horizon = observation_horizon, action_horizon
        self.actions, self.batch_size, self.seed = actions, batch_size, seed
        self._plan = self._plan_reads()

        self.sources, kept = self._choose(episodes, weights)
        self._steps = np.array([source.record.steps for source in self.sources], np.int64)
        self._slots = EpochSlots(self._steps, self._share(np.array(kept, np.float64), mixture))
        self._epoch, self._position = 0, 0
        empty = np.empty(0, np.int64)
        self._block = (0, -1), (empty, empty)
        self._fingerprint = ""
        self._cache = self._load() if cache else None

    def _choose(
        self,
        episodes: Callable[[EpisodeRecord], bool] | None,
        weights: Callable[[EpisodeRecord], float] | None,
    ) -> tuple[list[WindowSource], list[float]]:
        """Return the episodes that windows come from, and the weight of each one's windows.

        Raises:
            InvalidInputError: there are none.
        """
        sources: list[WindowSource] = []
        kept: list[float] = []
        for number, dataset in enumerate(self.datasets):
            for index, record in enumerate(dataset.records):
                if not record.steps or (episodes is not None and not episodes(record)):
                    continue

                weight = _weight(record, weights)
                if weight > 0:
                    sources.append(WindowSource(number, index, record))
                    kept.append(weight)

        if not kept:
            where = ", ".join(str(dataset.path) for dataset in self.datasets) or "no datasets"
            raise InvalidInputError(
                f"No windows: no episode of {where} has steps, was chosen and has a weight above 0."
            )

        return sources, kept

    def _plan_reads(self) -> list[Read]:
        """Return what each window reads."""
        H = self.observation_horizon
        plan = [(key, key, H, H - 1) for key in self.keys]
        plan += [(key, key, 1, 0) for key in self.step_keys]
        plan.append(("actions", "actions", self.action_horizon, 0))
        names = Counter((*self.keys, *self.step_keys, "actions", *_OWN_NAMES))
        twice = [name for name, count in names.items() if count > 1]

        if twice:
            raise InvalidInputError(
                f"The batch entry {min(twice)!r} would be there twice; name each array once."
            )

        if self.actions == "label":
            plan.append((":label_actions", "label_actions", self.action_horizon, 0))
            plan.append((":label_valid", "label_valid", self.action_horizon, 0))
        return plan

    def _load(self) -> StepCache:
        """Read what is low-dimensional of everything a window needs."""
        files = map(self._file, range(len(self.sources)))
        arrays = {key: None for _, key, *_ in self._plan}
        cache = StepCache(files, self._steps, list(arrays))
        if self.actions == "label" and cache.choose("actions", "label_actions", "label_valid"):
            self._plan = [entry for entry in self._plan if not entry[0].startswith(":")]
        return cache

    def _file(self, position: int) -> EpisodeFile:
        source = self.sources[position]
        return self.datasets[source.dataset].open_episode(source.index)

    def _share(
        self, weight: npt.NDArray[np.float64], mixture: Sequence[float] | None
    ) -> npt.NDArray[np.float64]:
        if mixture is None:
            return weight
        if (
            len(mixture) != len(self.datasets)
            or min(mixture) < 0
            or not np.isfinite(mixture).all()
            or sum(mixture) <= 0
        ):
            raise InvalidInputError(
                f"mixture is {list(mixture)}; expected a share of at least 0 for each dataset."
            )

        owner = np.array([source.dataset for source in self.sources])
        for number, share in enumerate(mixture):
            mine = owner == number
            mass = float((weight[mine] * self._steps[mine]).sum())
            if share and not mass:
                raise InvalidInputError(
                    f"{self.datasets[number].path} has share {share} of the mixture, but no "
                    "windows."
                )

            weight[mine] *= share / mass if mass else 0.0

        return weight

    # -- order -------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of windows in an epoch: the steps of all episodes."""
        return self._slots.count

    @property
    def batches(self) -> int:
        """Number of batches in an epoch."""
        return -(-len(self) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches that are left of the current epoch, then move on to the next epoch."""
        while True:
            epoch, position = self._epoch, self._position
            stop = min(position + self.batch_size, len(self))
            # Moved on before the batch is handed out: a state saved after a batch continues with
            # the next one.
            self._epoch, self._position = (epoch + 1, 0) if stop == len(self) else (epoch, stop)
            yield self.read(np.arange(position, stop) + epoch * len(self))
            if (self._epoch, self._position) == (epoch + 1, 0):
                return

    def order(
        self, epoch: int, start: int, stop: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return (positions in `sources`, steps) of the windows at places `start` to `stop` of an epoch."""
        return self._windows(epoch, np.arange(start, stop))

    def _windows(
        self, epoch: int, places: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return (positions in `sources`, steps) of places of an epoch, from a block kept ready."""
        if len(places) < 2 or not (np.diff(places) == 1).all():
            return self._order_of(epoch, places)

        block, start = divmod(int(places[0]), ORDER_BLOCK)
        stop = start + len(places)
        if stop > ORDER_BLOCK:
            return self._order_of(epoch, places)

        if self._block[0] != (epoch, block):
            first = block * ORDER_BLOCK
            here = np.arange(first, min(first + ORDER_BLOCK, len(self)))
            self._block = (epoch, block), self._order_of(epoch, here)

        episode, step = self._block[1]
        return episode[start:stop].copy(), step[start:stop].copy()

    def _order_of(
        self, epoch: int, places: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        slots = permute(places.astype(np.uint64), len(self), self.seed, epoch)
        return self._slots.window(slots, self.seed, epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration is, as plain JSON data."""
        return {"epoch": self._epoch, "position": self._position, "fingerprint": self.fingerprint()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken.

        Raises:
            InvalidInputError: it is of other episodes, weights, horizons, batch size or seed.
        """
        if state.get("fingerprint") != self.fingerprint():
            raise InvalidInputError(
                "The saved position belongs to other windows: other episodes, weights, horizons, "
                "batch size or seed. Build the windows as before, or start a new epoch."
            )

        self._epoch, self._position = int(state["epoch"]), int(state["position"])

    def fingerprint(self) -> str:
        """Return a digest of everything the order and content of batches depends on."""
        if self._fingerprint:
            return self._fingerprint

        facts = [
            self.keys,
            self.step_keys,
            self.observation_horizon,
            self.action_horizon,
            self.actions,
            self.batch_size,
            self.seed,
            [source.record.episode_id for source in self.sources],
            self._slots.weight.tolist(),
        ]

        self._fingerprint = sha256_hex(canonical_json(facts))
        return self._fingerprint

    # -- reading -----------------------------------------------------------------------------------

    def read(self, places: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Batch:
        """Read the windows at some places of the endless order, where epoch k begins at k * len(self).

        Args:
            places: shape (B,), at least 0.

        Returns:
            A batch, as described above.
        """
        numbers = np.asarray(places, np.int64)
        if numbers.size and numbers.min() < 0:
            raise InvalidInputError(f"Place {numbers.min()} of the order; expected at least 0.")

        epochs, inside = np.divmod(numbers, len(self))
        if numbers.size and (epochs == epochs[0]).all():
            return self._read(*self._windows(int(epochs[0]), inside))

        episode, step = np.empty_like(numbers), np.empty_like(numbers)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            episode[here], step[here] = self._windows(int(epoch), inside[here])
        return self._read(episode, step)

    def sample(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Batch:
        """Read windows by number: episode after episode in the order of `sources`, step after step.

        Args:
            indices: window numbers, 0 to len(self) - 1.

        Returns:
            A batch, as described above.
        """
        numbers = np.asarray(indices, np.int64)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= len(self)):
            raise InvalidInputError(
                f"Window numbers {numbers.min()} to {numbers.max()}; expected 0 to {len(self) - 1}."
            )

        ends = np.cumsum(self._steps)
        episode = np.searchsorted(ends, numbers, side="right")
        return self._read(episode, numbers - (ends - self._steps)[episode])

    def _read(self, episode: npt.NDArray[np.int64], step: npt.NDArray[np.int64]) -> Batch:
        count = len(step)
        batch: Batch = {
            "episode": episode,
            "step": step,
            "observation_mask": step[:, None] + np.arange(1 - self.observation_horizon, 1) >= 0,
            "action_mask": step[:, None] + np.arange(self.action_horizon)
            < self._steps[episode][:, None],
        }

        out: Batch = {}
        plan = self._plan
        if self._cache is not None:
            for name, key, rows, lag in plan:
                if key in self._cache.arrays:
                    out[name] = self._cache.gather(key, episode, step - lag, rows)
            plan = [entry for entry in plan if entry[0] not in out]

        if plan:
            # Episode by episode, so that each file is looked up once; rows land where they belong
            # in the batch.
            for row in np.argsort(episode, kind="stable"):
                self._read_window(plan, int(episode[row]), int(step[row]), int(row), count, out)

        if ":label_valid" in out:
            valid = out.pop(":label_valid")
            out["actions"] = np.where(valid[..., None], out.pop(":label_actions"), out["actions"])

        for key in self.step_keys:
            out[key] = out[key][:, 0]
        return {**batch, **out}

    def _read_window(
        self, plan: Sequence[Read], episode: int, step: int, row: int, count: int, out: Batch
    ) -> None:
        file = self._file(episode)
        for name, key, horizon, lag in plan:
            array = file.array(key)
            if name not in out:
                out[name] = np.empty((count, horizon, *array.row_shape), array.dtype)
            target, start = out[name][row], step - lag
            check_kind(file, key, target)
            lead, end = max(-start, 0), min(horizon, file.steps - start)
            array.read_into(target[lead:end], start + lead)
            if lead:
                target[:lead] = target[lead]
            if end < horizon:
                target[end:] = target[end - 1]


def _weight(record: EpisodeRecord, weights: Callable[[EpisodeRecord], float] | None) -> float:
    value = float(weights(record)) if weights else record.weight
    if not 0 <= value < float("inf"):
        raise InvalidInputError(
            f"The weight of {record.file} is {value}; expected a finite number of at least 0."
        )
    return value
