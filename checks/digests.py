"""Digests of what shopfloor writes: the guard of every change that must not change a byte.

    python checks/digests.py            # compare with checks/digests.json; exit 1 where one differs
    python checks/digests.py --quick    # a part of it, in less than a minute
    python checks/digests.py --write    # make checks/digests.json anew

Everything is made with the command line, whose flags are a promise, so the same recipes run on any
release: episodes of every cell with each of its robots, plain and messy (interventions, noise,
levels, shift suites, cameras); a dataset through all tools and exports; checkpoints; the decisions
of a small flywheel. What is compared is a hash of each file.

Equal bytes are promised on one kind of machine with the same versions of the libraries. Where
digests differ and the machine or a version is another than the kept digests were made with, the
recipe runs once more, with the code of the commit that made them, here, and that decides.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "checks" / "digests.json"
LIBRARIES = (
    "numpy",
    "h5py",
    "hdf5plugin",
    "gymnasium",
    "pillow",
    "av",
    "pyarrow",
    "torch",
    "safetensors",
)
# What differs between two runs of the same commands: times, host, workers, attempts, folders.
RUN_FILES = ("receipts.jsonl", "run.json", "ledger.sqlite", "report.html", "quality.html")
RESULTS = ("summary.json", "quality.json")
RUN_KEYS = (
    *("cpu_seconds", "seconds", "efficiency", "latency_p50_ms", "latency_p95_ms"),
    *("dataset", "path"),
)
SEED = "600001"
FAILED = "failed"  # in place of a file's name: the recipe's error

ROBOTS = {
    "PickToTray": ("panda", "ur5e"),
    "Kitting": ("panda", "ur5e"),
    "ConveyorSort": ("panda", "ur5e"),
    "RingOnShaft": ("panda", "ur5e"),
    "PegInsertion": ("panda", "ur5e"),
    "MachineTending": ("panda",),
    "ToteInspection": ("panda",),
    "Palletize": ("panda_suction",),
    "DepalletizeMixed": ("panda_suction", "ur5e_suction"),
    "TotePack": ("panda",),
    "ShelfPick": ("mobile_panda",),
    "AisleDelivery": ("amr", "amr_x2", "amr_x3", "amr_x4"),
    "HandOver": ("panda_pair",),
}
# Cells whose parts cannot be moved away, nor their episodes start in the middle.
WHOLE = ("Palletize", "DepalletizeMixed", "ShelfPick", "AisleDelivery", "HandOver")
EXPORTS = {
    "robomimic": ("--out", "exports/robomimic.hdf5", "--valid", "0.4"),
    "lerobot": ("--out", "exports/lerobot"),
    "lerobot-png": ("--out", "exports/lerobot-png", "--pictures", "png"),
    "minari": (
        "--out",
        "exports/minari/some-v0",
    ),
    "rlds": (
        "--out",
        "exports/rlds",
    ),
    "numpy": ("--out", "exports/numpy", "--actions", "label"),
    "webdataset": ("--out", "exports/webdataset"),
}


@dataclass(frozen=True)
class Recipe:
    """Commands that run one after the other in an empty folder of their own.

    Attributes:
        name: what it makes.
        commands: arguments of `shopfloor`, each a text that is split at blanks; "mkdir X" makes a
            folder.
        quick: it belongs to the part that runs in less than a minute.
        learns: it needs torch and the open weights.
    """

    name: str
    commands: tuple[str, ...]
    quick: bool = False
    learns: bool = False


def recipes() -> list[Recipe]:
    """Return all recipes, the longest first."""
    return [*_flywheels(), *_datasets(), *_checkpoints(), *_cells()]


def _cells() -> Iterator[Recipe]:
    """Yield the episodes of each cell with each of its robots."""
    pictures = "--cameras front,wrist --image-size 24 32"

    for cell, robots in ROBOTS.items():
        for robot in robots:
            start = f"collect {cell} --robot {robot} --purpose other --seed {SEED}"
            usual = robot == robots[0]
            plain = f"{start} --episodes 1 --out plain"
            yield Recipe(f"plain/{cell}/{robot}", (plain,), quick=usual)

            messy = f"--policy random --intervene expert --noise 0.3 --variation hard {pictures}"
            noisy = "--noise 0.2 --variation easy --codec gzip"
            commands = [
                f"{start} --episodes 1 --out taken-over {messy}",
                f"{start} --episodes 2 --out noisy {noisy} --workers 2",
                f"{start} --episodes 1 --out labelled --policy random --intervene label",
            ]
            if usual:
                suites = f"evaluate --policy expert --cell {cell} --episodes 1 --seed {SEED}"
                commands.append(f"{suites} --suites all --out suites --quiet")
            if usual and cell not in WHOLE:
                commands += [
                    f"{start} --episodes 1 --variation {name} --out {name}"
                    for name in ("displaced", "mid_task")
                ]
            yield Recipe(f"messy/{cell}/{robot}", tuple(commands))


def _datasets() -> Iterator[Recipe]:
    """Yield a dataset's life, and what it is exported to."""
    pictures = "--cameras front,wrist --image-size 24 32"
    collected = (
        "collect PickToTray --episodes 4 --noise 0.1 --out first",
        "collect PickToTray --policy random --episodes 2 --seed 50 --out second",
        "data merge first second --out merged",
    )
    life = (
        *collected,
        "data relabel merged --where steps>=0 --instruction again",
        "data delete merged --where seed==2 --reason digests",
        "data filter merged --where outcome=='success' --out filtered",
        "data filter merged --where seed<50 --view view.json",
        "data split merged --out parts --shares train=0.5 test=0.5",
        "data compact merged --out sealed",
        "data compact merged --out flat --layout train",
        "data compact second",
        "data purge merged",
        "data quality merged --no-replay --out quality --quiet",
    )
    yield Recipe("dataset/life", life, quick=True)

    seen = (
        f"collect PickToTray --episodes 2 --noise 0.1 --out seen {pictures}",
        "data render seen --out drawn --size 16 16 --quiet",
        "mkdir exports",
        "mkdir exports/minari",
        *(
            f"data export seen --to {name.partition('-')[0]} {' '.join(flags)}"
            for name, flags in EXPORTS.items()
        ),
        "data import exports/robomimic.hdf5 --from robomimic --out back-robomimic",
        "data import exports/lerobot-png --from lerobot --out back-lerobot",
        "data import exports/minari/some-v0 --from minari --out back-minari",
    )
    yield Recipe("dataset/exports", seen, quick=True)


