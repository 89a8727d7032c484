"""Modules that a verb needs to run, but not to explain itself."""

from __future__ import annotations

import importlib
from typing import Any


class Later:
    """Stands at a file's top for a module that is imported at its first use.

    A verb's `--help` so loads neither simulator nor store nor torch. `checks/layers.py` reads these
    names like imports.

    """

    def __init__(self, name: str) -> None:
        """Remember a module's full name; nothing is imported."""
        self._name = name

    def __getattr__(self, attribute: str) -> Any:  # noqa: ANN401  # whatever the module holds
        """Return what the module holds under a name."""
        return getattr(importlib.import_module(self._name), attribute)
