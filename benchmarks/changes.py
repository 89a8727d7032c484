"""Changes to files that might fool a reader: numbers in HDF5's own structures, values in JSON."""

from __future__ import annotations

import io
import itertools
import json
import random
from collections.abc import Sequence
from typing import Any

import h5py

from shopfloor.datasets.disk.files import TRAILER_BYTES
from shopfloor.datasets.disk.strict_json import json_digest
from shopfloor.datasets.format.shard_index import INDEX

_NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 31, 1 << 63, 1 << 70, 1e300, 0.5, "", "\0", "..", "../../x", "/etc/passwd", "a" * 300,
    "\ud800", "9" * 5000, [], {}, [[]] * 3, {"": {}}, "episodes/ep-00000000-0123456789abcdef.h5",
    "shards/shard-00000001.h5",
)  # fmt: skip
_CHARACTERS = '0123456789-+.eE{}[]",:\\/untrflasNI \x00é'


def structures(data: bytes) -> list[tuple[int, int]]:
    """Return what of an HDF5 file with a trailer is not the content of arrays: (start, stop) in bytes.

    A train shard's index counts as structure.
    """
    chunks = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.chunks:
            item.id.chunk_iter(
                lambda info: chunks.append((info.byte_offset, info.byte_offset + info.size))
            )
        elif isinstance(item, h5py.Dataset) and item.size and name != INDEX:
            chunks.append((item.id.get_offset(), item.id.get_offset() + item.nbytes))

    with h5py.File(io.BytesIO(data[:-TRAILER_BYTES]), "r") as file:
        file.visititems(visit)
    ends = [(0, 0), *sorted(chunks), (len(data) - TRAILER_BYTES, 0)]
    return [(one[1], two[0]) for one, two in itertools.pairwise(ends) if one[1] < two[0]]


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
        document["content_sha256"] = json_digest(
            {k: v for k, v in document.items() if k != "content_sha256"}
        )
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
