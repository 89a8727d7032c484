"""Compaction: loose files become shards; each goes after its episodes were read back and compared."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shopfloor.core import InvalidInputError, UnknownNameError
from shopfloor.datasets.disk.errors import DamagedFileError
from shopfloor.datasets.disk.files import (
    POSIX,
    SystemCalls,
    alone,
    make_folder,
    publish,
    read_bytes,
    require_writable,
    unlink_all,
)
from shopfloor.datasets.disk.staging import staged_folder
from shopfloor.datasets.format.container import Container
from shopfloor.datasets.format.decode import EpisodeFile, read_records
from shopfloor.datasets.format.digest import episode_digest
from shopfloor.datasets.format.layout import (
    DATASET_FILE,
    EPISODES,
    FOLDERS,
    MANIFEST_NAME,
    MANIFESTS,
    MAX_SHARDS,
    SHARD_LAYOUTS,
    SHARDS,
    shard_file,
)
from shopfloor.datasets.format.record import EpisodeRecord, by_id
from shopfloor.datasets.listing.folders import data_files, numbered, sweep_dataset
from shopfloor.datasets.listing.manifest import Listing, by_file, list_dataset, publish_manifest
from shopfloor.datasets.listing.overlays import load_overlays, tombstoned
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.shards import ShardBuilder
from shopfloor.datasets.tools.transfer import (
    Digests,
    carry_overlays,
    refuse_damage,
    refuse_inside,
    require_same,
)

SHARD_BYTES = 256 << 20
_SHARD_NUMBER = re.compile(rb"shards/shard-(\d{1,12})\.h5")


@dataclass(frozen=True)
class Compaction:
    """What a compaction did.

    Attributes:
        episodes: how many went from loose files, or with `out` from any, into shards.
        shards: number of shards that were made.
        bytes_before: size of the dataset's data files before.
        bytes_after: size of the data files of the dataset, or of the new one, after.
    """

    episodes: int
    shards: int
    bytes_before: int
    bytes_after: int

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        return asdict(self)


def compact(
    path: Path | str,
    *,
    layout: str = "sealed",
    out: Path | str | None = None,
    shard_bytes: int = SHARD_BYTES,
    calls: SystemCalls = POSIX,
) -> Compaction:
    """Bundle episodes into shards.

    In place, the loose files that overlays do not leave out go into new shards; shards that are
    there stay. A shard is published, read back and compared with its sources episode by episode,
    then a manifest lists it, then its sources go, then comes the next shard. Stopped at any point,
    every episode is still there, counted once, and running it again finishes the work.

    With `out` a new dataset is made, all of shards; the source stays as it is.

    Args:
        path: the dataset folder.
        layout: "sealed" (chunks, compression and checksums as they were; opens in robomimic) or
            "train" (uncompressed, contiguous arrays, several times as large: the fastest to draw
            random windows from).
        out: folder of a new dataset.
        shard_bytes: most bytes of episodes in a shard; one that is larger has a shard of its own.
            Building a shard takes three times this much memory.
        calls: the operating system's calls.

    Returns:
        What was done.

    Raises:
        NotADatasetError, FormatVersionError: as `Dataset`. UnknownNameError: the layout.
        DamagedFileError: a file is damaged, or two files hold different episodes of one id; nothing
            was removed.
        InvalidInputError: the place cannot be written to, or another process compacts, purges or
            repairs it; `out` exists or lies in the dataset, or would be empty.
        DiskError: the disk refused. InfrastructureError: not enough memory.
    """
    if layout not in SHARD_LAYOUTS:
        raise UnknownNameError("layout", layout, SHARD_LAYOUTS)
    if shard_bytes < 1:
        raise InvalidInputError(f"shard_bytes is {shard_bytes}; expected at least 1.")

    dataset = Dataset(path)
    if out is None:
        refuse_damage(dataset, "Nothing was bundled.")
        require_writable(dataset.path)
        with alone(dataset.path):
            return _in_place(dataset.path, layout, shard_bytes, calls)

    return _anew(dataset, Path(out), layout, shard_bytes, calls)


def _in_place(root: Path, kind: str, shard_bytes: int, calls: SystemCalls) -> Compaction:
    left_out = tombstoned(load_overlays(root))
    sweep_dataset(root, calls)
    before = _size(root)
    listing = list_dataset(root, left_out)
    loose = []
    for record in listing.records:
        if record.file.startswith(EPISODES) and record.episode_id not in left_out:
            loose.append(record)

    done = _done_before(root, listing, loose)
    fresh = []
    doubled = set()
    for record in loose:
        if record.episode_id in done:
            doubled.add(record.file)
        else:
            fresh.append(record)

    known = list(listing.known)
    files = 0
    if doubled:
        known = _replaced(root, known, doubled, [], calls)

    if fresh:
        make_folder(root / SHARDS, calls)
    for data, sources in _build(root, fresh, kind, shard_bytes):
        name = _publish_next(root, data, calls)
        made = _proven(root, sources, root, name)
        known = _replaced(root, known, {record.file for record in sources}, made, calls)
        files += 1

    return Compaction(len(loose), files, before, _size(root))


def _replaced(
    root: Path,
    known: Sequence[EpisodeRecord],
    gone: set[str],
    made: Sequence[EpisodeRecord],
    calls: SystemCalls,
) -> list[EpisodeRecord]:
    """List episodes `made` in place of those in files `gone`, remove these, and return the list."""
    listed = [*(record for record in known if record.file not in gone), *made]
    publish_manifest(root, listed, calls)
    unlink_all([root / file for file in sorted(gone)], calls)
    return listed


def _done_before(root: Path, listing: Listing, loose: Sequence[EpisodeRecord]) -> set[str]:
    """Return the ids of loose episodes that a shard holds, too.

    There are some where a compaction or a collector was stopped.

    Raises:
        DamagedFileError: two files hold different episodes of one id.
    """
    bundled = by_id(record for record in listing.records if record.file.startswith(SHARDS))
    twice = []
    held = {}
    for record in loose:
        if record.episode_id in bundled:
            twice.append(record)
            held[record.episode_id] = bundled[record.episode_id]

    digests = Digests()
    one = dict(digests.pairs(root, twice))
    other = dict(digests.pairs(root, held.values()))

    for record in twice:
        if one[record.episode_id] != other[record.episode_id]:
            raise DamagedFileError(
                root / record.file,
                f"it holds another episode than {held[record.episode_id].file} does under the "
                "same episode_id",
                "Nothing was removed. Keep the one you trust and move the other out of the "
                "dataset.",
            )

    return set(one)


def _build(
    root: Path, records: Iterable[EpisodeRecord], kind: str, shard_bytes: int
) -> Iterator[tuple[bytes, list[EpisodeRecord]]]:
    """Yield shards' bytes and the records of the episodes in them, in order of their groups."""
    builder: ShardBuilder | None = None
    sources: list[EpisodeRecord] = []
    # Cell after cell: a shard holds one environment's episodes, and in order of index those of
    # merged cells alternate.
    records = sorted(records, key=lambda record: record.cell)

    try:
        for file, held in by_file(records).items():
            with contextlib.closing(Container.open(root / file)[0]) as container:
                for record in held:
                    if builder and not builder.fits(container, record, shard_bytes):
                        yield builder.finish(), sources
                        builder, sources = None, []

                    builder = builder or ShardBuilder(kind, container.attributes("data"))
                    builder.add(
                        container,
                        record,
                        episode_digest(EpisodeFile(container, record.group).episode()),
                    )
                    sources.append(record)

        if builder:
            yield builder.finish(), sources
    finally:
        if builder:
            builder.close()


