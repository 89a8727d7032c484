"""Reads a dataset folder: records without opening episodes, whole episodes, rows, and damage."""

from __future__ import annotations

import dataclasses
import logging
import operator
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy.typing as npt

from shopfloor.core import Episode, InvalidInputError
from shopfloor.datasets.disk.errors import DamagedFileError
from shopfloor.datasets.disk.files import read_bytes
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.container import Container, Verified
from shopfloor.datasets.format.decode import EpisodeFile
from shopfloor.datasets.format.record import EpisodeRecord, by_id, episode_ids
from shopfloor.datasets.listing.folders import inner_folder
from shopfloor.datasets.listing.identity import load_identity
from shopfloor.datasets.listing.manifest import list_dataset
from shopfloor.datasets.listing.overlays import Change, load_overlays, tombstoned
from shopfloor.datasets.listing.verify import Damage, verify

__all__ = ["Damage", "Dataset", "EpisodeRecord"]

logger = logging.getLogger(__name__)
MAX_OPEN_FILES = 256


class Dataset:
    """A dataset folder, as manifest, loose files and overlays show it at the moment it is opened.

    A damaged episode is left out of `records` and listed in `damage`; it never keeps others from
    being read. Not thread-safe; each process may have its own (it can be pickled).
    """

    def __init__(
        self,
        path: Path | str,
        max_open_files: int = MAX_OPEN_FILES,
        overlays: Sequence[Path | str] = (),
    ) -> None:
        """List a dataset; no episode that the manifest knows is opened.

        Args:
            path: the dataset folder.
            max_open_files: how many episode files `read_arrays` keeps open.
            overlays: overlay files outside the dataset, applied after its own, in this order.

        Raises:
            NotADatasetError: the folder is none.
            FormatVersionError: it is of a version this release does not know.
            DamagedFileError: `dataset.json` or an overlay cannot be used.
            InvalidInputError: an overlay of `overlays` is not there.
        """
        self.path = Path(path).absolute()
        self.identity = load_identity(self.path)
        self._changes: Mapping[str, Change] = load_overlays(self.path, overlays)
        self._listing = list_dataset(self.path, tombstoned(self._changes))
        self._records = list(self._visible())
        self._open: OrderedDict[int, EpisodeFile] = OrderedDict()

        # Episodes of a shard share its container; it goes with the last of them.
        self._containers: WeakValueDictionary[str, Container] = WeakValueDictionary()
        self._verified: dict[str, Verified] = {}
        self._checked: dict[int, Verified] = {}
        self._max_open_files = max(max_open_files, 1)
        for damage in self.damage:
            logger.warning("%s is damaged: %s", damage.file, damage.problem)

    def _visible(self) -> Iterator[EpisodeRecord]:
        seen = set()
        for record in self._listing.records:
            change = self._changes.get(record.episode_id)
            if record.episode_id in seen or (change and change.tombstone):
                continue
            seen.add(record.episode_id)
            yield change.record(record) if change else record

    # -- what is there -----------------------------------------------------------------------------

    @property
    def records(self) -> Sequence[EpisodeRecord]:
        """The episodes in order of index, without tombstoned ones, as relabelled by overlays."""
        return self._records

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self._records)

    @property
    def description(self) -> Mapping[str, Any]:
        """The cell's description when the dataset was made (`WorkCell.describe()`)."""
        return self.identity.description

    @property
    def damage(self) -> list[Damage]:
        """What was found damaged when the dataset was opened; `verify` looks at every byte."""
        found = []
        for file, error in sorted(self._listing.damage.items()):
            found.append(Damage.of(self.path / file, error))
        return found

    def episode_ids(self) -> set[str]:
        """Return the ids of committed episodes, tombstoned and purged ones included.

        A resumed job need not run them.
        """
        return episode_ids(self._listing.records) | tombstoned(self._changes)

    # -- reading -----------------------------------------------------------------------------------

    def read(self, index: int) -> Episode:
        """Read a whole episode, after checking the file's trailer.

        Args:
            index: position in `records`.

        Returns:
            The episode, every array bit for bit as it was written; instruction and outcome as
            relabelled.

        Raises:
            DamagedFileError: what is wrong with the file.
        """
        record = self._record(index)
        change = self._changes.get(record.episode_id)
        if record.file.startswith(layout.SHARDS):
            episode = self.open_episode(index).episode()  # one of many in a large file
            return change.episode(episode) if change else episode

        path = self._locate(record)
        try:
            data = read_bytes(path)
        except FileNotFoundError:
            self._follow(index)
            return self.read(index)

        container = Container.of_bytes(path, data)
        try:
            file = EpisodeFile(container, record.group)
            self._same_episode(file, record)
            episode = file.episode()
        finally:
            container.close()

        return change.episode(episode) if change else episode

    def read_arrays(
        self, index: int, keys: Iterable[str], rows: slice | tuple[int, int] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Read some arrays of an episode, and of them only the rows asked for.

        Args:
            index: position in `records`.
            keys: observation keys, or names of `format.fields.FIELDS` such as "actions".
            rows: (start, stop) or a slice of step 1, all by default. Observations and sim_states
                have T+1 rows.

        Returns:
            key -> array.

        Raises:
            DamagedFileError: what is wrong with the file.
            UnknownNameError: the episode has no such array.
        """
        if isinstance(rows, slice) and rows.step not in (None, 1):
            raise InvalidInputError(
                f"Rows with step {rows.step}; only contiguous rows can be read."
            )

        file = self.open_episode(index)
        found = {}
        for key in keys:
            start, stop = 0, None
            if isinstance(rows, slice):
                start, stop, _ = rows.indices(file.array(key).rows)
            elif rows:
                start, stop = rows
            found[key] = file.read(key, start, stop)
        return found

    def open_episode(self, index: int) -> EpisodeFile:
        """Return an open episode file, checked once; it stays open until others push it out."""
        kept = self._open.get(index)
        if kept:
            self._open.move_to_end(index)
            return kept

        record = self._record(index)
        try:
            container = self._container(record)
        except FileNotFoundError:
            self._follow(index)
            return self.open_episode(index)

        verified = self._verified[record.file]
        known = self._checked.get(index) is verified
        file = EpisodeFile(container, record.group, record.steps if known else None)
        if not known:
            self._same_episode(file, record)
            self._checked[index] = verified

        self._open[index] = file
        while len(self._open) > self._max_open_files:
            self._open.popitem(last=False)
        return file

    def _container(self, record: EpisodeRecord) -> Container:
        kept = self._containers.get(record.file)
        if kept is not None:
            return kept

        path = self._locate(record)
        before = self._verified.get(record.file)
        container, verified = Container.open(path, before)
        if verified is not before and record.file.startswith(layout.SHARDS):
            # Opened again, it does not hold on to everything that was looked at.
            container, verified = Container.open(path, verified)

        self._verified[record.file] = verified
        self._containers[record.file] = container
        return container

    def close(self) -> None:
        """Close the files that reading keeps open; reading opens them again."""
        # Dropped, not closed one by one: h5py looks at every handle of the process for each file
        # that is closed, which costs more than all other work on it where hundreds are open.
        self._open.clear()
        self._containers.clear()

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind when a copy goes to another process."""
        return {**self.__dict__, "_open": OrderedDict(), "_containers": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start without open files."""
        self.__dict__.update(state)
        self._containers = WeakValueDictionary()

    def _follow(self, index: int) -> None:
        """Find where `compact` or `purge` put an episode whose file is gone.

        Raises:
            DamagedFileError: the dataset has it no more.
        """
        held = by_id(list_dataset(self.path).records)
        lost = self._record(index)
        if lost.episode_id not in held or held[lost.episode_id].file == lost.file:
            raise DamagedFileError(self._locate(lost), "it is missing")
        for position, record in enumerate(self._records):
            found = held.get(record.episode_id, record)
            self._records[position] = dataclasses.replace(
                record,
                file=found.file,
                group=found.group,
                sha256=found.sha256,
                bytes=found.bytes,
            )

    def _record(self, index: int) -> EpisodeRecord:
        if not -len(self._records) <= index < len(self._records):
            raise InvalidInputError(f"Episode {index} of {self.path}: it has {len(self._records)}.")
        return self._records[index]

    def _locate(self, record: EpisodeRecord) -> Path:
        # The name was matched against layout.DATA_FILE; its folder must be the dataset's own.
        folder, name = record.file.split("/")
        return (inner_folder(self.path, folder) or self.path / folder) / name

    @staticmethod
    def _same_episode(file: EpisodeFile, record: EpisodeRecord) -> None:
        if file.fact("episode_id") != record.episode_id or file.steps != record.steps:
            raise DamagedFileError(file.path, "it holds another episode than the manifest says")

    # -- reports -----------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """Return the dataset's figures as plain JSON data (docs/schemas/data-info.schema.json)."""
        records, manifest = self._records, self._listing.manifest
        files = {record.file: record.bytes for record in records}
        seeds = [record.seed for record in records]
        reasons = _counts(records, "reason")
        reasons.pop("", None)  # successes have none

        return {
            "schema_version": layout.SCHEMA_VERSION,
            "format_version": layout.FORMAT_VERSION,
            "path": str(self.path),
            "episodes": len(records),
            "steps": sum(record.steps for record in records),
            "outcomes": _counts(records, "outcome"),
            "reasons": reasons,
            "cells": _counts(records, "cell"),
            "bytes": sum(files.values()),
            "purposes": _counts(records, "purpose"),
            "policies": _counts(records, "policy_digest"),
            "seeds": {"first": min(seeds), "last": max(seeds)} if seeds else None,
            "expert_steps": sum(record.expert_steps for record in records),
            "label_steps": sum(record.label_steps for record in records),
            "cameras": list(self.identity.raw.get("cameras", [])),
            "action_convention": self.identity.raw["action_convention"],
            "control_hz": self.identity.raw["control_hz"],
            "features": self.identity.raw["features"],
            "tombstones": len(episode_ids(self._listing.records)) - len(records),
            "damaged": len(self._listing.damage),
            "manifest": {"number": manifest.number, "loose_files": len(self._listing.loose)},
            "provenance": asdict(self.identity.provenance),
        }

    def verify(self) -> list[Damage]:
        """Check every byte of every file of the folder as it is now; empty for a sound dataset."""
        return verify(self.path)


def _counts(records: Iterable[EpisodeRecord], field: str) -> dict[str, int]:
    """Return how many episodes have each value of a record's field, in order of the values."""
    return dict(sorted(Counter(map(operator.attrgetter(field), records)).items()))
