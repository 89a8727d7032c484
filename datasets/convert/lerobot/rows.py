"""Episodes of a foreign LeRobotDataset as arrays, one by one; their frames' numbers are checked."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.datasets.convert.lerobot.frames import ADVICE, TOLERANCE_S, VideoReader
from shopfloor.datasets.convert.lerobot.info import LeRobotInfo
from shopfloor.datasets.convert.lerobot.layout import Feature
from shopfloor.datasets.convert.lerobot.parquet_reader import Block, ParquetReader
from shopfloor.datasets.convert.lerobot.places import Place, read_places
from shopfloor.datasets.convert.png import decode_picture
from shopfloor.datasets.disk.errors import DamagedFileError, UnsafeFileError
from shopfloor.datasets.format.layout import MAX_ARRAY_BYTES

_ORDER = ("timestamp", "frame_index", "episode_index", "index", "task_index")
_ROUNDING = 1e-6  # relative, of times as float32


@dataclass(frozen=True)
class Frames:
    """An episode's frames.

    Attributes:
        number: the episode's number.
        tasks: shape (T,), int64, the number of each frame's task.
        rows: feature name -> T rows.
    """

    number: int
    tasks: npt.NDArray[np.int64]
    rows: Mapping[str, npt.NDArray[Any]]


def read_frames(info: LeRobotInfo, features: Sequence[Feature]) -> Iterator[Frames]:
    """Read these features of all episodes, one episode in memory at a time.

    Args:
        info: the dataset.
        features: features of numbers, or of pictures with three channels.

    Raises:
        DamagedFileError: what is wrong with which file; UnsafeFileError: what is refused in it.
    """
    columns = dict.fromkeys(_ORDER, 1)
    for feature in features:
        if feature.dtype != "video":
            columns[feature.name] = 1 if feature.is_picture else math.prod(feature.shape)

    with contextlib.ExitStack() as stack:
        cinema = stack.enter_context(_Cinema())
        for path, group in itertools.groupby(read_places(info), key=lambda place: place.data):
            places = list(group)
            with ParquetReader(path) as table:
                blocks = table.runs(columns, [place.length for place in places])
                for place, block in zip(places, blocks, strict=True):
                    _check_order(block, place, info.fps)
                    rows = {
                        feature.name: _rows(feature, place, block, cinema, info.fps)
                        for feature in features
                    }
                    yield Frames(place.number, block.integers("task_index"), rows)


def _check_order(block: Block, place: Place, fps: int) -> None:
    steps = np.arange(place.length)
    due = {
        "episode_index": np.full(place.length, place.number),
        "frame_index": steps,
        "index": place.first + steps,
    }

    for name, numbers in due.items():
        found = block.integers(name)
        wrong = np.flatnonzero(found != numbers)
        if wrong.size:
            at = int(wrong[0])
            raise DamagedFileError(
                block.path,
                f"frame {at} of episode {place.number} has {name} {found[at]}, expected "
                f"{numbers[at]}",
                ADVICE,
            )

    times_s, due_s = block.rows("timestamp", ()).astype(np.float64), steps / fps
    wrong = np.flatnonzero(~(np.abs(times_s - due_s) <= TOLERANCE_S + _ROUNDING * due_s))
    if wrong.size:
        at = int(wrong[0])
        raise DamagedFileError(
            block.path,
            f"frame {at} of episode {place.number} is at {times_s[at]:.4f} s, expected "
            f"{due_s[at]:.4f} s ({fps} Hz)",
            "Resample the dataset to a steady rate with LeRobot's tools first.",
        )


def _rows(
    feature: Feature, place: Place, block: Block, cinema: _Cinema, fps: int
) -> npt.NDArray[Any]:
    if not feature.is_picture:
        return _numbers(feature, block)

    height, width = feature.shape[:2]
    shape = (place.length, height, width, 3)
    if np.prod(shape, dtype=np.float64) > MAX_ARRAY_BYTES:
        raise UnsafeFileError(
            place.data, f"episode {place.number} claims {place.length} pictures of {height}x{width}"
        )

    pictures = np.empty(shape, np.uint8)
    if feature.dtype == "video":
        path, start_s = place.videos[feature.name]
        cinema.reader(feature, path).read_into(pictures, start_s + np.arange(place.length) / fps)
        return pictures

    for index, data in enumerate(block.pictures(feature.name)):
        try:
            pictures[index] = decode_picture(data, height, width)
        except ValueError as error:  # says which one
            where = f"its picture {feature.name!r} of frame {index}, episode {place.number},"
            raise DamagedFileError(block.path, f"{where} {error}", ADVICE) from None

    return pictures


def _numbers(feature: Feature, block: Block) -> npt.NDArray[Any]:
    stored = block.rows(feature.name, feature.shape)
    rows = stored.astype(feature.dtype)
    if not np.array_equal(rows, stored, equal_nan=stored.dtype.kind == "f"):
        problem = (
            f"its column {feature.name!r} holds {stored.dtype} that {feature.dtype} cannot hold"
        )
        raise DamagedFileError(block.path, problem, ADVICE)
    return rows


class _Cinema:
    """The mp4 files that are being read: one for each camera."""

    def __init__(self) -> None:
        self._open: dict[str, VideoReader] = {}

    def reader(self, feature: Feature, path: Path) -> VideoReader:
        """Return the open file of a camera; the one before it is closed."""
        reader = self._open.get(feature.name)
        if reader is None or reader.path != path:
            if reader:
                reader.close()
            reader = self._open[feature.name] = VideoReader(path, *feature.shape[:2])
        return reader

    def __enter__(self) -> _Cinema:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._open.values():
            reader.close()
