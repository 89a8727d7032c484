"""The `info.json` of a foreign LeRobotDataset, checked before it is believed."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shopfloor.datasets.convert.lerobot.frames import ADVICE
from shopfloor.datasets.convert.lerobot.layout import INFO_FILE, Feature
from shopfloor.datasets.disk.errors import (
    DamagedFileError,
    FormatVersionError,
    NotADatasetError,
    UnsafeFileError,
)
from shopfloor.datasets.disk.json_file import load_json

MAX_METADATA_BYTES = 1 << 28
MAX_EPISODES = 10_000_000
MAX_FEATURES = 1000
MAX_SIDE = 1 << 24
_VERSIONS = re.compile(r"v[23]\.\d{1,4}")
_FEATURE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")
_PLACEHOLDERS = ("chunk_index", "episode_chunk", "episode_index", "file_index", "video_key")
_NUMBER_FORMAT = re.compile(r"(0?\d?d)?")


class LeRobotInfo:
    """The content of `info.json`, checked.

    Attributes:
        root: the dataset's folder.
        file: the `info.json` in it.
        many_a_file: whether a file holds many episodes (version 3), or one (version 2).
        fps: frames per second.
        episodes: number of episodes.
        chunk_episodes: episodes in a folder (version 2).
        robot_type: the robot's type, "" where it is not stated.
        features: those of `data`, automatic ones included; pictures with shape (height, width,
            channels).
    """

    def __init__(self, root: Path) -> None:
        """Read it.

        Raises:
            NotADatasetError: there is none; FormatVersionError: it is of another version than 2.x
                and 3.x.
            DamagedFileError: what is wrong with it; UnsafeFileError: what is refused in it.
        """
        self.root, self.file = root, root / INFO_FILE
        try:
            self._info = load_json(self.file, MAX_METADATA_BYTES)
        except FileNotFoundError:
            raise NotADatasetError(
                f"{root} is not a LeRobot dataset: it has no {INFO_FILE}. Name the folder that "
                "holds meta/ and data/."
            ) from None

        version = self._info.get("codebase_version")
        if not isinstance(version, str) or not _VERSIONS.fullmatch(version):
            raise FormatVersionError(
                f"{self.file} says codebase_version {version!r:.40}; read are v2.x and v3.x. "
                "Convert it with LeRobot."
            )

        self.many_a_file = version.startswith("v3")
        self.fps = self._number("fps", 1, 10_000)
        self.episodes = self._number("total_episodes", 0, MAX_EPISODES)
        self.chunk_episodes = (
            1 if self.many_a_file else self._number("chunks_size", 1, MAX_EPISODES)
        )
        robot = self._info.get("robot_type")
        self.robot_type = robot if isinstance(robot, str) else ""
        self.features = {feature.name: feature for feature in self._read_features()}
        self.videos = [
            feature.name for feature in self.features.values() if feature.dtype == "video"
        ]
        self._data_path = self._template("data_path")
        self._video_path = self._template("video_path") if self.videos else ""

    def damaged(self, problem: str) -> DamagedFileError:
        """Return an error about it."""
        return DamagedFileError(self.file, problem, ADVICE)

    def data_file(self, **numbers: int) -> Path:
        """Return the path of a parquet file."""
        return self._path(self._data_path, numbers)

    def video_file(self, name: str, **numbers: int) -> Path:
        """Return the path of the mp4 file of a video feature."""
        return self._path(self._video_path, {**numbers, "video_key": name})

    def _number(self, name: str, low: int, high: int) -> int:
        value = self._info.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.damaged(
                f"its {name} is {value!r:.40}, expected a whole number from {low} to {high}"
            )
        return value

    def _read_features(self) -> Iterator[Feature]:
        declared = self._info.get("features")
        if not isinstance(declared, dict) or not 0 < len(declared) <= MAX_FEATURES:
            raise self.damaged(f"its features are not an object of 1 to {MAX_FEATURES} entries")

        for name, feature in declared.items():
            if not _FEATURE_NAME.fullmatch(name):
                raise UnsafeFileError(
                    self.file, f"its feature name {name!r:.80} could lead elsewhere as a path"
                )

            try:
                yield _feature(name, feature)
            except (TypeError, ValueError, KeyError, AttributeError):
                raise self.damaged(
                    f"its feature {name!r} is not declared with dtype and shape"
                ) from None

    def _template(self, name: str) -> str:
        """Return a path template, after making sure that it can lead only into the folder."""
        text = self._info.get(name)
        if not isinstance(text, str) or len(text) > 300:
            raise self.damaged(f"its {name} is {text!r:.40}, expected a path with placeholders")

        try:
            pieces = list(string.Formatter().parse(text))
        except ValueError:
            raise self.damaged(f"its {name} {text!r:.80} is no path with placeholders") from None

        for _, place, style, conversion in pieces:
            known = place is None or (
                place in _PLACEHOLDERS and _NUMBER_FORMAT.fullmatch(style or "")
            )

            if not known or conversion:
                places = ", ".join(_PLACEHOLDERS)
                raise UnsafeFileError(
                    self.file, f"its {name} {text!r:.80} has other placeholders than {places}"
                )

        literal = "".join(piece[0] for piece in pieces)
        if text.startswith("/") or any(part in literal for part in ("..", "\\", "\0")):
            raise UnsafeFileError(self.file, f"its {name} {text!r:.80} leads out of the folder")
        return text

    def _path(self, template: str, values: Mapping[str, int | str]) -> Path:
        try:
            path = self.root / template.format(**values)
        except (KeyError, ValueError):
            raise self.damaged(
                f"its path {template!r:.80} is not one of its codebase_version"
            ) from None
        return self.inside(path)

    def inside(self, path: Path) -> Path:
        """Return `path`, after making sure that its folder is in the dataset; raises UnsafeFileError."""
        if not path.parent.resolve().is_relative_to(self.root.resolve()):
            raise UnsafeFileError(path, "its folder is a link that leads out of the dataset")
        return path


def _feature(name: str, declared: Mapping[str, Any]) -> Feature:
    dtype, shape, names = declared["dtype"], tuple(declared["shape"]), declared.get("names")
    if not isinstance(dtype, str) or not all(
        isinstance(side, int) and 0 <= side < MAX_SIDE for side in shape
    ):
        raise TypeError
    if dtype in ("video", "image"):
        info = declared.get("info") or {}
        if info.get("is_depth_map") or info.get("video.is_depth_map"):
            dtype = "depth"

        # Older datasets declare channels first; the pictures themselves are the same.
        if len(shape) == 3 and shape[2] != 3 and shape[0] == 3:
            shape = (*shape[1:], 3)
        return Feature(name, dtype, shape)

    if isinstance(names, dict) and len(names) == 1:  # such as {"motors": [...]}
        names = next(iter(names.values()))
    fits = (
        isinstance(names, list)
        and shape == (len(names),)
        and all(isinstance(entry, str) for entry in names)
    )

    return Feature(name, dtype, shape, names=names if fits else None)
