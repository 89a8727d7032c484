"""Turns logged episodes and random scenes into one table of labelled decisions to train on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from shopfloor.core import ACTION_CONVENTION, ACTOR_EXPERT, Episode, InvalidInputError
from shopfloor.datasets.reader import Dataset, EpisodeRecord
from shopfloor.policies.encoders import vision
from shopfloor.policies.encoders.tensors import publish_tensors
from shopfloor.policies.encoders.weights import catalogue
from shopfloor.policies.learnable import why_not
from shopfloor.policies.learners.scenes import read_block
from shopfloor.policies.networks.features import OBJECT_WIDTH


@dataclass(frozen=True)
class Vocabulary:
    """What training needs embeddings of.

    Attributes:
        cells: full cell ids.
        names: class names, parts and goals, sorted.
        goals: names of goals.
        grounding: (instruction, part name, goal name or "") for each known phrasing.
    """

    cells: tuple[str, ...]
    names: tuple[str, ...]
    goals: tuple[str, ...]
    grounding: tuple[tuple[str, str, str], ...]

    @property
    def phrasings(self) -> set[str]:
        """The instructions that the cells can give."""
        return {text for text, _, _ in self.grounding}


@dataclass
class Table:
    """Labelled decisions, M rows.

    Attributes:
        state: (M, 22) float32.
        objects: (M, N, 12) float32, in the order of the vocabulary's names (absent ones are zero).
        instruction: (M,) int64, index into `instructions`.
        cell: (M,) int64.
        chunk: (M, H, A) float32, the actions to imitate.
        valid: (M, H) float32, 1 where the chunk holds an action.
        maps: per row's source, frozen feature maps: list of (M_i, views, P, 40) float16; empty from
            poses.
        group: (M,) int64, 0 for rows from episodes, 1 for rows from random scenes.
        weight: (M,) float64, above 0, how much more often than others a row is drawn.
        instructions: the texts.
        sources: label counts by where they came from, for the report.
    """

    state: torch.Tensor
    objects: torch.Tensor
    instruction: torch.Tensor
    cell: torch.Tensor
    chunk: torch.Tensor
    valid: torch.Tensor
    maps: list[torch.Tensor]
    group: torch.Tensor
    weight: torch.Tensor
    instructions: tuple[str, ...]
    sources: Mapping[str, int]

    def __len__(self) -> int:
        """Count rows."""
        return len(self.state)

    def gather_maps(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the feature maps of some rows, shape (len(rows), views, P, 40), float32."""
        starts = np.cumsum([0, *(len(block) for block in self.maps)])
        block = np.searchsorted(starts, rows.numpy(), side="right") - 1
        picked = [self.maps[b][r - starts[b]] for b, r in zip(block, rows.tolist(), strict=True)]
        return torch.stack(picked).float()


def describe(datasets: Iterable[Dataset]) -> list[Mapping[str, Any]]:
    """Return the descriptions of the cells of datasets.

    Raises:
        InvalidInputError: actions mean something else than ours, or a cell is not described as ours
            are.
    """
    found: list[Mapping[str, Any]] = []
    for dataset in datasets:
        convention = dataset.identity.raw["action_convention"]
        if convention != ACTION_CONVENTION:
            raise InvalidInputError(
                f"The actions of {dataset.path} mean {convention!r}; policies learn "
                f"{ACTION_CONVENTION!r}, and mixing the two would teach wrong motions. Export it "
                "(`data export`) and train with its own tools, or import it again with "
                "--action-convention if its actions do mean that."
            )

        for cell, description in dataset.identity.raw["descriptions"].items():
            reason = why_not(description)
            if reason:
                raise InvalidInputError(
                    f"No policy can be trained on {cell} in {dataset.path}: {reason}. Export it "
                    "(`data export`) and train with its own tools."
                )

            found.append(description)

    states = set()
    for description in found:
        states.add(tuple(description.get("features", {}).get("state", {}).get("names", ())))

    if len(states) > 1:
        raise InvalidInputError(
            "The datasets are of different arms, whose states have different entries; a policy "
            "learns from one kind."
        )

    return found


