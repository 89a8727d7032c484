"""A whole episode of ours inside another tool's HDF5 file: a group as in our own files (docs/format.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from shopfloor.core import Episode, InvalidInputError, UnknownNameError
from shopfloor.datasets.convert.hdf5.foreign_hdf5 import ForeignFile, Value
from shopfloor.datasets.convert.rows import observed
from shopfloor.datasets.convert.selection import Selection
from shopfloor.datasets.disk.files import TRAILER_BYTES
from shopfloor.datasets.disk.strict_json import parse_json
from shopfloor.datasets.format import fields
from shopfloor.datasets.format.digest import episode_digest
from shopfloor.datasets.format.encode import encode_episode, write_array, write_attributes
from shopfloor.datasets.listing.identity import Identity

# Beside `actions`, where those are the teacher's: what was executed.
EXECUTED = "executed/actions"


def with_chosen(selection: Selection, episode: Episode) -> Episode:
    """Return an episode with the chosen observations only.

    Raises:
        InvalidInputError: they are not like those of the first episode.
    """
    chosen = {}
    for key in selection.keys:
        like = selection.first.observations[key]
        observed(episode, key, like.shape[1:], like.dtype)
        chosen[key] = episode.observations[key]
    return dataclasses.replace(episode, observations=chosen)


def add_tree(
    where: h5py.h5g.GroupID,
    name: str,
    episode: Episode,
    actions: npt.NDArray[Any],
    identity: Identity,
    *,
    observations: bool = True,
) -> None:
    """Write an episode into a new group.

    Args:
        where: the group it goes into.
        name: name of the new group.
        episode: the episode.
        actions: shape (T, A), what `actions` is to be: the executed ones, or labels.
        identity: identity of its dataset.
        observations: whether to write them, too.
    """
    env_args = identity.raw["descriptions"].get(episode.spec.cell, {}).get("env_args")
    written = dataclasses.replace(
        episode, actions=actions, observations=episode.observations if observations else {}
    )

    # gzip opens anywhere, and each array keeps its checksum.
    data = encode_episode(
        written, "gzip", env_args, identity.provenance, identity.raw["action_convention"]
    )
    image = h5py.h5f.open_file_image(data[:-TRAILER_BYTES])

    try:
        h5py.h5o.copy(image, b"data/demo_0", where, name.encode())
    finally:
        image.close()

    group = h5py.h5g.open(where, name.encode())
    write_attributes(group, {"digest": episode_digest(episode)})
    if actions is not episode.actions:
        write_array(group, EXECUTED, episode.actions, "gzip")


def read_tree(
    file: ForeignFile, group: str, observations: Mapping[str, npt.NDArray[Any]] | None = None
) -> Episode:
    """Read an episode that `add_tree` wrote.

    Args:
        file: the file.
        group: path of its group.
        observations: those that lie elsewhere; in the group if not given.

    Raises:
        DamagedFileError: it is not as it was written.
    """
    try:
        episode = _episode(_Tree(file, group), observations)
        digest = episode_digest(episode)
    except (
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        InvalidInputError,
        UnknownNameError,
    ) as error:
        raise file.damaged(group, f"is not an episode as it was exported ({error})") from None

    if digest != file.attribute(group, "digest"):
        raise file.damaged(
            group, "was changed after it was exported: its content does not match its digest"
        )
    return episode


class _Tree:
    """A group that holds an episode."""

    def __init__(self, file: ForeignFile, group: str) -> None:
        self._file, self._group = file, group
        self.arrays = file.arrays(group)

    def rows(self, *names: str) -> npt.NDArray[Any]:
        """Return arrays, one after the other."""
        parts = []
        for name in names:
            if name not in self.arrays:
                raise self._file.damaged(self._group, f"has no array {name}")
            parts.append(self.arrays[name].read())
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def names(self, *groups: str) -> Sequence[str]:
        """Return the names of the first level below one of its groups."""
        start = "/".join(groups) + "/"
        found = set()
        for name in self.arrays:
            if name.startswith(start):
                found.add(name.removeprefix(start).partition("/")[0])
        return sorted(found)

    def fact(self, name: str) -> Value:
        """Return an attribute, which must be there."""
        value = self._file.attribute(self._group, name)
        if value is None:
            raise self._file.damaged(self._group, f"has no attribute {name}")
        return value


def _episode(tree: _Tree, observations: Mapping[str, npt.NDArray[Any]] | None) -> Episode:
    if observations is None:
        observations = {
            key: tree.rows(f"obs/{key}", f"final/obs/{key}") for key in tree.names("obs")
        }

    texts = ("instruction", "outcome", "reason", "terminated")
    parsed = ("spec", "stages", "object_names")
    facts = {
        **{name: tree.fact(name) for name in texts},
        **{name: parse_json(str(tree.fact(name))) for name in parsed},
    }

    arrays = {}
    for field in fields.FIELDS:
        if field.derive is None and not (field.optional and field.path not in tree.arrays):
            parts = (field.path, field.final) if field.final else (field.path,)
            arrays[field.name] = field.loaded(tree.rows(*parts))

    if EXECUTED in tree.arrays:
        arrays["actions"] = tree.rows(EXECUTED)

    cameras = fields.join_tracks(tree.names("cameras"), tree.rows)
    return fields.join_episode(facts, arrays, observations, cameras)
