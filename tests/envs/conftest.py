"""Fixtures for the work cells: every registered cell, by parametrisation."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shopfloor.envs.cell import WorkCell

sys.path.insert(0, str(Path(__file__).parent))

import cell_episodes  # found through the line above


@pytest.fixture(scope="module", params=cell_episodes.CELLS, ids=lambda name: name.split("/")[-1])
def cell(request: pytest.FixtureRequest) -> Iterator[WorkCell]:
    """A privileged cell, built once per module; tests must not depend on what it did before."""
    built = cell_episodes.build(request.param)
    yield built
    built.close()


@pytest.fixture(
    scope="module", params=cell_episodes.cells_with_arms(), ids=lambda name: name.split("/")[-1]
)
def arm_cell(request: pytest.FixtureRequest) -> Iterator[WorkCell]:
    """The same of the cells in which an arm works."""
    built = cell_episodes.build(request.param)
    yield built
    built.close()
