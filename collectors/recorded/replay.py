"""Recorded episodes again: physics from stored actions, pictures from stored simulator states."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.collectors.executors import Executor
from shopfloor.collectors.jobs import build_cell
from shopfloor.collectors.recorded.episodes import (
    Progress,
    cells_of,
    each_recorded,
    known_cells,
    read_recorded,
    recorded_cell,
    rewindable,
)
from shopfloor.core import Cell, Episode, InvalidInputError, ShopfloorError
from shopfloor.datasets.format import kinds
from shopfloor.datasets.format.record import episode_ids, positions
from shopfloor.datasets.listing.select import choose_records
from shopfloor.datasets.listing.verify import Damage, verify
from shopfloor.datasets.reader import Dataset, EpisodeRecord

REPLAY = "shopfloor.collectors.recorded.replay:replay_job"
_ADVICE = (
    "Its bytes are whole, so the simulator or the cell differs from the one that recorded it "
    "(another release, other wheels, another kind of processor), or its actions were altered "
    "before it was committed. `shopfloor data replay` says how many are like this."
)
_PASSED_OVER = "the others have no simulator states, or are of cells that are not installed here"


@dataclass(frozen=True)
class Replay:
    """The outcome of executing an episode's actions again.

    Attributes:
        states_equal: whether every simulator state came out the same, bit for bit.
        first_difference: first of the T+1 states that differs, or -1.
        success: whether the task was done again.
    """

    states_equal: bool
    first_difference: int
    success: bool


@dataclass(frozen=True)
class ReplayOutcome:
    """One episode's replay beside what is recorded of it.

    Attributes:
        episode_id: the episode's id.
        cell: full id of its cell.
        seed: the episode's seed.
        recorded: whether it is recorded as a success.
        success: whether the task was done again.
        states_equal: whether every simulator state came out the same, bit for bit.
        first_difference: first of the T+1 states that differs, or -1.
    """

    episode_id: str
    cell: str
    seed: int
    recorded: bool
    success: bool
    states_equal: bool
    first_difference: int


@dataclass(frozen=True)
class ReplayReport:
    """The outcomes of replaying episodes.

    Attributes:
        episodes: one outcome an episode, in the dataset's order.
        chosen_from: number of episodes there were to choose from.
    """

    episodes: tuple[ReplayOutcome, ...]
    chosen_from: int

    @property
    def states_equal(self) -> int:
        """How many came out with the same states, bit for bit."""
        return self._count("states_equal")

    @property
    def successes(self) -> int:
        """How many are recorded as successes."""
        return self._count("recorded")

    @property
    def successes_again(self) -> int:
        """How many of these succeeded again."""
        return sum(one.recorded and one.success for one in self.episodes)

    @property
    def outcomes_equal(self) -> int:
        """How many succeeded or failed as it is recorded."""
        return sum(one.recorded == one.success for one in self.episodes)

    def _count(self, flag: str) -> int:
        return sum(map(operator.attrgetter(flag), self.episodes))

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        count = len(self.episodes)
        return {
            "replayed": count,
            "chosen_from": self.chosen_from,
            "states_equal": self.states_equal,
            "states_equal_share": self.states_equal / count,
            "successes": self.successes,
            "successes_again": self.successes_again,
            "outcomes_equal": self.outcomes_equal,
            "outcomes_equal_share": self.outcomes_equal / count,
            "episodes": [asdict(one) for one in self.episodes],
        }


@dataclass(frozen=True)
class DeepCheck:
    """What a deep verification found.

    Attributes:
        damage: what `verify` found, and episodes that replay to other states.
        replays: the episodes that were replayed; None where none could be.
        passed_over: why episodes could not be replayed, for people; "" where all could.
    """

    damage: tuple[Damage, ...]
    replays: ReplayReport | None
    passed_over: str = ""


# --------------------------------------------------------------------------------------------------
# One episode
# --------------------------------------------------------------------------------------------------


def render_episode(
    episode: Episode, camera: str, size: tuple[int, int] = (96, 96)
) -> npt.NDArray[np.uint8]:
    """Render an episode's pictures from its simulator states, at any size, recorded or not.

    Args:
        episode: holds the states.
        camera: name of one of the cell's cameras.
        size: (height, width), pixels.

    Returns:
        shape (T+1, height, width, 3), uint8, RGB, one a state.

    Raises:
        UnknownNameError: if the cell has no such camera.
    """
    spec = episode.spec
    cell = rewindable(
        build_cell(spec.cell, {**spec.cell_options, "image_size": size}, spec.variation)
    )

    try:
        features: dict[str, Any] = cell.describe()["features"]
        kinds.check_cameras(features, [camera])
        cell.reset(seed=spec.seed)
        pictures = []
        for state in episode.sim_states:
            cell.set_sim_state(state)
            pictures.append(np.array(cell.observe([camera])[camera], dtype=np.uint8))
    finally:
        cell.close()

    return np.stack(pictures)


def replay(episode: Episode) -> Replay:
    """Execute an episode's actions in a new cell and compare its states with the recorded ones.

    Raises:
        InvalidInputError: the episode has no simulator states, or its cell is not installed.
    """
    spec = episode.spec
    refuse_stateless(episode)
    cell = build_cell(spec.cell, spec.cell_options, spec.variation)

    try:
        cell.reset(seed=spec.seed)
        return _again(cell, episode)
    finally:
        cell.close()


def refuse_stateless(episode: Episode) -> None:
    """Raise InvalidInputError if an episode has no simulator states to compare with or to draw."""
    if not episode.sim_states.size:
        raise InvalidInputError(
            f"Episode {episode.spec.episode_id} of {episode.spec.cell} has no simulator states (it "
            "was imported, or comes from a real robot), so it can be neither replayed nor "
            "rendered. Choose others with --where."
        )


def _again(cell: Cell, episode: Episode) -> Replay:
    """Execute the actions in a cell that is reset to the episode's seed."""
    states, success = [np.array(cell.sim_state())], False
    for action in episode.actions:
        _, terminated, truncated, info = cell.advance(action)
        success = success or bool(info["success"])
        states.append(np.array(cell.sim_state()))
        if terminated or truncated:  # one that goes otherwise may end before its actions do
            break

    for step, recorded in enumerate(episode.sim_states):
        if step == len(states) or states[step].tobytes() != recorded.tobytes():
            return Replay(False, step, success)
    return Replay(True, -1, success)


