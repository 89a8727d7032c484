"""New datasets out of one: some of its episodes (filter) or all of them in parts (split)."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shopfloor.core import InvalidInputError, UnknownNameError, listed_paths
from shopfloor.datasets.disk.staging import staged_folder
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.decode import EpisodeFile
from shopfloor.datasets.format.record import EpisodeRecord, episode_ids, positions
from shopfloor.datasets.listing.groups import assign, joined
from shopfloor.datasets.listing.overlays import read_overlay_file, write_overlay
from shopfloor.datasets.listing.select import parse_where
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.transfer import copy_dataset, refuse_damage, refuse_inside

SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}
BY = ("seed", "variation")


@dataclass(frozen=True)
class Filtered:
    """What a filter did.

    Attributes:
        kept: number of episodes that were selected.
        left_out: number of episodes that were not.
        path: the new dataset, or the overlay file.
    """

    kept: int
    left_out: int
    path: Path

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        return {**asdict(self), "path": str(self.path)}


@dataclass(frozen=True)
class Split:
    """What a split did.

    Attributes:
        parts: part -> its episodes.
        groups: number of sets of episodes that had to stay together.
        path: the folder of the parts, each a dataset.
    """

    parts: Mapping[str, int]
    groups: int
    path: Path

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        return {"parts": dict(self.parts), "groups": self.groups, "path": str(self.path)}


# --------------------------------------------------------------------------------------------------
# Filter
# --------------------------------------------------------------------------------------------------


def filter_episodes(
    path: Path | str,
    where: str,
    *,
    out: Path | str | None = None,
    view: Path | str | None = None,
    overlays: Sequence[Path | str] = (),
) -> Filtered:
    """Keep the episodes that an expression selects, in a copy or by an overlay file.

    Args:
        path: the dataset folder.
        where: an expression (`parse_where`).
        out: folder of the copy, a new dataset.
        view: overlay file to write, for `Dataset(path, overlays=[view])`, that leaves out the other
            episodes.
        overlays: overlay files that hold already.

    Returns:
        How many episodes were kept and left out.

    Raises:
        InvalidInputError: not one of `out` and `view`; it exists; nothing is selected; no such
            expression.
        DamagedFileError: an episode that is to be copied is damaged.
    """
    if (out is None) == (view is None):
        raise InvalidInputError(
            "Give either a folder for a copy (out) or a file for a view (view)."
        )

    test = parse_where(where)
    dataset = Dataset(path, overlays=overlays)
    chosen = [record for record in dataset.records if test(record)]

    if not chosen:
        raise InvalidInputError(
            f"{where!r:.200} selects none of the {len(dataset)} episodes of {path}; `data info` "
            "says what it holds."
        )

    if view is not None:
        kept = episode_ids(chosen)
        operations = []
        for overlay in listed_paths(overlays):
            operations += read_overlay_file(overlay)

        for record in dataset.records:
            one = record.episode_id
            if one not in kept:
                why = f"not: {where}"
                operations.append({"op": "tombstone", "episode_id": one, "reason": why})
        place = write_overlay(view, operations)
    else:
        place = Path(out or "")
        refuse_damage(dataset)
        refuse_inside(place, [dataset.path])
        with staged_folder(place) as staged:
            copy_dataset(dataset, chosen, staged, overlays)

    return Filtered(len(chosen), len(dataset) - len(chosen), place)


# --------------------------------------------------------------------------------------------------
# Split
# --------------------------------------------------------------------------------------------------


def split(
    path: Path | str,
    out: Path | str,
    *,
    shares: Mapping[str, float] | None = None,
    by: str = "seed",
    seed: int = 0,
    overlays: Sequence[Path | str] = (),
) -> Split:
    """Divide a dataset into parts, each a new dataset, with no initial state in two of them.

    Together stay: episodes of an equal cell, variation and seed (`by="seed"`) or of an equal
    variation (`by="variation"`); and episodes that begin in the same simulator state, or where none
    is stored with the same first observation, whatever they are called.

    Args:
        path: the dataset folder.
        out: folder of the parts.
        shares: part -> share of the episodes, together 1; train 0.8, valid 0.1, test 0.1 by
            default.
        by: "seed" or "variation".
        seed: another one gives other parts; an equal one always the same.
        overlays: overlay files that hold already.

    Returns:
        How many episodes are in each part.

    Raises:
        InvalidInputError: shares that are none; `out` exists; a part would be empty.
        DamagedFileError: an episode is damaged.
    """
    shares = dict(SHARES if shares is None else shares)
    _check_shares(shares)
    if by not in BY:
        raise UnknownNameError("way to split", by, BY)

    dataset = Dataset(path, max_open_files=1, overlays=overlays)
    refuse_damage(dataset)
    refuse_inside(Path(out), [dataset.path])

    # By id, not by their order in the folder, so that a compacted dataset is split equally.
    records = sorted(dataset.records, key=lambda record: record.episode_id)
    groups = joined(list(_belonging(dataset, records, by)))
    parts = assign(list(map(len, groups)), shares, seed)
    for part in shares:
        if part not in parts:
            raise InvalidInputError(
                f"The part {part!r} would be empty: the {len(records)} episodes of {path} form "
                f"{len(groups)} groups (by {by}, and by equal initial states), and {len(shares)} "
                "parts were asked for."
            )

    members: dict[str, list[EpisodeRecord]] = {part: [] for part in shares}
    for group, part in zip(groups, parts, strict=True):
        members[part] += [records[item] for item in group]

    with staged_folder(Path(out)) as staged:
        for part, chosen in members.items():
            (staged / part).mkdir()
            chosen.sort(key=lambda record: (record.file, record.group))
            copy_dataset(dataset, chosen, staged / part, overlays)

    sizes = {part: len(chosen) for part, chosen in members.items()}
    return Split(sizes, len(groups), Path(out))


def _check_shares(shares: Mapping[str, float]) -> None:
    for part, share in shares.items():
        if not layout.OBSERVATION_KEY.fullmatch(part):
            raise InvalidInputError(
                f"A part cannot be called {part!r}; expected letters, digits, '_', '.' or '-'."
            )
        if not 0 < share <= 1:
            raise InvalidInputError(
                f"The share of part {part!r} is {share}; expected more than 0 and at most 1."
            )

    if abs(sum(shares.values()) - 1) > 1e-6:
        raise InvalidInputError(
            f"The shares {dict(shares)} add up to {sum(shares.values()):g}; expected 1."
        )


def _belonging(
    dataset: Dataset, records: Sequence[EpisodeRecord], by: str
) -> Iterator[tuple[Hashable, ...]]:
    """Yield the keys of each episode; those with one in common stay together."""
    places = positions(dataset.records)
    for record in records:
        named = (
            (record.variation,)
            if by == "variation"
            else (record.cell, record.variation, record.seed)
        )
        yield named, initial_state(dataset.open_episode(places[record.episode_id]))
    dataset.close()


def initial_state(file: EpisodeFile) -> str:
    """Return a digest of an episode's initial state: the simulator's, else the first observation."""
    names = ["sim_states"] if file.array("sim_states").row_shape != (0,) else file.observation_keys
    hasher = hashlib.sha256()
    for name in names:
        row = file.read(name, 0, 1)
        row = row + row.dtype.type(0)  # -0.0 is 0.0
        hasher.update(f"{name} {row.dtype.str} {row.shape} ".encode())
        hasher.update(np.ascontiguousarray(row).tobytes())
    return hasher.hexdigest()
