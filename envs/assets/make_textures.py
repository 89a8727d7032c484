"""Make the textures that shopfloor ships; the files always come out the same.

Run `python envs/assets/make_textures.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

TARGET = Path(__file__).parent / "textures"
SIZE_PX = 128  # of the pattern
REPEATS = 8  # which makes a texel 3 mm and a stripe 10 cm
COLOURS = 32  # small files; written as RGB, since PyBullet reads few kinds of PNG

Grey = npt.NDArray[np.float64]


def noise(cells: int, rng: np.random.Generator) -> Grey:
    """Return smooth noise in [0, 1], shape (128, 128), that repeats at its edges.

    It is a grid of values, blended.
    """
    grid = rng.uniform(size=(cells, cells))
    at = np.arange(SIZE_PX) * cells / SIZE_PX
    low, share = at.astype(int), at % 1.0
    share = share * share * (3.0 - 2.0 * share)
    high = (low + 1) % cells
    rows = grid[low] * (1.0 - share)[:, None] + grid[high] * share[:, None]
    blended: Grey = rows[:, low] * (1.0 - share) + rows[:, high] * share
    return blended


def textures() -> dict[str, npt.NDArray[np.uint8]]:
    """Return every texture by name, shape (128, 128, 3), uint8."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[0:SIZE_PX, 0:SIZE_PX] / SIZE_PX
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (8 * row + 1.2 * noise(4, rng)))
    wood = np.stack([0.62 + 0.18 * rings, 0.45 + 0.15 * rings, 0.28 + 0.10 * rings], -1)
    squares = ((row * 8).astype(int) + (column * 8).astype(int)) % 2
    checker = np.repeat((0.35 + 0.45 * squares)[..., None], 3, -1)
    grain = 0.5 * noise(8, rng) + 0.3 * noise(32, rng) + 0.2 * noise(64, rng)
    concrete = (0.45 + 0.3 * grain)[..., None] * [1.0, 0.99, 0.95]
    bands = ((row + column) * 8).astype(int) % 2
    stripes = np.where(bands[..., None] == 1, [0.80, 0.68, 0.18], [0.22, 0.22, 0.24])
    speckle = 0.70 - 0.45 * (noise(64, rng) > 0.72)[..., None] * [1.0, 1.0, 0.9] * np.ones(3)
    bumps = np.abs(np.sin(16 * np.pi * row) * np.sin(16 * np.pi * column)) > 0.8
    plate = (0.50 + 0.22 * bumps)[..., None] * [0.95, 1.0, 1.05]

    made = {
        "wood": wood,
        "checker": checker,
        "concrete": concrete,
        "stripes": stripes,
        "speckle": speckle,
        "plate": plate,
    }

    pictures = {}
    for name, picture in made.items():
        pictures[name] = (255 * np.clip(picture, 0.0, 1.0) + 0.5).astype(np.uint8)
    return pictures


def main() -> None:
    """Write the files."""
    TARGET.mkdir(exist_ok=True)
    for name, picture in textures().items():
        whole = Image.fromarray(np.tile(picture, (REPEATS, REPEATS, 1)))
        whole.quantize(COLOURS, dither=Image.Dither.NONE).convert("RGB").save(
            TARGET / f"{name}.png", optimize=True
        )


if __name__ == "__main__":
    main()
