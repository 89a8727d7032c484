"""WebDataset, out: tar shards with one sample an episode, to be read one after the other from any store.

A sample's files share the key "<number>-<first 16 hex of the episode's id>" and lie side by side in
a shard:

    00000000-5f8f...json            the episode's facts: instruction, outcome, spec, control rate, ...
    00000000-5f8f...actions.npy     T rows, as have rewards, dones, actor, decisions and the labels
    00000000-5f8f...state.npy       each observation under its key, T+1 rows, the last after the end
    00000000-5f8f...front.npy       pictures, too; with pictures "png" a file each: front.000000.png, ...
    00000000-5f8f...sim_states.npy  T+1 rows, as are the tracks of cameras

With `.decode("rgb8")` WebDataset hands out arrays. All that an episode holds is in there, bit for
bit.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy.typing as npt

from shopfloor.core import Episode, InvalidInputError, UnknownNameError, canonical_json
from shopfloor.datasets.convert.arrays.npy_write import little_endian, npy_header, raw_bytes
from shopfloor.datasets.convert.arrays.tar_write import Content, ShardWriter
from shopfloor.datasets.convert.episode_arrays import episode_arrays
from shopfloor.datasets.convert.options import Exported, ExportOptions
from shopfloor.datasets.convert.png import encode_png, is_picture
from shopfloor.datasets.convert.rows import observed
from shopfloor.datasets.convert.selection import Selection
from shopfloor.datasets.disk.staging import staged_folder
from shopfloor.datasets.format.fields import EPISODE, episode_facts
from shopfloor.datasets.reader import Dataset

INDEX_FILE = "index.json"
KIND = "shopfloor-webdataset-export"
SCHEMA_VERSION = 1
PICTURES = ("raw", "png")
SHARD_BYTES = 256 << 20


def export(
    dataset: Dataset, out: Path, options: ExportOptions, shard_bytes: int = SHARD_BYTES
) -> Exported:
    """Write a dataset as `train-000000.tar`, ... and `index.json`; only one episode is ever in memory.

    Args:
        dataset: what to export.
        out: the new folder.
        options: `pictures` "raw" (arrays) or "png" (a file each, also exact); with `valid` there
            are shards `valid-000000.tar`, ..., too.
        shard_bytes: how large shards grow.

    Returns:
        What was written.

    Raises:
        InvalidInputError: no episode is chosen, or one has observations of another kind than the
            first, or two arrays would have the same name.
        UnknownNameError: another kind of pictures.
    """
    pictures = options.pictures or PICTURES[0]
    if pictures not in PICTURES:
        raise UnknownNameError("kind of pictures", pictures, PICTURES)

    selection = Selection.of(dataset, options)
    number = steps = 0
    with staged_folder(out) as folder:
        writers = {}
        for split, indices in (("train", selection.train), ("valid", selection.valid)):
            writer = ShardWriter(folder, split, shard_bytes)
            try:
                for index in indices:
                    episode = dataset.read(index)  # also without steps: a sample can hold that
                    key = f"{number:08d}-{episode.spec.episode_id[:16]}"
                    writer.add(key, _files(episode, selection, options, pictures))
                    number, steps = number + 1, steps + episode.steps

                writer.finish()
            finally:
                writer.close()

            if indices:
                writers[split] = writer

        text = json.dumps(_index(selection, options, writers), indent=1, sort_keys=True)
        (folder / INDEX_FILE).write_text(f"{text}\n", encoding="utf-8")
        return Exported.of_folder(folder, number, steps)


def _files(
    episode: Episode, selection: Selection, options: ExportOptions, pictures: str
) -> dict[str, Content]:
    """Return a sample's files: what follows the key in their names -> content."""
    arrays = episode_arrays(episode, options)
    _refuse_clashes([*arrays, *selection.keys])
    files: dict[str, Content] = {}
    for name, array in arrays.items():
        files[f"{name}.npy"] = _npy(array.rows[0] if array.per == EPISODE else array.rows)

    for key in selection.keys:
        like = selection.first.observations[key]
        observed(episode, key, like.shape[1:], like.dtype)
        rows = episode.observations[key]

        if pictures == "png" and is_picture(rows):
            for step, picture in enumerate(rows):
                files[f"{key}.{step:06d}.png"] = [encode_png(picture)]
        else:
            files[f"{key}.npy"] = _npy(rows)

    raw = selection.dataset.identity.raw
    facts = {
        "episode_id": episode.spec.episode_id,
        "seed": episode.spec.seed,
        **episode_facts(episode),
        "steps": episode.steps,
        "actions": options.actions,
        "action_convention": raw["action_convention"],
        "control_hz": raw["control_hz"],
    }

    return {**files, "json": [canonical_json(facts).encode()]}


def _npy(array: npt.NDArray[Any]) -> Content:
    plain = little_endian(array)
    return [npy_header(plain.dtype, array.shape), raw_bytes(plain)]


def _refuse_clashes(names: Sequence[str]) -> None:
    """Raise InvalidInputError if two names differ in case alone, as WebDataset reads them as one."""
    counts = Counter(map(str.lower, names))
    clashing = [name for name in names if counts[name.lower()] > 1]
    if clashing:
        raise InvalidInputError(
            f"The arrays {' and '.join(clashing)} would have the same name in WebDataset. Export "
            "other observations (keys)."
        )


def _index(
    selection: Selection, options: ExportOptions, writers: dict[str, ShardWriter]
) -> dict[str, Any]:
    raw = selection.dataset.identity.raw
    shards: dict[str, list[dict[str, Any]]] = {}
    for split, writer in writers.items():
        shards[split] = []
        for name, samples in zip(writer.names, writer.lengths, strict=True):
            shards[split].append({"file": name, "samples": samples})

    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "actions": options.actions,
        "action_convention": raw["action_convention"],
        "control_hz": raw["control_hz"],
        "features": {key: raw["features"].get(key, {}) for key in selection.keys},
        "descriptions": raw["descriptions"],
        **asdict(selection.dataset.identity.provenance),
        "shards": shards,
    }
