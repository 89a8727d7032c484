"""The promise at length: writers killed at random, and files made to fool the reader.

    python -m benchmarks.durability --kills 1000
    python -m benchmarks.durability --fuzz-seconds 600
    python -m benchmarks.durability --fuzz-files 20000

A kill: a process commits small episodes back to back, every few of them followed by a manifest, an
overlay or a compaction, and reports each through a pipe once its commit has returned; SIGKILL comes
at a random moment after a random one of the first reports. Then everything reported so far must be
read back bit for bit, and everything under a final name must be whole. Exits 1 if anything was
lost, unreadable or torn, or if the reader crashed, hung or raised what it should not.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz import Fuzzed, fuzz
from shopfloor.core import Episode, EpisodeSpec, ShopfloorError
from shopfloor.datasets.disk.files import check_trailer
from shopfloor.datasets.format.layout import SHARD_LAYOUTS
from shopfloor.datasets.listing.overlays import append_overlay
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.compact import compact
from shopfloor.datasets.writer import EpisodeWriter, write_manifest

CELL = "shopfloor/PickToTray-v0"
# A kill comes after up to so many reports, the first of them "I start", and then at any moment:
# seconds alone would kill the writers of a busy machine before they have written anything.
MOST_REPORTS = 5
THEN_S = 0.2
KILLS_PER_DATASET = 10
STEPS = 12


@dataclass
class Kills:
    """What became of the episodes of killed writers.

    Attributes:
        kills: processes killed while they were writing.
        committed: episodes that were reported as saved.
        unreported: episodes that are there, whole, though their writer died before it could say so.
        lost: reported episodes that are not there, or read back other than they were written.
        unreadable: files under a final name that cannot be read, and datasets that cannot be
            opened.
        torn: files under a final name that are not whole.
        temporaries: files left by killed writers, before the next writer swept them.
        left: files still left after the last writer's sweep.
        seconds: wall time.
    """

    kills: int = 0
    committed: int = 0
    unreported: int = 0
    lost: int = 0
    unreadable: int = 0
    torn: int = 0
    temporaries: int = 0
    left: int = 0
    seconds: float = 0.0

    @property
    def broken(self) -> int:
        """How often the promise did not hold."""
        return self.lost + self.unreadable + self.torn + self.left


def small_episode(seed: int) -> Episode:
    """Return an episode of 12 steps with one 16 x 16 px camera; equal seeds give equal episodes."""
    generator, T, A = np.random.default_rng(seed), STEPS, 7
    return Episode(
        spec=EpisodeSpec(CELL, seed, "benchmark", {"cameras": ["front"]}, purpose="train"),
        instruction="Put the red cube into the tray.",
        observations={
            "state": generator.normal(size=(T + 1, 22)).astype(np.float32),
            "front": generator.integers(0, 255, (T + 1, 16, 16, 3), np.uint8),
        },
        sim_states=generator.normal(size=(T + 1, 30)),
        actions=generator.uniform(-1, 1, (T, A)).astype(np.float32),
        rewards=np.eye(1, T, T - 1, dtype=np.float32)[0],
        outcome="success",
        reason="",
        actor=np.zeros(T, np.uint8),
        object_names=("red cube", "tray"),
        stages=((0, "reach"),),
        label_actions=np.zeros((T, A), np.float32),
        label_valid=np.zeros(T, np.bool_),
        decisions=np.ones(T, np.bool_),
        terminated=True,
    )


def episode_digest(episode: Episode) -> str:
    """Return the SHA-256 over every value of an episode."""
    hasher = hashlib.sha256()
    values = {field.name: getattr(episode, field.name) for field in dataclasses.fields(episode)}
    values |= {"spec": episode.spec.episode_id, "observations": None, **episode.observations}
    for name, value in sorted(values.items()):
        array = value if isinstance(value, np.ndarray) else np.empty(0)
        hasher.update(
            repr((name, array.dtype.str, array.shape) if array.size else (name, value)).encode()
        )
        hasher.update(array.tobytes())
    return hasher.hexdigest()


# --------------------------------------------------------------------------------------------------
# Kills
# --------------------------------------------------------------------------------------------------


def kill_writers(count: int, folder: Path, seed: int = 0) -> Kills:
    """Kill `count` writers in turn, ten to a dataset, and look at what each left and at each dataset's end."""
    result, dice, began = Kills(), random.Random(seed), time.monotonic()
    while result.kills < count:
        root = folder / f"{result.kills}"
        reported: dict[int, str] = {}
        for _ in range(min(KILLS_PER_DATASET, count - result.kills)):
            new = _killed_writer(root, 1 + max((*reported, _highest(root))), dice)
            reported |= new
            result.kills += 1
            result.committed += len(new)
            result.temporaries += len(_temporaries(root))
            result.unreadable += _unreadable(root, new, result)
        if reported:
            EpisodeWriter(root, {"cell": CELL})  # what a resumed run does first
            result.left += len(_temporaries(root))
            result.unreadable += len(Dataset(root).verify())
            result.unreported += len(Dataset(root)) - len(reported)
            result.lost += _lost(Dataset(root), reported)
        shutil.rmtree(root, ignore_errors=True)
    result.seconds = time.monotonic() - began
    return result


def _highest(root: Path) -> int:
    """Return the highest index in a dataset, -1 without any: episodes that nobody reported count too."""
    try:
        return max((record.index for record in Dataset(root).records), default=-1)
    except ShopfloorError:  # killed before there was a dataset
        return -1


