"""Minari's datasets: our exports, what the real Minari makes of them, and anybody's datasets read in."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from other_pythons import run_with
from PIL import Image

from shopfloor.core import InvalidInputError, UnknownNameError
from shopfloor.datasets.convert.minari import convert as minari
from shopfloor.datasets.convert.options import ExportOptions, ImportOptions
from shopfloor.datasets.disk.errors import (
    DamagedFileError,
    FormatVersionError,
    NotADatasetError,
    UnsafeFileError,
)
from shopfloor.datasets.disk.strict_json import json_digest
from shopfloor.datasets.format.digest import episode_digest
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.writer import EpisodeWriter

KEPT = Path(__file__).parents[2] / "data" / "minari"
STEPS = (12, 5, 1)
SIDE = 32  # from which on Minari stores pictures as JPEG


@pytest.fixture
def exported(dataset, tmp_path):
    """Return a function that exports the three episodes and gives the folder."""

    def run(path=dataset, name="out-v0", **options):
        minari.export(Dataset(path), tmp_path / name, ExportOptions(**options))
        return tmp_path / name

    return run


def load(path, **options):
    result = minari.import_(path, path.parent / "back", ImportOptions(**options))
    return Dataset(path.parent / "back"), result


def digests(data):
    return sorted(episode_digest(data.read(index)) for index in range(len(data)))


# --------------------------------------------------------------------------------------------------
# Export
# --------------------------------------------------------------------------------------------------


def test_what_minari_reads(dataset, exported):
    folder = exported()
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == [
        "data",
        "data/main_data.hdf5",
        "data/metadata.json",
        "shopfloor.json",
    ]
    with h5py.File(folder / "data/main_data.hdf5") as file:
        assert sorted(file) == ["episode_0", "episode_1", "episode_2"]
        for number, T in enumerate(STEPS):
            group, episode = file[f"episode_{number}"], Dataset(dataset).read(number)
            assert dict(group.attrs) == {"id": number, "total_steps": T, "seed": number}
            assert sorted(group["observations"]) == ["front", "objects", "state"]
            for key, rows in episode.observations.items():
                assert np.array_equal(group[f"observations/{key}"][:], rows)
            assert np.array_equal(group["actions"][:], episode.actions)
            assert np.array_equal(group["rewards"][:], episode.rewards)
            ended = [False] * (T - 1) + [True]
            assert group["terminations"][:].tolist() == (
                ended if episode.terminated else [False] * T
            )
            assert group["truncations"][:].tolist() == (
                [False] * T if episode.terminated else ended
            )
            assert group["terminations"].dtype == np.bool_
            assert group["infos/success"][:].tolist() == [False] * T + [episode.success]
            assert [text.decode() for text in group["infos/instruction"][:]] == [
                episode.instruction
            ] * (T + 1)


def test_metadata(exported):
    metadata = json.loads((exported(name="cells-v3") / "data/metadata.json").read_text())
    assert {
        name: metadata[name]
        for name in ("total_episodes", "total_steps", "data_format", "jpeg_encoding")
    } == {
        "total_episodes": 3,
        "total_steps": 18,
        "data_format": "hdf5",
        "jpeg_encoding": False,
    }
    assert (metadata["dataset_id"], metadata["minari_version"]) == ("cells-v3", "0.5.4")
    observations = json.loads(metadata["observation_space"])
    assert observations["type"] == "Dict"
    state, front = observations["subspaces"]["state"], observations["subspaces"]["front"]
    assert state == {
        **{"type": "Box", "dtype": "float32", "shape": [9]},
        **{"low": [float("-inf")] * 9, "high": [float("inf")] * 9},
    }
    assert (front["dtype"], front["shape"], np.shape(front["low"])) == (
        "uint8",
        [16, 12, 3],
        (16, 12, 3),
    )
    assert (np.max(front["low"]), np.min(front["high"])) == (0, 255)
    actions = json.loads(metadata["action_space"])
    assert (actions["low"], actions["high"]) == ([-1.0] * 7, [1.0] * 7)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("a-v0", "a-v0"), ("a b-v12", "a-b-v12"), ("some.data", "some-data-v0"), ("ü", "dataset-v0")],
)
def test_dataset_ids_that_minari_takes(exported, name, wanted):
    assert (
        json.loads((exported(name=name) / "data/metadata.json").read_text())["dataset_id"] == wanted
    )


def test_what_is_told_of_an_export(dataset, tmp_path):
    result = minari.export(Dataset(dataset), tmp_path / "a/b-v0", ExportOptions())
    files = [path for path in (tmp_path / "a/b-v0").rglob("*") if path.is_file()]
    assert (result.episodes, result.steps, result.files) == (3, 18, len(files))
    assert result.bytes == sum(path.stat().st_size for path in files)


def test_equal_datasets_give_equal_bytes(exported):
    one, other = exported(name="one/x-v0"), exported(name="other/x-v0")
    for path in one.rglob("*.*"):
        assert path.read_bytes() == (other / path.relative_to(one)).read_bytes()


def test_the_validation_share(exported):
    with h5py.File(exported(valid=0.34) / "data/main_data.hdf5") as file:
        splits = [file[f"episode_{number}"].attrs["split"] for number in range(3)]
    assert [split.decode() if isinstance(split, bytes) else split for split in splits] == [
        "train",
        "train",
        "valid",
    ]


def test_chosen_episodes_and_observations(exported):
    folder = exported(where="seed > 0", keys=("state",))
    with h5py.File(folder / "data/main_data.hdf5") as file:
        assert sorted(file) == ["episode_0", "episode_1"]
        assert list(file["episode_0/observations"]) == ["state"]
    data, _ = load(folder)
    assert list(data.read(0).observations) == ["state"]


def test_labels_and_what_was_executed(dataset, exported):
    folder, source = exported(actions="label"), Dataset(dataset)
    episode = source.read(0)
    wanted = np.where(episode.label_valid[:, None], episode.label_actions, episode.actions)
    with h5py.File(folder / "data/main_data.hdf5") as file:
        assert np.array_equal(file["episode_0/actions"][:], wanted)
    assert json.loads((folder / "shopfloor.json").read_text())["actions"] == "label"
    assert "label" in json.loads((folder / "data/metadata.json").read_text())["description"]
    data, _ = load(folder)
    assert digests(data) == digests(source)


def test_other_pictures_are_refused(dataset, tmp_path):
    with pytest.raises(UnknownNameError, match="raw"):
        minari.export(Dataset(dataset), tmp_path / "x", ExportOptions(pictures="video"))


def test_episodes_that_are_not_alike(dataset, description, make_episode, tmp_path):
    other = dataclasses.replace(
        make_episode(7, 3), observations={"state": np.zeros((4, 9), "f4")}, cameras={}
    )
    EpisodeWriter(dataset, description).write(other, 7)
    with pytest.raises(InvalidInputError, match="'front' is missing"):
        minari.export(Dataset(dataset), tmp_path / "x", ExportOptions())
    assert not (tmp_path / "x").exists()


# --------------------------------------------------------------------------------------------------
# Back again
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["", "data"])
def test_episodes_come_back_bit_for_bit(dataset, exported, tmp_path, assert_same, inner):
    result = minari.import_(exported() / inner, tmp_path / "back", ImportOptions())
    data, source = Dataset(tmp_path / "back"), Dataset(dataset)
    assert (result.episodes, result.steps, result.left_out) == (3, 18, ())
    for index in range(3):
        assert_same(source.read(index), data.read(index))
    assert data.identity.raw == source.identity.raw


@settings(max_examples=8)
@given(
    code=st.sampled_from(["u1", "i1", "<u2", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8"]),
    row=st.lists(st.integers(0, 5), max_size=3),
    steps=st.integers(1, 6),
    key=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,20}", fullmatch=True),
)
def test_any_episode_comes_back(tmp_path_factory, make_episode, code, row, steps, key):
    folder = tmp_path_factory.mktemp("any")
    count = (steps + 1) * int(np.prod(row, dtype=int))
    rows = np.arange(count).astype(code).reshape(steps + 1, *row)
    episode = dataclasses.replace(
        make_episode(2, steps), observations={key: rows}, instruction="", cameras={}
    )
    EpisodeWriter(folder / "d", {"cell": episode.spec.cell}).write(episode, 0)
    minari.export(Dataset(folder / "d"), folder / "out", ExportOptions())
    data, _ = load(folder / "out")
    assert episode_digest(data.read(0)) == episode_digest(episode)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda file: file["episode_1/actions"].__setitem__((2, 3), 0.125),
            "actions of .* are not those",
        ),
        (
            lambda file: file["episode_1/observations/state"].__setitem__((2, 3), 0.5),
            "was changed after it was exp",
        ),
        (
            lambda file: file["episode_1/shopfloor/labels/actions"].__setitem__((2, 3), 0.5),
            "was changed after",
        ),
        (
            lambda file: file["episode_1"].__delitem__("shopfloor"),
            "has no episode 1 of this export",
        ),
        (lambda file: file.__delitem__("episode_2"), "has no episode 2"),
        (lambda file: file["episode_1/observations"].__delitem__("front"), "has no episode 1"),
        (
            lambda file: file["episode_0/shopfloor"].attrs.__setitem__("stages", "{"),
            "is not an episode as it was",
        ),
    ],
)
def test_exports_that_were_changed(exported, change, match):
    folder = exported()
    with h5py.File(folder / "data/main_data.hdf5", "r+") as file:
        change(file)
    with pytest.raises(DamagedFileError, match=match):
        load(folder)
    assert not (folder.parent / "back").exists()


def test_documents_that_were_changed(exported):
    path = exported() / "shopfloor.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"actions": "label"}))
    with pytest.raises(DamagedFileError, match="does not match its content_sha256"):
        load(path.parent)
    plain = {
        "kind": document["kind"],
        "schema_version": 1,
        "actions": "executed",
        "identity": {"kind": "x"},
    }
    path.write_text(json.dumps(plain | {"content_sha256": json_digest(plain)}))
    with pytest.raises(DamagedFileError, match="its identity is that of no dataset"):
        load(path.parent)
    path.write_text(json.dumps(document | {"schema_version": 2}))
    with pytest.raises(FormatVersionError, match="schema version 2"):
        load(path.parent)


def test_an_export_without_our_document_is_anybodys(dataset, exported):
    folder = exported()
    (folder / "shopfloor.json").unlink()
    data, result = load(folder)
    assert [record.outcome for record in data.records] == [
        record.outcome for record in Dataset(dataset).records
    ]
    assert [record.instruction for record in data.records] == [
        r.instruction for r in Dataset(dataset).records
    ]
    assert np.array_equal(
        data.read(0).observations["front"], Dataset(dataset).read(0).observations["front"]
    )
    assert any(line.startswith("shopfloor/labels/actions: ") for line in result.left_out)


# --------------------------------------------------------------------------------------------------
# Anybody's datasets
# --------------------------------------------------------------------------------------------------

LENGTHS = (4, 3)


def box(*shape, dtype="float32"):
    return {
        "type": "Box",
        "dtype": dtype,
        "shape": list(shape),
        "low": float("-inf"),
        "high": float("inf"),
    }


def told(space):
    return json.dumps(space)


def observed(number, T):
    """Observations of an episode, each value by arithmetic."""
    ramp = np.arange(T + 1)[:, None] + 10 * number
    return {
        "agent": {"qpos": ramp * np.ones(3), "touching": (ramp % 2 == 0).astype("u1")},
        "goal": (ramp * [0.5, 0.25]).astype("f4"),
        "image": (ramp[..., None, None] * 3 + np.zeros((SIDE, SIDE, 3))).astype("u1"),
        "mode": (ramp % 3).reshape(-1),
        "mission": [f"Push cube {number}."] * (T + 1),
    }


SPACE = {
    "type": "Dict",
    "subspaces": {
        "agent": {
            "type": "Dict",
            "subspaces": {"qpos": box(3, dtype="float64"), "touching": box(1, dtype="uint8")},
        },
        "goal": box(2),
        "image": box(SIDE, SIDE, 3, dtype="uint8"),
        "mode": {"type": "Discrete", "dtype": "int64", "start": 0, "n": 3},
        "mission": {"type": "Text", "max_length": 30, "min_length": 1, "charset": "abc"},
    },
}


def put(group, name, value):
    """Write a value as Minari does."""
    if isinstance(value, dict):
        for key, inner in value.items():
            put(group.require_group(name), key, inner)
    else:
        texts = isinstance(value[0], str)
        dtype = h5py.string_dtype() if texts else None
        shape = () if texts else np.shape(value[0])
        group.create_dataset(name, data=value, dtype=dtype, chunks=True, maxshape=(None, *shape))


def jpeg(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG")
    return np.frombuffer(buffer.getvalue(), "u1")


@pytest.fixture
def foreign(tmp_path):
    """Return a function that writes a dataset as Minari does."""

    def make(change=lambda file: None, space=SPACE, actions=None, observe=observed, **metadata):
        data = tmp_path / "theirs-v1/data"
        data.mkdir(parents=True)
        with h5py.File(data / "main_data.hdf5", "w", track_order=True) as file:
            for number, T in enumerate(LENGTHS):
                group = file.create_group(f"episode_{number}")
                group.attrs["id"], group.attrs["total_steps"], group.attrs["seed"] = number, T, 5
                put(group, "observations", observe(number, T))
                put(group, "actions", np.arange(T)[:, None] * np.array([0.25, 4.0], "f4"))
                put(group, "rewards", np.arange(T) * 0.5)
                put(group, "terminations", np.arange(T) == T - 1)
                put(group, "truncations", np.zeros(T, bool))
                put(
                    group,
                    "infos",
                    {"success": np.arange(T + 1) >= T + number, "speed": np.zeros(T + 1)},
                )
            change(file)
        said = {
            "total_episodes": len(LENGTHS),
            "total_steps": sum(LENGTHS),
            "data_format": "hdf5",
            "observation_space": told(space),
            "action_space": told(actions or box(2)),
            "env_spec": json.dumps({"id": "Push-v1", "kwargs": {}}),
            "dataset_id": "bench/theirs-v1",
            "minari_version": "0.5.4",
        }
        (data / "metadata.json").write_text(json.dumps(said | metadata))
        return data.parent

    return make


def test_their_observations_become_ours(foreign):
    data, result = load(foreign())
    assert (result.episodes, result.steps) == (2, 7)
    episode, theirs = data.read(1), observed(1, 3)
    assert {key: (rows.dtype.name, rows.shape) for key, rows in episode.observations.items()} == {
        "agent.qpos": ("float64", (4, 3)),
        "agent.touching": ("uint8", (4, 1)),
        "goal": ("float32", (4, 2)),
        "image": ("uint8", (4, SIDE, SIDE, 3)),
        "mode": ("int64", (4,)),
    }
    assert np.array_equal(episode.observations["agent.qpos"], theirs["agent"]["qpos"])
    assert np.array_equal(episode.observations["image"], theirs["image"])
    assert np.array_equal(episode.observations["mode"], theirs["mode"])
    assert np.array_equal(episode.actions, (np.arange(3)[:, None] * [0.25, 4.0]).astype("f4"))
    assert np.array_equal(episode.rewards, [0, 0.5, 1])
    assert not data.verify()


def test_facts(foreign):
    data, result = load(foreign())
    assert [(record.outcome, record.reason, record.terminated) for record in data.records] == [
        ("success", "", True),
        ("failure", "timeout", True),
    ]
    assert [(record.cell, record.seed, record.instruction) for record in data.records] == [
        ("minari/bench/theirs-v1", 5, "Push cube 0."),
        ("minari/bench/theirs-v1", 5, "Push cube 1."),
    ]
    assert data.description["source"]["environment"] == "Push-v1"
    assert data.description["outcomes"] == "from infos"
    assert data.identity.raw["cameras"] == ["image"]
    assert result.left_out == ("infos/speed: no place for it (2 of them)",)


def test_without_success_it_is_assumed_and_said(foreign):
    data, _ = load(
        foreign(lambda file: [file[f"episode_{n}"].__delitem__("infos") for n in range(2)])
    )
    assert {record.outcome for record in data.records} == {"success"}
    assert data.description["outcomes"].startswith("assumed")


@pytest.mark.parametrize("lengths", ["different", "equal"])
def test_jpeg_pictures(foreign, lengths):
    """They lie in arrays of variable length, or in a table where all have one length."""

    def change(file):
        for group in file.values():
            rows = group["observations/image"][:]
            if lengths == "equal":
                rows[:] = rows[:1]
            coded = [jpeg(row) for row in rows]
            del group["observations/image"]
            dtype = (
                h5py.vlen_dtype(np.uint8)
                if any(len(data) != len(coded[0]) for data in coded)
                else None
            )
            assert (dtype is None) == (lengths == "equal")
            group["observations"].create_dataset("image", data=coded, dtype=dtype, chunks=True)

    def observe(number, T):
        found = observed(number, T)
        noise = (
            np.sin(np.arange(found["image"].size).reshape(found["image"].shape) * 7.1) * 40 + 128
        )
        return {**found, "image": noise.astype("u1")}

    data, _ = load(foreign(change, observe=observe))
    error = (data.read(0).observations["image"][0].astype("f8") - observe(0, 4)["image"][0]) ** 2
    assert data.read(0).observations["image"].shape == (5, SIDE, SIDE, 3)
    assert 0 < error.mean() < 3000


def test_grey_jpeg_pictures(foreign):
    space = {"type": "Dict", "subspaces": {"image": box(SIDE, SIDE, dtype="uint8")}}

    def change(file):
        for group in file.values():
            coded = [jpeg(row) for row in group["observations/image"][:]]
            del group["observations/image"]
            made = group["observations"].create_dataset(
                "image", (len(coded),), h5py.vlen_dtype(np.uint8)
            )
            for row, picture in enumerate(coded):
                made[row] = picture

    data, _ = load(
        foreign(
            change, space, observe=lambda n, T: {"image": np.full((T + 1, SIDE, SIDE), 77, "u1")}
        )
    )
    assert np.array_equal(data.read(0).observations["image"], np.full((5, SIDE, SIDE), 77))


@pytest.mark.parametrize(
    ("space", "value", "key"),
    [
        (box(3), np.ones(3, "f4"), "state"),
        (box(4, 4, 3, dtype="uint8"), np.ones((4, 4, 3), "u1"), "image"),
        ({"type": "Discrete", "n": 9, "start": 0}, np.int64(3), "state"),
        (
            {"type": "MultiDiscrete", "dtype": "int64", "nvec": [3, 4], "start": [0, 0]},
            np.array([1, 2]),
            "state",
        ),
        ({"type": "MultiBinary", "n": 3}, np.array([1, 0, 1], "i1"), "state"),
    ],
)
def test_plain_observations(foreign, space, value, key):
    data, _ = load(foreign(space=space, observe=lambda number, T: np.array([value] * (T + 1))))
    rows = data.read(0).observations
    assert list(rows) == [key]
    assert np.array_equal(rows[key][2], value)


def test_actions_of_several_kinds(foreign):
    actions = {
        "type": "Dict",
        "subspaces": {
            "arm": box(2),
            "gripper": {"type": "Discrete", "dtype": "int64", "start": 0, "n": 2},
        },
    }

    def change(file):
        for group in file.values():
            rows = group["actions"][:]
            del group["actions"]
            put(group, "actions", {"arm": rows, "gripper": np.arange(len(rows)) % 2})

    data, _ = load(foreign(change, actions=actions))
    assert np.array_equal(data.read(1).actions, [[0, 0, 0], [0.25, 4, 1], [0.5, 8, 0]])
    assert data.description["action_names"] == ["arm.0", "arm.1", "gripper.0"]


def test_choices_that_are_not_exact(foreign):
    def change(file):
        for group in file.values():
            T = len(group["rewards"])
            del group["actions"]
            put(group, "actions", np.full(T, 2**24 + 1))

    with pytest.raises(InvalidInputError, match="float32 cannot hold"):
        load(foreign(change, actions={"type": "Discrete", "n": 2**25, "start": 0}))


def test_texts_that_change_have_no_place(foreign):
    def change(file):
        file["episode_1/observations/mission"][2] = "Stop."

    data, result = load(foreign(change), instruction="Do it.")
    assert [record.instruction for record in data.records] == ["Push cube 0.", "Do it."]
    assert any(
        line.startswith("observations/mission: it is a text that changes")
        for line in result.left_out
    )


def test_options_say_what_the_source_does_not(foreign):
    data, _ = load(foreign(), cell="bench/push", action_convention="joints")
    assert data.records[0].cell == "bench/push"
    assert data.identity.raw["action_convention"] == "joints"


# --------------------------------------------------------------------------------------------------
# What is refused
# --------------------------------------------------------------------------------------------------


def refused(folder, error, match):
    with pytest.raises(error, match=match):
        load(folder)
    assert not (folder.parent / "back").exists()


def swap(group, name, rows):
    del group[name]
    group[name] = rows


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (
            lambda file: file.__delitem__("episode_1"),
            DamagedFileError,
            "episode_1 has no array rewards",
        ),
        (
            lambda file: file["episode_1"].__delitem__("actions"),
            DamagedFileError,
            "episode_1 has no array actions",
        ),
        (
            lambda file: swap(file["episode_0"], "rewards", np.zeros(7)),
            DamagedFileError,
            "4 rows, expected 7|5 rows",
        ),
        (
            lambda file: swap(file["episode_0"], "actions", np.zeros((3, 2))),
            DamagedFileError,
            "3 rows, expected 4",
        ),
        (
            lambda file: swap(file["episode_0"], "actions", np.zeros((4, 3))),
            DamagedFileError,
            r"has rows \(3,\)",
        ),
        (
            lambda file: swap(file["episode_0"], "terminations", np.zeros((4, 2))),
            DamagedFileError,
            "has shape",
        ),
        (
            lambda file: swap(file["episode_0/observations"], "goal", np.zeros((4, 2))),
            DamagedFileError,
            "expected 5",
        ),
        (
            lambda file: swap(file["episode_0/observations"], "goal", np.zeros((5, 3))),
            DamagedFileError,
            "has rows",
        ),
        (
            lambda file: swap(file["episode_0/observations"], "goal", np.zeros(5, "V8")),
            UnsafeFileError,
            "neither num",
        ),
        (
            lambda file: swap(file["episode_0/observations"], "image", np.zeros((5, 99), "u1")),
            DamagedFileError,
            "row 0",
        ),
        (
            lambda file: file["episode_0"].__setitem__("x", h5py.ExternalLink("/etc/passwd", "/")),
            UnsafeFileError,
            "external link",
        ),
        (
            lambda file: swap(file["episode_0"], "actions", np.full((4, 2), 0.1)),
            InvalidInputError,
            "float64 numbers",
        ),
    ],
)
def test_files_that_are_not_what_they_say(foreign, change, error, match):
    refused(foreign(change), error, match)


@pytest.mark.parametrize(
    ("metadata", "error", "match"),
    [
        ({"data_format": "arrow"}, InvalidInputError, "data_format 'arrow'; expected 'hdf5'"),
        ({"data_format": "parquet"}, InvalidInputError, "create_dataset_from_buffers"),
        ({"total_episodes": 0}, DamagedFileError, "total_episodes is 0"),
        ({"total_episodes": True}, DamagedFileError, "total_episodes is True"),
        ({"total_episodes": 10**30}, DamagedFileError, "total_episodes"),
        ({"total_episodes": 3}, DamagedFileError, "episode_2 has no array rewards"),
        ({"observation_space": None}, DamagedFileError, "observation_space cannot be used"),
        ({"observation_space": {"type": "Box"}}, DamagedFileError, "expected text"),
        ({"observation_space": "{"}, DamagedFileError, "observation_space cannot be used"),
        (
            {"observation_space": "[" * 100_000},
            DamagedFileError,
            "observation_space cannot be used",
        ),
        ({"action_space": told({"type": "Graph"})}, DamagedFileError, "it is a 'Graph'"),
        ({"action_space": told({"type": "Box", "shape": [-1]})}, DamagedFileError, "has the shape"),
        (
            {"action_space": told({"type": "Dict", "subspaces": {"../x": box(1)}})},
            DamagedFileError,
            "has the name",
        ),
        ({"action_space": told({"type": "Text"})}, InvalidInputError, "actions that are texts"),
        (
            {"action_space": told({"type": "Tuple", "subspaces": []})},
            InvalidInputError,
            "needs numbers",
        ),
    ],
)
def test_metadata_that_cannot_be_used(foreign, metadata, error, match):
    refused(foreign(**metadata), error, match)


def test_spaces_that_are_nested_for_ever(foreign):
    space = box(1)
    for _ in range(20):
        space = {"type": "Tuple", "subspaces": [space]}
    refused(foreign(space=space), DamagedFileError, "nested deeper than 8")


def test_pictures_that_are_bombs(foreign):
    """A picture of other pixels than its space says is not unpacked; a space of endless pixels is refused."""

    def change(file):
        for group in file.values():
            rows = len(group["observations/image"])
            del group["observations/image"]
            made = group["observations"].create_dataset("image", (rows,), h5py.vlen_dtype(np.uint8))
            for row in range(rows):
                made[row] = jpeg(np.zeros((2000, 2000, 3), "u1"))

    folder = foreign(change)
    refused(folder, DamagedFileError, "row 0: the picture has 2000x2000 pixels")
    space = {"type": "Dict", "subspaces": {"image": box(10**6, 10**6, 3, dtype="uint8")}}
    path = folder / "data/metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"observation_space": told(space)}))
    refused(folder, DamagedFileError, "claims 5 pictures of 1000000x1000000")


def test_folders_of_something_else(tmp_path):
    (tmp_path / "x").mkdir()
    refused(tmp_path / "x", NotADatasetError, "not a Minari dataset")


def test_files_that_are_missing_or_links(foreign, tmp_path):
    folder = foreign()
    path = folder / "data/main_data.hdf5"
    path.rename(tmp_path / "elsewhere")
    refused(folder, DamagedFileError, "it is missing")
    path.symlink_to(tmp_path / "elsewhere")
    refused(folder, UnsafeFileError, "symbolic link")


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("name", ["main_data.hdf5", "metadata.json"])
def test_files_cut_short(foreign, name, share):
    folder = foreign()
    os.truncate(folder / "data" / name, int((folder / "data" / name).stat().st_size * share))
    refused(folder, DamagedFileError, "damaged")


# --------------------------------------------------------------------------------------------------
# The real Minari
# --------------------------------------------------------------------------------------------------

# Opens a dataset by its folder and by its name, and saves what Minari hands out.
READER = """
import os, pathlib, sys
import numpy as np
folder, out = map(pathlib.Path, sys.argv[1:])
os.environ["MINARI_DATASETS_PATH"] = str(folder.parent)
import minari
data = minari.MinariDataset(str(folder / "data"))
assert minari.load_dataset(folder.name).total_steps == data.total_steps
assert list(minari.list_local_datasets()) == [folder.name]
arrays = {"episodes": np.array(data.total_episodes), "steps": np.array(data.total_steps)}
for episode in data.iterate_episodes():
    parts = {"actions": episode.actions, "rewards": episode.rewards, "terminations": episode.terminations,
             "truncations": episode.truncations, **episode.observations, **episode.infos}
    for row in range(len(episode.rewards) + 1):
        assert data.observation_space.contains({key: rows[row] for key, rows in episode.observations.items()})
    arrays |= {f"{episode.id}/{key}": np.asarray(rows) for key, rows in parts.items()}
