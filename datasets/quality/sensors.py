"""Faults of recorders and sensors: unsteady clocks, stuck sensors, frozen and dark cameras."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopfloor.core import CameraTrack
from shopfloor.datasets.quality.coupling import driver
from shopfloor.datasets.quality.figures import Metrics
from shopfloor.datasets.quality.motion import longest_run, moving, positions
from shopfloor.datasets.quality.series import Array, Series
from shopfloor.datasets.quality.survey import Survey

OFF = 0.5  # an interval that differs from the usual one by more than this share of it is off
# Equal pictures in a row, at the least: slow motion can be less than a pixel for a few.
FROZEN_FRAMES = 5
FROZEN_M = 0.03  # that the tool gets away meanwhile
ASKED = 1e-6  # smaller commands ask for nothing
DARK_MEAN, FLAT_STD = 8.0, 3.0  # of 255: a picture whose mean or spread is below shows nothing


def clock_metrics(series: Series, hz: float) -> Metrics:
    """Return the share of intervals that are off, the dropped steps, and whether time ran back.

    Args:
        series: the episode.
        hz: steps a second that the dataset promises.
    """
    if series.clock is None or series.steps < 2:
        return {
            "clock_off": None,
            "clock_dropped": None,
            "clock_backwards": None,
            "clock_rate_hz": None,
        }

    intervals = np.diff(series.clock)
    usual = float(np.median(intervals))
    if usual <= 0:
        return {
            "clock_off": 1.0,
            "clock_dropped": 0.0,
            "clock_backwards": 1.0,
            "clock_rate_hz": 0.0,
        }

    off = np.abs(intervals - usual) > OFF * usual
    dropped = np.rint(intervals / usual - 1.0).clip(0.0)
    return {
        "clock_off": float(off.mean()),
        "clock_dropped": float(dropped.sum()),
        "clock_backwards": float((intervals <= 0).any()),
        "clock_rate_hz": 1.0 / usual,
    }


def stuck(series: Series, survey: Survey) -> Array:
    """Return, for each column, the share of the moving steps in its longest stretch of no change.

    Steps in which the action that drives a column asks for nothing do not count for it.

    Returns:
        Shape (C,), float64, 0 to 1; 0 in an episode that hardly moves.
    """
    C = len(survey.columns.names)
    steps = moving(series, survey)
    if steps.sum() < FROZEN_FRAMES:
        return np.zeros(C)

    changes = np.diff(series.numbers, axis=0)
    asked = np.repeat(steps[:, None], C, axis=1)
    for pair in survey.pairs:
        asked[:, pair.column] &= np.abs(driver(series, pair)) > ASKED
    out = np.zeros(C)

    for column in range(C):
        same = changes[asked[:, column], column] == 0.0
        if len(same) >= FROZEN_FRAMES:
            out[column] = longest_run(same) / len(same)
    return out


@dataclass(frozen=True)
class Pictures:
    """What a camera saw.

    Attributes:
        dark: share of pictures that show nothing.
        frozen: share of the moving steps in which the picture did not change, in stretches worth
            counting.
        frames: number of pictures.
    """

    dark: float
    frozen: float
    frames: int


def look(
    pictures: npt.NDArray[np.uint8],
    series: Series,
    survey: Survey,
    track: CameraTrack | None = None,
) -> Pictures:
    """Look at an episode's pictures of one camera.

    Args:
        pictures: shape (T+1, height, width, channels), uint8.
        series: the episode.
        survey: the survey of its cell.
        track: where the camera was; with it, motion outside of the picture does not count.
    """
    flat = pictures.reshape(len(pictures), -1)
    mean = flat.mean(axis=1)
    # One picture after the other: the whole episode in floating point would take eight times its
    # memory.
    spread = np.array([float(row.std()) for row in flat])
    dark = (mean < DARK_MEAN) | (spread < FLAT_STD)
    same = np.array(
        [bool(np.array_equal(one, other)) for one, other in itertools.pairwise(flat)], dtype=bool
    )
    steps = moving(series, survey)

    if track is not None and survey.columns.tool:
        seen = in_view(series.numbers[:, survey.columns.tool], track, pictures.shape[1:3])
        steps &= seen[:-1] & seen[1:]

    frozen = same & _long_stretches(same, series, survey, steps) & ~dark[1:]
    share = float((frozen & steps).sum() / steps.sum()) if steps.any() else 0.0
    return Pictures(float(dark.mean()), share, len(pictures))


def in_view(tool: Array, track: CameraTrack, size: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return in which pictures a camera sees the tool, shape (T+1,), bool.

    Args:
        tool: shape (T+1, 3), m, in the frame of the robot's base, which is the world's.
        track: the camera's track.
        size: (height, width) of its pictures, pixels.
    """
    turned, eye = track.extrinsics[:, :3, :3], track.extrinsics[:, :3, 3]
    seen = np.einsum("tji,tj->ti", turned, tool - eye)  # world to camera
    depth = np.maximum(seen[:, 2], 1e-9)
    pixels = seen @ track.intrinsics.T / depth[:, None]

    inside = (
        (pixels[:, 0] >= 0)
        & (pixels[:, 0] < size[1])
        & (pixels[:, 1] >= 0)
        & (pixels[:, 1] < size[0])
    )

    found: npt.NDArray[np.bool_] = inside & (seen[:, 2] > 0)
    return found


def _long_stretches(
    same: npt.NDArray[np.bool_], series: Series, survey: Survey, steps: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Return which steps, shape (T,), lie in stretches of equal pictures of a moving robot."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    place = positions(series, survey) if survey.columns.tool else None
    kept = np.zeros(len(same), dtype=bool)

    for first, last in zip(edges[::2], edges[1::2], strict=True):
        if last - first < FROZEN_FRAMES or not steps[first:last].any():
            continue

        if place is not None:
            if np.linalg.norm(place[first : last + 1] - place[first], axis=1).max() < FROZEN_M:
                continue
        elif steps[first:last].sum() < FROZEN_FRAMES:
            continue

        kept[first:last] = True

    return kept
