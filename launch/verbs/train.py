"""`shopfloor train`: trains a policy on datasets, or fine-tunes one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shopfloor.launch.console import make_progress, print_json
from shopfloor.launch.later import Later
from shopfloor.launch.needs import require_torch
from shopfloor.launch.verbs.flags import Overlays

signals = Later("shopfloor.collectors.executors.signals")
checkpoint = Later("shopfloor.policies.checkpoint")
library = Later("shopfloor.policies.learners.training")

SCHEMA_VERSION = 1
SHOWN = (
    "digest",
    "cells",
    "observations",
    "parameters_total",
    "parameters_active",
    "label_sources",
)


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


def run(arguments: Train) -> int:
    """Train or fine-tune a policy."""
    require_torch()

    config = library.TrainConfig(
        data=arguments.data,
        out=arguments.out,
        init=arguments.init,
        observations=arguments.observations,
        head=arguments.head,
        experts=arguments.experts,
        steps=arguments.steps,
        seed=arguments.seed,
        execute=arguments.execute,
        overlays=arguments.overlays,
    )
    progress = make_progress(arguments.quiet or arguments.json)
    with progress.phase("train", arguments.steps or 1, "steps") as phase:

        def show(step: int, total: int, loss: float) -> None:
            signals.check()
            phase.total = total
            phase.reach(step, f"loss {loss:.3f}")

        folder: Path = library.train(config, show)

    card: dict[str, Any] = checkpoint.read_card(folder)
    if arguments.json:
        shown = {key: card[key] for key in SHOWN}
        print_json({"schema_version": SCHEMA_VERSION, "checkpoint": str(folder), **shown})
    else:
        labels = ", ".join(f"{name} {count}" for name, count in card["label_sources"].items())
        print(
            f"{folder}: {card['parameters_total']:,} parameters, acts from {card['observations']}; labels: {labels}"
        )
    return 0