seeds = [about["seed"] for about in data.storage.get_episode_metadata(range(data.total_episodes))]
np.savez(out, seeds=seeds, **arrays)
"""

# Has Minari's own writer make two datasets of what a small environment shows, and saves the arrays.
RECORDER = """
import os, sys
import numpy as np
os.environ["MINARI_DATASETS_PATH"] = sys.argv[1]
import gymnasium as gym
import minari
from minari.data_collector import EpisodeBuffer

class Cart(gym.Env):
    observation_space = gym.spaces.Dict({
        "camera": gym.spaces.Box(0, 255, (32, 40, 3), np.uint8), "pose": gym.spaces.Box(-9, 9, (3,), np.float64),
        "inner": gym.spaces.Tuple((gym.spaces.Discrete(4), gym.spaces.Text(20, charset="abcdehpstu ")))})
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    def see(self):
        ramp = np.add.outer(np.arange(32), np.arange(40))[..., None] + np.arange(3) * 20
        return {"camera": ((ramp + 3 * self.t) % 256).astype("u1"), "pose": np.array([self.t, 0.1, self.t / 7]),
                "inner": (np.int64(self.t % 4), "push the cube")}
    def reset(self, seed=None, options=None):
        self.t = 0
        return self.see(), {"success": False}
    def step(self, action):
        self.t += 1
        return self.see(), float(self.t == 3), self.t == 3, False, {"success": self.t == 3}

