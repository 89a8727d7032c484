"""Writes .npy files row by row; how many rows there are is known only at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_HEADER_BYTES = 256  # room for any number of rows; NumPy wants a multiple of 64
_MAGIC = b"\x93NUMPY\x01\x00"


def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return the header of a .npy file, format 1.0; its length does not depend on the rows."""
    text = repr(
        {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
    room = _HEADER_BYTES - len(_MAGIC) - 2
    assert len(text) < room, text
    return _MAGIC + room.to_bytes(2, "little") + text.ljust(room - 1).encode("latin1") + b"\n"


def little_endian(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array as it lies in a file: in C order, little-endian."""
    return np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))


def raw_bytes(rows: npt.NDArray[Any]) -> memoryview:
    """Return the bytes of an array that `little_endian` gave, without copying them."""
    return rows.reshape(-1).view(np.uint8).data if rows.size else memoryview(b"")


class NpyFile:
    """A .npy file that is being written.

    Attributes:
        path: the file.
        dtype: dtype of its rows.
        row_shape: shape of a row.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> None:
        """Create the file, which must not exist yet."""
        self.path, self.dtype, self.row_shape = path, dtype.newbyteorder("<"), row_shape
        self._row_bytes = int(np.prod(row_shape, dtype=np.int64)) * dtype.itemsize
        self._file = path.open("xb")

    def put(self, rows: npt.NDArray[Any], at: int) -> None:
        """Write rows from row `at` on; rows before that were never written are zeros."""
        self._file.seek(_HEADER_BYTES + at * self._row_bytes)
        self._file.write(raw_bytes(little_endian(rows)))

    def finish(self, count: int) -> None:
        """Write the header for `count` rows and close the file."""
        self._file.seek(0)
        self._file.write(npy_header(self.dtype, (count, *self.row_shape)))
        self._file.truncate(_HEADER_BYTES + count * self._row_bytes)
        self._file.close()

    def close(self) -> None:
        """Close the file as it is."""
        self._file.close()
