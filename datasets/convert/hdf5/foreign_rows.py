"""Episodes of tools that record less than ours: what is missing gets a value that marks it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import Episode, EpisodeSpec
from shopfloor.datasets.convert.hdf5.foreign_arrays import ForeignArray
from shopfloor.datasets.format import fields, layout

Rows = npt.NDArray[Any]


def bare_episode(
    spec: EpisodeSpec,
    instruction: str,
    observations: Mapping[str, Rows],
    actions: npt.NDArray[np.float32],
    rewards: npt.NDArray[np.float32],
    *,
    success: bool,
    terminated: bool,
    sim_states: npt.NDArray[np.float64] | None = None,
) -> Episode:
    """Return an episode without labels, stages and cameras.

    Args:
        spec: what was run.
        instruction: its text.
        observations: key -> T+1 rows.
        actions: shape (T, A).
        rewards: shape (T,).
        success: whether the task was done; else it is a failure by "timeout", the reason that says
            least.
        terminated: whether something else than time ended it.
        sim_states: shape (T+1, D), none if not given.
    """
    facts = {
        "spec": spec.to_json(),
        "instruction": instruction,
        "outcome": "success" if success else "failure",
        "reason": "" if success else "timeout",
        "terminated": terminated,
        "stages": [],
        "object_names": [],
    }

    arrays = {**fields.blank_arrays(*actions.shape), "actions": actions, "rewards": rewards}
    if sim_states is not None:
        arrays["sim_states"] = sim_states
    return fields.join_episode(facts, arrays, observations)


def plain(rows: Rows) -> Rows:
    """Return an observation as it is stored: truth values as uint8."""
    return rows.view(np.uint8) if rows.dtype == np.bool_ else rows


def observation_key(path: str, taken: Collection[str]) -> str | None:
    """Return an observation key for a path of names, joined by dots; None if it can be none, or is taken."""
    key = path.replace("/", ".")
    usable = (
        layout.OBSERVATION_KEY.fullmatch(key)
        and key not in fields.field_names()
        and key not in taken
    )
    return key if usable else None


def feature(shape: tuple[int, ...], dtype: np.dtype[Any] | None) -> dict[str, Any]:
    """Return the description of an observation.

    Args:
        shape: shape of one step's row.
        dtype: its dtype; bool is stored as uint8.
    """
    picture = dtype == np.uint8 and len(shape) == 3 and shape[2] == 3
    return {
        "shape": list(shape),
        "dtype": "uint8" if dtype in (None, np.bool_) else np.dtype(dtype).name,
        "names": ["height", "width", "rgb"] if picture else [],
        "units": [],
    }


def no_place(array: ForeignArray) -> str:
    """Return why an array cannot be an observation, "" if it can."""
    return array.problem or (f"holds {array.kind}" if array.kind != "numbers" else "")


def left_out_lines(reasons: Mapping[str, str], counts: Mapping[str, int]) -> list[str]:
    """Return what an import left out, in lines for people.

    Args:
        reasons: name -> why it has no place here.
        counts: name -> how many of them had no place.
    """
    lines = [f"{name}: {why}" for name, why in sorted(reasons.items())]
    for name, count in sorted(counts.items()):
        lines.append(f"{name}: no place for it ({count} of them)")
    return lines
