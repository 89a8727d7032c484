"""What an episode is, as one hash: equal for its loose file, for any shard and for any codec."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import Episode, canonical_json

_ARRAYS = ("actions", "rewards", "sim_states", "actor", "decisions", "label_actions", "label_valid")


def episode_digest(episode: Episode) -> str:
    """Return the SHA-256 over an episode's facts and arrays, bit for bit, in hexadecimal.

    Hashed are the canonical JSON of the facts, then for every array in order of name the canonical
    JSON of [name, dtype, shape] and its bytes (little-endian, C order), each text ended by a
    newline.

    Args:
        episode: the episode.
    """
    facts = {
        "spec": episode.spec.to_json(),
        "instruction": episode.instruction,
        "outcome": episode.outcome,
        "reason": episode.reason,
        "terminated": bool(episode.terminated),
        "stages": [[int(step), stage] for step, stage in episode.stages],
        "object_names": list(episode.object_names),
    }
    hasher = hashlib.sha256(f"{canonical_json(facts)}\n".encode())
    for name, array in sorted(_arrays(episode), key=lambda pair: pair[0]):
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        hasher.update(f"{canonical_json([name, plain.dtype.str, list(array.shape)])}\n".encode())
        hasher.update(plain.view(np.uint8).data if plain.size and plain.ndim else plain.tobytes())
    return hasher.hexdigest()


def _arrays(episode: Episode) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for name in _ARRAYS:
        yield name, getattr(episode, name)
    if episode.label_chunks is not None:
        yield "label_chunks", episode.label_chunks
    for key, array in episode.observations.items():
        yield f"observations/{key}", array
    for key, track in episode.cameras.items():
        yield f"cameras/{key}/intrinsics", track.intrinsics
        yield f"cameras/{key}/extrinsics", track.extrinsics
