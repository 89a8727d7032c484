"""What LeRobot has no place for, beside an export of ours: importing it gives equal episodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import CameraTrack, Episode, InvalidInputError, UnknownNameError
from shopfloor.datasets.convert.lerobot.info import MAX_METADATA_BYTES, LeRobotInfo
from shopfloor.datasets.convert.lerobot.layout import (
    SIDECAR_FILE,
    SIDECAR_KIND,
    SIDECAR_VERSION,
    Feature,
)
from shopfloor.datasets.convert.lerobot.parquet_reader import ParquetReader
from shopfloor.datasets.convert.lerobot.rows import Frames
from shopfloor.datasets.disk.errors import DamagedFileError, FormatVersionError
from shopfloor.datasets.disk.json_file import load_json
from shopfloor.datasets.disk.strict_json import content_digest, is_list_of, parse_json
from shopfloor.datasets.format import fields
from shopfloor.datasets.format.layout import MAX_RANK
from shopfloor.datasets.listing.identity import DIGEST

_ADVICE = (
    "Export the dataset again. If LeRobot's tools changed it, delete "
    "meta/shopfloor: then it is imported as anybody's."
)
_DTYPES = {
    *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
    *("float16", "float32", "float64"),
}
Arrays = dict[str, npt.NDArray[Any]]


def sidecar_arrays(
    episode: Episode, keys: Sequence[str], features: Sequence[Feature], own_actions: bool
) -> Arrays:
    """Return the arrays of an episode that its frames do not hold.

    Args:
        episode: the episode.
        keys: the observation keys that are exported.
        features: the features that the frames hold.
        own_actions: whether the frames hold other actions than the executed ones.
    """
    framed = {feature.key for feature in features}
    arrays: Arrays = fields.own_arrays(episode)
    del arrays["rewards"]
    if not own_actions:
        del arrays["actions"]

    for key in keys:
        rows = episode.observations[key]
        arrays[f"final/{key}"] = rows[episode.steps :] if key in framed else rows

    for name, track in episode.cameras.items():
        arrays |= {f"{one.name}/{name}": getattr(track, one.name) for one in fields.TRACK}
    return arrays


class LeRobotSidecar:
    """The file beside an export of ours.

    Attributes:
        identity: the `dataset.json` of the dataset that was exported, with a mark where pictures
            are lossy.
        features: what has to be read of the frames.
    """

    def __init__(self, info: LeRobotInfo, document: Mapping[str, Any]) -> None:
        """Check the document; raises FormatVersionError, DamagedFileError."""
        self._info, self._file = info, info.root / SIDECAR_FILE
        if document.get("schema_version") != SIDECAR_VERSION:
            raise FormatVersionError(
                f"{self._file} has schema version {document.get('schema_version')!r:.40}; this "
                f"release reads version {SIDECAR_VERSION}. Install a newer shopfloor."
            )

        identity, keys = document.get("identity"), document.get("keys")
        if not isinstance(keys, dict) or not isinstance(identity, dict):
            raise self.damaged("it lacks identity or keys")
        if document.get(DIGEST) != content_digest(document, DIGEST):
            raise self.damaged(f"its content does not match its {DIGEST}")

        self.identity: Mapping[str, Any] = _lossy(identity) if info.videos else identity
        self._keys: dict[str, str] = keys
        self.features = [feature for name, feature in info.features.items() if name in self._wanted]

    @classmethod
    def find(cls, info: LeRobotInfo) -> LeRobotSidecar | None:
        """Return the file beside an export of ours, None for a foreign dataset."""
        path = info.inside(info.root / SIDECAR_FILE)
        if not path.exists():
            return None
        document = load_json(path, MAX_METADATA_BYTES)
        return cls(info, document) if document.get("kind") == SIDECAR_KIND else None

    @property
    def _wanted(self) -> set[str]:
        return {*self._keys.values(), "action", "next.reward"}

    def damaged(self, problem: str, path: Path | None = None) -> DamagedFileError:
        """Return an error about it, or about another file beside."""
        return DamagedFileError(path or self._file, problem, _ADVICE)

    def episodes(self, frames: Iterator[Frames]) -> Iterator[Episode]:
        """Return the episodes that were exported, given their frames.

        Raises:
            DamagedFileError: frames and extras do not belong together.
        """
        extras = self._rows()
        for frame in frames:
            path, facts, arrays = next(extras, (self._file, None, {}))
            if facts is None:
                raise self.damaged(f"it has nothing about episode {frame.number}")

            try:
                yield self._episode(frame, facts, arrays)
            except (
                KeyError,
                TypeError,
                ValueError,
                AttributeError,
                InvalidInputError,
                UnknownNameError,
            ) as error:
                raise self.damaged(
                    f"what it says of episode {frame.number} cannot be used ({error})", path
                ) from None

        if next(extras, None):
            raise self.damaged("it lists more episodes than the dataset has")

    def _rows(self) -> Iterator[tuple[Path, Any, Arrays]]:
        number = 0
        for path in sorted(self._file.parent.glob("chunk-*/file-*.parquet")):
            with ParquetReader(self._info.inside(path)) as table:
                for block in table.blocks({"episode_index": 1, "facts": 1, "arrays": 0}):
                    try:
                        rows = [*map(_row, block.table.to_pylist())]
                    except (KeyError, TypeError, ValueError) as error:
                        raise self.damaged(f"it cannot be used ({error})", path) from None

                    for index, facts, arrays in rows:
                        if index != number:
                            raise self.damaged(f"it lists episode {index}, expected {number}", path)

                        number += 1
                        yield path, facts, arrays

    def _episode(self, frame: Frames, facts: Mapping[str, Any], arrays: Arrays) -> Episode:
        observations = {}
        for key, name in self._keys.items():
            last = arrays[f"final/{key}"]
            body = frame.rows[name] if name else last[:-1]
            observations[key] = np.concatenate(
                [body.reshape(len(body), *last.shape[1:]), last[-1:]]
            )

            if observations[key].dtype != last.dtype:
                raise ValueError(
                    f"observation {key} is {body.dtype} in the frames and {last.dtype} here"
                )

        first = f"{fields.TRACK[0].name}/"
        own = {"actions": frame.rows["action"], "rewards": frame.rows["next.reward"].reshape(-1)}
        cameras = {}
        for place, rows in arrays.items():
            if place in fields.field_names():
                own[place] = rows
            elif place.startswith(first):
                name = place.removeprefix(first)
                track = {one.name: arrays[f"{one.name}/{name}"] for one in fields.TRACK}
                cameras[name] = CameraTrack(**track)

        return fields.join_episode(facts, own, observations, cameras)


def _lossy(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity whose descriptions tell that pictures were decoded from lossy video."""
    descriptions = identity.get("descriptions")
    if not isinstance(descriptions, dict) or not is_list_of(list(descriptions.values()), dict):
        return dict(identity)

    marked = {}
    for cell, description in descriptions.items():
        marked[cell] = {**description, "pictures": "decoded from lossy video"}
    return {**identity, "descriptions": marked}


def _row(row: Mapping[str, Any]) -> tuple[Any, Any, Arrays]:
    """Return an episode's number, facts and arrays."""
    arrays = {item["name"]: _array(item) for item in row["arrays"]}
    return row["episode_index"], parse_json(row["facts"]), arrays


def _array(item: Mapping[str, Any]) -> npt.NDArray[Any]:
    dtype, shape = item["dtype"], tuple(item["shape"])
    if dtype not in _DTYPES or len(shape) > MAX_RANK:
        raise ValueError(f"array {item['name']!r:.60} is {dtype!r:.20} with {len(shape)} axes")
    array: npt.NDArray[Any] = np.frombuffer(item["data"], dtype).reshape(shape)
    return np.array(array)