# --------------------------------------------------------------------------------------------------
# Datasets
# --------------------------------------------------------------------------------------------------


def replay_dataset(
    path: Path | str,
    *,
    where: str | None = None,
    ids: Iterable[str] = (),
    sample: int | None = None,
    seed: int = 0,
    overlays: Sequence[Path | str] = (),
    workers: int | str = 1,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> ReplayReport:
    """Execute the actions of a dataset's episodes again; nothing is written.

    Args:
        path: the dataset folder.
        where: an expression (`parse_where`) that chooses episodes; all without it and without
            `ids`.
        ids: ids of episodes, or beginnings of at least 8 characters, besides those.
        sample: at most so many of the chosen ones, drawn at random; all by default.
        seed: seed of that draw.
        overlays: overlay files that hold besides the dataset's own.
        workers: number of processes, or the address of an engine such as "local:4" (see
            `make_executor`); the result is the same for any.
        executor: runs the jobs instead, and is kept open.
        progress: called after each episode with how many are done, and of how many.

    Returns:
        The outcome of each.

    Raises:
        InvalidInputError: nothing is chosen; an episode's cell is not installed, or it has no
            simulator states.
        NotADatasetError, FormatVersionError, DamagedFileError: as `Dataset`.
    """
    dataset = Dataset(path, overlays=overlays)
    chosen = choose_records(dataset.records, where, ids, path)
    records = draw(chosen, sample, seed)
    refuse_uninstalled(records, path)

    return ReplayReport(
        _replays(dataset, records, overlays, workers, executor, progress), len(chosen)
    )


def deep_verify(
    path: Path | str,
    sample: int = 10,
    seed: int = 0,
    *,
    workers: int | str = 1,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> DeepCheck:
    """Check every byte of a dataset, then replay some whole episodes and compare all states.

    Args:
        path: the dataset folder.
        sample: how many episodes are replayed, drawn at random; 0 for all.
        seed: seed of that draw.
        workers: number of processes, or the address of an engine such as "local:4" (see
            `make_executor`); the result is the same for any.
        executor: runs the jobs instead, and is kept open.
        progress: called after each replay with how many are done, and of how many.

    Returns:
        What is wrong, and which episodes were replayed.

    Raises:
        NotADatasetError: the folder is none.
        InvalidInputError: the sample is negative.
    """
    if sample < 0:
        raise InvalidInputError(
            f"The sample is {sample}; expected a number of episodes, or 0 for all."
        )

    damage = verify(path)
    try:
        dataset = Dataset(path)
    except ShopfloorError:  # `verify` has reported what is wrong
        return DeepCheck(tuple(damage), None, "nothing can be read without it")

    broken = {entry.file for entry in damage}
    whole = [record for record in dataset.records if str(dataset.path / record.file) not in broken]
    drawn = _drawn_able(dataset, whole, sample or len(whole), seed)
    why = ""
    if not whole:
        why = "there is no whole episode"
    elif len(drawn) < min(sample or len(whole), len(whole)):
        why = _PASSED_OVER
    if not drawn:
        return DeepCheck(tuple(damage), None, why)

    replays = ReplayReport(_replays(dataset, drawn, (), workers, executor, progress), len(whole))
    for record, one in zip(drawn, replays.episodes, strict=True):
        if not one.states_equal:
            file = str(dataset.path / record.file)
            problem = f"executing the actions of episode {one.episode_id} again gives other states"
            damage.append(Damage(file, f"{problem} from {one.first_difference} on", _ADVICE))

    return DeepCheck(tuple(damage), replays, why)


def _drawn_able(
    dataset: Dataset, records: Sequence[EpisodeRecord], sample: int, seed: int
) -> list[EpisodeRecord]:
    """Draw episodes that can be simulated: their cell is installed, and they have states."""
    installed = known_cells(records)
    places = positions(dataset.records)
    able: list[EpisodeRecord] = []

    for record in shuffled([record for record in records if record.cell in installed], seed):
        if len(able) == sample:
            break

        if dataset.open_episode(places[record.episode_id]).array("sim_states").row_shape != (0,):
            able.append(record)

    dataset.close()
    return _in_order_of(records, able)


def draw(records: Sequence[EpisodeRecord], sample: int | None, seed: int) -> list[EpisodeRecord]:
    """Return a sample of records in their order, drawn by their ids and the seed alone."""
    if sample is None or sample >= len(records):
        return list(records)
    if sample < 1:
        raise InvalidInputError(f"The sample is {sample}; expected at least 1 episode.")
    return _in_order_of(records, shuffled(records, seed)[:sample])


def _in_order_of(
    records: Sequence[EpisodeRecord], chosen: Sequence[EpisodeRecord]
) -> list[EpisodeRecord]:
    ids = episode_ids(chosen)
    return [record for record in records if record.episode_id in ids]


def shuffled(records: Sequence[EpisodeRecord], seed: int) -> list[EpisodeRecord]:
    """Return records in an order that depends on their ids and the seed alone."""
    if seed < 0:
        raise InvalidInputError(f"The seed is {seed}; expected an integer of at least 0.")
    ordered = sorted(records, key=lambda record: record.episode_id)
    return [ordered[index] for index in np.random.default_rng(seed).permutation(len(ordered))]


def refuse_uninstalled(records: Sequence[EpisodeRecord], path: Path | str) -> None:
    """Raise InvalidInputError if a cell of these episodes is not installed here."""
    missing = sorted(cells_of(records) - known_cells(records))
    if missing:
        raise InvalidInputError(
            f"{path} has episodes of {', '.join(missing)}, which is not installed here, so they "
            "cannot be simulated. Install the package that has the cell, or choose other episodes "
            "with --where."
        )


def _replays(
    dataset: Dataset,
    records: Sequence[EpisodeRecord],
    overlays: Sequence[Path | str],
    workers: int | str,
    executor: Executor | None,
    progress: Progress | None,
) -> tuple[ReplayOutcome, ...]:
    results = each_recorded(REPLAY, dataset, records, overlays, {}, executor, workers, progress)
    outcomes = []
    for record, result in zip(records, results, strict=True):
        recorded = record.outcome == "success"
        identity = (record.episode_id, record.cell, record.seed)
        outcomes.append(ReplayOutcome(*identity, recorded, **result))
    return tuple(outcomes)


def replay_job(payload: dict[str, Any]) -> dict[str, Any]:
    """Replay one episode in a worker process.

    Args:
        payload: see `recorded.each_recorded`.

    Returns:
        {"success", "states_equal", "first_difference"}.
    """
    episode = read_recorded(payload)
    refuse_stateless(episode)
    with recorded_cell(episode) as cell:
        return asdict(_again(cell, episode))
