"""Shift suites: what a policy loses when one thing differs from training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shopfloor.core import UnknownNameError, listed
from shopfloor.envs.description import variations_of
from shopfloor.envs.registry import make_cell
from shopfloor.envs.variation import (
    SUITES,
    VARIATIONS,
    Variation,
    parse_variation,
    variation_name,
)
from shopfloor.launch.console import print_table, with_interval
from shopfloor.launch.gate.decide import binomial_tail

if TYPE_CHECKING:
    from shopfloor.collectors.evaluate import Evaluation


def wanted(text: str, cell: str) -> tuple[str, ...]:
    """Return the suites that a flag's text names, of those that a cell has.

    Raises:
        UnknownNameError: no such suite.
    """
    made = make_cell(cell, cameras=())
    task = getattr(made, "task", None)  # cells of other packages need not have one
    known = [name for name in variations_of(task) if name in SUITES] if task else []
    made.close()

    names = known if text == "all" else listed(text)
    for name in names:
        if name not in known:
            raise UnknownNameError(f"shift suite of {made.cell_id}", name, known)

    return tuple(names)


def shifted(base: str, suite: str) -> str:
    """Return a variation with a suite on top, as its one text."""
    nominal = Variation()
    values = vars(VARIATIONS[suite])
    changed = [name for name in values if values[name] != getattr(nominal, name)]
    axes = {name: values[name] for name in changed}
    return variation_name(replace(parse_variation(base), **axes))


def compared(name: str, control: Evaluation, suite: Evaluation) -> dict[str, Any]:
    """Return a suite's figures beside its matched control's, seed by seed.

    `p_value` is of the one-sided exact McNemar test: how likely so many seeds or more would be
    lost, of those on which the two differ, if the suite made no difference.
    """
    lost, gained = 0, 0
    for before, after in zip(control.per_seed, suite.per_seed, strict=True):
        if before is None or after is None or before == after:
            continue
        if before:
            lost += 1
        else:
            gained += 1

    return {
        "suite": name,
        "episodes": suite.episodes,
        "successes": suite.successes,
        "success": suite.success,
        "interval": list(suite.interval),
        "outcomes": dict(suite.outcomes),
        "lost": lost,
        "gained": gained,
        "p_value": binomial_tail(lost, lost + gained),
    }


def print_suites(entries: Sequence[Mapping[str, Any]]) -> None:
    """Print the table."""
    rows = []
    for entry in entries:
        rows.append(
            (
                str(entry["suite"]),
                with_interval(entry["success"], tuple(entry["interval"])),
                str(entry["lost"]),
                str(entry["gained"]),
                f"{entry['p_value']:.3g}",
            )
        )

    columns = ("suite", "success", "lost", "gained", "p")
    print_table("the same seeds, one thing shifted", columns, rows)
