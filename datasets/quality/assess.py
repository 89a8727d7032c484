"""The quality of a dataset's episodes: each is read once, its figures are kept, all are compared.

`assess` needs no simulator; `shopfloor.collectors.recorded.quality` adds what replaying shows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shopfloor.core import InvalidInputError
from shopfloor.datasets.disk.errors import DamagedFileError
from shopfloor.datasets.format.record import EpisodeRecord, positions
from shopfloor.datasets.listing.select import choose_records
from shopfloor.datasets.quality import coupling, information, judge, motion, neighbours, sensors
from shopfloor.datasets.quality.columns import find_columns, read_series
from shopfloor.datasets.quality.figures import Metrics
from shopfloor.datasets.quality.judge import DROP, NOTE, Finding, Thresholds, Usual
from shopfloor.datasets.quality.result import Assessed, Quality
from shopfloor.datasets.quality.series import Columns, Series
from shopfloor.datasets.quality.survey import Survey, survey
from shopfloor.datasets.reader import Dataset

SURVEYED = 48  # episodes of a cell that its survey looks at
Progress = Callable[[int, int], None]
# Figures that are compared with what is usual.
COMPARED = (
    "idle_start_s",
    "idle_end_s",
    "idle_pause_s",
    "jerk",
    "path_ratio",
    "gripper_chatter",
    "saturation",
    "largest_step",
    "action_fit",
    "mutual_information",
)


@dataclass
class _Read:
    """What is kept of an episode between reading it and comparing it."""

    record: EpisodeRecord
    figures: Metrics
    cameras: dict[str, tuple[float, float]]
    stuck: dict[str, float]
    outline: neighbours.Outline
    pairs: tuple[information.Pairs, information.Pairs]
    digest: bytes
    teaches: bool
    notes: list[Finding]
    nearest: int = -1  # position of the most similar episode of its cell


# --------------------------------------------------------------------------------------------------
# The call
# --------------------------------------------------------------------------------------------------


def assess(
    path: Path | str,
    *,
    where: str | None = None,
    overlays: Sequence[Path | str] = (),
    seed: int = 0,
    thresholds: Thresholds | None = None,
    progress: Progress | None = None,
) -> Quality:
    """Judge the episodes of a dataset by what is recorded, without a simulator. Nothing is written.

    Args:
        path: the dataset folder.
        where: an expression (`parse_where`) that chooses episodes; all by default.
        overlays: overlay files that hold besides the dataset's own.
        seed: seed of all draws; the same seed gives the same result.
        thresholds: the limits that make a finding.
        progress: called after each episode with how many are done, and of how many.

    Returns:
        The findings.

    Raises:
        InvalidInputError: nothing is chosen, or the seed is negative.
        NotADatasetError, FormatVersionError, DamagedFileError: as `Dataset`.
    """
    limits = thresholds or Thresholds()
    if seed < 0:
        raise InvalidInputError(f"The seed is {seed}; expected an integer of at least 0.")

    dataset = Dataset(path, overlays=overlays)
    if not dataset.records:
        raise InvalidInputError(f"{path} has no episodes to judge.")

    position = positions(dataset.records)
    places = []
    for record in choose_records(dataset.records, where, (), path):
        places.append(position[record.episode_id])

    groups = _groups(dataset, places)
    reads: dict[int, _Read] = {}
    usual: dict[str, Mapping[str, Usual]] = {}
    assessed: dict[int, Assessed] = {}
    reasons: list[str] = []

    for cell, members in groups.items():
        generator = np.random.default_rng(np.random.SeedSequence([seed, len(usual)]))
        about = _survey(dataset, members, generator)
        for index in members:
            reads[index] = _read(dataset, index, about, generator)
            if progress is not None:
                progress(len(reads), len(places))

        kept = [reads[index] for index in members]
        _add_information(kept, generator)
        _add_neighbours(kept)
        usual[cell] = _usual(kept)
        assessed |= zip(members, _judged(kept, usual[cell], limits), strict=True)
        reasons += _not_checked(cell, about.columns, about, kept)

    dataset.close()
    episodes = tuple(assessed[index] for index in places)
    return Quality(Path(path).absolute(), episodes, tuple(reasons), usual, limits, seed)


def _groups(dataset: Dataset, places: Sequence[int]) -> dict[str, list[int]]:
    """Return the episodes that can be compared: of one cell, with arrays of one kind."""
    found: dict[str, dict[str, list[int]]] = {}
    for index in places:
        file = dataset.open_episode(index)
        kind = ""
        for key in (*file.observation_keys, "actions"):
            kind += f"{key} {file.array(key).row_shape} "
        found.setdefault(dataset.records[index].cell, {}).setdefault(kind, []).append(index)

    named: dict[str, list[int]] = {}
    for cell, kinds in sorted(found.items()):
        for number, members in enumerate(kinds.values()):
            named[cell if len(kinds) == 1 else f"{cell} (arrays of kind {number + 1})"] = members
    return named


def _survey(dataset: Dataset, members: Sequence[int], generator: np.random.Generator) -> Survey:
    columns = find_columns(dataset, members[0])
    chosen = sorted(generator.choice(members, min(SURVEYED, len(members)), replace=False).tolist())
    return survey(columns, [read_series(dataset, index, columns) for index in chosen])


def _read(dataset: Dataset, index: int, about: Survey, generator: np.random.Generator) -> _Read:
    columns, record = about.columns, dataset.records[index]
    series = read_series(dataset, index, columns)
    fit = coupling.match(series, about.pairs, about.still)

    figures: Metrics = {
        **motion.motion_metrics(series, about),
        **sensors.clock_metrics(series, columns.hz),
        "action_late": float(fit.late) if fit else None,
        "action_fit": fit.usual if fit else None,
        "action_fit_best": fit.best if fit else None,
        "non_finite": float(series.bad),
    }

    cameras = {}
    if columns.cameras:
        episode = dataset.read(index)
        for name in columns.cameras:
            seen = sensors.look(
                episode.observations[name], series, about, episode.cameras.get(name)
            )
            cameras[name] = (seen.dark, seen.frozen)

    return _Read(
        record,
        figures,
        cameras,
        dict(zip(columns.names, sensors.stuck(series, about).tolist(), strict=True)),
        neighbours.outline(series),
        information.sample_pairs(series, columns.hz, generator),
        _digest(series),
        record.outcome == "success" or record.label_steps > 0,
        _notes(dataset, index),
    )


def _digest(series: Series) -> bytes:
    return hashlib.sha256(series.numbers.tobytes() + b"|" + series.actions.tobytes()).digest()


def _notes(dataset: Dataset, index: int) -> list[Finding]:
    """Return the findings about an episode's instruction."""
    record = dataset.records[index]
    if not record.instruction.strip():
        return [Finding("no_instruction", NOTE, None, None, "it has no instruction")]

    templates = (
        dataset.identity.raw["descriptions"].get(record.cell, {}).get("instruction_templates")
    )
    if not isinstance(templates, dict):
        return []

    named = []
    for part, texts in templates.items():
        if isinstance(texts, list) and record.instruction in texts:
            named.append(part)

    try:
        there = dataset.open_episode(index).json_fact("object_names")
    except DamagedFileError:
        return []

    if len(named) != 1 or not isinstance(there, list) or not there or named[0] in there:
        return []

    return [
        Finding(
            "wrong_instruction",
            DROP,
            None,
            None,
            f"its instruction asks for the {named[0]}, which is not there",
        )
    ]


