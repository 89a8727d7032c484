"""What can be done to a dataset, each with what must hold wherever it is stopped or refused a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fault_episodes import DESCRIPTION, assert_same, make_episode

from shopfloor.core import Episode
from shopfloor.datasets.edit import delete
from shopfloor.datasets.errors import NotADatasetError
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.store import EpisodeWriter, write_manifest

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
    """

    prepare: Callable[[Path], object]
    run: Callable[[Path], object]
    must: set[int]
    after: set[int]
    gone: frozenset[int] = frozenset()
    name: str = "data"
    others: tuple[tuple[str, frozenset[int]], ...] = ()


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


OPERATIONS = {
    "first commit": Operation(lambda root: None, lambda root: commit(root, 0), set(), {0}),
    "commit": Operation(lambda root: commit(root, 0), lambda root: commit(root, 1), {0}, {0, 1}),
    "first manifest": Operation(
        lambda root: commit(root, 0, 1), lambda root: write_manifest(root / "data"), {0, 1}, {0, 1}
    ),
    "next manifest": Operation(
        lambda root: (listed(root, 0), commit(root, 1)), lambda root: write_manifest(root / "data"), {0, 1}, {0, 1}
    ),
    "delete": Operation(
        lambda root: listed(root, 0, 1), lambda root: delete(root / "data", ids=[IDS[0]]), {1}, {1}, frozenset({0})
    ),
}


def check(operation: Operation, root: Path, *, finished: bool = False) -> None:
    """Every episode that must be there is read back, each once, and what else is there is whole."""
    for name, indices in operation.others:
        assert _whole(root / name) == indices
    try:
        found = _whole(root / operation.name)
    except NotADatasetError:
        assert not finished
        assert not operation.must
        return
    if finished:
        assert found == operation.after
    else:
        assert operation.must <= found <= operation.must | operation.after | operation.gone


def _whole(path: Path) -> set[int]:
    """Return which episodes a dataset holds, after reading all of them and checking every byte."""
    dataset = Dataset(path)
    indices = [IDS.index(record.episode_id) for record in dataset.records]
    assert len(indices) == len(set(indices))
    for position, index in enumerate(indices):
        assert_same(dataset.read(position), episode(index))
    dataset.close()
    assert dataset.verify() == []
    return set(indices)


def temporaries(root: Path) -> list[str]:
    """Return the leftovers in a folder, which no reader looks at."""
    return sorted(path.name for path in root.rglob("*.tmp"))
