"""How a cell describes itself: its id, its number of action components and `describe`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from shopfloor.collectors.conformity.contract import demand, no_exception
from shopfloor.core import CONTROL_HZ, ActionSpec, Cell, canonical_json
from shopfloor.datasets.format import kinds

STATE, OBJECTS = "state", "objects"
SHAPES = {STATE: "[S]", OBJECTS: "[N, 12]"}
# By kind of observation: its dtype and its shape.
EXPECTED = {
    kinds.VECTOR: ("float32", "[...]"),
    kinds.PICTURE: ("uint8", "[height, width, 3]"),
    kinds.DEPTH: ("float32", "[height, width]"),
    kinds.IDS: ("int32", "[height, width]"),
}


def check_identity(cell: Cell) -> None:
    """Check the id and the number of action components."""
    cell_id, size = cell.cell_id, cell.action_size
    demand(
        isinstance(cell_id, str) and re.fullmatch(r"[^/\s]+/[^/\s]+-v\d+", cell_id),
        type(cell).__name__,
        f"cell_id is {cell_id!r}",
        "a text such as 'acme/ParkCrate-v0'",
        "Name the owner, the cell and its version.",
    )

    demand(
        isinstance(size, int) and size >= 1,
        cell_id,
        f"action_size is {size!r}",
        "an int of at least 1",
        "Count the components of an action.",
    )


def checked_description(cell: Cell) -> dict[str, Any]:
    """Return what `describe` returns, which is JSON with all keys that are needed."""
    where = f"{cell.cell_id}, describe()"
    with no_exception(where, "the call"):
        description = cell.describe()
        again = cell.describe()

    expected, advice = "plain JSON data", "Use dicts with texts as keys, lists, texts and numbers."
    demand(isinstance(description, dict), where, f"it is {description!r}", expected, advice)
    try:
        text = canonical_json(description)
    except (TypeError, ValueError) as error:
        demand(False, where, f"{error}", expected, advice)

    demand(
        canonical_json(again) == text,
        where,
        "two calls return different data",
        "the same every time",
        "Describe the cell, not the moment.",
    )

    for key, value in {"cell": cell.cell_id, "control_hz": CONTROL_HZ}.items():
        found = f"{key!r} is {description.get(key)!r}"
        advice = "It is written into every dataset."
        demand(description.get(key) == value, where, found, repr(value), advice)

    robot = description.get("robot")
    demand(
        isinstance(robot, str) and robot,
        where,
        f"'robot' is {robot!r}",
        "the robot's name",
        "Name it, even where there is only one.",
    )

    _check_actions(where, description, cell.action_size)
    _check_features(where, description.get("features"))
    return description


def _check_actions(where: str, description: Mapping[str, Any], size: int) -> None:
    names = ActionSpec.of(description, size).names
    demand(
        len(names) == len(set(names)) == size,
        where,
        f"'action_names' are {', '.join(names)}",
        f"{size} different ones",
        "Name each component once.",
    )

    unknown = sorted(set(description.get("frozen_actions", ())) - set(names))
    demand(
        not unknown,
        where,
        f"'frozen_actions' has {', '.join(unknown)}",
        f"some of {', '.join(names)}",
        "List names of components.",
    )

    limit = description.get("max_episode_steps", 1)
    demand(
        isinstance(limit, int) and limit >= 1,
        where,
        f"'max_episode_steps' is {limit!r}",
        "an int of at least 1",
        "Say after how many steps `advance` reports that the episode is truncated.",
    )


def _check_features(where: str, features: Any) -> None:  # noqa: ANN401  # whatever is there
    demand(
        isinstance(features, dict) and STATE in features,
        where,
        f"'features' is {features!r}",
        "a dict with 'state' and all other observations",
        "Describe every observation.",
    )

    for key, feature in features.items():
        demand(
            isinstance(feature, dict) and {"shape", "dtype"} <= set(feature),
            where,
            f"feature {key!r} is {feature!r}",
            "a dict with 'shape', 'dtype', 'names' and 'units'",
            "Describe the array that `observe` returns.",
        )

        kind = kinds.VECTOR if key in SHAPES else kinds.kind_of(feature)
        dtype, shape = EXPECTED[kind]
        demand(
            feature["dtype"] == dtype,
            where,
            f"the dtype of {key!r} is {feature['dtype']!r}",
            f"{dtype!r}, as it is a {kind}",
            "Vectors are float32, pictures uint8, depth maps float32 and ids int32.",
        )

        demand(
            _is_shape(key, kind, feature["shape"]),
            where,
            f"the shape of {key!r} is {feature['shape']!r}",
            SHAPES.get(key, shape),
            "Describe the array that `observe` returns.",
        )


def _is_shape(key: str, kind: str, shape: object) -> bool:
    if not isinstance(shape, list | tuple) or not all(isinstance(side, int) for side in shape):
        return False
    if key == STATE:
        return len(shape) == 1
    if key == OBJECTS:
        return len(shape) == 2 and shape[-1] == 12
    if kind == kinds.PICTURE:
        return len(shape) == 3 and shape[-1] == 3
    return len(shape) == 2 if kind in (kinds.DEPTH, kinds.IDS) else len(shape) >= 1
