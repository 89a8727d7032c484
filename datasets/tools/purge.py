"""Removes for good the episodes that overlays leave out; no other episode is ever in danger."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shopfloor.datasets.disk.files import (
    POSIX,
    SystemCalls,
    alone,
    make_folder,
    publish,
    require_writable,
    unlink_all,
)
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.decode import read_record
from shopfloor.datasets.format.record import EpisodeRecord, episode_ids
from shopfloor.datasets.listing.folders import inner_folder, sweep_dataset
from shopfloor.datasets.listing.identity import load_identity
from shopfloor.datasets.listing.manifest import Listing, by_file, list_dataset, publish_manifest
from shopfloor.datasets.listing.overlays import load_overlays, tombstoned
from shopfloor.datasets.tools.transfer import require_same, unpack


@dataclass(frozen=True)
class Purge:
    """What a purge removed.

    Attributes:
        episodes: number of removed episodes.
        bytes: size by which the dataset's files shrank; below 0 where the other episodes of their
            shards take more as loose files.
    """

    episodes: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        return asdict(self)


def purge(path: Path | str, calls: SystemCalls = POSIX) -> Purge:
    """Remove the files of tombstoned episodes, those that `repair` set aside included.

    The other episodes of a shard that held some become loose files; `compact` bundles them again.
    Stopped at any point, every other episode is still there, and running it again finishes the
    work. The tombstones stay, so that a resumed `collect` does not make the episodes again.

    Args:
        path: the dataset folder.
        calls: the operating system's calls.

    Returns:
        What was removed; nothing the second time.

    Raises:
        NotADatasetError, FormatVersionError, DamagedFileError: as `Dataset`; or a shard to be
            purged is damaged.
        InvalidInputError: the folder cannot be written to, or another process compacts, purges or
            repairs it.
        DiskError: the disk refused.
    """
    root = Path(path).absolute()
    load_identity(root)
    left_out = tombstoned(load_overlays(root))
    require_writable(root)
    with alone(root):
        return _purge(root, left_out, calls)


def _purge(root: Path, left_out: Set[str], calls: SystemCalls) -> Purge:
    sweep_dataset(root, calls)
    listing = list_dataset(root, left_out)
    shards = _shards_with(left_out, root, listing)
    doomed = _loose_files(root, left_out)
    removed = {name[2] for name in map(_episode_name, doomed) if name}

    kept = {}
    for record in listing.known:
        if record.episode_id not in left_out and record.file not in shards:
            kept[record.file, record.group] = record

    before = {record.file for record in listing.known}
    loosened: dict[str, int] = {}  # new file -> bytes
    for file, held in shards.items():
        doomed.append(root / file)
        staying = []
        for record in held:
            if record.episode_id in left_out:
                removed.add(record.episode_id[:16])
            else:
                staying.append(record)

        for record in _loosen(root, file, staying, calls):
            kept[record.file, record.group] = record
            if record.file not in before:
                loosened[record.file] = record.bytes

    size = sum(file.lstat().st_size for file in doomed) - sum(loosened.values())

    # Only what no manifest lists is removed: whoever is stopped leaves none behind that names
    # missing files.
    if shards or episode_ids(listing.manifest.records) & left_out:
        publish_manifest(root, kept.values(), calls)

    unlink_all(doomed, calls)
    return Purge(len(removed), size)


def _shards_with(
    left_out: Set[str], root: Path, listing: Listing
) -> dict[str, list[EpisodeRecord]]:
    """Return the shards that hold some of these episodes, each with all its records.

    Raises:
        DamagedFileError: one of them is damaged.
    """
    found = {}
    for file, held in by_file(listing.known).items():
        if not file.startswith(layout.SHARDS) or not episode_ids(held) & left_out:
            continue

        if file not in listing.damage:
            found[file] = held
        elif (root / file).exists():
            raise listing.damage[file]

    return found


def _loosen(
    root: Path, file: str, records: Sequence[EpisodeRecord], calls: SystemCalls
) -> list[EpisodeRecord]:
    """Publish episodes of a shard as loose files, read them back, compare, and return their records."""
    loose: list[EpisodeRecord] = []
    if not records:
        return loose
    make_folder(root / layout.EPISODES, calls)
    for name, data in unpack(root, file, records):
        publish(root / name, data, calls)  # an earlier purge may have made it
        loose.append(read_record(root, name))
    require_same(root / file, root, records, root, loose)
    return loose


def _loose_files(root: Path, left_out: Iterable[str]) -> list[Path]:
    """Return the files, whole or not, that are named as one of these episodes."""
    starts = {one[:16] for one in left_out}
    folders = [inner_folder(root, layout.EPISODES), inner_folder(root, layout.DAMAGED)]
    if folders[1]:
        folders[1] = inner_folder(folders[1], layout.EPISODES)
    found = []

    for folder in folders:
        for entry in folder.iterdir() if folder else ():
            name = _episode_name(entry)
            if name and name[2] in starts:
                found.append(entry)

    return sorted(found)


def _episode_name(file: Path) -> re.Match[str] | None:
    return layout.EPISODE_NAME.match(file.name)  # not to its end: `repair` may have added a number
