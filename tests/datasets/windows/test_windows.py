from __future__ import annotations

import json
import pickle
import tracemalloc
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopfloor.core import InvalidInputError, UnknownNameError
from shopfloor.datasets.format.hdf5_objects import Array
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.windows.order import EpochSlots, permute
from shopfloor.datasets.windows.windows import Windows
from shopfloor.datasets.writer import EpisodeWriter, write_manifest

LENGTHS = (12, 0, 5, 1, 30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_episode, description) -> Path:
    path = tmp_path_factory.mktemp("windows") / "d"
    writer = EpisodeWriter(path, description)
    for index, steps in enumerate(LENGTHS):
        writer.write(make_episode(index, steps), index)
    write_manifest(path)
    return path


def places(batches):
    return [
        place
        for batch in batches
        for place in zip(batch["episode"].tolist(), batch["step"].tolist(), strict=True)
    ]


@settings(max_examples=40)
@given(
    observation_horizon=st.integers(1, 6),
    action_horizon=st.integers(1, 40),
    batch_size=st.integers(1, 70),
    seed=st.integers(0, 2**63),
    actions=st.sampled_from(["label", "executed"]),
)
def test_windows_stay_inside_and_cover_each_step_once(
    folder, make_episode, observation_horizon, action_horizon, batch_size, seed, actions
):
    windows = Windows(
        Dataset(folder),
        ("state", "front"),
        observation_horizon,
        action_horizon,
        batch_size=batch_size,
        seed=seed,
        actions=actions,
        step_keys=("label_chunks", "actor"),
    )
    batches = list(windows)
    assert len(windows) == sum(LENGTHS)
    assert len(batches) == windows.batches
    expected = [
        (e, s) for e, source in enumerate(windows.sources) for s in range(source.record.steps)
    ]
    assert sorted(places(batches)) == expected
    for batch in batches:
        for row, (position, step) in enumerate(places([batch])):
            record = windows.sources[position].record
            episode = make_episode(record.index, record.steps)
            T = record.steps
            before = np.arange(step - observation_horizon + 1, step + 1)
            after = np.arange(step, step + action_horizon)
            assert (batch["observation_mask"][row] == (before >= 0)).all()
            assert (batch["action_mask"][row] == (after < T)).all()
            for key in ("state", "front"):
                assert np.array_equal(
                    batch[key][row], episode.observations[key][np.maximum(before, 0)]
                )
            after = np.minimum(after, T - 1)
            wanted = episode.actions[after]
            if actions == "label":
                wanted = np.where(
                    episode.label_valid[after][:, None], episode.label_actions[after], wanted
                )
            assert np.array_equal(batch["actions"][row], wanted)
            assert np.array_equal(batch["label_chunks"][row], episode.label_chunks[step])
            assert batch["actor"][row] == episode.actor[step]


@settings(max_examples=25)
@given(
    observation_horizon=st.integers(1, 6),
    action_horizon=st.integers(1, 40),
    batch_size=st.integers(1, 70),
    keys=st.sampled_from([("state",), ("state", "front", "objects"), ("front",), ()]),
    actions=st.sampled_from(["label", "executed"]),
)
def test_a_cache_changes_nothing(
    folder, observation_horizon, action_horizon, batch_size, keys, actions
):
    plain, cached = (
        Windows(
            Dataset(folder),
            keys,
            observation_horizon,
            action_horizon,
            step_keys=("label_chunks", "actor"),
            batch_size=batch_size,
            actions=actions,
            cache=cache,
        )
        for cache in (False, True)
    )
    assert plain.fingerprint() == cached.fingerprint()
    for one, other in zip(plain, cached, strict=True):
        assert one.keys() == other.keys()
        for key, array in one.items():
            assert (array.dtype, array.shape) == (other[key].dtype, other[key].shape)
            assert np.array_equal(array, other[key]), key


