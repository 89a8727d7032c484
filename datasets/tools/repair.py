"""Repairs a dataset: whole files are kept and listed, damaged ones set aside, never deleted."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shopfloor.datasets.disk.errors import (
    DamagedFileError,
    FormatVersionError,
    NotADatasetError,
    disk_error,
)
from shopfloor.datasets.disk.files import (
    POSIX,
    SystemCalls,
    alone,
    make_folder,
    require_writable,
    settle,
)
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.container import Container
from shopfloor.datasets.format.decode import EpisodeFile
from shopfloor.datasets.format.record import EpisodeRecord, episode_ids
from shopfloor.datasets.listing.folders import data_files, numbered, sweep_dataset
from shopfloor.datasets.listing.identity import load_identity
from shopfloor.datasets.listing.manifest import load_manifest, publish_manifest
from shopfloor.datasets.listing.overlays import load_overlays, tombstoned

_NO_IDENTITY = (
    "It says what the numbers in the episodes mean (names, units, site, licence), which they do "
    "not say themselves, so it cannot be made from them. Restore it from a copy; or run the "
    "command that collected the dataset again with another --out and --episodes 1, and copy the "
    "dataset.json from there. Nothing was changed"
)


@dataclass(frozen=True)
class SetAside:
    """A file that was moved out of the way.

    Attributes:
        file: its name inside the dataset before.
        place: its name inside the dataset now.
        problem: what is wrong with it.
    """

    file: str
    place: str
    problem: str


@dataclass(frozen=True)
class Repair:
    """What a repair did, or would do.

    Attributes:
        set_aside: damaged files, now in `damaged/`.
        lost: ids of the episodes that no whole file holds any more, those left out by overlays not
            counted; the first 16 digits of an id where only the file's name tells it.
        episodes: number of whole episodes.
        manifest: the manifest that lists them; None in a dry run.
    """

    set_aside: tuple[SetAside, ...]
    lost: tuple[str, ...]
    episodes: int
    manifest: Path | None

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        return {**asdict(self), "manifest": str(self.manifest) if self.manifest else None}


def repair(path: Path | str, *, dry_run: bool = False, calls: SystemCalls = POSIX) -> Repair:
    """Set damaged files aside and list the whole ones in a new manifest; if killed, run it again.

    Every byte of every file is checked. Only damage counts: a file that cannot be read now
    (permissions, memory, open files) or that a newer release wrote stops the repair.

    Args:
        path: the dataset folder.
        dry_run: whether only to report what would be done.
        calls: the operating system's calls.

    Returns:
        What was set aside, what is lost, what is whole.

    Raises:
        NotADatasetError: the folder is none.
        DamagedFileError: `dataset.json` or an overlay is damaged, whose content cannot be made from
            the episodes.
        FormatVersionError: something here is of a later version.
        InvalidInputError: the folder cannot be written to, or another process compacts, purges or
            repairs it.
        DiskError: the disk refused; what was done so far holds.
    """
    root = Path(path).absolute()
    _check_identity(root)
    left_out = tombstoned(load_overlays(root))
    if dry_run:
        return _repair(root, left_out, True, calls)

    require_writable(root)
    with alone(root):
        sweep_dataset(root, calls)
        return _repair(root, left_out, False, calls)


def _repair(root: Path, left_out: set[str], dry_run: bool, calls: SystemCalls) -> Repair:
    listed, damaged = _manifests(root)
    whole: list[EpisodeRecord] = []
    for file in sorted(data_files(root)):
        try:
            whole += _whole_episodes(root, file)
        except FileNotFoundError:  # swept by another process
            continue
        except DamagedFileError as error:
            damaged[file] = error

    found = episode_ids(whole)
    known = found | left_out
    lost = (listed - known) | _named_only(damaged, known | listed)
    aside = []
    for file, damage in damaged.items():
        aside.append(_set_aside(root, file, damage.problem, dry_run, calls))
    manifest = None if dry_run else publish_manifest(root, whole, calls)

    return Repair(tuple(aside), tuple(sorted(lost)), len(found), manifest)


def _check_identity(root: Path) -> None:
    try:
        load_identity(root)
    except NotADatasetError:
        identity = root / layout.DATASET_FILE
        count = (
            sum(layout.DATA_FILE.fullmatch(file) is not None for file in data_files(root))
            if root.is_dir()
            else 0
        )

        if not count or identity.exists():
            raise

        raise DamagedFileError(
            identity, f"it is missing, beside {count} files of episodes", _NO_IDENTITY
        ) from None
    except FormatVersionError:
        raise
    except DamagedFileError as error:
        raise type(error)(error.file, error.problem, _NO_IDENTITY) from None


def _manifests(root: Path) -> tuple[set[str], dict[str, DamagedFileError]]:
    """Return the ids that the ruling manifest lists, and what is wrong with which manifests."""
    listed: set[str] | None = None
    damaged: dict[str, DamagedFileError] = {}
    for _, path in reversed(numbered(root, layout.MANIFESTS, layout.MANIFEST_NAME)):
        try:
            manifest = load_manifest(path)
        except DamagedFileError as error:  # each manifest is judged by itself
            damaged[f"{layout.MANIFESTS}/{path.name}"] = error
        else:
            listed = episode_ids(manifest.records) if listed is None else listed

    return listed or set(), damaged


def _whole_episodes(root: Path, file: str) -> list[EpisodeRecord]:
    """Check a file to the last byte and return its episodes' records."""
    path = root / file
    if not layout.DATA_FILE.fullmatch(file):
        raise DamagedFileError(path, "its name is not one of a committed file")

    container, read = Container.open(path, whole=True)
    try:
        container.check_chunks(inflate=True)
        groups = container.groups() if file.startswith(layout.SHARDS) else ["demo_0"]
        records = []

        for group in groups:
            episode = EpisodeFile(container, group)
            episode.proven_episode()
            records.append(episode.record(file, group, read.sha256, read.state.bytes))
        return records
    finally:
        container.close()


def _named_only(damaged: Iterable[str], known: set[str]) -> set[str]:
    """Return the beginnings of unknown ids that damaged files have in their names."""
    starts = {one[:16] for one in known}
    found = set()
    for file in damaged:
        name = layout.EPISODE_NAME.fullmatch(Path(file).name)
        if name and name[2] not in starts:
            found.add(name[2])
    return found


def _set_aside(root: Path, file: str, problem: str, dry_run: bool, calls: SystemCalls) -> SetAside:
    """Move a file to the same place below `damaged/`, under a name that is free."""
    source = root / file
    number, place = 0, root / layout.DAMAGED / file
    if dry_run:
        return SetAside(file, place.relative_to(root).as_posix(), problem)

    make_folder(place.parent, calls)
    try:
        while not _moved(source, place, calls):
            number += 1
            place = (root / layout.DAMAGED / file).with_name(f"{source.name}.{number}")
    except OSError as error:
        raise disk_error(place, error) from error

    for folder in (place.parent, source.parent):
        settle(folder, calls)
    return SetAside(file, place.relative_to(root).as_posix(), problem)


def _moved(source: Path, place: Path, calls: SystemCalls) -> bool:
    """Rename without replacing; False where the name is taken."""
    try:
        calls.rename_noreplace(source, place)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise

        try:  # a file system that cannot rename so
            calls.link(source, place)
        except FileExistsError:
            return False
        calls.unlink(source)

    return True
