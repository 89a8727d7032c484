"""The store: committed episode writes and random windows, per CPU second on one core, beside other libraries.

Episodes have 200 steps, a state, actions, simulator states and two 128 px cameras, flat-shaded like
our renderer's. All formats hold the same data and are asked for the same windows in batches; what
each hands out is compared with the source before anything is timed. In turns with ours run: raw
h5py (uncompressed, no checksum, no fsync), a NumPy memory map, and the libraries that are installed
here or under a Python given by --peer-python. Opening, a first batch and the check of every file's
hash count as "open", wall time waiting for fsync in a column of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from benchmarks import dataset_readers as readers
from benchmarks.dataset_episodes import (
    ACTIONS,
    CAMERAS,
    CELL,
    SIM_STATE,
    SIZE,
    STATE,
    STEPS,
    arrays,
    make_episode,
    save,
)
from benchmarks.dataset_peers import PACKAGES, Peer, installed, pythons
from benchmarks.dataset_readers import BATCH, Local, Places
from shopfloor.core import Episode
from shopfloor.datasets.disk.files import POSIX
from shopfloor.datasets.writer import EpisodeWriter, write_manifest

CODECS = ("blosc", "gzip", "none")
RAW, RAW_CHUNKS, MEMMAP = "raw h5py blocks, unsafe", "raw h5py, 1-step chunks", "NumPy memory map"
MEMMAP_GATHERED = "NumPy memory map, gathered"
TRAIN, TRAIN_CACHED = "ours, train layout", "ours, train layout, cached"
# (group of rows, ours, what it is compared with, at least this many times its rate)
TARGETS = (
    ("writes", "ours, blosc", "lerobot", 30),
    ("writes", "ours, blosc", "minari", 2),
    ("writes", "ours, blosc", RAW, 0.25),
    ("windows", "ours, blosc", "robomimic", 4),
    ("windows", "ours, blosc", "lerobot", 15),
    ("windows", "ours, blosc", "minari", 50),
    ("windows", "ours, blosc", RAW_CHUNKS, 0.5),
    ("windows", TRAIN, "robomimic", 10),
    ("windows", TRAIN, MEMMAP, 0.5),
    ("state-only windows", "ours, cached", "robomimic-all", 0.8),
)
# (group of rows, ours, what it is compared with, at most this share of its opening time)
OPENINGS = (
    ("state-only windows", "ours, cached", "robomimic-all", 0.1),
    ("state-only windows", TRAIN_CACHED, "robomimic-all", 0.1),
)
LIMIT_S = 1.5  # CPU time a slow reader gets in a round
LOSSY_DB = 25.0  # pictures of video and JPEG must be at least this close to the source


# --------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------


def write_ours(episodes: list[Episode], folder: Path) -> list[dict[str, Any]]:
    """Write all episodes in turns: raw blocks into a growing file, then a commit with each codec."""
    waited = dict.fromkeys(CODECS, 0.0)
    cpu: dict[str, list[float]] = {name: [] for name in (RAW, *CODECS)}
    stored = dict.fromkeys((RAW, *CODECS), 0)
    writers = {
        codec: EpisodeWriter(folder / codec, {"cell": CELL}, codec, calls=_timed(waited, codec))
        for codec in CODECS
    }
    with h5py.File(folder / "raw.h5", "w") as raw:
        for index, episode in enumerate(episodes):
            began = time.process_time()
            for key, array in {**arrays(episode), "label_actions": episode.label_actions}.items():
                raw[f"demo_{index}/{key}"] = array
            cpu[RAW].append(time.process_time() - began)
            for codec, writer in writers.items():
                began = time.process_time()
                stored[codec] += writer.write(episode, index).bytes
                cpu[codec].append(time.process_time() - began)
    for codec in CODECS:
        write_manifest(folder / codec)
    stored[RAW] = (folder / "raw.h5").stat().st_size
    return [
        write_row(
            name if name == RAW else f"ours, {name}",
            seconds,
            stored[name] / len(episodes),
            1e3 * waited[name] / len(episodes) if name in waited else None,
        )
        for name, seconds in cpu.items()
    ]


def write_row(
    name: str, seconds: list[float], size: float, fsync_wall_ms: float | None = None
) -> dict[str, Any]:
    """Describe a writer by the CPU seconds and the bytes of its episodes."""
    return {
        "group": "writes",
        "name": name,
        "per_cpu_second": STEPS / median(seconds),
        "unit": "steps",
        "bytes_per_step": size / STEPS,
        "fsync_wall_ms": fsync_wall_ms,
    }


def _timed(waited: dict[str, float], codec: str) -> Any:  # noqa: ANN401  # SystemCalls
    def fsync(fd: int) -> None:
        began = time.perf_counter()
        os.fsync(fd)
        waited[codec] += time.perf_counter() - began

    return dataclasses.replace(POSIX, fsync=fsync)


def shard(folder: Path) -> dict[str, Path]:
    """Make datasets of shards from the loose files, by layout; none where this release has no `compact`."""
    try:
        from shopfloor.datasets.tools.compact import compact
    except ImportError:
        return {}
    made = {}
    for layout in ("sealed", "train"):
        made[layout] = folder / layout
        compact(folder / "blosc", layout=layout, out=made[layout])
    return made


# --------------------------------------------------------------------------------------------------
# Windows
# --------------------------------------------------------------------------------------------------


def measure_windows(
    group: str, candidates: dict[str, Local | Peer], order: list[list[Places]], truth: Path
) -> list[dict[str, Any]]:
    """Open and read with all candidates in turns, a round for each list of batches; medians over rounds."""
    opened: dict[str, list[float]] = {name: [] for name in candidates}
    rates: dict[str, list[float]] = {name: [] for name in candidates}
    for first, *batches in order:
        wanted = readers.expected(truth, first)
        for name, candidate in candidates.items():
            if isinstance(candidate, Peer):
                seconds, batch = candidate.open(first.pairs)
                check(name, batch, wanted)
                count, spent = candidate.read([places.pairs for places in batches], LIMIT_S)
            else:
                seconds, batch = candidate.open(first)
                check(name, batch, wanted)
                count, spent = candidate.read(batches, LIMIT_S)
            opened[name].append(seconds)
            rates[name].append(count / spent)
    return [
        {
            "group": group,
            "name": name,
            "per_cpu_second": median(rates[name]),
            "unit": "windows",
            "open_cpu_ms": 1e3 * median(opened[name]),
        }
        for name in candidates
    ]


def check(
    name: str, batch: dict[str, npt.NDArray[Any]], wanted: dict[str, npt.NDArray[Any]]
) -> None:
    """Stop unless a batch is what the source has; pictures of lossy formats may differ a little."""
    for key, array in wanted.items():
        found = batch[key]
        if name in ("minari", "lerobot") and array.ndim == 5:
            error = np.mean((found.astype(np.float32) - array) ** 2)
            same = found.shape == array.shape and 10 * np.log10(255**2 / error) > LOSSY_DB
        else:
            same = np.array_equal(found, array)
        if not same:
            raise SystemExit(f"{name} read other values of {key!r} than were written")


def draw(path: Path, cameras: tuple[str, ...], rounds: int, batches: int) -> list[list[Places]]:
    """Draw the windows to ask for: an epoch of our order a round."""
    windows = readers.windows(path, cameras)
    drawn = []
    for epoch in range(rounds):
        starts = range(0, min(batches * BATCH, len(windows) - BATCH + 1), BATCH)
        pairs = [
            [values.tolist() for values in windows.order(epoch, start, start + BATCH)]
            for start in starts
        ]
        drawn.append(
            [
                Places(
                    epoch * len(windows) + np.arange(start, start + BATCH),
                    list(zip(*pair, strict=True)),
                )
                for start, pair in zip(starts, pairs, strict=True)
            ]
        )
    return drawn


# --------------------------------------------------------------------------------------------------
# The whole
# --------------------------------------------------------------------------------------------------


def pictures(
    folder: Path, count: int, rounds: int, found: dict[str, tuple[str, str]]
) -> list[dict[str, Any]]:
    """Measure episodes with cameras."""
    episodes = [make_episode(seed) for seed in range(count)]
    save(episodes, folder / "arrays")
    rows = write_ours(episodes, folder)
    for name, chunks in (("chunks", True), ("contiguous", False)):
        readers.write_raw(folder / f"{name}.h5", folder / "arrays", step_chunks=chunks)
    candidates: dict[str, Local | Peer] = {
        MEMMAP: readers.memmap(folder / "arrays", gathered=False),
        MEMMAP_GATHERED: readers.memmap(folder / "arrays"),
        RAW_CHUNKS: readers.raw(folder / "chunks.h5"),
        "raw h5py, contiguous": readers.raw(folder / "contiguous.h5"),
        **{f"ours, {codec}": readers.ours(folder / codec, CAMERAS) for codec in CODECS},
    }
    for layout, path in shard(folder).items():
        candidates[f"ours, {layout} layout"] = readers.ours(path, CAMERAS)
    with ExitStack() as stack:
        for name in ("robomimic", "robomimic-low_dim", "minari", "lerobot"):
            peer = start(stack, name, found, folder)
            if peer:
                seconds, size = peer.write()
                if seconds:
                    rows.append(write_row(name, seconds, size / count))
                candidates[name] = peer
        order = draw(folder / "blosc", CAMERAS, rounds, batches=25)
        return rows + measure_windows("windows", candidates, order, folder / "arrays")


def states(
    folder: Path, count: int, rounds: int, found: dict[str, tuple[str, str]]
) -> list[dict[str, Any]]:
    """Measure episodes without cameras."""
    episodes = [make_episode(seed, ()) for seed in range(count)]
    save(episodes, folder / "arrays")
    writer = EpisodeWriter(
        folder / "blosc", {"cell": CELL}, calls=dataclasses.replace(POSIX, fsync=lambda _: None)
    )
    for index, episode in enumerate(episodes):
        writer.write(episode, index)
    write_manifest(folder / "blosc")
    candidates: dict[str, Local | Peer] = {
        MEMMAP_GATHERED: readers.memmap(folder / "arrays"),
        "ours": readers.ours(folder / "blosc", ()),
        "ours, cached": readers.ours(folder / "blosc", (), cache=True),
    }
    for layout, path in shard(folder).items():
        candidates[f"ours, {layout} layout, cached"] = readers.ours(path, (), cache=True)
    with ExitStack() as stack:
        for name in ("robomimic", "robomimic-low_dim", "robomimic-all"):
            peer = start(stack, name, found, folder)
            if peer:
                peer.write()
                candidates[name] = peer
        order = draw(folder / "blosc", (), rounds, batches=150)
        return measure_windows("state-only windows", candidates, order, folder / "arrays")


def start(
    stack: ExitStack, name: str, found: dict[str, tuple[str, str]], folder: Path
) -> Peer | None:
    """Start a peer's process, if a Python has it."""
    package = PACKAGES[name]
    if package not in found:
        return None
    return stack.enter_context(Peer(name, found[package][0], folder / "arrays", folder / package))


