"""Carries episodes into a new dataset: files byte for byte, each checked against its recorded hash."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from shopfloor.core import InvalidInputError
from shopfloor.datasets.disk.errors import DamagedFileError, read_error
from shopfloor.datasets.disk.files import open_regular, read_bytes
from shopfloor.datasets.disk.strict_json import parse_json
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.container import Container
from shopfloor.datasets.format.decode import EpisodeFile
from shopfloor.datasets.format.digest import episode_digest
from shopfloor.datasets.format.encode import Provenance, encode_episode
from shopfloor.datasets.format.hdf5_objects import attribute
from shopfloor.datasets.format.record import EpisodeRecord
from shopfloor.datasets.listing.manifest import by_file, list_dataset, write_manifest
from shopfloor.datasets.listing.overlays import Change, append_overlay, load_overlays
from shopfloor.datasets.reader import Dataset

_BLOCK = 1 << 22
Records: TypeAlias = list[EpisodeRecord]
# What an episode is and where: two records with equal content lie in files of equal bytes.
Content: TypeAlias = tuple[str, str, str]


def refuse_damage(
    dataset: Dataset, why: str = "A copy would hide the loss, so none is made."
) -> None:
    """Raise DamagedFileError, with the reason `why`, if anything is damaged."""
    if dataset.damage:
        first, *others = dataset.damage
        more = f" ({len(others)} more files are damaged, too)" if others else ""
        raise DamagedFileError(
            first.file,
            first.problem + more,
            f"{why} `data repair {dataset.path}` sets damaged files aside; then run this again.",
        )


def refuse_inside(out: Path, roots: Iterable[Path]) -> None:
    """Raise InvalidInputError if a result would lie in one of the datasets it is made of."""
    place = out.absolute().resolve()
    for root in roots:
        if root.resolve() in (place, *place.parents):
            raise InvalidInputError(
                f"The result {out} would lie in the source {root}; choose a folder beside it."
            )


def copy_records(
    root: Path, chosen: Sequence[EpisodeRecord], target: Path, numbers: Iterator[int] | None = None
) -> None:
    """Copy episodes into the folders of a new dataset.

    Loose files and shards of which every episode goes are copied byte for byte; of other shards the
    episodes that go become loose files. At most one episode is held in memory.

    Args:
        root: the dataset they are in.
        chosen: their records there.
        target: folder of the new dataset, still private to this process.
        numbers: numbers for the new shards.
    """
    numbers = numbers or itertools.count()
    held = by_file(list_dataset(root).records)
    for name in (layout.EPISODES, layout.SHARDS):
        (target / name).mkdir(exist_ok=True)

    for file, records in by_file(chosen).items():
        if file.startswith(layout.EPISODES):
            copy_file(root / file, target / file, records[0].sha256)
            continue

        if len(records) == len(held[file]):
            copy_file(root / file, target / layout.shard_file(next(numbers)), records[0].sha256)
        else:
            for name, data in unpack(root, file, records):
                (target / name).write_bytes(data)


def unpack(root: Path, file: str, records: Iterable[EpisodeRecord]) -> Iterator[tuple[str, bytes]]:
    """Yield episodes of a shard as loose files: name inside the dataset, and bytes.

    The files have all attributes that the shard has.
    """
    container, verified = Container.open(root / file)
    # Opened again, it does not hold on to everything that was looked at: HDF5 would go through all
    # of it each time that another file is closed, and one is made of every episode here.
    container.close()
    container, _ = Container.open(root / file, verified)

    try:
        about = container.attributes("data")
        for record in records:
            held = EpisodeFile(container, record.group)
            data = encode_episode(
                held.episode(),
                env_args=_parsed(container, about),
                provenance=Provenance(**{name: held.fact(name) for name in layout.PROVENANCE}),
                action_convention=attribute(about, "action_convention", str, container.path),
            )
            yield layout.episode_file(record.index, record.episode_id), data
    finally:
        container.close()


def _parsed(container: Container, about: Mapping[str, int | str]) -> Any:  # noqa: ANN401  # JSON
    try:
        return parse_json(attribute(about, "env_args", str, container.path))
    except ValueError as error:
        raise DamagedFileError(
            container.path, f"its env_args are not valid JSON ({error})"
        ) from None


def copy_file(source: Path, target: Path, sha256: str) -> None:
    """Copy a data file block by block; raises DamagedFileError unless it has the recorded hash."""
    hasher = hashlib.sha256()
    with open_regular(source) as fd, target.open("xb") as out:
        while True:
            try:
                block = os.read(fd, _BLOCK)
            except OSError as error:
                raise read_error(source, error) from error

            if not block:
                break

            hasher.update(block)
            out.write(block)

    if hasher.hexdigest() != sha256:
        raise DamagedFileError(source, f"its SHA-256 is not the {sha256} that it had")


class Digests:
    """Digests of episodes, each taken once: equal bytes hold equal episodes."""

    def __init__(self) -> None:
        """Start with none."""
        self._known: dict[tuple[str, str], str] = {}

    def pairs(self, root: Path, records: Iterable[EpisodeRecord]) -> Iterator[tuple[str, str]]:
        """Yield the ids and digests of a dataset's episodes, one file open at a time."""
        for file, held in by_file(records).items():
            new = [record for record in held if (record.sha256, record.group) not in self._known]
            if new:
                container, _ = Container.open(root / file)
                try:
                    for record in new:
                        digest = episode_digest(EpisodeFile(container, record.group).episode())
                        self._known[record.sha256, record.group] = digest
                finally:
                    container.close()

            for record in held:
                yield record.episode_id, self._known[record.sha256, record.group]


