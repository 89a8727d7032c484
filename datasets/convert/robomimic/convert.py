"""robomimic's one HDF5 file, out and in, without robomimic.

Exports hold more than robomimic looks at: the last observation, states and labels of each episode
lie beside what it reads, the dataset's description in the group `shopfloor`. So importing an export
gives equal episodes. `next_obs` is not written: it doubles a file, and robomimic's training reads
it only for algorithms that ask for it (`load_next_obs`).

Imports take the outcome from robomimic's convention: the reward is above 0 where the task is done.
An episode with such a reward is a success, any other a failure by `timeout`; without rewards all
are taken for successes, and `dataset.json` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from shopfloor.core import InvalidInputError, ShopfloorError, UnknownNameError, canonical_json
from shopfloor.datasets.convert.hdf5.foreign_hdf5 import ForeignFile
from shopfloor.datasets.convert.hdf5.growing import GrowingFile
from shopfloor.datasets.convert.hdf5.own_tree import add_tree, read_tree, with_chosen
from shopfloor.datasets.convert.incoming import Incoming
from shopfloor.datasets.convert.options import Exported, ExportOptions, Imported, ImportOptions
from shopfloor.datasets.convert.robomimic.foreign import (
    RobomimicDemos,
    demos,
    json_object,
    mask_lines,
)
from shopfloor.datasets.convert.selection import Selection, given_actions
from shopfloor.datasets.disk.staging import staged_file, staged_folder
from shopfloor.datasets.disk.strict_json import parse_json
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.container import Container
from shopfloor.datasets.format.decode import EpisodeFile
from shopfloor.datasets.format.encode import Provenance, write_array, write_attributes
from shopfloor.datasets.listing.identity import identity_json
from shopfloor.datasets.reader import Dataset

PICTURES = ("raw",)
OWN_GROUP, OWN_KIND, OWN_VERSION = "shopfloor", "shopfloor-robomimic", 1
_MAX_IDENTITY_BYTES = 1 << 24


def export(dataset: Dataset, out: Path, options: ExportOptions) -> Exported:
    """Write a dataset as one HDF5 file, compressed by gzip; only one episode is ever in memory.

    Args:
        dataset: what to export.
        out: the new file.
        options: with `valid` there are the masks "train" and "valid".

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
    with staged_file(out) as place:
        with GrowingFile(place) as file:
            with file.disk():
                data = h5py.h5g.create(file.root, b"data")
            for number, index in enumerate(selection.indices):
                episode = with_chosen(selection, selection.read(index))
                with file.disk():
                    add_tree(
                        data,
                        f"demo_{number}",
                        episode,
                        given_actions(episode, options),
                        dataset.identity,
                    )

                steps += episode.steps

            with file.disk():
                write_attributes(data, _about(selection, options, steps))
                _write_masks(file.root, selection, options)
                _write_own(file.root, dataset)

        size = place.stat().st_size

    return Exported(len(selection.indices), steps, 1, size)


def _about(selection: Selection, options: ExportOptions, steps: int) -> dict[str, str | int]:
    raw, spec = selection.dataset.identity.raw, selection.first.spec
    env_args = raw["descriptions"].get(spec.cell, {}).get("env_args")
    env_args = env_args or {"env_name": spec.cell, "type": 2, "env_kwargs": dict(spec.cell_options)}
    return {
        "total": steps,
        "env_args": canonical_json(env_args),
        "action_convention": raw["action_convention"],
        "actions": options.actions,
    }


def _write_masks(root: h5py.h5g.GroupID, selection: Selection, options: ExportOptions) -> None:
    if not options.valid:
        return
    names = [f"demo_{number}" for number in range(len(selection.indices))]
    end = len(selection.train)
    for mask, chosen in (("train", names[:end]), ("valid", names[end:])):
        if chosen:
            write_array(root, f"mask/{mask}", np.array(chosen, "S"), "gzip")


def _write_own(root: h5py.h5g.GroupID, dataset: Dataset) -> None:
    identity = canonical_json(dict(dataset.identity.raw)).encode()
    group = h5py.h5g.create(root, OWN_GROUP.encode())
    write_attributes(group, {"kind": OWN_KIND, "schema_version": OWN_VERSION})
    write_array(group, "identity", np.frombuffer(identity, np.uint8), "gzip")


# --------------------------------------------------------------------------------------------------
# Import
# --------------------------------------------------------------------------------------------------