def measure(count: int, state_count: int, rounds: int, others: list[str]) -> dict[str, Any]:
    """Measure writes and windows.

    Args:
        count: episodes with cameras.
        state_count: episodes without.
        rounds: how often everything is read.
        others: Pythons, beside this one, under which other libraries are.
    """
    found = installed(pythons(others))
    with tempfile.TemporaryDirectory() as one:
        rows = pictures(Path(one), count, rounds, found)
    with tempfile.TemporaryDirectory() as two:
        rows += states(Path(two), state_count, rounds, found)
    rates = {(row["group"], row["name"]): row["per_cpu_second"] for row in rows}
    opens = {(row["group"], row["name"]): row.get("open_cpu_ms") for row in rows}
    return {
        "schema_version": 2,
        "benchmark": "dataset",
        "episodes": count,
        "state_episodes": state_count,
        "rounds": rounds,
        "steps_per_episode": STEPS,
        "row": {
            "cameras": len(CAMERAS),
            "image_size_px": SIZE,
            "state": STATE,
            "actions": ACTIONS,
            "sim": SIM_STATE,
        },
        "peers": {package: version for package, (_, version) in found.items()},
        "skipped": sorted(set(PACKAGES.values()) - found.keys()),
        "rows": rows,
        "targets": [
            *(
                target(kind, one, other, rates, at_least=least)
                for kind, one, other, least in TARGETS
            ),
            *(target(kind, one, other, opens, at_most=most) for kind, one, other, most in OPENINGS),
        ],
    }


