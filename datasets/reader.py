"""Reading a dataset folder: records without opening episodes, whole episodes, single rows, and what is damaged."""

from __future__ import annotations

import logging
import math
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from shopfloor.core import Episode, InvalidInputError, ShopfloorError
from shopfloor.datasets import layout
from shopfloor.datasets.container import Container
from shopfloor.datasets.decode import EpisodeFile, EpisodeRecord
from shopfloor.datasets.errors import DamagedFileError
from shopfloor.datasets.files import FileState, read_bytes
from shopfloor.datasets.identity import load_identity
from shopfloor.datasets.manifest import inner_folder, list_dataset, load_manifest, numbered
from shopfloor.datasets.overlays import Change, load_overlays

__all__ = ["Damage", "Dataset", "EpisodeRecord"]

logger = logging.getLogger(__name__)
MAX_OPEN_FILES = 128


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong with a dataset.

    Attributes:
        file: full name of the file.
        problem: what is wrong with it.
        advice: what to do.
    """

    file: str
    problem: str
    advice: str

    @classmethod
    def of(cls, path: Path, error: ShopfloorError) -> Damage:
        """Describe an error met while reading `path`."""
        if isinstance(error, DamagedFileError):
            return cls(error.file, error.problem, error.advice)
        return cls(str(path), str(error), "")


class Dataset:
    """A dataset folder, as manifest, loose files and overlays show it at the moment it is opened.

    A damaged episode is left out of `records` and listed in `damage`; it never keeps others from being read. Not
    thread-safe; each process may have its own (it can be pickled).
    """

    def __init__(self, path: Path | str, max_open_files: int = MAX_OPEN_FILES) -> None:
        """List a dataset; no episode that the manifest knows is opened.

        Args:
            path: the dataset folder.
            max_open_files: how many episode files `read_arrays` keeps open.

        Raises:
            NotADatasetError: the folder is none.
            FormatVersionError: it is of a version this release does not know.
            DamagedFileError: `dataset.json` or an overlay cannot be used.
        """
        self.path = Path(path).absolute()
        self.identity = load_identity(self.path)
        self._changes: Mapping[str, Change] = load_overlays(self.path)
        self._listing = list_dataset(self.path)
        self._records = tuple(self._visible())
        self._open: OrderedDict[int, tuple[Container, EpisodeFile]] = OrderedDict()
        self._verified: dict[str, FileState] = {}
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

    # -- what is there -----------------------------------------------------------------------------------------------

    @property
    def records(self) -> Sequence[EpisodeRecord]:
        """The episodes in order of index; without tombstoned ones, relabelled where overlays say so."""
        return self._records

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self._records)

    @property
    def description(self) -> Mapping[str, Any]:
        """What the cell said of itself when the dataset was made (`WorkCell.describe()`)."""
        return self.identity.description

    @property
    def damage(self) -> list[Damage]:
        """What was found damaged when the dataset was opened; `verify` looks at every byte."""
        return [Damage.of(self.path / file, error) for file, error in sorted(self._listing.damage.items())]

    def episode_ids(self) -> set[str]:
        """Return the ids of all committed episodes, tombstoned ones included: what a resumed job need not run."""
        return {record.episode_id for record in self._listing.records}

    # -- reading -----------------------------------------------------------------------------------------------------

    def read(self, index: int) -> Episode:
        """Read a whole episode, after checking the file's trailer.

        Args:
            index: position in `records`.

        Returns:
            The episode, every array bit for bit as it was written; instruction and outcome as relabelled.

        Raises:
            DamagedFileError: what is wrong with the file.
        """
        record = self._record(index)
        path = self._locate(record)
        try:
            data = read_bytes(path)
        except FileNotFoundError:
            raise DamagedFileError(path, "it is missing") from None
        container = Container.of_bytes(path, data)
        try:
            file = EpisodeFile(container, record.group)
            self._same_episode(file, record)
            episode = file.episode()
        finally:
            container.close()
        change = self._changes.get(record.episode_id)
        return change.episode(episode) if change else episode

    def read_arrays(
        self, index: int, keys: Iterable[str], rows: slice | tuple[int, int] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Read some arrays of an episode, and of them only the rows asked for.

        Args:
            index: position in `records`.
            keys: observation keys, or "actions", "rewards", "sim_states", "actor", "decisions", "label_actions",
                "label_valid", "label_chunks".
            rows: (start, stop) or a slice of step 1, all by default. Observations and sim_states have T+1 rows.

        Returns:
            key -> array.

        Raises:
            DamagedFileError: what is wrong with the file.
            UnknownNameError: the episode has no such array.
        """
        file = self.open_episode(index)
        if isinstance(rows, slice):
            if rows.step not in (None, 1):
                raise InvalidInputError(f"Rows with step {rows.step}; only contiguous rows can be read.")
            return {key: file.read(key, *rows.indices(file.rows(key))[:2]) for key in keys}
        return {key: file.read(key, *(rows or (0, None))) for key in keys}

    def open_episode(self, index: int) -> EpisodeFile:
        """Return an open episode file; it stays open until others push it out, and is checked once."""
        kept = self._open.get(index)
        if kept:
            self._open.move_to_end(index)
            return kept[1]
        record = self._record(index)
        path = self._locate(record)
        try:
            container, state = Container.open(path, self._verified.get(record.file))
        except FileNotFoundError:
            raise DamagedFileError(path, "it is missing") from None
        try:
            file = EpisodeFile(container, record.group)
            if record.file not in self._verified:
                self._same_episode(file, record)
        except BaseException:
            container.close()
            raise
        self._verified[record.file] = state
        self._open[index] = container, file
        while len(self._open) > self._max_open_files:
            self._open.popitem(last=False)[1][0].close()
        return file

    def close(self) -> None:
        """Close the files that reading keeps open; reading opens them again."""
        while self._open:
            self._open.popitem()[1][0].close()

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind when a copy goes to another process."""
        return {**self.__dict__, "_open": OrderedDict()}

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

    # -- reports -----------------------------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """Return the dataset's figures as plain JSON data (docs/schemas/data-info.schema.json)."""
        records, manifest = self._records, self._listing.manifest
        files = {record.file: record.bytes for record in records}
        cells, outcomes, reasons, purposes, policies = (
            dict(sorted(Counter(values).items()))
            for values in (
                [record.cell for record in records],
                [record.outcome for record in records],
                [record.reason for record in records if record.reason],
                [record.purpose for record in records],
                [record.policy_digest for record in records],
            )
        )
        seeds = [record.seed for record in records]
        return {
            "schema_version": layout.SCHEMA_VERSION,
            "format_version": layout.FORMAT_VERSION,
            "path": str(self.path),
            "episodes": len(records),
            "steps": sum(record.steps for record in records),
            "outcomes": outcomes,
            "reasons": reasons,
            "cells": cells,
            "bytes": sum(files.values()),
            "purposes": purposes,
            "policies": policies,
            "seeds": {"first": min(seeds), "last": max(seeds)} if seeds else None,
            "expert_steps": sum(record.expert_steps for record in records),
            "label_steps": sum(record.label_steps for record in records),
            "cameras": list(self.identity.raw.get("cameras", [])),
            "tombstones": len(self.episode_ids()) - len(records),
            "damaged": len(self._listing.damage),
            "manifest": {"number": manifest.number, "loose_files": len(self._listing.loose)},
            "provenance": {name: self.identity.raw[name] for name in layout.PROVENANCE},
        }

    def verify(self) -> list[Damage]:
        """Check every byte of every file; see `verify`."""
        return verify(self.path)


