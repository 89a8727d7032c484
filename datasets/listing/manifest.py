"""Manifests: lists of a dataset's episodes, so that opening it opens none; rebuilt from the files at will."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shopfloor.datasets.disk.errors import DamagedFileError, FormatVersionError
from shopfloor.datasets.disk.files import POSIX, SystemCalls, make_folder, publish
from shopfloor.datasets.disk.json_file import load_json
from shopfloor.datasets.disk.strict_json import json_digest
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.decode import read_records
from shopfloor.datasets.format.record import EpisodeRecord, episode_ids
from shopfloor.datasets.listing.folders import data_files, numbered
from shopfloor.errors import DiskError, ShopfloorError

_TRIES = 100
HEAD_DIGEST = "head_sha256"
_ADVICE = "Delete it: it is rebuilt from the episodes by the next run."


@dataclass(frozen=True)
class Manifest:
    """One manifest.

    Attributes:
        number: the highest whole one rules.
        path: its file; None for the empty one of a folder without any.
        records: its episodes, sorted by file and group.
    """

    number: int = 0
    path: Path | None = None
    records: tuple[EpisodeRecord, ...] = ()


@dataclass(frozen=True)
class Listing:
    """What lies in a dataset folder.

    Attributes:
        records: the episodes that are there, sorted by index and file.
        manifest: the manifest that rules.
        loose: names of files that the manifest does not have as they are.
        damage: what is wrong, by file name inside the folder.
    """

    records: tuple[EpisodeRecord, ...]
    manifest: Manifest
    loose: tuple[str, ...]
    damage: Mapping[str, ShopfloorError] = field(default_factory=dict)

    @property
    def known(self) -> tuple[EpisodeRecord, ...]:
        """The episodes that are there, and listed ones whose files are missing or damaged."""
        kept = [record for record in self.manifest.records if record.file in self.damage]
        return in_order((*self.records, *kept))


def load_manifest(path: Path) -> Manifest:
    """Read one manifest; raises DamagedFileError unless it is whole."""
    match = layout.MANIFEST_NAME.fullmatch(path.name)
    data = load_json(path)
    # Files of the first releases have none. Without it a flipped bit of a version would stop all
    # reading.
    if HEAD_DIGEST in data and data[HEAD_DIGEST] != _head_digest(data):
        raise DamagedFileError(
            path, f"what it says of itself does not match its {HEAD_DIGEST}", _ADVICE
        )

    if data.get("format_version") != layout.FORMAT_VERSION:
        raise FormatVersionError(
            f"{path} has format version {data.get('format_version')!r}; this release reads version "
            f"{layout.FORMAT_VERSION}. Install a newer shopfloor."
        )

    entries = data.get("episodes")
    if not isinstance(entries, list) or data.get("content_sha256") != json_digest(entries):
        raise DamagedFileError(
            path, "its list of episodes does not match its content_sha256", _ADVICE
        )

    try:
        records = tuple(map(EpisodeRecord.from_json, entries))
    except ValueError as error:
        raise DamagedFileError(path, str(error), _ADVICE) from None
    return Manifest(int(match[1]) if match else 0, path, records)


def ruling_manifest(root: Path) -> tuple[Manifest, dict[str, ShopfloorError]]:
    """Return the highest whole manifest, an empty one without any, and the damage of higher ones."""
    damage: dict[str, ShopfloorError] = {}
    for _, path in reversed(numbered(root, layout.MANIFESTS, layout.MANIFEST_NAME)):
        try:
            return load_manifest(path), damage
        except FileNotFoundError:  # the one before it may be whole
            continue
        except DamagedFileError as error:
            damage[f"{layout.MANIFESTS}/{path.name}"] = error
    return Manifest(), damage


def list_dataset(root: Path, left_out: Collection[str] = ()) -> Listing:
    """Return a folder's episodes: those of the manifest that are there, and those not listed yet.

    Only files of the latter are opened. Nothing is raised for a damaged episode: it is in `damage`. A file
    that the manifest lists and that is gone is no damage where other whole files hold its episodes,
    or they were left out (and purged).

    Args:
        root: the dataset folder.
        left_out: ids of the episodes that overlays leave out.
    """
    manifest, damage = ruling_manifest(root)
    files = data_files(root)
    known = by_file(manifest.records)
    records: list[EpisodeRecord] = []

    # A file of another size than the listed one is read like one that is not listed.
    unread = set(files)
    for file, entries in known.items():
        if file in files and files[file] == entries[0].bytes:
            records += entries
            unread.remove(file)

    loose = sorted(unread)
    for file in loose:
        if not layout.DATA_FILE.fullmatch(file):
            damage[file] = DamagedFileError(
                root / file, "its name is not one of a committed file, so it is not read"
            )
            continue

        try:
            found = read_records(root, file)
        except FileNotFoundError:
            continue
        except ShopfloorError as error:
            damage[file] = error
            continue

        if file in known:
            problem = f"it is not the file of the manifest, sha256 {known[file][0].sha256}"
            damage[file] = DamagedFileError(root / file, problem)
        else:
            records += found

    accounted = episode_ids(records).union(left_out)
    for file in known.keys() - files.keys():
        if not episode_ids(known[file]) <= accounted:
            damage[file] = DamagedFileError(
                root / file, "it is missing, though the manifest lists it"
            )

    return Listing(in_order(records), manifest, tuple(loose), damage)


def in_order(records: Iterable[EpisodeRecord]) -> tuple[EpisodeRecord, ...]:
    """Sort records by index and id: in whatever files they lie, their order is the same."""
    return tuple(sorted(records, key=lambda record: (record.index, record.episode_id, record.file)))


def by_file(records: Iterable[EpisodeRecord]) -> dict[str, list[EpisodeRecord]]:
    """Return file -> its episodes, in order."""
    files: dict[str, list[EpisodeRecord]] = {}
    for record in records:
        files.setdefault(record.file, []).append(record)
    return files


def write_manifest(path: Path | str, calls: SystemCalls = POSIX) -> Path:
    """Bring a dataset's manifest up to date: read the files it does not list, publish the next one.

    Episodes of the ruling manifest whose files are missing or damaged stay listed, so that nothing
    is forgotten; other damaged files are left out.

    Args:
        path: the dataset folder.
        calls: the operating system's calls.

    Returns:
        The manifest that rules now (the old one if nothing changed).

    Raises:
        DiskError: it cannot be written.
    """
    root = Path(path)
    make_folder(root / layout.MANIFESTS, calls)
    for _ in range(_TRIES):
        listing = list_dataset(root)
        current = listing.manifest
        if current.path and current.records == listing.known:
            return current.path

        published = _publish_next(root, listing.known, calls)
        if published:
            return published

    raise _crowded(root)


def publish_manifest(
    root: Path, records: Iterable[EpisodeRecord], calls: SystemCalls = POSIX
) -> Path:
    """List exactly these episodes in the next manifest, whatever earlier ones list.

    Args:
        root: the dataset folder.
        records: records of whole episodes.
        calls: the operating system's calls.

    Returns:
        The manifest that rules now (the old one if it is equal).

    Raises:
        DiskError: it cannot be written.
    """
    wanted = in_order(records)
    make_folder(root / layout.MANIFESTS, calls)
    for _ in range(_TRIES):
        current, _ = ruling_manifest(root)
        if current.path and current.records == wanted:
            return current.path

        published = _publish_next(root, wanted, calls)
        if published:
            return published

    raise _crowded(root)


def _publish_next(root: Path, records: Iterable[EpisodeRecord], calls: SystemCalls) -> Path | None:
    """Publish the manifest after the highest; None if another process took its number meanwhile."""
    taken = numbered(root, layout.MANIFESTS, layout.MANIFEST_NAME)
    number = taken[-1][0] + 1 if taken else 1
    target = root / layout.MANIFESTS / f"manifest-{number:08d}.json"
    return target if publish(target, _document(number, records), calls) else None


def _crowded(root: Path) -> DiskError:
    return DiskError(
        f"Other processes keep writing manifests to {root}; run this again when they have ended."
    )


def _head_digest(document: Mapping[str, object]) -> str:
    names = ("schema_version", "format_version", "number")
    return json_digest({name: document.get(name) for name in names})


def _document(number: int, records: Iterable[EpisodeRecord]) -> bytes:
    """Return a manifest's text, one episode a line."""
    entries = [record.to_json() for record in records]
    head = {
        "schema_version": layout.SCHEMA_VERSION,
        "format_version": layout.FORMAT_VERSION,
        "number": number,
        "content_sha256": json_digest(entries),
    }

    head[HEAD_DIGEST] = _head_digest(head)
    lines = ",\n".join(map(json.dumps, entries))
    return f'{json.dumps(head)[:-1]}, "episodes": [\n{lines}\n]}}\n'.encode()
