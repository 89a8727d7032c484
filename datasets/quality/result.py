"""The result of the quality checks: figures, findings and verdicts, as JSON and as an overlay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from shopfloor.datasets.format.record import EpisodeRecord
from shopfloor.datasets.quality import judge
from shopfloor.datasets.quality.figures import Metrics, report
from shopfloor.datasets.quality.judge import DROP, NOTE, Finding, Thresholds, Usual

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Assessed:
    """What is known of one episode.

    Attributes:
        record: the episode's record.
        figures: name -> value, None where there is none.
        cameras: camera -> (share of dark pictures, share of the robot's motion in which it was
            frozen).
        findings: the findings, worst first.
        weight: 0 to leave it out, 1 as usual.
    """

    record: EpisodeRecord
    figures: Metrics
    cameras: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    weight: float = 1.0

    @property
    def verdict(self) -> str:
        """What follows for training: "drop", "down-weight" or "keep"."""
        if self.weight == 0:
            return DROP
        return judge.DOWN_WEIGHT if self.weight < 1 else "keep"

    @property
    def counting(self) -> list[Finding]:
        """The findings that lower the weight; notes do not."""
        return [finding for finding in self.findings if finding.severity != NOTE]

    def finding(self, more: Iterable[Finding], limits: Thresholds) -> Assessed:
        """Return the same with more findings."""
        findings = sorted(
            [*self.findings, *more], key=lambda finding: judge.SEVERITIES.index(finding.severity)
        )
        return replace(self, findings=tuple(findings), weight=judge.weight_for(findings, limits))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        record = self.record
        cameras = {}
        for name, (dark, frozen) in self.cameras.items():
            cameras[name] = {"dark": dark, "frozen": frozen}

        return {
            "episode_id": record.episode_id,
            "index": record.index,
            "file": record.file,
            "cell": record.cell,
            "seed": record.seed,
            "steps": record.steps,
            "outcome": record.outcome,
            "reason": record.reason,
            "instruction": record.instruction,
            "verdict": self.verdict,
            "weight": self.weight,
            "figures": report(self.figures),
            "cameras": cameras,
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True)
class Quality:
    """What was found in a dataset.

    Attributes:
        path: the dataset folder.
        episodes: the episodes in the dataset's order.
        not_checked: what could not be judged, and why, for people.
        usual: cell -> figure -> what is usual there.
        thresholds: the limits that made a finding.
        seed: the seed of the draws.
        labels: what replaying showed of the success labels; None where nothing was replayed.
    """

    path: Path
    episodes: tuple[Assessed, ...]
    not_checked: tuple[str, ...]
    usual: Mapping[str, Mapping[str, Usual]]
    thresholds: Thresholds
    seed: int
    labels: Mapping[str, Any] | None = None

    @property
    def flagged(self) -> list[Assessed]:
        """The episodes that are to be left out or drawn less often, worst first."""
        bad = [one for one in self.episodes if one.weight < 1]
        return sorted(bad, key=lambda one: (one.weight, -len(one.findings), one.record.index))

    def counts(self) -> dict[str, int]:
        """Return how many episodes are kept, drawn less often and left out."""
        counts = dict.fromkeys(("keep", judge.DOWN_WEIGHT, DROP), 0)
        for one in self.episodes:
            counts[one.verdict] += 1
        return counts

    def kinds(self) -> dict[str, int]:
        """Return how many episodes have each kind of finding that counts, most frequent first."""
        found: dict[str, int] = {}
        for one in self.episodes:
            for kind in {finding.kind for finding in one.counting}:
                found[kind] = found.get(kind, 0) + 1
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def operations(self) -> list[dict[str, Any]]:
        """Return the operations of an overlay that follows the verdicts; see `write_overlay`."""
        found: list[dict[str, Any]] = []
        for one in self.episodes:
            why = "; ".join(f"{finding.kind}: {finding.text}" for finding in one.counting)
            episode_id, weight = one.record.episode_id, one.weight * one.record.weight
            if one.weight == 0:
                found.append({"op": "tombstone", "episode_id": episode_id, "reason": why})
            elif one.weight < 1:
                operation = {"op": "weight", "episode_id": episode_id, "weight": weight}
                found.append({**operation, "reason": why})

        return found

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON data (docs/schemas/data-quality.schema.json)."""
        usual: dict[str, dict[str, Any]] = {}
        for cell, table in self.usual.items():
            usual[cell] = {name: _usual_json(one) for name, one in table.items()}

        return {
            "schema_version": SCHEMA_VERSION,
            "path": str(self.path),
            "seed": self.seed,
            "episodes": len(self.episodes),
            "verdicts": self.counts(),
            "kinds": self.kinds(),
            "not_checked": list(self.not_checked),
            "labels": dict(self.labels) if self.labels is not None else None,
            "usual": usual,
            "thresholds": asdict(self.thresholds),
            "assessed": [one.to_json() for one in self.episodes],
        }


def _usual_json(usual: Usual) -> dict[str, float | int | None]:
    values = {"median": usual.median, "deviation": usual.deviation, "best": usual.best}
    return {"count": usual.count, **report(values)}
