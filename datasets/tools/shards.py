"""Shards: many episodes in a file, chunk for chunk as they were or laid out flat for training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

import h5py
import numpy as np

from shopfloor.core import InfrastructureError
from shopfloor.datasets.disk.files import with_trailer
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.container import Container
from shopfloor.datasets.format.encode import (
    SPARE_BYTES,
    copy_array,
    create_image,
    room_for,
    write_array,
    write_attributes,
)
from shopfloor.datasets.format.hdf5_objects import Array
from shopfloor.datasets.format.record import EpisodeRecord
from shopfloor.datasets.format.shard_index import INDEX, index_line


class ShardBuilder:
    """A shard in memory, episode after episode.

    Example:
        builder = ShardBuilder("sealed", container.attributes("data"))
        builder.add(container, record, digest)
        data = builder.finish()
    """

    def __init__(self, kind: str, about: Mapping[str, int | str]) -> None:
        """Start an empty shard.

        Args:
            kind: "sealed" or "train" (`layout.SHARD_LAYOUTS`).
            about: attributes of the group `data` that hold for all of its episodes.
        """
        self.kind = kind
        self.about = _shared(about)
        self.episodes = 0
        self.bytes = 0
        self._objects = 3  # root, `data`, and the index of a train shard
        self._steps = 0
        self._lines: list[bytes] = []
        self._file = create_image()

        write_attributes(
            self._file,
            {"format": layout.FORMAT_NAME, "format_version": layout.FORMAT_VERSION, "layout": kind},
        )
        self._data = h5py.h5g.create(self._file, b"data")

    def fits(self, container: Container, record: EpisodeRecord, limit: int) -> bool:
        """Whether an episode may go in: the same environment and actions, and no more than fits.

        Args:
            container: its open file, whose arrays were all looked at.
            record: which of the file's episodes.
            limit: most bytes of episodes. Nor may there be so many arrays that readers refuse the
                shard.
        """
        if not self.episodes:
            return True

        same = self.about == _shared(container.attributes("data"))
        full = (
            self.episodes >= layout.SHARD_EPISODES
            or self.bytes + self._size(container, record) > limit
        )

        crowded = self._objects + _objects(container, record) > layout.MAX_OBJECTS
        return same and not full and not crowded

    def add(self, container: Container, record: EpisodeRecord, digest: str) -> None:
        """Put an episode in.

        Args:
            container: its open file, whose arrays were all looked at.
            record: which of the file's episodes.
            digest: `episode_digest` of it.

        Raises:
            InfrastructureError: not enough memory.
        """
        size = self._size(container, record)
        try:
            room_for(self.bytes + 2 * size + SPARE_BYTES)
        except MemoryError as error:
            raise InfrastructureError(
                f"Not enough memory for a shard of {(self.bytes + size) / 1e6:.0f} MB; it takes "
                "three times that. Ask for smaller shards, or free some memory, then run this "
                "again."
            ) from error

        name = f"data/{record.group}"
        attributes = {**container.attributes(name), "index": record.index, "digest": digest}
        group = h5py.h5g.create(self._data, f"demo_{self.episodes}".encode())
        write_attributes(group, attributes)
        places = {}

        for path, array in container.inside(name).items():
            if self.kind == "train":
                offset = write_array(group, path, array.read(), None).get_offset()
                places[path] = array.dtype, array.shape, offset or 0
            elif isinstance(array, Array):
                copy_array(array.id, group, path)
            else:
                write_array(group, path, array.read(), "blosc")

        self._lines.append(index_line(attributes, places))
        self.episodes += 1
        self.bytes += size
        self._objects += _objects(container, record)
        self._steps += record.steps

    def finish(self) -> bytes:
        """Return the whole bytes of the shard, trailer included, and forget it."""
        write_attributes(self._data, {**self.about, "total": self._steps})
        if self.kind == "train":
            write_array(self._file, INDEX, np.frombuffer(b"".join(self._lines), np.uint8), None)
        h5py.h5f.flush(self._file)
        data = with_trailer(self._file.get_file_image())
        self.close()
        return data

    def close(self) -> None:
        """Forget the shard."""
        if self._file.valid:
            self._file.close()

    def _size(self, container: Container, record: EpisodeRecord) -> int:
        if self.kind == "sealed" and not record.file.startswith(layout.SHARDS):
            return record.bytes
        arrays = container.inside(f"data/{record.group}").values()
        return sum(array.nbytes for array in arrays)


def _objects(container: Container, record: EpisodeRecord) -> int:
    """Return how many arrays and groups an episode is made of."""
    arrays = container.inside(f"data/{record.group}")
    groups: set[PurePosixPath] = set()
    for path in arrays:
        groups.update(PurePosixPath(path).parents)
    return len(arrays) + len(groups)


def _shared(about: Mapping[str, int | str]) -> dict[str, int | str]:
    shared = dict(about)
    shared.pop("total", None)
    return shared
