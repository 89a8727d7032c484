"""Foreign parquet files, read a few rows at a time and within what their metadata allows."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.datasets.convert.lerobot.arrow import Arrow, pa, pq
from shopfloor.datasets.convert.lerobot.frames import ADVICE
from shopfloor.datasets.convert.lerobot.parquet_footer import read_footer
from shopfloor.datasets.disk.errors import DamagedFileError, UnsafeFileError
from shopfloor.datasets.disk.files import open_regular

_ROWS = 1024
_VALUES = 1 << 24  # numbers of one column in a block
# A dictionary-encoded row may be as large as all that its column's row group has: a few of them are
# decoded at a time.
_TEXT_BYTES = 1 << 28
MAX_GROUP_BYTES = 1 << 31


class Block:
    """Some rows of a table.

    Attributes:
        path: the file they are from.
        table: Arrow's table of them.
    """

    def __init__(self, path: Path, table: Arrow) -> None:
        """Keep an Arrow table."""
        self.path, self.table = path, table

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.table.num_rows)

    def rows(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return a column of numbers, shape (T, *shape), in the dtype it is stored in.

        Raises:
            DamagedFileError: it holds something else, or rows of another shape.
        """
        values = self._column(name)
        wanted = shape
        while (
            pa.types.is_list(values.type)
            or pa.types.is_large_list(values.type)
            or pa.types.is_fixed_size_list(values.type)
        ):
            count, side = len(values), wanted[0] if wanted else -1
            if pa.types.is_fixed_size_list(values.type):
                fits = values.type.list_size == side
            else:
                lengths = values.value_lengths().to_numpy(zero_copy_only=False)
                fits = bool((lengths == side).all())

            values = values.flatten()
            if not fits or len(values) != count * side:
                raise self._wrong(name, f"lists of other lengths than {shape}")

            wanted = wanted[1:]
            self._full(name, values)

        kind = values.type
        if not (
            pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        ):
            raise self._wrong(name, f"{kind}, expected numbers")

        array: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False)
        return array.reshape(len(self), *shape)

    def integers(self, name: str) -> npt.NDArray[np.int64]:
        """Return a column of whole numbers, shape (T,), int64."""
        rows = self.rows(name, ())
        if rows.dtype.kind not in "iu":
            raise self._wrong(name, f"{rows.dtype}, expected integers")
        return rows.astype(np.int64)

    def texts(self, name: str) -> list[str]:
        """Return a column of texts."""
        column = self._column(name)
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise self._wrong(name, f"{column.type}, expected text")
        try:
            texts: list[str] = column.to_pylist()
        except UnicodeDecodeError:
            raise self._wrong(name, "bytes that are no UTF-8 text") from None
        return texts

    def pictures(self, name: str) -> list[bytes]:
        """Return a column of encoded pictures: bytes, or Hugging Face's struct of bytes and path."""
        column = self._column(name)
        if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
            column = column.field("bytes")
            self._full(name, column)
        if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
            raise self._wrong(name, f"{column.type}, expected encoded pictures")
        pictures: list[bytes] = column.to_pylist()
        return pictures

    def _column(self, name: str) -> Arrow:
        column = self.table.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        self._full(name, column)
        return column

    def _full(self, name: str, values: Arrow) -> None:
        if values.null_count:
            raise self._wrong(name, f"{values.null_count} empty entries")

    def _wrong(self, name: str, found: str) -> DamagedFileError:
        return DamagedFileError(self.path, f"its column {name!r} holds {found}", ADVICE)


class ParquetReader:
    """An open parquet file.

    Attributes:
        path: the file.
        names: its columns.
    """

    def __init__(self, path: Path) -> None:
        """Open it and read its metadata.

        Raises:
            DamagedFileError: it is no parquet file; UnsafeFileError: it is no regular file, or
                claims absurd sizes.
        """
        self.path = path
        self._stack = contextlib.ExitStack()
        try:
            with self._errors():
                fd = self._stack.enter_context(open_regular(path))
                self._groups = read_footer(fd)
                file = self._stack.enter_context(os.fdopen(os.dup(fd), "rb"))
                self._file = self._stack.enter_context(
                    pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)
                )
                self.names = list(self._file.schema_arrow.names)
        except BaseException:
            self._stack.close()
            raise

    def blocks(self, columns: Mapping[str, int]) -> Iterator[Block]:
        """Read columns, in blocks of some rows.

        Args:
            columns: name -> values in each row, 0 for any number.

        Raises:
            DamagedFileError: a column is missing or has rows of other sizes, or the file cannot be
                read.
        """
        missing = [name for name in columns if name not in self.names]
        if missing:
            raise DamagedFileError(self.path, f"it has no column {missing[0]!r}", ADVICE)

        with self._errors():
            batches = self._file.iter_batches(
                batch_size=self._block_rows(columns), columns=list(columns), use_threads=False
            )
            for batch in batches:
                yield Block(self.path, pa.Table.from_batches([batch]))

    def runs(self, columns: Mapping[str, int], lengths: Sequence[int]) -> Iterator[Block]:
        """Read columns in blocks of exactly these lengths, which must be all the file's rows.

        Args:
            columns: as for `blocks`.
            lengths: number of rows in each.

        Raises:
            DamagedFileError: the file has more or fewer rows, or as `blocks`.
        """
        have = sum(group.rows for group in self._groups)
        if have != sum(lengths):
            raise DamagedFileError(
                self.path,
                f"it has {have} rows, but meta/episodes places {sum(lengths)} there",
                ADVICE,
            )

        waiting: list[Any] = []
        blocks = self.blocks(columns)
        for length in lengths:
            while sum(len(table) for table in waiting) < length:
                block = next(blocks, None)
                if block is None:
                    raise DamagedFileError(
                        self.path, f"it has fewer rows than the {have} it claims", ADVICE
                    )

                waiting.append(block.table)

            table = pa.concat_tables(waiting)
            yield Block(self.path, table.slice(0, length))
            waiting = [table.slice(length)]

    def _block_rows(self, columns: Mapping[str, int]) -> int:
        """Return how many rows may be decoded at a time, after comparing what the footer claims with what is due.

        A few bytes of a run-length encoding can stand for gigabytes, so nothing is decoded on
        trust.
        """
        # A group is what a writer held in memory; blocks of several would hold more.
        rows = min(_ROWS, max((group.rows for group in self._groups), default=1))
        for group in self._groups:
            for leaf in group.leaves:
                if leaf.column not in columns:
                    continue

                each = columns[leaf.column]
                claims = f"its column {leaf.column!r:.80} claims {leaf.values} values in {group.rows} rows"
                if each and leaf.values != each * group.rows:
                    raise DamagedFileError(self.path, f"{claims}, expected {each} a row", ADVICE)
                if leaf.bytes > MAX_GROUP_BYTES:
                    raise UnsafeFileError(
                        self.path, f"{claims}, {leaf.bytes} bytes, more than {MAX_GROUP_BYTES}"
                    )

                rows = min(rows, _VALUES // max(each, 1))
                if leaf.text:
                    rows = min(rows, _TEXT_BYTES // max(leaf.bytes, 1))

        return max(rows, 1)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise DamagedFileError(self.path, "it is missing", ADVICE) from None
        except (pa.ArrowException, OSError, OverflowError, ValueError) as error:
            text = " ".join(str(error).split())
            raise DamagedFileError(
                self.path, f"it cannot be read as parquet ({text[:200]})", ADVICE
            ) from error

    def __enter__(self) -> ParquetReader:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._stack.close()
