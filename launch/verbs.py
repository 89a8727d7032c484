"""The verbs' flags: one frozen dataclass each, turned into a command line by tyro.

A field's text in `Attributes` is its help. Nothing heavy is imported here, so that `--help` answers
at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from shopfloor.collectors.choice import CellChoice
from shopfloor.core import listed
from shopfloor.launch.data_verbs import DATA_VERBS, Overlays
from shopfloor.launch.flywheel.setups import FlywheelConfig

PolicyName = Annotated[str, arg(metavar="expert|random|PATH")]
CellName = Annotated[str, arg(metavar="CELL")]


@dataclass(frozen=True)
class Cells:
    """List the work cells.

    Attributes:
        gallery: also write a picture of each cell, from each of its cameras, into this folder.
        json: print one JSON document on standard output.
    """

    gallery: Path | None = None
    json: bool = False


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


@dataclass(frozen=True)
class Collect:
    """Run a policy in a cell and log every episode, failed ones included. Run again to continue or to add episodes.

    Attributes:
        cell: work cell, such as PickToTray.
        out: folder of the dataset.
        policy: who acts: the scripted expert, uniform random actions, or a checkpoint folder.
        episodes: episodes to have in the end, failed ones included.
        seed: first seed; episode i has seed FIRST + i. Below 600000 for training data.
        workers: processes; the files are the same for any number.
        codec: compression; gzip opens in any HDF5 reader, blosc after `import hdf5plugin`.
        intervene: the expert's help: none; expert: it takes over when the policy strays; label: it
            labels every visited state while the policy acts.
        noise: scale of the noise on executed actions, in units of a full action; the clean command
            is kept as label.
        purpose: what the episodes may be used for; train refuses the others.
        conditions: the cell's.
        json: print one JSON document on standard output.
        quiet: no progress.
    """

    cell: Positional[CellName]
    out: Path
    policy: PolicyName = "expert"
    episodes: int = 10
    seed: Annotated[int, arg(metavar="FIRST")] = 0
    workers: int = 1
    codec: Literal["blosc", "gzip", "none"] = "blosc"
    intervene: Literal["none", "expert", "label"] = "none"
    noise: float = 0.0
    purpose: Literal["train", "gate", "report", "other"] = "train"
    conditions: OmitArgPrefixes[Conditions] = Conditions()
    json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Train:
    """Train a policy on datasets, or fine-tune one. Needs torch.

    Attributes:
        data: dataset folders.
        out: checkpoint folder to make.
        overlays: overlay files, as data filter --view and data quality write them: episodes to
            leave out or to weigh.
        init: checkpoint to start from.
        observations: what the policy acts from (default: as --init, else poses).
        head: action head; with --init its own.
        experts: experts of the head; 1 is dense (default: 1 for one cell, 4 for several).
        steps: optimiser steps (default: by observations).
        seed: of initialisation and batches.
        execute: actions run per chunk (default: by observations).
        json: print one JSON document on standard output.
        quiet: no progress.
    """

    data: tuple[Path, ...]
    out: Path
    overlays: Overlays = ()
    init: Path | None = None
    observations: Literal["poses", "cameras"] | None = None
    head: Literal["regression", "flow"] = "regression"
    experts: int | None = None
    steps: int | None = None
    seed: int = 0
    execute: int | None = None
    json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Evaluate:
    """Run a policy on fixed seeds and count successes, with a Wilson 95 % interval. Made for CI.

    Attributes:
        policy: the scripted expert, uniform random actions, or a checkpoint folder.
        cell: work cell, such as PickToTray.
        episodes: number of episodes.
        seed: first seed; episode i has seed FIRST + i.
        min_success: exit with 1 if the success rate is below this (0 to 1).
        summary: write the result as JSON to this file.
        out: keep the episodes as a dataset in this folder, so that the evaluation resumes.
        workers: processes; the result is the same for any number.
        suites: names of shift suites with commas (light,camera), or all: evaluate under each on the
            same seeds, too.
        conditions: the cell's.
        json: print one JSON document on standard output.
        quiet: no progress.
    """

    policy: PolicyName
    cell: CellName
    episodes: int = 100
    seed: Annotated[int, arg(metavar="FIRST")] = 800_000
    min_success: float | None = None
    summary: Path | None = None
    out: Path | None = None
    workers: int = 1
    suites: str | None = None
    conditions: OmitArgPrefixes[Conditions] = Conditions()
    json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Compare:
    """The gate on two policies: A in service, B the candidate, on the same seeds. Exit 0 means promote B, 1 do not.

    Attributes:
        a: policy in service.
        b: candidate.
        cell: work cell, such as PickToTray.
        episodes: most seeds to spend; the gate looks after 50, 100 and 200 and stops when it has
            decided.
        seed: first seed.
        out: keep the episodes in this folder, so that the comparison resumes.
        workers: processes; the result is the same for any number.
        conditions: the cell's.
        json: print one JSON document on standard output.
        quiet: no progress.
    """

    a: Positional[Annotated[str, arg(metavar="A")]]
    b: Positional[Annotated[str, arg(metavar="B")]]
    cell: CellName
    episodes: int = 200
    seed: Annotated[int, arg(metavar="FIRST")] = 760_000
    out: Path | None = None
    workers: int = 1
    conditions: OmitArgPrefixes[Conditions] = Conditions()
    json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Flywheel:
    """Demonstrations, then turns of collect, fine-tune, evaluate, gate. Writes OUT/report.html. Run again to resume.

    Attributes:
        run: what decides the result.
        json: print the summary as one JSON document on standard output.
        quiet: no progress.
    """

    run: OmitArgPrefixes[FlywheelConfig]
    json: bool = False
    quiet: bool = False


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
    out: Path | None = None
    open: bool = True


VERBS: dict[str, type] = {
    "cells": Cells,
    "collect": Collect,
    "train": Train,
    "evaluate": Evaluate,
    "compare": Compare,
    "flywheel": Flywheel,
    **DATA_VERBS,
    "view": View,
}
