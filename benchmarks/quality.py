"""How many planted defects `data quality` finds, and how many sound episodes it blames.

    python -m benchmarks.quality
    python -m benchmarks.quality --seed 600000 --blocks 1

The first command is the evaluation of docs/quality.md, the second the set that its thresholds were
chosen on. Each block is two datasets a cell: numbers alone (60 demonstrations, 15 honest failures,
4 episodes for each kind of defect), and with pictures (20, 5, and 4 for each kind that needs a
camera). Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.planted import CELLS, KINDS, Planted, description, plant
from shopfloor.collectors.recorded.quality import quality
from shopfloor.collectors.statistics import wilson_interval
from shopfloor.datasets.quality.judge import NOTE
from shopfloor.datasets.quality.result import Assessed
from shopfloor.datasets.writer import EpisodeWriter, write_manifest

SEEDS_EACH = 1000  # of a cell's block; a set never uses more
WITH_PICTURES = ("frozen_camera", "black_camera")
EACH = 4
# The finding that names a planted kind, where it is not called the same.
NAMED = {
    "idle_start": {"idle"},
    "idle_tail": {"idle"},
    "aimless": {"low_information", "jerky", "detour"},
}
SIMULATOR = {"wrong_label", "not_reproduced"}  # what only a replay can find


@dataclass
class Tally:
    """What came of the episodes of one kind.

    Attributes:
        planted: how many there are.
        named: how many have the finding that names the defect.
        flagged: how many are left out or drawn less often, for whatever reason.
        without_simulator: the same without what only a replay can find.
        reasons: finding -> how many have it.
    """

    planted: int = 0
    named: int = 0
    flagged: int = 0
    without_simulator: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, found: Assessed) -> None:
        """Count one episode."""
        kinds = {finding.kind for finding in found.findings if finding.severity != NOTE}
        self.planted += 1
        self.named += bool(kinds & NAMED.get(kind, {kind}))
        self.flagged += bool(kinds)
        self.without_simulator += bool(kinds - SIMULATOR)
        for one in sorted(kinds):
            self.reasons[one] = self.reasons.get(one, 0) + 1


def sets(
    cell: str, first: int, *, clean: int = 60, failures: int = 15, each: int = EACH
) -> Iterable[list[Planted]]:
    """Yield a block of one cell: numbers alone, then with pictures; seeds are first..first + SEEDS_EACH - 1."""
    numbers = [kind for kind in KINDS if kind not in WITH_PICTURES for _ in range(each)]
    pictures = [kind for kind in WITH_PICTURES for _ in range(each)]
    half = SEEDS_EACH * 7 // 10
    yield plant(cell, numbers, first, last=first + half - 1, clean=clean, failures=failures)
    yield plant(
        cell,
        pictures,
        first + half,
        last=first + SEEDS_EACH - 1,
        clean=clean // 3,
        failures=failures // 3,
        pictures=True,
    )


def write(folder: Path, cell: str, episodes: Sequence[Planted]) -> Path:
    """Write a set as a dataset."""
    writer = EpisodeWriter(folder, description(cell, "front" in episodes[0].episode.observations))
    for index, one in enumerate(episodes):
        writer.write(one.episode, index)
    write_manifest(folder)
    return folder


def measure(seed: int, blocks: int, workers: int = 1, **sizes: int) -> dict[str, Tally]:
    """Make the sets, judge them, and count.

    Args:
        seed: first seed.
        blocks: how many datasets of each sort a cell has.
        workers: processes that replay.
        **sizes: see `sets`.

    Returns:
        Kind -> tally; "" for sound demonstrations, "failure" for honest failures.
    """
    tallies: dict[str, Tally] = {}
    for block in range(blocks):
        for number, cell in enumerate(CELLS):
            first = seed + SEEDS_EACH * (block * len(CELLS) + number)
            for episodes in sets(cell, first, **sizes):
                with tempfile.TemporaryDirectory() as place:
                    found = quality(write(Path(place) / "set", cell, episodes), workers=workers)
                for one, result in zip(episodes, found.episodes, strict=True):
                    tallies.setdefault(one.kind, Tally()).add(one.kind, result)
    return tallies


def rates(tallies: dict[str, Tally]) -> dict[str, int]:
    """Return the four counts that recall and precision are made of."""
    bad = [tally for kind, tally in tallies.items() if kind in KINDS]
    good = [tally for kind, tally in tallies.items() if kind not in KINDS]
    return {
        "planted": sum(tally.planted for tally in bad),
        "found": sum(tally.named for tally in bad),
        "flagged_bad": sum(tally.flagged for tally in bad),
        "flagged_good": sum(tally.flagged for tally in good),
    }


def share(count: int, total: int) -> str:
    """Format a share with its Wilson 95 % interval."""
    if not total:
        return "-"
    low, high = wilson_interval(count, total)
    return f"{100 * count / total:.1f} % [{100 * low:.1f}, {100 * high:.1f}] ({count}/{total})"


def report(tallies: dict[str, Tally]) -> str:
    """Return the tables."""
    lines = [
        "| planted | found as such | flagged at all | without simulator |",
        "|---|---|---|---|",
    ]
    for kind in KINDS:
        if kind in tallies:
            one = tallies[kind]
            lines.append(
                f"| {kind} | {share(one.named, one.planted)} | {one.flagged}/{one.planted} | "
                f"{one.without_simulator}/{one.planted} |"
            )
    counts = rates(tallies)
    found, planted = counts["found"], counts["planted"]
    flagged = counts["flagged_bad"] + counts["flagged_good"]
    lines += [
        f"| **all** | **{share(found, planted)}** | {counts['flagged_bad']}/{planted} | "
        f"{sum(tallies[kind].without_simulator for kind in KINDS if kind in tallies)}/{planted} |",
        "",
        f"Precision: {share(counts['flagged_bad'], flagged)} of the flagged episodes have a planted defect.",
        "",
        "| sound episodes | flagged | why |",
        "|---|---|---|",
    ]
    for kind, name in (("", "demonstrations"), ("failure", "honest failures")):
        one = tallies.get(kind, Tally())
        why = ", ".join(f"{reason} {count}" for reason, count in sorted(one.reasons.items())) or "-"
        lines.append(f"| {name} | {share(one.flagged, one.planted)} | {why} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=620_000, help="first seed")
    parser.add_argument("--blocks", type=int, default=5, help="datasets of each sort a cell has")
    parser.add_argument("--workers", type=int, default=1, help="processes that replay")
    parser.add_argument("--json", action="store_true", help="print counts as JSON")
    options = parser.parse_args(arguments)
    tallies = measure(options.seed, options.blocks, options.workers)
    if options.json:
        document: dict[str, Any] = {
            kind or "demonstration": tally.__dict__ for kind, tally in tallies.items()
        }
        print(json.dumps({**document, "rates": rates(tallies)}, indent=1))
    else:
        print(report(tallies))


if __name__ == "__main__":
    main()