def test_cached_windows_open_no_file_again(folder, monkeypatch):
    windows = Windows(Dataset(folder), ("state",), 2, 3, cache=True, batch_size=7)
    wanted = [batch["state"] for batch in windows]
    windows = pickle.loads(
        pickle.dumps(Windows(Dataset(folder), ("state",), 2, 3, cache=True, batch_size=7))
    )
    monkeypatch.setattr(Dataset, "open_episode", None)
    assert all(np.array_equal(a, batch["state"]) for a, batch in zip(wanted, windows, strict=True))


def test_pictures_and_large_rows_are_not_cached(tmp_path, make_episode, description):
    observations = {
        "depth": np.zeros((6, 64, 64), "u2"),
        "front": np.zeros((6, 8, 8, 3), "u1"),
        "q": np.zeros((6, 4)),
    }
    EpisodeWriter(tmp_path, description).write(make_episode(0, 5, observations=observations), 0)
    windows = Windows(Dataset(tmp_path), ("depth", "front", "q"), cache=True)
    assert sorted(windows._cache.arrays) == ["actions", "q"]
    assert windows.sample([4])["front"].shape == (1, 1, 8, 8, 3)


def test_order_depends_on_seed_and_epoch_alone(folder):
    def order(seed, **options):
        return places(Windows(Dataset(folder), seed=seed, batch_size=7, **options))

    assert order(1) == order(1) == order(1, keys=("front",), action_horizon=9)
    assert order(1) != order(2)
    windows = Windows(Dataset(folder), seed=1, batch_size=7)
    first, second = places(windows), places(windows)
    assert first != second
    assert sorted(first) == sorted(second)
    assert [place for place in first if place[0] == 0] != sorted(
        place for place in first if place[0] == 0
    )


@pytest.mark.parametrize("block", [1, 10, 64, 8192])
def test_places_are_read_alike_in_any_company(folder, monkeypatch, block):
    windows = Windows(Dataset(folder), seed=3, batch_size=7)
    wanted = places(windows) + places(windows)
    monkeypatch.setattr("shopfloor.datasets.windows.windows.ORDER_BLOCK", block)
    windows = Windows(Dataset(folder), seed=3, batch_size=7)
    assert places(windows) + places(windows) == wanted
    for asked in (range(96), [5], [5, 6, 7], [47, 48], [3, 5, 4, 6], [90, 2, 2, 50], []):
        assert places([windows.read(asked)]) == [wanted[place] for place in asked]
    episode, step = windows.order(1, 3, 30)
    assert list(zip(episode.tolist(), step.tolist(), strict=True)) == wanted[51:78]
    with pytest.raises(InvalidInputError, match="Place -2 of the order"):
        windows.read([3, -2])


@pytest.mark.parametrize("stop", [0, 1, 3, 6])
def test_resume_goes_on_exactly(folder, stop):
    def build():
        return Windows(Dataset(folder), ("state",), 2, 3, seed=5, batch_size=9)

    def endless(windows):
        while True:
            yield from windows

    whole = endless(build())
    wanted = [next(whole) for _ in range(14)]
    broken = build()
    stream = endless(broken)
    got = [next(stream) for _ in range(stop)]
    state = json.loads(json.dumps(broken.state_dict()))
    resumed = build()
    resumed.load_state_dict(state)
    stream = endless(resumed)
    got += [next(stream) for _ in range(14 - stop)]
    for one, other in zip(wanted, got, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[key], other[key]) for key in one)


def test_a_position_of_other_windows_is_refused(folder):
    state = Windows(Dataset(folder), seed=1).state_dict()
    for other in (
        Windows(Dataset(folder), seed=2),
        Windows(Dataset(folder), seed=1, batch_size=3),
        Windows(Dataset(folder), seed=1, weights=lambda record: record.index + 1),
        Windows(Dataset(folder), seed=1, episodes=lambda record: record.index != 2),
    ):
        with pytest.raises(InvalidInputError, match="belongs to other windows"):
            other.load_state_dict(state)


