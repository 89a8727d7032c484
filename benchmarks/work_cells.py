"""Work cells of our own kind, for benchmarks that look inside."""

from __future__ import annotations

from typing import Any

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.registry import make_cell


def make_work_cell(name: str, **options: Any) -> WorkCell:  # noqa: ANN401  # see CellOptions
    """Build a cell as `make_cell` does.

    Raises:
        TypeError: the cell is of another package and no `WorkCell`.
    """
    cell = make_cell(name, **options)
    if not isinstance(cell, WorkCell):
        raise TypeError(f"{name} is no WorkCell; expected one of this package's cells.")
    return cell
