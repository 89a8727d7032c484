"""`shopfloor collect`: runs a policy in a cell and logs every episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from shopfloor.collectors.config import CollectConfig
from shopfloor.launch.console import note, print_json
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.flags import HERE, EngineFlags
from shopfloor.launch.verbs.runs import check_policy, counting, outcomes_text

if TYPE_CHECKING:
    from shopfloor.collectors.collect import CollectResult

library = Later("shopfloor.collectors.collect")

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Collect:
    """Run a policy in a cell and log every episode, failed ones included. Run again to continue or to add episodes.

    Attributes:
        config: what to collect.
        engine: where the episodes run.
        json: print one JSON document on standard output.
        quiet: no progress.
    """

    config: Annotated[CollectConfig, arg(name="")]
    engine: EngineFlags = HERE
    json: bool = False
    quiet: bool = False


def run(arguments: Collect) -> int:
    """Collect episodes."""
    config = arguments.config
    check_policy(config.policy)

    with counting("collect", config.episodes, arguments.quiet or arguments.json) as count:
        result: CollectResult = library.collect(
            config, workers=arguments.engine.or_serial, on_receipt=count
        )

    document = _document(result)
    if arguments.json:
        print_json(document)
    else:
        print(
            f"{document['episodes']} episodes in {result.dataset} ({result.resumed} were there): "
            f"{outcomes_text(document['outcomes'])}; {document['steps']} steps"
        )

    for receipt in result.receipts:
        if receipt.outcome == "infrastructure":
            note(
                f"seed {receipt.seed} failed because of the machine ({receipt.reason}): "
                f"{receipt.message}"
            )

    return result.exit_code


def _document(result: CollectResult) -> dict[str, Any]:
    outcomes: dict[str, int] = {}
    for receipt in result.receipts:
        key = receipt.reason or receipt.outcome
        outcomes[key] = outcomes.get(key, 0) + 1

    return {
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
