"""How an episode moves: idle time, jerk, length of the path, gripper chatter, saturation, jumps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from shopfloor.datasets.quality.signals import Array, Signals
from shopfloor.datasets.quality.survey import Survey

Metrics = dict[str, float | None]
CHATTER_S = (
    0.25  # a gripper command that is taken back sooner was not meant: fingers need 0.4 s to close
)
NEAR_ZERO = 0.05  # of full scale: commands below it say "stay" and cannot saturate
AT_LIMIT = 0.999  # of full scale
FEW_COMMANDS = 30  # fewer say nothing of a share
FEW_STEPS = 4  # fewer give no third difference


def motion_metrics(signals: Signals, survey: Survey) -> Metrics:
    """Return an episode's figures of motion; None for what it is too short for or has no columns for.

    Args:
        signals: the episode.
        survey: of its cell.
    """
    return {
        **_idle(signals, survey),
        **_jerk(signals, survey),
        **_path(signals, survey),
        **_gripper(signals, survey),
        **_saturation(signals, survey),
    }


def positions(signals: Signals, survey: Survey) -> Array | None:
    """Return what moves through space: the tool, m, shape (T+1, 3); else smooth columns in units of their spread."""
    columns = survey.columns
    if columns.tool:
        return signals.numbers[:, columns.tool]
    smooth = list(survey.smooth)
    return signals.numbers[:, smooth] / survey.spread[smooth] if smooth else None


def moving(signals: Signals, survey: Survey) -> npt.NDArray[np.bool_]:
    """Return in which steps any column moves, shape (T,), bool."""
    return np.asarray(
        (np.abs(np.diff(signals.numbers, axis=0)) > survey.still).any(axis=1), dtype=np.bool_
    )


def _idle(signals: Signals, survey: Survey) -> Metrics:
    T, hz = signals.steps, survey.columns.hz
    names = ("idle_share", "idle_start_s", "idle_end_s", "idle_pause_s")
    if not T or not survey.columns.names:
        return dict.fromkeys(names)
    steps = np.flatnonzero(moving(signals, survey))
    if not len(steps):
        return dict(zip(names, (1.0, T / hz, T / hz, 0.0), strict=True))
    pause = int(np.diff(steps).max(initial=1)) - 1
    values = (1.0 - len(steps) / T, int(steps[0]) / hz, (T - 1 - int(steps[-1])) / hz, pause / hz)
    return dict(zip(names, values, strict=True))


def _jerk(signals: Signals, survey: Survey) -> Metrics:
    """Root mean square of the third derivative, and the log dimensionless jerk (Balasubramanian et al. 2015)."""
    place, hz = positions(signals, survey), survey.columns.hz
    if place is None or signals.steps < FEW_STEPS:
        return {"jerk": None, "log_dimensionless_jerk": None, "largest_step": None}

    velocity = np.diff(place, axis=0) * hz
    speed = np.linalg.norm(velocity, axis=1)
    jerk = np.diff(velocity, n=2, axis=0) * hz**2
    square = (jerk * jerk).sum(axis=1)

    # Without a tool, a step that most columns take: one alone may be an angle that wraps around.
    step = float((speed if survey.columns.tool else np.median(np.abs(velocity), axis=1)).max()) / hz
    peak, seconds = float(speed.max()), signals.steps / hz
    integral = float(square.sum()) / hz
    smooth = (
        -math.log(integral * seconds**3 / peak**2) if peak > 1e-9 and integral > 1e-12 else None
    )

    return {
        "jerk": math.sqrt(square.mean()),
        "log_dimensionless_jerk": smooth,
        "largest_step": step,
    }


def _path(signals: Signals, survey: Survey) -> Metrics:
    """Length of the path, and as a multiple of the straight way over the places where the gripper switched."""
    place = positions(signals, survey)
    if place is None or not signals.steps:
        return {"path_length": None, "path_ratio": None}
    steps = np.linalg.norm(np.diff(place, axis=0), axis=1)
    length = float(steps.sum())
    stops = [0, *kept_switches(signals, survey), signals.steps]
    straight = float(np.linalg.norm(np.diff(place[stops], axis=0), axis=1).sum())
    far = 0.05 if survey.columns.tool else 0.5  # m, or spreads: below it the ratio says nothing
    return {"path_length": length, "path_ratio": length / straight if straight > far else None}


def switches(signals: Signals, survey: Survey) -> list[int]:
    """Return the steps at which the gripper's command changes sides."""
    gripper = survey.columns.gripper
    if gripper is None:
        return []
    closes = signals.commands[:, gripper] > survey.middle
    return [int(step) for step in np.flatnonzero(closes[1:] != closes[:-1]) + 1]


def kept_switches(signals: Signals, survey: Survey) -> list[int]:
    """Return the switches that lead to a command held for `CHATTER_S`, and to another one than was held before."""
    gripper = survey.columns.gripper
    if gripper is None or not signals.steps:
        return []

    closes = signals.commands[:, gripper] > survey.middle
    starts = [0, *switches(signals, survey)]
    least = CHATTER_S * survey.columns.hz
    kept: list[int] = []
    held: bool | None = None

    for start, stop in zip(starts, [*starts[1:], signals.steps], strict=True):
        closed = bool(closes[start])
        if stop - start < least or closed == held:
            continue

        if held is not None:
            kept.append(start)
        held = closed

    return kept


def _gripper(signals: Signals, survey: Survey) -> Metrics:
    if survey.columns.gripper is None or not signals.steps:
        return {"gripper_switches": None, "gripper_chatter": None, "gripper_chatter_per_s": None}
    at = switches(signals, survey)
    brief = int((np.diff(at) < CHATTER_S * survey.columns.hz).sum()) if len(at) > 1 else 0
    return {
        "gripper_switches": float(len(at)),
        "gripper_chatter": float(brief),
        "gripper_chatter_per_s": brief * survey.columns.hz / signals.steps,
    }


def _saturation(signals: Signals, survey: Survey) -> Metrics:
    motion = list(survey.columns.motion)
    span = (survey.high - survey.low)[motion]
    used = [column for column, width in zip(motion, span, strict=True) if width > 1e-9]
    if not used or not signals.steps:
        return {"saturation": None, "saturation_run_s": None}

    middle, half = 0.5 * (survey.low + survey.high)[used], 0.5 * (survey.high - survey.low)[used]
    size = np.abs((signals.commands[:, used] - middle) / half)
    active, limit = size > NEAR_ZERO, size >= AT_LIMIT
    if 0 < active.sum() < FEW_COMMANDS:
        return {"saturation": None, "saturation_run_s": None}

    share = float(limit.sum() / active.sum()) if active.any() else 0.0
    return {
        "saturation": share,
        "saturation_run_s": longest_run(np.asarray(limit.any(axis=1), dtype=np.bool_))
        / survey.columns.hz,
    }


def longest_run(flags: npt.NDArray[np.bool_]) -> int:
    """Return the length of the longest stretch of True, shape (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def report(values: Mapping[str, float | None]) -> Metrics:
    """Return figures rounded to six significant digits, as reports hold them; None for what is no number."""
    return {name: rounded(value) for name, value in values.items()}


def rounded(value: float | None) -> float | None:
    """Return a figure with six significant digits, None for what is no number."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
