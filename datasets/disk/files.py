"""Files as bytes: the trailer that proves a file, safe opening, publishing without replacing."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shopfloor import platforms
from shopfloor.datasets.disk.errors import (
    DamagedFileError,
    UnsafeFileError,
    disk_error,
    read_error,
)
from shopfloor.errors import InvalidInputError

try:
    import fcntl
except ImportError:  # Windows
    _LOCKS = False
else:
    _LOCKS = True

TRAILER_MAGIC = b"SFSHA256"
TRAILER_BYTES = 40
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_FILE_BYTES = 1 << 34
TEMPORARY_SUFFIX = ".tmp"
STALE_SECONDS = 86_400.0
# Bytes of the final name that a temporary name begins with; file systems allow 255 in all.
_NAME_BYTES = 200
_TEMPORARY_NAME = re.compile(r"\..+\.([0-9a-z]+)-(\d+)-[0-9a-f]{12}\.tmp")
_BLOCK = 1 << 20
_READ = os.O_RDONLY | platforms.NO_BLOCK | platforms.CLOSED_IN_CHILDREN | platforms.AS_IT_IS
NEW_FILE = (
    os.O_CREAT | os.O_EXCL | platforms.NO_FOLLOW | platforms.CLOSED_IN_CHILDREN | platforms.AS_IT_IS
)
_IS_A_LINK = "it is a symbolic link, expected a regular file"
# The tag of a machine that has no /proc to tell its boots apart.
_ELSEWHERE = "elsewhere"
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100


# --------------------------------------------------------------------------------------------------
# Trailer
# --------------------------------------------------------------------------------------------------


def with_trailer(image: bytes) -> bytes:
    """Append the 40-byte trailer: `SFSHA256` + SHA-256 of all bytes before it."""
    return b"".join((image, TRAILER_MAGIC, hashlib.sha256(image).digest()))


def check_trailer(path: Path, data: bytes) -> None:
    """Raise DamagedFileError unless `data`, a file's bytes, ends with the hash of the bytes before."""
    view = memoryview(data)
    _compare(path, bytes(view[-TRAILER_BYTES:]), hashlib.sha256(view[:-TRAILER_BYTES]).digest())


def _require_trailer(path: Path, trailer: bytes) -> None:
    if len(trailer) < TRAILER_BYTES or trailer[:8] != TRAILER_MAGIC:
        raise DamagedFileError(
            path, "it has no trailer (SFSHA256): it was cut short, changed, or never committed"
        )


def _compare(path: Path, trailer: bytes, digest: bytes) -> None:
    _require_trailer(path, trailer)
    if trailer[8:] != digest:
        raise DamagedFileError(path, "its bytes do not match the SHA-256 in its trailer")


# --------------------------------------------------------------------------------------------------
# Safe opening
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileState:
    """The facts that change when a file's content does, so that the file need not be read again.

    Attributes:
        device: number of the device.
        inode: number of the inode.
        bytes: size of the file.
        modified_ns: time of the last change, ns.
    """

    device: int
    inode: int
    bytes: int
    modified_ns: int

    @classmethod
    def of(cls, fd: int) -> FileState:
        """Return the state of an open file."""
        info = os.fstat(fd)
        return cls(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)


def require_usable(folder: Path) -> None:
    """Check a folder's name; a folder that is missing is fine.

    Raises:
        InvalidInputError: no folder can have this name.
        DiskError: this process may not look there.
    """
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError as error:
        raise read_error(folder, error) from error
    except (OSError, ValueError) as error:  # too long, a loop of links, NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidInputError(
            f"{str(folder)!r:.300} cannot be used as a folder: {reason}. Choose another."
        ) from None


@contextlib.contextmanager
def open_regular(path: Path, limit: int = MAX_FILE_BYTES) -> Iterator[int]:
    """Open a regular file of bounded size for reading; no link is followed and no pipe waited for.

    Args:
        path: the file.
        limit: the most bytes that it may have.

    Yields:
        A file descriptor.

    Raises:
        UnsafeFileError: it is a link, pipe, device or folder, or too large.
        DamagedFileError: the operating system cannot read it.
        DiskError: it may be whole, but this process may not open it, or not now.
        FileNotFoundError: there is no such file.
    """
    if not platforms.NO_FOLLOW and path.is_symlink():
        raise UnsafeFileError(path, _IS_A_LINK)

    try:
        fd = os.open(path, _READ | platforms.NO_FOLLOW)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnsafeFileError(path, _IS_A_LINK) from None
        raise read_error(path, error) from error

    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise UnsafeFileError(path, "it is not a regular file")
        if info.st_size > limit:
            raise UnsafeFileError(
                path, f"it has {info.st_size} bytes, more than the limit of {limit}"
            )

        yield fd
    finally:
        os.close(fd)


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """Read a whole regular file; raises as `open_regular`."""
    with open_regular(path, limit) as fd:
        parts = []
        try:
            while part := os.read(fd, 16 * _BLOCK):
                parts.append(part)
            return b"".join(parts)
        except MemoryError as error:
            raise read_error(path, OSError(errno.ENOMEM, "not enough memory")) from error
        except OSError as error:
            raise read_error(path, error) from error


