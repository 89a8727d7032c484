"""`shopfloor flywheel`: demonstrations, then turns of collect, fine-tune, evaluate, gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import arg

from shopfloor.launch.console import make_progress, print_json, print_table
from shopfloor.launch.flywheel.config import FlywheelConfig
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.flags import Engine, EngineAddress

library = Later("shopfloor.launch.flywheel.loop")
summaries = Later("shopfloor.launch.flywheel.summary")


@dataclass(frozen=True)
class Flywheel:
    """Demonstrations, then turns of collect, fine-tune, evaluate, gate. Writes OUT/report.html. Run again to resume.

    Attributes:
        run: what decides the result.
        engine: where episodes run, which no result depends on: serial, local:W, or the address of an
            installed package's (default: as --workers).
        json: print the summary as one JSON document on standard output.
        quiet: no progress.
    """

    run: Annotated[FlywheelConfig, arg(name="")]
    engine: EngineAddress = None
    json: bool = False
    quiet: bool = False


def run(arguments: Flywheel) -> int:
    """Run or resume a flywheel."""
    progress = make_progress(arguments.quiet or arguments.json)
    engine = Engine(arguments.engine, arguments.run.workers)
    summary: dict[str, Any] = library.flywheel(arguments.run, progress, workers=engine.address)

    if arguments.json:
        print_json(summary)
        return 0

    print_table("", summaries.COLUMNS, summaries.table_rows(summary))
    print(summary["labels"]["statement"])
    print(f"report: {arguments.run.out / 'report.html'}")
    return 0
