"""The quality of a dataset's episodes, success labels checked by replaying them included."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.collectors.executors import Executor
from shopfloor.collectors.recorded.episodes import each_recorded, known_cells, recorded_cell
from shopfloor.collectors.recorded.replay import Replay, replay_job
from shopfloor.core import InvalidInputError, ShopfloorError, UnknownNameError
from shopfloor.datasets.format.record import EpisodeRecord, positions
from shopfloor.datasets.quality.assess import assess
from shopfloor.datasets.quality.judge import DROP, Finding, Thresholds
from shopfloor.datasets.quality.result import Assessed, Quality
from shopfloor.datasets.reader import Dataset

LABEL = "shopfloor.collectors.recorded.quality:label_job"
# Share of a cell's episodes that must replay to their states before one that does not is suspect.
MOST = 0.5
PICTURES = 5  # of an episode, evenly spaced in time
THUMBNAIL = (120, 160)  # height, width, pixels, of rendered ones
CAMERA = "front"  # what is rendered, where a cell has this camera
Progress = Callable[[str, int, int], None]


def quality(
    path: Path | str,
    *,
    where: str | None = None,
    overlays: Sequence[Path | str] = (),
    replay: bool = True,
    seed: int = 0,
    thresholds: Thresholds | None = None,
    workers: int | str = 1,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Quality:
    """Judge the episodes of a dataset. Nothing is written.

    Args:
        path: the dataset folder.
        where: an expression (`parse_where`) that chooses episodes; all by default.
        overlays: overlay files that hold besides the dataset's own.
        replay: whether actions are executed again to check the success labels; it takes about as
            long as collecting.
        seed: seed of all draws; the same seed gives the same result.
        thresholds: the limits that make a finding.
        workers: number of processes that replay, or the address of an engine such as "local:4" (see
            `make_executor`); the result is the same for any.
        executor: runs the replays instead, and is kept open.
        progress: called with "read" or "replay", how many episodes are done, and of how many.

    Returns:
        The findings.

    Raises:
        InvalidInputError: nothing is chosen, or the seed is negative.
        NotADatasetError, FormatVersionError, DamagedFileError: as `Dataset`.
    """

    def reporting(phase: str) -> Callable[[int, int], None] | None:
        return None if progress is None else functools.partial(progress, phase)

    found = assess(
        path,
        where=where,
        overlays=overlays,
        seed=seed,
        thresholds=thresholds,
        progress=reporting("read"),
    )

    if not replay:
        return replace(
            found, not_checked=(*found.not_checked, "success labels: replaying was not asked for")
        )

    dataset = Dataset(path, overlays=overlays)
    records, passed_over = _able(dataset, [one.record for one in found.episodes])
    results = each_recorded(
        LABEL, dataset, records, overlays, {}, executor, workers, reporting("replay")
    )
    replays = {record.episode_id: result for record, result in zip(records, results, strict=True)}

    return _with_labels(found, replays, passed_over)


def _able(
    dataset: Dataset, records: Sequence[EpisodeRecord]
) -> tuple[list[EpisodeRecord], Counter[str]]:
    """Return the episodes that can be simulated, and how many cannot for which reason."""
    installed = known_cells(records)
    places = positions(dataset.records)
    able: list[EpisodeRecord] = []
    reasons: Counter[str] = Counter()

    for record in records:
        if record.cell not in installed:
            reasons[f"{record.cell} is not installed here"] += 1
        elif dataset.open_episode(places[record.episode_id]).array("sim_states").row_shape == (0,):
            reasons["no simulator states (imported, or of a real robot)"] += 1
        else:
            able.append(record)

    dataset.close()
    return able, reasons


def label_job(payload: dict[str, Any]) -> dict[str, Any]:
    """Replay one episode in a worker process.

    Args:
        payload: see `recorded.each_recorded`.

    Returns:
        {"success", "states_equal", "first_difference"}, or {"refused": why} where the cell cannot
        take the episode.
    """
    try:
        return replay_job(payload)
    except (InvalidInputError, UnknownNameError) as error:
        return {"refused": str(error)}


# --------------------------------------------------------------------------------------------------
# What follows from replays
# --------------------------------------------------------------------------------------------------


def _with_labels(
    found: Quality, replays: Mapping[str, Mapping[str, Any]], passed_over: Counter[str]
) -> Quality:
    replayed = {}
    passed_over = passed_over.copy()
    for episode_id, result in replays.items():
        if "refused" in result:
            passed_over["the cell cannot take it"] += 1
        else:
            replayed[episode_id] = Replay(**result)

    trusted = _reproducing(found.episodes, replayed)
    labels = {"replayed": len(replayed), "states_equal": 0, "wrong": 0}
    labels["passed_over"] = sum(passed_over.values())
    untrusted = set()
    episodes = []
    for one in found.episodes:
        again = replayed.get(one.record.episode_id)
        if again:
            findings = _label_findings(one, again, trusted)
            one = one.finding(findings, found.thresholds)
            labels["states_equal"] += again.states_equal
            labels["wrong"] += any(finding.kind == "wrong_label" for finding in findings)
            untrusted |= {one.record.cell} - trusted
        episodes.append(one)

    reasons = []
    for why, count in sorted(passed_over.items()):
        reasons.append(f"success labels: {count} episodes: {why}")
    for cell in sorted(untrusted):
        reasons.append(
            f"success labels: {cell}: most episodes do not replay to the same states here (another "
            "release of the simulator, or another kind of processor)"
        )

    return replace(
        found,
        episodes=tuple(episodes),
        not_checked=(*found.not_checked, *reasons),
        labels=labels,
    )


def _reproducing(episodes: Sequence[Assessed], replayed: Mapping[str, Replay]) -> set[str]:
    """Return the cells most of whose episodes replay to their recorded states on this machine."""
    equal: dict[str, list[bool]] = {}
    for one in episodes:
        if one.record.episode_id in replayed:
            equal.setdefault(one.record.cell, []).append(
                replayed[one.record.episode_id].states_equal
            )

    cells = set()
    for cell, values in equal.items():
        if np.mean(values) >= MOST or (len(values) == 1 and values[0]):
            cells.add(cell)
    return cells


def _label_findings(one: Assessed, again: Replay, trusted: set[str]) -> list[Finding]:
    recorded = one.record.outcome == "success"
    if again.states_equal and recorded != again.success:
        text = "labelled a failure, the simulator calls it a success; data relabel corrects it"
        if recorded:
            text = (
                "labelled a success, the simulator does not call it one; data relabel corrects it"
            )
        return [Finding("wrong_label", DROP, float(again.success), float(recorded), text)]

    if not again.states_equal and one.record.cell in trusted:
        text = (
            f"executing its actions gives other states from {again.first_difference} on, unlike "
            "those of other episodes: states, actions or cell were altered after recording"
        )

        return [Finding("not_reproduced", DROP, float(again.first_difference), None, text)]

    return []


# --------------------------------------------------------------------------------------------------
# Pictures of episodes
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Strip:
    """Some pictures of an episode, in time order.

    Attributes:
        camera: its name.
        steps: which observations they belong to.
        pictures: shape (len(steps), height, width, 3), uint8, RGB.
        rendered: whether they were drawn now, from simulator states.
    """

    camera: str
    steps: tuple[int, ...]
    pictures: npt.NDArray[np.uint8]
    rendered: bool


def strips(
    path: Path | str, records: Sequence[EpisodeRecord], overlays: Sequence[Path | str] = ()
) -> Iterator[list[Strip]]:
    """Yield pictures of some episodes: recorded ones, else those of a camera that is rendered now.

    Args:
        path: the dataset folder.
        records: records of the episodes.
        overlays: overlay files that the records were read with.

    Yields:
        For each episode one strip a camera; none where there is nothing to show.
    """
    dataset = Dataset(path, overlays=overlays)
    places = positions(dataset.records)
    installed = known_cells(records)

    for record in records:
        index = places[record.episode_id]
        recorded = _recorded_strips(dataset, index)
        if not recorded and record.cell in installed:
            recorded = _rendered_strips(dataset, index)
        yield recorded

    dataset.close()


def _recorded_strips(dataset: Dataset, index: int) -> list[Strip]:
    file = dataset.open_episode(index)
    steps = _spread(file.steps)
    found = []

    for name in file.observation_keys:
        shape = file.array(name).row_shape
        if len(shape) == 3 and shape[2] in (1, 3) and file.array(name).dtype == np.uint8:
            pictures = np.concatenate([file.read(name, step, step + 1) for step in steps])
            found.append(
                Strip(
                    name, steps, np.broadcast_to(pictures, (*pictures.shape[:3], 3)), rendered=False
                )
            )

    return found


def _rendered_strips(dataset: Dataset, index: int) -> list[Strip]:
    file = dataset.open_episode(index)
    if file.array("sim_states").row_shape == (0,):
        return []

    steps = _spread(file.steps)
    states = [file.read("sim_states", step, step + 1)[0] for step in steps]
    try:
        with recorded_cell(dataset.read(index), image_size=list(THUMBNAIL)) as cell:
            known = cell.describe()["cameras"]
            camera = CAMERA if CAMERA in known else sorted(known)[0]
            pictures = []
            for state in states:
                cell.set_sim_state(state)
                pictures.append(np.array(cell.observe([camera])[camera], dtype=np.uint8))
    except (ShopfloorError, IndexError):
        return []  # states of another version of the cell: the page does without

    return [Strip(camera, steps, np.stack(pictures), rendered=True)]


def _spread(steps: int) -> tuple[int, ...]:
    spread: list[int] = np.unique(np.rint(np.linspace(0, steps, PICTURES)).astype(int)).tolist()
    return tuple(spread)
