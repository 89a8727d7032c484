"""shopfloor: an open data flywheel for robots in factories and warehouses.

Importing registers the work cells' ids with Gymnasium (strings only; see `registration`) and pulls
in nothing heavy: the names below are loaded on first use.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from shopfloor.moved import Finder  # allow layer: a table of strings, nothing else
from shopfloor.registration import register_cells  # allow layer: strings, nothing else

__version__ = "0.1.0"

_CELLS = {
    "shopfloor/PickToTray-v0": "shopfloor.envs.cells.pick_to_tray_expert:CELL",
    "shopfloor/Kitting-v0": "shopfloor.envs.cells.kitting_expert:CELL",
    "shopfloor/ConveyorSort-v0": "shopfloor.envs.cells.conveyor_sort_expert:CELL",
    "shopfloor/RingOnShaft-v0": "shopfloor.envs.cells.ring_on_shaft_expert:CELL",
    "shopfloor/PegInsertion-v0": "shopfloor.envs.cells.peg_insertion_expert:CELL",
    "shopfloor/MachineTending-v0": "shopfloor.envs.cells.machine_tending_expert:CELL",
    "shopfloor/ToteInspection-v0": "shopfloor.envs.cells.tote_inspection_expert:CELL",
    "shopfloor/Palletize-v0": "shopfloor.envs.cells.palletize_expert:CELL",
    "shopfloor/DepalletizeMixed-v0": "shopfloor.envs.cells.depalletize_mixed_expert:CELL",
    "shopfloor/TotePack-v0": "shopfloor.envs.cells.tote_pack_expert:CELL",
    "shopfloor/ShelfPick-v0": "shopfloor.envs.cells.shelf_pick_expert:CELL",
    "shopfloor/AisleDelivery-v0": "shopfloor.envs.cells.aisle_delivery_expert:CELL",
    "shopfloor/HandOver-v0": "shopfloor.envs.cells.hand_over_expert:CELL",
}
_LAZY = {
    "Episode": "shopfloor.core",
    "EpisodeSpec": "shopfloor.core",
    "ActionChunk": "shopfloor.core",
    "ActionSpec": "shopfloor.core",
    "Cell": "shopfloor.core",
    "Policy": "shopfloor.core",
    "PolicyInfo": "shopfloor.core",
    "PolicyRef": "shopfloor.core",
    "Receipt": "shopfloor.core",
    "WorkCell": "shopfloor.envs.cell",
    "Dataset": "shopfloor.datasets.reader",
    "EpisodeWriter": "shopfloor.datasets.writer",
    "Windows": "shopfloor.datasets.windows.windows",
    "rollout": "shopfloor.collectors.rollout",
    "check_cell": "shopfloor.collectors.conformity",
    "check_policy": "shopfloor.collectors.conformity",
    "CellChoice": "shopfloor.collectors.choice",
    "collect": "shopfloor.collectors.collect",
    "evaluate": "shopfloor.collectors.evaluate",
    "compare": "shopfloor.launch.gate.pairing",
    "train": "shopfloor.policies.learners.training",
    "flywheel": "shopfloor.launch.flywheel.loop",
}

sys.meta_path.append(Finder())
register_cells(_CELLS)


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever the named module holds
    """Load a public name on first use."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'shopfloor' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted([*globals(), *_LAZY])
