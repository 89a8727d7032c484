"""Reading files that were changed at random, under trailers and digests that hold: nothing but a refusal may come of it.

A trailer keeps damage from HDF5; whoever makes a file can make its trailer too. So the reader is given committed files
with a few bytes changed, most of them where HDF5 keeps its own structures, and then a new trailer; and JSON files with
characters changed and digests made anew. Children do the reading, because a fault in HDF5 itself would end the process.
"""

from __future__ import annotations

import functools
import io
import itertools
import json
import logging
import random
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from benchmarks.children import Outcome, outcomes
from shopfloor.core import Episode, InvalidInputError, ShopfloorError
from shopfloor.datasets.files import TRAILER_BYTES, with_trailer
from shopfloor.datasets.jsonfile import json_digest
from shopfloor.datasets.overlays import append_overlay
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.store import EpisodeWriter, write_manifest

LIMIT_S = 5.0
ADDRESS_SPACE = 4 << 30
BATCH = 200
CODECS = ("blosc", "gzip", "none")
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 31, 1 << 63, 1 << 70, 1e300, 0.5, "", "\0", "..", "../../x", "/etc/passwd", "a" * 300, "\ud800",
    "9" * 5000, [], {}, [[]] * 3, {"": {}}, "episodes/ep-00000000-0123456789abcdef.h5", "shards/shard-00000001.h5",
)  # fmt: skip
_CHARACTERS = '0123456789-+.eE{}[]",:\\/untrflasNI \x00é'


