"""The store: committed episode writes and random windows, per CPU second on one thread, beside bare h5py.

Episodes have 200 steps, a state, actions, simulator states and two 128 px cameras; the pictures are flat-shaded like
our renderer's. Reference of writing: the same arrays as uncompressed blocks into one growing file, no checksum, no
fsync (a kill loses it). Reference of windows: one uncompressed h5py file with chunks of one step, all handles open.
Both run in turns with what they are compared with. Time waiting for fsync is wall time, in a column of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from shopfloor.core import Episode, EpisodeSpec
from shopfloor.datasets.files import POSIX
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.store import EpisodeWriter
from shopfloor.datasets.windows import Windows

CELL = "shopfloor/PickToTray-v0"
STEPS, SIZE, ACTIONS, STATE, SIM_STATE = 200, 128, 7, 22, 80
CAMERAS = ("front", "wrist")
OBSERVATION_HORIZON, ACTION_HORIZON, BATCH = 2, 16, 64
TARGETS = {"committed writes": 0.2, "random windows": 0.4}
Pictures = npt.NDArray[np.uint8]


# --------------------------------------------------------------------------------------------------------------------
# Episodes
# --------------------------------------------------------------------------------------------------------------------


def pictures(generator: np.random.Generator) -> Pictures:
    """Draw T+1 flat-shaded pictures, shape (T+1, SIZE, SIZE, 3): table, tray, parts and an arm that moves."""
    parts = generator.uniform(16, SIZE - 40, (6, 2))
    colours = generator.integers(30, 230, (6, 3))
    joints = np.cumsum(generator.normal(0, 0.03, (STEPS + 1, 4)), axis=0) + generator.uniform(-1, 1, 4)
    frames = np.empty((STEPS + 1, SIZE, SIZE, 3), np.uint8)
    for step in range(STEPS + 1):
        image = Image.new("RGB", (SIZE, SIZE), (164, 162, 176))
        draw = ImageDraw.Draw(image)
        draw.polygon([(8, 100), (60, 90), (72, 120), (16, 126)], fill=(250, 226, 130), outline=(170, 150, 80))
        for (x, y), colour in zip(parts, colours, strict=True):
            top, side = tuple(int(value) for value in colour), tuple(int(value * 0.7) for value in colour)
            draw.polygon([(x, y), (x + 14, y + 3), (x + 16, y + 15), (x + 2, y + 13)], fill=top)
            draw.polygon([(x + 2, y + 13), (x + 16, y + 15), (x + 15, y + 21), (x + 2, y + 19)], fill=side)
        _arm(draw, joints[step])
        frames[step] = np.asarray(image)
    return frames


def _arm(draw: ImageDraw.ImageDraw, joints: npt.NDArray[np.float64]) -> None:
    point, angle = np.array([SIZE * 0.4, 0.0]), np.pi / 2
    for link, joint in enumerate(joints):
        angle += joint * 0.6
        end = point + (34 - 4 * link) * np.array([np.cos(angle), np.sin(angle)])
        for facet in range(8):  # a few shades along each link, as on a lit, faceted cylinder
            shift, shade = facet - 4, 236 - 9 * facet - 8 * link
            draw.line(
                [(point[0] + shift, point[1]), (end[0] + shift, end[1])],
                fill=(shade, shade, min(shade + 4, 255)),
                width=3,
            )
        point = end


def make_episode(seed: int) -> Episode:
    """Make an episode of 200 steps of plausible data."""
    generator = np.random.default_rng(seed)
    T = STEPS
    walk = np.cumsum(generator.normal(0, 0.01, (T + 1, STATE + SIM_STATE)), axis=0)
    actions = np.clip(np.diff(walk[:, :ACTIONS], axis=0) * 20, -1, 1).astype(np.float32)
    spec = EpisodeSpec(CELL, seed, "benchmark", {"cameras": list(CAMERAS), "image_size": [SIZE, SIZE]}, purpose="train")
    return Episode(
        spec=spec,
        instruction="Put the red cube into the tray.",
        observations={"state": walk[:, :STATE].astype(np.float32), **{name: pictures(generator) for name in CAMERAS}},
        sim_states=walk[:, STATE:],
        actions=actions,
        rewards=np.eye(1, T, T - 1, dtype=np.float32)[0],
        outcome="success",
        reason="",
        actor=np.zeros(T, np.uint8),
        object_names=("red cube", "blue bar", "tray"),
        stages=((0, "reach"), (120, "place")),
        label_actions=actions,
        label_valid=np.ones(T, np.bool_),
        decisions=np.arange(T) % 4 == 0,
        terminated=True,
    )


# --------------------------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------------------------


def _blocks(episode: Episode) -> dict[str, npt.NDArray[Any]]:
    return {
        "states": episode.sim_states,
        "actions": episode.actions,
        "rewards": episode.rewards,
        "label_actions": episode.label_actions,
        **episode.observations,
    }


def measure_writes(episodes: list[Episode], folder: Path, codecs: tuple[str, ...]) -> list[dict[str, Any]]:
    """Write all episodes in turns: raw blocks, then a commit with each codec."""
    waited = dict.fromkeys(codecs, 0.0)
    cpu = dict.fromkeys(("raw", *codecs), 0.0)
    stored = dict.fromkeys(("raw", *codecs), 0)
    writers = {
        codec: EpisodeWriter(folder / codec, {"cell": CELL}, codec, calls=_timed(waited, codec)) for codec in codecs
    }
    with h5py.File(folder / "raw.h5", "w") as raw:
        for index, episode in enumerate(episodes):
            began = time.process_time()
            for key, array in _blocks(episode).items():
                raw[f"demo_{index}/{key}"] = array
            cpu["raw"] += time.process_time() - began
            for codec, writer in writers.items():
                began = time.process_time()
                stored[codec] += writer.write(episode, index).bytes
                cpu[codec] += time.process_time() - began
    stored["raw"] = (folder / "raw.h5").stat().st_size
    steps = sum(episode.steps for episode in episodes)
    return [
        {
            "name": "raw h5py blocks (reference)" if codec == "raw" else f"committed writes, {codec}",
            "per_cpu_second": steps / seconds,
            "unit": "steps",
            "ratio": cpu["raw"] / seconds,
            "bytes_per_step": stored[codec] / steps,
            "fsync_wall_ms": 1e3 * waited[codec] / len(episodes) if codec in waited else None,
        }
        for codec, seconds in cpu.items()
    ]


def _timed(waited: dict[str, float], codec: str) -> Any:  # noqa: ANN401  # SystemCalls
    def fsync(fd: int) -> None:
        began = time.perf_counter()
        os.fsync(fd)
        waited[codec] += time.perf_counter() - began

    return dataclasses.replace(POSIX, fsync=fsync)


# --------------------------------------------------------------------------------------------------------------------
# Windows
# --------------------------------------------------------------------------------------------------------------------


class RawWindows:
    """What a careful user would write: an uncompressed file, handles kept open, one slice per array and window."""

    def __init__(self, path: Path, episodes: list[Episode], *, step_chunks: bool) -> None:
        """Write the file and open it again."""
        with h5py.File(path, "w") as file:
            for index, episode in enumerate(episodes):
                for key, array in {**episode.observations, "actions": episode.actions}.items():
                    chunks = (1, *array.shape[1:]) if step_chunks else None
                    file.create_dataset(f"demo_{index}/{key}", data=array, chunks=chunks)
        self._path, self._file = path, h5py.File(path, "r")
        self._sets = [dict(self._file[f"demo_{index}"].items()) for index in range(len(episodes))]

    def read(self, order: list[tuple[int, int]]) -> dict[str, npt.NDArray[Any]]:
        """Read a batch of (episode, step) windows, padded by repeating the last row."""
        rows: dict[str, list[npt.NDArray[Any]]] = {key: [] for key in self._sets[0]}
        for episode, step in order:
            for key, array in self._sets[episode].items():
                if key == "actions":
                    part = array[step : step + ACTION_HORIZON]
                    missing = ACTION_HORIZON - len(part)
                    rows[key].append(np.concatenate([part, part[-1:].repeat(missing, 0)]) if missing else part)
                else:
                    part = array[max(step + 1 - OBSERVATION_HORIZON, 0) : step + 1]
                    missing = OBSERVATION_HORIZON - len(part)
                    rows[key].append(np.concatenate([part[:1].repeat(missing, 0), part]) if missing else part)
        return {key: np.stack(parts) for key, parts in rows.items()}


def _windows(folder: Path, codec: str, seed: int) -> Windows:
    return Windows(
        Dataset(folder / codec),
        ("state", *CAMERAS),
        OBSERVATION_HORIZON,
        ACTION_HORIZON,
        actions="executed",
        batch_size=BATCH,
        seed=seed,
    )


def measure_windows(episodes: list[Episode], folder: Path, codecs: tuple[str, ...]) -> list[dict[str, Any]]:
    """Read one epoch of random windows in turns of a batch each; opening and checking files counts."""
    raws = {
        "raw h5py, 1-step chunks (reference)": RawWindows(folder / "chunks.h5", episodes, step_chunks=True),
        "raw h5py, contiguous": RawWindows(folder / "contiguous.h5", episodes, step_chunks=False),
    }
    order = _windows(folder, codecs[0], 0)
    readers: dict[str, Callable[[int], object]] = {
        name: lambda number, raw=raw: raw.read(_places(order, number))  # type: ignore[misc]
        for name, raw in raws.items()
    }
    for codec in codecs:
        batches: Iterator[Any] = iter(_windows(folder, codec, 0))
        readers[f"random windows, {codec}"] = lambda _, batches=batches: next(batches)  # type: ignore[misc]
    cpu = dict.fromkeys(readers, 0.0)
    for number in range(order.batches):
        for name, read in readers.items():
            began = time.process_time()
            read(number)
            cpu[name] += time.process_time() - began
    reference = next(iter(cpu.values()))
    return [
        {"name": name, "per_cpu_second": len(order) / seconds, "unit": "windows", "ratio": reference / seconds}
        for name, seconds in cpu.items()
    ]


def _places(order: Windows, number: int) -> list[tuple[int, int]]:
    stop = min((number + 1) * BATCH, len(order))
    return list(zip(*(values.tolist() for values in order.order(0, number * BATCH, stop)), strict=True))


# --------------------------------------------------------------------------------------------------------------------
# Report
# --------------------------------------------------------------------------------------------------------------------


def measure(count: int, codecs: tuple[str, ...]) -> dict[str, Any]:
    """Measure writes and windows of `count` episodes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        episodes = [make_episode(seed) for seed in range(count)]
        rows = measure_writes(episodes, folder, codecs) + measure_windows(episodes, folder, codecs)
    return {
        "schema_version": 1,
        "benchmark": "dataset",
        "episodes": count,
        "steps_per_episode": STEPS,
        "image_size_px": SIZE,
        "cameras": len(CAMERAS),
        "rows": rows,
        "targets": {
            name: {"ratio": next(row["ratio"] for row in rows if row["name"] == f"{name}, blosc"), "at_least": least}
            for name, least in TARGETS.items()
        },
    }


def main() -> None:
    """Print a table, or one JSON document with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--episodes", type=int, default=24, help="episodes to write and read (default: 24)")
    arguments = parser.parse_args()
    result = measure(arguments.episodes, ("blosc", "gzip", "none"))
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{'':38}{'per CPU s':>12}{'':9}{'ratio':>7}{'bytes/step':>12}{'fsync wall ms/episode':>24}")
    for row in result["rows"]:
        size = f"{row['bytes_per_step']:.0f}" if "bytes_per_step" in row else ""
        wall = f"{row['fsync_wall_ms']:.1f}" if row.get("fsync_wall_ms") is not None else ""
        print(f"{row['name']:38}{row['per_cpu_second']:12,.0f} {row['unit']:8}{row['ratio']:7.2f}{size:>12}{wall:>24}")
    for name, target in result["targets"].items():
        verdict = "holds" if target["ratio"] >= target["at_least"] else "MISSED"
        print(f"{name}, blosc: {target['ratio']:.2f} of the reference, aim >= {target['at_least']}: {verdict}")


if __name__ == "__main__":
    main()
