"""What a vector of environments costs per environment's step, in CPU time of parent and children, one thread.

The environment is a stand-in with a cell's spaces and infos and no physics, so that what is
measured is the vector: ours, Gymnasium's SyncVectorEnv and AsyncVectorEnv with shared memory, and
plain steps of one environment after the other, in turns. The overhead is what a vector costs over
plain steps; a ratio above 1 says that ours costs less.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from shopfloor.envs.vectors.vector import WorkCellVector

CASES = ((2, 0), (8, 0), (2, 2), (8, 2))  # copies, cameras
WORKERS = 2
STEPS, ROUNDS = 400, 7
STAGE_STEPS = 20  # a stage of a task lasts about a second
TARGET_US = 100.0
NAME = "stand-in"
Observation = dict[str, npt.NDArray[Any]]


class StandIn(gymnasium.Env[Observation, npt.NDArray[np.float32]]):
    """Shows the same observation again and again."""

    def __init__(self, cameras: int) -> None:
        """Make it with a number of views of 96 x 96 px."""
        shapes: dict[str, gymnasium.Space[Any]] = {
            "state": gymnasium.spaces.Box(-np.inf, np.inf, (22,), np.float32)
        }
        for number in range(cameras):
            shapes[f"view_{number}"] = gymnasium.spaces.Box(0, 255, (96, 96, 3), np.uint8)
        self.observation_space = cast(gymnasium.Space[Observation], gymnasium.spaces.Dict(shapes))
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (7,), np.float32)
        self._seen: Observation = {
            key: np.ones(space.shape or (), space.dtype) for key, space in shapes.items()
        }
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Any]:
        """Start again."""
        super().reset(seed=seed)
        self._steps = 0
        return self._seen, self._info()

    def step(
        self, action: npt.NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Do nothing."""
        self._steps += 1
        return self._seen, 0.0, False, False, self._info()

    def _info(self) -> dict[str, Any]:
        return {
            "instruction": "Put the red cube into the tray.",
            "object_names": ("red cube", "green cylinder", "blue bar", "tray"),
            "success": False,
            "stage": f"stage {self._steps // STAGE_STEPS}",
            "failure": "",
        }


def make(name: str, cameras: int) -> StandIn:
    """Make the stand-in; what workers call."""
    return StandIn(cameras)


def process_seconds(process: int) -> float:
    """Return the CPU seconds that a process's main thread, its only busy one, has used so far."""
    return float(Path(f"/proc/{process}/schedstat").read_text().split()[0]) * 1e-9


def spent(children: list[int], loop: Callable[[], None]) -> float:
    """Return the CPU seconds of a loop: this process and some children."""
    before = time.process_time() + sum(map(process_seconds, children))
    loop()
    return time.process_time() + sum(map(process_seconds, children)) - before


def plain(envs: list[StandIn], batch: npt.NDArray[np.float32]) -> None:
    """Step one environment after the other."""
    for _ in range(STEPS):
        for env, action in zip(envs, batch, strict=True):
            env.step(action)


def stepped(vector: VectorEnv[Any, Any, Any], batch: npt.NDArray[np.float32]) -> None:
    """Step a vector."""
    for _ in range(STEPS):
        vector.step(batch)


def measure(copies: int, cameras: int) -> dict[str, Any]:
    """Measure all four ways in turns; return microseconds of CPU per environment's step."""
    maker = importlib.import_module(
        "benchmarks.vector"
    ).make  # not __main__'s, which workers do not know
    makers = [partial(maker, NAME, cameras)] * copies
    ours = WorkCellVector(NAME, copies, workers=WORKERS, make=maker, cameras=cameras)
    sync = SyncVectorEnv(makers)
    peer = AsyncVectorEnv(makers, shared_memory=True, context="spawn")
    envs = [make(NAME, cameras) for _ in range(copies)]
    vectors: dict[str, VectorEnv[Any, Any, Any]] = {"ours": ours, "sync": sync, "async": peer}
    for vector in vectors.values():
        vector.reset(seed=0)
    batch = np.zeros((copies, 7), np.float32)
    children = {
        "ours": ours.process_ids(),
        "sync": [],
        "async": [process.pid for process in peer.processes if process.pid is not None],
    }
    times: dict[str, list[float]] = {"plain": [], **{name: [] for name in vectors}}
    for number in range(ROUNDS + 1):
        rounds = {"plain": spent([], lambda: plain(envs, batch))}
        for name, vector in vectors.items():
            rounds[name] = spent(children[name], partial(stepped, vector, batch))
        if number:  # the first round warms up
            for name, seconds in rounds.items():
                times[name].append(1e6 * seconds / (STEPS * copies))
    for vector in vectors.values():
        vector.close()
    row = {name: statistics.median(values) for name, values in times.items()}
    return {
        "copies": copies,
        "cameras": cameras,
        **{f"{name}_us": value for name, value in row.items()},
        "overhead_us": row["ours"] - row["plain"],
        "sync_over_ours": row["sync"] / row["ours"],
        "async_over_ours": row["async"] / row["ours"],
    }


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    rows = [measure(*case) for case in CASES]
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{WORKERS} workers; CPU us per environment's step, parent and children")
    print(
        "copies  cameras  plain   ours   sync  async  overhead (target)  sync / ours  async / ours"
    )
    for row in rows:
        print(
            f"{row['copies']:>6}  {row['cameras']:>7}  {row['plain_us']:>5.1f}  {row['ours_us']:>5.1f}"
            f"  {row['sync_us']:>5.1f}  {row['async_us']:>5.1f}  {row['overhead_us']:>8.1f} ({TARGET_US:.0f})"
            f"  {row['sync_over_ours']:>12.2f}  {row['async_over_ours']:>12.2f}"
        )


if __name__ == "__main__":
    main()
