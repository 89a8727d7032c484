"""An episode as named arrays, for formats that have a place for any of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import Episode
from shopfloor.datasets.convert.options import ExportOptions
from shopfloor.datasets.convert.selection import given_actions
from shopfloor.datasets.format import fields
from shopfloor.datasets.format.fields import EPISODE, STEP


@dataclass(frozen=True)
class EpisodeArray:
    """One of an episode's arrays.

    Attributes:
        rows: the array.
        per: what a row is for: "step" (T of them), "observation" (T+1) or "episode" (one).
    """

    rows: npt.NDArray[Any]
    per: str


def episode_arrays(episode: Episode, options: ExportOptions) -> dict[str, EpisodeArray]:
    """Return all of an episode's arrays but its observations.

    Args:
        episode: the episode.
        options: which actions are wanted; the executed ones are there in any case, as
            "executed_actions" where "actions" are not they.
    """
    given = {**fields.own_arrays(episode), "actions": given_actions(episode, options)}
    parts = {name: EpisodeArray(rows, fields.array_field(name).per) for name, rows in given.items()}
    parts["dones"] = EpisodeArray(np.arange(episode.steps) == episode.steps - 1, STEP)
    if options.actions != "executed":
        parts["executed_actions"] = EpisodeArray(episode.actions, STEP)

    for name, track in episode.cameras.items():
        for field in fields.TRACK:
            rows = getattr(track, field.name)
            parts[f"cameras.{name}.{field.name}"] = EpisodeArray(
                rows[None] if field.per == EPISODE else rows, field.per
            )

    return parts
