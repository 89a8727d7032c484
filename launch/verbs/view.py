"""`shopfloor view`: shows a flywheel's report, or an episode of a dataset, in a browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from shopfloor.flags import Maybe
from shopfloor.launch.later import Later

pages = Later("shopfloor.launch.pages.view")


@dataclass(frozen=True)
class View:
    """Show a flywheel's report, or an episode of a dataset (video, plots), in a browser.

    Attributes:
        folder: a flywheel's folder or a dataset.
        episode: position of the episode in the dataset.
        camera: camera of the video.
        out: where to write the episode's page (default: a temporary file).
        open: open a browser; --no-open only prints the page's path.
    """

    folder: Positional[Path]
    episode: int = 0
    camera: str = "front"
    out: Maybe[Path] = None
    open: bool = True


def run(arguments: View) -> int:
    """Open a report, or make and open an episode's page."""
    page = pages.page_of(arguments.folder, arguments.episode, arguments.camera, arguments.out)

    print(page)
    if arguments.open:
        pages.open_page(page)
    return 0
