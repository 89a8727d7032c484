"""RLDS as TensorFlow Datasets stores it: `features.json`, `dataset_info.json` and flat Examples."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import Episode, InvalidInputError, canonical_json
from shopfloor.datasets.convert.png import encode_png, is_picture
from shopfloor.datasets.convert.rlds.tfrecord import Feature
from shopfloor.datasets.convert.rows import observed, refuse_clashes

VERSION = "1.0.0"
SHARD_NAME = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_CLASS = "tensorflow_datasets.core.features."
DISCOUNT = 1.0
# name of an entry of `episode_metadata` -> its dtype, "text" for texts
METADATA = {
    "file_path": "text",
    "episode_id": "text",
    "spec": "text",
    "cell": "text",
    "seed": "int64",
    "outcome": "text",
    "reason": "text",
    "success": "bool",
}


@dataclass(frozen=True)
class Column:
    """An entry of a step's `observation`.

    Attributes:
        name: its name in RLDS.
        key: our observation key.
        dtype: dtype of its rows.
        shape: shape of a row.
        picture: whether rows are stored as PNG.
    """

    name: str
    key: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    picture: bool


def dataset_name(text: str) -> str:
    """Return a text as a name for TensorFlow Datasets: a-z, 0-9 and underscores, a letter first."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return name if name[:1].isalpha() else f"dataset_{name}".strip("_")


def plan_columns(episode: Episode, keys: Sequence[str]) -> tuple[Column, ...]:
    """Name the observations: Open X-Embodiment's tools look for `image`, `wrist_image` and `state`.

    The first camera (by "front" before others, else by name) becomes `image`, any other <name>
    `<name>_image`; other observations keep their keys.
    """
    main = _main_camera([key for key in keys if is_picture(episode.observations[key])])
    columns = []
    for key in keys:
        rows = episode.observations[key]
        picture = is_picture(rows)
        name = key
        if picture:
            name = "image" if key == main else f"{key}_image"

        if 0 in rows.shape[1:]:
            raise InvalidInputError(
                f"Observation {key!r} has rows of shape {rows.shape[1:]}, which RLDS cannot hold; "
                "leave it out (keys)."
            )
        columns.append(Column(name, key, rows.dtype, rows.shape[1:], picture))

    refuse_clashes([column.name for column in columns], [column.key for column in columns], "RLDS")
    return tuple(columns)


def _main_camera(pictures: Sequence[str]) -> str | None:
    if "front" in pictures:
        return "front"
    for key in pictures:
        if key != "wrist":
            return key
    return None


def features_json(columns: Sequence[Column], action_size: int) -> dict[str, Any]:
    """Return `features.json`."""
    observation = {column.name: _column_json(column) for column in columns}
    steps = {
        "observation": _dict(observation),
        "action": _tensor((action_size,), "float32"),
        "reward": _tensor((), "float32"),
        "discount": _tensor((), "float32"),
        "is_first": _tensor((), "bool"),
        "is_last": _tensor((), "bool"),
        "is_terminal": _tensor((), "bool"),
        "language_instruction": _text(),
    }

    metadata = {}
    for name, kind in METADATA.items():
        metadata[name] = _text() if kind == "text" else _tensor((), kind)

    return _dict(
        {
            "steps": {
                "pythonClassName": f"{_CLASS}dataset_feature.Dataset",
                "sequence": {"feature": _dict(steps), "length": "-1"},
            },
            "episode_metadata": _dict(metadata),
        }
    )


def _dict(features: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "pythonClassName": f"{_CLASS}features_dict.FeaturesDict",
        "featuresDict": {"features": dict(features)},
    }


def _text() -> dict[str, Any]:
    return {"pythonClassName": f"{_CLASS}text_feature.Text", "text": {}}


def _shape(shape: Sequence[int]) -> dict[str, Any]:
    return {"dimensions": list(map(str, shape))} if shape else {}


def _tensor(shape: Sequence[int], dtype: str) -> dict[str, Any]:
    name = "tensor_feature.Tensor" if shape else "scalar.Scalar"
    # An Example's floats are float32; float64 rows go in as bytes.
    encoding = "bytes" if dtype == "float64" else "none"
    if encoding == "bytes":
        name = "tensor_feature.Tensor"
    tensor = {"shape": _shape(shape), "dtype": dtype, "encoding": encoding}
    return {"pythonClassName": _CLASS + name, "tensor": tensor}


def _column_json(column: Column) -> dict[str, Any]:
    if not column.picture:
        return _tensor(column.shape, column.dtype.name)
    image = {"shape": _shape(column.shape), "dtype": "uint8", "encodingFormat": "png"}
    return {
        "pythonClassName": f"{_CLASS}image_feature.Image",
        "image": image,
        "description": f"camera {column.key}",
    }


def episode_features(
    episode: Episode, actions: npt.NDArray[Any], columns: Sequence[Column], file: str
) -> dict[str, Feature]:
    """Return an episode as the flat features of its Example: T steps of observation and action.

    Args:
        episode: the episode.
        actions: shape (T, A), float32, what to give as actions.
        columns: the observations (see `plan_columns`).
        file: the file it is from, for `episode_metadata`.

    Raises:
        InvalidInputError: an observation is not like those of the dataset's first episode.
    """
    T = episode.steps
    steps = np.arange(T)
    flat: dict[str, Feature] = {}
    for column in columns:
        flat[f"steps/observation/{column.name}"] = _observation(episode, column)

    flat |= {
        "steps/action": actions,
        "steps/reward": episode.rewards,
        "steps/discount": np.full(T, DISCOUNT, np.float32),
        "steps/is_first": steps == 0,
        "steps/is_last": steps == T - 1,
        # A time-out is no terminal state: what follows would still have had a value.
        "steps/is_terminal": (steps == T - 1) & episode.terminated,
        "steps/language_instruction": [episode.instruction.encode()] * T,
    }

    metadata: dict[str, str | int] = {
        "file_path": file,
        "episode_id": episode.spec.episode_id,
        "spec": canonical_json(episode.spec.to_json()),
        "cell": episode.spec.cell,
        "seed": episode.spec.seed,
        "outcome": episode.outcome,
        "reason": episode.reason,
        "success": int(episode.success),
    }

    for name, value in metadata.items():
        flat[f"episode_metadata/{name}"] = (
            [value.encode()] if isinstance(value, str) else np.array([value], np.int64)
        )
    return flat


def _observation(episode: Episode, column: Column) -> Feature:
    rows = observed(episode, column.key, column.shape, column.dtype)
    if column.picture:
        return list(map(encode_png, rows))
    if rows.dtype == np.float64:
        return [row.astype("<f8").tobytes() for row in rows]
    return rows.astype(np.float32) if rows.dtype == np.float16 else rows


def dataset_info_json(
    name: str, description: str, splits: Mapping[str, tuple[int, Sequence[int]]]
) -> dict[str, Any]:
    """Return `dataset_info.json`.

    Args:
        name: the dataset's name.
        description: a text for people.
        splits: name -> bytes of its examples, and the number of examples in each shard.
    """
    listed = []
    for split, (size, lengths) in splits.items():
        sizes = {"numBytes": str(size), "shardLengths": list(map(str, lengths))}
        listed.append({"name": split, "filepathTemplate": SHARD_NAME, **sizes})

    return {
        "name": name,
        "version": VERSION,
        "description": description,
        "fileFormat": "tfrecord",
        "releaseNotes": {VERSION: "First version."},
        "splits": listed,
    }
