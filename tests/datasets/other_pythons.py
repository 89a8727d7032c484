"""Virtual environments of other tools, each of its own, built once and kept in `.cache/`."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from shopfloor.core import sha256_hex

CACHE = Path(__file__).resolve().parents[2] / ".cache"
# torch first and pinned, as everywhere; robomimic itself without its dependencies, which it pins to
# old releases.
ROBOMIMIC = (
    ["torch==2.13.0"],
    [
        *(
            "h5py",
            "hdf5plugin",
            "numpy",
            "psutil",
            "tqdm",
            "termcolor",
            "tensorboard",
            "tensorboardX",
            "imageio",
        ),
        *(
            "imageio-ffmpeg",
            "matplotlib",
            "six",
        ),  # robomimic imports six, which others no longer bring along
    ],
    ["--no-deps", "robomimic==0.3.0"],
)
# Minari needs Pillow to open any dataset, but does not ask for it.
MINARI = (["minari[hdf5]==0.5.4", "pillow"],)


def python_with(name: str, installs: Sequence[Sequence[str]]) -> Path:
    """Return the Python of an environment, which is built unless it is there.

    Args:
        name: of the environment.
        installs: arguments of `pip install`, one call after the other.
    """
    CACHE.mkdir(exist_ok=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = CACHE / f"{name}-{version}-{sha256_hex(json.dumps(installs))[:12]}"
    python, done = folder / "bin" / "python", folder / "done"
    # Test processes that run side by side wait for it.
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            run = [sys.executable, "-m", "venv", "--clear", str(folder)]
            subprocess.run(run, check=True, capture_output=True, text=True)
            for packages in installs:
                install = [
                    str(python),
                    "-m",
                    "pip",
                    "install",
                    "-q",
                    "--disable-pip-version-check",
                    *packages,
                ]
                result = subprocess.run(install, capture_output=True, text=True, check=False)
                assert result.returncode == 0, result.stderr[-2000:]
            done.touch()
    return python


def run_with(python: Path, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in another environment, free of this one's settings."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HDF5"))
    }
    run = [str(python), "-c", script, *map(str, arguments)]
    return subprocess.run(run, capture_output=True, text=True, check=False, env=clean)
