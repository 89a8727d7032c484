"""What can be done to a dataset, each with what must hold wherever it is stopped or refused a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fault_episodes import DESCRIPTION, assert_same, make_episode

from shopfloor.core import Episode, InvalidInputError
from shopfloor.datasets.disk.errors import NotADatasetError
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.compact import compact
from shopfloor.datasets.tools.copies import filter_episodes
from shopfloor.datasets.tools.edit import delete
from shopfloor.datasets.tools.merge import merge
from shopfloor.datasets.tools.purge import purge
from shopfloor.datasets.tools.repair import repair
from shopfloor.datasets.writer import EpisodeWriter, write_manifest

STEPS = (4, 2, 1)


def episode(index: int) -> Episode:
    """Return episode `index` of these tests."""
    return make_episode(index, STEPS[index % 3], image=4)


IDS = [episode(index).spec.episode_id for index in range(6)]


@dataclass(frozen=True)
class Operation:
    """One thing done to a folder of datasets, `root`.

    Attributes:
        prepare: makes what is there before.
        run: does it; running it again finishes what was cut short.
        must: indices of the episodes that every stop leaves readable.
        after: indices of the episodes that are there in the end.
        gone: indices that may still be there at a stop, but not in the end.
        name: the dataset in `root` that it changes.
        others: datasets in `root` that it leaves alone, and the episodes in them.
        damaged: whether something is damaged before.
        at_once: whether the dataset appears whole: with all episodes, or not at all.
        alike: whether its calls are refused in the ways of others, so that a few are enough.
    """

    prepare: Callable[[Path], object]
    run: Callable[[Path], object]
    must: set[int]
    after: set[int]
    gone: frozenset[int] = frozenset()
    name: str = "data"
    others: tuple[tuple[str, frozenset[int]], ...] = ()
    damaged: bool = False
    at_once: bool = False
    alike: bool = False


def commit(root: Path, *indices: int, name: str = "data") -> Path:
    """Commit episodes to a dataset in `root`."""
    writer = EpisodeWriter(root / name, DESCRIPTION, "none")
    for index in indices:
        writer.write(episode(index), index)
    return writer.path


def listed(root: Path, *indices: int, name: str = "data") -> Path:
    """Commit episodes to a dataset and write its manifest."""
    path = commit(root, *indices, name=name)
    write_manifest(path)
    return path


def _to_purge(root: Path) -> None:
    delete(listed(root, 0, 1, 2), ids=[IDS[0]])


def _to_compact_on(root: Path) -> None:
    """A shard, an episode that lies in it and beside it, a new one, and a deleted one."""
    path = listed(root, 0, 1)
    compact(path)
    commit(root, 1, 2, 3)
    delete(path, ids=[IDS[3]])


def _to_purge_a_shard(root: Path) -> None:
    path = listed(root, 0, 1, 2)
    compact(path)
    delete(path, ids=[IDS[0]])


def _to_repair(root: Path) -> None:
    path = listed(root, 0, 1)
    file = min(path.glob("episodes/*.h5"))
    file.write_bytes(file.read_bytes()[:-1])


def _to_merge(root: Path) -> None:
    listed(root, 0)
    commit(root, 1, name="more")


def _unless_there(out: Path, make: Callable[[], object]) -> None:
    """Make a new dataset; the second time it may be there."""
    try:
        make()
    except InvalidInputError:
        if not out.exists():
            raise


OPERATIONS = {
    "first commit": Operation(lambda root: None, lambda root: commit(root, 0), set(), {0}),
    "commit": Operation(lambda root: commit(root, 0), lambda root: commit(root, 1), {0}, {0, 1}),
    "first manifest": Operation(
        lambda root: commit(root, 0, 1), lambda root: write_manifest(root / "data"), {0, 1}, {0, 1}
    ),
    "next manifest": Operation(
        lambda root: (listed(root, 0), commit(root, 1)),
        lambda root: write_manifest(root / "data"),
        {0, 1},
        {0, 1},
    ),
    "delete": Operation(
        lambda root: listed(root, 0, 1),
        lambda root: delete(root / "data", ids=[IDS[0]]),
        {1},
        {1},
        frozenset({0}),
    ),
    "purge": Operation(_to_purge, lambda root: purge(root / "data"), {1, 2}, {1, 2}),
    "purge of a shard": Operation(
        _to_purge_a_shard, lambda root: purge(root / "data"), {1, 2}, {1, 2}, alike=True
    ),
    "compact": Operation(
        lambda root: listed(root, 0, 1, 2),
        lambda root: compact(root / "data", shard_bytes=140_000),
        {0, 1, 2},
        {0, 1, 2},
        alike=True,
    ),
    "compact without a manifest": Operation(
        lambda root: commit(root, 0, 1),
        lambda root: compact(root / "data", layout="train"),
        {0, 1},
        {0, 1},
        alike=True,
    ),
    "compact once more": Operation(
        _to_compact_on, lambda root: compact(root / "data"), {0, 1, 2}, {0, 1, 2}
    ),
    "compact out": Operation(
        lambda root: listed(root, 0, 1),
        lambda root: _unless_there(
            root / "flat", lambda: compact(root / "data", layout="train", out=root / "flat")
        ),
        set(),
        {0, 1},
        name="flat",
        others=(("data", frozenset({0, 1})),),
        at_once=True,
        alike=True,
    ),
    "repair": Operation(_to_repair, lambda root: repair(root / "data"), {1}, {1}, damaged=True),
    "merge": Operation(
        _to_merge,
        lambda root: _unless_there(
            root / "all", lambda: merge([root / "data", root / "more"], root / "all")
        ),
        set(),
        {0, 1},
        name="all",
        others=(("data", frozenset({0})), ("more", frozenset({1}))),
        at_once=True,
    ),
    "filter": Operation(
        lambda root: listed(root, 0, 1, 2),
        lambda root: _unless_there(
            root / "some", lambda: filter_episodes(root / "data", "seed > 0", out=root / "some")
        ),
        set(),
        {1, 2},
        name="some",
        others=(("data", frozenset({0, 1, 2})),),
        at_once=True,
    ),
}


def check(operation: Operation, root: Path, *, finished: bool = False) -> None:
    """Every episode that must be there is read back, each once, and what else is there is whole."""
    for name, indices in operation.others:
        assert _whole(root / name) == indices
    try:
        found = _whole(root / operation.name, damaged=operation.damaged and not finished)
    except NotADatasetError:
        assert not finished
        assert not operation.must
        return
    if finished or operation.at_once:
        assert found == operation.after
    else:
        assert operation.must <= found <= operation.must | operation.after | operation.gone


def _whole(path: Path, *, damaged: bool = False) -> set[int]:
    """Return which episodes a dataset holds, after reading all of them and checking every byte."""
    dataset = Dataset(path)
    indices = [IDS.index(record.episode_id) for record in dataset.records]
    assert len(indices) == len(set(indices))
    for position, index in enumerate(indices):
        assert_same(dataset.read(position), episode(index))
    dataset.close()
    assert damaged or dataset.verify() == []
    return set(indices)


def temporaries(root: Path) -> list[str]:
    """Return the leftovers in a folder, which no reader looks at."""
    return sorted(path.name for path in root.rglob("*.tmp"))
