"""`shopfloor data render`: makes pictures from stored simulator states."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shopfloor.flags import Overlays, Size
from shopfloor.launch.console import make_progress
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.data.telling import episodes, into, print_document
from shopfloor.launch.verbs.flags import HERE, EngineFlags, Source, Where
from shopfloor.specs import listed

library = Later("shopfloor.collectors.recorded.render")


@dataclass(frozen=True)
class Render:
    """Make a dataset with pictures out of one without: the very files that collect --cameras would have written.

    Attributes:
        dataset: dataset folder; its episodes need simulator states.
        out: new dataset folder; made whole or not at all.
        cameras: names with commas (front,wrist).
        size: height and width of the pictures in pixels.
        where: which episodes, such as "outcome == 'success'" (default: all).
        overlays: overlay files (views) that hold, too.
        codec: compression of the new files.
        engine: where the episodes run.
        json: print one JSON document on standard output.
        quiet: no progress.
    """

    dataset: Source
    out: Path
    cameras: str = "front,wrist"
    size: Size = (96, 96)
    where: Where = None
    overlays: Overlays = ()
    codec: Literal["blosc", "gzip", "none"] = "blosc"
    engine: EngineFlags = HERE
    json: bool = False
    quiet: bool = False


def run(arguments: Render) -> int:
    """Make pictures from stored simulator states."""
    cameras = listed(arguments.cameras)
    with make_progress(arguments.quiet or arguments.json).phase("render", 1) as phase:
        done = library.render_dataset(
            arguments.dataset,
            arguments.out,
            cameras,
            arguments.size,
            where=arguments.where,
            overlays=arguments.overlays,
            codec=arguments.codec,
            workers=arguments.engine.or_serial,
            progress=into(phase),
        )

    if arguments.json:
        print_document(done.to_json())
        return 0

    height, width = arguments.size
    print(
        f"{done.path}: {episodes(done.episodes)} with {done.pictures} pictures of "
        f"{height} x {width} pixels ({', '.join(cameras)}), {done.bytes:,} bytes"
    )

    return 0
