"""The bytes of a foreign HDF5 file as HDF5 gets them: in bounded pieces, with errors in words."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import h5py

from shopfloor import platforms
from shopfloor.datasets.disk.errors import DamagedFileError, UnsafeFileError
from shopfloor.datasets.format.hdf5_objects import hdf5_errors

MAX_PIECE_BYTES = 1 << 28  # that HDF5 may read at once
_ADVICE = "Get a whole copy from where it came from."
_UNSAFE_ADVICE = "Do not trust where it is from, or ask for a file of plain arrays without links."


class ForeignBytes:
    """An open file that HDF5 reads through us: this file alone, and never too much at once.

    Attributes:
        path: the file's name, for messages.
    """

    def __init__(self, path: Path, fd: int, size: int) -> None:
        """Keep an open file.

        Args:
            path: the file's name.
            fd: a descriptor of the open file.
            size: size of the file, bytes.
        """
        self.path = path
        self._fd, self._size, self._position = fd, size, 0
        self._limit = MAX_PIECE_BYTES

    def open(self) -> h5py.h5f.FileID:
        """Open it with HDF5, to read only."""
        access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
        # Closing it is final, whatever still refers to a part of it.
        access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
        access.set_fileobj_driver(h5py.h5fd.fileobj_driver, self)
        # `access` must be gone before Python is, else HDF5 calls this object afterwards: it stays
        # in this function.
        return h5py.h5f.open(os.fsencode(self.path), h5py.h5f.ACC_RDONLY, fapl=access)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, as a file does; HDF5 asks for places from the start, and for the end."""
        self._position = offset + (self._size if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        """Return the place, as a file does."""
        return self._position

    def readinto(self, out: memoryview) -> int:
        """Fill `out` or fail, as HDF5 takes what it gets for whole; raises ValueError, OSError."""
        count, view = len(out), memoryview(out)
        if count > self._limit:
            raise ValueError(f"one piece has {count} bytes, more than {self._limit}")

        while len(view):
            got = platforms.read_into(self._fd, view, self._position)
            if not got:
                raise ValueError("the file ends before what it points to")

            self._position += got
            view = view[got:]

        return count

    @contextlib.contextmanager
    def at_most(self, limit: int) -> Iterator[None]:
        """Allow pieces of up to `limit` bytes meanwhile, for texts: HDF5 alone knows their sizes."""
        self._limit = limit
        try:
            yield
        finally:
            self._limit = MAX_PIECE_BYTES

    @contextlib.contextmanager
    def errors(self, name: str = "") -> Iterator[None]:
        """Turn whatever HDF5 raises about an object of the file into DamagedFileError, or DiskError."""
        try:
            with hdf5_errors(self.path):
                yield
        except DamagedFileError as error:
            if isinstance(error, UnsafeFileError) or error.advice == _ADVICE:  # named already
                raise

            where = f"{name}: " if name else ""
            raise DamagedFileError(
                self.path, f"{where}{error.problem}", _ADVICE
            ) from error.__cause__

    def damaged(self, name: str, problem: str) -> DamagedFileError:
        """Return an error about an object that is not as the file describes it."""
        return DamagedFileError(self.path, f"{name or '/'} {problem}", _ADVICE)

    def unsafe(self, name: str, problem: str) -> UnsafeFileError:
        """Return an error about an object that is never read."""
        return UnsafeFileError(self.path, f"{name or '/'} {problem}", _UNSAFE_ADVICE)
