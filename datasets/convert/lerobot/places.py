"""Where the episodes of a LeRobotDataset lie, and their tasks: the files under `meta/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shopfloor.datasets.convert.lerobot.frames import ADVICE
from shopfloor.datasets.convert.lerobot.info import MAX_METADATA_BYTES, LeRobotInfo
from shopfloor.datasets.convert.lerobot.layout import TASKS_FILE
from shopfloor.datasets.convert.lerobot.parquet_reader import ParquetReader
from shopfloor.datasets.disk.errors import DamagedFileError
from shopfloor.datasets.disk.files import read_bytes
from shopfloor.datasets.disk.strict_json import parse_json
from shopfloor.datasets.format.layout import MAX_STEPS

_NUMBERS = ("episode_index", "length", "data/chunk_index", "data/file_index", "dataset_from_index")
_IN_VIDEO = ("chunk_index", "file_index", "from_timestamp")


@dataclass(frozen=True)
class Place:
    """Where an episode lies.

    Attributes:
        number: its number.
        length: frames.
        first: number of its first frame in the whole dataset.
        data: parquet file.
        videos: feature name -> mp4 file, and the time in it, in seconds, of the first picture.
    """

    number: int
    length: int
    first: int
    data: Path
    videos: Mapping[str, tuple[Path, float]]


def read_tasks(info: LeRobotInfo) -> dict[int, str]:
    """Return task_index -> instruction."""
    if not info.many_a_file:
        lines = _lines(info, "tasks", {"task_index": int, "task": str})
        return {line["task_index"]: line["task"] for line in lines}

    tasks: dict[int, str] = {}
    path = info.inside(info.root / TASKS_FILE)
    if path.exists():
        with ParquetReader(path) as table:
            # pandas writes an index that has no name under this one.
            unnamed = "task" not in table.names and "__index_level_0__" in table.names
            text = "__index_level_0__" if unnamed else "task"
            for block in table.blocks({"task_index": 1, text: 1}):
                tasks |= dict(
                    zip(block.integers("task_index").tolist(), block.texts(text), strict=True)
                )

    return tasks


def read_places(info: LeRobotInfo) -> Iterator[Place]:
    """Return where the episodes are, in order.

    Raises:
        DamagedFileError: their numbers or frames have gaps, or there are more or fewer than
            `info.json` says.
    """
    number = frames = 0
    for place in _from_tables(info) if info.many_a_file else _from_lines(info):
        found = (place.number, place.first)
        if found != (number, frames) or not 0 < place.length <= MAX_STEPS:
            raise info.damaged(
                f"meta/episodes lists episode {place.number} of {place.length} frames from frame "
                f"{place.first} on, expected episode {number} from frame {frames} on"
            )

        number, frames = number + 1, frames + place.length
        yield place

    if number != info.episodes:
        raise info.damaged(f"it says {info.episodes} episodes, but meta/episodes lists {number}")


def _from_tables(info: LeRobotInfo) -> Iterator[Place]:
    columns = list(_NUMBERS)
    for name in info.videos:
        columns += [f"videos/{name}/{what}" for what in _IN_VIDEO]

    for path in sorted((info.root / "meta" / "episodes").glob("chunk-*/file-*.parquet")):
        with ParquetReader(info.inside(path)) as table:
            for block in table.blocks(dict.fromkeys(columns, 1)):
                listed = [block.rows(name, ()) for name in columns]
                if not np.all([np.isfinite(values).all() for values in listed]):
                    raise DamagedFileError(path, "it has numbers that are not finite", ADVICE)

                for row in zip(*listed, strict=True):
                    yield _place(info, dict(zip(columns, row, strict=True)))


def _place(info: LeRobotInfo, row: Mapping[str, Any]) -> Place:
    # Numbers may be stored as floats, where a tool like pandas had gaps in the column.
    whole = {name: int(row[name]) for name in _NUMBERS}
    videos = {}
    for name in info.videos:
        chunk, file, start_s = (row[f"videos/{name}/{what}"] for what in _IN_VIDEO)
        videos[name] = (
            info.video_file(name, chunk_index=int(chunk), file_index=int(file)),
            float(start_s),
        )

    data = info.data_file(
        chunk_index=whole["data/chunk_index"], file_index=whole["data/file_index"]
    )
    return Place(whole["episode_index"], whole["length"], whole["dataset_from_index"], data, videos)


def _from_lines(info: LeRobotInfo) -> Iterator[Place]:
    first = 0
    for line in _lines(info, "episodes", {"episode_index": int, "length": int}):
        number, length = line["episode_index"], line["length"]
        where = {"episode_chunk": number // info.chunk_episodes, "episode_index": number}
        videos = {name: (info.video_file(name, **where), 0.0) for name in info.videos}
        yield Place(number, length, first, info.data_file(**where), videos)
        first += length


def _lines(info: LeRobotInfo, name: str, kinds: Mapping[str, type]) -> Iterator[dict[str, Any]]:
    """Read a list of version 2: a JSON object a line."""
    path = info.inside(info.root / "meta" / f"{name}.jsonl")
    try:
        texts: Sequence[bytes] = read_bytes(path, MAX_METADATA_BYTES).splitlines()
    except FileNotFoundError:
        raise DamagedFileError(path, "it is missing", ADVICE) from None

    for number, text in enumerate(texts, 1):
        try:
            line = parse_json(text)
        except ValueError as error:
            raise DamagedFileError(
                path, f"its line {number} is not valid JSON ({error})", ADVICE
            ) from None

        if not isinstance(line, dict) or not all(
            isinstance(line.get(key), kind) for key, kind in kinds.items()
        ):
            raise DamagedFileError(path, f"its line {number} lacks {' or '.join(kinds)}", ADVICE)
        yield line
