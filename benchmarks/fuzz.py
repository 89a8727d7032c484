"""Reading files that were changed at random, under trailers and digests that hold: only a refusal may come of it.

A trailer keeps damage from HDF5; whoever makes a file can make its trailer too. So the reader is
given committed files with a few bytes changed, most of them where HDF5 keeps its own structures,
and then a new trailer; and JSON files with characters changed and digests made anew. Children do
the reading, because a fault in HDF5 itself would end the process.
"""

from __future__ import annotations

import functools
import logging
import random
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.changes import change_image, change_json, structures
from benchmarks.children import Outcome, outcomes
from shopfloor.core import Episode, InvalidInputError, ShopfloorError
from shopfloor.datasets.disk.files import TRAILER_BYTES, with_trailer
from shopfloor.datasets.format.layout import SHARD_LAYOUTS
from shopfloor.datasets.listing.overlays import append_overlay
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.compact import compact
from shopfloor.datasets.writer import EpisodeWriter, write_manifest

ADDRESS_SPACE = 4 << 30
BATCH = 40  # changes of a data file before the next file's turn; an eighth of that of a JSON file
CODECS = ("blosc", "gzip", "none")
KINDS = (*CODECS, *SHARD_LAYOUTS)


@dataclass
class Fuzzed:
    """What the reader did with changed files.

    Attributes:
        files: how many it was given.
        read: how many it read as if they were whole (a change of a value is as good as another
            value).
        refused: how many it refused with an error of ours.
        crashed: how often its process died.
        hung: how often it took more than 20 s of CPU time, or waited for ten minutes.
        other: how often it raised anything else.
        memory: largest growth of a reading process, bytes.
        findings: what crashed, hung or raised anything else.
        seconds: wall time.
    """

    files: int = 0
    read: int = 0
    refused: int = 0
    crashed: int = 0
    hung: int = 0
    other: int = 0
    memory: int = 0
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def broken(self) -> int:
        """How often it did anything but read or refuse."""
        return self.crashed + self.hung + self.other


def fuzz(
    folder: Path,
    make_episode: Callable[[int], Episode],
    *,
    files: int = 0,
    seconds: float = 0.0,
    seed: int = 0,
    keep: Path | None = None,
) -> Fuzzed:
    """Read changed files, for as long as either limit asks for.

    Args:
        folder: an empty folder to work in.
        make_episode: gives the episodes that files are made of.
        files: how many changed files to read at least.
        seconds: how long to go on at least.
        seed: of the changes.
        keep: where to keep files that broke the reader, None for nowhere.

    Returns:
        What the reader did.
    """
    logging.disable(logging.CRITICAL)  # the reader warns of each damaged file, and they all are
    targets = [target for kind in KINDS for target in _targets(folder / kind, kind, make_episode)]
    result, began, batch = Fuzzed(), time.monotonic(), 0
    while result.files < files or time.monotonic() - began < seconds:
        target = targets[batch % len(targets)]
        first = batch * BATCH
        cases = range(first, first + (BATCH if target.spans else BATCH // 8))

        def read(case: int, target: Target = target) -> str:
            return target.read_changed(random.Random(f"{seed}-{case}"))

        for outcome in outcomes(read, cases, address_space=ADDRESS_SPACE):
            _count(result, outcome, target, random.Random(f"{seed}-{outcome.case}"), keep)
        target.restore()
        batch += 1
    result.seconds = time.monotonic() - began
    return result


def _count(
    result: Fuzzed, outcome: Outcome, target: Target, dice: random.Random, keep: Path | None
) -> None:
    result.files += 1
    result.memory = max(result.memory, outcome.memory)
    how = outcome.value if outcome.how == "returned" else outcome.how
    if how in ("read", "refused", "crashed", "hung"):
        setattr(result, how, getattr(result, how) + 1)
    else:
        result.other += 1
    if how in ("read", "refused"):
        return
    result.findings.append(
        f"{target.path.parent.parent.name}/{target.path.name} case {outcome.case}: {how} {outcome.value}"
    )
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{outcome.case}-{target.path.name}").write_bytes(target.changed(dice))


# --------------------------------------------------------------------------------------------------
# Targets
# --------------------------------------------------------------------------------------------------


class Target:
    """One file of a dataset, to be changed and read.

    Attributes:
        path: the file.
        spans: where in it HDF5 keeps its own structures, (start, stop) in bytes; empty for JSON.
    """

    def __init__(self, path: Path, root: Path) -> None:
        """Remember the whole file, and where its structures are."""
        self.path, self._root = path, root
        self._whole = path.read_bytes()
        self.spans = structures(self._whole) if path.suffix == ".h5" else []

    def changed(self, dice: random.Random) -> bytes:
        """Return the file with changes; the same dice give the same changes."""
        if self.spans:
            return with_trailer(change_image(self._whole[:-TRAILER_BYTES], self.spans, dice))
        return change_json(self._whole, dice)

    def read_changed(self, dice: random.Random) -> str:
        """Read the dataset with the changed file: "read", "refused", or what was raised that should not be."""
        self.path.write_bytes(self.changed(dice))
        return exercise(self._root)

    def restore(self) -> None:
        """Put the whole file back."""
        self.path.write_bytes(self._whole)


def exercise(root: Path) -> str:
    """Read all of a dataset in every way there is: "read", "refused", or what was raised that should not be."""
    refused = False
    try:
        for task in _tasks(root):
            try:
                task()
            except ShopfloorError:  # the others are tried all the same
                refused = True
    except ShopfloorError:
        return "refused"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return (
            f"{type(error).__name__}: {error!s:.200} ({Path(where.filename).name}:{where.lineno})"
        )
    return "refused" if refused else "read"


def _tasks(root: Path) -> Iterator[Callable[[], object]]:
    dataset = Dataset(root)
    yield dataset.info
    for number in range(len(dataset)):
        yield functools.partial(dataset.read, number)
        yield functools.partial(dataset.read_arrays, number, ("state", "actions", "sim_states"))
    yield functools.partial(_fail_on_damage, dataset)
    dataset.close()


def _fail_on_damage(dataset: Dataset) -> None:
    for damage in dataset.verify():
        raise InvalidInputError(damage.problem)


def _targets(path: Path, kind: str, make_episode: Callable[[int], Episode]) -> list[Target]:
    """Make a dataset of one episode, or of a shard with two; return its data file and its JSON files."""
    writer = EpisodeWriter(
        path, {"cell": make_episode(0).spec.cell}, kind if kind in CODECS else CODECS[0]
    )
    writer.write(make_episode(0), 0)
    if kind in SHARD_LAYOUTS:
        writer.write(make_episode(1), 1)
        compact(path, layout=kind)
        shutil.rmtree(path / "manifests")  # the shard has to say itself what is in it
    append_overlay(
        path, [{"op": "weight", "episode_id": make_episode(0).spec.episode_id, "weight": 0.5}]
    )
    if kind in ("blosc", "none"):  # the others are such in which every file has to prove itself
        write_manifest(path)
    files = [*path.rglob("*.h5"), *path.rglob("*.json")]
    return [Target(file, path) for file in files]