def _killed_writer(root: Path, first: int, dice: random.Random) -> dict[int, str]:
    """Start a writer, kill it while it writes; returns index -> digest of what it reported."""
    read_end, write_end = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(read_end)
            _write_for_ever(root, first, write_end)
        finally:
            os._exit(1)  # it never comes here unless something failed
    os.close(write_end)

    lines: list[bytes] = []
    with os.fdopen(read_end, "rb") as pipe:
        try:
            lines += [pipe.readline() for _ in range(dice.randint(0, MOST_REPORTS))]
            time.sleep(dice.uniform(0.0, THEN_S))
        finally:
            os.kill(process, signal.SIGKILL)
            status = os.waitpid(process, 0)[1]
        lines += pipe.readlines()
    if not os.WIFSIGNALED(status):
        raise RuntimeError(f"The writer ended by itself with status {status}.")

    return {
        int(line.split()[0]): line.split()[1].decode()
        for line in lines
        if line.endswith(b"\n") and len(line) > 9
    }


def _write_for_ever(root: Path, first: int, pipe: int) -> None:
    os.write(pipe, b"\n")  # it starts
    writer = EpisodeWriter(root, {"cell": CELL})
    index = first
    while True:
        episode = small_episode(index)
        writer.write(episode, index)
        os.write(pipe, f"{index} {episode_digest(episode)}\n".encode())
        if index % 4 == 1:
            write_manifest(root)
        elif index % 4 == 2:
            append_overlay(
                root, [{"op": "weight", "episode_id": episode.spec.episode_id, "weight": 0.5}]
            )
        elif index % 8 == 7:
            compact(root, layout=SHARD_LAYOUTS[index // 8 % 2])
        index += 1


def _temporaries(root: Path) -> list[Path]:
    return list(root.rglob("*.tmp"))


def _unreadable(root: Path, reported: dict[int, str], result: Kills) -> int:
    """Look at a dataset that nobody writes to any more; count what was torn or lost, return what cannot be read."""
    for path in root.glob("*/*.h5"):
        try:
            check_trailer(path, path.read_bytes())
        except ShopfloorError:  # each file counts
            result.torn += 1
    try:
        dataset = Dataset(root)
    except ShopfloorError:
        result.lost += len(reported)
        return int(bool(reported))
    result.lost += _lost(dataset, reported)
    return len(dataset.damage)


def _lost(dataset: Dataset, reported: dict[int, str]) -> int:
    """Count the reported episodes that are not read back as they were written."""
    places = {record.seed: position for position, record in enumerate(dataset.records)}
    lost = 0
    for seed, digest in reported.items():
        try:
            lost += seed not in places or episode_digest(dataset.read(places[seed])) != digest
        except ShopfloorError:  # each episode counts
            lost += 1
    return lost


# --------------------------------------------------------------------------------------------------
# Report
# --------------------------------------------------------------------------------------------------


def _print_kills(kills: Kills) -> None:
    print(
        f"{kills.kills} writers killed with SIGKILL while they were writing, in {kills.seconds:.0f} s"
    )
    print(
        f"{'committed':>10}{'lost':>8}{'unreadable':>12}{'torn':>8}{'unreported':>12}{'temporaries':>13}{'swept':>8}"
    )
    print(
        f"{kills.committed:>10}{kills.lost:>8}{kills.unreadable:>12}{kills.torn:>8}{kills.unreported:>12}"
        f"{kills.temporaries:>13}{kills.temporaries - kills.left:>8}"
    )


def _print_fuzzed(fuzzed: Fuzzed) -> None:
    print(
        f"{fuzzed.files} changed files read in {fuzzed.seconds:.0f} s, trailers and digests made to hold again"
    )
    print(
        f"{'read':>10}{'refused':>10}{'crashed':>10}{'hung':>8}{'other errors':>14}{'peak memory':>13}"
    )
    print(
        f"{fuzzed.read:>10}{fuzzed.refused:>10}{fuzzed.crashed:>10}{fuzzed.hung:>8}{fuzzed.other:>14}"
        f"{fuzzed.memory >> 20:>10} MB"
    )
    for finding in fuzzed.findings:
        print(finding)


def main() -> int:
    """Print tables, or one JSON document with --json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=0, help="writers to kill")
    parser.add_argument(
        "--fuzz-seconds", type=float, default=0.0, help="how long to read changed files"
    )
    parser.add_argument("--fuzz-files", type=int, default=0, help="how many changed files to read")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the moments of the kills and of the changes"
    )
    parser.add_argument(
        "--findings", type=Path, help="folder to keep the files in that the reader fails on"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    fuzzing = arguments.fuzz_files or arguments.fuzz_seconds
    if not (arguments.kills or fuzzing):
        parser.error("give --kills, --fuzz-files or --fuzz-seconds")
    result: dict[str, Any] = {"schema_version": 1, "benchmark": "durability"}
    broken = 0
    with tempfile.TemporaryDirectory() as name:
        if arguments.kills:
            kills = kill_writers(arguments.kills, Path(name), arguments.seed)
            broken += kills.broken
            result["kills"] = asdict(kills)
            if not arguments.json:
                _print_kills(kills)
        if fuzzing:
            fuzzed = fuzz(
                Path(name),
                small_episode,
                files=arguments.fuzz_files,
                seconds=arguments.fuzz_seconds,
                seed=arguments.seed,
                keep=arguments.findings,
            )
            broken += fuzzed.broken
            result["fuzz"] = asdict(fuzzed)
            if not arguments.json:
                _print_fuzzed(fuzzed)
    if arguments.json:
        print(json.dumps(result, indent=1))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
