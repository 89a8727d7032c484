"""LeRobot's tables: arrays as Arrow columns, and parquet files of bounded size."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from shopfloor.datasets.convert.lerobot.arrow import Arrow, pa, pq
from shopfloor.datasets.convert.lerobot.layout import AUTOMATIC, Feature
from shopfloor.datasets.convert.lerobot.stats import NAMES

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SIDECAR_SCHEMA = pa.schema(
    [
        ("episode_index", pa.int64()),
        ("facts", pa.string()),
        (
            "arrays",
            pa.list_(
                pa.struct(
                    [
                        ("name", pa.string()),
                        ("dtype", pa.string()),
                        ("shape", pa.list_(pa.int64())),
                        ("data", pa.binary()),
                    ]
                )
            ),
        ),
    ]
)
CHUNKS_SIZE = 1000  # files a folder


class RollingFiles:
    """Numbers files chunk-xxx/file-xxx: a next one when the current one is full, a next folder after `CHUNKS_SIZE`.

    Attributes:
        chunk, file: numbers of the current one.
    """

    def __init__(self, root: Path, template: str, limit_bytes: int) -> None:
        """Start before the first file; `template` has chunk_index and file_index."""
        self._root, self._template, self._limit = root, template, limit_bytes
        self.chunk, self.file = 0, -1

    @property
    def started(self) -> bool:
        """Whether there is a current file."""
        return self.file >= 0

    def full(self, size: int, latest: int) -> bool:
        """Whether a file of `size` bytes is full if the next episode takes as many as the latest one."""
        return size > 0 and size + latest > self._limit

    def next(self) -> Path:
        """Return the next file's path, its folder made."""
        self.file += 1
        if self.file == CHUNKS_SIZE:
            self.chunk, self.file = self.chunk + 1, 0
        path = self._root / self._template.format(chunk_index=self.chunk, file_index=self.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class RollingTable:
    """Parquet files that grow by row groups.

    Attributes:
        files: which file the last rows went to.
    """

    def __init__(self, files: RollingFiles, schema: Arrow, compression: str = "snappy") -> None:
        """Start without a file."""
        self.files, self._schema, self._compression = files, schema, compression
        self._writer: Any = None
        self._file: BinaryIO | None = None
        self._latest = 0

    def begin(self) -> tuple[int, int]:
        """Make room for rows that belong together; return the chunk and file number they will be in."""
        if self._file is not None and self.files.full(self._file.tell(), self._latest):
            self.close()
        if self._file is None:
            self._file = self.files.next().open("xb")
            self._writer = pq.ParquetWriter(
                self._file, self._schema, compression=self._compression, write_page_checksum=True
            )
        return self.files.chunk, self.files.file

    def write(self, table: Arrow) -> None:
        """Append a table as one row group of the file that `begin` chose."""
        assert self._file is not None
        before = self._file.tell()
        self._writer.write_table(table, row_group_size=max(len(table), 1))
        self._latest = self._file.tell() - before

    def close(self) -> None:
        """Write the footer and close the file."""
        if self._file is not None:
            self._writer.close()
            self._file.close()
            self._file = None

    def abandon(self) -> None:
        """Leave the file as it is, after an error: without this pyarrow would try to finish it, and complain."""
        if self._file is not None:
            if self._writer is not None:
                self._writer.is_open = False
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def data_schema(features: Sequence[Feature]) -> Arrow:
    """Return the schema of the frames' table; videos have no column."""
    columns = []
    for feature in features:
        if feature.dtype == "image":
            columns.append((feature.name, PICTURE))
        elif feature.dtype != "video":
            columns.append((feature.name, _column_type(feature)))
    columns += [(name, pa.from_numpy_dtype(np.dtype(dtype))) for name, dtype in AUTOMATIC.items()]
    return pa.schema(columns)


def _column_type(feature: Feature) -> Arrow:
    kind = pa.from_numpy_dtype(np.dtype(feature.dtype))
    if feature.shape == (1,):
        return kind
    if len(feature.shape) == 1:
        return pa.list_(kind, feature.shape[0])
    for _ in feature.shape:
        kind = pa.list_(kind)
    return kind


def column(feature: Feature, rows: npt.NDArray[Any]) -> Arrow:
    """Return T rows as an Arrow array of `data_schema`'s type: plain, fixed-size lists, or nested lists."""
    T = len(rows)
    values = pa.array(np.ascontiguousarray(rows).reshape(-1))
    if feature.shape == (1,):
        return values
    if len(feature.shape) == 1:
        return pa.FixedSizeListArray.from_arrays(values, feature.shape[0])

    for axis in reversed(range(len(feature.shape))):
        count = T * int(np.prod(feature.shape[:axis]))
        offsets = np.arange(count + 1, dtype=np.int32) * feature.shape[axis]
        values = pa.ListArray.from_arrays(pa.array(offsets), values)
    return values


def picture_column(pictures: Sequence[bytes]) -> Arrow:
    """Return encoded pictures as Hugging Face's struct of bytes and path."""
    paths = [f"frame-{index:06d}.png" for index in range(len(pictures))]
    return pa.StructArray.from_arrays(
        [pa.array(pictures, pa.binary()), pa.array(paths, pa.string())], names=["bytes", "path"]
    )


def episodes_schema(features: Sequence[Feature]) -> Arrow:
    """Return the schema of the episodes' table: where each episode lies, and its statistics."""
    columns: list[tuple[str, Any]] = [
        ("episode_index", pa.int64()),
        ("tasks", pa.list_(pa.string())),
        ("length", pa.int64()),
        ("data/chunk_index", pa.int64()),
        ("data/file_index", pa.int64()),
        ("dataset_from_index", pa.int64()),
        ("dataset_to_index", pa.int64()),
    ]

    for feature in features:
        if feature.dtype == "video":
            prefix = f"videos/{feature.name}"
            columns += [(f"{prefix}/chunk_index", pa.int64()), (f"{prefix}/file_index", pa.int64())]
            columns += [
                (f"{prefix}/from_timestamp", pa.float64()),
                (f"{prefix}/to_timestamp", pa.float64()),
            ]

    axes = {feature.name: 3 if feature.is_picture else 1 for feature in features}
    for name, count in (axes | dict.fromkeys(AUTOMATIC, 1)).items():
        kind = pa.float64()
        for _ in range(count):
            kind = pa.list_(kind)

        columns += [
            (f"stats/{name}/{what}", pa.list_(pa.int64()) if what == "count" else kind)
            for what in NAMES
        ]

    columns += [("meta/episodes/chunk_index", pa.int64()), ("meta/episodes/file_index", pa.int64())]
    return pa.schema(columns)


def tasks_table(tasks: Mapping[str, int]) -> Arrow:
    """Return the table of tasks; pandas reads the text as its index, as LeRobot expects."""

    def entry(name: str | None, kind: str, dtype: str, metadata: object) -> dict[str, Any]:
        return {
            "name": name,
            "field_name": name,
            "pandas_type": kind,
            "numpy_type": dtype,
            "metadata": metadata,
        }

    pandas = {
        "index_columns": ["task"],
        "column_indexes": [entry(None, "unicode", "object", {"encoding": "UTF-8"})],
        "columns": [
            entry("task_index", "int64", "int64", None),
            entry("task", "unicode", "object", None),
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }

    table = pa.table(
        {
            "task_index": pa.array(list(tasks.values()), pa.int64()),
            "task": pa.array(list(tasks), pa.string()),
        }
    )

    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