def hash_file(path: Path, limit: int = MAX_FILE_BYTES) -> tuple[str, FileState]:
    """Check a file's trailer, reading it in blocks.

    Args:
        path: the file.
        limit: the most bytes that it may have.

    Returns:
        SHA-256 of the whole file, trailer included, in hexadecimal; and the file's state then.

    Raises:
        DamagedFileError: the trailer does not hold, or as `open_regular`.
    """
    with open_regular(path, limit) as fd:
        state = FileState.of(fd)
        left = max(state.bytes - TRAILER_BYTES, 0)
        hasher = hashlib.sha256()

        try:
            # First of all, before gigabytes are read for nothing.
            _require_trailer(path, platforms.read_at(fd, TRAILER_BYTES, left))

            while left:
                part = os.read(fd, min(left, _BLOCK))
                if not part:
                    raise DamagedFileError(path, "it became shorter while it was read")

                hasher.update(part)
                left -= len(part)

            trailer = os.read(fd, TRAILER_BYTES + 1)
        except OSError as error:
            raise read_error(path, error) from error

    _compare(path, trailer, hasher.digest())
    hasher.update(trailer)
    return hasher.hexdigest(), state


# --------------------------------------------------------------------------------------------------
# Publishing
# --------------------------------------------------------------------------------------------------


