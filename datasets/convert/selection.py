"""The episodes and observations that an export takes, in order, and the actions it gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import Episode, InvalidInputError, UnknownNameError
from shopfloor.datasets.convert.options import ExportOptions
from shopfloor.datasets.convert.rows import name_episode
from shopfloor.datasets.listing.groups import assign, joined
from shopfloor.datasets.listing.select import parse_where
from shopfloor.datasets.reader import Dataset

ACTIONS = ("executed", "label")


@dataclass(frozen=True)
class Selection:
    """What is exported.

    Attributes:
        dataset: the dataset it is in.
        train: positions in its `records`, in order.
        valid: those of the validation share, in order.
        keys: observation keys, sorted.
        first: the first episode, which the others must be like.
    """

    dataset: Dataset
    train: tuple[int, ...]
    valid: tuple[int, ...]
    keys: tuple[str, ...]
    first: Episode

    @classmethod
    def of(cls, dataset: Dataset, options: ExportOptions) -> Selection:
        """Choose by the options' `where`, `valid`, `seed` and `keys`.

        Raises:
            InvalidInputError: nothing is chosen; UnknownNameError: an observation key or kind of
                actions.
        """
        if options.actions not in ACTIONS:
            raise UnknownNameError("kind of actions", options.actions, ACTIONS)

        chosen = list(range(len(dataset.records)))
        if options.where is not None:
            where = parse_where(options.where)
            chosen = [index for index in chosen if where(dataset.records[index])]

        if not chosen:
            raise InvalidInputError(
                f"{dataset.path} has no episode to "
                f"export{' for that expression' if options.where else ''}."
            )

        valid = _validation(dataset, chosen, options)
        train = [index for index in chosen if index not in valid]
        first = dataset.read((train or chosen)[0])
        keys = sorted(options.keys if options.keys is not None else first.observations)
        for key in keys:
            if key not in first.observations:
                raise UnknownNameError("observation key", key, first.observations)

        return cls(dataset, tuple(train), tuple(sorted(valid)), tuple(keys), first)

    @property
    def indices(self) -> tuple[int, ...]:
        """All positions: first those to train on, then those of the validation share."""
        return self.train + self.valid

    def read(self, index: int) -> Episode:
        """Read an episode; raises InvalidInputError if it has no steps."""
        episode = self.dataset.read(index)
        if not episode.steps:
            raise InvalidInputError(
                f"{name_episode(episode)} has no steps, which this format cannot hold. Leave such "
                "episodes out: where 'steps > 0'."
            )
        return episode


def _validation(dataset: Dataset, chosen: list[int], options: ExportOptions) -> set[int]:
    if not 0 <= options.valid < 1:
        raise InvalidInputError(
            f"The validation share is {options.valid}; expected 0 to less than 1."
        )
    if not options.valid:
        return set()

    # Equal seeds of a cell give equal initial states, whoever acted: they stay on one side.
    starts = []
    for index in chosen:
        record = dataset.records[index]
        starts.append([(record.cell, record.variation, record.seed)])

    groups = joined(starts)
    shares = {"train": 1 - options.valid, "valid": options.valid}
    parts = assign(list(map(len, groups)), shares, options.seed)
    valid: set[int] = set()
    for group, part in zip(groups, parts, strict=True):
        if part == "valid":
            valid.update(chosen[item] for item in group)
    return valid


def given_actions(episode: Episode, options: ExportOptions) -> npt.NDArray[Any]:
    """Return the actions to export, shape (T, A): executed ones, or the teacher's labels where valid."""
    if options.actions == "executed":
        return episode.actions
    return np.where(episode.label_valid[:, None], episode.label_actions, episode.actions)
