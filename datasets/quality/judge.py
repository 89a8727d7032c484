"""Findings from figures: what is wrong with an episode, how sure that is, and what follows.

Faults of a recording (what cannot be true, or carries no information) leave an episode out. Faults
of a demonstrator (idle, shaking, wandering) halve its weight, and only where it teaches: an honest
failure is no defect, whatever it looks like.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shopfloor.datasets.quality.figures import Metrics, rounded

DROP, DOWN_WEIGHT, NOTE = "drop", "down-weight", "note"
SEVERITIES = (DROP, DOWN_WEIGHT, NOTE)
FEW = 8  # fewer episodes of a kind have no "usual"
SIGMA = 1.4826  # of a normal distribution, in median absolute deviations


@dataclass(frozen=True)
class Thresholds:
    """What counts as a finding; docs/quality.md tells where each limit comes from.

    Attributes:
        idle_start_s: seconds without motion at the start.
        idle_end_s: seconds without motion at the end.
        idle_pause_s: seconds without motion in between.
        jerk: multiple of the usual jerk.
        path: multiple of the best path ratio.
        path_extra: how much longer than at the best ratio the path is then, m (spreads without a
            tool).
        chatter: gripper commands taken back within a quarter of a second.
        saturation: share of the commands that are at full scale.
        saturation_factor: multiple of the usual saturation that is needed, too.
        jump: multiple of the usual largest step.
        stuck: share of the moving steps in which a column never changed.
        stuck_usual: columns whose usual share is above this are no sensors of motion.
        late_steps: steps by which actions and motion are out of step.
        late_gain: correlation that is won by shifting them back.
        late_fit: share of the usual correlation that they reach then; actions that reach it nowhere
            are foreign.
        mismatch: share of the usual correlation of actions and motion.
        clock_off: share of intervals that are off.
        clock_drop: the same, from where an episode is left out.
        picture: share of the pictures that are frozen or dark.
        picture_drop: the same, from where an episode is left out.
        duplicate: distance to the nearest episode, in standard deviations.
        duplicate_usual: the same, as a share of the usual distance.
        information: standard deviations below the usual mutual information.
        deviations: standard deviations from the usual that idle time, jerk, paths and saturation
            need, too.
        weight: of an episode for each finding that lowers it.
        least_weight: least weight of an episode that is not left out.
    """

    idle_start_s: float = 1.0
    idle_end_s: float = 1.25
    idle_pause_s: float = 1.25
    jerk: float = 1.75
    path: float = 1.5
    path_extra: float = 0.3
    chatter: float = 4.0
    saturation: float = 0.6
    saturation_factor: float = 1.4
    jump: float = 2.5
    stuck: float = 0.5
    stuck_usual: float = 0.25
    late_steps: int = 2
    late_gain: float = 0.15
    late_fit: float = 0.9
    mismatch: float = 0.65
    clock_off: float = 0.05
    clock_drop: float = 0.3
    picture: float = 0.05
    picture_drop: float = 0.3
    duplicate: float = 0.05
    duplicate_usual: float = 0.15
    information: float = 4.0
    deviations: float = 4.0
    weight: float = 0.5
    least_weight: float = 0.25


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        kind: the kind of defect, such as "frozen_camera".
        severity: "drop", "down-weight" or "note".
        value: the figure that shows it; None where there is none.
        limit: what the figure was compared with.
        text: the finding in words.
    """

    kind: str
    severity: str
    value: float | None
    limit: float | None
    text: str

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain JSON data."""
        return {**self.__dict__, "value": rounded(self.value), "limit": rounded(self.limit)}


@dataclass(frozen=True)
class Usual:
    """What is usual for a figure among the episodes that teach.

    Attributes:
        count: number of episodes that have it.
        median: the median over them.
        deviation: their standard deviation by the median absolute deviation, at least 5 % of the
            median.
        best: the 5 % quantile.
    """

    count: int
    median: float
    deviation: float
    best: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Usual:
        """Summarise the figures that there are."""
        known = [value for value in values if value is not None]
        found = np.array(known, dtype=np.float64)
        found = found[np.isfinite(found)]
        if not len(found):
            return cls(0, math.nan, math.nan, math.nan)
        median = float(np.median(found))
        deviation = max(SIGMA * float(np.median(np.abs(found - median))), 0.05 * abs(median), 1e-9)
        return cls(len(found), median, deviation, float(np.quantile(found, 0.05)))

    def above(self, value: float, deviations: float) -> bool:
        """Whether a value is unusually large; True where there is no usual to compare with."""
        return self.count < FEW or value > self.median + deviations * self.deviation


# What one rule looks at: the episode's figures, what is usual, the thresholds.
Rule = Callable[[Metrics, Mapping[str, Usual], Thresholds], Finding | None]


def style_findings(
    figures: Metrics, usual: Mapping[str, Usual], limits: Thresholds, teaches: bool
) -> list[Finding]:
    """Return a demonstrator's faults; they are notes in an episode that training does not imitate.

    Args:
        figures: the episode's figures.
        usual: figure -> what is usual in its cell.
        limits: thresholds.
        teaches: whether the episode is a success or has labels.
    """
    found = _findings(STYLE, figures, usual, limits)
    if teaches:
        return found
    return [replace(finding, severity=NOTE) for finding in found]


def _findings(
    rules: Iterable[Rule], figures: Metrics, usual: Mapping[str, Usual], limits: Thresholds
) -> list[Finding]:
    found = []
    for rule in rules:
        finding = rule(figures, usual, limits)
        if finding:
            found.append(finding)
    return found


def _idle(name: str, limit: str, where: str) -> Rule:
    def rule(figures: Metrics, usual: Mapping[str, Usual], limits: Thresholds) -> Finding | None:
        value, least = figures[name], float(getattr(limits, limit))
        if value is None or value < least or not usual[name].above(value, limits.deviations):
            return None
        return Finding("idle", DOWN_WEIGHT, value, least, f"{value:.2f} s without motion {where}")

    return rule


def _jerky(figures: Metrics, usual: Mapping[str, Usual], limits: Thresholds) -> Finding | None:
    value, normal = figures["jerk"], usual["jerk"]
    if value is None or normal.count < FEW or value < limits.jerk * normal.median:
        return None
    if not normal.above(value, limits.deviations):
        return None
    times = value / max(normal.median, 1e-9)
    limit = limits.jerk * normal.median
    return Finding("jerky", DOWN_WEIGHT, value, limit, f"{times:.1f} times the usual jerk")


def _detour(figures: Metrics, usual: Mapping[str, Usual], limits: Thresholds) -> Finding | None:
    value, length, normal = figures["path_ratio"], figures["path_length"], usual["path_ratio"]
    if value is None or length is None or normal.count < FEW or value < limits.path * normal.best:
        return None

    times = value / max(normal.best, 1e-9)
    if length * (1.0 - 1.0 / times) < limits.path_extra or not normal.above(
        value, limits.deviations
    ):
        return None

    return Finding(
        "detour",
        DOWN_WEIGHT,
        times,
        limits.path,
        f"a path {times:.1f} times as long as the best ones",
    )


def _chatter(figures: Metrics, usual: Mapping[str, Usual], limits: Thresholds) -> Finding | None:
    value = figures["gripper_chatter"]
    if (
        value is None
        or value < limits.chatter
        or not usual["gripper_chatter"].above(value, limits.deviations)
    ):
        return None

    return Finding(
        "chatter",
        DOWN_WEIGHT,
        value,
        limits.chatter,
        f"{value:.0f} gripper commands taken back within 0.25 s",
    )


def _saturated(figures: Metrics, usual: Mapping[str, Usual], limits: Thresholds) -> Finding | None:
    value, normal = figures["saturation"], usual["saturation"]
    if value is None or value < limits.saturation:
        return None
    if normal.count >= FEW and (
        value < limits.saturation_factor * normal.median
        or not normal.above(value, limits.deviations)
    ):
        return None

    return Finding(
        "saturated",
        DOWN_WEIGHT,
        value,
        limits.saturation,
        f"{value:.0%} of the commands to move are at full scale",
    )


def _information(
    figures: Metrics, usual: Mapping[str, Usual], limits: Thresholds
) -> Finding | None:
    value, normal = figures["mutual_information"], usual["mutual_information"]
    if value is None or normal.count < 2 * FEW:
        return None

    limit = normal.median - limits.information * normal.deviation
    if value >= limit:
        return None

    return Finding(
        "low_information",
        DOWN_WEIGHT,
        value,
        limit,
        f"its states say little about its actions: {value:.2f} nats, usual is {normal.median:.2f}",
    )


STYLE: Sequence[Rule] = (
    _idle("idle_start_s", "idle_start_s", "at the start"),
    _idle("idle_end_s", "idle_end_s", "at the end"),
    _idle("idle_pause_s", "idle_pause_s", "on the way"),
    _jerky,
    _detour,
    _chatter,
    _saturated,
    _information,
)


# --------------------------------------------------------------------------------------------------
# Faults of a recording
# --------------------------------------------------------------------------------------------------


def recording_findings(
    figures: Metrics, usual: Mapping[str, Usual], limits: Thresholds
) -> list[Finding]:
    """Return the faults of an episode's recording that its figures of numbers and time show."""
    return _findings(RECORDING, figures, usual, limits)


