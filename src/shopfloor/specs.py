"""What to run, by whom, and what came of it: plain JSON data, sent between processes. Needs no NumPy."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from shopfloor.errors import InvalidInputError, UnknownNameError

PURPOSES = ("train", "gate", "report", "other")
FAILURE_REASONS = (
    "timeout",
    "dropped",
    "wrong_part",
    "out_of_reach",
    "collision",
    "nonfinite_action",
    "policy_timeout",
    "policy_bad_reply",
)
# Wall time after which one try of an episode, or of any other job, counts as hanging.
TIMEOUT_S = 600.0
INFRASTRUCTURE_REASONS = ("env_crash", "env_hang", "nonfinite_obs", "disk", "cancelled")


def canonical_json(value: Any) -> str:  # noqa: ANN401  # any JSON value
    """Serialise to the one JSON text that hashes are taken of: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_hex(data: bytes | str) -> str:
    """Return the SHA-256 of bytes, or of a text's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def listed(value: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return names, whichever way they were given.

    Args:
        value: names one by one, or a text of names between commas or blanks; "none", an empty text
            and None name nothing.
    """
    if value is None:
        return ()
    if not isinstance(value, str):
        return tuple(map(str, value))

    names = tuple(value.replace(",", " ").split())
    return () if names == ("none",) else names


def listed_paths(
    value: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
) -> tuple[Path, ...]:
    """Return paths: those given one by one, or the one that was given alone."""
    if isinstance(value, str | os.PathLike):
        return (Path(value),)
    return tuple(map(Path, value))


@dataclass(frozen=True)
class EpisodeSpec:
    """What to run: plain JSON data. Two equal specs give byte-equal episode files.

    Attributes:
        cell: full cell id, such as "shopfloor/PickToTray-v0".
        cell_options: keyword arguments of the cell (robot, cameras, image_size, privileged).
        variation: name of the variation, such as "nominal".
        seed: seed of all the episode's random streams.
        policy_digest: digest of the acting policy.
        teacher_digest: digest of the teacher, "" without one.
        intervention: "none", "expert" (the teacher takes over on deviation), "label" (the teacher
            only labels), "own" (an expert labels its own steps), or the name of an installed
            package's; whoever runs the spec looks it up.
        action_noise: scale of the noise added to executed actions, in units of a full action.
        purpose: "train", "gate", "report" or "other".
    """

    cell: str
    seed: int
    policy_digest: str
    cell_options: Mapping[str, Any] = field(default_factory=dict)
    variation: str = "nominal"
    teacher_digest: str = ""
    intervention: str = "none"
    action_noise: float = 0.0
    purpose: str = "other"

    def __post_init__(self) -> None:
        """Refuse values outside the closed lists."""
        if self.purpose not in PURPOSES:
            raise UnknownNameError("purpose", self.purpose, PURPOSES)
        if not isinstance(self.intervention, str) or not self.intervention:
            raise InvalidInputError(
                f"Intervention is {self.intervention!r}; expected a name, such as 'none'."
            )
        if self.seed < 0:
            raise InvalidInputError(
                f"Episode seed is {self.seed}; expected an integer of at least 0."
            )

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EpisodeSpec:
        """Build a spec from `to_json` data; unknown keys are refused."""
        unknown = set(data) - {f.name for f in fields(cls)}
        if unknown:
            raise InvalidInputError(f"Episode spec has unknown keys {sorted(unknown)}.")
        return cls(**data)

    @property
    def episode_id(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return sha256_hex(canonical_json(self.to_json()))


@dataclass(frozen=True)
class Receipt:
    """What came of a spec: plain JSON data, a few hundred bytes, sent from worker to driver.

    Attributes:
        episode_id: of the spec.
        index: position in the job.
        seed: the episode's seed.
        outcome: "success", "failure" or "infrastructure".
        reason: "" for success, else one of FAILURE_REASONS or INFRASTRUCTURE_REASONS.
        steps: executed actions T.
        path: file name inside the dataset folder, "" when nothing was written.
        sha256: of the file's whole bytes, "" when nothing was written.
        bytes: file size.
        attempt: 1 for the first try.
        seconds: wall time of the rollout and the commit.
        cpu_seconds: CPU time of the rollout and the commit.
        expert_steps: steps the teacher executed.
        message: detail of an infrastructure failure, for a person.
    """

    episode_id: str
    index: int
    seed: int
    outcome: str
    reason: str = ""
    steps: int = 0
    path: str = ""
    sha256: str = ""
    bytes: int = 0
    attempt: int = 1
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    expert_steps: int = 0
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the receipt as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Receipt:
        """Build a receipt from `to_json` data."""
        return cls(**data)


@dataclass(frozen=True)
class PolicyRef:
    """Where a worker process gets a policy from: plain JSON data.

    Attributes:
        kind: "expert", "random", "checkpoint", or a name of the entry-point group
            `shopfloor.policies`.
        cell: full id of the cell it will act in.
        arguments: JSON arguments of the factory, such as {"path": ...}.
    """

    kind: str
    cell: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the reference as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PolicyRef:
        """Build a reference from `to_json` data."""
        return cls(**data)
