"""Minari's datasets, out and in, without Minari: `OUT/data/main_data.hdf5` and `OUT/data/metadata.json`.

`minari.MinariDataset("OUT/data")` opens an export anywhere. If OUT is called NAME-v0 (or another
number), `minari.load_dataset` finds it by that name in the folder that MINARI_DATASETS_PATH names.
Pictures are stored as they are, not as JPEG. What Minari has no place for lies in each episode's
group `shopfloor` and in `OUT/shopfloor.json`, which Minari passes over: importing an export gives
equal episodes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from shopfloor.core import ACTION_CONVENTION, Episode, UnknownNameError
from shopfloor.datasets.convert.hdf5.growing import GrowingFile
from shopfloor.datasets.convert.hdf5.own_tree import add_tree, with_chosen
from shopfloor.datasets.convert.incoming import Incoming
from shopfloor.datasets.convert.minari.foreign import MinariEpisodes
from shopfloor.datasets.convert.minari.info import DATA, MAIN_FILE, METADATA, MinariInfo
from shopfloor.datasets.convert.minari.sidecar import SIDECAR_GROUP, MinariSidecar, write_sidecar
from shopfloor.datasets.convert.minari.spaces import box_json
from shopfloor.datasets.convert.options import Exported, ExportOptions, Imported, ImportOptions
from shopfloor.datasets.convert.selection import Selection, given_actions
from shopfloor.datasets.disk.staging import staged_folder
from shopfloor.datasets.format.encode import write_array, write_attributes
from shopfloor.datasets.reader import Dataset

PICTURES = ("raw",)
VERSION = "0.5.4"  # the version of Minari whose layout is written
_ID = re.compile(r"[-_\w]*\w-v\d+", re.ASCII)
_NO_WORD = re.compile(r"[^-_\w]+", re.ASCII)


def export(dataset: Dataset, out: Path, options: ExportOptions) -> Exported:
    """Write a dataset as a dataset of Minari's; only one episode is ever in memory.

    Args:
        dataset: what to export.
        out: the new folder, called NAME-v<number> if `minari.load_dataset` is to find it.
        options: with `valid` the last episodes are those for validation, and the attribute "split"
            of each tells which.

    Returns:
        What was written.

    Raises:
        InvalidInputError: no episode is chosen, or one has no steps, or observations of another
            kind than the first.
        DiskError: the disk refused; nothing is left behind.
    """
    if options.pictures not in (None, *PICTURES):
        raise UnknownNameError("kind of pictures", options.pictures, PICTURES)

    selection = Selection.of(dataset, options)
    steps = 0
    with staged_folder(out) as folder:
        (folder / DATA).mkdir()
        with GrowingFile(folder / DATA / MAIN_FILE) as file:
            for number, index in enumerate(selection.indices):
                episode = with_chosen(selection, selection.read(index))
                split = ("valid" if index in selection.valid else "train") if options.valid else ""
                with file.disk():
                    _add(
                        file.root, number, episode, given_actions(episode, options), split, dataset
                    )

                steps += episode.steps

        metadata = _metadata(
            selection, options, out.name, steps, (folder / DATA / MAIN_FILE).stat().st_size
        )
        (folder / DATA / METADATA).write_text(json.dumps(metadata) + "\n", encoding="utf-8")
        write_sidecar(folder, dataset, options)
        return Exported.of_folder(folder, len(selection.indices), steps)


def _add(
    root: h5py.h5g.GroupID,
    number: int,
    episode: Episode,
    actions: npt.NDArray[Any],
    split: str,
    dataset: Dataset,
) -> None:
    T = episode.steps
    group = h5py.h5g.create(root, f"episode_{number}".encode())
    facts: dict[str, str | int] = {"id": number, "total_steps": T, "seed": episode.spec.seed}
    write_attributes(group, facts | ({"split": split} if split else {}))
    ended = np.arange(T) == T - 1
    success = np.zeros(T + 1, np.bool_)  # row t is what was known before action t
    success[-1] = episode.success

    arrays = {
        **{f"observations/{key}": rows for key, rows in episode.observations.items()},
        "actions": actions,
        "rewards": episode.rewards,
        "terminations": ended & episode.terminated,
        "truncations": ended & (not episode.terminated),
        "infos/success": success,
        "infos/instruction": np.full(T + 1, episode.instruction.encode()),
    }

    for path, rows in arrays.items():
        write_array(group, path, rows, "gzip")
    add_tree(group, SIDECAR_GROUP, episode, actions, dataset.identity, observations=False)


def _dataset_id(name: str) -> str:
    name = _NO_WORD.sub("-", name).strip("-") or "dataset"
    return name if _ID.fullmatch(name) else f"{name}-v0"


def _metadata(
    selection: Selection, options: ExportOptions, name: str, steps: int, size: int
) -> dict[str, Any]:
    raw, first = selection.dataset.identity.raw, selection.first
    ours = raw["action_convention"] == ACTION_CONVENTION
    spaces = {key: box_json(first.observations[key]) for key in selection.keys}
    actions = box_json(first.actions, -1.0, 1.0) if ours else box_json(first.actions)

    return {
        "total_episodes": len(selection.indices),
        "total_steps": steps,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "observation_space": json.dumps({"type": "Dict", "subspaces": spaces}),
        "action_space": json.dumps(actions),
        "dataset_id": _dataset_id(name),
        "minari_version": VERSION,
        "dataset_size": round(size / 1e6, 1),
        "description": f"Episodes of {', '.join(raw['cells'])} at {raw['control_hz']} Hz. Actions ({options.actions}): "
        f"{raw['action_convention']}. Licence: {raw['licence']}.",
    }


# --------------------------------------------------------------------------------------------------
# Import
# --------------------------------------------------------------------------------------------------


def import_(path: Path, out: Path, options: ImportOptions) -> Imported:
    """Read a Minari dataset (HDF5, a local folder), ours or foreign, into a new dataset.

    Args:
        path: its folder, or the folder `data` in it.
        out: the new dataset.
        options: what the source does not record.

    Returns:
        What was imported, and what had no place.

    Raises:
        DamagedFileError, UnsafeFileError: what is wrong with it; nothing is written then.
        InvalidInputError: it cannot be held exactly, and how to go on.
    """
    info = MinariInfo(path)
    sidecar = MinariSidecar.find(info)
    with info.open() as file, staged_folder(out) as folder:
        source = sidecar or MinariEpisodes(info, file, options)
        incoming = (
            sidecar.incoming(folder, options.codec)
            if sidecar
            else Incoming(folder, source.identity, options.codec)
        )

        for episode in source.episodes(file):
            incoming.add(episode)
        incoming.finish()
        return Imported(incoming.episodes, incoming.steps, source.left_out())