def verify(path: Path | str) -> list[Damage]:
    """Check every byte of a dataset: trailers, structure, checksums, values, manifests and overlays.

    Leftover temporaries and a manifest that is missing or behind its files are not damage.

    Args:
        path: the dataset folder.

    Returns:
        What is wrong, sorted by file; empty for a sound dataset.

    Raises:
        NotADatasetError: the folder is none.
        FormatVersionError: it is of a version this release does not know.
    """
    root = Path(path).absolute()
    found: dict[str, Damage] = {}
    try:
        load_identity(root)
    except DamagedFileError as error:
        found[error.file] = Damage.of(root / layout.DATASET_FILE, error)
    for name in layout.FOLDERS:
        try:
            inner_folder(root, name)
        except DamagedFileError as error:
            found[error.file] = Damage.of(root / name, error)
    if any(not (root / name).is_symlink() for name in layout.FOLDERS) and not found:
        _verify_inside(root, found)
    return [found[file] for file in sorted(found)]


def _verify_inside(root: Path, found: dict[str, Damage]) -> None:
    try:
        load_overlays(root)
    except DamagedFileError as error:
        found[error.file] = Damage.of(root, error)
    for _, manifest in numbered(root, layout.MANIFESTS, layout.MANIFEST_NAME):
        try:
            load_manifest(manifest)
        except DamagedFileError as error:
            found[error.file] = Damage.of(manifest, error)
    listing = list_dataset(root)
    for file, error in listing.damage.items():
        found[str(root / file)] = Damage.of(root / file, error)
    for record in listing.records:
        try:
            _verify_episode(root, record)
        except FileNotFoundError:
            found[str(root / record.file)] = Damage(str(root / record.file), "it is missing", "")
        except ShopfloorError as error:
            found[str(root / record.file)] = Damage.of(root / record.file, error)


def _verify_episode(root: Path, record: EpisodeRecord) -> None:
    path = root / record.file
    data = read_bytes(path)
    container = Container.of_bytes(path, data)
    try:
        file = EpisodeFile(container, record.group)
        found = file.record(record.file, record.group, _sha256(data), len(data))
        if found != record:
            differing = [name for name, value in found.to_json().items() if value != record.to_json()[name]]
            raise DamagedFileError(path, f"its {', '.join(differing)} differ from the manifest's")
        episode = file.episode()
        if not math.isfinite(float(episode.rewards.sum(dtype="f8"))):
            logger.info("%s holds rewards that are not finite", path)
    finally:
        container.close()


def _sha256(data: bytes) -> str:
    from shopfloor.core import sha256_hex

    return sha256_hex(data)
