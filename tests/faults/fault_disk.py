"""A disk that writes down every call that changes it, and can stop or fail any of them.

Within `with Disk(folder):` the calls of `SystemCalls` and the functions of `os` go through it,
whoever makes them.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from pathlib import Path

from shopfloor.datasets.disk.files import POSIX

ERRORS = ("ENOSPC", "EIO", "EACCES", "EROFS", "EDQUOT", "EINTR", "short", "nothing")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_TWO_NAMES = ("link", "rename", "replace", "rename_noreplace")
_ONE_NAME = ("unlink", "remove", "mkdir", "rmdir")
_OPEN = open
_NAMES = ("open", "write", "fsync", "close", *_TWO_NAMES, *_ONE_NAME)


class Killed(BaseException):
    """Stands for SIGKILL: nothing reaches the disk after it."""


class _Written(io.RawIOBase):
    """A file open for writing by way of `os`."""

    def __init__(self, fd):
        self._fd = fd

    def writable(self):
        return True

    def fileno(self):
        return self._fd

    def write(self, data):
        return os.write(self._fd, memoryview(data))

    def close(self):
        if not self.closed:
            super().close()
            os.close(self._fd)


class Disk:
    """Records; with `at`, does something else at that call: "kill" before it, "torn" within it, or an error.

    Attributes:
        log: (call, *what it was called with), file ids in place of descriptors, names relative to
            the folder; and ("reported", what) where `report` was called.
        calls: how many of them were calls.
    """

    def __init__(
        self, folder: Path, at: int = -1, fault: str = "kill", *, forever: bool = False
    ) -> None:
        self.folder, self.at, self.fault, self.forever = folder.resolve(), at, fault, forever
        self.log: list[tuple] = []
        self.calls = 0
        self.hit: list[str] = []
        self._dead = False
        self._files: dict[int, int | str] = {}  # descriptor -> file id, or a folder's name
        self._reading: dict[int, str] = {}
        self._offsets: dict[int, int] = {}
        self._made = 0

    def report(self, what: object) -> None:
        self.log.append(("reported", what))

    def __enter__(self) -> Disk:
        self._originals = []
        for name in vars(POSIX):
            self._replace(POSIX, name, self._wrap(name, getattr(POSIX, name)))
        for name in _NAMES:
            if hasattr(os, name):
                self._replace(os, name, self._wrap(name, getattr(os, name)))
        for owner in (io, builtins):
            self._replace(owner, "open", self._open_file)
        return self

    def __exit__(self, kind, error, trace) -> bool:
        for owner, name, real in reversed(self._originals):
            self._set(owner, name, real)
        return kind is Killed

    def _replace(self, owner, name, new):
        self._originals.append((owner, name, vars(owner).get(name, getattr(owner, name))))
        self._set(owner, name, new)

    @staticmethod
    def _set(owner, name, new):
        (object.__setattr__ if owner is POSIX else setattr)(owner, name, new)

    def _open_file(
        self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, **options
    ):
        """Stand in for `open`: a file that is written goes through the calls above."""
        if (
            mode.strip("bt") not in ("w", "x")
            or isinstance(file, int)
            or self._inside(file) is None
        ):
            return _OPEN(file, mode, buffering, encoding, errors, newline, **options)
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_EXCL if "x" in mode else os.O_TRUNC)
        buffer = io.BufferedWriter(_Written(os.open(file, flags, 0o666)))
        return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, errors, newline)

    # -- one call ----------------------------------------------------------------------------------

    def _wrap(self, name, real):
        def call(*arguments, **options):
            entry = self._entry(name, arguments, options)
            if entry is None:
                result = real(*arguments, **options)
                self._follow(name, arguments, options, result)
                return result
            number, self.calls = self.calls, self.calls + 1
            hit = number == self.at or (self.forever and number > self.at >= 0)
            if self._dead or (hit and self.fault == "kill"):
                self._dead = True
                raise Killed
            if hit and (self.fault != "nothing" or name == "write"):
                self.hit.append(name)
                if self.fault == "torn":
                    self._dead = True
                    self._tear(name, real, arguments, options)
                    raise Killed
                if self.fault in ("short", "nothing"):
                    arguments = self._shorten(name, arguments)
                    entry = self._entry(name, arguments, options)
                else:
                    if name == "close":  # the descriptor is gone even when close reports an error
                        real(*arguments)
                        del self._files[arguments[0]]
                    code = getattr(errno, self.fault)
                    raise OSError(code, os.strerror(code))
            if name == "write" and not len(arguments[1]):
                return 0
            result = real(*arguments, **options)
            self._note(name, entry, arguments, result)
            return result

        return call

    def _tear(self, name, real, arguments, options):
        if name == "write":
            real(*self._shorten(name, arguments))
        else:
            real(*arguments, **options)

    def _shorten(self, name, arguments):
        if name != "write":
            return arguments
        size = 0 if self.fault == "nothing" else max(len(arguments[1]) // 2, 1)
        return arguments[0], arguments[1][:size]

    def _follow(self, name, arguments, options, result):
        """Remember descriptors that only read: a file or folder may be synced through one."""
        if name == "open":
            path = self._inside(arguments[0], options.get("dir_fd"))
            self._reading.pop(result, None) if path is None else self._reading.update(
                {result: path}
            )
        elif name == "close":
            self._reading.pop(arguments[0], None)

    # -- what is written down ----------------------------------------------------------------------

    def _entry(self, name, arguments, options):
        """Return what is to be logged, None for a call that changes nothing here."""
        if name == "open":
            path = self._inside(arguments[0], options.get("dir_fd"))
            flags = arguments[1] if len(arguments) > 1 else options["flags"]
            folder = flags & os.O_DIRECTORY and not options.get("dir_fd")
            if path is None or not (flags & _WRITES or folder):
                return None
            return ("folder", path) if folder else ("create", path)
        if name in ("write", "fsync", "close"):
            if name == "fsync" and arguments[0] in self._reading:
                return (name, self._reading[arguments[0]])
            return (name, self._files[arguments[0]]) if arguments[0] in self._files else None
        names = [
            self._inside(path, options.get("dir_fd"))
            for path in arguments[: 1 + (name in _TWO_NAMES)]
        ]
        if None in names:
            return None
        kind = {"remove": "unlink", "replace": "rename", "rename_noreplace": "rename"}.get(
            name, name
        )
        return (kind, *names)

    def _note(self, name, entry, arguments, result):
        if name == "open":
            if entry[0] == "create":
                self._made += 1
                self._files[result], self._offsets[result] = self._made, 0
                self.log.append((*entry, self._made))
            else:
                self._files[result] = entry[1]
        elif name == "write":
            data = bytes(arguments[1][:result])
            self.log.append(("write", entry[1], self._offsets[arguments[0]], data))
            self._offsets[arguments[0]] += result
        elif name == "close":
            del self._files[arguments[0]]
        else:
            self.log.append(entry)

    def _inside(self, path, dir_fd=None):
        """Return a path's name inside the folder, None if it is elsewhere."""
        if isinstance(path, int):
            return None
        text = os.fsdecode(path)
        if dir_fd is not None:
            text = f"{Path(f'/proc/self/fd/{dir_fd}').readlink()}/{text}"
        text = os.path.abspath(text)  # noqa: PTH100  # links are not followed: names are what is written down
        if text == str(self.folder):
            return "."
        return os.path.relpath(text, self.folder) if text.startswith(f"{self.folder}/") else None
