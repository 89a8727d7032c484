"""What the quality checks look at: which columns of an episode are the tool, the gripper, the clock, the cameras."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import ACTION_CONVENTION
from shopfloor.datasets.reader import Dataset

Array = npt.NDArray[np.float64]
OBJECTS = "objects"
PRESENT = "present"
CLOCKS = ("timestamp", "timestamps", "time", "clock")
# Names of the three coordinates of the tool, most telling first; "{}" stands for x, y and z.
_TOOLS = (
    "tool_{}",
    "tcp_{}",
    "ee_{}",
    "eef_{}",
    "ee_pos_{}",
    "eef_pos_{}",
    "end_effector_{}",
    "hand_{}",
    "{}",
)
_GRIPPER = re.compile(r"grip|finger|jaw")
LARGEST = 1e9  # larger numbers are garbage; their powers would overflow


@dataclass(frozen=True)
class Columns:
    """Where things are in the episodes of one cell.

    Attributes:
        keys: observations whose rows are vectors of numbers, in the order in which they are joined.
        names: of the C joined columns, C in all.
        units: of the joined columns, "" where not said.
        tool: columns of the tool's x, y and z; () where no names say so.
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
class Signals:
    """An episode's numbers, cleaned of what is not finite.

    Attributes:
        numbers: shape (T+1, C), float64, the joined observations.
        actions: shape (T, A), float64, what was executed.
        commands: shape (T, A), float64, what training imitates: the teacher's label where valid,
            else the action.
        clock: shape (T+1,), float64, s, or None.
        scene: shape (T+1, 3 N), float64, m, where things are from the tool, in order of their
            names; N is 0 where no observation says it.
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


def find_columns(dataset: Dataset, index: int) -> Columns:
    """Decide what is what by the names in `dataset.json` and the shapes of one episode.

    Args:
        dataset: the dataset.
        index: position of an episode; others of its cell and action size are alike.
    """
    file, raw = dataset.open_episode(index), dataset.identity.raw
    shapes = {key: file.array(key).row_shape for key in file.observation_keys}
    cameras = [
        key
        for key in shapes
        if key in raw["cameras"] or (len(shapes[key]) == 3 and shapes[key][2] in (1, 3))
    ]

    clock = next((key for key in CLOCKS if key in shapes and np.prod(shapes[key]) == 1), None)
    keys = [
        key
        for key, shape in shapes.items()
        if len(shape) == 1 and shape[0] and key != clock and key not in cameras
    ]

    names, units = [], []
    for key in keys:
        said = _labels(raw["features"].get(key), shapes[key][0])
        names += [name or f"{key}_{column}" for column, name in enumerate(said[0])]
        units += said[1]

    actions, frozen = _actions(
        raw["descriptions"].get(dataset.records[index].cell, {}), file.array("actions").row_shape
    )
    gripper = next((column for column, name in enumerate(actions) if _GRIPPER.search(name)), None)

    return Columns(
        keys=tuple(keys),
        names=tuple(names),
        units=tuple(units),
        tool=_tool(names),
        clock=clock,
        cameras=tuple(sorted(cameras)),
        objects=_are_poses(raw["features"].get(OBJECTS), shapes.get(OBJECTS, ())),
        actions=actions,
        gripper=gripper,
        motion=tuple(
            column
            for column, name in enumerate(actions)
            if column != gripper and name not in frozen
        ),
        unit_actions=raw["action_convention"] == ACTION_CONVENTION,
        hz=float(raw["control_hz"]),
    )


def _are_poses(feature: Mapping[str, Any] | None, shape: Sequence[int]) -> bool:
    names = (feature or {}).get("names")
    return (
        len(shape) == 2
        and isinstance(names, list)
        and names[:3] == ["x", "y", "z"]
        and len(names) == shape[1]
    )


def _labels(feature: Mapping[str, Any] | None, width: int) -> tuple[list[str], list[str]]:
    """Return names and units of a feature's columns, empty texts where it does not say them."""
    found = []
    for what in ("names", "units"):
        said = (feature or {}).get(what)
        fits = (
            isinstance(said, list)
            and len(said) == width
            and all(isinstance(text, str) for text in said)
        )
        found.append([str(text) for text in said] if fits and said else [""] * width)

    return found[0], found[1]


def _actions(
    description: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[tuple[str, ...], set[str]]:
    said, frozen = description.get("action_names"), description.get("frozen_actions", ())
    width = shape[0] if shape else 0
    if (
        isinstance(said, list)
        and len(said) == width
        and all(isinstance(name, str) for name in said)
    ):
        return tuple(said), {str(name) for name in frozen}
    return tuple(f"action_{column}" for column in range(width)), set()


def _tool(names: Sequence[str]) -> tuple[int, ...]:
    short = [name.rsplit(".", 1)[-1].lower() for name in names]
    for pattern in _TOOLS:
        wanted = [pattern.format(axis) for axis in "xyz"]
        if all(name in short for name in wanted):
            return tuple(short.index(name) for name in wanted)
    return ()


def read_signals(dataset: Dataset, index: int, columns: Columns) -> Signals:
    """Read an episode's numbers; raises DamagedFileError or UnknownNameError as `Dataset.read_arrays`."""
    wanted = [
        *columns.keys,
        *([columns.clock] if columns.clock else []),
        "actions",
        "label_actions",
        "label_valid",
    ]

    arrays = dataset.read_arrays(index, wanted)
    rows = len(arrays["actions"]) + 1
    parts = [arrays[key].astype(np.float64) for key in columns.keys]
    numbers = np.concatenate(parts, axis=1) if parts else np.zeros((rows, 0))
    actions = arrays["actions"].astype(np.float64)
    labels = np.where(
        arrays["label_valid"][:, None], arrays["label_actions"].astype(np.float64), 0.0
    )
    clock = arrays[columns.clock].astype(np.float64).reshape(rows) if columns.clock else np.zeros(0)
    bad = sum(int((~np.isfinite(array)).sum()) for array in (numbers, actions, labels, clock))
    numbers, actions = filled(numbers), filled(actions)

    return Signals(
        numbers=numbers,
        actions=actions,
        commands=np.where(arrays["label_valid"][:, None], filled(labels), actions),
        clock=filled(clock) if columns.clock else None,
        scene=_scene(dataset, index, columns, numbers),
        bad=bad,
    )


def _scene(dataset: Dataset, index: int, columns: Columns, numbers: Array) -> Array:
    if not (columns.objects and columns.tool):
        return np.zeros((len(numbers), 0))

    file = dataset.open_episode(index)
    names, said = file.json_fact("object_names"), dataset.identity.raw["features"][OBJECTS]["names"]
    objects = file.read(OBJECTS).astype(np.float64)
    if isinstance(names, list) and len(names) == objects.shape[1]:
        objects = objects[:, sorted(range(len(names)), key=lambda row: str(names[row]))]
    away = objects[:, :, :3] - numbers[:, None, columns.tool]
    if PRESENT in said:
        away = np.where(objects[:, :, said.index(PRESENT), None] > 0, away, 0.0)

    return filled(away.reshape(len(numbers), -1))


def filled(array: Array) -> Array:
    """Return an array, shape (T,) or (T, C), in which what is not a number of sensible size repeats the row before."""
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
