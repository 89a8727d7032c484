"""Makes the README's picture: experts at work, front views with wrist views inset. Run `python docs/pictures.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from shopfloor.collectors.recorded.replay import render_episode
from shopfloor.envs.registry import cell_ids
from shopfloor.launch.pages.gallery import middle, play

TARGET = Path(__file__).parent / "images" / "cells.png"
COLUMNS = 5
SIZE_PX, INSET_PX, GAP_PX = 256, 96, 6
Picture = npt.NDArray[np.uint8]


def main() -> None:
    """Write the picture."""
    pictures = [tile(cell_id) for cell_id in cell_ids() if cell_id.startswith("shopfloor/")]
    rows = -(-len(pictures) // COLUMNS)
    step = SIZE_PX + GAP_PX
    sheet = np.full((rows * step - GAP_PX, COLUMNS * step - GAP_PX, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // COLUMNS * step, number % COLUMNS * step
        sheet[top : top + SIZE_PX, left : left + SIZE_PX] = picture
    TARGET.parent.mkdir(exist_ok=True)
    Image.fromarray(sheet).quantize(256).save(TARGET, optimize=True)


def tile(cell_id: str) -> Picture:
    """Return the front view of a cell while its expert works, with the wrist view in its lower right corner."""
    episode = play(cell_id)
    step = middle(episode)
    picture = render_episode(episode, "front", (SIZE_PX, SIZE_PX))[step].copy()
    inset = render_episode(episode, "wrist", (INSET_PX, INSET_PX))[step]
    picture[-INSET_PX - 2 :, -INSET_PX - 2 :] = 255
    picture[-INSET_PX:, -INSET_PX:] = inset
    return picture


if __name__ == "__main__":
    main()
