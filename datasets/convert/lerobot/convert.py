"""LeRobotDataset v3.0, out and in, without LeRobot: parquet and mp4 (or PNG), statistics, tasks and episodes.

A row holds what was seen before an action, the action, and what came of it, so T actions are T
rows. The last observation, simulator states, labels and an episode's facts have no place there:
they lie in `meta/shopfloor`, which LeRobot passes over, and importing such an export gives equal
episodes (pictures: equal from PNG, similar from video).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shopfloor.core import Episode, EpisodeSpec, InvalidInputError, ShopfloorError, UnknownNameError
from shopfloor.datasets.convert.incoming import Incoming
from shopfloor.datasets.convert.lerobot.foreign import describe, foreign_episode, plan_import
from shopfloor.datasets.convert.lerobot.info import LeRobotInfo
from shopfloor.datasets.convert.lerobot.layout import (
    SIDECAR_KIND,
    SIDECAR_VERSION,
    plan_features,
    step_rows,
)
from shopfloor.datasets.convert.lerobot.places import read_tasks
from shopfloor.datasets.convert.lerobot.rows import read_frames
from shopfloor.datasets.convert.lerobot.sidecar import LeRobotSidecar, sidecar_arrays
from shopfloor.datasets.convert.lerobot.video import find_encoder
from shopfloor.datasets.convert.lerobot.write import LeRobotWriter, Sizes
from shopfloor.datasets.convert.options import Exported, ExportOptions, Imported, ImportOptions
from shopfloor.datasets.convert.selection import Selection, given_actions
from shopfloor.datasets.disk.staging import staged_folder
from shopfloor.datasets.disk.strict_json import json_digest
from shopfloor.datasets.format.encode import Provenance
from shopfloor.datasets.format.fields import episode_facts
from shopfloor.datasets.format.layout import UNSPECIFIED
from shopfloor.datasets.listing.identity import DIGEST, identity_json
from shopfloor.datasets.reader import Dataset

PICTURES = ("video", "png")


def export(
    dataset: Dataset, out: Path, options: ExportOptions, sizes: Sizes | None = None
) -> Exported:
    """Write a dataset as a LeRobotDataset; only one episode is ever in memory.

    Args:
        dataset: what to export.
        out: the new folder.
        options: `pictures` "video" (lossy, small) or "png" (exact); with `valid` the last episodes
            are the split "val".
        sizes: how large files grow, LeRobot's defaults if not given.

    Returns:
        What was written.

    Raises:
        InvalidInputError: no episode is chosen, or one has no steps, or observations of another
            kind than the first.
    """
    pictures = options.pictures or PICTURES[0]
    if pictures not in PICTURES:
        raise UnknownNameError("kind of pictures", pictures, PICTURES)

    selection = Selection.of(dataset, options)
    with staged_folder(out) as folder:
        writer = _start(dataset, folder, selection, pictures, sizes or Sizes())
        try:
            for index in selection.indices:
                _add(writer, selection.read(index), selection.keys, options)
            writer.finish(_splits(selection), _sidecar(dataset, writer, selection.keys, options))
        except BaseException:
            writer.abandon()
            raise

        return Exported.of_folder(folder, writer.episodes, writer.steps)


def _start(
    dataset: Dataset, folder: Path, selection: Selection, pictures: str, sizes: Sizes
) -> LeRobotWriter:
    description, hz = dataset.description, dataset.identity.raw.get("control_hz")
    if not isinstance(hz, int | float) or hz < 1 or hz != int(hz):
        raise InvalidInputError(
            f"{dataset.path} has control_hz {hz!r}; LeRobot needs a whole number of frames a "
            "second."
        )
    features = plan_features(selection.first, selection.keys, description, pictures)
    encoder = find_encoder() if any(feature.dtype == "video" for feature in features) else ""
    robot = str(description.get("robot") or description["cell"])
    return LeRobotWriter(folder, features, int(hz), encoder, robot, sizes)


def _add(
    writer: LeRobotWriter, episode: Episode, keys: Sequence[str], options: ExportOptions
) -> None:
    actions = given_actions(episode, options)
    rows = step_rows(episode, actions, writer.features)
    arrays = sidecar_arrays(
        episode, keys, writer.features, own_actions=actions is not episode.actions
    )
    writer.add(episode.instruction, rows, episode_facts(episode), arrays)


def _splits(selection: Selection) -> dict[str, str]:
    first, end = len(selection.train), len(selection.indices)
    return {"train": f"0:{first}"} | ({"val": f"{first}:{end}"} if selection.valid else {})


def _sidecar(
    dataset: Dataset, writer: LeRobotWriter, keys: Sequence[str], options: ExportOptions
) -> dict[str, Any]:
    names = {feature.key: feature.name for feature in writer.features if feature.key}
    document = {
        "kind": SIDECAR_KIND,
        "schema_version": SIDECAR_VERSION,
        "identity": dict(dataset.identity.raw),
        "actions": options.actions,
        "keys": {key: names.get(key, "") for key in keys},
    }
    return document | {DIGEST: json_digest(document)}


def import_(path: Path, out: Path, options: ImportOptions) -> Imported:
    """Read a LeRobotDataset (v3.x or v2.x, a local folder), ours or foreign, into a new dataset.

    Args:
        path: its folder.
        out: the new dataset.
        options: what the source does not record.

    Returns:
        What was imported, and which features had no place.

    Raises:
        DamagedFileError, UnsafeFileError: what is wrong with it; nothing is written then.
        InvalidInputError: it cannot be held exactly, and how to go on.
    """
    info = LeRobotInfo(path)
    sidecar = LeRobotSidecar.find(info)
    with staged_folder(out) as folder:
        if sidecar:
            return _import_own(info, sidecar, folder, options)
        return _import_foreign(info, folder, options)


def _import_own(
    info: LeRobotInfo, sidecar: LeRobotSidecar, folder: Path, options: ImportOptions
) -> Imported:
    try:
        incoming = Incoming(folder, sidecar.identity, options.codec)
    except ShopfloorError as error:
        raise sidecar.damaged(
            f"its identity is that of no dataset ({type(error).__name__})"
        ) from error
    for episode in sidecar.episodes(read_frames(info, sidecar.features)):
        incoming.add(episode)
    incoming.finish()
    return Imported(incoming.episodes, incoming.steps, ())


def _import_foreign(info: LeRobotInfo, folder: Path, options: ImportOptions) -> Imported:
    plan, tasks = plan_import(info), read_tasks(info)
    cell = options.cell or f"lerobot/{info.robot_type or info.root.resolve().name}"
    description = describe(info, plan, cell, options.action_convention or UNSPECIFIED)
    incoming = Incoming(folder, identity_json(description, Provenance()), options.codec)
    several = 0

    for frames in read_frames(info, plan.features):
        texts = [tasks.get(number, "") for number in dict.fromkeys(frames.tasks.tolist())]
        several += len(texts) > 1
        spec = EpisodeSpec(cell, frames.number, "import:lerobot", purpose="train")
        incoming.add(
            foreign_episode(frames, plan, spec, texts[0] or options.instruction or "", options.cast)
        )

    incoming.finish()
    left_out = [f"{name}: {why}" for name, why in plan.left_out.items()]
    if several:
        left_out.append(
            f"task: {several} episodes change it on the way; the first one is their instruction"
        )

    return Imported(incoming.episodes, incoming.steps, tuple(left_out))
