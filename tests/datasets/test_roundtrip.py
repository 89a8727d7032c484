"""Property: whatever episode is written, the same episode is read."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from shopfloor.core import FAILURE_REASONS, PURPOSES, CameraTrack, Episode, EpisodeSpec
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.writer import EpisodeWriter

pytestmark = pytest.mark.core

OBSERVATION_DTYPES = (
    "u1",
    "i1",
    "<u2",
    "<i2",
    "<i4",
    "<u4",
    "<i8",
    "<u8",
    "<f2",
    "<f4",
    "<f8",
    ">f4",
    ">i2",
)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,10}", fullmatch=True).filter(
    lambda name: name not in ("actions", "rewards", "dones", "actor", "decisions")
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def episodes(draw):
    T, A = draw(st.integers(0, 9)), draw(st.integers(0, 8))

    def array(dtype, *shape):
        return draw(nps.arrays(np.dtype(dtype), shape))

    observations = {
        name: array(
            draw(st.sampled_from(OBSERVATION_DTYPES)),
            T + 1,
            *draw(st.lists(st.integers(0, 5), max_size=3)),
        )
        for name in draw(st.lists(names, max_size=3, unique=True))
    }
    success = draw(st.booleans())
    spec = EpisodeSpec(
        "shopfloor/PickToTray-v0",
        draw(st.integers(0, 2**63)),
        draw(texts),
        draw(st.dictionaries(texts, json_values, max_size=3)),
        draw(texts),
        draw(texts),
        draw(st.sampled_from(["none", "expert", "label"])),
        draw(st.floats(0, 1)),
        draw(st.sampled_from(PURPOSES)),
    )
    chunk = draw(st.none() | st.integers(1, 5))
    return Episode(
        spec=spec,
        instruction=draw(texts),
        observations=observations,
        sim_states=array("f8", T + 1, draw(st.integers(0, 6))),
        actions=array("f4", T, A),
        rewards=array("f4", T),
        outcome="success" if success else "failure",
        reason="" if success else draw(st.sampled_from(FAILURE_REASONS)),
        actor=array("u1", T),
        object_names=tuple(draw(st.lists(texts, max_size=4))),
        stages=tuple(draw(st.lists(st.tuples(st.integers(0, 99), texts), max_size=4))),
        label_actions=array("f4", T, A),
        label_valid=array("?", T),
        decisions=array("?", T),
        terminated=draw(st.booleans()),
        label_chunks=None if chunk is None else array("f4", T, chunk, A),
        cameras={
            name: CameraTrack(array("f8", 3, 3), array("f8", T + 1, 4, 4))
            for name in draw(st.lists(names, max_size=2, unique=True))
        },
    )


@settings(max_examples=50)
@given(
    episode=episodes(),
    codec=st.sampled_from(["blosc", "gzip", "none"]),
    index=st.integers(0, 10**9),
)
def test_written_is_read(assert_same, description, episode, codec, index):
    with tempfile.TemporaryDirectory() as folder:
        commit = EpisodeWriter(folder, description, codec).write(episode, index)
        dataset = Dataset(folder)
        native = {
            key: rows.astype(rows.dtype.newbyteorder("="))
            for key, rows in episode.observations.items()
        }
        assert_same(dataset.read(0), dataclasses.replace(episode, observations=native))
        assert Path(commit.path).exists()
        assert dataset.records[0].index == index
        arrays = dataset.read_arrays(0, [*native, "sim_states", "label_valid"])
        for key, rows in native.items():
            assert arrays[key].tobytes() == rows.tobytes()
        assert dataset.verify() == []
        dataset.close()
