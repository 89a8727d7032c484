"""A new HDF5 file of any size, written piece by piece: a disk that refuses is an error, never a crash."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import h5py

from shopfloor import platforms
from shopfloor.datasets.disk.files import NEW_FILE


class _Sink:
    """The file that HDF5 writes to; it reports success always, as HDF5 would end the process.

    Attributes:
        error: the disk's first refusal; nothing is written after it.
    """

    def __init__(self, fd: int) -> None:
        self._fd, self._position = fd, 0
        self.error: OSError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (os.fstat(self._fd).st_size if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, out: memoryview) -> int:
        count, view = len(out), memoryview(out)
        while len(view):
            got = 0 if self.error else platforms.read_into(self._fd, view, self._position)
            if not got:  # never written: HDF5 knows it as zeros
                view[:] = bytes(len(view))
                break
            self._position += got
            view = view[got:]
        return count

    def write(self, data: memoryview) -> int:
        view = memoryview(data)
        while len(view) and not self.error:
            try:
                count = platforms.write_at(self._fd, view, self._position)
            except OSError as error:
                self.error = error
                break
            self._position += count
            view = view[count:]
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        if not self.error:
            try:
                os.ftruncate(self._fd, size)
            except OSError as error:
                self.error = error
        return size

    def flush(self) -> None:
        pass  # the file is synced as a whole when it is published


class GrowingFile:
    """An HDF5 file that is being written; use it as a context manager.

    Example:
        with GrowingFile(path) as file, file.disk():
            write_array(file.root, "x", rows, "gzip")

    Attributes:
        file: HDF5's handle of it.
        root: handle of its root group.
    """

    def __init__(self, path: Path) -> None:
        """Make a file, which must not exist yet; raises OSError."""
        self._fd = os.open(path, os.O_RDWR | NEW_FILE, 0o666)
        self._sink = _Sink(self._fd)
        try:
            with self.disk():
                self.file = _create(path, self._sink)
                self.root = h5py.h5g.open(self.file, b"/")
        except BaseException:
            os.close(self._fd)
            raise

    @contextlib.contextmanager
    def disk(self) -> Iterator[None]:
        """Raise the disk's refusal, an OSError, as soon as a piece is done, in place of what HDF5 makes of it."""
        try:
            yield
        except Exception as error:
            if self._sink.error:
                raise self._sink.error from error
            raise
        if self._sink.error:
            raise self._sink.error

    def __enter__(self) -> GrowingFile:
        """Return it."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Write what HDF5 still holds back, and close it; raises OSError."""
        try:
            with self.disk() if kind is None else contextlib.suppress(Exception):
                self.file.close()
        finally:
            os.close(self._fd)


def _create(path: Path, sink: _Sink) -> h5py.h5f.FileID:
    # A function of its own: what else knows of the sink must be gone before Python is, or HDF5
    # calls it afterwards.
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_LATEST)
    access.set_fclose_degree(
        h5py.h5f.CLOSE_STRONG
    )  # closing it is final, whatever still knows of a part of it
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, sink)
    return h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, fapl=access)
