"""`shopfloor cells`: lists the work cells, and writes their pictures if asked to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopfloor.flags import Maybe
from shopfloor.launch.console import note, print_json, print_table
from shopfloor.launch.later import Later

registry = Later("shopfloor.envs.registry")
description = Later("shopfloor.envs.description")
gallery = Later("shopfloor.launch.pages.gallery")
learnable = Later("shopfloor.policies.learnable")

EXPERT_SUCCESS = Path(__file__).with_name("expert_success.json")
COLUMNS = ("cell", "robots", "cameras", "expert success", "policies learn it", "for example")


@dataclass(frozen=True)
class Cells:
    """List the work cells.

    Attributes:
        gallery: also write a picture of each cell, from each of its cameras, into this folder.
        json: print one JSON document on standard output.
    """

    gallery: Maybe[Path] = None
    json: bool = False


def run(arguments: Cells) -> int:
    """List the cells, and write their pictures if asked to."""
    described = [_describe_cell(cell_id) for cell_id in registry.cell_ids()]
    listed = [entry for entry in described if entry is not None]

    if arguments.gallery is not None:
        gallery.write_gallery([entry["id"] for entry in listed], arguments.gallery)

    if arguments.json:
        print_json(listed)
    else:
        print_table("", COLUMNS, [_row(entry) for entry in listed])
    return 0


def _describe_cell(cell_id: str) -> dict[str, Any] | None:
    """Describe a cell; None, and a note, for a broken one, which must not hide the others."""
    try:
        cell = registry.make_cell(cell_id, cameras=())
    except Exception as error:
        note(f"{cell_id} cannot be made and is left out: {type(error).__name__}: {error}")
        return None

    try:
        described = cell.describe()
        _, info = cell.reset(seed=0)
    finally:
        cell.close()

    task = getattr(cell, "task", None)  # cells of other packages need not have one
    robot = described.get("robot")
    reason = learnable.why_not(described)
    measured = json.loads(EXPERT_SUCCESS.read_text()) if EXPERT_SUCCESS.is_file() else {}

    return {
        "id": cell_id,
        "instruction": info["instruction"],
        "robot": robot,
        "robots": list(description.robots_of(cell_id, task)) if task else [robot],
        "cameras": list(described.get("cameras", ())),
        "variations": list(description.variations_of(task)) if task else ["nominal"],
        "max_episode_steps": described.get("max_episode_steps"),
        "expert": measured.get(cell_id),
        "learnable": not reason,
        "why_not_learnable": reason or None,
    }


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    expert = entry["expert"]
    measured = f"{expert['successes']}/{expert['episodes']} seeds" if expert else "not measured"

    return (
        entry["id"],
        ",".join(entry["robots"]),
        ",".join(entry["cameras"]),
        measured,
        "yes" if entry["learnable"] else "not yet",
        entry["instruction"],
    )
