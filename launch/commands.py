"""What each verb does: calls the library, prints for people or as JSON, returns the exit code."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopfloor.core import InvalidInputError, Receipt
from shopfloor.launch import verbs
from shopfloor.launch.console import make_progress, note, print_json, print_table, with_interval
from shopfloor.launch.flywheel.setups import require_torch

if TYPE_CHECKING:
    from shopfloor.collectors.evaluate import Evaluation

SCHEMA_VERSION = 1
EXPERT_SUCCESS = Path(__file__).with_name("expert_success.json")


def cells(arguments: verbs.Cells) -> int:
    """List the cells, and write their pictures if asked to."""
    from shopfloor.envs.registry import cell_ids

    described = [_describe_cell(cell_id) for cell_id in cell_ids()]
    listed = [entry for entry in described if entry is not None]
    if arguments.gallery is not None:
        from shopfloor.launch.pages.gallery import write_gallery

        write_gallery([entry["id"] for entry in listed], arguments.gallery)
    if arguments.json:
        print_json(listed)
        return 0
    rows = [
        (
            entry["id"],
            ",".join(entry["robots"]),
            ",".join(entry["cameras"]),
            _expert_text(entry),
            "yes" if entry["learnable"] else "not yet",
            entry["instruction"],
        )
        for entry in listed
    ]
    columns = ("cell", "robots", "cameras", "expert success", "policies learn it", "for example")
    print_table("", columns, rows)
    return 0


def _describe_cell(cell_id: str) -> dict[str, Any] | None:
    """Describe a cell; None, and a note, for one of another package that is broken: it must not hide the others."""
    from shopfloor.envs.description import variations_of
    from shopfloor.envs.registry import make_cell
    from shopfloor.policies.learnable import why_not

    try:
        cell = make_cell(cell_id, cameras=())
    except Exception as error:
        note(f"{cell_id} cannot be made and is left out: {type(error).__name__}: {error}")
        return None
    try:
        description = cell.describe()
        _, info = cell.reset(seed=0)
    finally:
        cell.close()

    task = getattr(cell, "task", None)  # cells of other packages need not have one
    robot = description.get("robot")
    reason = why_not(description)
    measured = json.loads(EXPERT_SUCCESS.read_text()) if EXPERT_SUCCESS.is_file() else {}
    return {
        "id": cell_id,
        "instruction": info["instruction"],
        "robot": robot,
        "robots": list(task.robots) if task else [robot],
        "cameras": list(description.get("cameras", ())),
        "variations": list(variations_of(task)) if task else ["nominal"],
        "max_episode_steps": description.get("max_episode_steps"),
        "expert": measured.get(cell_id),
        "learnable": not reason,
        "why_not_learnable": reason or None,
    }


def _expert_text(entry: dict[str, Any]) -> str:
    expert = entry["expert"]
    return "not measured" if expert is None else f"{expert['successes']}/{expert['episodes']} seeds"


def collect(arguments: verbs.Collect) -> int:
    """Collect episodes."""
    from shopfloor.collectors.collect import CollectConfig
    from shopfloor.collectors.collect import collect as run

    _check_policy(arguments.policy)
    config = CollectConfig(
        cell=arguments.conditions.choose(arguments.cell),
        out=arguments.out,
        policy=arguments.policy,
        episodes=arguments.episodes,
        seed=arguments.seed,
        intervene=arguments.intervene,
        noise=arguments.noise,
        purpose=arguments.purpose,
        codec=arguments.codec,
    )
    with _counting("collect", arguments.episodes, arguments.quiet or arguments.json) as count:
        result = run(config, workers=arguments.workers, on_receipt=count)
    outcomes: dict[str, int] = {}
    for receipt in result.receipts:
        key = receipt.reason or receipt.outcome
        outcomes[key] = outcomes.get(key, 0) + 1
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "dataset": str(result.dataset),
        "cell": result.cell,
        "policy": dict(result.policy),
        "episodes": len(result.receipts) - result.infrastructure,
        "successes": result.successes,
        "outcomes": dict(sorted(outcomes.items())),
        "steps": sum(receipt.steps for receipt in result.receipts),
        "expert_steps": sum(receipt.expert_steps for receipt in result.receipts),
        "resumed": result.resumed,
        "infrastructure": result.infrastructure,
        "cpu_seconds": round(sum(receipt.cpu_seconds for receipt in result.receipts), 3),
    }
    if arguments.json:
        print_json(document)
    else:
        print(
            f"{document['episodes']} episodes in {result.dataset} ({result.resumed} were there): "
            f"{_outcomes_text(document['outcomes'])}; {document['steps']} steps"
        )
    for receipt in result.receipts:
        if receipt.outcome == "infrastructure":
            note(
                f"seed {receipt.seed} failed because of the machine ({receipt.reason}): {receipt.message}"
            )
    return result.exit_code


def _outcomes_text(outcomes: dict[str, int]) -> str:
    return ", ".join(
        f"{reason} {count}" for reason, count in sorted(outcomes.items(), key=lambda item: -item[1])
    )


@contextlib.contextmanager
def _counting(title: str, episodes: int, quiet: bool) -> Iterator[Callable[[Receipt], None]]:
    """Draw progress while receipts come in."""
    with make_progress(quiet).phase(title, episodes) as phase:
        yield lambda receipt: phase.advance(receipt.outcome == "success")


def train(arguments: verbs.Train) -> int:
    """Train or fine-tune a policy."""
    from shopfloor.collectors.executors import signals

    require_torch()
    from shopfloor.policies.checkpoint import read_card
    from shopfloor.policies.learners.training import TrainConfig
    from shopfloor.policies.learners.training import train as run

    config = TrainConfig(
        data=arguments.data,
        out=arguments.out,
        init=arguments.init,
        observations=arguments.observations,
        head=arguments.head,
        experts=arguments.experts,
        steps=arguments.steps,
        seed=arguments.seed,
        execute=arguments.execute,
        overlays=arguments.overlays,
    )
    with make_progress(arguments.quiet or arguments.json).phase(
        "train", arguments.steps or 1, "steps"
    ) as phase:

        def tell(step: int, total: int, loss: float) -> None:
            signals.check()
            phase.total = total
            phase.reach(step, f"loss {loss:.3f}")

        folder = run(config, tell)
    card = read_card(folder)
    keys = (
        "digest",
        "cells",
        "observations",
        "parameters_total",
        "parameters_active",
        "label_sources",
    )
    document = {
        "schema_version": SCHEMA_VERSION,
        "checkpoint": str(folder),
        **{key: card[key] for key in keys},
    }
    if arguments.json:
        print_json(document)
    else:
        labels = ", ".join(f"{name} {count}" for name, count in card["label_sources"].items())
        print(
            f"{folder}: {card['parameters_total']:,} parameters, acts from {card['observations']}; labels: {labels}"
        )
    return 0


def _check_policy(policy: str) -> None:
    """Say how to install torch where the policy is a checkpoint and there is none, before any process starts."""
    from shopfloor.collectors.sources import policy_kinds

    if policy not in policy_kinds() and Path(policy).is_dir():
        require_torch()


def evaluate(arguments: verbs.Evaluate) -> int:
    """Evaluate a policy."""
    from shopfloor.collectors.evaluate import evaluate as run
    from shopfloor.launch.gate import suites

    threshold = arguments.min_success
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise InvalidInputError(
            f"--min-success is {threshold:g}; expected a rate from 0 to 1, such as 0.9."
        )
    if arguments.summary is not None and not arguments.summary.absolute().parent.is_dir():
        raise InvalidInputError(
            f"--summary {arguments.summary}: its folder does not exist. Make it first."
        )
    if arguments.summary is not None and arguments.summary.is_dir():
        raise InvalidInputError(
            f"--summary {arguments.summary} is a folder; expected a file's name."
        )
    _check_policy(arguments.policy)
    names = ("", *suites.wanted(arguments.suites, arguments.cell)) if arguments.suites else ("",)
    quiet = arguments.quiet or arguments.json
    with _counting("evaluate", len(names) * arguments.episodes, quiet) as count:
        choice = arguments.conditions.choose(arguments.cell)
        runs = []
        for name in names:
            varied = suites.shifted(choice.variation, name) if name else choice.variation
            out = arguments.out / name if arguments.out and arguments.suites else arguments.out
            runs.append(
                run(
                    arguments.policy,
                    replace(choice, variation=varied),
                    arguments.episodes,
                    seed=arguments.seed,
                    out=out,
                    workers=arguments.workers,
                    on_receipt=count,
                )
            )
    result, *shifted = runs
    document = {**result.to_json(), "policy": {"reference": arguments.policy, **result.policy}}
    met = threshold is None or result.success >= threshold
    document["min_success"] = threshold
    document["met"] = met
    if arguments.suites:
        document["suites"] = [
            suites.compared(name, result, other)
            for name, other in zip(names[1:], shifted, strict=True)
        ]
    if arguments.summary is not None:
        from shopfloor.collectors.provenance import replace_json

        replace_json(arguments.summary, document)
    if arguments.json:
        print_json(document)
    else:
        _print_evaluation(result, threshold, met)
        if arguments.suites:
            suites.print_suites(document["suites"])
    return max(each.exit_code for each in (result, *shifted)) or (0 if met else 1)


def _print_evaluation(result: Evaluation, threshold: float | None, met: bool) -> None:
    print(
        f"{result.cell}: {result.successes} of {result.episodes} episodes succeeded, "
        f"{with_interval(result.success, result.interval)} ({_outcomes_text(result.outcomes)})"
    )
    if threshold is not None:
        print(f"threshold {100 * threshold:g} %: {'met' if met else 'NOT met'}")
    if result.infrastructure:
        note(f"{result.infrastructure} episodes failed because of the machine and do not count")


def compare(arguments: verbs.Compare) -> int:
    """Run the gate on two policies: looks at 50, 100 and 200 pairs, stopping at the first that decides."""
    from shopfloor.launch.gate import decide as gate
    from shopfloor.launch.gate.pairing import compare as run

    for policy in (arguments.a, arguments.b):
        _check_policy(policy)
    document = run(
        arguments.a,
        arguments.b,
        arguments.conditions.choose(arguments.cell),
        arguments.episodes,
        seed=arguments.seed,
        out=arguments.out,
        workers=arguments.workers,
        progress=make_progress(arguments.quiet or arguments.json),
    )
    if arguments.json:
        print_json(document)
    else:
        for role, name in (("a", arguments.a), ("b", arguments.b)):
            figures = document[role]
            if "success" in figures:
                print(
                    f"{role.upper()} {name}: {with_interval(figures['success'], figures['interval'])}"
                )
        print(f"{document['decision'].replace('_', ' ')}: {document['gate']['why']}")
    return 0 if document["decision"] == gate.PROMOTE else 1


def flywheel(arguments: verbs.Flywheel) -> int:
    """Run or resume a flywheel."""
    from shopfloor.launch.flywheel.loop import flywheel as run
    from shopfloor.launch.flywheel.summary import COLUMNS, table_rows

    summary = run(arguments.run, make_progress(arguments.quiet or arguments.json))
    if arguments.json:
        print_json(summary)
        return 0
    print_table("", COLUMNS, table_rows(summary))
    print(summary["labels"]["statement"])
    print(f"report: {arguments.run.out / 'report.html'}")
    return 0


def view(arguments: verbs.View) -> int:
    """Open a report, or make and open an episode's page."""
    from shopfloor.launch.pages.view import open_page, page_of

    page = page_of(arguments.folder, arguments.episode, arguments.camera, arguments.out)
    print(page)
    if arguments.open:
        open_page(page)
    return 0
