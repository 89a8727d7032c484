"""`shopfloor train`: trains a policy on datasets, or fine-tunes one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from shopfloor.launch.console import make_progress, print_json
from shopfloor.launch.later import Later
from shopfloor.launch.needs import require_torch
from shopfloor.policies.learners.config import TrainConfig

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
        config: what to train on and how.
        json: print one JSON document on standard output.
        quiet: no progress.
    """

    config: Annotated[TrainConfig, arg(name="")]
    json: bool = False
    quiet: bool = False


def run(arguments: Train) -> int:
    """Train or fine-tune a policy."""
    require_torch()

    config = arguments.config
    progress = make_progress(arguments.quiet or arguments.json)
    with progress.phase("train", config.steps or 1, "steps") as phase:

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
            f"{folder}: {card['parameters_total']:,} parameters, "
            f"acts from {card['observations']}; labels: {labels}"
        )

    return 0
