"""Flags that several verbs have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from shopfloor.collectors.choice import CellChoice
from shopfloor.core import listed

PolicyName = Annotated[str, arg(metavar="expert|random|PATH")]
CellName = Annotated[str, arg(metavar="CELL")]

Source = Positional[Annotated[Path, arg(name="dataset", metavar="DATASET")]]
Where = Annotated[str | None, arg(metavar="EXPRESSION")]
Overlays = Annotated[tuple[Path, ...], arg(name="overlay", metavar="FILE [FILE ...]")]
Ids = Annotated[tuple[str, ...], arg(metavar="ID [ID ...]")]
Names = Annotated[tuple[str, ...], arg(metavar="NAME [NAME ...]")]


@dataclass(frozen=True)
class Conditions:
    """The flags of a `CellChoice`, which every verb has that runs episodes.

    Attributes:
        variation: how episodes depart from the nominal one: a name, as shopfloor cells --json lists
            them, or JSON.
        robot: one of the cell's robots (default: its usual one).
        cameras: none, or names with commas (front,wrist), of cameras whose pictures are stored at
            every step.
        image_size: height and width of pictures in pixels (default: what the policy expects, else
            96 96).
        renderer: who draws them: tiny, or gl (extra gl), ten times as fast.
    """

    variation: str = "nominal"
    robot: str | None = None
    cameras: str = "none"
    image_size: tuple[int, int] | None = None
    renderer: Literal["tiny", "gl"] = "tiny"

    def choose(self, cell: str) -> CellChoice:
        """Return a cell under these conditions."""
        return CellChoice(
            cell, self.robot, self.variation, listed(self.cameras), self.image_size, self.renderer
        )


USUAL = Conditions()
