"""The columns that the quality checks look at: tool, gripper, clock and cameras."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shopfloor.core import ACTION_CONVENTION
from shopfloor.datasets.disk.strict_json import is_list_of
from shopfloor.datasets.quality.series import Array, Columns, Series, filled
from shopfloor.datasets.reader import Dataset

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


def find_columns(dataset: Dataset, index: int) -> Columns:
    """Decide what is what by the names in `dataset.json` and the shapes of one episode.

    Args:
        dataset: the dataset.
        index: position of an episode, which stands for all of its cell and action size.
    """
    file, raw = dataset.open_episode(index), dataset.identity.raw
    shapes = {key: file.array(key).row_shape for key in file.observation_keys}
    clock = _clock(shapes)
    cameras: list[str] = []
    keys: list[str] = []
    for key, shape in shapes.items():
        if key in raw["cameras"] or (len(shape) == 3 and shape[2] in (1, 3)):
            cameras.append(key)
        elif len(shape) == 1 and shape[0] and key != clock:
            keys.append(key)

    names: list[str] = []
    units: list[str] = []
    for key in keys:
        feature, width = raw["features"].get(key), shapes[key][0]
        for column, name in enumerate(_texts(feature, "names", width)):
            names.append(name or f"{key}_{column}")
        units += _texts(feature, "units", width)

    description = raw["descriptions"].get(dataset.records[index].cell, {})
    actions, frozen = _actions(description, file.array("actions").row_shape)
    gripper: int | None = None
    motion: list[int] = []
    for column, name in enumerate(actions):
        if gripper is None and _GRIPPER.search(name):
            gripper = column
        elif name not in frozen:
            motion.append(column)

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
        motion=tuple(motion),
        unit_actions=raw["action_convention"] == ACTION_CONVENTION,
        hz=float(raw["control_hz"]),
    )


def _clock(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    for key in CLOCKS:
        if key in shapes and np.prod(shapes[key]) == 1:
            return key
    return None


def _are_poses(feature: Mapping[str, Any] | None, shape: Sequence[int]) -> bool:
    names = (feature or {}).get("names")
    return (
        len(shape) == 2
        and isinstance(names, list)
        and names[:3] == ["x", "y", "z"]
        and len(names) == shape[1]
    )


def _texts(feature: Mapping[str, Any] | None, entry: str, width: int) -> list[str]:
    """Return the text that a feature states of each column, empty ones where it states none."""
    stated = (feature or {}).get(entry)
    if not is_list_of(stated, str) or len(stated) != width:
        return [""] * width
    return list(stated)


def _actions(
    description: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[tuple[str, ...], set[str]]:
    """Return the names of the action columns, and those of the columns that are not used."""
    width = shape[0] if shape else 0
    names = description.get("action_names")
    if is_list_of(names, str) and len(names) == width:
        return tuple(names), set(map(str, description.get("frozen_actions", ())))
    return tuple(f"action_{column}" for column in range(width)), set()


def _tool(names: Sequence[str]) -> tuple[int, ...]:
    short = [name.rsplit(".", 1)[-1].lower() for name in names]
    for pattern in _TOOLS:
        wanted = [pattern.format(axis) for axis in "xyz"]
        if set(wanted) <= set(short):
            return tuple(map(short.index, wanted))
    return ()


def read_series(dataset: Dataset, index: int, columns: Columns) -> Series:
    """Read an episode's numbers; raises as `Dataset.read_arrays`."""
    wanted = [*columns.keys, "actions", "label_actions", "label_valid"]
    if columns.clock:
        wanted.append(columns.clock)

    arrays = dataset.read_arrays(index, wanted)
    rows = len(arrays["actions"]) + 1
    parts = [arrays[key].astype(np.float64) for key in columns.keys]
    numbers = np.concatenate(parts, axis=1) if parts else np.zeros((rows, 0))
    actions = arrays["actions"].astype(np.float64)
    labels = np.where(
        arrays["label_valid"][:, None], arrays["label_actions"].astype(np.float64), 0.0
    )
    clock = arrays[columns.clock].astype(np.float64).reshape(rows) if columns.clock else np.zeros(0)
    bad = 0
    for array in (numbers, actions, labels, clock):
        bad += int((~np.isfinite(array)).sum())

    numbers, actions = filled(numbers), filled(actions)

    return Series(
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
    names = file.json_fact("object_names")
    described = dataset.identity.raw["features"][OBJECTS]["names"]
    objects = file.read(OBJECTS).astype(np.float64)
    if isinstance(names, list) and len(names) == objects.shape[1]:
        objects = objects[:, sorted(range(len(names)), key=lambda row: str(names[row]))]
    away = objects[:, :, :3] - numbers[:, None, columns.tool]
    if PRESENT in described:
        away = np.where(objects[:, :, described.index(PRESENT), None] > 0, away, 0.0)

    return filled(away.reshape(len(numbers), -1))
