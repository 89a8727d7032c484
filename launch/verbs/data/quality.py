"""`shopfloor data quality`: judges episodes, prints the bad ones, writes page, report and view."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shopfloor.flags import Maybe, Overlays
from shopfloor.launch.console import Phase, make_progress, print_json, print_table
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.flags import HERE, EngineFlags, Source, Where

if TYPE_CHECKING:
    from shopfloor.datasets.quality.result import Assessed
    from shopfloor.datasets.quality.result import Quality as Found

library = Later("shopfloor.collectors.recorded.quality")
judge = Later("shopfloor.datasets.quality.judge")
overlays = Later("shopfloor.datasets.listing.overlays")
pages = Later("shopfloor.launch.pages.quality_page")
staging = Later("shopfloor.datasets.disk.staging")
transfer = Later("shopfloor.datasets.tools.transfer")

REPORT, PAGE, VIEW = "quality.json", "quality.html", "view.json"
COLUMNS = ("episode", "verdict", "weight", "cell", "seed", "outcome", "why")


@dataclass(frozen=True)
class Quality:
    """Judge episodes: idle time, jerk, paths, gripper, clock, cameras, copies, labels; say which to leave out, and why.

    Attributes:
        dataset: dataset folder; nothing in it is changed.
        out: new folder for quality.html, quality.json and view.json, a view that train --overlay
            takes.
        where: which episodes, such as "cell == 'Kitting'" (default: all).
        overlays: overlay files (views) that hold, too.
        no_replay: do not execute actions again to check the success labels; that takes about as
            long as collecting.
        engine: where the episodes run.
        seed: of all draws.
        json: print one JSON document on standard output.
        quiet: no progress.
    """

    dataset: Source
    out: Maybe[Path] = None
    where: Where = None
    overlays: Overlays = ()
    no_replay: bool = False
    engine: EngineFlags = HERE
    seed: int = 0
    json: bool = False
    quiet: bool = False


def run(arguments: Quality) -> int:
    """Judge episodes; findings are no errors, so it exits with 0 whatever they are."""
    if arguments.out is None:
        found = _judge(arguments)
    else:
        transfer.refuse_inside(arguments.out, [arguments.dataset.absolute()])
        with staging.staged_folder(arguments.out) as staged:
            found = _judge(arguments)
            _write(found, staged, arguments)

    if arguments.json:
        print_json(found.to_json())
    else:
        _print(found, arguments)
    return 0


def _judge(arguments: Quality) -> Found:
    with _phases(arguments.quiet or arguments.json) as progress:
        found: Found = library.quality(
            arguments.dataset,
            where=arguments.where,
            overlays=arguments.overlays,
            replay=not arguments.no_replay,
            seed=arguments.seed,
            workers=arguments.engine.or_serial,
            progress=progress,
        )

    return found


@contextlib.contextmanager
def _phases(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show a call's progress, one phase after the other."""
    shown = make_progress(quiet)
    with contextlib.ExitStack() as stack:
        open_phases: dict[str, Phase] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in open_phases:
                stack.close()
                open_phases[name] = stack.enter_context(shown.phase(name, total))
            open_phases[name].reach(done)

        yield show


def _write(found: Found, folder: Path, arguments: Quality) -> None:
    report = json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n"
    (folder / REPORT).write_text(report, encoding="utf-8")

    overlays.write_overlay(folder / VIEW, found.operations())
    page = pages.quality_page(found, arguments.overlays, _next(found, arguments))
    (folder / PAGE).write_text(page, encoding="utf-8")


def _print(found: Found, arguments: Quality) -> None:
    if found.flagged:
        print_table("", COLUMNS, [_row(one) for one in found.flagged])

    counts = found.counts()
    print(
        f"{arguments.dataset}: {len(found.episodes)} episodes: {counts['keep']} to keep, "
        f"{counts['down-weight']} to draw less often, {counts['drop']} to leave out{_kinds(found)}"
    )

    if found.labels is not None:
        labels = found.labels
        print(
            f"success labels: {labels['replayed']} replayed in the simulator, "
            f"{labels['states_equal']} to the same states, {labels['wrong']} wrong"
        )

    for reason in found.not_checked:
        print(f"not checked: {reason}")

    for line in _next(found, arguments):
        print(line)


def _row(one: Assessed) -> tuple[str, ...]:
    why = [
        f"{finding.kind}: {finding.text}"
        for finding in one.findings
        if finding.severity != judge.NOTE
    ]

    return (
        str(one.record.index),
        one.verdict,
        f"{one.weight:g}",
        one.record.cell.split("/")[-1],
        str(one.record.seed),
        one.record.outcome,
        "; ".join(why),
    )


def _kinds(found: Found) -> str:
    kinds = ", ".join(f"{kind} {count}" for kind, count in found.kinds().items())
    return f" ({kinds})" if kinds else ""


def _next(found: Found, arguments: Quality) -> Sequence[str]:
    """Return the commands that make use of what was found."""
    data = shlex.quote(str(arguments.dataset))
    if arguments.out is None:
        return [
            "for a page with pictures and a view for training: "
            f"shopfloor data quality {data} --out quality"
        ]

    given = [*arguments.overlays, arguments.out / VIEW]
    together = " ".join(shlex.quote(str(overlay)) for overlay in given)
    return [
        f"to look at them: {shlex.quote(str(arguments.out / PAGE))}",
        f"to train with it: shopfloor train --data {data} --overlay {together} --out checkpoint",
    ]
