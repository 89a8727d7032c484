"""Overlays on committed episodes: tombstones, new labels and weights, applied by the reader.

In a dataset they are numbered files in `overlays/`. An overlay file anywhere else is applied on top
by whoever names it.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopfloor.core import FAILURE_REASONS, DiskError, Episode, InvalidInputError, listed_paths
from shopfloor.datasets.disk.errors import DamagedFileError, FormatVersionError
from shopfloor.datasets.disk.files import POSIX, SystemCalls, make_folder, publish, require_writable
from shopfloor.datasets.disk.json_file import load_json
from shopfloor.datasets.disk.strict_json import content_digest, is_list_of, json_digest
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.record import EpisodeRecord
from shopfloor.datasets.listing.folders import numbered

MAX_OVERLAY_BYTES = 1 << 28
DIGEST = "content_sha256"
_ADVICE = "What it says is not known, so nothing is read without it: restore it from a copy, or delete it."
_RELABELS = ("instruction", "outcome", "reason")


@dataclass(frozen=True)
class Change:
    """What overlays change about one episode.

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

    def operations(self, episode_id: str) -> list[dict[str, Any]]:
        """Return the fewest operations that make the same change to an episode."""
        found: list[dict[str, Any]] = []
        if self.tombstone:
            found.append({"op": "tombstone", "episode_id": episode_id})
        if self.relabel:
            found.append({"op": "relabel", "episode_id": episode_id, **self.relabel})
        if self.weight != 1.0:
            found.append({"op": "weight", "episode_id": episode_id, "weight": self.weight})
        return found


# --------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------


def load_overlays(root: Path, others: Iterable[Path | str] = ()) -> dict[str, Change]:
    """Read all overlays of a dataset, later ones over earlier ones.

    Args:
        root: the dataset folder.
        others: overlay files elsewhere, applied after the dataset's own, in this order.

    Returns:
        episode_id -> what holds for it now.

    Raises:
        DamagedFileError: one of them cannot be used.
        FormatVersionError: one is of a later version.
        InvalidInputError: one of `others` is not there.
    """
    changes: dict[str, Change] = {}
    for path in overlay_files(root):
        _apply_all(changes, _load(path), path)

    for path in listed_paths(others):
        try:
            operations = _load(path)
        except FileNotFoundError:
            raise InvalidInputError(
                f"There is no overlay {path}; name a file that `data filter --view` or "
                "`data quality` wrote."
            ) from None

        _apply_all(changes, operations, path)

    return changes


def tombstoned(changes: Mapping[str, Change]) -> set[str]:
    """Return the ids of the episodes that are left out."""
    return {episode_id for episode_id, change in changes.items() if change.tombstone}


def overlay_files(root: Path) -> list[Path]:
    """Return a dataset's overlays in the order in which they apply."""
    found = numbered(root, layout.OVERLAYS, layout.OVERLAY_NAME)
    return [path for _, path in found]


def read_overlay_file(path: Path | str) -> list[dict[str, Any]]:
    """Return one overlay's operations after checking each.

    Raises:
        FileNotFoundError: there is no such file; others as `load_overlays`.
    """
    operations = _load(Path(path))
    _apply_all({}, operations, Path(path))
    return operations


def _load(path: Path) -> list[Any]:
    data = load_json(path, MAX_OVERLAY_BYTES)
    # Files of the first releases, and those written by hand, have none.
    if DIGEST in data and data[DIGEST] != content_digest(data, DIGEST):
        raise DamagedFileError(path, f"its content does not match its {DIGEST}", _ADVICE)
    if data.get("schema_version") != layout.SCHEMA_VERSION:
        raise FormatVersionError(
            f"{path} has schema version {data.get('schema_version')!r}; this release reads version "
            f"{layout.SCHEMA_VERSION}. Install a newer shopfloor."
        )

    operations = data.get("operations")
    if not isinstance(operations, list):
        raise DamagedFileError(path, "it has no list of operations", _ADVICE)
    return operations


def _apply_all(changes: dict[str, Change], operations: Sequence[Any], path: Path) -> None:
    for number, operation in enumerate(operations):
        try:
            _apply(changes, operation)
        except (KeyError, TypeError, ValueError) as error:  # says which operation
            raise DamagedFileError(
                path, f"its operation {number} cannot be used ({error})", _ADVICE
            ) from None


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
        if (
            isinstance(weight, bool)
            or not isinstance(weight, int | float)
            or not 0 <= weight <= sys.float_info.max
        ):
            raise ValueError(f"weight is {weight!r:.60}, expected a number of at least 0")

        change = dataclasses.replace(change, weight=float(weight))
    else:
        raise ValueError(f"op is {kind!r:.60}, expected tombstone, restore, relabel or weight")

    changes[episode_id] = change


