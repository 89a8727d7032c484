"""The folders inside a dataset and the names of the files in them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from shopfloor.datasets.disk.errors import UnsafeFileError
from shopfloor.datasets.disk.files import POSIX, SystemCalls, sweep_temporaries
from shopfloor.datasets.format import layout


def inner_folder(root: Path, name: str) -> Path | None:
    """Return one of a dataset's folders, None without it; raises UnsafeFileError if it leads elsewhere."""
    folder = root / name
    if not os.path.lexists(folder):
        return None
    if folder.is_symlink() or not folder.is_dir():
        raise UnsafeFileError(
            folder, "it is not a folder of its own", "Links out of a dataset are not followed."
        )
    return folder


def numbered(root: Path, name: str, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
    """Return number and path of the files in a dataset's folder whose names match, ascending."""
    folder = inner_folder(root, name)
    if folder is None:
        return []

    found = []
    for entry in folder.iterdir():
        match = pattern.fullmatch(entry.name)
        if match:
            found.append((int(match[1]), entry))
    return sorted(found)


def data_files(root: Path) -> dict[str, int]:
    """Return name in the dataset -> size, bytes, of all `.h5` files; -1 if it is no regular file."""
    files = {}
    for name in (layout.EPISODES, layout.SHARDS):
        folder = inner_folder(root, name)
        for entry in os.scandir(folder) if folder else ():
            if entry.name.endswith(".h5"):
                regular = entry.is_file(follow_symlinks=False)
                files[f"{name}/{entry.name}"] = (
                    entry.stat(follow_symlinks=False).st_size if regular else -1
                )

    return files


def sweep_dataset(root: Path, calls: SystemCalls = POSIX) -> None:
    """Remove what killed writers left in a dataset and its folders, see `sweep_temporaries`."""
    sweep_temporaries(root, calls)
    for name in layout.FOLDERS:
        sweep_temporaries(root / name, calls)
