"""The torch adapters of `Windows`: one order for any number of workers, and exact resume."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from shopfloor.core import Episode, EpisodeSpec, InvalidInputError
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.windows.windows import Windows
from shopfloor.datasets.writer import EpisodeWriter, write_manifest
from shopfloor.policies.learners.loader import WindowDataset, WindowIterable, state_after

LENGTHS = (9, 4, 1, 21)
CELL = "shopfloor/PickToTray-v0"


def episode(seed: int, T: int) -> Episode:
    generator = np.random.default_rng(seed)
    actions = generator.normal(size=(T, 3)).astype("f4")
    return Episode(
        spec=EpisodeSpec(CELL, seed, "test", purpose="train"),
        instruction="Put the cube into the tray.",
        observations={
            "state": generator.normal(size=(T + 1, 5)).astype("f4"),
            "front": generator.integers(0, 255, (T + 1, 40, 40, 3)).astype("u1"),
        },
        sim_states=np.zeros((T + 1, 2)),
        actions=actions,
        rewards=np.zeros(T, "f4"),
        outcome="success",
        reason="",
        actor=np.ones(T, "u1"),
        object_names=(),
        stages=(),
        label_actions=actions + 1,
        label_valid=np.arange(T) % 2 == 0,
        decisions=np.ones(T, np.bool_),
        terminated=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("loader") / "d"
    writer = EpisodeWriter(path, {"cell": CELL})
    for index, steps in enumerate(LENGTHS):
        writer.write(episode(index, steps), index)
    write_manifest(path)
    return path


def build(folder, cache=False):
    return Windows(
        Dataset(folder),
        ("state", "front"),
        2,
        3,
        step_keys=("actor",),
        batch_size=4,
        seed=7,
        cache=cache,
    )


def assert_same(batches, others):
    for one, other in zip(batches, others, strict=True):
        assert one.keys() - {"place"} == other.keys() - {"place"}
        for name in one.keys() - {"place"}:
            a, b = np.asarray(one[name]), np.asarray(other[name])
            assert (a.dtype, a.shape) == (b.dtype, b.shape), name
            assert np.array_equal(a, b), name


def loader(windows, workers, kind="iterable", start="fork", epochs=1):
    options = {"num_workers": workers, "multiprocessing_context": start if workers else None}
    if kind == "iterable":
        return DataLoader(WindowIterable(windows, epochs), batch_size=None, **options)
    data = WindowDataset(windows)
    return DataLoader(data, batch_sampler=data.batches(epochs), **options)


@pytest.mark.parametrize("kind", ["iterable", "dataset"])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_order_is_that_of_windows_for_any_number_of_workers(folder, workers, kind):
    # The parent reads before it forks, so that workers inherit open files.
    wanted = list(build(folder))
    windows = build(folder, cache=workers == 2)
    windows.sample([0, 20])
    got = list(loader(windows, workers, kind))
    assert_same(got, wanted)
    assert got[0]["front"].dtype == torch.uint8
    assert windows.state_dict()["position"] == 0
    assert np.array_equal(windows.sample([20])["front"], build(folder).sample([20])["front"])


@pytest.mark.parametrize(
    ("kind", "workers", "start"),
    [
        ("iterable", 0, "fork"),
        ("iterable", 2, "fork"),
        ("dataset", 2, "fork"),
        pytest.param("iterable", 2, "spawn", marks=pytest.mark.slow),
        pytest.param("dataset", 1, "spawn", marks=pytest.mark.slow),
    ],
)
def test_resume_behind_the_batch_that_was_used(folder, kind, workers, start):
    stream = build(folder)
    wanted = [*stream, *stream]
    for used in (1, len(wanted) // 2, len(wanted) // 2 + 2):
        windows, got = build(folder), []
        for batch in loader(windows, workers, kind, start, epochs=None):
            got.append(batch)
            if len(got) == used:
                break
        state = json.loads(json.dumps(state_after(windows, got[-1])))
        windows = build(folder)
        windows.load_state_dict(state)
        epochs = 2 - windows.state_dict()["epoch"]
        got += list(loader(windows, workers, kind, start, epochs))
        assert_same(got, wanted)
        if start == "spawn":
            break


def test_more_workers_than_batches(folder):
    windows = Windows(Dataset(folder), batch_size=50)
    assert_same(list(loader(windows, 2)), list(Windows(Dataset(folder), batch_size=50)))


def test_items_of_the_map_style_dataset(folder):
    windows = build(folder)
    data = WindowDataset(windows)
    assert len(data) == sum(LENGTHS)
    epochs = [list(windows), list(windows)]
    for epoch, batches in enumerate(epochs):
        item = data[epoch * len(data) + 5]
        assert_same(
            [{name: tensor[None] for name, tensor in item.items()}],
            [{k: v[1:2] for k, v in batches[1].items()}],
        )
    assert_same(list(DataLoader(data, batch_size=4)), epochs[0])
    shuffled = DataLoader(
        data, batch_size=5, shuffle=True, generator=torch.Generator().manual_seed(0)
    )
    assert sorted(place for batch in shuffled for place in batch["place"].tolist()) == list(
        range(len(data))
    )


def test_wrong_arguments(folder):
    windows = build(folder)
    with pytest.raises(InvalidInputError, match="epochs is 0"):
        WindowIterable(windows, 0)
    with pytest.raises(InvalidInputError, match="epochs is -1"):
        WindowDataset(windows).batches(-1)
    with pytest.raises(InvalidInputError, match="Place -1"):
        WindowDataset(windows)[-1]
