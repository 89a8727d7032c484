"""Episodes for the tests of faults: those of the store's own tests, and what of the benchmarks is shared."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def load(path: str, name: str) -> ModuleType:
    """Import a file of the repository that is not on the path (tests must not see the root folder as one)."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / path)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


_made = load("tests/datasets/conftest.py", "dataset_fixtures")
make_episode, assert_same, DESCRIPTION, CELL = (
    _made._episode,
    _made._assert_same,
    _made.DESCRIPTION,
    _made.CELL,
)
children = load("benchmarks/children.py", "benchmark_children")
