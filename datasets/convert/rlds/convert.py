"""RLDS as in Open X-Embodiment, out, without TensorFlow: TFRecord shards for TensorFlow Datasets.

An episode is one Example of T steps, each what was seen before an action, and the action. What RLDS
has no entry for (simulator states, labels, the observation after the last action) is not in it:
train from it, but keep the source.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shopfloor.datasets.convert.options import Exported, ExportOptions
from shopfloor.datasets.convert.rlds.layout import (
    VERSION,
    Column,
    dataset_info_json,
    dataset_name,
    episode_features,
    features_json,
    plan_columns,
)
from shopfloor.datasets.convert.rlds.tfrecord import example
from shopfloor.datasets.convert.rlds.write import SHARD_BYTES, SplitWriter
from shopfloor.datasets.convert.selection import Selection, given_actions
from shopfloor.datasets.disk.staging import staged_folder
from shopfloor.datasets.reader import Dataset


def export(
    dataset: Dataset, out: Path, options: ExportOptions, shard_bytes: int = SHARD_BYTES
) -> Exported:
    """Write a dataset as `OUT/1.0.0/`, a version folder of TensorFlow Datasets.

    Only one episode is ever in memory.

    Args:
        dataset: what to export.
        out: the new folder, whose name (as lower case letters, digits and underscores) becomes the
            dataset's.
        options: with `valid` there is a split "val" beside "train".
        shard_bytes: how large shards grow.

    Returns:
        What was written.

    Raises:
        InvalidInputError: no episode is chosen, or one has no steps, or observations of another
            kind than the first.
    """
    selection = Selection.of(dataset, options)
    columns = plan_columns(selection.first, selection.keys)
    name = dataset_name(out.name)
    steps = 0

    with staged_folder(out) as staged:
        folder = staged / VERSION
        folder.mkdir()
        splits = {}

        for split, indices in (("train", selection.train), ("val", selection.valid)):
            if indices:
                splits[split] = SplitWriter(folder, f"{name}-{split}.tfrecord", shard_bytes)
                steps += _write(splits[split], selection, indices, columns, options)

        features = features_json(columns, selection.first.actions.shape[1])
        _write_json(folder / "features.json", features)
        written = {split: (writer.size, writer.lengths) for split, writer in splits.items()}
        info = dataset_info_json(name, _description(dataset, columns, options), written)
        _write_json(folder / "dataset_info.json", info)
        return Exported.of_folder(folder, len(selection.indices), steps)


def _write(
    writer: SplitWriter,
    selection: Selection,
    indices: Sequence[int],
    columns: Sequence[Column],
    options: ExportOptions,
) -> int:
    steps = 0
    for index in indices:
        episode = selection.read(index)
        file = selection.dataset.records[index].file
        writer.add(
            example(episode_features(episode, given_actions(episode, options), columns, file))
        )
        steps += episode.steps
    writer.finish()
    return steps


def _description(dataset: Dataset, columns: Sequence[Column], options: ExportOptions) -> str:
    raw = dataset.identity.raw
    renamed = []
    for column in columns:
        if column.name != column.key:
            renamed.append(f"{column.name} is {column.key}")

    names = ", ".join(renamed) or "under their own names"
    return (
        f"Episodes of {', '.join(raw['cells'])} at {raw['control_hz']} Hz. Actions "
        f"({options.actions}): {raw['action_convention']}. Observations: {names}. "
        f"Licence: {raw['licence']}."
    )


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=4, sort_keys=True) + "\n", encoding="utf-8")
