"""`shopfloor data relabel`: gives episodes another instruction, outcome or reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shopfloor.flags import Maybe
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.data.telling import episodes, print_document
from shopfloor.launch.verbs.flags import Ids, Source, Where

tools = Later("shopfloor.datasets.tools.edit")


@dataclass(frozen=True)
class Relabel:
    """Give episodes another instruction, outcome or reason. Their files stay as they are: an overlay says it.

    Attributes:
        dataset: dataset folder.
        where: which episodes, such as "seed == 7".
        ids: episode ids, or beginnings of at least 8 characters.
        instruction: new instruction.
        outcome: new outcome.
        reason: new failure reason, such as dropped or timeout.
        json: print one JSON document on standard output.
    """

    dataset: Source
    where: Where = None
    ids: Ids = ()
    instruction: Maybe[str] = None
    outcome: Maybe[Literal["success", "failure"]] = None
    reason: Maybe[str] = None
    json: bool = False


def run(arguments: Relabel) -> int:
    """Call episodes otherwise."""
    done = tools.relabel(
        arguments.dataset,
        where=arguments.where,
        ids=arguments.ids,
        instruction=arguments.instruction,
        outcome=arguments.outcome,
        reason=arguments.reason,
    )

    if arguments.json:
        print_document(done.to_json())
    elif done.overlay is None:
        print(f"{arguments.dataset}: nothing to do, no chosen episode would change")
    else:
        print(
            f"{arguments.dataset}: {episodes(done.changed)} relabelled by "
            f"overlays/{done.overlay.name}; their files are as they were, and relabelling again "
            "replaces it"
        )

    return 0
