"""`shopfloor data import`: reads another tool's files into a new dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from shopfloor.flags import Maybe
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.data.telling import episodes, print_document

formats = Later("shopfloor.datasets.convert")


@dataclass(frozen=True)
class Import:
    """Read another tool's files into a new dataset.

    Attributes:
        path: file or folder of the other tool.
        source_format: format, such as robomimic or lerobot; an unknown one lists all.
        out: new dataset folder; made whole or not at all.
        action_convention: id of what the actions mean, where the source does not say it (default:
            unspecified).
        cast: round numbers that float32 cannot hold exactly, instead of refusing them.
        cell: cell id of the episodes (default: made of what the source says).
        codec: compression of the episode files.
        instruction: text for episodes that have none.
        json: print one JSON document on standard output.
    """

    path: Positional[Path]
    source_format: Annotated[str, arg(name="from", metavar="FORMAT")]
    out: Path
    action_convention: Annotated[Maybe[str], arg(metavar="NAME")] = None
    cast: bool = False
    cell: Maybe[str] = None
    codec: Literal["blosc", "gzip", "none"] = "blosc"
    instruction: Maybe[str] = None
    json: bool = False


def run(arguments: Import) -> int:
    """Read another tool's format."""
    options = formats.ImportOptions(
        action_convention=arguments.action_convention,
        cast=arguments.cast,
        cell=arguments.cell,
        codec=arguments.codec,
        instruction=arguments.instruction,
    )

    done = formats.import_dataset(arguments.path, arguments.source_format, arguments.out, options)
    if arguments.json:
        print_document(done.to_json() | {"path": str(arguments.out)})
        return 0

    print(f"{arguments.out}: {episodes(done.episodes)}, {done.steps} steps")
    for what in done.left_out:
        print(f"left out: {what}")
    return 0
