"""Files as bytes: the trailer that proves an episode file, safe opening, and publishing without replacing."""

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
from shopfloor.core import DiskError, InvalidInputError
from shopfloor.datasets.disk.errors import DamagedFileError, UnsafeFileError

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
_NAME_BYTES = 200  # of the final name in a temporary one: file systems allow 255 in all
_TEMPORARY_NAME = re.compile(r"\..+\.([0-9a-z]+)-(\d+)-[0-9a-f]{12}\.tmp")
_BLOCK = 1 << 20
_READ = os.O_RDONLY | platforms.NO_BLOCK | platforms.CLOSED_IN_CHILDREN | platforms.AS_IT_IS
NEW_FILE = (
    os.O_CREAT | os.O_EXCL | platforms.NO_FOLLOW | platforms.CLOSED_IN_CHILDREN | platforms.AS_IT_IS
)
_IS_A_LINK = "it is a symbolic link, expected a regular file"
_ELSEWHERE = "elsewhere"  # the tag where no /proc says which boot of the machine this is
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
# Why a file that may be whole cannot be read: the process or its user, not the file, is at fault.
NOT_DAMAGE = {
    errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.ESTALE,
}  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Trailer
# --------------------------------------------------------------------------------------------------


def with_trailer(image: bytes) -> bytes:
    """Append the 40-byte trailer: `SFSHA256` + SHA-256 of all bytes before it."""
    return b"".join((image, TRAILER_MAGIC, hashlib.sha256(image).digest()))


def check_trailer(path: Path, data: bytes) -> None:
    """Raise DamagedFileError unless `data`, a whole file's bytes, ends with the hash of what is before."""
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
    """What tells one content of a file from another without reading it.

    Attributes:
        device: device number.
        inode: inode number.
        bytes: size.
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
    """Raise InvalidInputError for a name that no folder can have, DiskError where nobody may look; missing is fine."""
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
    """Open a regular file of bounded size for reading, never following a link nor waiting for a pipe.

    Args:
        path: the file.
        limit: refuse files of more bytes than this.

    Yields:
        A file descriptor.

    Raises:
        UnsafeFileError: a link, pipe, device or folder, or too large.
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
        limit: refuse files of more bytes than this.

    Returns:
        SHA-256 of the whole file, trailer included, in hexadecimal; and the state it was read in.

    Raises:
        DamagedFileError: the trailer does not hold, or as `open_regular`.
    """
    with open_regular(path, limit) as fd:
        state = FileState.of(fd)
        left = max(state.bytes - TRAILER_BYTES, 0)
        hasher = hashlib.sha256()

        try:
            _require_trailer(
                path, platforms.read_at(fd, TRAILER_BYTES, left)
            )  # before gigabytes are read for nothing

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


def read_error(path: Path, error: OSError) -> DamagedFileError | DiskError:
    """Say in words that `path` cannot be read: damage only where the file itself is at fault."""
    reason = error.strerror or str(error)
    if error.errno not in NOT_DAMAGE:
        return DamagedFileError(path, f"it cannot be read ({reason})")
    advice = {
        errno.EACCES: "Ask its owner for permission to read it, or run this as the user who wrote it.",
        errno.EMFILE: "Raise the limit of open files (ulimit -n), then run the same command again.",
        errno.ENOMEM: "Free some memory, then run the same command again.",
    }.get(error.errno or 0, "Run the same command again.")
    return DiskError(f"Reading {path} failed: {reason}. The file may well be whole. {advice}")


# --------------------------------------------------------------------------------------------------
# Publishing
# --------------------------------------------------------------------------------------------------


def _rename_noreplace(source: Path, target: Path) -> None:
    """Rename, never replacing what is there.

    On macOS another process may come between the look and the rename; even then no folder is
    replaced that holds something. On Windows a rename never replaces.
    """
    if not platforms.LINUX:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))

        source.rename(target)
        return

    libc = ctypes.CDLL(None, use_errno=True)
    if (
        libc.renameat2(
            _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE
        )
        != 0
    ):
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
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


def publish(path: Path, data: bytes, calls: SystemCalls = POSIX) -> bool:
    """Make `data` appear under `path`, whole and durable, or not at all; never replace a file.

    Writes a temporary file in the same folder (`.*.tmp`), fsyncs it, gives it its name, fsyncs the
    folder.

    Args:
        path: the final name.
        data: the file's bytes.
        calls: the operating system's calls.

    Returns:
        True when the file is new, False when there was one of that name (which is left alone).

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
    """Raise InvalidInputError, before anything is done, unless files can be made in an existing folder."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidInputError(
            f"{folder} cannot be written to (a read-only file system, or no permission); nothing was changed. Choose "
            "another folder, or change its permissions."
        )


def temporary_name(path: Path) -> Path:
    """Return a new name beside `path` that `sweep_temporaries` knows, whatever the length of the final name."""
    start = path.name.encode("utf-8", "surrogateescape")[:_NAME_BYTES].decode("utf-8", "ignore")
    return path.with_name(
        f".{start}.{_machine()}-{os.getpid()}-{os.urandom(6).hex()}{TEMPORARY_SUFFIX}"
    )


def disk_error(path: Path, error: OSError) -> DiskError:
    """Say in words that writing `path` failed, and what to do."""
    advice = {
        errno.ENOSPC: "Free some space, then run the same command again.",
        errno.EDQUOT: "Your disk quota is used up: free some space, then run the same command again.",
        errno.EROFS: "The file system is read-only: choose another output folder.",
        errno.EACCES: "You may not write there: choose another output folder or change its permissions.",
        errno.EPERM: "You may not write there, or the file system knows no hard links: choose another output folder.",
    }.get(error.errno or 0, "Check the disk, then run the same command again.")

    reason = error.strerror or str(error)
    return DiskError(
        f"Writing {path} failed: {reason}. Everything reported as saved is whole. {advice}"
    )


@functools.cache
def _machine() -> str:
    """Return a tag of this boot of this machine and this process namespace; within one, process numbers are unique."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return hashlib.sha256(
            f"{boot}{Path('/proc/self/ns/pid').stat().st_ino}".encode()
        ).hexdigest()[:8]
    except OSError:
        return _ELSEWHERE


