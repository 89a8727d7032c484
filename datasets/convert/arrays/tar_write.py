"""Tar shards of samples, as WebDataset reads them, without copies; equal samples give equal bytes."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

# A file's content, in pieces.
Content: TypeAlias = Sequence[bytes | memoryview]

_MODE = 0o644


def tar_member(name: str, content: Content) -> list[bytes | memoryview]:
    """Return a file as it lies in a tar archive: POSIX.1-2001, owned by nobody, of no time.

    Args:
        name: the file's name.
        content: the file's bytes, in pieces.
    """
    info = tarfile.TarInfo(name)  # mtime, uid and gid are 0
    info.size = sum(map(len, content))
    info.mode = _MODE
    header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    return [header, *content, bytes(-info.size % tarfile.BLOCKSIZE)]


@dataclass
class ShardWriter:
    """A split that is being written as `<prefix>-000000.tar`, `<prefix>-000001.tar`, ...

    Attributes:
        folder: where; an existing folder.
        prefix: the shards' names begin with it.
        shard_bytes: a shard that would grow beyond it is full; a sample is never divided.
        lengths: number of samples in each shard.
    """

    folder: Path
    prefix: str
    shard_bytes: int
    lengths: list[int] = field(default_factory=list)
    _file: BinaryIO | None = None
    _written: int = 0

    @property
    def names(self) -> list[str]:
        """The shards' file names."""
        return [f"{self.prefix}-{number:06d}.tar" for number in range(len(self.lengths))]

    def add(self, key: str, files: Mapping[str, Content]) -> None:
        """Append a sample.

        Args:
            key: the sample's key, without a dot.
            files: what follows the key and a dot in a file's name -> the file's content.
        """
        pieces: list[bytes | memoryview] = []
        for end, content in sorted(files.items()):
            pieces += tar_member(f"{key}.{end}", content)

        size = sum(map(len, pieces))
        if self._file is None or self._written + size > self.shard_bytes:
            self.finish()
            self.lengths.append(0)
            self._file, self._written = (self.folder / self.names[-1]).open("xb"), 0

        for piece in pieces:
            self._file.write(piece)
        self._written += size
        self.lengths[-1] += 1

    def finish(self) -> None:
        """Close the last shard with an archive's end."""
        if self._file is not None:
            ending = 2 * tarfile.BLOCKSIZE
            self._file.write(bytes(ending + -(self._written + ending) % tarfile.RECORDSIZE))
            self.close()

    def close(self) -> None:
        """Close the last shard as it is."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()
