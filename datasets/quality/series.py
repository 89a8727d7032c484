"""An episode for the quality checks: joined series of numbers, and the roles of their columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
# Larger numbers are garbage, whose powers would overflow.
LARGEST = 1e9


@dataclass(frozen=True)
class Columns:
    """Where things are in the episodes of one cell.

    Attributes:
        keys: observations whose rows are vectors of numbers, in the order in which they are joined.
        names: names of the C joined columns.
        units: units of the joined columns, "" where none is stated.
        tool: columns of the tool's x, y and z; () where no names tell them.
        clock: observation that holds the time in seconds, or None.
        cameras: observations that are pictures.
        objects: whether the observation "objects" has a row for each thing, which begins with x, y
            and z.
        actions: names of the A action columns.
        gripper: action column of the gripper, or None.
        motion: action columns that move the robot.
        unit_actions: whether 1 is the full scale of an action by convention.
        hz: steps a second.
    """

    keys: tuple[str, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    tool: tuple[int, ...]
    clock: str | None
    cameras: tuple[str, ...]
    objects: bool
    actions: tuple[str, ...]
    gripper: int | None
    motion: tuple[int, ...]
    unit_actions: bool
    hz: float


@dataclass(frozen=True)
class Series:
    """An episode's numbers, cleaned of what is not finite.

    Attributes:
        numbers: shape (T+1, C), float64, the joined observations.
        actions: shape (T, A), float64, what was executed.
        commands: shape (T, A), float64, what training imitates: the teacher's label where valid,
            else the action.
        clock: shape (T+1,), float64, s, or None.
        scene: shape (T+1, 3 N), float64, m, where things are from the tool, in order of their
            names; N is 0 where no observation holds it.
        bad: how many numbers of observations, actions and labels were not finite.
    """

    numbers: Array
    actions: Array
    commands: Array
    clock: Array | None
    scene: Array
    bad: int

    @property
    def steps(self) -> int:
        """Number of actions T."""
        return len(self.actions)


def filled(array: Array) -> Array:
    """Return an array, shape (T,) or (T, C), with garbage replaced by the value of the row before."""
    bad = ~(np.abs(array) <= LARGEST)
    if not bad.any():
        return array

    flat = array.reshape(len(array), -1).copy()
    bad = bad.reshape(flat.shape)
    flat[bad] = 0.0

    for column in np.flatnonzero(bad.any(axis=0)):
        good = np.flatnonzero(~bad[:, column])
        if len(good):
            before = np.searchsorted(good, np.arange(len(flat)), side="right") - 1
            flat[:, column] = flat[good[np.maximum(before, 0)], column]

    out: Array = flat.reshape(array.shape)
    return out
