"""Where modules that documents named before are now: their old paths work for one more version.

A path of the table is found by `Finder`, which comes last on `sys.meta_path`: whoever uses none of
them pays nothing and sees nothing.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "shopfloor.collectors.policies": "shopfloor.collectors.sources",
    "shopfloor.collectors.quality": "shopfloor.collectors.recorded.quality",
    "shopfloor.collectors.render": "shopfloor.collectors.recorded.render",
    "shopfloor.collectors.replay": "shopfloor.collectors.recorded.replay",
    "shopfloor.datasets.compact": "shopfloor.datasets.tools.compact",
    "shopfloor.datasets.copies": "shopfloor.datasets.tools.copies",
    "shopfloor.datasets.edit": "shopfloor.datasets.tools.edit",
    "shopfloor.datasets.errors": "shopfloor.datasets.disk.errors",
    "shopfloor.datasets.merge": "shopfloor.datasets.tools.merge",
    "shopfloor.datasets.purge": "shopfloor.datasets.tools.purge",
    "shopfloor.datasets.repair": "shopfloor.datasets.tools.repair",
    "shopfloor.datasets.staging": "shopfloor.datasets.disk.staging",
    "shopfloor.datasets.store": "shopfloor.datasets.writer",
    "shopfloor.datasets.verify": "shopfloor.datasets.listing.verify",
    "shopfloor.envs.camera": "shopfloor.envs.looks.camera",
    "shopfloor.envs.hand": "shopfloor.envs.robots.hand",
    "shopfloor.envs.kinematics": "shopfloor.envs.physics.kinematics",
    "shopfloor.envs.mobile": "shopfloor.envs.robots.mobile",
    "shopfloor.envs.robot": "shopfloor.envs.robots",
    "shopfloor.envs.scene": "shopfloor.envs.experts.scene",
    "shopfloor.envs.vector": "shopfloor.envs.vectors.vector",
    "shopfloor.envs.world": "shopfloor.envs.physics.world",
    "shopfloor.policies.loader": "shopfloor.policies.learners.loader",
    "shopfloor.policies.training": "shopfloor.policies.learners.training",
}


class Finder:
    """Finds a moved module under its old path, and warns.

    A finder and loader by what it has: their base classes are slow to import and would add nothing.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for a path of the table, None for any other."""
        if fullname not in MOVED:
            return None
        return ModuleSpec(fullname, self)  # type: ignore[arg-type]  # has all that loaders need

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to the import system to make an empty module."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of the new path in the place of the one just made."""
        old = module.__name__
        new = MOVED[old]
        warnings.warn(
            f"{old} is {new} now; the old path goes with the next version.",
            DeprecationWarning,
            stacklevel=2,
        )
        sys.modules[old] = importlib.import_module(new)
