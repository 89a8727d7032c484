"""Work cells by name: ours, and those that other packages announce in the entry-point group `shopfloor.cells`.

An entry point's name is the full cell id and its value `module:NAME`. NAME is a `CellRecord`, or a
function that takes the options of `WorkCell` and returns one; beside such a function the module may
hold `expert() -> Policy`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, cast

import gymnasium

from shopfloor.core import Cell, UnknownNameError

GROUP = "shopfloor.cells"
_OURS = "shopfloor/"


def _entries() -> dict[str, str]:
    entries = {point.name: point.value for point in entry_points(group=GROUP)}
    for cell_id, spec in gymnasium.registry.items():
        if cell_id.startswith(_OURS) and isinstance(spec.entry_point, str):
            entries[cell_id] = spec.entry_point
    return entries


def cell_ids() -> list[str]:
    """Return the full ids of all known cells, sorted."""
    return sorted(_entries())


def resolve_cell(name: str) -> str:
    """Return the full id for a full id or a bare name ("PickToTray" means its newest version).

    Raises:
        UnknownNameError: no such cell.
    """
    known = cell_ids()
    if name in known:
        return name

    versions = []
    for cell_id in known:
        bare = cell_id.rsplit("/", 1)[-1]
        stem, _, version = bare.rpartition("-v")
        if name in (bare, stem):
            versions.append(
                (
                    cell_id.startswith(_OURS),
                    int(version) if re.fullmatch(r"\d+", version) else 0,
                    cell_id,
                )
            )

    if versions:
        return max(versions)[2]

    raise UnknownNameError(
        "cell", name, {cell_id.removeprefix(_OURS).rsplit("-v", 1)[0] for cell_id in known}
    )


def cell_module(name: str) -> tuple[str, str]:
    """Return the module that makes a cell and the name in it, given its full id or bare name."""
    module, _, entry = _entries()[resolve_cell(name)].partition(":")
    return module, entry


def cell_entry(name: str) -> Callable[..., Any]:
    """Return what makes a cell, given its full id or bare name: a `CellRecord`, or a function."""
    module, entry = cell_module(name)
    return cast(Callable[..., Any], getattr(importlib.import_module(module), entry))


def make_cell(name: str, **options: Any) -> Cell:  # noqa: ANN401  # checked by CellOptions
    """Build a cell without Gymnasium's wrappers.

    Args:
        name: full id or bare name.
        options: see `shopfloor.envs.description.CellOptions`.
    """
    return cast(Cell, cell_entry(name)(**options))