env, rng, buffers = Cart(), np.random.default_rng(0), []
for seed in (11, 12):
    steps, actions = [env.reset(seed=seed)], rng.uniform(-1, 1, (3, 2)).astype("f4")
    seen, infos = [steps[0][0]], [steps[0][1]]
    results = [env.step(action) for action in actions]
    seen, infos = [steps[0][0], *(found[0] for found in results)], [steps[0][1], *(found[4] for found in results)]
    assert all(env.observation_space.contains(rows) for rows in seen)
    buffers.append(EpisodeBuffer(
        id=None, seed=seed, actions=actions, rewards=[found[1] for found in results],
        terminations=[found[2] for found in results], truncations=[found[3] for found in results],
        infos={"success": [info["success"] for info in infos]},
        observations={
            "camera": np.stack([rows["camera"] for rows in seen]), "pose": np.stack([rows["pose"] for rows in seen]),
            "inner": ([rows["inner"][0] for rows in seen], [rows["inner"][1] for rows in seen])}))
about = dict(author="x", author_email="x@example.org", code_permalink="x", algorithm_name="x", description="x")
written = minari.create_dataset_from_buffers(
    "bench/collected-v0", buffers, observation_space=env.observation_space, action_space=env.action_space, **about)
buffer = EpisodeBuffer(id=None, seed=7, observations=np.arange(12.0).reshape(4, 3), actions=np.array([1, 0, 1]),
                       rewards=[0.0, 0.0, 1.0], terminations=[False] * 3, truncations=[False, False, True])
