"""Flat .npy files: what lies where, that nothing is lost, and that NumPy alone reads them."""

from __future__ import annotations

import dataclasses
import errno
import json
import textwrap
from pathlib import Path

import numpy as np
import pytest

from shopfloor.core import (
    CameraTrack,
    DiskError,
    Episode,
    EpisodeSpec,
    InvalidInputError,
    UnknownNameError,
)
from shopfloor.datasets.convert.arrays import npy
from shopfloor.datasets.convert.arrays.npy_write import NpyFile
from shopfloor.datasets.convert.formats import export
from shopfloor.datasets.convert.options import ExportOptions
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.writer import EpisodeWriter

pytestmark = pytest.mark.core

STEPS = (12, 5, 1)


def run(path, out, **options):
    export(path, "numpy", out, ExportOptions(**options))
    return out, json.loads((out / "index.json").read_text())


def load(folder, name):
    return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)


def rebuilt(folder, number):
    """Return an episode, made of nothing but the files."""
    index = json.loads((folder / "index.json").read_text())
    entry = index["episodes"][number]
    first = entry["observation_start"]
    spans = {
        "step": slice(entry["start"], entry["stop"]),
        "observation": slice(first, first + entry["stop"] - entry["start"] + 1),
        "episode": number,
    }
    arrays = {
        name: np.array(load(folder, name)[spans[told["per"]]])
        for name, told in index["arrays"].items()
    }
    T = entry["stop"] - entry["start"]
    assert arrays["dones"].tolist() == [False] * (T - 1) + [True] * (T > 0)
    assert np.array_equal(arrays["terminated"], arrays["dones"] & entry["terminated"])
    assert arrays["episode_ends"] == entry["stop"]
    assert arrays["observation_ends"] == spans["observation"].stop
    return Episode(
        spec=EpisodeSpec.from_json(entry["spec"]),
        instruction=entry["instruction"],
        observations={name[4:]: array for name, array in arrays.items() if name.startswith("obs.")},
        sim_states=arrays["sim_states"],
        actions=arrays.get("executed_actions", arrays["actions"]),
        rewards=arrays["rewards"],
        outcome=entry["outcome"],
        reason=entry["reason"],
        actor=arrays["actor"],
        object_names=tuple(entry["object_names"]),
        stages=tuple((step, stage) for step, stage in entry["stages"]),
        label_actions=arrays["label_actions"],
        label_valid=arrays["label_valid"],
        decisions=arrays["decisions"],
        terminated=entry["terminated"],
        label_chunks=arrays["label_chunks"] if entry["label_chunks"] else None,
        cameras={
            name: CameraTrack(
                arrays[f"cameras.{name}.intrinsics"], arrays[f"cameras.{name}.extrinsics"]
            )
            for name in entry["cameras"]
        },
    )


@pytest.mark.parametrize("actions", ["executed", "label"])
def test_nothing_is_lost(dataset, tmp_path, assert_same, actions):
    folder, index = run(dataset, tmp_path / "out", actions=actions)
    assert len(index["episodes"]) == 3
    for number in range(3):
        assert_same(rebuilt(folder, number), Dataset(dataset).read(number))


def test_what_lies_there(dataset, tmp_path, description):
    folder, index = run(dataset, tmp_path / "out")
    assert {
        name: (told["dtype"], told["shape"], told["per"]) for name, told in index["arrays"].items()
    } == {
        "actions": ("float32", [18, 7], "step"),
        "rewards": ("float32", [18], "step"),
        "dones": ("bool", [18], "step"),
        "terminated": ("bool", [18], "step"),
        "actor": ("uint8", [18], "step"),
        "decisions": ("bool", [18], "step"),
        "label_actions": ("float32", [18, 7], "step"),
        "label_valid": ("bool", [18], "step"),
        "label_chunks": ("float32", [18, 4, 7], "step"),
        "obs.state": ("float32", [21, 9], "observation"),
        "obs.objects": ("float32", [21, 4, 12], "observation"),
        "obs.front": ("uint8", [21, 16, 12, 3], "observation"),
        "sim_states": ("float64", [21, 30], "observation"),
        "cameras.front.intrinsics": ("float64", [3, 3, 3], "episode"),
        "cameras.front.extrinsics": ("float64", [21, 4, 4], "observation"),
        "episode_ends": ("int64", [3], "episode"),
        "observation_ends": ("int64", [3], "episode"),
    }
    for told in index["arrays"].values():
        array = np.load(folder / told["file"], mmap_mode="r", allow_pickle=False)
        assert (array.dtype.name, list(array.shape)) == (told["dtype"], told["shape"])
        assert array.offset % 64 == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["index.json", *(told["file"] for told in index["arrays"].values())]
    )
    about = {
        name: index[name]
        for name in ("kind", "schema_version", "actions", "action_convention", "control_hz")
    }
    assert list(about.values()) == ["shopfloor-numpy-export", 1, "executed", "ee_delta_base_v1", 20]
    assert index["features"] == {**description["features"], "objects": {}}
    assert index["features"]["state"]["units"] == ["rad"] * 9
    assert index["licence"] == "unspecified"
    places = [
        (entry["start"], entry["stop"], entry["observation_start"]) for entry in index["episodes"]
    ]
    assert places == [(0, 12, 0), (12, 17, 13), (17, 18, 19)]
    assert [entry["seed"] for entry in index["episodes"]] == [0, 1, 2]
    assert [entry["outcome"] for entry in index["episodes"]] == ["success", "success", "failure"]
    assert index["episodes"][2]["reason"] == "dropped"
    assert index["episodes"][0]["episode_id"] == Dataset(dataset).records[0].episode_id


