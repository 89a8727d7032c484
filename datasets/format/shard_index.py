"""The index of a train shard: its groups and arrays and where they lie, in one place.

It is the array `index` at the root: UTF-8 text, a line for each episode, in order of their numbers.
A line is JSON, `{"attributes": {name: value}, "arrays": {path in the group: [dtype, shape, offset
in the file]}}`. HDF5 keeps the same facts in many small places, which take a hundred times as long
to read; `data verify` compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor import platforms
from shopfloor.datasets.disk.errors import DamagedFileError, UnsafeFileError
from shopfloor.datasets.disk.strict_json import parse_json
from shopfloor.datasets.format import layout
from shopfloor.specs import canonical_json

INDEX = "index"
MAX_LINE_BYTES = 1 << 21


@dataclass
class Descriptor:
    """An open file, for as long as it is.

    Attributes:
        path: the file.
        number: its descriptor; -1 once it is closed, so that whoever still reads by it gets an
            error, not another file that was given the number.
    """

    path: Path
    number: int = -1


class PlainArray:
    """An array that lies in a file as it does in memory; reads like `container.Array`.

    Attributes:
        shape: its shape.
        dtype: its dtype.
        offset: where it begins in the file, bytes.
        nbytes: its size, bytes.
        contiguous: True, as no chunks lie between its rows.
    """

    contiguous = True

    def __init__(
        self, file: Descriptor, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int
    ) -> None:
        """Say where an array of an open file lies."""
        self.shape, self.dtype, self.offset = shape, dtype, offset
        self._file = file
        self.nbytes = math.prod(shape) * dtype.itemsize
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize

    def read(self) -> npt.NDArray[Any]:
        """Read all of it."""
        out = np.empty(self.shape, self.dtype)
        self.read_into(out, 0)
        return out

    def read_into(self, out: npt.NDArray[Any], start: int) -> None:
        """Read rows from `start` on into `out`, C-contiguous and of this dtype, until it is full."""
        if not out.size:
            return

        place = self.offset + start * self._row_bytes
        if platforms.read_into(self._file.number, out.data, place) != out.nbytes:
            raise OSError("the file ends before the array does")


@dataclass(frozen=True)
class Entry:
    """An episode in the index.

    Attributes:
        attributes: those of its group.
        arrays: path inside the group -> array.
    """

    attributes: Mapping[str, int | str]
    arrays: Mapping[str, PlainArray]


class ShardIndex:
    """The index of an open train shard; an episode's line is read when it is asked for."""

    def __init__(self, file: Descriptor, text: PlainArray, data_bytes: int) -> None:
        """Find the lines.

        Args:
            file: the open shard.
            text: its array `index`.
            data_bytes: length of the file without its trailer.
        """
        self._file, self._text, self._data_bytes = file, text, data_bytes
        self._ends = np.flatnonzero(text.read() == ord("\n"))

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self._ends)

    def entry(self, group: str) -> Entry | None:
        """Return the entry of a group "demo_<k>", None of others; all of it can lie in the file.

        Raises:
            DamagedFileError: the entry cannot be used.
            UnsafeFileError: the entry claims more than the file can hold.
        """
        if not layout.GROUP_NAME.fullmatch(group):
            return None

        number = int(group.removeprefix("demo_"))
        if number >= len(self):
            return None

        start, stop = int(self._ends[number - 1]) + 1 if number else 0, int(self._ends[number])
        try:
            if stop - start > MAX_LINE_BYTES:
                raise ValueError(f"a line of {stop - start} bytes")  # noqa: TRY301  # one error for all of it

            text = np.empty(stop - start, np.uint8)
            self._text.read_into(text, start)
            line = parse_json(text.tobytes())
            arrays = {name: self._array(*where) for name, where in line["arrays"].items()}
            for value in line["attributes"].values():
                _check_attribute(value)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(
                self._file.path, f"its index cannot be used for {group} ({error})"
            ) from None

        if sum(array.nbytes for array in arrays.values()) > self._data_bytes:
            raise UnsafeFileError(
                self._file.path, f"its index claims more for {group} than the file holds"
            )

        return Entry(line["attributes"], arrays)

    def _array(self, code: str, shape: list[int], offset: int) -> PlainArray:
        dtype = np.dtype(code) if code in layout.ARRAY_DTYPES else None
        whole = all(type(side) is int and side >= 0 for side in [*shape, offset])
        if dtype is None or not whole or not 1 <= len(shape) <= layout.MAX_RANK:
            raise ValueError(f"an array of {code!r:.20}, shape {shape!r:.60} at {offset!r:.20}")
        if offset + math.prod(shape) * dtype.itemsize > self._data_bytes:
            raise ValueError(
                f"an array of shape {shape} at {offset} in a file of {self._data_bytes} bytes"
            )
        return PlainArray(self._file, tuple(shape), dtype, offset)


def _check_attribute(value: object) -> None:
    if type(value) is not int and type(value) is not str:
        raise ValueError(f"an attribute {value!r:.60}")


def index_line(
    attributes: Mapping[str, int | str], arrays: Mapping[str, tuple[np.dtype[Any], Any, int]]
) -> bytes:
    """Return an episode's line of an index.

    Args:
        attributes: those of the episode's group.
        arrays: path inside the group -> dtype, shape, offset.
    """
    places = {}
    for name, (dtype, shape, offset) in arrays.items():
        places[name] = [dtype.newbyteorder("<").str, list(shape), offset]
    return f"{canonical_json({'attributes': dict(attributes), 'arrays': places})}\n".encode()
