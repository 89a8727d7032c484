"""`shopfloor data merge`: joins datasets into a new one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from shopfloor.flags import PathList
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.data.telling import episodes, print_document

tools = Later("shopfloor.datasets.tools.merge")


@dataclass(frozen=True)
class Merge:
    """Join datasets into a new one, with the proof that no episode was lost. The sources stay as they are.

    Attributes:
        datasets: two or more dataset folders whose actions and features mean the same.
        out: new dataset folder.
        json: print one JSON document on standard output.
    """

    datasets: Positional[Annotated[PathList, arg(metavar="DATASET [DATASET ...]")]]
    out: Path
    json: bool = False


def run(arguments: Merge) -> int:
    """Join datasets."""
    done = tools.merge(arguments.datasets, arguments.out)

    if arguments.json:
        print_document(done.to_json())
    else:
        print(
            f"{done.path}: {episodes(done.episodes)} of {len(arguments.datasets)} datasets, "
            f"{done.duplicates} duplicates kept once; every episode compared with its source, "
            f"proof {done.proof}"
        )

    return 0