# --------------------------------------------------------------------------------------------------
# Comparing
# --------------------------------------------------------------------------------------------------


def _add_information(reads: Sequence[_Read], generator: np.random.Generator) -> None:
    scores = information.scores([one.pairs for one in reads], generator)
    for one, score in zip(reads, scores, strict=True):
        one.figures["mutual_information"] = float(score) if math.isfinite(score) else None


def _add_neighbours(reads: Sequence[_Read]) -> None:
    for one in reads:
        one.figures["nearest"] = None
    if len(reads) < 2:
        return
    distances, positions = neighbours.nearest([one.outline for one in reads])
    for one, distance, position in zip(reads, distances.tolist(), positions.tolist(), strict=True):
        one.figures["nearest"], one.nearest = distance, position


def _usual(reads: Sequence[_Read]) -> dict[str, Usual]:
    teachers = [one for one in reads if one.record.outcome == "success"]
    if len(teachers) < judge.FEW:
        teachers = list(reads)
    return {name: Usual.of(one.figures[name] for one in teachers) for name in COMPARED}


def _judged(
    reads: Sequence[_Read], usual: Mapping[str, Usual], limits: Thresholds
) -> list[Assessed]:
    usual_stuck = {}
    if len(reads) >= judge.FEW:
        for name in reads[0].stuck:
            shares = [one.stuck[name] for one in reads]
            usual_stuck[name] = float(np.quantile(shares, 0.9))

    found = []
    for one in reads:
        findings = [
            *judge.recording_findings(one.figures, usual, limits),
            *judge.stuck_findings(one.stuck, usual_stuck, limits),
            *judge.picture_findings(one.cameras, limits),
            *judge.style_findings(one.figures, usual, limits, one.teaches),
            *one.notes,
        ]
        found.append(Assessed(one.record, one.figures, one.cameras).finding(findings, limits))

    return _with_copies(reads, found, limits)


def _with_copies(
    reads: Sequence[_Read], found: Sequence[Assessed], limits: Thresholds
) -> list[Assessed]:
    if len(reads) < 2:
        return list(found)

    distances = np.array([one.figures["nearest"] for one in reads], dtype=np.float64)
    usual = float(np.median(distances)) if len(reads) >= judge.FEW else math.inf
    limit = min(limits.duplicate, limits.duplicate_usual * usual)
    pairs = [(at, reads[at].nearest) for at in np.flatnonzero(distances < limit).tolist()]
    # Of copies the first one that is kept stays.
    preferred = [(one.weight == 0, one.record.index, at) for at, one in enumerate(found)]
    copies = neighbours.later_copies(pairs, preferred)
    out = list(found)

    for at, first in copies.items():
        how = "the same as" if reads[at].digest == reads[first].digest else "almost the same as"
        text = f"{how} episode {reads[first].record.index} ({reads[first].record.episode_id[:12]})"
        out[at] = out[at].finding(
            [Finding("near_duplicate", DROP, float(distances[at]), limit, text)], limits
        )

    return out


def _not_checked(cell: str, columns: Columns, about: Survey, reads: Sequence[_Read]) -> list[str]:
    """Return what could not be judged in a cell, and why."""
    found = []

    def note(missing: bool, what: str, why: str) -> None:
        if missing:
            found.append(f"{cell}: {what}: {why}")

    note(columns.clock is None, "clock", "no observation holds the time")
    note(not columns.cameras, "cameras", "no pictures are stored (data render makes them)")
    note(
        columns.gripper is None,
        "gripper",
        "no action is called a gripper or has just two values",
    )
    note(
        not columns.tool,
        "tool path",
        "no state is called the tool's x, y, z; all of the state stands for it",
    )
    note(not about.pairs, "actions against motion", "no action drives any of the state")
    too_few = f"{len(reads)} episodes are too few; 8 are needed"
    note(len(reads) < judge.FEW, "what is usual", too_few)
    return found
