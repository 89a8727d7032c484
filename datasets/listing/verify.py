"""Checks a dataset to the last byte and reports what is wrong, file by file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shopfloor.datasets.disk.errors import DamagedFileError, NotADatasetError
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.container import Container
from shopfloor.datasets.format.decode import EpisodeFile
from shopfloor.datasets.format.record import EpisodeRecord
from shopfloor.datasets.listing.folders import inner_folder, numbered
from shopfloor.datasets.listing.identity import load_identity
from shopfloor.datasets.listing.manifest import by_file, list_dataset, load_manifest
from shopfloor.datasets.listing.overlays import (
    load_overlays,
    overlay_files,
    read_overlay_file,
    tombstoned,
)
from shopfloor.errors import ShopfloorError


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
        return cls(str(path), str(error).removesuffix("."), "")


def verify(path: Path | str) -> list[Damage]:
    """Check every byte of a dataset: trailers, structure, checksums, values, manifests, overlays.

    Leftover temporaries and a manifest that is missing or behind its files are not damage.

    Args:
        path: the dataset folder.

    Returns:
        What is wrong, sorted by file; empty for a sound dataset.

    Raises:
        NotADatasetError: the folder is none.
    """
    root = Path(path).absolute()
    found: list[Damage] = []
    try:
        load_identity(root)
    except NotADatasetError:
        raise
    except ShopfloorError as error:
        found.append(Damage.of(root / layout.DATASET_FILE, error))

    for name in layout.FOLDERS:
        try:
            inner_folder(root, name)
        except DamagedFileError as error:  # each folder is judged by itself
            return [*found, Damage.of(root / name, error)]

    found += _damaged_json(root)
    listing = list_dataset(root, _left_out(root))
    for file, problem in listing.damage.items():
        found.append(Damage.of(root / file, problem))

    for file, records in by_file(listing.records).items():
        damage = _damaged_file(root, file, records)
        if damage:
            found.append(damage)
    # A manifest may have been met twice.
    return sorted(set(found), key=lambda damage: (damage.file, damage.problem))


def _left_out(root: Path) -> set[str]:
    try:
        return tombstoned(load_overlays(root))
    except ShopfloorError:  # reported by itself
        return set()


def _damaged_json(root: Path) -> list[Damage]:
    found = []
    for overlay in overlay_files(root):
        try:
            read_overlay_file(overlay)
        except ShopfloorError as error:  # each overlay is judged by itself
            found.append(Damage.of(overlay, error))

    for _, manifest in numbered(root, layout.MANIFESTS, layout.MANIFEST_NAME):
        try:
            load_manifest(manifest)
        except ShopfloorError as error:  # each manifest is judged by itself
            found.append(Damage.of(manifest, error))

    return found


def _damaged_file(root: Path, file: str, records: Sequence[EpisodeRecord]) -> Damage | None:
    path = root / file
    try:
        _check_file(path, records)
    except FileNotFoundError:
        return Damage.of(path, DamagedFileError(path, "it is missing"))
    except ShopfloorError as error:
        return Damage.of(path, error)
    return None


def _check_file(path: Path, records: Sequence[EpisodeRecord]) -> None:
    # From the disk: of bytes in memory HDF5 would hold a shard, and what it unpacks, several times.
    container, read = Container.open(path, whole=True)
    try:
        container.check_chunks(inflate=True)
        listed = {record.group for record in records}
        if listed != set(container.groups()):
            raise DamagedFileError(
                path, f"the manifest lists {len(listed)} of its {len(container.groups())} episodes"
            )

        for record in records:
            _check_episode(
                EpisodeFile(container, record.group), record, read.sha256, read.state.bytes
            )
    finally:
        container.close()


def _check_episode(file: EpisodeFile, record: EpisodeRecord, sha256: str, size: int) -> None:
    found = file.record(record.file, record.group, sha256, size).to_json()
    differing = [name for name, value in record.to_json().items() if found[name] != value]
    if differing:
        raise DamagedFileError(
            file.path, f"its {', '.join(differing)} differ from what the manifest says"
        )
    file.proven_episode()