def _non_finite(figures: Metrics, usual: Mapping[str, Usual], limits: Thresholds) -> Finding | None:
    count = figures["non_finite"]
    if not count:
        return None
    return Finding(
        "non_finite", DROP, count, 0.0, f"{count:.0f} numbers are infinite or not numbers"
    )


def _late(figures: Metrics, usual: Mapping[str, Usual], limits: Thresholds) -> Finding | None:
    late, best, fit = figures["action_late"], figures["action_fit_best"], figures["action_fit"]
    normal = usual["action_fit"]
    if (
        late is None
        or best is None
        or fit is None
        or abs(late) < limits.late_steps
        or best - fit < limits.late_gain
    ):
        return None

    if normal.count >= FEW and best < limits.late_fit * normal.median:
        return None  # they fit nowhere

    steps = f"{abs(late):.0f} steps {'later' if late > 0 else 'earlier'}"
    return Finding(
        "shifted_actions",
        DROP,
        late,
        float(limits.late_steps),
        f"motion follows the actions {steps} than usual",
    )


def _mismatch(figures: Metrics, usual: Mapping[str, Usual], limits: Thresholds) -> Finding | None:
    best, fit, normal = figures["action_fit_best"], figures["action_fit"], usual["action_fit"]
    if best is None or fit is None or normal.count < FEW or fit >= limits.mismatch * normal.median:
        return None
    if best >= limits.late_fit * normal.median:
        return None  # they fit, but late
    text = f"the actions are not what moved the robot: correlation {fit:.2f}, usual is {normal.median:.2f}"
    return Finding("foreign_actions", DROP, fit, limits.mismatch * normal.median, text)