def test_the_example_of_the_documentation(dataset, tmp_path):
    folder, _ = run(dataset, tmp_path / "out")
    lines = [line for line in npy.__doc__.splitlines() if line.startswith("    ")]
    assert len(lines) == 6
    found = []
    names = {"json": json, "np": np, "Path": Path, "out": folder, "found": found}
    exec(textwrap.dedent("\n".join(lines)) + "\n    found.append(list(pairs))", names)
    for number, pairs in enumerate(found):
        episode = Dataset(dataset).read(number)
        assert len(pairs) == STEPS[number]
        for step, (state, action) in enumerate(pairs):
            assert np.array_equal(state, episode.observations["state"][step])
            assert np.array_equal(action, episode.actions[step])


def test_a_share_for_validation_comes_last(dataset, tmp_path):
    folder, index = run(dataset, tmp_path / "out", valid=0.4, seed=3)
    splits = [entry["split"] for entry in index["episodes"]]
    assert splits == ["train", "train", "valid"]
    assert sorted(entry["seed"] for entry in index["episodes"]) == [0, 1, 2]
    assert load(folder, "episode_ends")[-1] == sum(STEPS)


def test_some_episodes_and_keys(dataset, tmp_path):
    folder, index = run(dataset, tmp_path / "out", where="seed > 0", keys=["state"])
    assert [entry["seed"] for entry in index["episodes"]] == [1, 2]
    assert [name for name in index["arrays"] if name.startswith("obs.")] == ["obs.state"]
    assert load(folder, "obs.state").shape == (8, 9)


def test_labels_as_actions(dataset, tmp_path):
    folder, index = run(dataset, tmp_path / "out", actions="label", where="seed == 0")
    episode = Dataset(dataset).read(0)
    wanted = np.where(episode.label_valid[:, None], episode.label_actions, episode.actions)
    assert index["actions"] == "label"
    assert np.array_equal(load(folder, "actions"), wanted)
    assert np.array_equal(load(folder, "executed_actions"), episode.actions)


def test_equal_datasets_give_equal_bytes(dataset, tmp_path):
    one, _ = run(dataset, tmp_path / "one")
    other, _ = run(dataset, tmp_path / "other")
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


def write(path, description, *episodes):
    writer = EpisodeWriter(path, description)
    for index, episode in enumerate(episodes):
        writer.write(episode, index)
    return path


def test_episodes_that_lack_something(tmp_path, make_episode, description, assert_same):
    bare = {"label_chunks": None, "cameras": {}}
    episodes = [
        make_episode(0, 3, **bare),
        make_episode(1, 4),
        make_episode(2, 0),
        make_episode(3, 2, **bare),
    ]
    path = write(tmp_path / "data", description, *episodes)
    folder, index = run(path, tmp_path / "out")
    assert [entry["label_chunks"] for entry in index["episodes"]] == [False, True, True, False]
    assert load(folder, "label_chunks").shape == (9, 4, 7)
    assert not load(folder, "label_chunks")[:3].any()
    assert not load(folder, "cameras.front.extrinsics")[-3:].any()
    for number, episode in enumerate(episodes):
        assert_same(rebuilt(folder, number), episode)


def test_arrays_without_numbers(tmp_path, make_episode, description):
    episode = make_episode(
        0, 2, sim_states=np.zeros((3, 0)), observations={"x": np.zeros((3,), "f2")}
    )
    folder, _ = run(write(tmp_path / "data", description, episode), tmp_path / "out")
    assert load(folder, "sim_states").shape == (3, 0)
    assert load(folder, "obs.x").dtype == np.float16


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"observations": {"state": np.zeros((3, 8), "f4")}},
            r"observation 'state' has rows \(8,\)",
        ),
        ({"observations": {"state": np.zeros((3, 9), "f8")}}, "float64"),
        ({"observations": {}}, "is missing"),
        (
            {"sim_states": np.zeros((3, 31))},
            r"sim_states has rows \(31,\) of float64; the episodes before",
        ),
        ({"label_chunks": np.zeros((2, 5, 7), "f4")}, "label_chunks has rows"),
    ],
)
def test_episodes_of_another_kind(tmp_path, make_episode, description, changes, match):
    other = dataclasses.replace(make_episode(1, 2), **changes)
    path = write(tmp_path / "data", description, make_episode(0, 2), other)
    with pytest.raises(InvalidInputError, match=match):
        run(path, tmp_path / "out", keys=["state"])
    assert not (tmp_path / "out").exists()


def test_pictures_are_raw(dataset, tmp_path):
    run(dataset, tmp_path / "raw", pictures="raw")
    with pytest.raises(UnknownNameError, match=r"kind of pictures 'png'.*Known: raw"):
        run(dataset, tmp_path / "out", pictures="png")


def test_a_full_disk(dataset, tmp_path, monkeypatch):
    def full(self, rows, at):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(NpyFile, "put", full)
    with pytest.raises(DiskError):
        run(dataset, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
