"""Textures of tables and floors, made by `envs/assets/make_textures.py`; training sees none of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

import shopfloor

TEXTURES = ("wood", "checker", "concrete", "stripes", "speckle", "plate")
_FOLDER = Path(shopfloor.__file__).parent / "envs" / "assets" / "textures"


def texture_file(name: str) -> Path:
    """Return the picture of a texture, a PNG of 1024 x 1024 pixels."""
    return _FOLDER / f"{name}.png"


def texture_pixels(name: str) -> npt.NDArray[np.uint8]:
    """Return a texture's pixels, shape (h, w, 3), uint8."""
    with Image.open(texture_file(name)) as picture:
        return np.asarray(picture.convert("RGB"))
