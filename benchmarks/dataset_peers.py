"""The other libraries for the benchmark of the store, each in a process of its own under a Python that has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

WORKER = Path(__file__).with_name("peer_worker.py")
# Name in `peer_worker` -> the package it needs.
PACKAGES = {
    "robomimic": "robomimic",
    "robomimic-low_dim": "robomimic",
    "robomimic-all": "robomimic",
    "minari": "minari",
    "lerobot": "lerobot",
}
_VERSION = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "TQDM_DISABLE": "1",
}


def installed(pythons: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return package -> (Python that has it, version), for the peers that any of some Pythons has."""
    found: dict[str, tuple[str, str]] = {}
    for package in sorted(set(PACKAGES.values())):
        for python in pythons:
            run = [python, "-c", _VERSION, package]
            result = subprocess.run(
                run, capture_output=True, text=True, check=False, env=_environment()
            )
            if result.returncode == 0 and package not in found:
                found[package] = python, result.stdout.strip()
    return found


def _environment() -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HDF5"))
    }
    return {**kept, **_ENVIRONMENT}


@dataclass
class Peer:
    """A library in a child process, pinned as this process is.

    Attributes:
        name: as in `PACKAGES`.
        python: its interpreter.
        arrays: folder of the data (`dataset_episodes.save`).
        folder: where it writes.
    """

    name: str
    python: str
    arrays: Path
    folder: Path
    _process: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Peer:
        """Start the process."""
        run = [self.python, str(WORKER), self.name, str(self.arrays), str(self.folder)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                run,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=_environment(),
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self._process.communicate()

    @property
    def _log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-{self.name}.log")

    def _ask(self, do: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401  # JSON
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"do": do, **options}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(
                f"{self.name} failed under {self.python}:\n{self._log.read_text()[-3000:]}"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def write(self) -> tuple[list[float], int]:
        """Write the data; returns CPU seconds of each episode, none where the library has no writer, and bytes."""
        answer = self._ask("write")
        return answer["cpu"], answer["bytes"]

    def open(self, batch: Sequence[tuple[int, int]]) -> tuple[float, dict[str, npt.NDArray[Any]]]:
        """Open what was written and read a batch; returns CPU seconds and the batch."""
        keep = self.folder.with_name("batch.npz")
        seconds = self._ask("open", batch=batch, keep=str(keep))["cpu"]
        with np.load(keep) as arrays:
            return seconds, dict(arrays)

    def read(
        self, batches: Sequence[Sequence[tuple[int, int]]], limit_s: float
    ) -> tuple[int, float]:
        """Read batches until a limit of CPU time; returns windows and CPU seconds."""
        answer = self._ask("read", batches=batches, limit_s=limit_s)
        return answer["windows"], answer["cpu"]


def pythons(others: Sequence[str]) -> list[str]:
    """Return this interpreter and others to look for peers under."""
    return [sys.executable, *others]