def import_(path: Path, out: Path, options: ImportOptions) -> Imported:
    """Read a foreign robomimic file, or an episode file or shard of ours, into a new dataset.

    Args:
        path: the file.
        out: the new dataset.
        options: what the source does not record.

    Returns:
        What was imported, and what had no place.

    Raises:
        DamagedFileError, UnsafeFileError: what is wrong with it; nothing is written then.
        InvalidInputError: it cannot be held exactly, and how to go on.
    """
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder; expected robomimic's one HDF5 file.")

    with ForeignFile(path) as file, staged_folder(out) as folder:
        if file.attribute("", "format") == layout.FORMAT_NAME:
            return _import_committed(path, folder, options)
        if file.attribute(OWN_GROUP, "kind") == OWN_KIND:
            return _import_own(file, folder, options)

        source = RobomimicDemos(file, options)
        incoming = Incoming(folder, identity_json(source.describe(), Provenance()), options.codec)
        for episode in source.episodes():
            incoming.add(episode)
        if not incoming.episodes:
            raise InvalidInputError(f"{path} holds no steps; an episode needs actions.")

        incoming.finish()
        return Imported(incoming.episodes, incoming.steps, source.left_out())


def _import_own(file: ForeignFile, folder: Path, options: ImportOptions) -> Imported:
    version = file.attribute(OWN_GROUP, "schema_version")
    if version != OWN_VERSION:
        raise file.damaged(
            OWN_GROUP,
            f"has schema version {version!r:.40}, expected {OWN_VERSION}: a newer shopfloor's",
        )

    identity = _identity(file)
    try:
        incoming = Incoming(folder, identity, options.codec)
    except (ShopfloorError, RecursionError) as error:
        raise file.damaged(
            f"{OWN_GROUP}/identity", f"is that of no dataset ({type(error).__name__})"
        ) from error

    for _, name in demos(file):
        incoming.add(read_tree(file, f"data/{name}"))
    incoming.finish()

    return Imported(incoming.episodes, incoming.steps, tuple(mask_lines(file)))


def _identity(file: ForeignFile) -> Mapping[str, Any]:
    array = file.arrays(OWN_GROUP).get("identity")
    if array is None or array.dtype != np.uint8 or array.size_bytes > _MAX_IDENTITY_BYTES:
        raise file.damaged(f"{OWN_GROUP}/identity", "is missing or no text")
    try:
        document = parse_json(array.read().tobytes())
    except ValueError as error:
        raise file.damaged(f"{OWN_GROUP}/identity", f"is not valid JSON ({error})") from None
    if not isinstance(document, dict):
        raise file.damaged(f"{OWN_GROUP}/identity", "is no description of a dataset")
    return document


def _import_committed(path: Path, folder: Path, options: ImportOptions) -> Imported:
    container, _ = Container.open(path)
    try:
        container.check_chunks(inflate=True)
        files = [EpisodeFile(container, group) for group in container.groups()]
        incoming = Incoming(folder, _described(container, files), options.codec)
        for file in files:
            incoming.add(file.proven_episode())
        incoming.finish()
    finally:
        container.close()

    return Imported(incoming.episodes, incoming.steps, ())


def _described(container: Container, files: list[EpisodeFile]) -> dict[str, Any]:
    """Return a description made of what the files of a dataset repeat of it."""
    if not files:
        raise InvalidInputError(f"{container.path} holds no episode.")

    about, first = container.attributes("data"), files[0]
    features = {}
    for key in first.observation_keys:
        array = first.array(key)
        features[key] = {
            "shape": list(array.row_shape),
            "dtype": array.dtype.name,
            "names": [],
            "units": [],
        }

    description = {
        "action_convention": str(about.get("action_convention", layout.UNSPECIFIED)),
        "features": features,
        "source": {"format": "robomimic"},
    }

    env_args = json_object(str(about.get("env_args", "")))
    cells = sorted({file.spec.cell for file in files})
    descriptions = {cell: {**description, "cell": cell} for cell in cells}
    named = env_args.get("env_name")
    if isinstance(named, str) and named in descriptions:
        descriptions[named]["env_args"] = env_args
    provenance = Provenance(**{name: first.fact(name) for name in layout.PROVENANCE})

    return {
        **identity_json(descriptions[cells[0]], provenance),
        "cells": cells,
        "descriptions": descriptions,
    }
