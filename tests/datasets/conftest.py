"""Synthetic episodes for the tests of the store."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import other_pythons

from shopfloor.core import CameraTrack, Episode, EpisodeSpec
from shopfloor.datasets.writer import EpisodeWriter

CELL = "shopfloor/PickToTray-v0"
DESCRIPTION = {
    "cell": CELL,
    "action_convention": "ee_delta_base_v1",
    "control_hz": 20,
    "features": {
        "state": {
            "shape": [9],
            "dtype": "float32",
            "names": [f"q{n}" for n in range(9)],
            "units": ["rad"] * 9,
        },
        "front": {
            "shape": [16, 12, 3],
            "dtype": "uint8",
            "names": ["height", "width", "channel"],
            "units": [""] * 3,
        },
    },
    "env_args": {"env_name": CELL, "type": 2, "env_kwargs": {"robot": "panda"}},
}


def _episode(seed: int = 0, steps: int = 12, image: int = 16, **changes: object) -> Episode:
    """Return an episode whose every value depends on the seed, by arithmetic alone (no generator may change)."""
    T, A = steps, 7

    def numbers(*shape: int, dtype: str = "f4", salt: int = 0) -> np.ndarray:
        count = int(np.prod(shape))
        return np.sin(np.arange(count) * 0.7 + seed + salt).astype(dtype).reshape(shape)

    spec = EpisodeSpec(
        CELL,
        seed,
        "digest",
        {"robot": "panda", "cameras": ["front"], "image_size": [image, 12]},
        purpose="train",
    )
    front = (
        (np.arange((T + 1) * image * 12 * 3) // 7 + seed)
        .astype(np.uint8)
        .reshape(T + 1, image, 12, 3)
    )
    success = seed % 3 != 2
    episode = Episode(
        spec=spec,
        instruction=f"Put the réd cube number {seed} into the tray.",
        observations={
            "state": numbers(T + 1, 9),
            "objects": numbers(T + 1, 4, 12, salt=1),
            "front": front,
        },
        sim_states=numbers(T + 1, 30, dtype="f8", salt=2),
        actions=numbers(T, A, salt=3),
        rewards=np.eye(1, T, T - 1, dtype="f4")[0] if success and T else np.zeros(T, "f4"),
        outcome="success" if success else "failure",
        reason="" if success else "dropped",
        actor=(np.arange(T) % 5 == 4).astype("u1"),
        object_names=("red cube", "blue bar", "tray", ""),
        stages=((0, "reach"), (3, "grasp")) if T else (),
        label_actions=numbers(T, A, salt=4),
        label_valid=np.arange(T) % 2 == 0,
        decisions=np.arange(T) % 4 == 0,
        terminated=success,
        label_chunks=numbers(T, 4, A, salt=5),
        cameras={"front": CameraTrack(np.eye(3) * 100.0, numbers(T + 1, 4, 4, dtype="f8", salt=6))},
    )
    return dataclasses.replace(episode, **changes)


def _assert_same(one: Episode, other: Episode) -> None:
    for field in dataclasses.fields(Episode):
        name, a, b = field.name, getattr(one, field.name), getattr(other, field.name)
        if name == "observations":
            assert sorted(a) == sorted(b)
            for key in a:
                _assert_bits(key, a[key], b[key])
        elif name == "cameras":
            assert sorted(a) == sorted(b)
            for key in a:
                _assert_bits(key, a[key].intrinsics, b[key].intrinsics)
                _assert_bits(key, a[key].extrinsics, b[key].extrinsics)
        elif isinstance(a, np.ndarray):
            _assert_bits(name, a, b)
        else:
            assert a == b, name


def _assert_bits(name: str, a: np.ndarray, b: np.ndarray) -> None:
    assert (a.dtype, a.shape) == (b.dtype, b.shape), name
    assert a.tobytes() == b.tobytes(), name


@pytest.fixture(scope="session")
def make_episode() -> Callable[..., Episode]:
    return _episode


@pytest.fixture(scope="session")
def assert_same() -> Callable[[Episode, Episode], None]:
    return _assert_same


@pytest.fixture(scope="session")
def description() -> dict:
    return DESCRIPTION


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of three episodes of 12, 5 and 1 steps, without a manifest."""
    writer = EpisodeWriter(tmp_path / "data", DESCRIPTION)
    for index, steps in enumerate((12, 5, 1)):
        writer.write(_episode(index, steps), index)
    return writer.path


@pytest.fixture(scope="session")
def robomimic_python() -> Path:
    """The Python of an environment with the real robomimic."""
    return other_pythons.python_with("robomimic", other_pythons.ROBOMIMIC)


@pytest.fixture(scope="session")
def minari_python() -> Path:
    """The Python of an environment with the real Minari."""
    return other_pythons.python_with("minari", other_pythons.MINARI)
