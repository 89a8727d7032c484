"""Writes a LeRobotDataset, episode by episode: only one of them is ever in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import canonical_json
from shopfloor.datasets.convert.lerobot import layout
from shopfloor.datasets.convert.lerobot import parquet as tables
from shopfloor.datasets.convert.lerobot.arrow import Arrow, pa, pq
from shopfloor.datasets.convert.lerobot.layout import AUTOMATIC, Feature
from shopfloor.datasets.convert.lerobot.stats import RunningPictures, RunningRows, of_rows, plain
from shopfloor.datasets.convert.lerobot.video import VideoWriter, video_info
from shopfloor.datasets.convert.png import encode_png

_EPISODES_A_GROUP = 64
_MB = 1 << 20


@dataclass(frozen=True)
class Sizes:
    """How large files grow before the next one begins; LeRobot's defaults.

    Attributes:
        data_mb: size of a parquet file, MiB.
        video_mb: size of an mp4 file, MiB.
    """

    data_mb: int = 100
    video_mb: int = 200


@dataclass
class _Camera:
    """A video feature's current file."""

    feature: Feature
    files: tables.RollingFiles
    writer: VideoWriter | None = None
    latest_bytes: int = 0
    total: int = 0


@dataclass
class LeRobotWriter:
    """A dataset that is being written.

    Attributes:
        root: an existing empty folder.
        features: what a row holds (see `plan_features`).
        fps: control rate.
        encoder: encoder of videos, one of `ENCODERS`.
        robot_type: text for LeRobot's users.
        sizes: sizes of the files.
        episodes, steps: written so far.
        tasks: instruction -> its number.
    """

    root: Path
    features: tuple[Feature, ...]
    fps: int
    encoder: str
    robot_type: str
    sizes: Sizes = field(default_factory=Sizes)
    episodes: int = 0
    steps: int = 0
    tasks: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the tables, which begin their first files with the first episode."""
        limit = self.sizes.data_mb * _MB

        def table(template: str, schema: Arrow, compression: str = "snappy") -> tables.RollingTable:
            return tables.RollingTable(
                tables.RollingFiles(self.root, template, limit), schema, compression
            )

        self._schema = tables.data_schema(self.features)
        self._data = table(layout.DATA_PATH, self._schema)
        self._places = table(layout.EPISODES_PATH, tables.episodes_schema(self.features))
        self._sidecars = table(layout.SIDECAR_PATH, tables.SIDECAR_SCHEMA, "zstd")
        self._rows: list[dict[str, Any]] = []
        self._cameras: list[_Camera] = []
        for feature in self.features:
            if feature.dtype == "video":
                self._cameras.append(_Camera(feature, self._video_files(feature)))

        self._totals: dict[str, RunningRows | RunningPictures] = {}
        for feature in self.features:
            total = RunningPictures() if feature.is_picture else RunningRows()
            self._totals[feature.name] = total
        for name in AUTOMATIC:
            self._totals[name] = RunningRows()

    def _video_files(self, feature: Feature) -> tables.RollingFiles:
        template = layout.VIDEO_PATH.replace("{video_key}", feature.name)
        return tables.RollingFiles(self.root, template, self.sizes.video_mb * _MB)

    def add(
        self,
        task: str,
        rows: Mapping[str, npt.NDArray[Any]],
        facts: Mapping[str, Any],
        arrays: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        """Write an episode.

        Args:
            task: its instruction.
            rows: feature name -> T rows, T at least 1 (see `step_rows`).
            facts: what LeRobot has no place for, as JSON data.
            arrays: and as arrays.
        """
        T = len(rows["action"])
        index = np.arange(self.steps, self.steps + T)
        rows = {
            **rows,
            "timestamp": (np.arange(T) / self.fps).astype(np.float32),
            "frame_index": np.arange(T),
            "episode_index": np.full(T, self.episodes),
            "index": index,
            "task_index": np.full(T, self.tasks.setdefault(task, len(self.tasks))),
        }

        chunk, file = self._data.begin()
        self._data.write(self._table(rows))
        place = {
            "episode_index": self.episodes,
            "tasks": [task],
            "length": T,
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": self.steps,
            "dataset_to_index": self.steps + T,
        }

        for camera in self._cameras:
            place |= self._film(camera, rows[camera.feature.name])
        self._rows.append(place | self._statistics(rows))
        self._write_sidecar(facts, arrays)
        self.episodes += 1
        self.steps += T
        if len(self._rows) == _EPISODES_A_GROUP:
            self._write_places()

    def _table(self, rows: Mapping[str, npt.NDArray[Any]]) -> Arrow:
        columns = []
        for feature in self.features:
            if feature.dtype == "image":
                pictures = list(map(encode_png, rows[feature.name]))
                columns.append(tables.picture_column(pictures))
            elif feature.dtype != "video":
                columns.append(tables.column(feature, rows[feature.name]))
        columns += [pa.array(rows[name]) for name in AUTOMATIC]
        return pa.Table.from_arrays(columns, schema=self._schema)

    def _film(self, camera: _Camera, pictures: npt.NDArray[np.uint8]) -> dict[str, Any]:
        name, files = camera.feature.name, camera.files
        if camera.writer and files.full(camera.writer.bytes, camera.latest_bytes):
            camera.writer.close()
            camera.writer = None

        if camera.writer is None:
            camera.writer = VideoWriter(
                files.next(), self.encoder, self.fps, *camera.feature.shape[:2]
            )

        begin, before = camera.writer.pictures, camera.writer.bytes
        camera.writer.add(pictures)
        camera.latest_bytes = camera.writer.bytes - before

        return {
            f"videos/{name}/chunk_index": files.chunk,
            f"videos/{name}/file_index": files.file,
            f"videos/{name}/from_timestamp": begin / self.fps,
            f"videos/{name}/to_timestamp": camera.writer.pictures / self.fps,
        }

    def _statistics(self, rows: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, total in self._totals.items():
            if isinstance(total, RunningPictures):
                episode = RunningPictures()
                episode.update(rows[name])
                total.merge(episode)
                statistics = plain(episode.result())
            else:
                total.update(rows[name])
                statistics = plain(of_rows(rows[name]))

            for what, value in statistics.items():
                found[f"stats/{name}/{what}"] = value

        return found

    def _write_sidecar(
        self, facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> None:
        listed = []
        for name, array in sorted(arrays.items()):
            data = np.ascontiguousarray(array).tobytes()
            about = {"name": name, "dtype": array.dtype.name, "shape": array.shape}
            listed.append({**about, "data": data})

        self._sidecars.begin()
        row = {"episode_index": self.episodes, "facts": canonical_json(facts), "arrays": listed}
        self._sidecars.write(pa.Table.from_pylist([row], schema=tables.SIDECAR_SCHEMA))

    def _write_places(self) -> None:
        chunk, file = self._places.begin()
        own = {"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file}
        schema = tables.episodes_schema(self.features)
        self._places.write(pa.Table.from_pylist([row | own for row in self._rows], schema=schema))
        self._rows = []

    def abandon(self) -> None:
        """Leave the files as they are, after an error."""
        for table in (self._data, self._places, self._sidecars):
            table.abandon()
        for camera in self._cameras:
            if camera.writer:
                camera.writer.abandon()

    def finish(self, splits: Mapping[str, str], sidecar: Mapping[str, Any]) -> None:
        """Close the files and write `info.json`, `stats.json` and the tasks.

        Args:
            splits: name -> "first:end" of the episodes in it.
            sidecar: a document about the whole dataset, for an import.
        """
        if self._rows:
            self._write_places()
        for table in (self._data, self._places, self._sidecars):
            table.close()

        for camera in self._cameras:
            if camera.writer:
                camera.writer.close()

        pq.write_table(tables.tasks_table(self.tasks), self.root / layout.TASKS_FILE)
        statistics = {name: plain(total.result()) for name, total in self._totals.items()}
        _write_json(self.root / layout.STATS_FILE, statistics)
        _write_json(self.root / layout.SIDECAR_FILE, sidecar)
        _write_json(self.root / layout.INFO_FILE, self._info(splits))

    def _info(self, splits: Mapping[str, str]) -> dict[str, Any]:
        features = {feature.name: feature.to_json() for feature in self.features}
        for camera in self._cameras:
            height, width = camera.feature.shape[:2]
            features[camera.feature.name]["info"] = video_info(
                self.encoder, height, width, self.fps
            )

        for name, dtype in AUTOMATIC.items():
            features[name] = {"dtype": dtype, "shape": [1], "names": None}

        return {
            "codebase_version": layout.VERSION,
            "fps": self.fps,
            "features": features,
            "total_episodes": self.episodes,
            "total_frames": self.steps,
            "total_tasks": len(self.tasks),
            "chunks_size": tables.CHUNKS_SIZE,
            "data_files_size_in_mb": self.sizes.data_mb,
            "video_files_size_in_mb": self.sizes.video_mb,
            "data_path": layout.DATA_PATH,
            "video_path": layout.VIDEO_PATH if self._cameras else None,
            "robot_type": self.robot_type,
            "splits": dict(splits),
        }


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=4, allow_nan=False) + "\n", encoding="utf-8")