def _rename_noreplace(source: Path, target: Path) -> None:
    """Rename, unless something has the new name.

    On macOS another process may take the name between the check and the rename; even then a folder
    that holds something is not replaced. On Windows a rename never replaces.
    """
    if not platforms.LINUX:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))

        source.rename(target)
        return

    libc = ctypes.CDLL(None, use_errno=True)
    names = (_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target))
    if libc.renameat2(*names, _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


@dataclass(frozen=True)
class SystemCalls:
    """The calls that change a dataset, in one place so that tests can stop or fail any of them."""

    open: Callable[[Path, int, int], int] = os.open
    write: Callable[[int, memoryview], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    close: Callable[[int], None] = os.close
    link: Callable[[Path, Path], None] = os.link
    rename_noreplace: Callable[[Path, Path], None] = _rename_noreplace
    unlink: Callable[[Path], None] = os.unlink
    mkdir: Callable[[Path, int], None] = os.mkdir


POSIX = SystemCalls()
# What a file system answers that cannot sync folders.
CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP)
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


def publish(path: Path, data: bytes, calls: SystemCalls = POSIX) -> bool:
    """Make `data` appear under `path`, whole and durable, or not at all; never replace a file.

    A temporary file in the same folder (`.*.tmp`) is written and fsynced, then it gets its name,
    then the folder is fsynced.

    Args:
        path: the final name.
        data: the file's bytes.
        calls: the operating system's calls.

    Returns:
        True if the file is new, False if there was one of that name, which stays as it is.

    Raises:
        DiskError: the operating system refused a call; the temporary file is removed.
    """
    temporary = temporary_name(path)
    try:
        _write_temporary(temporary, data, calls)
        new = _give_name(temporary, path, calls)
        with contextlib.suppress(OSError):  # a leftover temporary harms nothing
            calls.unlink(temporary)
        _sync_folder(path.parent, calls)
    except OSError as error:
        with contextlib.suppress(OSError):
            calls.unlink(temporary)
        raise disk_error(path, error) from error

    return new


def require_writable(folder: Path) -> None:
    """Raise InvalidInputError unless files can be made in a folder, which exists."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidInputError(
            f"{folder} cannot be written to (a read-only file system, or no permission); nothing "
            "was changed. Choose another folder, or change its permissions."
        )


def temporary_name(path: Path) -> Path:
    """Return an unused name beside `path`, of a form that `sweep_temporaries` knows."""
    start = path.name.encode("utf-8", "surrogateescape")[:_NAME_BYTES].decode("utf-8", "ignore")
    return path.with_name(
        f".{start}.{_machine()}-{os.getpid()}-{os.urandom(6).hex()}{TEMPORARY_SUFFIX}"
    )


@functools.cache
def _machine() -> str:
    """Return a tag of this boot of this machine and of this process namespace.

    Among processes of one tag, process numbers are unique.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        namespace = Path("/proc/self/ns/pid").stat().st_ino
        return hashlib.sha256(f"{boot}{namespace}".encode()).hexdigest()[:8]
    except OSError:
        return _ELSEWHERE


def sweep_temporaries(folder: Path, calls: SystemCalls = POSIX) -> None:
    """Remove the temporary files of writers that are gone.

    Those of this machine are gone if their process is: the clock, which may have jumped, decides
    nothing about them. Those of other machines are taken for gone after a day.
    """
    try:
        paths = [Path(entry.path) for entry in os.scandir(folder)]
    except OSError:  # no such folder, or one that may not be listed: none of ours are in it
        return

    for path in paths:
        with contextlib.suppress(OSError):  # another process may sweep it, too
            if abandoned(path):
                calls.unlink(path)


def abandoned(path: Path) -> bool:
    """Whether a path has the name of a temporary file whose writer is gone; raises OSError."""
    match = _TEMPORARY_NAME.fullmatch(path.name)
    if match is None:
        return False

    machine, process = match.groups()
    if machine == _machine() != _ELSEWHERE:
        return not Path(f"/proc/{process}").exists()
    return time.time() - path.lstat().st_mtime > STALE_SECONDS


def _write_temporary(temporary: Path, data: bytes, calls: SystemCalls) -> None:
    fd = calls.open(temporary, os.O_WRONLY | NEW_FILE, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[_written(calls.write(fd, view)) :]
        calls.fsync(fd)
    except BaseException:
        with contextlib.suppress(OSError):
            calls.close(fd)
        raise

    calls.close(fd)


def _written(count: int) -> int:
    if count <= 0:
        raise OSError(errno.EIO, "the disk accepted no more bytes")
    return count


def _give_name(temporary: Path, path: Path, calls: SystemCalls) -> bool:
    try:
        calls.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise

        try:
            calls.rename_noreplace(temporary, path)
        except FileExistsError:
            return False

    return True


def _sync_folder(folder: Path, calls: SystemCalls) -> None:
    if not platforms.SYNCS_FOLDERS:
        return

    fd = calls.open(folder, os.O_RDONLY | platforms.FOLDER | platforms.CLOSED_IN_CHILDREN, 0)
    try:
        calls.fsync(fd)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
    finally:
        calls.close(fd)


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold a dataset's lock: of the processes that remove files, one works at a time.

    Raises:
        InvalidInputError: another process holds it.
        DiskError: the folder cannot be opened.
    """
    if not _LOCKS:
        yield
        return

    try:
        fd = os.open(root, _READ)
    except OSError as error:
        raise read_error(root, error) from error

    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInputError(
                f"Another process compacts, purges or repairs {root}; run this again when it has "
                "ended."
            ) from None
        except OSError:  # a file system without locks
            pass

        yield
    finally:
        os.close(fd)


def unlink_all(files: Iterable[Path], calls: SystemCalls = POSIX) -> None:
    """Remove files durably; those that are gone already are passed over. Raises DiskError."""
    folders = set()
    for file in files:
        try:
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                calls.unlink(file)
        except OSError as error:
            raise disk_error(file, error) from error

        folders.add(file.parent)

    for folder in sorted(folders):
        settle(folder, calls)


def settle(folder: Path, calls: SystemCalls = POSIX) -> None:
    """Make the names in a folder durable; raises DiskError.

    A writer that was killed before its last fsync leaves names that only memory holds. A folder
    that may not be listed is passed over, since nothing is written there.
    """
    try:
        with contextlib.suppress(PermissionError):
            _sync_folder(folder, calls)
    except OSError as error:
        raise disk_error(folder, error) from error


def make_folder(path: Path, calls: SystemCalls = POSIX) -> None:
    """Make a folder and its parents, or find them there, and make their names durable; raises DiskError."""
    try:
        if not path.is_dir():
            # A folder is made only after its parent's name is durable: so of one that is there, its
            # own name alone has to be synced.
            make_folder(path.parent, calls)
            with contextlib.suppress(FileExistsError):  # another process was faster
                calls.mkdir(path, 0o777)
            _sync_folder(path, calls)  # fails if it is a file
            _sync_folder(path.parent, calls)
            return
    except OSError as error:
        raise disk_error(path, error) from error

    for folder in (path, path.parent):
        settle(folder, calls)
