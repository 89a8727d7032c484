"""`shopfloor compare`: the gate on two policies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from shopfloor.collectors.choice import CellChoice
from shopfloor.flags import FirstSeed, Maybe
from shopfloor.launch.console import make_progress, print_json, with_interval
from shopfloor.launch.gate.decide import PROMOTE
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.flags import HERE, EngineFlags
from shopfloor.launch.verbs.runs import check_policy

library = Later("shopfloor.launch.gate.pairing")


@dataclass(frozen=True)
class Compare:
    """The gate on two policies: A in service, B the candidate, on the same seeds. Exit 0 means promote B, 1 do not.

    Attributes:
        a: policy in service.
        b: candidate.
        cell: the cell and the conditions.
        episodes: most seeds to spend; the gate looks after 50, 100 and 200 and stops when it has
            decided.
        seed: first seed.
        out: keep the episodes in this folder, so that the comparison resumes.
        engine: where the episodes run.
        json: print one JSON document on standard output.
        quiet: no progress.
    """

    a: Positional[Annotated[str, arg(metavar="A")]]
    b: Positional[Annotated[str, arg(metavar="B")]]
    cell: Annotated[CellChoice, arg(name="")]
    episodes: int = 200
    seed: FirstSeed = 760_000
    out: Maybe[Path] = None
    engine: EngineFlags = HERE
    json: bool = False
    quiet: bool = False


def run(arguments: Compare) -> int:
    """Run the gate: look at 50, 100 and 200 pairs, and stop at the first that decides."""
    for policy in (arguments.a, arguments.b):
        check_policy(policy)

    document: dict[str, Any] = library.compare(
        arguments.a,
        arguments.b,
        arguments.cell,
        arguments.episodes,
        seed=arguments.seed,
        out=arguments.out,
        workers=arguments.engine.or_serial,
        progress=make_progress(arguments.quiet or arguments.json),
    )

    if arguments.json:
        print_json(document)
    else:
        _print(arguments, document)
    return 0 if document["decision"] == PROMOTE else 1


def _print(arguments: Compare, document: dict[str, Any]) -> None:
    for role, name in (("a", arguments.a), ("b", arguments.b)):
        figures = document[role]
        if "success" in figures:
            success = with_interval(figures["success"], figures["interval"])
            print(f"{role.upper()} {name}: {success}")
    print(f"{document['decision'].replace('_', ' ')}: {document['gate']['why']}")
