"""Places on a table, drawn so that parts leave room between them for the fingers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Corner = tuple[float, float]

_TRIES = 300  # without room for one more part, after which all are drawn anew


def scatter(
    low: Corner,
    high: Corner,
    count: int,
    spacing_m: float,
    rng: np.random.Generator,
    tries_each: int = _TRIES,
) -> list[Array]:
    """Draw places in a rectangle.

    Args:
        low: its nearest corner x, y, m.
        high: its furthest corner, m.
        count: how many.
        spacing_m: least distance between two; the rectangle must have room for `count` such places.
        rng: source of all randomness.
        tries_each: places drawn in vain for one part after which all parts are drawn anew.

    Returns:
        Places, each of shape (2,), m.
    """
    spots: list[Array] = []
    tries = 0
    while len(spots) < count:
        spot = rng.uniform(low, high)
        if apart(spot, spots, spacing_m):
            spots.append(spot)
            tries = 0
        elif (tries := tries + 1) == tries_each:
            spots, tries = [], 0

    return spots


def spots_near(
    pose: Array,
    others: Sequence[Array],
    rectangle: tuple[Corner, Corner],
    way_m: tuple[float, float],
    spacing_m: float,
    rng: np.random.Generator,
) -> list[Array]:
    """Draw poses a short way from one, turned as it is.

    Args:
        pose: position and quaternion, shape (7,).
        others: places that stay clear, each of shape (2,), m.
        rectangle: corners between which the new place must be, m.
        way_m: least and greatest distance from `pose`.
        spacing_m: least distance from each of `others`.
        rng: source of all randomness.

    Returns:
        Those of 24 poses that have room, each of shape (7,); none where it is tight.
    """
    low, high = rectangle

    def fits(spot: Array) -> bool:
        inside = (spot[:2] >= low).all() and (spot[:2] <= high).all()
        return bool(inside) and apart(spot[:2], others, spacing_m)

    return poses_near(pose, way_m, fits, rng)


def poses_near(
    pose: Array,
    way_m: tuple[float, float],
    fits: Callable[[Array], bool],
    rng: np.random.Generator,
    tries: int = 24,
) -> list[Array]:
    """Draw poses a short way from one, turned as it is, and return those that fit, each of shape (7,).

    Args:
        pose: position and quaternion, shape (7,).
        way_m: least and greatest distance from `pose`.
        fits: whether a pose, shape (7,), has room.
        rng: source of all randomness.
        tries: how many are drawn.
    """
    spots = []
    for _ in range(tries):
        angle, distance = rng.uniform(-math.pi, math.pi), rng.uniform(*way_m)
        spot = pose.copy()
        spot[:2] += distance * np.array([math.cos(angle), math.sin(angle)])
        if fits(spot):
            spots.append(spot)

    return spots


def apart(spot: Array, others: Sequence[Array], spacing_m: float) -> bool:
    """Return whether a place, shape (2,), m, is further than that from all others."""
    return all(float(np.hypot(*(spot - other))) > spacing_m for other in others)
