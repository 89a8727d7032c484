"""Makes cells whose episodes end early; the workers of a vector import it."""

from __future__ import annotations

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.registry import make_cell


def short(cell_id: str, **options: object) -> WorkCell:
    """Make a cell whose episodes end after three steps."""
    cell = make_cell(cell_id, **options)
    cell.max_episode_steps = 3
    return cell
