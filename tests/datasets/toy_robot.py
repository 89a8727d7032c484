"""A robot of arithmetic: its tool follows position deltas at once, and a gripper closes on the way."""

from __future__ import annotations

import dataclasses

import numpy as np

from shopfloor.core import Episode, EpisodeSpec
from shopfloor.datasets.writer import EpisodeWriter

CELL = "toy/Reach-v0"
HZ = 20
STEP_M = 0.025
NAMES = ["tool_x", "tool_y", "tool_z", "joint_1", "finger_opening"]
DESCRIPTION = {
    "cell": CELL,
    "action_convention": "ee_delta_base_v1",
    "control_hz": HZ,
    "action_names": ["dx", "dy", "dz", "gripper"],
    "features": {
        "state": {
            "shape": [5],
            "dtype": "float32",
            "names": NAMES,
            "units": ["m", "m", "m", "rad", "m"],
        },
        "front": {
            "shape": [12, 12, 3],
            "dtype": "uint8",
            "names": ["height", "width", "channel"],
            "units": [""] * 3,
        },
        "timestamp": {"shape": [], "dtype": "float64", "names": ["timestamp"], "units": ["s"]},
    },
}


def toy_episode(seed: int, actions: np.ndarray | None = None, **changes: object) -> Episode:
    """Reach a place, close, go to another, open; every value depends on the seed, or on the actions given."""
    generator = np.random.default_rng(seed)
    start = generator.uniform((0.35, -0.1, 0.15), (0.55, 0.1, 0.25))
    if actions is None:
        places = generator.uniform((0.35, -0.3, 0.05), (0.65, 0.3, 0.1), (2, 3))
        actions = _reach(start, places, generator)
    T = len(actions)
    tool = np.concatenate([start[None], start + np.cumsum(actions[:, :3] * STEP_M, axis=0)])
    closed = np.concatenate([[-1.0], np.where(actions[:, 3] > 0, 1.0, -1.0)])
    state = np.column_stack([tool, tool @ (3.0, -2.0, 1.0), 0.04 - 0.03 * closed]).astype("f4")
    front = np.zeros((T + 1, 12, 12, 3), np.uint8) + np.arange(40, 112, 6, dtype=np.uint8)[:, None]
    front[..., 0] += (np.arange(T + 1) * 5 % 60).astype(np.uint8)[:, None, None]
    episode = Episode(
        spec=EpisodeSpec(CELL, seed, "toy", purpose="train"),
        instruction="Reach.",
        observations={"state": state, "front": front, "timestamp": np.arange(T + 1) / HZ},
        sim_states=np.zeros((T + 1, 0)),
        actions=actions.astype("f4"),
        rewards=np.eye(1, T, T - 1, dtype="f4")[0],
        outcome="success",
        reason="",
        actor=np.ones(T, "u1"),
        object_names=(),
        stages=(),
        label_actions=np.zeros((T, 4), "f4"),
        label_valid=np.zeros(T, bool),
        decisions=np.ones(T, bool),
        terminated=True,
    )
    return dataclasses.replace(episode, **changes)


def _reach(start: np.ndarray, places: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    tool, rows = start.copy(), []
    for place, gripper in zip(places, (-1.0, 1.0), strict=True):
        while np.linalg.norm(place - tool) > 0.01:
            wanted = np.clip(0.5 * (place - tool) / STEP_M, -0.9, 0.9)
            action = np.clip(wanted + generator.normal(0, 0.05, 3), -1, 1)
            tool = tool + action * STEP_M
            rows.append([*action, gripper])
        rows += [[*generator.normal(0, 0.05, 3), -gripper] for _ in range(6)]
    return np.array(rows)


def write_toys(folder, episodes):
    """Write a dataset, in order; returns its folder."""
    writer = EpisodeWriter(folder, DESCRIPTION)
    for index, episode in enumerate(episodes):
        writer.write(episode, index)
    return folder
