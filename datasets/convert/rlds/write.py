"""Writes a split of an RLDS dataset: TFRecord shards, one Example an episode, only one of them in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from shopfloor.datasets.convert.rlds.tfrecord import RECORD_OVERHEAD_BYTES, record

SHARD_BYTES = 256 << 20


@dataclass
class SplitWriter:
    """A split that is being written.

    Attributes:
        folder: where; an existing folder.
        prefix: the shards' names begin with it: "<dataset>-<split>.tfrecord".
        shard_bytes: a shard that holds so much is full.
        lengths: number of examples in each shard.
        size: bytes of all examples, without the records' overhead.
    """

    folder: Path
    prefix: str
    shard_bytes: int = SHARD_BYTES
    lengths: list[int] = field(default_factory=list)
    size: int = 0
    _file: BinaryIO | None = None
    _written: int = 0

    def add(self, example: bytes) -> None:
        """Append an example."""
        size = len(example) + RECORD_OVERHEAD_BYTES
        if self._file is None or self._written + size > self.shard_bytes:
            self._close()
            self._file = self._unnamed(len(self.lengths)).open("xb")
            self.lengths.append(0)
            self._written = 0

        self._file.write(record(example))
        self._written += size
        self.lengths[-1] += 1
        self.size += len(example)

    def finish(self) -> None:
        """Close the last shard, and give the shards their names, which say how many there are."""
        count = len(self.lengths)
        self._close()
        for shard in range(count):
            self._unnamed(shard).rename(self.folder / f"{self.prefix}-{shard:05d}-of-{count:05d}")

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _unnamed(self, shard: int) -> Path:
        return self.folder / f"{self.prefix}-{shard:05d}-of-unknown"
