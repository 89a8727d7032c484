"""`shopfloor evaluate`: runs a policy on fixed seeds and counts successes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from shopfloor.collectors.config import EvaluateConfig
from shopfloor.errors import InvalidInputError
from shopfloor.flags import Maybe
from shopfloor.launch.console import note, print_json, with_interval
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.flags import HERE, EngineFlags
from shopfloor.launch.verbs.runs import check_policy, counting, outcomes_text

if TYPE_CHECKING:
    from shopfloor.collectors.evaluate import Evaluation

library = Later("shopfloor.collectors.evaluate")
provenance = Later("shopfloor.collectors.provenance")
suites = Later("shopfloor.launch.gate.suites")


@dataclass(frozen=True)
class Evaluate:
    """Run a policy on fixed seeds and count successes, with a Wilson 95 % interval. Made for CI.

    Attributes:
        config: what to evaluate.
        min_success: exit with 1 if the success rate is below this (0 to 1).
        summary: write the result as JSON to this file.
        suites: names of shift suites with commas (light,camera), or all: evaluate under each on the
            same seeds, too.
        engine: where the episodes run.
        json: print one JSON document on standard output.
        quiet: no progress.
    """

    config: Annotated[EvaluateConfig, arg(name="")]
    min_success: Maybe[float] = None
    summary: Maybe[Path] = None
    suites: Maybe[str] = None
    engine: EngineFlags = HERE
    json: bool = False
    quiet: bool = False


def run(arguments: Evaluate) -> int:
    """Evaluate a policy."""
    _check_before(arguments)
    check_policy(arguments.config.policy)

    names: tuple[str, ...] = ("",)
    if arguments.suites:
        names = ("", *suites.wanted(arguments.suites, arguments.config.cell.cell))
    result, *shifted = _evaluations(arguments, names)

    threshold = arguments.min_success
    met = threshold is None or result.success >= threshold
    document = {
        **result.to_json(),
        "policy": {"reference": arguments.config.policy, **result.policy},
        "min_success": threshold,
        "met": met,
    }

    if arguments.suites:
        document["suites"] = [
            suites.compared(name, result, other)
            for name, other in zip(names[1:], shifted, strict=True)
        ]

    if arguments.summary is not None:
        provenance.replace_json(arguments.summary, document)
    if arguments.json:
        print_json(document)
    else:
        _print(result, threshold, met)
        if arguments.suites:
            suites.print_suites(document["suites"])

    failed = max(each.exit_code for each in (result, *shifted))
    return failed or (0 if met else 1)


def _check_before(arguments: Evaluate) -> None:
    """Refuse what would only show after the episodes."""
    threshold, summary = arguments.min_success, arguments.summary
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise InvalidInputError(
            f"--min-success is {threshold:g}; expected a rate from 0 to 1, such as 0.9."
        )

    if summary is not None and not summary.absolute().parent.is_dir():
        raise InvalidInputError(f"--summary {summary}: its folder does not exist. Make it first.")
    if summary is not None and summary.is_dir():
        raise InvalidInputError(f"--summary {summary} is a folder; expected a file's name.")


def _evaluations(arguments: Evaluate, names: Sequence[str]) -> list[Evaluation]:
    """Evaluate under each shift suite; "" is none."""
    config, choice = arguments.config, arguments.config.cell
    quiet = arguments.quiet or arguments.json
    found: list[Evaluation] = []

    with counting("evaluate", len(names) * config.episodes, quiet) as count:
        for name in names:
            variation = suites.shifted(choice.variation, name) if name else choice.variation
            out = config.out / name if config.out and arguments.suites else config.out
            shifted = replace(config, cell=replace(choice, variation=variation), out=out)

            evaluation = library.evaluate(
                shifted, workers=arguments.engine.or_serial, on_receipt=count
            )
            found.append(evaluation)

    return found


def _print(result: Evaluation, threshold: float | None, met: bool) -> None:
    print(
        f"{result.cell}: {result.successes} of {result.episodes} episodes succeeded, "
        f"{with_interval(result.success, result.interval)} ({outcomes_text(result.outcomes)})"
    )
    if threshold is not None:
        print(f"threshold {100 * threshold:g} %: {'met' if met else 'NOT met'}")
    if result.infrastructure:
        note(f"{result.infrastructure} episodes failed because of the machine and do not count")
