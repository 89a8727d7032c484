"""Plain .npy files, out: one flat array a feature over all episodes, which NumPy maps into memory.

Loading one of them needs NumPy only, and no more memory than the rows that are looked at:

    index = json.loads(Path(out, "index.json").read_text())
    actions = np.load(Path(out, "actions.npy"), mmap_mode="r")
    state = np.load(Path(out, "obs.state.npy"), mmap_mode="r")
    for episode in index["episodes"]:
        done = actions[episode["start"] : episode["stop"]]
        pairs = zip(state[episode["observation_start"] :], done)

An episode of T actions has T rows in arrays that have a row a step (`actions`, `rewards`, `dones`,
`terminated`, `actor`, `decisions`, `label_actions`, `label_valid`, `label_chunks`) and T+1 in those
that have a row an observation (`obs.<key>`, `sim_states`, `cameras.<name>.extrinsics`): row t is
what was seen before action t, the last one what was seen after the last action. `zip` above leaves
it out. `episode_ends` and `observation_ends` hold, for each episode, the row after its last one;
`cameras.<name>.intrinsics` has a row an episode. `index.json` describes the rest. All that an
episode holds is in there, bit for bit; where one has no label chunks or no such camera, there are
zeros, and the index tells where.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from shopfloor.core import Episode, InvalidInputError, UnknownNameError, canonical_json
from shopfloor.datasets.convert.arrays.npy_write import NpyFile
from shopfloor.datasets.convert.episode_arrays import EpisodeArray, episode_arrays
from shopfloor.datasets.convert.options import Exported, ExportOptions
from shopfloor.datasets.convert.rows import name_episode, observed
from shopfloor.datasets.convert.selection import Selection
from shopfloor.datasets.disk.staging import staged_folder
from shopfloor.datasets.format import fields
from shopfloor.datasets.format.fields import EPISODE, OBSERVATION, STEP, episode_facts
from shopfloor.datasets.reader import Dataset

INDEX_FILE = "index.json"
KIND = "shopfloor-numpy-export"
SCHEMA_VERSION = 1
PICTURES = ("raw",)


def export(dataset: Dataset, out: Path, options: ExportOptions) -> Exported:
    """Write a dataset as a folder of .npy files and `index.json`; only one episode is ever in memory.

    Args:
        dataset: what to export.
        out: the new folder.
        options: with `valid` the episodes of that share come last; `index.json` lists them.

    Returns:
        What was written.

    Raises:
        InvalidInputError: no episode is chosen, or one has arrays of another kind than the first.
        UnknownNameError: pictures that are not raw numbers.
    """
    if (options.pictures or PICTURES[0]) not in PICTURES:
        raise UnknownNameError("kind of pictures", str(options.pictures), PICTURES)

    selection = Selection.of(dataset, options)
    with staged_folder(out) as folder:
        with (
            FlatArrays(folder) as arrays,
            (folder / INDEX_FILE).open("x", encoding="utf-8") as index,
        ):
            index.write('{"episodes": [')
            for count, position in enumerate(selection.indices):
                episode = dataset.read(position)  # also without steps: flat arrays can hold that
                split = "train" if count < len(selection.train) else "valid"
                place = arrays.add(episode, _parts(episode, selection, options))
                entry = _entry(episode, place, split)
                index.write(f"{',' if count else ''}\n{canonical_json(entry)}")

            about = _about(selection, options, arrays.finish())
            index.write(f"\n],\n{json.dumps(about, indent=1, sort_keys=True)[1:]}\n")

        return Exported.of_folder(folder, arrays.counts[EPISODE], arrays.counts[STEP])


class FlatArrays:
    """The arrays of episode after episode, each in a file of its own.

    Attributes:
        counts: rows written so far, for "step", "observation" and "episode".
    """

    def __init__(self, folder: Path) -> None:
        """Start with no array in an existing folder."""
        self._folder = folder
        self._files: dict[str, tuple[NpyFile, str]] = {}
        self._stack = contextlib.ExitStack()
        self.counts = {STEP: 0, OBSERVATION: 0, EPISODE: 0}

    def add(self, episode: Episode, parts: Mapping[str, EpisodeArray]) -> dict[str, int]:
        """Append an episode's arrays; return where it lies, for `index.json`.

        Raises:
            InvalidInputError: an array is not like those of the episodes before.
        """
        first = dict(self.counts)
        for per, count in ((STEP, episode.steps), (OBSERVATION, episode.steps + 1), (EPISODE, 1)):
            self.counts[per] += count
        own = {
            "episode_ends": _number(self.counts[STEP]),
            "observation_ends": _number(self.counts[OBSERVATION]),
        }
        for name, part in {**parts, **own}.items():
            self._file(name, part, episode).put(part.rows, first[part.per])

        return {
            "start": first[STEP],
            "stop": self.counts[STEP],
            "observation_start": first[OBSERVATION],
        }

    def _file(self, name: str, part: EpisodeArray, episode: Episode) -> NpyFile:
        shape, dtype = part.rows.shape[1:], part.rows.dtype
        if name not in self._files:
            file = NpyFile(self._folder / f"{name}.npy", dtype, shape)
            self._stack.callback(file.close)
            self._files[name] = file, part.per

        file, _ = self._files[name]
        if (shape, dtype) != (file.row_shape, file.dtype):
            raise InvalidInputError(
                f"{name_episode(episode)}: {name} has rows {shape} of {dtype}; the episodes before "
                f"have rows {file.row_shape} of {file.dtype}, and a flat array has one kind. "
                "Export episodes that are alike (where)."
            )

        return file

    def finish(self) -> dict[str, dict[str, Any]]:
        """Give every file its header; return name -> the array's description in `index.json`."""
        described = {}
        for name, (file, per) in self._files.items():
            count = self.counts[per]
            file.finish(count)
            shape = [count, *file.row_shape]

            described[name] = {
                "file": file.path.name,
                "dtype": file.dtype.name,
                "shape": shape,
                "per": per,
            }

        return described

    def __enter__(self) -> FlatArrays:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._stack.close()


def _number(value: int) -> EpisodeArray:
    return EpisodeArray(np.array([value], np.int64), EPISODE)


def _parts(
    episode: Episode, selection: Selection, options: ExportOptions
) -> dict[str, EpisodeArray]:
    parts = episode_arrays(episode, options)
    parts["terminated"] = EpisodeArray(parts["dones"].rows & bool(episode.terminated), STEP)
    for key in selection.keys:
        like = selection.first.observations[key]
        observed(episode, key, like.shape[1:], like.dtype)
        parts[f"obs.{key}"] = EpisodeArray(episode.observations[key], OBSERVATION)
    return parts


def _entry(episode: Episode, place: Mapping[str, int], split: str) -> dict[str, Any]:
    entry = {
        "episode_id": episode.spec.episode_id,
        "seed": episode.spec.seed,
        **episode_facts(episode),
        **place,
        "split": split,
        "cameras": sorted(episode.cameras),
    }
    for field in fields.FIELDS:
        if field.optional:
            entry[field.name] = getattr(episode, field.name) is not None
    return entry


def _about(
    selection: Selection, options: ExportOptions, arrays: Mapping[str, Any]
) -> dict[str, Any]:
    raw = selection.dataset.identity.raw
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "actions": options.actions,
        "action_convention": raw["action_convention"],
        "control_hz": raw["control_hz"],
        "features": {key: raw["features"].get(key, {}) for key in selection.keys},
        "descriptions": raw["descriptions"],
        **asdict(selection.dataset.identity.provenance),
        "arrays": arrays,
    }
