"""Textures of tables and floors, made by `envs/assets/make_textures.py`; training sees none of them."""

from __future__ import annotations

from pathlib import Path

TEXTURES = ("wood", "checker", "concrete", "stripes", "speckle", "plate")
_FOLDER = Path(__file__).parent / "assets" / "textures"


def texture_file(name: str) -> Path:
    """Return the picture of a texture, a PNG of 128 x 128 pixels."""
    return _FOLDER / f"{name}.png"
