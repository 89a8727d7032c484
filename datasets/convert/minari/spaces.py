"""Minari's spaces: how `metadata.json` describes observations and actions, as plain JSON data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.datasets.disk.errors import DamagedFileError

MAX_DEPTH = 8
_NUMBERS = ("Box", "Discrete", "MultiDiscrete", "MultiBinary")
_LEAVES = (*_NUMBERS, "Text")
ADVICE = "Get a whole copy of the dataset from where it came from."


@dataclass(frozen=True)
class SpaceLeaf:
    """A space without spaces in it.

    Attributes:
        path: names on the way to it, joined by "/"; "" if it is the whole space.
        kind: "Box", "Discrete", "MultiDiscrete", "MultiBinary" or "Text".
        shape: of a value; () for one number, and for a text.
        dtype: name of its dtype, as stated.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def numbers(self) -> int:
        """How many numbers a value has."""
        return math.prod(self.shape)


def read_space(file: Path, name: str, text: object) -> list[SpaceLeaf]:
    """Return the leaves of a space, in Gymnasium's order.

    Args:
        file: the metadata, for messages.
        name: the entry that holds the space.
        text: its value, JSON in a text.

    Raises:
        DamagedFileError: it is no space.
    """
    leaves: list[SpaceLeaf] = []
    try:
        if not isinstance(text, str):
            raise TypeError(f"it is {type(text).__name__}, expected text")  # noqa: TRY301  # one kind of error
        # Bounds, a number for each pixel, are not looked at: all are one and the same object here.
        _collect(json.loads(text, parse_float=_bound, parse_constant=_bound), "", 0, leaves)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedFileError(
            file, f"its {name} cannot be used ({type(error).__name__}: {error})", ADVICE
        ) from None

    return leaves


def _bound(_: str) -> float:
    return 0.0


def _collect(space: Mapping[str, Any], path: str, depth: int, leaves: list[SpaceLeaf]) -> None:
    kind = space["type"]
    if depth > MAX_DEPTH:
        raise ValueError(f"spaces are nested deeper than {MAX_DEPTH}")

    if kind == "Dict":
        inner = list(space["subspaces"].items())
    elif kind == "Tuple":
        inner = [(f"_index_{number}", inside) for number, inside in enumerate(space["subspaces"])]
    elif kind in _LEAVES:
        leaves.append(SpaceLeaf(path, kind, _shape(space), str(space.get("dtype", ""))))
        return
    else:
        raise ValueError(
            f"{path or 'it'} is a {kind!r:.40}; expected one of "
            f"{', '.join(('Dict', 'Tuple', *_LEAVES))}"
        )

    for name, inside in inner:
        if not isinstance(name, str) or not name or "/" in name or name in (".", ".."):
            raise ValueError(f"a space has the name {name!r:.60}")
        _collect(inside, f"{path}/{name}" if path else name, depth + 1, leaves)


def _shape(space: Mapping[str, Any]) -> tuple[int, ...]:
    kind = space["type"]
    if kind == "Box":
        sides = space["shape"]
    elif kind == "MultiDiscrete":
        sides = np.shape(space["nvec"])
    elif kind == "MultiBinary":
        sides = space["n"] if isinstance(space["n"], list) else [space["n"]]
    else:
        return ()

    if not all(
        isinstance(side, int) and not isinstance(side, bool) and side >= 0 for side in sides
    ):
        raise ValueError(f"a {kind} has the shape {sides!r:.60}")
    return tuple(sides)


def box_json(
    rows: npt.NDArray[Any], low: float | None = None, high: float | None = None
) -> dict[str, Any]:
    """Return a Box for the rows of an array; Minari's reader wants a bound for each number.

    Args:
        rows: the array.
        low: the lowest number, that of the dtype if not given.
        high: the highest number, that of the dtype if not given.
    """
    if rows.dtype.kind == "f":
        bounds = (-math.inf, math.inf)
    else:
        info = np.iinfo(rows.dtype)
        bounds = (int(info.min), int(info.max))

    low, high = bounds[0] if low is None else low, bounds[1] if high is None else high
    shape = rows.shape[1:]
    return {
        "type": "Box",
        "dtype": rows.dtype.name,
        "shape": list(shape),
        "low": np.full(shape, low, rows.dtype).tolist(),
        "high": np.full(shape, high, rows.dtype).tolist(),
    }
