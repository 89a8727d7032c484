"""A flywheel's named setups and what they can run on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shopfloor.core import InvalidInputError
from shopfloor.envs.description import variations_of
from shopfloor.envs.record import DEFAULT_NOISE, CellRecord
from shopfloor.envs.registry import cell_entry, make_cell, resolve_cell
from shopfloor.launch.flywheel.config import IMAGE_SIZE, FlywheelConfig
from shopfloor.platforms import STARTS_WORKERS, usable_cores
from shopfloor.policies.learnable import why_not


def default_workers() -> int:
    """One per processor this process may use, at most 4."""
    return min(4, usable_cores()) if STARTS_WORKERS else 1


def require_learnable(config: FlywheelConfig) -> None:
    """Refuse cells that no policy can learn yet, and conditions that a cell does not have.

    Args:
        config: a resolved one.

    Raises:
        InvalidInputError: a cell cannot be learnt; the message says why and names those that can.
        UnknownNameError: a cell has no such robot, variation or camera.
    """
    for cell_id in config.cells:
        cell = make_cell(
            cell_id,
            robot=config.robot,
            variation=config.variation,
            cameras=config.views,
            image_size=config.image_size or IMAGE_SIZE,
        )

        description = cell.describe()
        task = getattr(cell, "task", None)  # cells of other packages need not have one
        variations = variations_of(task) if task else ()
        cell.close()

        reason = why_not(description)
        if reason:
            raise InvalidInputError(
                f"No policy can learn {cell_id} yet: {reason}. `shopfloor cells` says which cells "
                "can be learnt; the expert's episodes can be collected and exported."
            )
        if config.scenes and "mid_task" not in variations:
            raise InvalidInputError(
                f"Perception of {cell_id} cannot be trained on random scenes: its episodes cannot "
                "start in the middle. Give --scenes 0 to learn from its episodes' pictures alone."
            )


def resolved(config: FlywheelConfig) -> FlywheelConfig:
    """Fill in the setup's values and the cells' full ids."""
    cameras = config.observations == "cameras"
    setup: dict[str, Any] = {
        "demonstrations": 3 if config.smoke else 5,
        "episodes": 60 if cameras else 40,
        "report_episodes": 50 if config.smoke else (100 if cameras else 200),
        # From cameras a short first training: the scenes keep teaching perception in every turn.
        "steps": 800 if config.smoke else (400 if cameras else None),
        "turn_steps": 500 if config.smoke else (900 if cameras else None),
        "scenes": 1500 if cameras else 0,
        "workers": default_workers(),
    }

    missing = {key: value for key, value in setup.items() if getattr(config, key) is None}
    if not cameras and config.scenes:
        raise InvalidInputError("--scenes trains perception; it needs --observations cameras.")
    return replace(config, cells=tuple(resolve_cell(name) for name in config.cells), **missing)


def demonstration_noise(cell: str) -> float:
    """Return the DART noise that demonstrations of a cell (full id) are recorded with, in full actions."""
    entry = cell_entry(cell)
    return entry.noise if isinstance(entry, CellRecord) else DEFAULT_NOISE
