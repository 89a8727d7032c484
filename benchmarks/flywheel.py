"""Where a flywheel's CPU seconds go: one smoke run by phase, beside bare collection of the same steps.

    python -m benchmarks.flywheel

The reference runs the expert without store, ledger or learning, on the same machine in the same
run. What collecting adds is shown as a ratio to it, per control step.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shopfloor.launch.console import print_table

CELL = "shopfloor/PickToTray-v0"
REFERENCE_EPISODES = 20


def reference(episodes: int) -> tuple[float, int]:
    """Run the expert bare; return CPU seconds and control steps."""
    from shopfloor.collectors.jobs import build_cell
    from shopfloor.envs.experts.scripted import make_expert

    cell = build_cell(CELL, {"robot": "panda", "image_size": (96, 96)}, "nominal")
    expert = make_expert(CELL)
    cell.reset(seed=0)
    began, steps = time.process_time(), 0
    for seed in range(episodes):
        _, info = cell.reset(seed=seed)
        expert.reset(seed, info["instruction"])
        ended = False
        while not ended:
            observation = {**cell.observe([]), "object_names": info["object_names"]}
            _, terminated, truncated, _ = cell.advance(expert.act(observation).actions[0])
            ended, steps = terminated or truncated, steps + 1
    spent = time.process_time() - began
    cell.close()
    return spent, steps


def phases(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return CPU seconds by phase of a flywheel."""
    turns = summary["turns"]
    found = {
        "collect": sum(entry["collected"]["cpu_seconds"] for entry in turns),
        "train": sum(entry["training"]["cpu_seconds"] for entry in turns),
        "evaluate": sum(entry["candidate"]["cpu_seconds"] for entry in turns),
        "gate": sum(entry["gate"]["cpu_seconds"] for entry in turns if entry["gate"]),
        "latency": sum(entry["cpu_seconds"] for entry in summary["efficiency"]),
    }
    return {name: round(seconds, 2) for name, seconds in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.flywheel", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args(arguments)
    from shopfloor.launch.flywheel.config import FlywheelConfig
    from shopfloor.launch.flywheel.loop import flywheel

    spent, steps = reference(REFERENCE_EPISODES)
    with tempfile.TemporaryDirectory(prefix="shopfloor-bench-") as folder:
        began, cpu = time.perf_counter(), time.process_time()
        summary = flywheel(
            FlywheelConfig(Path(folder) / "out", smoke=True, workers=options.workers)
        )
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    split = phases(summary)
    if options.workers == 1:
        split["imports, ledger, report"] = round(cpu - sum(split.values()), 2)
    collected = sum(entry["collected"]["steps"] for entry in summary["turns"])
    document = {
        "cpu_seconds": split,
        "wall_seconds": round(wall, 1),
        "workers": options.workers,
        "reference_steps_per_cpu_second": round(steps / spent, 1),
        "collect_steps_per_cpu_second": round(collected / split["collect"], 1),
        "collect_ratio": round(collected / split["collect"] / (steps / spent), 3),
    }
    if options.json:
        print(json.dumps(document, indent=2))
        return
    total = sum(split.values())
    rows = [(name, f"{seconds:.1f}", f"{seconds / total:.0%}") for name, seconds in split.items()]
    print_table("flywheel --smoke, CPU seconds by phase", ("phase", "CPU s", "share"), rows)
    print(
        f"collect: {document['collect_steps_per_cpu_second']} steps per CPU s with policy, labels and commits, "
        f"{document['collect_ratio']} of the bare expert's {document['reference_steps_per_cpu_second']}; "
        f"{document['wall_seconds']} s by the clock with {options.workers} worker(s)"
    )


if __name__ == "__main__":
    main()