def vocabulary(descriptions: Sequence[Mapping[str, Any]]) -> Vocabulary:
    """Collect cells, names and phrasings from dataset descriptions (see `WorkCell.describe`)."""
    cells, names, goals, grounding = [], set(), set(), []
    for description in descriptions:
        if description["cell"] in cells:
            continue

        cells.append(description["cell"])
        words = description["vocabulary"]
        names |= {*words["parts"], *words["goals"]}
        goals |= set(words["goals"])
        goal_of = words.get("goal_of", {})
        only_goal = words["goals"][0] if len(words["goals"]) == 1 else ""

        grounding += [
            (text, part, goal_of.get(part, only_goal))
            for part, texts in sorted(description["instruction_templates"].items())
            for text in texts
        ]

    return Vocabulary(tuple(cells), tuple(sorted(names)), tuple(sorted(goals)), tuple(grounding))


def _ordered_objects(
    objects: npt.NDArray[Any], object_names: Sequence[str], names: Sequence[str]
) -> npt.NDArray[Any]:
    """Sort object rows, shape (T, N, 12), by the vocabulary; absent names become zero rows."""
    ordered = np.zeros((len(objects), len(names), OBJECT_WIDTH), np.float32)
    for row, name in enumerate(object_names):
        if name in names:
            ordered[:, names.index(name)] = objects[:, row]
    return ordered


