"""RLDS: our TFRecord shards, read back by the formats' specifications, against the layout of Open X-Embodiment."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
import tfrecord_reader as reader
from PIL import Image

from shopfloor.core import InvalidInputError, canonical_json
from shopfloor.datasets.convert.options import ExportOptions
from shopfloor.datasets.convert.rlds import convert as rlds
from shopfloor.datasets.convert.rlds.layout import dataset_name
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.writer import EpisodeWriter

pytestmark = pytest.mark.core

STEPS = (12, 5, 1)
CLASS = "tensorflow_datasets.core.features."


def run(path, out, shard_bytes=1 << 20, **options):
    return rlds.export(Dataset(path), out, ExportOptions(**options), shard_bytes)


def examples(folder, split="train"):
    shards = sorted((folder / "1.0.0").glob(f"*-{split}.tfrecord-*"))
    return [
        reader.parse_example(body)
        for shard in shards
        for body in reader.records(shard.read_bytes())
    ]


def feature_of(folder, *names):
    """Return an entry of features.json by its way down."""
    found = json.loads((folder / "1.0.0/features.json").read_text())
    for name in names:
        inner = found.get("sequence", {}).get("feature", found)
        found = inner["featuresDict"]["features"][name]
    return found


def test_files_and_dataset_info(dataset, tmp_path):
    result = run(dataset, tmp_path / "My data")
    folder = tmp_path / "My data/1.0.0"
    names = ["dataset_info.json", "features.json", "my_data-train.tfrecord-00000-of-00001"]
    assert sorted(path.name for path in folder.iterdir()) == names
    info = json.loads((folder / "dataset_info.json").read_text())
    (body,) = [reader.records((folder / names[2]).read_bytes())]
    sizes = [len(record) for record in body]
    description = info.pop("description")
    assert info == {
        "name": "my_data",
        "version": "1.0.0",
        "fileFormat": "tfrecord",
        "releaseNotes": {"1.0.0": "First version."},
        "splits": [
            {
                "name": "train",
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "numBytes": str(sum(sizes)),
                "shardLengths": ["3"],
            }
        ],
    }
    assert "ee_delta_base_v1" in description
    assert "image is front" in description
    files = [path.stat().st_size for path in folder.iterdir()]
    assert (result.episodes, result.steps, result.files, result.bytes) == (3, 18, 3, sum(files))


def test_features(dataset, tmp_path):
    run(dataset, tmp_path / "d")
    assert feature_of(tmp_path / "d")["pythonClassName"] == f"{CLASS}features_dict.FeaturesDict"
    steps = feature_of(tmp_path / "d", "steps")
    assert (steps["pythonClassName"], steps["sequence"]["length"]) == (
        f"{CLASS}dataset_feature.Dataset",
        "-1",
    )
    assert feature_of(tmp_path / "d", "steps", "action") == {
        "pythonClassName": f"{CLASS}tensor_feature.Tensor",
        "tensor": {"shape": {"dimensions": ["7"]}, "dtype": "float32", "encoding": "none"},
    }
    picture = feature_of(tmp_path / "d", "steps", "observation", "image")
    assert picture["pythonClassName"] == f"{CLASS}image_feature.Image"
    assert picture["image"] == {
        "shape": {"dimensions": ["16", "12", "3"]},
        "dtype": "uint8",
        "encodingFormat": "png",
    }
    objects = feature_of(tmp_path / "d", "steps", "observation", "objects")
    assert objects["tensor"]["shape"] == {"dimensions": ["4", "12"]}
    for name, dtype in {
        **dict.fromkeys(("reward", "discount"), "float32"),
        **dict.fromkeys(("is_first", "is_last", "is_terminal"), "bool"),
    }.items():
        tensor = {"shape": {}, "dtype": dtype, "encoding": "none"}
        wanted = {"pythonClassName": f"{CLASS}scalar.Scalar", "tensor": tensor}
        assert feature_of(tmp_path / "d", "steps", name) == wanted
    text = {"pythonClassName": f"{CLASS}text_feature.Text", "text": {}}
    assert feature_of(tmp_path / "d", "steps", "language_instruction") == text
    assert feature_of(tmp_path / "d", "episode_metadata", "file_path") == text


def test_episodes_come_back(dataset, tmp_path):
    run(dataset, tmp_path / "d")
    source = Dataset(dataset)
    for index, found in enumerate(examples(tmp_path / "d")):
        episode, T = source.read(index), STEPS[index]
        assert np.array_equal(found["steps/action"].reshape(T, 7), episode.actions)
        assert np.array_equal(found["steps/reward"], episode.rewards)
        assert np.array_equal(found["steps/discount"], np.ones(T))
        assert found["steps/is_first"].tolist() == [1] + [0] * (T - 1)
        assert found["steps/is_last"].tolist() == [0] * (T - 1) + [1]
        assert found["steps/is_terminal"].tolist() == [0] * (T - 1) + [int(episode.terminated)]
        assert found["steps/language_instruction"] == [episode.instruction.encode()] * T
        for key in ("state", "objects"):
            rows = episode.observations[key][:T]
            assert np.array_equal(found[f"steps/observation/{key}"].reshape(rows.shape), rows)
        pictures = [
            np.asarray(Image.open(io.BytesIO(data))) for data in found["steps/observation/image"]
        ]
        assert np.array_equal(np.stack(pictures), episode.observations["front"][:T])
        facts = {
            name.partition("/")[2]: value
            for name, value in found.items()
            if name.startswith("episode_metadata/")
        }
        assert facts["file_path"] == [source.records[index].file.encode()]
        assert facts["spec"] == [canonical_json(episode.spec.to_json()).encode()]
        assert (facts["outcome"], facts["reason"]) == (
            [episode.outcome.encode()],
            [episode.reason.encode()],
        )
        assert (facts["seed"].tolist(), facts["success"].tolist()) == (
            [index],
            [int(episode.success)],
        )


def test_a_time_out_is_the_last_step_but_not_terminal(dataset, tmp_path):
    run(dataset, tmp_path / "d")
    last = examples(tmp_path / "d")[2]
    assert not Dataset(dataset).read(2).terminated
    assert (last["steps/is_last"].tolist(), last["steps/is_terminal"].tolist()) == ([1], [0])


def test_full_shards_are_followed_by_the_next(dataset, tmp_path):
    run(dataset, tmp_path / "d", shard_bytes=6000)
    names = sorted(path.name for path in (tmp_path / "d/1.0.0").glob("*tfrecord*"))
    assert len(names) > 1
    assert names == [f"d-train.tfrecord-{n:05d}-of-{len(names):05d}" for n in range(len(names))]
    info = json.loads((tmp_path / "d/1.0.0/dataset_info.json").read_text())
    lengths = [int(length) for length in info["splits"][0]["shardLengths"]]
    shards = [list(reader.records((tmp_path / "d/1.0.0" / name).read_bytes())) for name in names]
    assert [len(shard) for shard in shards] == lengths
    assert [len(found["steps/reward"]) for found in examples(tmp_path / "d")] == list(STEPS)


def test_equal_datasets_give_equal_bytes(dataset, tmp_path):
    for name in ("one", "other"):
        run(dataset, tmp_path / name / "d")
    for path in (tmp_path / "one/d/1.0.0").iterdir():
        assert path.read_bytes() == (tmp_path / "other/d/1.0.0" / path.name).read_bytes()


def test_the_validation_share_is_a_split_of_its_own(dataset, tmp_path):
    run(dataset, tmp_path / "d", valid=0.34)
    found = {split: len(examples(tmp_path / "d", split)) for split in ("train", "val")}
    assert found == {"train": 2, "val": 1}
    info = json.loads((tmp_path / "d/1.0.0/dataset_info.json").read_text())
    assert [split["name"] for split in info["splits"]] == ["train", "val"]


def test_labels_and_chosen_observations(dataset, tmp_path):
    run(dataset, tmp_path / "d", actions="label", keys=("state",), where="seed == 0")
    (found,) = examples(tmp_path / "d")
    episode = Dataset(dataset).read(0)
    wanted = np.where(episode.label_valid[:, None], episode.label_actions, episode.actions)
    assert np.array_equal(found["steps/action"].reshape(12, 7), wanted)
    assert [name for name in found if "observation" in name] == ["steps/observation/state"]


def other_observations(tmp_path, description, make_episode, observations):
    episode = dataclasses.replace(make_episode(steps=2), observations=observations, cameras={})
    writer = EpisodeWriter(tmp_path / "other", description)
    writer.write(episode, 0)
    return writer.path


def test_cameras_get_the_names_that_open_x_tools_look_for(tmp_path, description, make_episode):
    pictures = {name: np.zeros((3, 4, 4, 3), "u1") for name in ("aside", "front", "wrist")}
    path = other_observations(tmp_path, description, make_episode, pictures)
    run(path, tmp_path / "d")
    names = sorted(feature_of(tmp_path / "d", "steps", "observation")["featuresDict"]["features"])
    assert names == ["aside_image", "image", "wrist_image"]


def test_other_dtypes_lose_nothing(tmp_path, description, make_episode):
    rows = {
        "double": np.array([[0.1, 0.2]] * 3),
        "half": np.array([[0.1], [2.0], [3.0]], "f2"),
        "small": np.array([1, 2, 255], "u1"),
        "signed": np.array([-5, 0, 2**40]),
    }
    path = other_observations(tmp_path, description, make_episode, rows)
    run(path, tmp_path / "d")
    (found,) = examples(tmp_path / "d")
    assert b"".join(found["steps/observation/double"]) == rows["double"][:2].tobytes()
    assert (
        feature_of(tmp_path / "d", "steps", "observation", "double")["tensor"]["encoding"]
        == "bytes"
    )
    assert np.array_equal(found["steps/observation/half"], rows["half"][:2, 0].astype("f4"))
    assert found["steps/observation/small"].tolist() == [1, 2]
    assert found["steps/observation/signed"].tolist() == [-5, 0]


@pytest.mark.parametrize(
    ("observations", "message"),
    [
        (
            {"image": np.zeros((3, 2), "f4"), "front": np.zeros((3, 4, 4, 3), "u1")},
            "the same name in RLDS",
        ),
        ({"nothing": np.zeros((3, 0), "f4")}, "leave it out"),
    ],
)
def test_what_rlds_cannot_hold_is_refused(
    tmp_path, description, make_episode, observations, message
):
    path = other_observations(tmp_path, description, make_episode, observations)
    with pytest.raises(InvalidInputError, match=message):
        run(path, tmp_path / "d")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("folder", "name"),
    [("Pick-2 Tray", "pick_2_tray"), ("2024", "dataset_2024"), ("--", "dataset"), ("ok_1", "ok_1")],
)
def test_dataset_names(folder, name):
    assert dataset_name(folder) == name
