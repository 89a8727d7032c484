"""A robot arm of arithmetic for the tests of training: it moves to the part that it is asked for.

Cells, datasets and checkpoints of it cost milliseconds; what needs a simulated cell is made by the
tests that need it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from shopfloor.core import Episode, EpisodeSpec
from shopfloor.datasets.writer import EpisodeWriter
from shopfloor.policies import checkpoint
from shopfloor.policies.encoders.text import TEXT_WIDTH
from shopfloor.policies.networks.network import NetworkConfig, PolicyNetwork

CELL = "toy/Reach-v0"
STEP_M = 0.025
PARTS = ("blue bar", "red cube")
GOAL = "tray"
SIZE_PX = 16  # of the square pictures
JOINTS = 7
TAIL = 15  # entries of a state after the joints


def instruction_for(part: str) -> str:
    return f"Put the {part} into the {GOAL}."


def _description(cell: str = CELL, **changes: Any) -> dict[str, Any]:
    picture = {"shape": [SIZE_PX, SIZE_PX, 3], "dtype": "uint8"}
    return {
        "cell": cell,
        "action_convention": "ee_delta_base_v1",
        "action_names": ["dx", "dy", "dz", "rx", "ry", "rz", "gripper"],
        "control_hz": 20,
        "features": {
            "state": {
                "shape": [JOINTS + TAIL],
                "dtype": "float32",
                "names": [f"s{number}" for number in range(JOINTS + TAIL)],
            },
            "objects": {"shape": [len(PARTS) + 1, 12], "dtype": "float32"},
            "front": picture,
        },
        "vocabulary": {"parts": list(PARTS), "goals": [GOAL]},
        "instruction_templates": {part: [instruction_for(part)] for part in PARTS},
        **changes,
    }


def _objects(generator: np.random.Generator, names: Sequence[str]) -> np.ndarray:
    rows = np.zeros((len(names), 12), np.float32)
    rows[:, :3] = generator.uniform((0.35, -0.2, 0.02), (0.65, 0.2, 0.04), (len(names), 3))
    rows[:, 6] = 1.0  # no rotation
    rows[:, 7:10] = 0.04
    rows[:, 10] = 1.0
    rows[:, 11] = np.array(names) == GOAL
    return rows


def _episode(
    seed: int = 0, steps: int = 8, cell: str = CELL, labels: str = "chunks", **changes: Any
) -> Episode:
    """Go towards a part.

    Args:
        seed: of everything.
        steps: T.
        cell: full cell id.
        labels: what the teacher left at every second step: "chunks" of 3 actions, "actions", or
            "none".
        changes: other fields.
    """
    generator = np.random.default_rng(seed)
    names = tuple(generator.permutation([*PARTS, GOAL]).tolist())
    part = PARTS[seed % len(PARTS)]
    objects = _objects(generator, names)
    target = objects[names.index(part), :3]

    tool = np.array([0.5, 0.0, 0.3])
    state = np.zeros((steps + 1, JOINTS + TAIL), np.float32)
    state[:, JOINTS + 3] = 1.0  # the tool points down
    planned = np.zeros((steps, 3, 7), np.float32)
    for step in range(steps + 1):
        state[step, JOINTS : JOINTS + 3] = tool
        motion = np.clip(0.5 * (target - tool) / STEP_M, -1, 1)
        tool = tool + motion * STEP_M
        if step < steps:
            planned[step, :, :3] = motion
            planned[step, :, 6] = 1.0 if np.linalg.norm(target - tool) < 0.1 else -1.0

    valid = np.zeros(steps, np.bool_)
    if labels != "none":
        valid[::2] = True
    episode = Episode(
        spec=EpisodeSpec(cell, seed, "toy", purpose="train"),
        instruction=instruction_for(part),
        observations={
            "state": state,
            "objects": np.repeat(objects[None], steps + 1, 0),
            "front": generator.integers(0, 255, (steps + 1, SIZE_PX, SIZE_PX, 3)).astype(np.uint8),
        },
        sim_states=np.zeros((steps + 1, 0)),
        actions=planned[:, 0] * np.float32(0.5),  # what was executed is not what was planned
        rewards=np.zeros(steps, np.float32),
        outcome="success",
        reason="",
        actor=np.zeros(steps, np.uint8),
        object_names=names,
        stages=(),
        label_actions=planned[:, 0] * valid[:, None],
        label_valid=valid,
        decisions=np.ones(steps, np.bool_),
        terminated=True,
        label_chunks=planned * valid[:, None, None] if labels == "chunks" else None,
    )
    return dataclasses.replace(episode, **changes)


@pytest.fixture(scope="session")
def make_episode() -> Callable[..., Episode]:
    """Give the function that makes an episode of the toy arm."""
    return _episode


@pytest.fixture(scope="session")
def make_description() -> Callable[..., dict[str, Any]]:
    """Give the function that describes the toy cell."""
    return _description


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Path]:
    """Give a function that writes episodes, four of the toy arm by default, to a folder."""

    def write(
        folder: Path, episodes: Sequence[Episode] = (), description: dict[str, Any] | None = None
    ) -> Path:
        writer = EpisodeWriter(folder, description or _description())
        for index, episode in enumerate(episodes or [_episode(seed) for seed in range(4)]):
            writer.write(episode, index)
        return folder

    return write


@pytest.fixture
def make_point() -> Callable[..., checkpoint.Checkpoint]:
    """Give a function that makes an untrained checkpoint whose texts have random embeddings."""

    def make(seed: int = 0, **changes: Any) -> checkpoint.Checkpoint:
        shape = NetworkConfig(
            **{"cells": (CELL,), "names": (*PARTS, GOAL), "goals": (GOAL,), **changes}
        )
        texts = (*shape.names, *map(instruction_for, PARTS))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = PolicyNetwork(shape).eval()
            embeddings = functional.normalize(torch.randn(len(texts), TEXT_WIDTH), dim=-1)

        return checkpoint.Checkpoint(
            network=network,
            texts=texts,
            embeddings=embeddings,
            instructions=texts[len(shape.names) :],
            execute=1,
            image_size=(SIZE_PX, SIZE_PX) if shape.views else None,
            label_sources={"expert": 12, "own_success": 3, "scenes": 0},
            plan={"steps": 5, "seed": seed},
        )

    return make


@pytest.fixture(scope="session")
def observe() -> Callable[..., dict[str, Any]]:
    """Give a function that returns what a policy gets at a step of an episode."""

    def at(episode: Episode, step: int = 0, keys: Sequence[str] = ()) -> dict[str, Any]:
        full: dict[str, Any] = {key: rows[step] for key, rows in episode.observations.items()}
        full["object_names"] = episode.object_names
        return {key: full[key] for key in keys or full}

    return at
