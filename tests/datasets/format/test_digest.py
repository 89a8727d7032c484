from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from shopfloor.core import CameraTrack, Episode
from shopfloor.datasets.format.digest import episode_digest
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.writer import EpisodeWriter

pytestmark = pytest.mark.core

# Pinned: proofs of merges and shards made by this release must hold in later ones.
GOLDEN = Path(__file__).parents[2] / "data/datasets/format-1"
PINNED = "9c307e8157256ce61e3ecf80a2d4e7e93cef5f8795b0f760188088f298a90891"


def test_it_never_changes():
    assert episode_digest(Dataset(GOLDEN).read(2)) == PINNED


@pytest.mark.parametrize("codec", ["blosc", "gzip", "none"])
@pytest.mark.parametrize("steps", [0, 1, 12])
def test_reading_back_gives_the_same(tmp_path, make_episode, description, codec, steps):
    episode = make_episode(2, steps)
    path = EpisodeWriter(tmp_path / "data", description, codec).write(episode, 5).path
    assert episode_digest(Dataset(path.parent.parent).read(0)) == episode_digest(episode)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Episode)])
def test_every_field_counts(make_episode, field):
    episode = make_episode(0, 12)
    value = getattr(episode, field)
    if field == "spec":
        other = dataclasses.replace(value, seed=1)
    elif field in ("observations", "cameras"):
        other = dict(list(value.items())[1:])
    elif isinstance(value, np.ndarray):
        other = value.copy()
        other.view(np.uint8).reshape(-1)[-1] ^= 1
    elif isinstance(value, bool):
        other = not value
    else:
        other = value[:-1] if value else "x"
    assert episode_digest(dataclasses.replace(episode, **{field: other})) != episode_digest(episode)


def test_names_shapes_and_dtypes_count(make_episode):
    episode = make_episode(0, 12)
    seen = {episode_digest(episode)}
    front = episode.observations["front"]
    for observations in [
        {**episode.observations, "front": front.reshape(13, 12, 16, 3)},
        {**episode.observations, "front": front.view(np.int8)},
        {
            ("rear" if name == "front" else name): array
            for name, array in episode.observations.items()
        },
    ]:
        seen.add(episode_digest(dataclasses.replace(episode, observations=observations)))
    seen.add(episode_digest(dataclasses.replace(episode, label_chunks=None)))
    track = CameraTrack(episode.cameras["front"].intrinsics, -episode.cameras["front"].extrinsics)
    seen.add(episode_digest(dataclasses.replace(episode, cameras={"front": track})))
    assert len(seen) == 6


def test_order_of_names_byte_order_and_memory_do_not_count(make_episode):
    episode = make_episode(0, 12)
    observations = dict(reversed(episode.observations.items()))
    observations["state"] = np.asfortranarray(observations["state"]).astype(">f4")
    assert episode_digest(
        dataclasses.replace(episode, observations=observations)
    ) == episode_digest(episode)
