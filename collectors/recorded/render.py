"""Pictures for a dataset that was collected without, drawn from stored simulator states."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.collectors.executors import Executor, make_executor
from shopfloor.collectors.recorded.episodes import (
    Progress,
    each_recorded,
    read_recorded,
    recorded_cell,
)
from shopfloor.collectors.recorded.replay import refuse_stateless, refuse_uninstalled
from shopfloor.core import (
    CameraTrack,
    Episode,
    EpisodeSpec,
    InvalidInputError,
    UnknownNameError,
    canonical_json,
    listed,
)
from shopfloor.datasets.convert.incoming import Incoming
from shopfloor.datasets.disk.errors import disk_error
from shopfloor.datasets.disk.staging import staged_folder
from shopfloor.datasets.format import kinds, layout
from shopfloor.datasets.format.encode import Provenance, encode_episode
from shopfloor.datasets.format.layout import CODECS
from shopfloor.datasets.listing.identity import identity_json
from shopfloor.datasets.listing.overlays import append_overlay, load_overlays
from shopfloor.datasets.listing.select import choose_records
from shopfloor.datasets.reader import Dataset, EpisodeRecord
from shopfloor.datasets.tools.merge import merged_identity
from shopfloor.datasets.tools.transfer import refuse_damage, refuse_inside

RENDER = "shopfloor.collectors.recorded.render:render_job"
DESCRIBE = "shopfloor.collectors.recorded.render:describe_job"
SIDES = (8, 4096)


@dataclass(frozen=True)
class Rendered:
    """What a rendering made.

    Attributes:
        episodes: number of episodes.
        pictures: number of pictures in all.
        bytes: size of the episode files.
        path: the new dataset.
    """

    episodes: int
    pictures: int
    bytes: int
    path: Path

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        return {**asdict(self), "path": str(self.path)}


def render_dataset(
    path: Path | str,
    out: Path | str,
    cameras: Sequence[str] = ("front", "wrist"),
    size: tuple[int, int] = (96, 96),
    *,
    where: str | None = None,
    overlays: Sequence[Path | str] = (),
    codec: str = "blosc",
    workers: int | str = 1,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Rendered:
    """Make a dataset with pictures of another's episodes, as `collect --cameras` would have written.

    Everything else of an episode stays; its `cell_options`, and so its id, are those of an episode
    with these cameras. Pictures it had are replaced. The overlays' changes come along. A state that
    does not give the observation that was recorded with it is refused: the pictures would not show
    what happened.

    Args:
        path: the dataset folder.
        out: folder of the result; made whole or not at all.
        cameras: names of cameras.
        size: (height, width) of the pictures, pixels.
        where: an expression (`parse_where`) that chooses episodes; all by default.
        overlays: overlay files that hold besides the dataset's own.
        codec: "blosc", "gzip" or "none".
        workers: number of processes, or the address of an engine such as "local:4" (see
            `make_executor`); the files are the same for any.
        executor: runs the jobs instead, and is kept open.
        progress: called after each episode with how many are done, and of how many.

    Returns:
        What was made.

    Raises:
        InvalidInputError: no such camera, size or codec; nothing is chosen; an episode has no
            states or its cell is not installed; `out` exists.
        DamagedFileError: something is damaged; nothing is made then.
    """
    cameras = listed(cameras)
    _check(cameras, size, codec)
    dataset = Dataset(path, overlays=overlays)
    refuse_damage(dataset)
    records = choose_records(dataset.records, where, (), path)
    refuse_uninstalled(records, path)
    refuse_inside(Path(out), [dataset.path])
    changes = {"cameras": list(cameras), "image_size": list(size)}

    with staged_folder(out) as staged:
        running = executor if executor is not None else make_executor(workers)
        try:
            identity, env_args = _identity(dataset, records, overlays, changes, running)
            incoming = Incoming(staged, identity, codec)
            common = {
                "out": str(staged),
                "codec": codec,
                "changes": changes,
                "env_args": env_args,
                "provenance": asdict(dataset.identity.provenance),
                "action_convention": identity["action_convention"],
            }

            results = each_recorded(
                RENDER, dataset, records, overlays, common, running, workers, progress
            )
        finally:
            if executor is None:
                running.close()

        _refuse_twins(records, results, path)
        _carry_overlays(dataset, records, results, staged, overlays)
        incoming.finish()

    pictures = size_bytes = 0
    for result in results:
        pictures += result["pictures"]
        size_bytes += result["bytes"]
    return Rendered(len(results), pictures, size_bytes, Path(out))


def _check(cameras: Sequence[str], size: Sequence[int], codec: str) -> None:
    if not cameras:
        raise InvalidInputError("No camera is named; give one or more, such as front,wrist.")
    if len(set(cameras)) != len(cameras):
        raise InvalidInputError(f"Cameras {', '.join(cameras)} name one twice.")

    low, high = SIDES
    if len(size) != 2 or not all(low <= side <= high for side in size):
        raise InvalidInputError(
            f"Image size is {tuple(size)}; expected (height, width) of {low} to {high} pixels."
        )
    if codec not in CODECS:
        raise UnknownNameError("codec", codec, CODECS)


def _identity(
    dataset: Dataset,
    records: Sequence[EpisodeRecord],
    overlays: Sequence[Path | str],
    changes: Mapping[str, Any],
    executor: Executor,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the new `dataset.json`, and cell -> robomimic's description of the environment."""
    kinds = {canonical_json([record.cell, record.variation]): record for record in records}
    described = each_recorded(
        DESCRIBE,
        dataset,
        list(kinds.values()),
        overlays,
        {"changes": changes},
        executor,
        executor.workers,
        None,
    )

    documents = {}
    for record, result in zip(kinds.values(), described, strict=True):
        document = identity_json(result["description"], dataset.identity.provenance)
        documents[f"{record.cell} ({record.variation})"] = document

    identity = merged_identity(documents)
    env_args = {}
    for cell, description in identity["descriptions"].items():
        env_args[cell] = description.get("env_args")
    return identity, env_args


