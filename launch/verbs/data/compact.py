"""`shopfloor data compact`: bundles episode files into shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shopfloor.errors import InvalidInputError
from shopfloor.flags import Maybe
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.data.telling import episodes, print_document
from shopfloor.launch.verbs.flags import Source

tools = Later("shopfloor.datasets.tools.compact")


@dataclass(frozen=True)
class Compact:
    """Bundle episode files into shards; no file goes before its episodes were read back and compared.

    Attributes:
        dataset: dataset folder.
        layout: sealed: chunks, compression and checksums stay as they are. train: uncompressed and
            flat, several times as large, fastest to train from.
        out: new dataset folder, all of shards; the source stays as it is (default: in place).
        shard_mb: most megabytes in a shard; building one takes three times that much memory.
        json: print one JSON document on standard output.
    """

    dataset: Source
    layout: Literal["sealed", "train"] = "sealed"
    out: Maybe[Path] = None
    shard_mb: int = 256
    json: bool = False


def run(arguments: Compact) -> int:
    """Bundle episodes into shards."""
    if arguments.shard_mb < 1:
        raise InvalidInputError(f"--shard-mb is {arguments.shard_mb}; expected at least 1.")

    done = tools.compact(
        arguments.dataset,
        layout=arguments.layout,
        out=arguments.out,
        shard_bytes=arguments.shard_mb * 1_000_000,
    )

    if arguments.json:
        print_document(done.to_json())
    elif not done.episodes:
        print(f"{arguments.dataset}: nothing to bundle")
    else:
        shards = f"{done.shards} shard{'' if done.shards == 1 else 's'}"
        print(
            f"{arguments.out or arguments.dataset}: {episodes(done.episodes)} bundled into "
            f"{shards}, each read back and compared with its source; "
            f"before {done.bytes_before / 1e6:.1f} MB, now {done.bytes_after / 1e6:.1f} MB"
        )

    return 0