@settings(max_examples=60)
@given(
    steps=st.lists(st.integers(1, 50), min_size=1, max_size=12),
    data=st.data(),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 5),
)
def test_weights_are_kept_to_a_window(steps, data, seed, epoch):
    weight = data.draw(
        st.lists(st.floats(0.01, 100.0), min_size=len(steps), max_size=len(steps)), label="weights"
    )
    slots = EpochSlots(np.array(steps), np.array(weight))
    episode, step = slots.window(np.arange(slots.count, dtype=np.uint64), seed, epoch)
    assert ((step >= 0) & (step < np.array(steps)[episode])).all()
    counts = Counter(zip(episode.tolist(), step.tolist(), strict=True))
    mean = sum(s * w for s, w in zip(steps, weight, strict=True)) / sum(steps)
    for number, (length, value) in enumerate(zip(steps, weight, strict=True)):
        for place in range(length):
            assert abs(counts[number, place] - value / mean) <= 1.0 + 1e-6


def test_weights_and_mixture(folder, tmp_path, make_episode, description):
    windows = Windows(Dataset(folder), weights=lambda record: 0.0 if record.index == 0 else 1.0)
    assert all(source.record.index != 0 for source in windows.sources)
    assert len(places(windows)) == 36
    writer = EpisodeWriter(tmp_path / "other", description)
    writer.write(make_episode(20, 4), 0)
    both = Windows([Dataset(folder), Dataset(tmp_path / "other")], mixture=(1, 3), batch_size=10)
    assert len(both) == 52
    owner = Counter(both.sources[position].dataset for position, _ in places(both))
    assert owner == {0: 13, 1: 39}
    plain = Windows([Dataset(folder), Dataset(tmp_path / "other")])
    assert sorted(places(plain)) == [
        (e, s) for e, t in enumerate((12, 5, 1, 30, 4)) for s in range(t)
    ]
    only = Windows([Dataset(folder), Dataset(tmp_path / "other")], mixture=(0, 1))
    assert {both.sources[position].dataset for position, _ in places(only)} <= {0, 1}


def test_overlay_weights_are_the_default(folder, dataset):
    ids = [record.episode_id for record in Dataset(dataset).records]
    (dataset / "overlays").mkdir()
    (dataset / "overlays/overlay-1.json").write_text(
        json.dumps(
            {
                "schema_version": 1,
                "operations": [{"op": "weight", "episode_id": ids[0], "weight": 0}],
            }
        )
    )
    assert [source.record.index for source in Windows(Dataset(dataset)).sources] == [1, 2]


@settings(max_examples=60)
@given(count=st.integers(1, 5000), seed=st.integers(0, 2**63), epoch=st.integers(0, 9))
def test_the_order_is_a_permutation(count, seed, epoch):
    out = permute(np.arange(count, dtype=np.uint64), count, seed, epoch)
    assert np.array_equal(np.sort(out), np.arange(count))


