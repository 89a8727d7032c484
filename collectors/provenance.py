"""What differs between two runs of the same specs: time, host, versions, state of the source."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import shopfloor
from shopfloor.datasets.disk.errors import disk_error
from shopfloor.datasets.disk.files import temporary_name

PACKAGES = ("numpy", "gymnasium", "pybullet", "h5py", "hdf5plugin", "torch")


def now() -> str:
    """Return the current time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@functools.lru_cache(maxsize=1)
def environment() -> dict[str, Any]:
    """Return host, platform, versions of the packages that matter and the state of the source, as JSON."""
    versions = {"shopfloor": shopfloor.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)

    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "versions": versions,
        "git": _git_state(),
    }


def _git_state() -> dict[str, Any] | None:
    """Return commit and cleanliness of the checkout the package runs from, None for an installed wheel."""
    root = Path(shopfloor.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    try:
        answers = [
            subprocess.run(
                ["git", "-C", str(root), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
            for arguments in (
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no"],
            )
        ]
    except (OSError, subprocess.SubprocessError):
        return None

    return {"commit": answers[0].stdout.strip(), "clean": not answers[1].stdout.strip()}


def replace_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a JSON file by a new version, whole or not at all. Raises DiskError."""
    temporary = temporary_name(path)
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())

        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(path, error) from error
