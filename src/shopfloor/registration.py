"""Registers the work cells' ids with Gymnasium, without importing Gymnasium for it.

Gymnasium takes longer to import than a verb of the command line may take to explain itself. Where it
is already imported the ids are registered at once; else right after somebody imports it, so that the
order of the two imports does not matter.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader

REGISTRY = "gymnasium.envs.registration"


def register_cells(cells: Mapping[str, str]) -> None:
    """Register cells with Gymnasium, now or as soon as it is imported.

    Args:
        cells: full id -> entry point, "module:NAME".
    """
    if REGISTRY in sys.modules:
        _register(sys.modules[REGISTRY], cells)
    else:
        sys.meta_path.insert(0, _Finder(cells))


def _register(registry: ModuleType, cells: Mapping[str, str]) -> None:
    for cell_id, entry_point in cells.items():
        if cell_id in registry.registry:
            continue

        registry.register(
            id=cell_id,
            entry_point=entry_point,
            vector_entry_point=f"shopfloor.envs.vectors.vector:{cell_id}",
        )


class _Finder:
    """Has the other finders find Gymnasium's registry, and puts a loader of ours around theirs."""

    def __init__(self, cells: Mapping[str, str]) -> None:
        self._cells = cells
        self._asking = False  # two of us would ask each other for ever

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != REGISTRY or self._asking:
            return None

        self._asking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asking = False

        if spec is not None and spec.loader is not None:
            # It has all that loaders need; their base class is slow to import.
            spec.loader = _Loader(spec.loader, self._cells)  # type: ignore[assignment]
        return spec


class _Loader:
    """Loads Gymnasium's registry as its own loader does, then registers the cells."""

    def __init__(self, usual: Loader, cells: Mapping[str, str]) -> None:
        self._usual = usual
        self._cells = cells

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._usual.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Whoever asks the module for its loader, to read a file beside it, must get the usual one.
        module.__loader__ = self._usual
        if module.__spec__ is not None:
            module.__spec__.loader = self._usual

        self._usual.exec_module(module)
        _register(module, self._cells)
