"""`shopfloor data delete`: leaves episodes out, or takes that back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from shopfloor.errors import InvalidInputError
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.data.telling import command, episodes, print_document
from shopfloor.launch.verbs.flags import Ids, Source, Where

if TYPE_CHECKING:
    from shopfloor.datasets.tools.edit import Edit

tools = Later("shopfloor.datasets.tools.edit")


@dataclass(frozen=True)
class Delete:
    """Leave episodes out from now on. Their files stay, and --undo takes them back, until data purge removes them.

    Attributes:
        dataset: dataset folder.
        where: which episodes, such as "reason == 'dropped'".
        ids: episode ids, or beginnings of at least 8 characters.
        reason: why, for people.
        undo: take back: the episodes chosen, among those that were left out, count again.
        json: print one JSON document on standard output.
    """

    dataset: Source
    where: Where = None
    ids: Ids = ()
    reason: Annotated[str, arg(help_behavior_hint="")] = ""
    undo: bool = False
    json: bool = False


def run(arguments: Delete) -> int:
    """Leave episodes out, or take that back."""
    chosen = {"where": arguments.where, "ids": arguments.ids}
    if arguments.undo and arguments.reason:
        raise InvalidInputError(
            "--reason says why episodes are left out; leave it away with --undo."
        )

    if arguments.undo:
        done = tools.restore(arguments.dataset, **chosen)
    else:
        done = tools.delete(arguments.dataset, **chosen, reason=arguments.reason)

    if arguments.json:
        print_document(done.to_json())
    else:
        _print(arguments, done)
    return 0


def _print(arguments: Delete, done: Edit) -> None:
    dataset = arguments.dataset
    if done.overlay is None:
        state = "left out" if arguments.undo else "there and chosen"
        print(f"{dataset}: nothing to do, no episode is {state}")
        return

    changed, overlay = episodes(done.changed), f"overlays/{done.overlay.name}"
    if arguments.undo:
        print(f"{dataset}: {changed} taken back by {overlay}")
        return

    where = ["--where", arguments.where] if arguments.where else []
    ids = ["--ids", *arguments.ids] if arguments.ids else []
    print(f"{dataset}: {changed} left out by {overlay}; no file was removed")
    print(f"to take it back:     {command('data delete', dataset, '--undo', *where, *ids)}")
    print(f"to remove for good:  {command('data purge', dataset)}")
