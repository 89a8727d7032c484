"""Kinds of observations: how a feature is treated follows from its kind, never from its name.

vector: numbers of a sensor or of the task, any shape; picture: (H, W, C), uint8; depth: (H, W),
floats, m; ids: (H, W), integers, what each pixel shows. A feature may state its "kind", and the
"camera" of a depth or ids map; without one the map is there at every step, as vectors are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from shopfloor.errors import UnknownNameError

VECTOR, PICTURE, DEPTH, IDS = KINDS = ("vector", "picture", "depth", "ids")
Features: TypeAlias = Mapping[str, Mapping[str, Any]]


def kind_of(feature: Mapping[str, Any]) -> str:
    """Return the kind of a described feature, by its dtype, shape and names where it states none.

    Raises:
        UnknownNameError: it states an unknown kind.
    """
    stated = feature.get("kind")
    if stated is not None:
        if stated not in KINDS:
            raise UnknownNameError("kind of observation", str(stated), KINDS)
        return str(stated)

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
        features: features of the cell's description.
        cameras: keys of pictures.

    Returns:
        Vectors, the pictures in the order of `cameras`, then the maps of these cameras and of none.
    """
    maps = []
    for key, feature in features.items():
        if kind_of(feature) in (DEPTH, IDS) and camera_of(key, features) in (None, *cameras):
            maps.append(key)
    return (*keys_of(features, VECTOR), *cameras, *maps)


def check_cameras(features: Features, cameras: Sequence[str], kind: str = "camera") -> None:
    """Raise UnknownNameError unless each of some cameras is a picture that is described."""
    known = keys_of(features, PICTURE)
    unknown = [name for name in cameras if name not in known]
    if unknown:
        raise UnknownNameError(kind, unknown[0], known)
