"""Observations for formats that want equal keys, shapes and dtypes in all episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import Episode, InvalidInputError


def name_episode(episode: Episode) -> str:
    """Return words for an episode in a message."""
    return f"Episode {episode.spec.episode_id[:16]} (seed {episode.spec.seed})"


def observed(
    episode: Episode, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """Return an observation's rows before each action, shape (T, *shape).

    Args:
        episode: the episode.
        key: the observation's key.
        shape: shape of a row in the dataset's first episode.
        dtype: dtype of a row there.

    Raises:
        InvalidInputError: the observation is not like the first episode's.
    """
    rows = episode.observations.get(key)
    if rows is None or rows.shape[1:] != shape or rows.dtype != dtype:
        found = "is missing" if rows is None else f"has rows {rows.shape[1:]} of {rows.dtype}"
        raise InvalidInputError(
            f"{name_episode(episode)}: observation {key!r} {found}; the dataset's first episode "
            f"has rows {shape} of {dtype}. Export episodes that are alike (where), or other "
            "observations (keys)."
        )

    return rows[: episode.steps]


def refuse_clashes(names: list[str], keys: list[str], where: str) -> None:
    """Raise InvalidInputError if two of the observations `keys` would have one name in a format."""
    clashing = [key for key, name in zip(keys, names, strict=True) if names.count(name) > 1]
    if clashing:
        raise InvalidInputError(
            f"The observations {' and '.join(clashing)} would have the same name in {where}. "
            "Export one of them (keys)."
        )


def exact_float32(rows: npt.NDArray[Any], what: str, cast: bool) -> npt.NDArray[np.float32]:
    """Return numbers as float32.

    Args:
        rows: any numbers.
        what: name of the numbers, for the message.
        cast: whether rounding is allowed.

    Raises:
        InvalidInputError: they would be rounded, and that is not allowed.
    """
    rounded = rows.astype(np.float32)
    if not cast and not np.array_equal(rounded, rows, equal_nan=rows.dtype.kind == "f"):
        raise InvalidInputError(
            f"{what} holds {rows.dtype} numbers that float32 cannot hold exactly; expected "
            "float32. Allow rounding (cast) to import them anyway."
        )

    return rounded
