"""Recorded episodes again: pictures from stored simulator states, and the physics from stored actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.collectors.jobs import build_cell
from shopfloor.core import Episode, UnknownNameError


@dataclass(frozen=True)
class Replay:
    """What came of executing an episode's actions again.

    Attributes:
        states_equal: whether every simulator state came out the same, bit for bit.
        first_difference: first of the T+1 states that differs, or -1.
        success: whether the task was done again.
    """

    states_equal: bool
    first_difference: int
    success: bool


def render_episode(episode: Episode, camera: str, size: tuple[int, int] = (96, 96)) -> npt.NDArray[np.uint8]:
    """Render an episode's pictures from its simulator states, at any size, whether or not they were recorded.

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
    cell = build_cell(spec.cell, {**spec.cell_options, "image_size": size}, spec.variation)
    try:
        features: dict[str, Any] = cell.describe()["features"]
        known = set(features) - {"state", "objects"}
        if camera not in known:
            raise UnknownNameError("camera", camera, known)
        cell.reset(seed=spec.seed)
        pictures = []
        for state in episode.sim_states:
            cell.set_sim_state(state)
            pictures.append(np.array(cell.observe([camera])[camera], dtype=np.uint8))
    finally:
        cell.close()
    return np.stack(pictures)


def replay(episode: Episode) -> Replay:
    """Execute an episode's actions again in a new cell and compare the simulator's states with the recorded ones."""
    spec = episode.spec
    cell = build_cell(spec.cell, spec.cell_options, spec.variation)
    try:
        _, info = cell.reset(seed=spec.seed)
        states = [np.array(cell.sim_state())]
        success = False
        for action in episode.actions:
            _, _, _, info = cell.advance(action)
            success = success or bool(info["success"])
            states.append(np.array(cell.sim_state()))
    finally:
        cell.close()
    unequal = [step for step, state in enumerate(states) if state.tobytes() != episode.sim_states[step].tobytes()]
    return Replay(not unequal, unequal[0] if unequal else -1, success)
