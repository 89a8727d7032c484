"""New folders and files that appear whole or not at all: made beside, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from shopfloor import platforms
from shopfloor.datasets.disk.errors import disk_error
from shopfloor.datasets.disk.files import (
    CANNOT_SYNC,
    POSIX,
    SystemCalls,
    abandoned,
    make_folder,
    require_writable,
    temporary_name,
)
from shopfloor.errors import InvalidInputError

_NO_NOREPLACE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)


@contextlib.contextmanager
def staged_folder(out: Path | str, calls: SystemCalls = POSIX) -> Iterator[Path]:
    """Make a folder that appears, whole and durable, when the block ends without an error.

    What killed processes left of an earlier try is removed first.

    Args:
        out: the folder; its parents are made, it must not exist.
        calls: the operating system's calls.

    Yields:
        An empty folder beside it to write into.

    Raises:
        InvalidInputError: `out` exists, or nothing can be written there.
        DiskError: the disk refused; nothing is left behind, or `out` is whole where only its name
            could not be made durable.
    """
    place = _prepare(out, calls)
    temporary = temporary_name(place)
    try:
        with _disk_errors(place, temporary):
            calls.mkdir(temporary, 0o777)
            yield temporary
            _sync_tree(temporary, calls)
            _rename(temporary, place, calls)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextlib.contextmanager
def staged_file(out: Path | str, calls: SystemCalls = POSIX) -> Iterator[Path]:
    """Make a file that appears, whole and durable, when the block ends without an error.

    Args:
        out: the file; its parents are made, it must not exist.
        calls: the operating system's calls.

    Yields:
        A name beside it, not taken, to write to.

    Raises:
        InvalidInputError, DiskError: as `staged_folder`.
    """
    place = _prepare(out, calls)
    temporary = temporary_name(place)
    try:
        with _disk_errors(place, temporary):
            yield temporary
            _sync(temporary, calls)
            _rename(temporary, place, calls)
    except BaseException:
        _remove(temporary)
        raise


def _prepare(out: Path | str, calls: SystemCalls) -> Path:
    place = Path(out).absolute()
    if os.path.lexists(place):
        raise _taken(place)

    existing = next(folder for folder in place.parents if os.path.lexists(folder))
    if not existing.is_dir():
        raise InvalidInputError(f"{existing} is not a folder, so {place} cannot be made in it.")

    require_writable(existing)
    make_folder(place.parent, calls)
    start = temporary_name(place).name.rsplit(".", 2)[0] + "."

    with contextlib.suppress(OSError):  # what cannot be listed or removed harms nothing
        for entry in place.parent.iterdir():
            if entry.name.startswith(start) and abandoned(entry):
                _remove(entry)
    return place


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _taken(place: Path) -> InvalidInputError:
    return InvalidInputError(
        f"{place} exists; choose a name that is free (nothing is ever replaced)."
    )


@contextlib.contextmanager
def _disk_errors(place: Path, temporary: Path) -> Iterator[None]:
    """Turn the disk's refusals into DiskError; errors about other files stay what they are."""
    try:
        yield
    except OSError as error:
        inside = error.filename is not None and temporary.name in str(error.filename)
        if inside or (error.filename is None and error.errno in _DISK):
            raise disk_error(place, error) from error
        raise


def _sync_tree(folder: Path, calls: SystemCalls) -> None:
    for where, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync(Path(where, name), calls)
        _sync(Path(where), calls)


def _sync(path: Path, calls: SystemCalls) -> None:
    if not platforms.SYNCS_FOLDERS and path.is_dir():
        return

    fd = calls.open(
        path, platforms.OPEN_TO_SYNC | platforms.NO_FOLLOW | platforms.CLOSED_IN_CHILDREN, 0
    )

    try:
        calls.fsync(fd)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
    finally:
        calls.close(fd)


def _rename(temporary: Path, place: Path, calls: SystemCalls) -> None:
    try:
        calls.rename_noreplace(temporary, place)
    except FileExistsError:
        raise _taken(place) from None
    except OSError as error:
        if error.errno not in _NO_NOREPLACE:
            raise
        if os.path.lexists(place):  # this file system cannot do both in one step
            raise _taken(place) from None
        temporary.rename(place)

    _sync(place.parent, calls)