def target(
    kind: str, one: str, other: str, values: dict[tuple[str, str], Any], **bound: float
) -> dict[str, Any]:
    """Describe a comparison; its ratio is None where one side was not measured."""
    first, second = values.get((kind, one)), values.get((kind, other))
    ratio = first / second if first is not None and second is not None else None
    return {"group": kind, "of": one, "to": other, **bound, "ratio": ratio}


def report(result: dict[str, Any]) -> None:
    """Print a table."""
    group = ""
    for row in result["rows"]:
        if row["group"] != group:
            group = row["group"]
            columns = (
                ("bytes/step", "fsync wall ms/episode")
                if group == "writes"
                else ("open CPU ms", "")
            )
            print(f"\n{group:36}{'per CPU s':>12}{'':9}{columns[0]:>14}{columns[1]:>24}")
        cells = [row.get(key) for key in ("bytes_per_step", "open_cpu_ms", "fsync_wall_ms")]
        shown = "".join(
            f"{'' if value is None else f'{value:,.1f}':>14}"
            for value in cells
            if value is not None
        )
        print(f"{row['name']:36}{row['per_cpu_second']:12,.0f} {row['unit']:8}{shown}")
    print()
    for line in result["targets"]:
        bound = f">= {line['at_least']}" if "at_least" in line else f"<= {line['at_most']}"
        what = f"{line['group']}{' (opening)' if 'at_most' in line else ''}: {line['of']} / {line['to']}"
        if line["ratio"] is None:
            print(f"{what}: not measured, aim {bound}")
            continue
        holds = (
            line["ratio"] >= line["at_least"]
            if "at_least" in line
            else line["ratio"] <= line["at_most"]
        )
        print(f"{what}: {line['ratio']:.2f}, aim {bound}: {'holds' if holds else 'MISSED'}")
    for package in result["skipped"]:
        print(
            f"{package} is not installed here: skipped (--peer-python names a Python that has it)"
        )


def main() -> None:
    """Print a table, or one JSON document with --json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--episodes", type=int, default=12, help="episodes with cameras (default: 12)"
    )
    parser.add_argument(
        "--state-episodes", type=int, default=200, help="episodes without cameras (default: 200)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="how often everything is read (default: 3)"
    )
    parser.add_argument(
        "--peer-python",
        action="append",
        default=[],
        help="a Python that has other libraries; may repeat",
    )
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core, for peers as well
    result = measure(
        arguments.episodes, arguments.state_episodes, arguments.rounds, arguments.peer_python
    )
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        report(result)


if __name__ == "__main__":
    main()
