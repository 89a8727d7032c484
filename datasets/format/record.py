"""The record of an episode: what a manifest keeps of it, so that its file need not be opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shopfloor.datasets.format import layout


@dataclass(frozen=True)
class EpisodeRecord:
    """What is known of an episode without opening its file.

    Attributes:
        file: file name inside the dataset folder.
        group: group inside `data`, "demo_<k>".
        sha256: SHA-256 of the whole file, in hexadecimal.
        bytes: size of the whole file.
        episode_id: SHA-256 of the spec.
        index: position in the job that collected it.
        cell: full cell id.
        seed: the episode's seed.
        variation: name of the variation.
        intervention: name of the spec's intervention, such as "none", "expert" or "label".
        policy_digest: digest of the acting policy.
        purpose: "train", "gate", "report" or "other".
        instruction: text the policy was given (as relabelled).
        steps: executed actions T.
        outcome: "success" or "failure" (as relabelled).
        reason: "" for success, else why it failed.
        terminated: False if time ended the episode.
        expert_steps: steps the teacher executed.
        label_steps: steps with a label of the teacher.
        weight: weight from overlays, 1.0 by default; not in manifests.
    """

    file: str
    group: str
    sha256: str
    bytes: int
    episode_id: str
    index: int
    cell: str
    seed: int
    variation: str
    intervention: str
    policy_digest: str
    purpose: str
    instruction: str
    steps: int
    outcome: str
    reason: str
    terminated: bool
    expert_steps: int
    label_steps: int
    weight: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """Return the record as a manifest holds it."""
        data = asdict(self)
        del data["weight"]
        return data

    @classmethod
    def from_json(cls, data: object) -> EpisodeRecord:
        """Check and build a record from manifest data, unknown keys passed over; raises ValueError."""
        if not isinstance(data, dict):
            raise ValueError("an episode is not an object")  # noqa: TRY004  # one kind of error for bad content

        values: dict[str, Any] = {}
        for name, kind in _RECORD_FIELDS.items():
            values[name] = value = data.get(name)
            if type(value) is not kind:
                raise ValueError(
                    f"an episode's {name!r} is {value!r:.60}, expected {kind.__name__}"
                )

        record = cls(**values)
        if not layout.DATA_FILE.fullmatch(record.file) or not layout.GROUP_NAME.fullmatch(
            record.group
        ):
            raise ValueError(
                f"an episode's file is {record.file!r:.80} with group {record.group!r:.40}"
            )
        if not 0 <= record.steps <= layout.MAX_STEPS or record.bytes < 0:
            raise ValueError(
                f"the episode in {record.file} has {record.steps} steps and {record.bytes} bytes"
            )

        return record


def _record_fields() -> dict[str, type]:
    """Return what a manifest holds of a record: name -> type."""
    kinds: Mapping[str, type] = {"str": str, "int": int, "bool": bool, "float": float}
    found = {}
    for field in dataclasses.fields(EpisodeRecord):
        found[field.name] = kinds[str(field.type)]

    del found["weight"]
    return found


_RECORD_FIELDS = _record_fields()


def episode_ids(records: Iterable[EpisodeRecord]) -> set[str]:
    """Return the ids of some episodes."""
    return {record.episode_id for record in records}


def by_id(records: Iterable[EpisodeRecord]) -> dict[str, EpisodeRecord]:
    """Return episode_id -> record; of several with one id the last."""
    return {record.episode_id: record for record in records}


def positions(records: Iterable[EpisodeRecord]) -> dict[str, int]:
    """Return episode_id -> position among the records."""
    return {record.episode_id: index for index, record in enumerate(records)}
