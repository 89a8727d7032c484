"""Builds the wheel and uses it as a stranger would: a fresh environment without torch, outside the repository.

Run from anywhere: ``python checks/wheel.py [--python PYTHON]``. Exits 1 at the first thing that
does not work.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("envs", "datasets", "collectors", "policies", "launch")
LEFT_OUT = shutil.ignore_patterns(
    ".git",
    ".venv*",
    "build",
    "dist",
    "runs",
    "__pycache__",
    "*.egg-info",
    ".*_cache",
    ".hypothesis",
)


@dataclass(frozen=True)
class Step:
    """A command that must end with `code`, in at most `limit_s` seconds, and show `shows` in what it prints."""

    command: Sequence[str]
    code: int = 0
    shows: str = ""
    limit_s: int = 1800  # against hangs alone


USES = [
    Step(["shopfloor", "--version"], shows="0."),
    Step(["shopfloor", "--help"], shows="collect"),
    Step(["shopfloor", "cells"], shows="PickToTray"),
    Step(
        [
            "shopfloor",
            "collect",
            "PickToTray",
            "--policy",
            "expert",
            "--episodes",
            "2",
            "--out",
            "d",
        ]
    ),
    Step(
        ["shopfloor", "evaluate", "--policy", "expert", "--cell", "PickToTray", "--episodes", "2"],
        shows="success",
    ),
    Step(["shopfloor", "data", "info", "d"]),
    Step(["shopfloor", "data", "verify", "d"]),
    Step(["python", "-m", "shopfloor", "--version"], shows="0."),
    Step(["python", "-c", "from shopfloor import Dataset; assert len(Dataset('d').records) == 2"]),
    # A trained policy needs the extra: said plainly, before anything is run.
    Step(
        ["shopfloor", "evaluate", "--policy", "ck", "--cell", "PickToTray", "--episodes", "2"],
        code=2,
        shows="pip install -e '.[policies]'",
    ),
    Step(
        ["shopfloor", "train", "--data", "d", "--out", "trained"],
        code=2,
        shows="pip install -e '.[policies]'",
    ),
]


class CheckError(Exception):
    """Something about the wheel is wrong."""


def main(arguments: list[str] | None = None) -> int:
    """Build, compare, install and use the wheel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter of the fresh environment"
    )
    python = parser.parse_args(arguments).python
    with tempfile.TemporaryDirectory(prefix="wheel-") as name:
        folder = Path(name)
        try:
            wheel = build(folder)
            compare(wheel)
            binaries = install(wheel, folder / "env", python)
            use(binaries, folder / "elsewhere")
        except (CheckError, subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(f"wheel: FAILED: {error}")
            return 1
    print("wheel: passed")
    return 0


def build(folder: Path) -> Path:
    """Build the wheel from a copy of the repository, which keeps build folders out of it and out of the wheel."""
    copy = folder / "source"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=LEFT_OUT)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(copy),
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    print(f"wheel: built {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB")
    return wheel


def compare(wheel: Path) -> None:
    """Check that the wheel holds every file of the five folders and of src/shopfloor, and no other code."""
    wanted = {
        "shopfloor/" + path.name
        for path in (ROOT / "src" / "shopfloor").iterdir()
        if path.is_file()
    }
    for folder in FOLDERS:
        files = (
            path
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        )
        wanted |= {f"shopfloor/{path.relative_to(ROOT)}" for path in files}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        if damaged := archive.testzip():
            raise CheckError(f"{damaged} is damaged in {wheel.name}")
    if missing := wanted - held:
        raise CheckError(f"not in the wheel: {sorted(missing)}; see package-data in pyproject.toml")
    if surplus := held - wanted:
        raise CheckError(f"in the wheel but not in the repository: {sorted(surplus)}")
    print(f"wheel: holds all {len(wanted)} files")


def install(wheel: Path, environment: Path, python: str) -> Path:
    """Install the wheel with its core dependencies in a fresh environment; return the folder of its commands."""
    subprocess.run([python, "-m", "venv", str(environment)], check=True, stdin=subprocess.DEVNULL)
    binaries = environment / "bin"
    pip = [str(binaries / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "install", "--quiet", str(wheel)], check=True, stdin=subprocess.DEVNULL)
    subprocess.run([*pip, "check"], check=True, stdin=subprocess.DEVNULL)
    found = subprocess.run(
        [str(binaries / "python"), "-c", "import torch"], capture_output=True, check=False
    )
    if found.returncode == 0:
        raise CheckError("the core dependencies pull torch")
    return binaries


def use(binaries: Path, elsewhere: Path) -> None:
    """Run the steps outside the repository; the first that goes wrong ends the check."""
    elsewhere.mkdir()
    (elsewhere / "ck").mkdir()
    (elsewhere / "ck" / "config.json").write_text("{}", encoding="utf-8")
    (elsewhere / "ck" / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    environment = {
        "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}",
        "HOME": str(elsewhere),
    }
    for step in USES:
        done = subprocess.run(
            list(step.command),
            cwd=elsewhere,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=step.limit_s,
            check=False,
        )
        line = " ".join(step.command)
        if (
            done.returncode != step.code
            or step.shows not in done.stdout
            or "Traceback" in done.stdout
        ):
            expected = f"exit {step.code} and {step.shows!r}, no traceback"
            raise CheckError(
                f"{line}: exit {done.returncode}; expected {expected}. It printed:\n{done.stdout}"
            )
        print(f"wheel: {line}: exit {done.returncode}, as it should")


if __name__ == "__main__":
    sys.exit(main())
