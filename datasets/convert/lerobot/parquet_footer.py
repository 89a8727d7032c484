"""The claims of a foreign parquet file, read from its footer without pyarrow.

pyarrow reads columns safely, but ends the whole process when it is asked about a column of a
damaged footer (seen with version 26). The footer is a struct in Thrift's compact protocol; of that
four kinds of things are needed here.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Any

from shopfloor import platforms

_MAGIC = b"PAR1"
MAX_FOOTER_BYTES = 1 << 28
_MAX_DEPTH = 16
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)
_TEXT_TYPES = (6, 7)  # BYTE_ARRAY, FIXED_LEN_BYTE_ARRAY


@dataclass(frozen=True)
class LeafColumn:
    """A column of numbers or texts in a row group.

    Attributes:
        column: the table's column it is part of.
        values: how many it claims, entries of lists counted singly.
        bytes: when unpacked.
        text: whether it holds bytes, not numbers.
    """

    column: str
    values: int
    bytes: int
    text: bool


@dataclass(frozen=True)
class RowGroup:
    """A row group.

    Attributes:
        rows: number of rows that it claims.
        leaves: its columns.
    """

    rows: int
    leaves: tuple[LeafColumn, ...]


def read_footer(fd: int) -> list[RowGroup]:
    """Return the row groups of an open parquet file.

    Raises:
        ValueError: saying what is wrong with the footer.
    """
    size = os.fstat(fd).st_size
    end = platforms.read_at(fd, 8, max(size - 8, 0))
    if len(end) < 8 or end[4:] != _MAGIC:
        raise ValueError("it does not end with the magic bytes PAR1")

    (length,) = struct.unpack("<I", end[:4])
    if length > min(size - 8, MAX_FOOTER_BYTES):
        raise ValueError(f"its footer claims {length} bytes")

    try:
        footer = _Compact(platforms.read_at(fd, length, size - 8 - length)).struct()
        return [_group(group) for group in footer.get(4, [])]
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError, struct.error):
        raise ValueError("its footer is not one of parquet") from None


def _group(group: dict[int, Any]) -> RowGroup:
    leaves = []
    for chunk in group[1]:
        about = chunk[3]
        column = about[3][0].decode()
        values, size = about[5], about[6]
        if 1 in chunk:
            raise ValueError(f"its column {column!r:.80} lies in another file")
        if values < 0 or size < 0:
            raise ValueError(f"its column {column!r:.80} claims {values} values in {size} bytes")

        leaves.append(LeafColumn(column, values, size, about[1] in _TEXT_TYPES))

    if group[3] < 0:
        raise ValueError(f"a row group claims {group[3]} rows")
    return RowGroup(group[3], tuple(leaves))


class _Compact:
    """Thrift's compact protocol: structs as field number -> value, everything else as Python's own."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _MAX_DEPTH:
            raise ValueError("its footer is nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:  # noqa: ANN401  # any of Thrift's types
        if kind in _INTEGERS:
            return self._integer()
        if kind == _BINARY:
            return self._take(self._varint())
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth)

        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind == _DOUBLE:
            return self._take(8)
        if kind == _MAP:
            return self._map(depth)

        raise ValueError(f"its footer has a value of unknown type {kind}")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = self._varint() if head >> 4 == 15 else head >> 4
        self._room(count)
        if depth > _MAX_DEPTH:
            raise ValueError("its footer is nested too deep")
        return [self._value(head & 15, depth + 1) for _ in range(count)]

    def _map(self, depth: int) -> None:
        count = self._varint()
        self._room(count)
        kinds = self._byte() if count else 0
        for _ in range(count):
            self._value(kinds >> 4, depth + 1)
            self._value(kinds & 15, depth + 1)

    def _room(self, count: int) -> None:
        """Refuse a count of things, each a byte or more, that cannot be there."""
        if count > len(self._data) - self._at:
            raise ValueError(f"its footer claims {count} entries")

    def _byte(self) -> int:
        byte = self._data[self._at]
        self._at += 1
        return byte

    def _take(self, count: int) -> bytes:
        self._room(count)
        self._at += count
        return self._data[self._at - count : self._at]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("its footer has an endless number")

    def _integer(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