def require_same(
    file: Path,
    root: Path,
    sources: Iterable[EpisodeRecord],
    target: Path,
    copies: Iterable[EpisodeRecord],
) -> None:
    """Raise DamagedFileError about `file` unless episodes of two folders are equal, bit for bit."""
    digests = Digests()
    before = set(digests.pairs(root, sources))
    after = set(digests.pairs(target, copies))
    differing = {episode_id for episode_id, _ in before ^ after}

    if differing:
        raise DamagedFileError(
            file,
            f"{len(differing)} of its episodes are not what they are in the files they were copied "
            "from or to",
            "Nothing was removed. Check the disk and the memory, then run this again.",
        )


def not_proven(target: Path, missing: int) -> DamagedFileError:
    """Return the error for a copy that does not hold what its sources hold."""
    return DamagedFileError(
        target,
        f"{missing} episodes in it are not what they are in the source",
        "It was not kept, and the source was not changed. Check the disk and the memory, then run "
        "this again.",
    )


def copy_dataset(
    dataset: Dataset,
    chosen: Sequence[EpisodeRecord],
    target: Path,
    overlays: Iterable[Path | str] = (),
) -> None:
    """Make a dataset of some of another's episodes, with the overlays' changes to them.

    Args:
        dataset: the other one.
        chosen: records of `dataset.records`.
        target: folder of the new dataset, still private to this process.
        overlays: overlay files that hold besides the dataset's own.
    """
    root = dataset.path
    (target / layout.DATASET_FILE).write_bytes(read_bytes(root / layout.DATASET_FILE))
    copy_records(root, chosen, target)
    carry_overlays(load_overlays(root, overlays), chosen, target)
    write_manifest(target)
    _prove(root, chosen, target)


def carry_overlays(
    changes: Mapping[str, Change], chosen: Iterable[EpisodeRecord], target: Path
) -> None:
    """Carry the changes of some episodes into the new dataset that holds them."""
    operations = []
    for record in chosen:
        if record.episode_id in changes:
            operations += changes[record.episode_id].operations(record.episode_id)
    if operations:
        append_overlay(target, operations)


def _prove(root: Path, chosen: Sequence[EpisodeRecord], target: Path) -> None:
    """Compare the copy, read back, with its source: by hashes of files, else by digests."""
    sources = {_content(record): record for record in chosen}
    copies = {_content(record): record for record in list_dataset(target).records}
    digests = Digests()
    one = set(digests.pairs(root, _without(sources, copies)))
    other = set(digests.pairs(target, _without(copies, sources)))
    if one != other:
        raise not_proven(target, len(one ^ other))


def _without(records: Mapping[Content, EpisodeRecord], others: Collection[Content]) -> Records:
    return [record for content, record in records.items() if content not in others]


def _content(record: EpisodeRecord) -> Content:
    return record.episode_id, record.sha256, record.group
