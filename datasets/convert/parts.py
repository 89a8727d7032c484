"""An episode as plain facts and named arrays, for formats that have a place for any of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import Episode
from shopfloor.datasets.convert.formats import ExportOptions
from shopfloor.datasets.convert.selection import given_actions

STEP, OBSERVATION, EPISODE = "step", "observation", "episode"


@dataclass(frozen=True)
class Part:
    """One of an episode's arrays.

    Attributes:
        rows: the array.
        per: what a row is for: "step" (T of them), "observation" (T+1) or "episode" (one).
    """

    rows: npt.NDArray[Any]
    per: str


def episode_facts(episode: Episode) -> dict[str, Any]:
    """Return all that an episode says beside its arrays, as JSON data."""
    return {
        "spec": episode.spec.to_json(),
        "instruction": episode.instruction,
        "outcome": episode.outcome,
        "reason": episode.reason,
        "terminated": bool(episode.terminated),
        "stages": [[int(step), stage] for step, stage in episode.stages],
        "object_names": list(episode.object_names),
    }


def episode_parts(episode: Episode, options: ExportOptions) -> dict[str, Part]:
    """Return all of an episode's arrays but its observations.

    Args:
        episode: the episode.
        options: which actions are wanted; the executed ones are there in any case, as
            "executed_actions" where "actions" are not they.
    """
    T = episode.steps
    last = np.arange(T) == T - 1
    parts = {
        "actions": Part(given_actions(episode, options), STEP),
        "rewards": Part(episode.rewards, STEP),
        "dones": Part(last, STEP),
        "actor": Part(episode.actor, STEP),
        "decisions": Part(episode.decisions, STEP),
        "label_actions": Part(episode.label_actions, STEP),
        "label_valid": Part(episode.label_valid, STEP),
        "sim_states": Part(episode.sim_states, OBSERVATION),
    }
    if options.actions != "executed":
        parts["executed_actions"] = Part(episode.actions, STEP)
    if episode.label_chunks is not None:
        parts["label_chunks"] = Part(episode.label_chunks, STEP)
    for name, track in episode.cameras.items():
        parts[f"cameras.{name}.intrinsics"] = Part(track.intrinsics[None], EPISODE)
        parts[f"cameras.{name}.extrinsics"] = Part(track.extrinsics, OBSERVATION)
    return parts
