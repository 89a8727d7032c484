"""What was found in a dataset: figures, findings and a verdict for each episode, as JSON and as a view for training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from shopfloor.datasets.format.decode import EpisodeRecord
from shopfloor.datasets.quality import judge, motion
from shopfloor.datasets.quality.judge import DROP, NOTE, Finding, Thresholds, Usual
from shopfloor.datasets.quality.motion import Metrics

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Assessed:
    """What is known of one episode.

    Attributes:
        record: of the episode.
        figures: name -> value, None where it could not be had.
        cameras: camera -> (share of dark pictures, share of the robot's motion in which it was
            frozen).
        findings: what is wrong, worst first.
        weight: 0 to leave it out, 1 as usual.
    """

    record: EpisodeRecord
    figures: Metrics
    cameras: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    weight: float = 1.0

    @property
    def verdict(self) -> str:
        """What follows: "drop", "down-weight" or "keep"."""
        return DROP if self.weight == 0 else judge.DOWN_WEIGHT if self.weight < 1 else "keep"

    def finding(self, more: Iterable[Finding], limits: Thresholds) -> Assessed:
        """Return the same with more findings."""
        findings = sorted(
            [*self.findings, *more], key=lambda finding: judge.SEVERITIES.index(finding.severity)
        )
        return replace(self, findings=tuple(findings), weight=judge.weight_for(findings, limits))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        record = self.record
        return {
            **{
                name: getattr(record, name)
                for name in ("episode_id", "index", "file", "cell", "seed", "steps")
            },
            **{name: getattr(record, name) for name in ("outcome", "reason", "instruction")},
            "verdict": self.verdict,
            "weight": self.weight,
            "figures": motion.report(self.figures),
            "cameras": {
                name: {"dark": dark, "frozen": frozen}
                for name, (dark, frozen) in self.cameras.items()
            },
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True)
class Quality:
    """What was found in a dataset.

    Attributes:
        path: the dataset folder.
        episodes: in the dataset's order.
        not_checked: what could not be judged, and why, for people.
        usual: cell -> figure -> what is usual there.
        thresholds: what counted as a finding.
        seed: of the draws.
        labels: what the simulator said of the success labels; None where it was not asked.
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
        verdicts = [one.verdict for one in self.episodes]
        return {name: verdicts.count(name) for name in ("keep", judge.DOWN_WEIGHT, DROP)}

    def kinds(self) -> dict[str, int]:
        """Return how many episodes have each kind of finding that counts, most frequent first."""
        found: dict[str, int] = {}
        for one in self.episodes:
            for kind in {finding.kind for finding in one.findings if finding.severity != NOTE}:
                found[kind] = found.get(kind, 0) + 1
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def operations(self) -> list[dict[str, Any]]:
        """Return the operations of a view that follows the verdicts; see `overlays.write_view`."""
        found: list[dict[str, Any]] = []
        for one in self.episodes:
            why = "; ".join(
                f"{finding.kind}: {finding.text}"
                for finding in one.findings
                if finding.severity != NOTE
            )

            named = {"episode_id": one.record.episode_id}
            if one.weight == 0:
                found.append({"op": "tombstone", **named, "reason": why})
            elif one.weight < 1:
                found.append(
                    {
                        "op": "weight",
                        **named,
                        "weight": one.weight * one.record.weight,
                        "reason": why,
                    }
                )

        return found

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON data (docs/schemas/data-quality.schema.json)."""
        return {
            "schema_version": SCHEMA_VERSION,
            "path": str(self.path),
            "seed": self.seed,
            "episodes": len(self.episodes),
            "verdicts": self.counts(),
            "kinds": self.kinds(),
            "not_checked": list(self.not_checked),
            "labels": dict(self.labels) if self.labels is not None else None,
            "usual": {
                cell: {name: _usual_json(one) for name, one in table.items()}
                for cell, table in self.usual.items()
            },
            "thresholds": asdict(self.thresholds),
            "assessed": [one.to_json() for one in self.episodes],
        }


def _usual_json(usual: Usual) -> dict[str, float | int | None]:
    values = {"median": usual.median, "deviation": usual.deviation, "best": usual.best}
    return {
        "count": usual.count,
        **motion.report({k: v if math.isfinite(v) else None for k, v in values.items()}),
    }
