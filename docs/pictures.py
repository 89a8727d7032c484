"""Makes the README's picture: experts at work, front view above wrist view. Run `python docs/pictures.py`."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from shopfloor.collectors.replay import render_episode
from shopfloor.collectors.rollout import rollout
from shopfloor.core import Episode, EpisodeSpec
from shopfloor.envs.experts import make_expert
from shopfloor.envs.registry import make_cell, resolve_cell

TARGET = Path(__file__).parent / "images" / "cells.png"
CELLS = ("PickToTray", "Kitting", "ConveyorSort", "RingOnShaft", "PegInsertion")
SEED = 600_003  # of the range for tests and tuning
SIZE_PX, GAP_PX = 288, 6


def main() -> None:
    """Write the picture."""
    columns = [column(name) for name in CELLS]
    gap = np.full((columns[0].shape[0], GAP_PX, 3), 255, np.uint8)
    picture = np.hstack([part for each in columns for part in (each, gap)][:-1])
    TARGET.parent.mkdir(exist_ok=True)
    Image.fromarray(picture).quantize(128).save(TARGET, optimize=True)


def column(name: str) -> npt.NDArray[np.uint8]:
    """Return both views of a cell while its expert carries a part, one above the other."""
    cell = make_cell(name, cameras=(), privileged=True)
    expert = make_expert(name)
    episode = rollout(cell, expert, EpisodeSpec(resolve_cell(name), SEED, expert.info.digest))
    cell.close()
    step = carrying(episode)
    front, wrist = (render_episode(episode, camera, (SIZE_PX, SIZE_PX))[step] for camera in ("front", "wrist"))
    return np.vstack([front, np.full((GAP_PX, SIZE_PX, 3), 255, np.uint8), wrist])


def carrying(episode: Episode) -> int:
    """Return the step in the middle of the stage `carry`."""
    starts = [*episode.stages, (episode.steps, "")]
    first, last = next((a, b) for (a, stage), (b, _) in pairwise(starts) if stage == "carry")
    return (first + last) // 2


if __name__ == "__main__":
    main()
