"""How an episode moves: idle time, jerk, length of the path, gripper chatter, saturation, jumps."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from shopfloor.datasets.quality.figures import Metrics
from shopfloor.datasets.quality.series import Array, Series
from shopfloor.datasets.quality.survey import Survey

# A gripper command that is taken back sooner was not meant: fingers need 0.4 s to close.
CHATTER_S = 0.25
NEAR_ZERO = 0.05  # of full scale: commands below it mean "stay" and cannot saturate
AT_LIMIT = 0.999  # of full scale
FEW_COMMANDS = 30  # fewer give no meaningful share
FEW_STEPS = 4  # fewer give no third difference


def motion_metrics(series: Series, survey: Survey) -> Metrics:
    """Return an episode's figures of motion; None for those that it is too short for or lacks columns.

    Args:
        series: the episode.
        survey: the survey of its cell.
    """
    return {
        **_idle(series, survey),
        **_jerk(series, survey),
        **_path(series, survey),
        **_gripper(series, survey),
        **_saturation(series, survey),
    }


def positions(series: Series, survey: Survey) -> Array | None:
    """Return what moves through space: the tool, m, shape (T+1, 3); else smooth columns, spreads."""
    columns = survey.columns
    if columns.tool:
        return series.numbers[:, columns.tool]
    smooth = list(survey.smooth)
    return series.numbers[:, smooth] / survey.spread[smooth] if smooth else None


def moving(series: Series, survey: Survey) -> npt.NDArray[np.bool_]:
    """Return in which steps any column moves, shape (T,), bool."""
    return np.asarray(
        (np.abs(np.diff(series.numbers, axis=0)) > survey.still).any(axis=1), dtype=np.bool_
    )


def _idle(series: Series, survey: Survey) -> Metrics:
    T, hz = series.steps, survey.columns.hz
    names = ("idle_share", "idle_start_s", "idle_end_s", "idle_pause_s")
    if not T or not survey.columns.names:
        return dict.fromkeys(names)
    steps = np.flatnonzero(moving(series, survey))
    if not len(steps):
        return dict(zip(names, (1.0, T / hz, T / hz, 0.0), strict=True))
    pause = int(np.diff(steps).max(initial=1)) - 1
    values = (1.0 - len(steps) / T, int(steps[0]) / hz, (T - 1 - int(steps[-1])) / hz, pause / hz)
    return dict(zip(names, values, strict=True))


def _jerk(series: Series, survey: Survey) -> Metrics:
    """Root mean square jerk, and log dimensionless jerk (Balasubramanian et al. 2015)."""
    place, hz = positions(series, survey), survey.columns.hz
    if place is None or series.steps < FEW_STEPS:
        return {"jerk": None, "log_dimensionless_jerk": None, "largest_step": None}

    velocity = np.diff(place, axis=0) * hz
    speed = np.linalg.norm(velocity, axis=1)
    jerk = np.diff(velocity, n=2, axis=0) * hz**2
    square = (jerk * jerk).sum(axis=1)

    # Without a tool, a step that most columns take: one alone may be an angle that wraps around.
    step = float((speed if survey.columns.tool else np.median(np.abs(velocity), axis=1)).max()) / hz
    peak, seconds = float(speed.max()), series.steps / hz
    integral = float(square.sum()) / hz
    smooth = (
        -math.log(integral * seconds**3 / peak**2) if peak > 1e-9 and integral > 1e-12 else None
    )

    return {
        "jerk": math.sqrt(square.mean()),
        "log_dimensionless_jerk": smooth,
        "largest_step": step,
    }


def _path(series: Series, survey: Survey) -> Metrics:
    """Length of the path, and as a multiple of the straight way between switches of the gripper."""
    place = positions(series, survey)
    if place is None or not series.steps:
        return {"path_length": None, "path_ratio": None}
    steps = np.linalg.norm(np.diff(place, axis=0), axis=1)
    length = float(steps.sum())
    stops = [0, *kept_switches(series, survey), series.steps]
    straight = float(np.linalg.norm(np.diff(place[stops], axis=0), axis=1).sum())
    far = 0.05 if survey.columns.tool else 0.5  # m, or spreads: below it the ratio means nothing
    return {"path_length": length, "path_ratio": length / straight if straight > far else None}


def switches(series: Series, survey: Survey) -> list[int]:
    """Return the steps at which the gripper's command changes sides."""
    gripper = survey.columns.gripper
    if gripper is None:
        return []
    closes = series.commands[:, gripper] > survey.middle
    steps: list[int] = (np.flatnonzero(closes[1:] != closes[:-1]) + 1).tolist()
    return steps


def kept_switches(series: Series, survey: Survey) -> list[int]:
    """Return the switches to a command that is held for `CHATTER_S` and differs from the one before."""
    gripper = survey.columns.gripper
    if gripper is None or not series.steps:
        return []

    closes = series.commands[:, gripper] > survey.middle
    starts = [0, *switches(series, survey)]
    least = CHATTER_S * survey.columns.hz
    kept: list[int] = []
    held: bool | None = None

    for start, stop in zip(starts, [*starts[1:], series.steps], strict=True):
        closed = bool(closes[start])
        if stop - start < least or closed == held:
            continue

        if held is not None:
            kept.append(start)
        held = closed

    return kept


def _gripper(series: Series, survey: Survey) -> Metrics:
    if survey.columns.gripper is None or not series.steps:
        return {"gripper_switches": None, "gripper_chatter": None, "gripper_chatter_per_s": None}
    at = switches(series, survey)
    brief = int((np.diff(at) < CHATTER_S * survey.columns.hz).sum()) if len(at) > 1 else 0
    return {
        "gripper_switches": float(len(at)),
        "gripper_chatter": float(brief),
        "gripper_chatter_per_s": brief * survey.columns.hz / series.steps,
    }


def _saturation(series: Series, survey: Survey) -> Metrics:
    motion = list(survey.columns.motion)
    span = (survey.high - survey.low)[motion]
    used = [column for column, width in zip(motion, span, strict=True) if width > 1e-9]
    if not used or not series.steps:
        return {"saturation": None, "saturation_run_s": None}

    middle, half = 0.5 * (survey.low + survey.high)[used], 0.5 * (survey.high - survey.low)[used]
    size = np.abs((series.commands[:, used] - middle) / half)
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
