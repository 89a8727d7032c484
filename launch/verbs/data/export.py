"""`shopfloor data export`: writes a dataset in another tool's format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from shopfloor.flags import Maybe, Overlays
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.data.telling import episodes, files, print_document
from shopfloor.launch.verbs.flags import Keys, Source, Where

formats = Later("shopfloor.datasets.convert")


@dataclass(frozen=True)
class Export:
    """Write a dataset in another tool's format.

    Attributes:
        dataset: dataset folder.
        to: format, such as robomimic or lerobot; an unknown one lists all.
        out: new file or folder; made whole or not at all.
        actions: executed: what the robot was told; label: the teacher's command where there is one.
        keys: observation keys to write (default: all).
        where: which episodes, such as "outcome == 'success'" (default: all).
        overlays: overlay files (views) that hold, too.
        valid: share of the episodes that is marked for validation, where the format can.
        pictures: how pictures are stored, where the format has a choice (default: the format's
            own).
        seed: of the draw for validation.
        json: print one JSON document on standard output.
    """

    dataset: Source
    to: Annotated[str, arg(metavar="FORMAT")]
    out: Path
    actions: Literal["executed", "label"] = "executed"
    keys: Keys = ()
    where: Where = None
    overlays: Overlays = ()
    valid: float = 0.0
    pictures: Maybe[Literal["video", "png", "raw"]] = None
    seed: int = 0
    json: bool = False


def run(arguments: Export) -> int:
    """Write another tool's format."""
    options = formats.ExportOptions(
        actions=arguments.actions,
        keys=arguments.keys or None,
        where=arguments.where,
        overlays=arguments.overlays,
        valid=arguments.valid,
        pictures=arguments.pictures,
        seed=arguments.seed,
    )

    done = formats.export(arguments.dataset, arguments.to, arguments.out, options)

    if arguments.json:
        place = {"path": str(arguments.out), "actions": arguments.actions}
        print_document(done.to_json() | place)
        return 0

    executed = arguments.actions == "executed"
    meaning = "what was executed" if executed else "labels where there are some"
    print(
        f"{arguments.out}: {episodes(done.episodes)}, {done.steps} steps, {files(done.files)}, "
        f"{done.bytes:,} bytes; actions are {meaning}"
    )

    return 0
