"""Overlays: later words about committed episodes (leave out, call it otherwise, weigh), applied by the reader."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopfloor.core import FAILURE_REASONS, Episode
from shopfloor.datasets import layout
from shopfloor.datasets.decode import EpisodeRecord
from shopfloor.datasets.errors import DamagedFileError, FormatVersionError
from shopfloor.datasets.jsonfile import load_json
from shopfloor.datasets.manifest import numbered

MAX_OVERLAY_BYTES = 1 << 28
_ADVICE = "What it says is not known, so nothing is read without it: restore it from a copy, or delete it."
_RELABELS = ("instruction", "outcome", "reason")


@dataclass(frozen=True)
class Change:
    """What overlays say about one episode.

    Attributes:
        tombstone: True to leave the episode out.
        relabel: new values of instruction, outcome and reason, where given.
        weight: how much more than others it is drawn, at least 0.
    """

    tombstone: bool = False
    relabel: Mapping[str, str] = dataclasses.field(default_factory=dict)
    weight: float = 1.0

    def record(self, record: EpisodeRecord) -> EpisodeRecord:
        """Return the record as it stands after the change."""
        return dataclasses.replace(record, weight=self.weight, **dict[str, Any](self.relabel))

    def episode(self, episode: Episode) -> Episode:
        """Return the episode as it stands after the change."""
        return dataclasses.replace(episode, **dict[str, Any](self.relabel))


def load_overlays(root: Path) -> dict[str, Change]:
    """Read all overlays of a dataset, later ones over earlier ones.

    Args:
        root: the dataset folder.

    Returns:
        episode_id -> what holds for it now.

    Raises:
        DamagedFileError: one of them cannot be used.
        FormatVersionError: one is of a later version.
    """
    changes: dict[str, Change] = {}
    for _, path in numbered(root, layout.OVERLAYS, layout.OVERLAY_NAME):
        data = load_json(path, MAX_OVERLAY_BYTES)
        if data.get("schema_version") != layout.SCHEMA_VERSION:
            raise FormatVersionError(
                f"{path} has schema version {data.get('schema_version')!r}; this release reads version "
                f"{layout.SCHEMA_VERSION}. Install a newer shopfloor."
            )
        operations = data.get("operations")
        if not isinstance(operations, list):
            raise DamagedFileError(path, "it has no list of operations", _ADVICE)
        for number, operation in enumerate(operations):
            try:
                _apply(changes, operation)
            except (KeyError, TypeError, ValueError) as error:  # noqa: PERF203  # says which operation
                raise DamagedFileError(path, f"its operation {number} cannot be used ({error})", _ADVICE) from None
    return changes


def _apply(changes: dict[str, Change], operation: Any) -> None:  # noqa: ANN401  # JSON
    episode_id = operation["episode_id"]
    if not isinstance(episode_id, str):
        raise TypeError(f"episode_id is {episode_id!r:.60}, expected text")
    change = changes.get(episode_id, Change())
    kind = operation.get("op")
    if kind in ("tombstone", "restore"):
        change = dataclasses.replace(change, tombstone=kind == "tombstone")
    elif kind == "relabel":
        change = dataclasses.replace(change, relabel={**change.relabel, **_relabel(operation)})
    elif kind == "weight":
        weight = operation["weight"]
        if isinstance(weight, bool) or not isinstance(weight, int | float) or weight < 0:
            raise ValueError(f"weight is {weight!r:.60}, expected a number of at least 0")
        change = dataclasses.replace(change, weight=float(weight))
    else:
        raise ValueError(f"op is {kind!r:.60}, expected tombstone, restore, relabel or weight")
    changes[episode_id] = change


def _relabel(operation: Mapping[str, Any]) -> dict[str, str]:
    values = {name: operation[name] for name in _RELABELS if name in operation}
    if not values or not all(isinstance(value, str) for value in values.values()):
        raise ValueError("a relabel needs texts for some of instruction, outcome, reason")
    outcome = values.get("outcome")
    if outcome is None and "reason" in values:
        raise ValueError("a new reason needs the outcome beside it")
    if outcome == "success":
        values["reason"] = ""
    elif outcome == "failure":
        if values.get("reason") not in FAILURE_REASONS:
            raise ValueError(f"reason is {values.get('reason')!r}, expected one of {', '.join(FAILURE_REASONS)}")
    elif outcome is not None:
        raise ValueError(f"outcome is {outcome!r:.60}, expected success or failure")
    return values
