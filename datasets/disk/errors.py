"""Errors of datasets, one class a cause, and the operating system's refusals in words."""

from __future__ import annotations

import errno
from pathlib import Path

from shopfloor.errors import DiskError, ShopfloorError

# Why a file that may be whole cannot be read: the process or its user, not the file, is at fault.
NOT_DAMAGE = {
    errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE,
    errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.ESTALE,
}  # fmt: skip


class NotADatasetError(ShopfloorError):
    """A folder that is no dataset: no `dataset.json`, or it holds something else."""


class FormatVersionError(ShopfloorError):
    """A dataset or file of a format version this release does not know."""


class DamagedFileError(ShopfloorError):
    """A file that is truncated, altered or incomplete; the message names it and what to do.

    Attributes:
        file: full name of the file.
        problem: what is wrong with it.
        advice: what to do.
    """

    exit_code = 1

    def __init__(self, file: object, problem: str, advice: str = "") -> None:
        """Name the `file`, the `problem` and the way out."""
        self.file = str(file)
        self.problem = problem
        self.advice = advice or (
            "Other episodes are not affected. Move the file out of the dataset, or restore it from "
            "a copy; running the command that collected it again records a missing episode anew."
        )
        super().__init__(f"{self.file} is damaged: {problem}. {self.advice}")

    def __reduce__(self) -> tuple[type[DamagedFileError], tuple[str, str, str]]:
        """Keep the error whole when a worker process sends it."""
        return type(self), (self.file, self.problem, self.advice)


class UnsafeFileError(DamagedFileError):
    """A file with something that is never read: a link, an unknown filter, an absurd size."""

    exit_code = 2

    def __init__(self, file: object, problem: str, advice: str = "") -> None:
        """Name the `file` and the feature that is refused."""
        super().__init__(
            file,
            problem,
            advice or "No committed episode has this; do not trust where the file is from.",
        )


def read_error(path: Path, error: OSError) -> DamagedFileError | DiskError:
    """Return the error for a file that cannot be read: damage only if the file itself is at fault."""
    reason = error.strerror or str(error)
    if error.errno not in NOT_DAMAGE:
        return DamagedFileError(path, f"it cannot be read ({reason})")
    advice = {
        errno.EACCES: "Ask its owner for permission to read it, or run this as the user who wrote "
        "it.",
        errno.EMFILE: "Raise the limit of open files (ulimit -n), then run the same command again.",
        errno.ENOMEM: "Free some memory, then run the same command again.",
    }.get(error.errno or 0, "Run the same command again.")
    return DiskError(f"Reading {path} failed: {reason}. The file may well be whole. {advice}")


def disk_error(path: Path, error: OSError) -> DiskError:
    """Return the error for a file that cannot be written, with what to do."""
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