def _checkpoints() -> Iterator[Recipe]:
    """Yield small trainings, and an episode of each policy."""
    pictures = "--cameras front,wrist"
    check = "evaluate --cell PickToTray --episodes 1 --seed 600001 --quiet --summary"
    commands = [
        f"collect PickToTray --episodes 2 --out data {pictures}",
        "train --data data --out poses --steps 3 --quiet",
        f"{check} poses.summary.json --policy poses",
        "train --data data --init poses --out again --steps 2 --quiet",
        "train --data data --out sparse --steps 2 --head flow --experts 4 --quiet",
        f"{check} sparse.summary.json --policy sparse",
        "train --data data --out seen --steps 2 --observations cameras --quiet",
        f"{check} seen.summary.json --policy seen",
    ]
    yield Recipe("checkpoints", tuple(commands), learns=True)


def _flywheels() -> Iterator[Recipe]:
    """Yield small flywheels: one with a gate that decides, one from cameras in two cells."""
    poses = "flywheel --smoke --turns 1 --episodes 4 --report-episodes 4 --out poses --quiet"
    cameras = (
        "flywheel --observations cameras --cells PickToTray Kitting --turns 0 --demonstrations 1"
        " --report-episodes 1 --steps 3 --scenes 8 --out cameras --quiet"
    )
    yield Recipe("flywheel/poses", (poses,), learns=True)
    yield Recipe("flywheel/cameras", (cameras,), learns=True)


# --------------------------------------------------------------------------------------------------
# Running
# --------------------------------------------------------------------------------------------------


def digests_of(recipe: Recipe, tree: Path) -> dict[str, str]:
    """Run a recipe with the code in `tree` and return the digest of each file it makes.

    Raises:
        RuntimeError: a command failed; its output is the message.
    """
    with tempfile.TemporaryDirectory(prefix="shopfloor-digests-") as folder:
        for command in recipe.commands:
            _run(command, Path(folder), tree)
        return _hashes(Path(folder))