@dataclass
class Fuzzed:
    """What the reader did with changed files.

    Attributes:
        files: how many it was given.
        read: how many it read as if they were whole (a change of a value is as good as another value).
        refused: how many it refused with an error of ours.
        crashed: how often its process died.
        hung: how often it took more than 5 s.
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
    seconds: float,
    folder: Path,
    make_episode: Callable[[int], Episode],
    seed: int = 0,
    keep: Path | None = None,
) -> Fuzzed:
    """Read changed files for some time.

    Args:
        seconds: how long.
        folder: an empty folder to work in.
        make_episode: gives the episodes that files are made of.
        seed: of the changes.
        keep: where to keep files that broke the reader, None for nowhere.

    Returns:
        What the reader did.
    """
    logging.disable(logging.CRITICAL)  # the reader warns of each damaged file, and they all are
    targets = [target for codec in CODECS for target in _targets(folder / codec, codec, make_episode)]
    result, began, batch = Fuzzed(), time.monotonic(), 0
    while time.monotonic() - began < seconds:
        target = targets[batch % len(targets)]
        cases = range(batch * BATCH, (batch + 1) * BATCH if target.spans else batch * BATCH + BATCH // 8)

        def read(case: int, target: Target = target) -> str:
            return target.read_changed(random.Random(f"{seed}-{case}"))

        for outcome in outcomes(read, cases, LIMIT_S, address_space=ADDRESS_SPACE):
            _count(result, outcome, target, random.Random(f"{seed}-{outcome.case}"), keep)
        target.restore()
        batch += 1
    result.seconds = time.monotonic() - began
    return result


def _count(result: Fuzzed, outcome: Outcome, target: Target, dice: random.Random, keep: Path | None) -> None:
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


# --------------------------------------------------------------------------------------------------------------------
# Targets
# --------------------------------------------------------------------------------------------------------------------


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
        self.spans = _structures(self._whole) if path.suffix == ".h5" else []

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
            except ShopfloorError:  # noqa: PERF203  # the others are tried all the same
                refused = True
    except ShopfloorError:
        return "refused"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error!s:.200} ({Path(where.filename).name}:{where.lineno})"
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


def _targets(path: Path, codec: str, make_episode: Callable[[int], Episode]) -> list[Target]:
    """Make a dataset; return its episode and its JSON files."""
    writer = EpisodeWriter(path, {"cell": make_episode(0).spec.cell}, codec)
    writer.write(make_episode(0), 0)
    append_overlay(path, [{"op": "weight", "episode_id": make_episode(0).spec.episode_id, "weight": 0.5}])
    if codec != "gzip":  # one in which every file has to prove itself
        write_manifest(path)
    files = [min(path.glob("episodes/*.h5")), *path.rglob("*.json")]
    return [Target(file, path) for file in files]


def _structures(data: bytes) -> list[tuple[int, int]]:
    """Return what of a file is not the content of arrays."""
    chunks = []

    def visit(_: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            item.id.chunk_iter(lambda info: chunks.append((info.byte_offset, info.byte_offset + info.size)))

    with h5py.File(io.BytesIO(data[:-TRAILER_BYTES]), "r") as file:
        file.visititems(visit)
    ends = [(0, 0), *sorted(chunks), (len(data) - TRAILER_BYTES, 0)]
    return [(one[1], two[0]) for one, two in itertools.pairwise(ends) if one[1] < two[0]]


# --------------------------------------------------------------------------------------------------------------------
# Changes
# --------------------------------------------------------------------------------------------------------------------


def change_image(image: bytes, spans: Sequence[tuple[int, int]], dice: random.Random) -> bytes:
    """Change a few places of an HDF5 image, nine in ten of them within `spans`."""
    data = bytearray(image)
    for _ in range(dice.choice((1, 1, 1, 2, 4, 16))):
        place = _place(len(data), spans, dice)
        width = dice.choice((1, 2, 4, 8))
        old = int.from_bytes(data[place : place + width], "little")
        limit = 1 << 8 * width
        kind = dice.randrange(8)
        if kind == 0:
            new = old ^ 1 << dice.randrange(8 * width)
        elif kind == 1:
            new = dice.choice(_NUMBERS)
        elif kind == 2:
            new = old + dice.choice((-8, -4, -2, -1, 1, 2, 4, 8))
        elif kind == 3:
            new = dice.randrange(limit)
        elif kind == 4:  # an address within the file
            width, new = 8, _place(len(data), spans, dice)
        else:
            start = _place(len(data), spans, dice)
            size = dice.choice((8, 8, 16, 64, 512))
            data[place : place + size] = data[start : start + size][: len(data) - place]
            continue
        data[place : place + width] = (new % (1 << 8 * width)).to_bytes(width, "little")
    if dice.random() < 0.02:
        del data[dice.randrange(len(data)) :]
    return bytes(data)


def _place(size: int, spans: Sequence[tuple[int, int]], dice: random.Random) -> int:
    if dice.random() < 0.1:
        return dice.randrange(size)
    start, stop = dice.choices(spans, [stop - start for start, stop in spans])[0]
    return min(dice.randrange(start, stop), size - 1)


def change_json(text: bytes, dice: random.Random) -> bytes:
    """Change a JSON document: a few characters, or a value, after which its digest is made anew."""
    if dice.random() < 0.4:
        data = bytearray(text)
        for _ in range(dice.choice((1, 1, 2, 8))):
            place = dice.randrange(len(data))
            data[place : place + dice.randrange(3)] = dice.choice(_CHARACTERS).encode()
        return bytes(data)
    document = json.loads(text)
    for _ in range(dice.choice((1, 1, 2))):
        _change_value(document, dice)
    if isinstance(document.get("episodes"), list):
        document["content_sha256"] = json_digest(document["episodes"])
    elif "content_sha256" in document:
        document["content_sha256"] = json_digest({k: v for k, v in document.items() if k != "content_sha256"})
    return json.dumps(document).encode()


def _change_value(document: dict[str, Any], dice: random.Random) -> None:
    """Replace one value somewhere in a document, or drop its key."""
    where: Any = document
    while True:
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        if not keys:
            return
        key = dice.choice(keys)
        if isinstance(where[key], dict | list) and where[key] and dice.random() < 0.8:
            where = where[key]
            continue
        if dice.random() < 0.1:
            del where[key]
        else:
            where[key] = dice.choice(_VALUES)
        return
