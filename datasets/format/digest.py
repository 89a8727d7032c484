"""What an episode is, as one hash: equal for its loose file, for any shard and for any codec."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import Episode, canonical_json
from shopfloor.datasets.format import fields


def episode_digest(episode: Episode) -> str:
    """Return the SHA-256 over an episode's facts and arrays, bit for bit, in hexadecimal.

    Hashed are the canonical JSON of the facts, then for every array in order of name the canonical
    JSON of [name, dtype, shape] and its bytes (little-endian, C order), each text ended by a
    newline.

    Args:
        episode: the episode.
    """
    facts = canonical_json(fields.episode_facts(episode))
    hasher = hashlib.sha256(f"{facts}\n".encode())

    for name, array in sorted(_arrays(episode), key=lambda pair: pair[0]):
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        hasher.update(f"{canonical_json([name, plain.dtype.str, list(array.shape)])}\n".encode())
        hasher.update(plain.view(np.uint8).data if plain.size and plain.ndim else plain.tobytes())

    return hasher.hexdigest()


def _arrays(episode: Episode) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    yield from fields.own_arrays(episode).items()

    for key, array in episode.observations.items():
        yield f"observations/{key}", array

    for name, track in episode.cameras.items():
        for field in fields.TRACK:
            yield f"cameras/{name}/{field.name}", getattr(track, field.name)
