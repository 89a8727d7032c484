"""Recorded episodes as jobs: how a worker process gets hold of an episode and of its cell."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from shopfloor.collectors import jobs
from shopfloor.collectors.executors import Executor, make_executor, signals
from shopfloor.core import Cell, Episode, InvalidInputError, RewindableCell, listed_paths
from shopfloor.datasets.disk.errors import DamagedFileError
from shopfloor.datasets.format.record import positions
from shopfloor.datasets.reader import Dataset, EpisodeRecord
from shopfloor.envs.registry import cell_ids

Job = dict[str, Any]
Progress = Callable[[int, int], None]
_opened: dict[tuple[str, ...], Dataset] = {}


def each_recorded(
    function: str,
    dataset: Dataset,
    records: Sequence[EpisodeRecord],
    overlays: Sequence[Path | str],
    common: Job,
    executor: Executor | None,
    workers: int | str,
    progress: Progress | None,
) -> list[Job]:
    """Run a job for each of some episodes.

    Args:
        function: "shopfloor.module:function", which may pass its payload to `read_recorded`;
            "index" is the episode's.
        dataset: holds the episodes.
        records: records of these episodes.
        overlays: overlay files that `dataset` was opened with.
        common: further entries of each payload.
        executor: runs the jobs and is kept open; without one that of `workers` is made and
            closed.
        workers: number of processes, 1 for none but this one, or the address of an engine.
        progress: called after each job with how many are done, and of how many.

    Returns:
        The results in the order of the records, whatever order they came in.
    """
    places = positions(dataset.records)

    def payload(record: EpisodeRecord) -> Job:
        return {
            **common,
            "dataset": str(dataset.path),
            "overlays": list(map(str, listed_paths(overlays))),
            "position": places[record.episode_id],
            "episode_id": record.episode_id,
            "sha256": record.sha256,
            "index": record.index,
        }

    results: dict[int, Job] = {}
    try:
        with signals.handling(), contextlib.ExitStack() as stack:
            running = (
                executor if executor is not None else stack.enter_context(make_executor(workers))
            )

            for position, result in running.run(function, map(payload, records)):
                results[position] = result
                if progress is not None:
                    progress(len(results), len(records))
    finally:
        forget()

    return [results[position] for position in range(len(records))]


def read_recorded(payload: Job) -> Episode:
    """Read the episode of a job as it was committed, without overlays.

    A process keeps the dataset of its last job open, so that a long list is not read anew for every
    episode.
    """
    key = (payload["dataset"], *payload["overlays"])
    if key not in _opened or not _same(_opened[key], payload):
        forget()
        _opened[key] = Dataset(key[0], max_open_files=1, overlays=key[1:])

    dataset = _opened[key]
    if not _same(dataset, payload):
        raise DamagedFileError(
            key[0], "another process changed it meanwhile", "Run the same command again."
        )

    file = dataset.open_episode(payload["position"])
    facts: dict[str, Any] = {name: file.fact(name) for name in ("instruction", "outcome", "reason")}
    return dataclasses.replace(dataset.read(payload["position"]), **facts)


def _same(dataset: Dataset, payload: Job) -> bool:
    records, index = dataset.records, payload["position"]
    if index >= len(records):
        return False
    return (records[index].episode_id, records[index].sha256) == (
        payload["episode_id"],
        payload["sha256"],
    )


def forget() -> None:
    """Close what `read_recorded` keeps open in this process."""
    while _opened:
        _opened.popitem()[1].close()


@contextlib.contextmanager
def recorded_cell(episode: Episode, **changes: Any) -> Iterator[RewindableCell]:  # noqa: ANN401  # cell options
    """Lend this process's cell of an episode's spec, reset to its seed.

    A cell that failed is not used again.

    Args:
        episode: the episode, whose spec names cell, options, variation and seed.
        changes: options that are to differ, such as image_size.

    Raises:
        InvalidInputError: the cell cannot come back to a recorded state.
    """
    spec = episode.spec
    options = {**spec.cell_options, **changes}
    sound = False

    try:
        cell = jobs.pooled_cell(spec.cell, options, spec.variation)
        cell.reset(seed=spec.seed)
        yield rewindable(cell)
        sound = True
    finally:
        if not (sound and jobs.REUSE_CELLS):
            jobs.drop_cell(spec.cell, options, spec.variation)


def rewindable(cell: Cell) -> RewindableCell:
    """Return a cell that can come back to a recorded state.

    Raises:
        InvalidInputError: it cannot.
    """
    if not isinstance(cell, RewindableCell):
        raise InvalidInputError(
            f"{cell.cell_id} cannot come back to a recorded state: it has no set_sim_state. What "
            "was not recorded of its episodes cannot be had; choose others with --where."
        )

    return cell


def known_cells(records: Iterable[EpisodeRecord]) -> set[str]:
    """Return those of the episodes' cells that are installed here."""
    return cells_of(records) & set(cell_ids())


def cells_of(records: Iterable[EpisodeRecord]) -> set[str]:
    """Return the full ids of the episodes' cells."""
    return {record.cell for record in records}
