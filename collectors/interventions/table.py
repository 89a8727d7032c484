"""Interventions by name: ours, and those that other packages announce in `shopfloor.interventions`.

An entry point's value is `module:factory`; the factory is called without arguments for each episode.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from shopfloor.collectors.interventions.command import Intervention
from shopfloor.core import InvalidInputError, MissingDependencyError, UnknownNameError

GROUP = "shopfloor.interventions"
BUILT_IN = {
    "none": "shopfloor.collectors.interventions.bystander:none",
    "label": "shopfloor.collectors.interventions.bystander:label",
    "expert": "shopfloor.collectors.interventions.takeover:Takeover",
    "own": "shopfloor.collectors.interventions.own_label:OwnLabel",
}


def intervention_names() -> list[str]:
    """Return the names an episode's spec may hold: ours and those of installed packages."""
    return sorted({*BUILT_IN, *(point.name for point in _announced())})


def make_intervention(name: str) -> Intervention:
    """Return a new intervention for one episode.

    Args:
        name: "none", "label", "expert", "own", or a name of the entry-point group.

    Raises:
        UnknownNameError: no such intervention.
        MissingDependencyError: another package announces it and cannot be loaded.
        InvalidInputError: what the package gave is no intervention.
    """
    made = _factory(name)()
    if not isinstance(made, Intervention):
        raise InvalidInputError(
            f"Intervention {name!r} gave a {type(made).__name__}; expected an object with "
            "needs_teacher, reset, asks_policy and choose."
        )

    return made


def _announced() -> list[EntryPoint]:
    return list(entry_points(group=GROUP))


def _factory(name: str) -> Callable[[], object]:
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]

    for point in _announced():
        if point.name != name:
            continue

        try:
            return point.load()  # type: ignore[no-any-return]
        except (ImportError, AttributeError) as error:
            raise MissingDependencyError(
                f"Intervention {name!r} is announced by an installed package as {point.value}, "
                f"which cannot be loaded ({error}). Install what it needs, or remove that package."
            ) from error

    raise UnknownNameError("intervention", name, intervention_names())
