"""`shopfloor data quality`: judges a dataset's episodes, prints the bad ones, and writes page, report and view."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shopfloor.launch.console import Phase, make_progress, print_json, print_table

if TYPE_CHECKING:
    from shopfloor.datasets.quality.result import Quality as Found
    from shopfloor.launch.data_verbs import Quality

REPORT, PAGE, VIEW = "quality.json", "quality.html", "view.json"


def quality(arguments: Quality) -> int:
    """Judge episodes; findings are no errors, so it exits with 0 whatever they are."""
    from shopfloor.datasets.disk.staging import staged_folder
    from shopfloor.datasets.tools.transfer import refuse_inside

    if arguments.out is None:
        found = _judge(arguments)
    else:
        refuse_inside(arguments.out, [arguments.dataset.absolute()])
        with staged_folder(arguments.out) as staged:
            found = _judge(arguments)
            _write(found, staged, arguments)
    if arguments.json:
        print_json(found.to_json())
    else:
        _tell(found, arguments)
    return 0


def _judge(arguments: Quality) -> Found:
    from shopfloor.collectors.recorded.quality import quality as call

    with _phases(arguments.quiet or arguments.json) as progress:
        return call(
            arguments.dataset,
            where=arguments.where,
            overlays=arguments.overlays,
            replay=not arguments.no_replay,
            seed=arguments.seed,
            workers=arguments.workers,
            progress=progress,
        )


@contextlib.contextmanager
def _phases(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show a call's progress, one phase after the other."""
    shown = make_progress(quiet)
    with contextlib.ExitStack() as stack:
        open_phases: dict[str, Phase] = {}

        def tell(name: str, done: int, total: int) -> None:
            if name not in open_phases:
                stack.close()
                open_phases[name] = stack.enter_context(shown.phase(name, total))
            open_phases[name].reach(done)

        yield tell


def _write(found: Found, folder: Path, arguments: Quality) -> None:
    from shopfloor.datasets.listing.overlays import write_view
    from shopfloor.launch.pages.quality_page import quality_page

    (folder / REPORT).write_text(
        json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )
    write_view(folder / VIEW, found.operations())
    text = quality_page(found, arguments.overlays, _next(found, arguments))
    (folder / PAGE).write_text(text, encoding="utf-8")


def _tell(found: Found, arguments: Quality) -> None:
    from shopfloor.datasets.quality.judge import NOTE

    rows = [
        (
            str(one.record.index),
            one.verdict,
            f"{one.weight:g}",
            one.record.cell.split("/")[-1],
            str(one.record.seed),
            one.record.outcome,
            "; ".join(
                f"{finding.kind}: {finding.text}"
                for finding in one.findings
                if finding.severity != NOTE
            ),
        )
        for one in found.flagged
    ]
    if rows:
        print_table("", ("episode", "verdict", "weight", "cell", "seed", "outcome", "why"), rows)
    counts = found.counts()
    print(
        f"{arguments.dataset}: {len(found.episodes)} episodes: {counts['keep']} to keep, {counts['down-weight']} to "
        f"draw less often, {counts['drop']} to leave out" + _kinds(found)
    )
    if found.labels is not None:
        labels = found.labels
        print(
            f"success labels: {labels['replayed']} replayed in the simulator, {labels['states_equal']} to the same "
            f"states, {labels['wrong']} wrong"
        )
    for reason in found.not_checked:
        print(f"not checked: {reason}")
    for line in _next(found, arguments):
        print(line)


def _kinds(found: Found) -> str:
    kinds = ", ".join(f"{kind} {count}" for kind, count in found.kinds().items())
    return f" ({kinds})" if kinds else ""


def _next(found: Found, arguments: Quality) -> Sequence[str]:
    """Return the commands that make use of what was found."""
    data = shlex.quote(str(arguments.dataset))
    if arguments.out is None:
        return [
            f"for a page with pictures and a view for training: shopfloor data quality {data} --out quality"
        ]
    before = " ".join(shlex.quote(str(overlay)) for overlay in arguments.overlays)
    view = shlex.quote(str(arguments.out / VIEW))
    overlays = f"{before} {view}" if before else view
    return [
        f"to look at them: {shlex.quote(str(arguments.out / PAGE))}",
        f"to train with it: shopfloor train --data {data} --overlay {overlays} --out checkpoint",
    ]