def _publish_next(root: Path, data: bytes, calls: SystemCalls) -> str:
    taken: set[int] = set()
    for name in data_files(root):
        taken.update(map(int, _SHARD_NUMBER.findall(name.encode())))

    # Nor a name of a shard that was purged: readers and older manifests would take the new one for
    # it.
    for _, manifest in numbered(root, MANIFESTS, MANIFEST_NAME):
        with contextlib.suppress(FileNotFoundError):
            taken.update(map(int, _SHARD_NUMBER.findall(read_bytes(manifest))))

    for number in range(max(taken, default=-1) + 1, MAX_SHARDS):
        name = shard_file(number)
        if publish(root / name, data, calls):
            return name

    raise InvalidInputError(
        f"{root} has a shard, or once had, of number {max(taken)}; no higher one can be made."
    )


def _proven(
    root: Path, sources: Sequence[EpisodeRecord], target: Path, name: str
) -> list[EpisodeRecord]:
    """Read a new shard back, compare it with its sources, and return its records."""
    records = read_records(target, name)
    require_same(target / name, root, sources, target, records)
    return records


def _anew(
    dataset: Dataset, out: Path, kind: str, shard_bytes: int, calls: SystemCalls
) -> Compaction:
    refuse_damage(dataset)
    refuse_inside(out, [dataset.path])
    root = dataset.path

    if not len(dataset):
        raise InvalidInputError(
            f"{root} has no episodes to bundle; `data info` says what it holds."
        )

    held = by_id(list_dataset(root).records)
    records = [held[record.episode_id] for record in dataset.records]
    made: list[EpisodeRecord] = []
    files = 0

    with staged_folder(out, calls) as target:
        (target / DATASET_FILE).write_bytes(read_bytes(root / DATASET_FILE))
        for name in FOLDERS:
            (target / name).mkdir()

        for data, sources in _build(root, records, kind, shard_bytes):
            name = shard_file(files)
            (target / name).write_bytes(data)
            made += _proven(root, sources, target, name)
            files += 1

        carry_overlays(load_overlays(root), records, target)
        publish_manifest(target, made, calls)
        after = _size(target)

    return Compaction(len(made), files, _size(root), after)


def _size(root: Path) -> int:
    return sum(max(size, 0) for size in data_files(root).values())