def test_the_order_looks_random():
    out = permute(np.arange(40_000, dtype=np.uint64), 40_000, 3, 0).astype(np.float64)
    assert abs(np.corrcoef(out[:-1], out[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(out, np.arange(40_000))[0, 1]) < 0.02
    quarters = out.reshape(100, 400).mean(axis=1) / 40_000
    assert abs(quarters - 0.5).max() < 0.07


def test_sample_by_number(folder, make_episode):
    windows = Windows(Dataset(folder), ("state",))
    batch = windows.sample([0, 12, 17, 18, 47])
    assert places([batch]) == [(0, 0), (1, 0), (2, 0), (3, 0), (3, 29)]
    assert np.array_equal(batch["state"][4, 0], make_episode(4, 30).observations["state"][29])
    with pytest.raises(InvalidInputError, match="expected 0 to 47"):
        windows.sample([48])


def test_wrong_arguments(folder, tmp_path, make_episode, description):
    dataset = Dataset(folder)
    with pytest.raises(InvalidInputError, match="action_horizon is 0"):
        Windows(dataset, action_horizon=0)
    with pytest.raises(UnknownNameError, match="Did you mean 'label'"):
        Windows(dataset, actions="labels")
    with pytest.raises(InvalidInputError, match="No windows"):
        Windows(dataset, episodes=lambda record: record.purpose == "gate")
    with pytest.raises(InvalidInputError, match=r"weight of episodes/ep-.* is nan"):
        Windows(dataset, weights=lambda record: float("nan"))
    with pytest.raises(InvalidInputError, match="'front' would be there twice"):
        Windows(dataset, ("front",), step_keys=("front",))
    with pytest.raises(InvalidInputError, match="mixture is"):
        Windows(dataset, mixture=(1, 2))
    with pytest.raises(UnknownNameError, match="Unknown array"):
        Windows(dataset, ("wrist",)).sample([0])
    EpisodeWriter(tmp_path / "o", description).write(make_episode(1, 3, image=8), 0)
    with pytest.raises(InvalidInputError, match="episodes of one kind"):
        next(iter(Windows([dataset, Dataset(tmp_path / "o")], ("front",))))
    other = {"state": np.zeros((4, 5), "f4"), "front": np.zeros((4, 8, 8, 3), "u1")}
    EpisodeWriter(tmp_path / "p", description).write(make_episode(1, 3, observations=other), 0)
    with pytest.raises(
        InvalidInputError, match=r"'state' has rows of shape.* episodes of one kind"
    ):
        Windows([dataset, Dataset(tmp_path / "p")], cache=True)


def test_open_files_are_few_and_found_again(folder):
    dataset = Dataset(folder, max_open_files=2)
    windows = Windows(dataset, ("front",), batch_size=5)
    one = [batch["front"].copy() for batch in windows]
    assert len(dataset._open) <= 2
    other = Windows(Dataset(folder), ("front",), batch_size=5)
    assert all(np.array_equal(a, batch["front"]) for a, batch in zip(one, other, strict=True))
    again = pickle.loads(pickle.dumps(windows))
    assert not again.datasets[0]._open
    assert np.array_equal(again.sample([3])["front"], windows.sample([3])["front"])


def test_only_the_frames_asked_for_are_read(tmp_path, make_episode, description, monkeypatch):
    T = 50
    big = (np.arange((T + 1) * 64 * 64 * 3) % 251).astype("u1").reshape(T + 1, 64, 64, 3)
    EpisodeWriter(tmp_path, description).write(make_episode(0, T, observations={"front": big}), 0)
    read = []
    real = Array.read_into

    def spy(self, out, start):
        if self.shape[1:] == (64, 64, 3):
            read.append((start, len(out)))
        real(self, out, start)

    monkeypatch.setattr(Array, "read_into", spy)
    windows = Windows(Dataset(tmp_path), ("front",), 2, 16)
    batch = windows.sample([0, 20])
    assert read == [(0, 1), (19, 2)]
    assert np.array_equal(batch["front"][1], big[19:21])
    with h5py.File(next((tmp_path / "episodes").iterdir())) as file:
        assert file["data/demo_0/obs/front"].chunks == (1, 64, 64, 3)


def test_memory_stays_flat(tmp_path, make_episode, description):
    writer = EpisodeWriter(tmp_path, description)
    for index in range(8):
        front = np.full((31, 64, 64, 3), index, "u1")
        writer.write(make_episode(index, 30, observations={"front": front}), index)
    windows = Windows(Dataset(tmp_path, max_open_files=2), ("front",), 2, 4, batch_size=60)
    for _ in windows:
        pass
    tracemalloc.start()
    for batch in windows:
        batch.clear()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after < 1e6  # the pictures of all episodes are 3 MB
