"""Overlays on committed episodes: tombstones, new labels and weights. The episodes' files never change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopfloor.core import FAILURE_REASONS, InvalidInputError, UnknownNameError
from shopfloor.datasets.disk.files import POSIX, SystemCalls, require_writable
from shopfloor.datasets.format.record import EpisodeRecord, by_id, episode_ids
from shopfloor.datasets.listing.identity import load_identity
from shopfloor.datasets.listing.manifest import list_dataset, ruling_manifest
from shopfloor.datasets.listing.overlays import append_overlay, load_overlays, tombstoned
from shopfloor.datasets.listing.select import Where, parse_where, resolve_id
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.purge import Purge, purge

__all__ = ["Edit", "Purge", "delete", "purge", "relabel", "restore"]


@dataclass(frozen=True)
class Edit:
    """What an edit did.

    Attributes:
        changed: number of episodes that it changed; those that were so before are not counted.
        overlay: the new overlay's file, None where nothing had to be changed.
    """

    changed: int
    overlay: Path | None

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        return {"changed": self.changed, "overlay": str(self.overlay) if self.overlay else None}


def delete(
    path: Path | str,
    where: str | None = None,
    ids: Iterable[str] = (),
    reason: str = "",
    calls: SystemCalls = POSIX,
) -> Edit:
    """Leave episodes out from now on, by a tombstone each; `purge` removes their files.

    Args:
        path: the dataset folder.
        where: an expression (`parse_where`); what it selects is deleted beside the `ids`.
        ids: episode ids, or beginnings of at least 8 characters that fit one episode.
        reason: why they are left out, for people.
        calls: the operating system's calls.

    Returns:
        How many episodes were left out now, and the overlay that does it.

    Raises:
        InvalidInputError: an unknown id, an expression that cannot be read, or neither.
        NotADatasetError, FormatVersionError, DamagedFileError: as `Dataset`.
        DiskError: it cannot be written.
    """
    chosen = _choose(path, where, ids)
    why = {"reason": reason} if reason else {}
    operations = [{"op": "tombstone", "episode_id": one, **why} for one in chosen]
    return _append(path, operations, calls)


def restore(
    path: Path | str, where: str | None = None, ids: Iterable[str] = (), calls: SystemCalls = POSIX
) -> Edit:
    """Take back a `delete`: episodes that are left out count again, as long as they are not purged.

    Args:
        path: the dataset folder.
        where: an expression (`parse_where`) over the episodes that are left out and still there.
        ids: episode ids, or beginnings of at least 8 characters that fit one episode. One that is
            purged can be collected again from then on.
        calls: the operating system's calls.

    Returns:
        How many episodes were left out and are no longer, and the overlay that does it.

    Raises:
        As `delete`.
    """
    test, ids = _choice(where, ids)
    root = Path(path)
    load_identity(root)
    require_writable(root)
    changes = load_overlays(root)
    left_out = tombstoned(changes)
    records = list_dataset(root, left_out).records

    chosen = set()
    for record in records:
        one = record.episode_id
        if one in left_out and test(changes[one].record(record)):
            chosen.add(one)

    known = episode_ids(records) | left_out
    for wanted in ids:
        one = resolve_id(wanted, known, root)
        if one in left_out:
            chosen.add(one)

    operations = [{"op": "restore", "episode_id": one} for one in sorted(chosen)]
    return _append(path, operations, calls)


def relabel(
    path: Path | str,
    where: str | None = None,
    ids: Iterable[str] = (),
    instruction: str | None = None,
    outcome: str | None = None,
    reason: str | None = None,
    calls: SystemCalls = POSIX,
) -> Edit:
    """Give episodes another instruction, outcome or reason, through an overlay.

    Args:
        path: the dataset folder.
        where: an expression (`parse_where`); what it selects is relabelled beside the `ids`.
        ids: episode ids, or beginnings of at least 8 characters that fit one episode.
        instruction: the new text.
        outcome: "success", or "failure" with a `reason`.
        reason: one of FAILURE_REASONS; without `outcome`, all chosen episodes must have failed.
        calls: the operating system's calls.

    Returns:
        How many episodes have another label now, and the overlay that does it.

    Raises:
        As `delete`; UnknownNameError for an unknown outcome or reason.
    """
    _check_labels(instruction, outcome, reason)
    wanted = {
        "instruction": instruction,
        "outcome": outcome,
        "reason": "" if outcome == "success" else reason,
    }

    operations = []
    for one, record in _choose(path, where, ids).items():
        if record is None:
            raise InvalidInputError(
                f"Episode {one} of {path} is damaged or missing, so it cannot be relabelled."
            )
        if reason and outcome is None and record.outcome != "failure":
            raise InvalidInputError(
                f"Episode {one} of {path} succeeded, so it has no reason; give the outcome failure "
                "with it, or select failures only."
            )

        values: dict[str, str | None] = {}
        for name, value in wanted.items():
            if value is not None and value != getattr(record, name):
                values |= {name: value}

        if "reason" in values or "outcome" in values:
            values |= {"outcome": outcome or "failure", "reason": wanted["reason"]}
        if values:
            operations.append({"op": "relabel", "episode_id": one, **values})

    return _append(path, operations, calls)


def _check_labels(instruction: str | None, outcome: str | None, reason: str | None) -> None:
    if instruction is None and outcome is None and reason is None:
        raise InvalidInputError(
            "There is nothing to relabel; give an instruction, an outcome or a reason."
        )
    if outcome not in (None, "success", "failure"):
        raise UnknownNameError("outcome", str(outcome), ("success", "failure"))
    if outcome == "success" and reason:
        raise InvalidInputError(f"A success has no reason, and {reason!r} was given; leave it out.")

    if outcome == "failure" and not reason:
        raise InvalidInputError(
            f"The outcome failure needs a reason, one of {', '.join(FAILURE_REASONS)}."
        )
    if outcome != "success" and reason is not None and reason not in FAILURE_REASONS:
        raise UnknownNameError("reason", reason, FAILURE_REASONS)


def _append(path: Path | str, operations: list[dict[str, Any]], calls: SystemCalls) -> Edit:
    if not operations:
        return Edit(0, None)
    return Edit(len(operations), append_overlay(path, operations, calls))


def _choose(
    path: Path | str, where: str | None, ids: Iterable[str]
) -> Mapping[str, EpisodeRecord | None]:
    """Return the chosen episodes that are not left out yet; an unreadable one's record is None."""
    test, ids = _choice(where, ids)
    root = Path(path)
    dataset = Dataset(root)
    require_writable(root)
    records = by_id(dataset.records)
    chosen: dict[str, EpisodeRecord | None] = dict(by_id(filter(test, records.values())))

    if ids:
        left_out = tombstoned(load_overlays(root))
        manifest, _ = ruling_manifest(root)
        listed = episode_ids(manifest.records)
        known = {*records, *left_out, *listed, *dataset.episode_ids()}

        for wanted in ids:
            one = resolve_id(wanted, known, root)
            if one not in left_out:
                chosen[one] = records.get(one)

    return chosen


def _choice(where: str | None, ids: Iterable[str]) -> tuple[Where, list[str]]:
    """Return a test of records, which none passes without an expression, and the ids as a list."""
    ids = [ids] if isinstance(ids, str) else list(ids)
    if where is None and not ids:
        raise InvalidInputError(
            "Nothing says which episodes; give an expression (where) or episode ids."
        )
    return (parse_where(where) if where is not None else lambda record: False), ids
