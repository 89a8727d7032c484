"""Writes the README's table of work cells from their records. Run `python docs/cell_table.py`."""

from __future__ import annotations

from pathlib import Path

import gymnasium

from shopfloor.envs.record import CellRecord
from shopfloor.envs.registry import cell_entry

README = Path(__file__).resolve().parent.parent / "README.md"
OURS = "shopfloor/"
HEAD = "| cell | task | done when |"


def table() -> str:
    """Return the table, without a line end after its last row."""
    lines = [HEAD, "|---|---|---|"]
    for cell_id in gymnasium.registry:  # in the order of registration
        if not cell_id.startswith(OURS):
            continue

        record = cell_entry(cell_id)
        if not isinstance(record, CellRecord) or not record.does:
            raise SystemExit(
                f"{cell_id}: its record lacks `does`; expected the job in a few words."
            )

        name = cell_id.removeprefix(OURS).rsplit("-v", 1)[0]
        lines.append(f"| `{name}` | {record.does} | {record.done_when} |")

    return "\n".join(lines)


def with_table(text: str) -> str:
    """Return the README's text with its table as the records have it."""
    before, rest = text.split(HEAD, 1)
    _, after = rest.split("\n\n", 1)
    return f"{before}{table()}\n\n{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
