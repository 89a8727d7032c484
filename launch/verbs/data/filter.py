"""`shopfloor data filter`: keeps some episodes, in a copy or a view."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from shopfloor.errors import InvalidInputError
from shopfloor.flags import Maybe, Overlays
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.data.telling import episodes, print_document
from shopfloor.launch.verbs.flags import Source

tools = Later("shopfloor.datasets.tools.copies")


@dataclass(frozen=True)
class Filter:
    """Keep some episodes: as a copy (--out), or as a view (--view), a small file that train --overlay takes.

    Attributes:
        dataset: dataset folder.
        where: which to keep, such as "outcome == 'success' and steps < 80".
        out: new dataset folder for a copy.
        view: new file for a view.
        overlays: overlay files (views) that hold, too.
        json: print one JSON document on standard output.
    """

    dataset: Source
    where: Annotated[str, arg(metavar="EXPRESSION")]
    out: Maybe[Path] = None
    view: Maybe[Path] = None
    overlays: Overlays = ()
    json: bool = False


def run(arguments: Filter) -> int:
    """Keep some episodes, in a copy or a view."""
    if (arguments.out is None) == (arguments.view is None):
        raise InvalidInputError(
            "Give either --out FOLDER for a copy or --view FILE for a view, a small overlay file."
        )

    done = tools.filter_episodes(
        arguments.dataset,
        arguments.where,
        out=arguments.out,
        view=arguments.view,
        overlays=arguments.overlays,
    )

    if arguments.json:
        print_document(done.to_json())
        return 0

    kept = f"{done.kept} of {episodes(done.kept + done.left_out)} kept"
    if arguments.view is not None:
        print(f"{kept}: the view {done.path}; use it with --overlay {shlex.quote(str(done.path))}")
    else:
        print(f"{kept}: copied to {done.path}")

    return 0
