"""A foreign LeRobotDataset as our episodes: which feature becomes what, what has no place."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import Episode, EpisodeSpec, InvalidInputError
from shopfloor.datasets.convert.hdf5.foreign_rows import bare_episode
from shopfloor.datasets.convert.lerobot.info import LeRobotInfo
from shopfloor.datasets.convert.lerobot.layout import AUTOMATIC, IMAGES, OBSERVATION, Feature
from shopfloor.datasets.convert.lerobot.rows import Frames
from shopfloor.datasets.convert.rows import exact_float32
from shopfloor.datasets.format import fields, layout

OUTCOMES = ("next.reward", "next.done", "next.success")
_INTEGERS = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
_NUMBERS = {"bool", "float16", "float32", "float64", *_INTEGERS}


@dataclass(frozen=True)
class LeRobotPlan:
    """What is read of a dataset.

    Attributes:
        keys: feature name -> our observation key.
        features: the features that are read.
        left_out: feature name -> why it has no place here.
    """

    keys: Mapping[str, str]
    features: tuple[Feature, ...]
    left_out: Mapping[str, str]


def plan_import(info: LeRobotInfo) -> LeRobotPlan:
    """Decide which feature becomes what; raises InvalidInputError if there is no action to learn from."""
    action = info.features.get("action")
    if action is None or action.dtype not in _NUMBERS or len(action.shape) != 1:
        raise InvalidInputError(
            f"{info.file} declares no feature 'action' that is a vector of numbers; an episode "
            "needs actions."
        )

    keys: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for name, feature in info.features.items():
        if (
            name == "action"
            or name in AUTOMATIC
            or (name in OUTCOMES and feature.dtype in _NUMBERS)
        ):
            continue

        why = _no_place(feature)
        key = None if why else _key(name, keys.values())
        if key is None:
            left_out[name] = why or "no observation key can be made of its name"
        else:
            keys[name] = key

    used = {*keys, "action", *(name for name in OUTCOMES if name not in left_out)}
    return LeRobotPlan(
        keys, tuple(feature for name, feature in info.features.items() if name in used), left_out
    )


def _no_place(feature: Feature) -> str:
    if feature.is_picture:
        return (
            ""
            if len(feature.shape) == 3 and feature.shape[2] == 3
            else f"pictures of shape {feature.shape}"
        )
    if feature.dtype not in _NUMBERS:
        return f"of dtype {feature.dtype}"

    if not feature.name.startswith(OBSERVATION):
        return "neither observation nor action"

    return (
        ""
        if 0 < len(feature.shape) < layout.MAX_RANK and 0 not in feature.shape
        else f"of shape {feature.shape}"
    )


def _key(name: str, taken: Collection[str]) -> str | None:
    """Return the observation key for a feature: its name without the prefix, with more of it if that is taken."""
    for key in (
        name.removeprefix(IMAGES).removeprefix(OBSERVATION),
        name.removeprefix(OBSERVATION),
        name,
    ):
        if (
            layout.OBSERVATION_KEY.fullmatch(key)
            and key not in fields.field_names()
            and key not in taken
        ):
            return key

    return None


def describe(
    info: LeRobotInfo, plan: LeRobotPlan, cell: str, action_convention: str
) -> dict[str, Any]:
    """Return the description that `dataset.json` gets.

    Args:
        info: the dataset.
        plan: what is read of it.
        cell: id of the cell that the episodes are recorded as.
        action_convention: id of the meaning of the actions.
    """
    features = {}
    for feature in plan.features:
        if feature.name in plan.keys:
            dtype = "uint8" if feature.is_picture or feature.dtype == "bool" else feature.dtype
            names = ["height", "width", "rgb"] if feature.is_picture else feature.names or []
            shape = list(feature.shape)

            features[plan.keys[feature.name]] = {
                "shape": shape,
                "dtype": dtype,
                "names": names,
                "units": [],
            }

    read = {feature.name for feature in plan.features}
    outcomes = "assumed to be successes: the source does not say"
    if "next.success" in read:
        outcomes = "from next.success"
    elif "next.reward" in read:
        outcomes = "from next.reward: a success where it reaches 1"

    return {
        "cell": cell,
        "robot": info.robot_type,
        "control_hz": info.fps,
        "action_convention": action_convention,
        "action_names": info.features["action"].names or [],
        "features": features,
        "source": {"format": "lerobot", "features": {key: name for name, key in plan.keys.items()}},
        "final_observation": "repeated",
        "outcomes": outcomes,
    }


def foreign_episode(
    frames: Frames,
    plan: LeRobotPlan,
    spec: EpisodeSpec,
    instruction: str,
    cast: bool,
) -> Episode:
    """Return frames as an episode.

    Args:
        frames: the frames.
        plan: what was read.
        spec: the episode's spec.
        instruction: its text.
        cast: whether actions and rewards may be rounded to float32.

    Raises:
        InvalidInputError: they would have to be.
    """
    rows, where = frames.rows, f"Episode {frames.number}"
    T = len(rows["action"])
    actions = exact_float32(rows["action"].reshape(T, -1), f"{where}: action", cast)
    observations = {}
    for name, key in plan.keys.items():
        body = rows[name].view(np.uint8) if rows[name].dtype == bool else rows[name]
        observations[key] = np.concatenate([body, body[-1:]])

    rewards = np.zeros(T, np.float32)
    if "next.reward" in rows:
        rewards = exact_float32(rows["next.reward"].reshape(T), f"{where}: next.reward", cast)
    success = _success(rows, rewards)
    terminated = bool(rows["next.done"].reshape(T)[-1]) if "next.done" in rows else success

    return bare_episode(
        spec,
        instruction,
        observations,
        actions,
        rewards,
        success=success,
        terminated=terminated,
    )


def _success(rows: Mapping[str, npt.NDArray[Any]], rewards: npt.NDArray[np.float32]) -> bool:
    if "next.success" in rows:
        return bool(rows["next.success"].any())
    if "next.reward" in rows:
        return bool((rewards >= 1.0).any())
    return True  # see `describe`: demonstrations do not record it
