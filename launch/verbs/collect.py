"""`shopfloor collect`: runs a policy in a cell and logs every episode."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from shopfloor.launch.console import note, print_json
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.flags import USUAL, CellName, Conditions, PolicyName
from shopfloor.launch.verbs.runs import check_policy, counting, outcomes_text

if TYPE_CHECKING:
    from shopfloor.collectors.collect import CollectResult

library = Later("shopfloor.collectors.collect")

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Collect:
    """Run a policy in a cell and log every episode, failed ones included. Run again to continue or to add episodes.

    Attributes:
        cell: work cell, such as PickToTray.
        out: folder of the dataset.
        policy: who acts: the scripted expert, uniform random actions, or a checkpoint folder.
        episodes: episodes to have in the end, failed ones included.
        seed: first seed; episode i has seed FIRST + i. Below 600000 for training data.
        workers: processes; the files are the same for any number.
        codec: compression; gzip opens in any HDF5 reader, blosc after `import hdf5plugin`.
        intervene: the expert's help: none; expert: it takes over when the policy strays; label: it
            labels every visited state while the policy acts.
        noise: scale of the noise on executed actions, in units of a full action; the clean command
            is kept as label.
        purpose: what the episodes may be used for; train refuses the others.
        conditions: the cell's.
        json: print one JSON document on standard output.
        quiet: no progress.
    """

    cell: Positional[CellName]
    out: Path
    policy: PolicyName = "expert"
    episodes: int = 10
    seed: Annotated[int, arg(metavar="FIRST")] = 0
    workers: int = 1
    codec: Literal["blosc", "gzip", "none"] = "blosc"
    intervene: Literal["none", "expert", "label"] = "none"
    noise: float = 0.0
    purpose: Literal["train", "gate", "report", "other"] = "train"
    conditions: OmitArgPrefixes[Conditions] = USUAL
    json: bool = False
    quiet: bool = False


def run(arguments: Collect) -> int:
    """Collect episodes."""
    check_policy(arguments.policy)

    config = library.CollectConfig(
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

    with counting("collect", arguments.episodes, arguments.quiet or arguments.json) as count:
        result: CollectResult = library.collect(config, workers=arguments.workers, on_receipt=count)

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
