"""LeRobotDataset v3.0: its file names, and how an episode's arrays map to its features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import Episode, InvalidInputError
from shopfloor.datasets.convert.lerobot.stats import all_finite
from shopfloor.datasets.convert.png import is_picture
from shopfloor.datasets.convert.rows import name_episode, observed, refuse_clashes

VERSION = "v3.0"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO_FILE, STATS_FILE, TASKS_FILE = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
# What LeRobot has no place for lies in a folder of ours that it passes over.
SIDECAR_FILE = "meta/shopfloor/export.json"
SIDECAR_PATH = "meta/shopfloor/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
SIDECAR_KIND = "shopfloor-lerobot-export"
SIDECAR_VERSION = 1

IMAGES = "observation.images."
OBSERVATION = "observation."
MAX_AXES = 5  # LeRobot's features have up to five axes
AUTOMATIC = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


@dataclass(frozen=True)
class Feature:
    """A column (or camera) of LeRobot's, filled from one of an episode's arrays.

    Attributes:
        name: LeRobot's name, such as "observation.state".
        dtype: its dtype there: NumPy's name, "video" or "image".
        shape: shape of a row there; [1] for single numbers.
        key: our observation key, "" for everything else.
        row_shape: shape of a row here.
        names: names of the row's entries, None where they are not stated.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    key: str = ""
    row_shape: tuple[int, ...] = ()
    names: Any = None

    @property
    def is_picture(self) -> bool:
        """Whether its rows are pictures."""
        return self.dtype in ("video", "image")

    def to_json(self) -> dict[str, Any]:
        """Return its entry in `info.json`."""
        return {"dtype": self.dtype, "shape": list(self.shape), "names": self.names}


def plan_features(
    episode: Episode, keys: Sequence[str], description: Mapping[str, Any], pictures: str
) -> tuple[Feature, ...]:
    """Decide which features a dataset has; all its episodes must be like this one.

    Args:
        episode: one of them.
        keys: the observation keys to export.
        description: the cell's description, for names.
        pictures: "video" or "png".

    Returns:
        Features without the automatic ones. Observations that LeRobot cannot hold (empty rows, more
        than five axes) are not among them.

    Raises:
        InvalidInputError: two observations would have the same name.
    """
    described = description.get("features", {})
    features = []
    for key in keys:
        rows = episode.observations[key]
        shape = rows.shape[1:]
        if is_picture(rows):
            dtype = "video" if pictures == "video" else "image"
            names: Any = ["height", "width", "channels"]
            features.append(Feature(f"{IMAGES}{key}", dtype, shape, key, shape, names))
        elif 0 not in shape and len(shape) <= MAX_AXES:
            names = _names(described.get(key, {}).get("names"), shape)
            features.append(
                Feature(f"{OBSERVATION}{key}", rows.dtype.name, shape or (1,), key, shape, names)
            )

    refuse_clashes(
        [feature.name for feature in features], [feature.key for feature in features], "LeRobot"
    )
    action_size = episode.actions.shape[1:]

    return (
        *features,
        Feature(
            "action",
            "float32",
            action_size,
            names=_names(description.get("action_names"), action_size),
        ),
        Feature("next.reward", "float32", (1,)),
        Feature("next.done", "bool", (1,)),
        Feature("next.success", "bool", (1,)),
    )


def _names(names: object, shape: tuple[int, ...]) -> list[str] | None:
    fits = isinstance(names, list) and len(shape) == 1 and len(names) == shape[0]
    return [str(name) for name in names] if fits and isinstance(names, list) else None


def step_rows(
    episode: Episode, actions: npt.NDArray[Any], features: Sequence[Feature]
) -> dict[str, npt.NDArray[Any]]:
    """Return a feature's name -> its T rows: row t is what was seen before action t, and what came of it.

    Raises:
        InvalidInputError: an array is not like the dataset's others, or holds NaN or infinity.
    """
    T = episode.steps
    last = np.arange(T) == T - 1
    rows = {
        "action": actions,
        "next.reward": episode.rewards,
        "next.done": last,
        "next.success": last & episode.success,
    }

    for feature in features:
        if feature.key:
            dtype = np.dtype("uint8" if feature.is_picture else feature.dtype)
            rows[feature.name] = observed(episode, feature.key, feature.row_shape, dtype)
        elif rows[feature.name].shape[1:] not in (feature.shape, ()):
            raise InvalidInputError(
                f"{name_episode(episode)} has actions of {rows[feature.name].shape[1:]} numbers; "
                f"the dataset's first episode has {feature.shape}."
            )

    for name, values in rows.items():
        if not all_finite([values]):
            raise InvalidInputError(
                f"{name_episode(episode)}: {name} holds NaN or infinity, of "
                "which LeRobot's statistics cannot be made. Leave such episodes out (where)."
            )

    return rows