def _run(command: str, folder: Path, tree: Path) -> None:
    words = command.split()
    if words[0] == "mkdir":
        (folder / words[1]).mkdir()
        return

    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {
        **os.environ,
        **one_thread,
        "PYTHONPATH": str(tree / "src"),
        "PYTHONSAFEPATH": "1",
    }
    ran = subprocess.run(
        [sys.executable, "-m", "shopfloor", *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        raise RuntimeError(
            f"`shopfloor {command}` ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}"
        )


def _hashes(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name in RUN_FILES:
            continue
        name = path.relative_to(folder).as_posix()
        found[name] = hashlib.sha256(_content(path)).hexdigest()[:16]
    return found


def _content(path: Path) -> bytes:
    """Return a file's bytes; of a result in JSON only what does not differ between runs."""
    if not path.name.endswith(RESULTS):
        return path.read_bytes()
    return json.dumps(_without_times(json.loads(path.read_text())), sort_keys=True).encode()


def _without_times(value: Any) -> Any:  # noqa: ANN401  # JSON
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if key not in RUN_KEYS}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


# --------------------------------------------------------------------------------------------------
# Comparing
# --------------------------------------------------------------------------------------------------


def made_with() -> dict[str, str]:
    """Return what bytes may depend on besides our code: the processor and the libraries."""
    found = {"processor": f"{platform.system()} {platform.machine()} {_processor()}"}
    return found | {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    wide = any(line.startswith("flags") and "avx512f" in line for line in lines)
    # Libraries choose other kernels, with other last digits, where there is AVX-512.
    return f"{names[0] if names else ''}{' with AVX-512' if wide else ''}"


@contextmanager
def code_of(commit: str) -> Iterator[Path]:
    """Check a commit out into a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="shopfloor-code-") as folder:
        tree = Path(folder) / "code"
        subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", str(tree), commit],
            cwd=ROOT,
            check=True,
        )
        try:
            yield tree
        finally:
            subprocess.run(
                ["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True
            )


def differences(kept: dict[str, str], found: dict[str, str]) -> list[str]:
    """Return a line for each file that is missing, new or different."""
    if FAILED in found:
        return [found[FAILED]]
    lines = [f"missing: {name}" for name in kept if name not in found]
    lines += [f"new: {name}" for name in found if name not in kept]
    lines += [f"differs: {name}" for name in kept if name in found and found[name] != kept[name]]
    return sorted(lines)


def compare(chosen: Sequence[Recipe], kept: dict[str, Any], jobs: int) -> int:
    """Run recipes and compare; print each one's outcome and return the number that differ."""
    wanted, suspects = kept["digests"], []
    for recipe, found, seconds in run_all(chosen, ROOT, jobs):
        lines = differences(wanted.get(recipe.name, {}), found)
        verdict = "DIFFERS" if lines else "equal"
        print(f"{verdict:8} {recipe.name}: {len(found)} files, {seconds:.0f} s")
        print("".join(f"         {line}\n" for line in lines[:20]), end="", flush=True)
        if lines:
            suspects.append((recipe, found))

    other = [name for name, value in made_with().items() if kept["made_with"].get(name) != value]
    if not suspects or not other:
        return len(suspects)

    print(f"Other than where the digests were made: {', '.join(other)}.")
    print(f"Running these recipes with the code of {kept['commit']}, too.")
    again = {recipe.name: found for recipe, found in suspects}
    differing = 0
    with code_of(kept["commit"]) as tree:
        for recipe, found, _ in run_all([recipe for recipe, _ in suspects], tree, jobs):
            lines = differences(found, again[recipe.name])
            differing += bool(lines)
            print(
                f"{'equal here' if not lines else 'DIFFERS':10} {recipe.name}",
                *lines[:20],
                sep="\n         ",
            )
    return differing


def write(chosen: Sequence[Recipe], kept: dict[str, dict[str, str]], jobs: int) -> int:
    """Run recipes and keep their digests, each as it comes; return the number that failed."""
    head = ["git", "rev-parse", "HEAD"]
    ran = subprocess.run(head, cwd=ROOT, capture_output=True, text=True, check=True)
    document = {"commit": ran.stdout.strip(), "made_with": made_with(), "digests": kept}
    failed = 0

    for recipe, found, seconds in run_all(chosen, ROOT, jobs):
        if FAILED in found:
            failed += 1
            print(f"FAILED {recipe.name}: {found[FAILED]}")
            continue
        kept[recipe.name] = found
        KEPT.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
        print(f"kept {recipe.name}: {len(found)} files, {seconds:.0f} s", flush=True)
    return failed


def run_all(
    chosen: Sequence[Recipe], tree: Path, jobs: int
) -> Iterator[tuple[Recipe, dict[str, str], float]]:
    """Run recipes with the code in `tree`, some at a time; yield digests and seconds of each."""

    def timed(recipe: Recipe) -> tuple[dict[str, str], float]:
        began = time.monotonic()
        try:
            found = digests_of(recipe, tree)
        except RuntimeError as error:
            found = {FAILED: str(error)}
        return found, time.monotonic() - began

    with ThreadPoolExecutor(jobs) as pool:
        for recipe, (found, seconds) in zip(chosen, pool.map(timed, chosen), strict=True):
            yield recipe, found, seconds


def main() -> int:
    """Compare or write; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only what takes less than a minute")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only recipes with this text in their name"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="recipes that run at a time"
    )
    parser.add_argument(
        "--write", action="store_true", help="keep what is found, in place of comparing"
    )
    options = parser.parse_args()

    learning = importlib.util.find_spec("torch") is not None
    named = [
        recipe
        for recipe in recipes()
        if options.only in recipe.name and (recipe.quick or not options.quick)
    ]
    chosen = [recipe for recipe in named if learning or not recipe.learns]
    if len(chosen) < len(named):
        print(f"torch is not installed: {len(named) - len(chosen)} recipes that learn are left out")

    kept = json.loads(KEPT.read_text()) if KEPT.is_file() else {"digests": {}}
    if options.write:
        return write(chosen, kept["digests"], options.jobs)

    differing = compare(chosen, kept, options.jobs)
    print(f"digests: {len(chosen) - differing} recipes equal, {differing} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