def _clock(figures: Metrics, usual: Mapping[str, Usual], limits: Thresholds) -> Finding | None:
    off, dropped = figures["clock_off"], figures["clock_dropped"]
    if off is None:
        return None
    if figures["clock_backwards"]:
        return Finding("clock", DROP, off, 0.0, "its clock stands still or runs backwards")
    if off < limits.clock_off:
        return None
    severity = DROP if off >= limits.clock_drop else DOWN_WEIGHT
    text = f"{off:.0%} of its intervals are off by more than half; about {dropped or 0:.0f} steps were dropped"
    return Finding("clock", severity, off, limits.clock_off, text)


def _jump(figures: Metrics, usual: Mapping[str, Usual], limits: Thresholds) -> Finding | None:
    value, normal = figures["largest_step"], usual["largest_step"]
    if value is None or normal.count < FEW or value < limits.jump * normal.median:
        return None

    times = value / max(normal.median, 1e-9)
    return Finding(
        "lost_steps",
        DROP,
        value,
        limits.jump * normal.median,
        f"it jumps {times:.1f} times as far in one step as others do at most: steps are missing",
    )


RECORDING: Sequence[Rule] = (_non_finite, _late, _mismatch, _clock, _jump)


def stuck_findings(
    shares: Mapping[str, float], usual: Mapping[str, float], limits: Thresholds
) -> list[Finding]:
    """Return the sensors that did not move with the robot.

    Args:
        shares: column -> share of the moving steps in its longest stretch without change.
        usual: column -> the same, the 90 % quantile over episodes; columns that often stand still
            are no evidence.
        limits: thresholds.
    """
    dead: dict[str, float] = {}
    for name, share in shares.items():
        if share >= limits.stuck and usual.get(name, 1.0) <= limits.stuck_usual:
            dead |= {name: share}

    if not dead:
        return []

    worst = max(dead.values())
    names = ", ".join([*dead][:4])
    text = f"{names} did not change in {worst:.0%} of the steps in which the robot moved"
    return [Finding("dead_sensor", DROP, worst, limits.stuck, text)]


def picture_findings(
    cameras: Mapping[str, tuple[float, float]], limits: Thresholds
) -> list[Finding]:
    """Return which cameras froze or went dark.

    Args:
        cameras: name -> (share of dark pictures, share of the moving steps with a frozen picture).
        limits: thresholds.
    """
    found = []
    for name, (dark, frozen) in cameras.items():
        for kind, value, what in (
            ("black_camera", dark, "{share} of its pictures show nothing"),
            ("frozen_camera", frozen, "one and the same picture for {share} of the robot's motion"),
        ):
            if value >= limits.picture:
                severity = DROP if value >= limits.picture_drop else DOWN_WEIGHT
                found.append(
                    Finding(
                        kind,
                        severity,
                        value,
                        limits.picture,
                        f"camera {name}: {what.format(share=format(value, '.0%'))}",
                    )
                )

    return found


def weight_for(findings: Iterable[Finding], limits: Thresholds) -> float:
    """Return how often an episode is to be drawn: 0 to leave it out, 1 as usual."""
    severities = [finding.severity for finding in findings]
    if DROP in severities:
        return 0.0
    lowered = severities.count(DOWN_WEIGHT)
    return max(limits.weight**lowered, limits.least_weight) if lowered else 1.0
