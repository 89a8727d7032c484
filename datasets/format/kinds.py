"""Kinds of observations: what a description's feature is decides how it is treated, not what it is called.

vector: numbers of a sensor or of the task, any shape; picture: (H, W, C), uint8; depth: (H, W),
floats, m; ids: (H, W), integers, what each pixel shows. A feature may say its "kind", and of which
"camera" a depth or ids map is; without one the map is there at every step, as vectors are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from shopfloor.core import UnknownNameError

VECTOR, PICTURE, DEPTH, IDS = KINDS = ("vector", "picture", "depth", "ids")
Features: TypeAlias = Mapping[str, Mapping[str, Any]]


def kind_of(feature: Mapping[str, Any]) -> str:
    """Return the kind of a described feature, by its dtype, shape and names where it does not say it.

    Raises:
        UnknownNameError: it says a kind that is none.
    """
    said = feature.get("kind")
    if said is not None:
        if said not in KINDS:
            raise UnknownNameError("kind of observation", str(said), KINDS)
        return str(said)

    dtype, sides = feature.get("dtype"), len(feature.get("shape", ()))
    if dtype == "uint8" and sides == 3:
        return PICTURE
    # A table of numbers has two sides, too: only names tell it from a map.
    if sides != 2 or list(feature.get("names") or ())[:2] != ["height", "width"]:
        return VECTOR

    return DEPTH if np.dtype(dtype).kind == "f" else IDS


def keys_of(features: Features, kind: str) -> tuple[str, ...]:
    """Return the keys of a kind, in the order of the description."""
    return tuple(key for key, feature in features.items() if kind_of(feature) == kind)


def camera_of(key: str, features: Features) -> str | None:
    """Return the camera that must be drawn to observe a key, None if it is observed without."""
    feature = features.get(key, {})
    kind = kind_of(feature)
    if kind == VECTOR:
        return None

    camera: str | None = feature.get("camera", key if kind == PICTURE else None)
    return camera


def recorded_keys(features: Features, cameras: Sequence[str]) -> tuple[str, ...]:
    """Return the keys that are stored where some cameras are recorded.

    Args:
        features: of the cell's description.
        cameras: keys of pictures.

    Returns:
        Vectors, the pictures in the order of `cameras`, then the maps of these cameras and of none.
    """
    maps = [key for key, feature in features.items() if kind_of(feature) in (DEPTH, IDS)]
    wanted = [key for key in maps if camera_of(key, features) in (None, *cameras)]
    return (*keys_of(features, VECTOR), *cameras, *wanted)


def check_cameras(features: Features, cameras: Sequence[str], kind: str = "camera") -> None:
    """Raise UnknownNameError unless each of some cameras is a picture that is described."""
    known = keys_of(features, PICTURE)
    unknown = [name for name in cameras if name not in known]
    if unknown:
        raise UnknownNameError(kind, unknown[0], known)
