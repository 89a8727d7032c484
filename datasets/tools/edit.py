"""Second thoughts about committed episodes: leave them out, call them otherwise. Their files never change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopfloor.core import FAILURE_REASONS, InvalidInputError, UnknownNameError
from shopfloor.datasets.disk.files import POSIX, SystemCalls, require_writable
from shopfloor.datasets.format.decode import EpisodeRecord
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
        changed: episodes whose state it changed; those that were so before are not counted.
        overlay: the new overlay's file, None where nothing had to be said.
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
        reason: why, for people.
        calls: the operating system's calls.

    Returns:
        How many episodes were left out now, and the overlay that says so.

    Raises:
        InvalidInputError: an unknown id, an expression that cannot be read, or neither.
        NotADatasetError, FormatVersionError, DamagedFileError: as `Dataset`.
        DiskError: it cannot be written.
    """
    chosen = _choose(path, where, ids)
    extra = {"reason": reason} if reason else {}
    return _say(path, [{"op": "tombstone", "episode_id": one, **extra} for one in chosen], calls)


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
        How many episodes were left out and are no longer, and the overlay that says so.

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

    chosen = {
        record.episode_id
        for record in records
        if record.episode_id in left_out and test(changes[record.episode_id].record(record))
    }

    known = {record.episode_id for record in records} | left_out
    chosen |= {resolve_id(wanted, known, root) for wanted in ids} & left_out
    return _say(path, [{"op": "restore", "episode_id": one} for one in sorted(chosen)], calls)


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
        How many episodes are called otherwise now, and the overlay that says so.

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
                f"Episode {one} of {path} succeeded, so it has no reason; give the outcome failure with it, or select "
                "failures only."
            )

        values: dict[str, str | None] = {
            name: value
            for name, value in wanted.items()
            if value not in (None, getattr(record, name))
        }

        if "reason" in values or "outcome" in values:
            values |= {"outcome": outcome or "failure", "reason": wanted["reason"]}
        if values:
            operations.append({"op": "relabel", "episode_id": one, **values})

    return _say(path, operations, calls)


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


def _say(path: Path | str, operations: list[dict[str, Any]], calls: SystemCalls) -> Edit:
    if not operations:
        return Edit(0, None)
    return Edit(len(operations), append_overlay(path, operations, calls))


def _choose(
    path: Path | str, where: str | None, ids: Iterable[str]
) -> Mapping[str, EpisodeRecord | None]:
    """Return the chosen episodes that are not left out yet; None is the record of one that cannot be read."""
    test, ids = _choice(where, ids)
    root = Path(path)
    dataset = Dataset(root)
    require_writable(root)
    records = {record.episode_id: record for record in dataset.records}
    chosen: dict[str, EpisodeRecord | None] = {
        one: record for one, record in records.items() if test(record)
    }

    if ids:
        left_out = tombstoned(load_overlays(root))
        listed = {record.episode_id for record in ruling_manifest(root)[0].records}
        known = {*records, *left_out, *listed, *dataset.episode_ids()}

        for wanted in ids:
            one = resolve_id(wanted, known, root)
            if one not in left_out:
                chosen[one] = records.get(one)

    return chosen


def _choice(where: str | None, ids: Iterable[str]) -> tuple[Where, list[str]]:
    """Return what chooses episodes: a test of records, which no record passes without an expression, and ids."""
    ids = [ids] if isinstance(ids, str) else list(ids)
    if where is None and not ids:
        raise InvalidInputError(
            "Nothing says which episodes; give an expression (where) or episode ids."
        )
    return (parse_where(where) if where is not None else lambda record: False), ids