def _relabel(operation: Mapping[str, Any]) -> dict[str, str]:
    values = {name: operation[name] for name in _RELABELS if name in operation}
    if not values or not is_list_of(list(values.values()), str):
        raise ValueError("a relabel needs texts for some of instruction, outcome, reason")

    instruction = values.get("instruction", "").encode()  # UnicodeEncodeError is a ValueError
    if len(instruction) > layout.MAX_ATTRIBUTE_BYTES or 0 in instruction:
        raise ValueError(
            f"instruction is not a text of at most {layout.MAX_ATTRIBUTE_BYTES} bytes without NUL"
        )

    outcome = values.get("outcome")
    if outcome is None and "reason" in values:
        raise ValueError("a new reason needs the outcome beside it")

    if outcome == "success":
        values["reason"] = ""
    elif outcome == "failure":
        if values.get("reason") not in FAILURE_REASONS:
            raise ValueError(
                f"reason is {values.get('reason')!r}, expected one of {', '.join(FAILURE_REASONS)}"
            )
    elif outcome is not None:
        raise ValueError(f"outcome is {outcome!r:.60}, expected success or failure")

    return values


# --------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------


def append_overlay(
    path: Path | str, operations: Iterable[Mapping[str, Any]], calls: SystemCalls = POSIX
) -> Path:
    """Publish a dataset's next overlay; earlier ones stay, those of other processes included.

    Args:
        path: the dataset folder.
        operations: in order; each is {"op": "tombstone" | "restore" | "relabel" | "weight",
            "episode_id": ..., ...}.
        calls: the operating system's calls.

    Returns:
        The new overlay's file.

    Raises:
        InvalidInputError: an operation that readers would refuse, or none at all.
        DiskError: it cannot be written.
    """
    data = overlay_bytes(operations)
    root = Path(path)
    require_writable(root)
    make_folder(root / layout.OVERLAYS, calls)

    for _ in range(1000):
        taken = numbered(root, layout.OVERLAYS, layout.OVERLAY_NAME)
        number = taken[-1][0] + 1 if taken else 1
        target = root / layout.OVERLAYS / f"overlay-{number:08d}.json"
        if publish(target, data, calls):
            return target

    raise DiskError(
        f"Other processes keep writing overlays to {root}; run this again when they have ended."
    )


def write_overlay(
    path: Path | str, operations: Iterable[Mapping[str, Any]], calls: SystemCalls = POSIX
) -> Path:
    """Publish an overlay file outside a dataset, for `Dataset(..., overlays=[file])`.

    Raises as `append_overlay`.
    """
    target = Path(path)
    data = overlay_bytes(operations, empty=True)
    if not target.parent.is_dir():
        raise InvalidInputError(
            f"There is no folder {target.parent} to write {target.name} to; make it first."
        )

    require_writable(target.parent)
    if not publish(target, data, calls):
        raise InvalidInputError(f"{target} exists; choose another name (views are never replaced).")
    return target


def overlay_bytes(operations: Iterable[Mapping[str, Any]], *, empty: bool = False) -> bytes:
    """Return an overlay's text, one operation a line, after the check that readers make.

    Args:
        operations: as for `append_overlay`.
        empty: whether there may be none.

    Raises:
        InvalidInputError: as `append_overlay`.
    """
    changes: dict[str, Change] = {}
    lines = []
    for number, operation in enumerate(operations):
        try:
            text = json.dumps(operation, allow_nan=False)
            _apply(changes, json.loads(text))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"Operation {number} of the overlay cannot be used: {error}."
            ) from None

        lines.append(text)

    if not lines and not empty:
        raise InvalidInputError(
            "An overlay without operations says nothing; expected at least one."
        )

    joined = ",\n".join(lines)
    head = {"schema_version": layout.SCHEMA_VERSION}
    digest = json_digest({**head, "operations": json.loads(f"[{joined}]")})
    data = f'{json.dumps({**head, DIGEST: digest})[:-1]}, "operations": [\n{joined}\n]}}\n'.encode()

    if len(data) > MAX_OVERLAY_BYTES:
        raise InvalidInputError(
            f"An overlay of {len(data)} bytes; the limit is {MAX_OVERLAY_BYTES}. Write several."
        )
    return data
