"""The configuration of `train`, which is also its flags. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tyro.conf import Suppress

from shopfloor.errors import InvalidInputError, UnknownNameError
from shopfloor.flags import Maybe, Names, Overlays, PathList
from shopfloor.specs import listed, listed_paths

HeadName = Literal["regression", "flow"]
ObservationsName = Literal["poses", "cameras"]

HEADS: tuple[str, ...] = get_args(HeadName)
OBSERVATIONS: tuple[str, ...] = get_args(ObservationsName)


@dataclass(frozen=True)
class TrainConfig:
    """What to train on and how.

    Attributes:
        data: dataset folders.
        out: checkpoint folder to make.
        init: checkpoint to start from.
        observations: what the policy acts from (default: as --init, else poses).
        head: action head; with --init its own.
        experts: experts of the head; 1 is dense (default: 1 for one cell, 4 for several).
        steps: optimiser steps (default: by observations).
        seed: of initialisation and batches.
        scenes: folder of perception scene blocks, cameras only.
        execute: actions run per chunk (default: by observations).
        batch: rows per step.
        cache: folder for frozen image features, None for `features` beside `out`.
        views: camera names, cameras only.
        overlays: overlay files, as data filter --view and data quality write them: episodes to
            leave out or to weigh.
    """

    data: PathList
    out: Path
    init: Maybe[Path] = None
    observations: Maybe[ObservationsName] = None
    head: HeadName = "regression"
    experts: Maybe[int] = None
    steps: Maybe[int] = None
    seed: int = 0
    scenes: Suppress[Maybe[Path]] = None
    execute: Maybe[int] = None
    batch: Suppress[int] = 64
    cache: Suppress[Maybe[Path]] = None
    views: Suppress[Names] = ("front", "wrist")
    overlays: Overlays = ()

    def __post_init__(self) -> None:
        """Refuse values outside the closed lists."""
        object.__setattr__(self, "data", listed_paths(self.data))
        object.__setattr__(self, "overlays", listed_paths(self.overlays))
        object.__setattr__(self, "views", listed(self.views))
        if self.head not in HEADS:
            raise UnknownNameError("head", self.head, HEADS)
        if self.observations is not None and self.observations not in OBSERVATIONS:
            raise UnknownNameError("observation set", self.observations, OBSERVATIONS)
        if self.steps is not None and self.steps < 1:
            raise InvalidInputError(f"--steps is {self.steps}; expected at least 1.")

        for name in ("experts", "execute"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidInputError(f"--{name} is {value}; expected at least 1.")

        if self.batch < 1:
            raise InvalidInputError(f"--batch is {self.batch}; expected at least 1.")
