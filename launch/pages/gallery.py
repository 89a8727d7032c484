"""Pictures and short videos of the work cells, each with its expert at work."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shopfloor.collectors.jobs import build_cell
from shopfloor.collectors.recorded.episodes import rewindable
from shopfloor.collectors.rollout import rollout
from shopfloor.core import Episode, EpisodeSpec, InvalidInputError, UnknownNameError
from shopfloor.envs.experts import make_expert, make_random
from shopfloor.envs.registry import make_cell
from shopfloor.launch.console import note
from shopfloor.launch.pages.video import encode

SEED = 600_003  # of the range for tests and tuning
PICTURE_PX, VIDEO_PX, GAP_PX = 384, 256, 4
VIEWS = ("front", "wrist")
MAX_FRAMES = 240  # longer episodes are shown faster

Picture = npt.NDArray[np.uint8]


def write_gallery(cell_ids: Sequence[str], folder: Path) -> None:
    """Write a picture and a video per cell, front view beside wrist view, and a page that shows them.

    Raises:
        InvalidInputError: the folder cannot be made.
    """
    from PIL import Image

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(
            f"--gallery {folder} cannot be made: {error.strerror}. Give another folder."
        ) from error

    sections = []
    for cell_id in cell_ids:
        name = cell_id.split("/")[-1]
        episode = play(cell_id)
        picture = beside(episode, PICTURE_PX, [middle(episode)])[0]
        Image.fromarray(picture).quantize(128).save(folder / f"{name}.png", optimize=True)
        faster = -(-len(episode.sim_states) // MAX_FRAMES)
        frames = beside(episode, VIDEO_PX, range(0, len(episode.sim_states), faster))
        media_type, data = encode(frames)
        video = folder / f"{name}.{media_type.split('/')[-1]}"
        video.write_bytes(data)
        note(str(video))

        sections.append(
            f'## {name}\n\n"{episode.instruction}" ({episode.outcome} after {episode.steps} steps of 1/20 s'
            f"{f', shown {faster} times as fast' if faster > 1 else ''})\n\n"
            f"![{name}: front view and wrist view]({name}.png)\n\n[video]({video.name})\n"
        )

    head = "# Gallery\n\nEvery work cell with its expert at work, made by `shopfloor cells --gallery FOLDER`.\n"
    (folder / "README.md").write_text("\n".join([head, *sections]))


def play(cell_id: str) -> Episode:
    """Return an episode of a cell's expert (of random actions where there is none)."""
    cell = make_cell(cell_id, cameras=(), privileged=True)
    try:
        policy = make_expert(cell_id)
    except UnknownNameError:
        policy = make_random(cell_id)
    try:
        return rollout(cell, policy, EpisodeSpec(cell_id, SEED, policy.info.digest))
    finally:
        cell.close()


def middle(episode: Episode) -> int:
    """Return the step in the middle of the longest stage."""
    starts = [*episode.stages, (episode.steps, "")]
    first, last = max(
        ((a, b) for (a, _), (b, _) in pairwise(starts)), key=lambda span: span[1] - span[0]
    )
    return (first + last) // 2


def beside(episode: Episode, size_px: int, steps: Sequence[int]) -> Picture:
    """Return front and wrist views side by side, shape (len(steps), size_px, 2 size_px + gap, 3), uint8."""
    options = {"image_size": (size_px, size_px)}
    cell = rewindable(build_cell(episode.spec.cell, options, episode.spec.variation))
    gap = np.full((size_px, GAP_PX, 3), 255, np.uint8)
    frames = []

    try:
        views = [name for name in VIEWS if name in cell.describe()["cameras"]]
        for step in steps:
            cell.set_sim_state(episode.sim_states[step])
            seen = [cell.observe((view,))[view] for view in views]
            frames.append(np.hstack([part for view in seen for part in (view, gap)][:-1]))
    finally:
        cell.close()

    return np.stack(frames)