def _labelled(
    episode: Episode, horizon: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the steps of an episode that can be imitated, with their chunks.

    A chunk is what the teacher planned where a teacher was asked; else, in a successful episode,
    what was executed.

    Returns:
        Steps (K,) int64, chunks (K, H, A) float32, and valid (K, H) float32: 1 where a chunk holds
        an action.
    """
    steps_total, action_size = episode.actions.shape
    if episode.label_valid.any():
        steps = np.flatnonzero(episode.label_valid)
        if episode.label_chunks is not None:
            planned = episode.label_chunks[steps, :horizon]
        else:
            planned = episode.label_actions[steps, None]

        chunks = np.zeros((len(steps), horizon, action_size), np.float32)
        valid = np.zeros((len(steps), horizon), np.float32)
        chunks[:, : planned.shape[1]], valid[:, : planned.shape[1]] = planned, 1.0
        return steps, chunks, valid

    if not episode.success:
        empty = np.zeros((0, horizon, action_size), np.float32)
        return np.zeros(0, np.int64), empty, empty[..., 0]

    index = np.arange(steps_total)[:, None] + np.arange(horizon)
    valid = (index < steps_total).astype(np.float32)
    return np.arange(steps_total), episode.actions[np.minimum(index, steps_total - 1)], valid


def episode_maps(
    images: Sequence[npt.NDArray[np.uint8]], key: str, cache: Path | None, steps: npt.NDArray[Any]
) -> torch.Tensor:
    """Encode an episode's pictures, or read them from the cache.

    Args:
        images: per view, shape (T+1, height, width, 3), uint8.
        key: name of the cache file, such as the episode file's hash and the views.
        cache: folder, None for no cache.
        steps: rows wanted.

    Returns:
        Shape (len(steps), views, P, 40), float16.
    """
    encoder = catalogue()[vision.MODEL]["files"][vision.FILE][:8]
    path = cache / f"{key}-{encoder}.safetensors" if cache else None
    if path is not None and path.is_file():
        with contextlib.suppress(Exception):  # a cache that cannot be read is made again
            return load_file(path)["maps"]

    maps = torch.stack([vision.encode(view[steps]) for view in images], 1).half()
    if path is not None:
        publish_tensors({"maps": maps}, path)
    return maps


def load_table(
    datasets: Iterable[Dataset],
    words: Vocabulary,
    horizon: int,
    views: Sequence[str],
    cache: Path | None,
    scene_blocks: Sequence[Path],
) -> Table:
    """Read every labelled decision.

    Raises:
        InvalidInputError: an episode was not collected for training, has no poses, or lacks the
            pictures asked for.
    """
    parts: list[dict[str, Any]] = []
    maps: list[torch.Tensor] = []
    sources = {"expert": 0, "own_success": 0, "scenes": 0}

    for dataset in datasets:
        for index, record in enumerate(dataset.records):
            if record.purpose != "train":
                raise InvalidInputError(
                    f"Episode {record.file} was collected for {record.purpose!r}; training takes "
                    "only 'train'. Collect with a seed below 600000."
                )

            if record.weight > 0:
                _add_episode(
                    dataset.read(index), record, words, horizon, views, cache, parts, maps, sources
                )

    for block in scene_blocks:
        _add_scenes(block, words, horizon, parts, maps, sources)
    if not parts:
        raise InvalidInputError(
            "No step to train on: no episode carries a teacher's label and none succeeded. "
            "Collect demonstrations (`--policy expert`) or with `--intervene expert`."
        )

    instructions: list[str] = []
    for part in parts:
        instructions += part["texts"]

    texts = tuple(sorted(set(instructions)))
    position = {text: index for index, text in enumerate(texts)}

    def join(key: str) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([part[key] for part in parts]))

    return Table(
        state=join("state"),
        objects=join("objects"),
        instruction=torch.tensor([position[text] for text in instructions]),
        cell=join("cell"),
        chunk=join("chunk"),
        valid=join("valid"),
        maps=maps,
        group=join("group"),
        weight=join("weight"),
        instructions=texts,
        sources=sources,
    )


def _add_episode(
    episode: Episode,
    record: EpisodeRecord,
    words: Vocabulary,
    horizon: int,
    views: Sequence[str],
    cache: Path | None,
    parts: list[dict[str, Any]],
    maps: list[torch.Tensor],
    sources: dict[str, int],
) -> None:
    if "objects" not in episode.observations:
        raise InvalidInputError(
            f"Episode seed {episode.spec.seed} has no `objects` poses; collect it with shopfloor."
        )

    missing = [view for view in views if view not in episode.observations]
    if missing:
        raise InvalidInputError(
            f"Episode seed {episode.spec.seed} has no pictures of camera {', '.join(missing)}; "
            "collect with `--cameras front,wrist` or train with `--observations poses`."
        )

    steps, chunk, valid = _labelled(episode, horizon)
    if not len(steps):
        return

    taught = bool(episode.label_valid.any()) or bool((episode.actor == ACTOR_EXPERT).all())
    sources["expert" if taught else "own_success"] += len(steps)
    parts.append(
        {
            "state": episode.observations["state"][steps].astype(np.float32),
            "objects": _ordered_objects(
                episode.observations["objects"][steps], episode.object_names, words.names
            ),
            "texts": [episode.instruction] * len(steps),
            "cell": np.full(len(steps), words.cells.index(episode.spec.cell), np.int64),
            "chunk": chunk,
            "valid": valid,
            "group": np.zeros(len(steps), np.int64),
            "weight": np.full(len(steps), record.weight, np.float64),
        }
    )

    if views:
        images = [episode.observations[view] for view in views]
        maps.append(episode_maps(images, f"{record.sha256}-{'-'.join(views)}", cache, steps))


def _add_scenes(
    block: Path,
    words: Vocabulary,
    horizon: int,
    parts: list[dict[str, Any]],
    maps: list[torch.Tensor],
    sources: dict[str, int],
) -> None:
    scenes = read_block(block)
    if scenes.cell not in words.cells:
        raise InvalidInputError(
            f"Scene block {block} is of {scenes.cell}; the data is of {', '.join(words.cells)}. "
            "Render scenes of these cells, or name another folder."
        )

    objects = np.concatenate(
        [
            _ordered_objects(row[None], names, words.names)
            for row, names in zip(scenes.objects, scenes.object_names, strict=True)
        ]
    )

    count = len(scenes.state)
    planned = scenes.chunk[:, :horizon]
    chunk = np.zeros((count, horizon, planned.shape[2]), np.float32)
    valid = np.zeros((count, horizon), np.float32)
    chunk[:, : planned.shape[1]], valid[:, : planned.shape[1]] = planned, 1.0
    sources["scenes"] += count

    parts.append(
        {
            "state": scenes.state,
            "objects": objects,
            "texts": scenes.instructions,
            "cell": np.full(count, words.cells.index(scenes.cell), np.int64),
            "chunk": chunk,
            "valid": valid,
            "group": np.ones(count, np.int64),
            "weight": np.ones(count, np.float64),
        }
    )
    maps.append(scenes.maps)