def sweep_temporaries(folder: Path, calls: SystemCalls = POSIX) -> None:
    """Remove what killed writers left: temporaries of dead processes of this machine, and others' older than a day.

    This machine's clock decides nothing about its own processes: it may have jumped since they
    began.
    """
    try:
        names = [
            (entry.path, _TEMPORARY_NAME.fullmatch(entry.name)) for entry in os.scandir(folder)
        ]
    except OSError:  # no such folder, or not ours to list: then there is nothing of ours to sweep
        return

    for path, match in names:
        with contextlib.suppress(OSError):  # another process swept it, or may
            if match and _abandoned(Path(path), match[1], match[2]):
                calls.unlink(Path(path))


def abandoned(path: Path) -> bool:
    """Whether a path is named as a temporary whose writer is gone."""
    match = _TEMPORARY_NAME.fullmatch(path.name)
    return match is not None and _abandoned(path, match[1], match[2])


def _abandoned(path: Path, machine: str, process: str) -> bool:
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
        if error.errno not in (
            errno.EINVAL,
            errno.ENOTSUP,
        ):  # a file system that cannot sync folders
            raise
    finally:
        calls.close(fd)


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Keep other processes of the kind that removes files from a dataset; they are not safe from each other's haste.

    Raises:
        InvalidInputError: another one is at work. DiskError: the folder cannot be opened.
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
                f"Another process compacts, purges or repairs {root}; run this again when it has ended."
            ) from None
        except OSError:  # a file system without locks
            pass

        yield
    finally:
        os.close(fd)


def unlink_all(files: Iterable[Path], calls: SystemCalls = POSIX) -> None:
    """Remove files, those that are gone already passed over, and make that durable; raises DiskError."""
    folders = set()
    for file in files:
        try:
            with contextlib.suppress(FileNotFoundError):  # another process does the same
                calls.unlink(file)
        except OSError as error:
            raise disk_error(file, error) from error

        folders.add(file.parent)

    for folder in sorted(folders):
        settle(folder, calls)


def settle(folder: Path, calls: SystemCalls = POSIX) -> None:
    """Make the names in a folder durable: a writer killed before its last fsync leaves some that only memory holds.

    A folder that may not be listed is left alone: nothing is written there. Raises DiskError.
    """
    try:
        with contextlib.suppress(PermissionError):
            _sync_folder(folder, calls)
    except OSError as error:
        raise disk_error(folder, error) from error


def make_folder(path: Path, calls: SystemCalls = POSIX) -> None:
    """Make a folder durable, with the way to it and the names in it; an existing one is fine. Raises DiskError."""
    try:
        if not path.is_dir():
            # Made only after its parent's own name is durable: so a folder that is there only needs
            # its own synced.
            make_folder(path.parent, calls)
            with contextlib.suppress(FileExistsError):  # another process was faster
                calls.mkdir(path, 0o777)
            _sync_folder(path, calls)  # says so if it is a file
            _sync_folder(path.parent, calls)

            return
    except OSError as error:
        raise disk_error(path, error) from error

    for folder in (path, path.parent):
        settle(folder, calls)