def _refuse_twins(
    records: Sequence[EpisodeRecord], results: Sequence[Mapping[str, Any]], path: Path | str
) -> None:
    """Refuse episodes that differ in nothing but the pictures they had: rendered, they are one."""
    seen: dict[str, EpisodeRecord] = {}
    for record, result in zip(records, results, strict=True):
        twin = seen.setdefault(result["episode_id"], record)
        if twin is not record:
            raise InvalidInputError(
                f"Episodes {twin.episode_id} and {record.episode_id} of {path} differ only in the "
                "pictures they have, so with new ones they would be the same episode. Leave one "
                "out with --where."
            )


def _carry_overlays(
    dataset: Dataset,
    records: Sequence[EpisodeRecord],
    results: Sequence[Mapping[str, Any]],
    staged: Path,
    overlays: Sequence[Path | str],
) -> None:
    changes = load_overlays(dataset.path, overlays)
    operations = []
    for record, result in zip(records, results, strict=True):
        if record.episode_id in changes:
            operations += changes[record.episode_id].operations(result["episode_id"])
    if operations:
        append_overlay(staged, operations)


# --------------------------------------------------------------------------------------------------
# Jobs
# --------------------------------------------------------------------------------------------------


def describe_job(payload: dict[str, Any]) -> dict[str, Any]:
    """Describe the cell of a recorded episode as `collect` would with other cameras.

    Returns:
        {"description"}.
    """
    changes = payload["changes"]
    episode = read_recorded(payload)
    refuse_stateless(episode)
    with recorded_cell(episode, **changes) as cell:
        description = cell.describe()
    features = description["features"]
    kinds.check_cameras(features, changes["cameras"])

    kept = kinds.recorded_keys(features, changes["cameras"])
    return {"description": {**description, "features": {key: features[key] for key in kept}}}


def render_job(payload: dict[str, Any]) -> dict[str, Any]:
    """Render one recorded episode and write its new file.

    Args:
        payload: see `recorded.each_recorded`; "changes" of the cell's options, "out", "codec",
            "env_args" by cell, "provenance", "action_convention".

    Returns:
        {"episode_id", "pictures", "bytes"} of the new episode.
    """
    episode = with_pictures(read_recorded(payload), **payload["changes"])
    data = encode_episode(
        episode,
        payload["codec"],
        payload["env_args"].get(episode.spec.cell),
        Provenance(**payload["provenance"]),
        payload["action_convention"],
    )

    file = Path(payload["out"]) / layout.episode_file(payload["index"], episode.spec.episode_id)
    try:
        file.write_bytes(data)  # made durable with all others, before the folder gets its name
    except OSError as error:
        raise disk_error(file, error) from error

    pictures = (episode.steps + 1) * len(payload["changes"]["cameras"])
    return {"episode_id": episode.spec.episode_id, "pictures": pictures, "bytes": len(data)}


def with_pictures(episode: Episode, cameras: Sequence[str], image_size: Sequence[int]) -> Episode:
    """Return the episode as it would have been recorded with cameras.

    Args:
        episode: the episode as it was committed.
        cameras: names of the cell's cameras.
        image_size: (height, width), pixels.

    Raises:
        InvalidInputError: it has no simulator states, or they do not give the observations recorded
            with them.
    """
    refuse_stateless(episode)
    seen: dict[str, list[npt.NDArray[Any]]] = {}
    poses: dict[str, list[npt.NDArray[np.float64]]] = {}
    intrinsics: dict[str, npt.NDArray[np.float64]] = {}

    with recorded_cell(episode, image_size=list(image_size)) as cell:
        features = cell.describe()["features"]
        vectors = kinds.keys_of(features, kinds.VECTOR)
        drawn = [key for key in kinds.recorded_keys(features, cameras) if key not in vectors]
        numbers = {key: rows for key, rows in episode.observations.items() if key in vectors}

        for step, state in enumerate(episode.sim_states):
            cell.set_sim_state(state)
            observation = cell.observe(cameras)
            for key, rows in numbers.items():
                if np.asarray(observation[key], dtype=rows.dtype).tobytes() != rows[step].tobytes():
                    raise _other(episode, key, step)

            for key in drawn:
                dtype = features[key]["dtype"]
                seen.setdefault(key, []).append(np.array(observation[key], dtype=dtype))

            for name in cameras:
                inner, outer = cell.camera_track(name)
                intrinsics[name] = np.array(inner, dtype=np.float64)
                poses.setdefault(name, []).append(np.array(outer, dtype=np.float64))

    options = {
        **episode.spec.cell_options,
        "cameras": list(cameras),
        "image_size": list(image_size),
    }

    spec: EpisodeSpec = dataclasses.replace(episode.spec, cell_options=options)
    return dataclasses.replace(
        episode,
        spec=spec,
        observations={**numbers, **{name: np.stack(frames) for name, frames in seen.items()}},
        cameras={name: CameraTrack(intrinsics[name], np.stack(poses[name])) for name in cameras},
    )


def _other(episode: Episode, key: str, step: int) -> InvalidInputError:
    return InvalidInputError(
        f"Episode {episode.spec.episode_id} of {episode.spec.cell}: its simulator state {step} "
        f"does not give the {key!r} that was observed then, so pictures would not show what "
        "happened. It was recorded by another release or kind of machine; render it there, or "
        "leave it out with --where."
    )