minari.create_dataset_from_buffers(
    "bench/buffered-v0", [buffer], observation_space=gym.spaces.Box(-99, 99, (3,), float),
    action_space=gym.spaces.Discrete(2), **about)
arrays = {}
for episode in written.iterate_episodes():
    arrays |= {f"{episode.id}/{key}": episode.observations[key] for key in ("camera", "pose")}
    arrays |= {f"{episode.id}/actions": episode.actions, f"{episode.id}/rewards": episode.rewards}
    arrays[f"{episode.id}/choice"] = episode.observations["inner"][0]
np.savez_compressed(sys.argv[2], **arrays)
"""


@pytest.mark.slow
def test_minari_reads_our_exports(minari_python, dataset, exported, tmp_path):
    out = tmp_path / "read.npz"
    result = run_with(minari_python, READER, exported(name="root/cells-v0"), out)
    assert result.returncode == 0, result.stderr[-3000:]
    found = np.load(out)
    assert (int(found["episodes"]), int(found["steps"]), found["seeds"].tolist()) == (
        3,
        18,
        [0, 1, 2],
    )
    for number, T in enumerate(STEPS):
        episode = Dataset(dataset).read(number)
        for key, rows in [
            *episode.observations.items(),
            ("actions", episode.actions),
            ("rewards", episode.rewards),
        ]:
            assert found[f"{number}/{key}"].dtype == rows.dtype
            assert np.array_equal(found[f"{number}/{key}"], rows)
        assert found[f"{number}/success"][-1] == episode.success
        assert found[f"{number}/terminations"].tolist() == [False] * (T - 1) + [episode.terminated]
        assert found[f"{number}/truncations"].tolist() == [False] * (T - 1) + [
            not episode.terminated
        ]
        assert found[f"{number}/instruction"][0].decode() == episode.instruction


def check_collected(data, found):
    for number in range(2):
        episode = data.read(number)
        rows = episode.observations
        assert set(rows) == {"camera", "pose", "inner._index_0"}
        for key, name in {"camera": "camera", "pose": "pose", "inner._index_0": "choice"}.items():
            assert np.array_equal(rows[key], found[f"{number}/{name}"])
        assert np.array_equal(episode.actions, found[f"{number}/actions"])
        assert np.array_equal(episode.rewards, found[f"{number}/rewards"])
        assert (episode.instruction, episode.outcome, episode.terminated) == (
            "push the cube",
            "success",
            True,
        )
        assert episode.spec.seed == 11 + number


@pytest.mark.slow
def test_datasets_that_minari_records(minari_python, tmp_path):
    (tmp_path / "root").mkdir()
    result = run_with(minari_python, RECORDER, tmp_path / "root", tmp_path / "arrays.npz")
    assert result.returncode == 0, result.stderr[-3000:]
    data, told_of = load(tmp_path / "root/bench/collected-v0")
    check_collected(data, np.load(tmp_path / "arrays.npz"))
    assert told_of.left_out == ()
    assert data.description["source"]["actions"] == ["Box"]
    minari.import_(tmp_path / "root/bench/buffered-v0", tmp_path / "buffered", ImportOptions())
    episode = Dataset(tmp_path / "buffered").read(0)
    assert np.array_equal(episode.observations["state"], np.arange(12.0).reshape(4, 3))
    assert episode.actions.tolist() == [[1], [0], [1]]
    assert (episode.spec.seed, episode.terminated) == (7, False)


def test_a_dataset_that_opens_for_ever(tmp_path):
    """Recorded once by Minari 0.5.4 (`RECORDER`), with the arrays that it hands out beside it."""
    shutil.copytree(KEPT / "collected-v0", tmp_path / "collected-v0")
    data, result = load(tmp_path / "collected-v0")
    assert (result.episodes, result.steps) == (2, 6)
    check_collected(data, np.load(KEPT / "collected-v0.npz"))
