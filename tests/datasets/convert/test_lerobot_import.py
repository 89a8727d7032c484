"""Strangers' LeRobot datasets: what becomes of their features, and what is refused, by which name."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from shopfloor.core import InvalidInputError
from shopfloor.datasets.convert.lerobot import convert as lerobot
from shopfloor.datasets.convert.lerobot.video import VideoWriter, find_encoder
from shopfloor.datasets.convert.options import ExportOptions, ImportOptions
from shopfloor.datasets.disk.errors import (
    DamagedFileError,
    FormatVersionError,
    NotADatasetError,
    UnsafeFileError,
)
from shopfloor.datasets.reader import Dataset

FPS = 10
LENGTHS = (4, 3)
SIDE = 64
CAMERA = "observation.images.top"


def pictures(count):
    ramp = np.add.outer(np.arange(SIDE), np.arange(SIDE))
    return np.stack(
        [np.stack([ramp + 5 * step, ramp // 2, 200 - ramp], -1) for step in range(count)]
    ).astype("u1")


def png(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def frames(number, length, first):
    """Return the columns of an episode, as somebody else's tool writes them."""
    steps = np.arange(length)
    return {
        "observation.state": pa.array(
            (steps[:, None] + [number, 0.5]).astype("f4").tolist(), pa.list_(pa.float32())
        ),
        "observation.environment_state": pa.FixedSizeListArray.from_arrays(
            np.arange(length * 3) * 1.0, 3
        ),
        "observation.touching": pa.array(steps % 2 == 1),
        "observation.note": pa.array(["x"] * length),
        "complementary_info.rank": pa.array(steps),
        "action": pa.array((steps[:, None] * [0.25, 4.0]).tolist(), pa.list_(pa.float64(), 2)),
        "next.reward": pa.array((steps == length - 1) * float(number), pa.float32()),
        "next.done": pa.array(steps == length - 1),
        "timestamp": pa.array((steps / FPS).astype("f4")),
        "frame_index": pa.array(steps),
        "episode_index": pa.array(np.full(length, number)),
        "index": pa.array(first + steps),
        "task_index": pa.array(np.full(length, 1 - number)),
    }


FEATURES = {
    "observation.state": {
        "dtype": "float32",
        "shape": [2],
        "names": {"motors": ["shoulder", "elbow"]},
    },
    "observation.environment_state": {"dtype": "float64", "shape": [3], "names": None},
    "observation.touching": {"dtype": "bool", "shape": [1], "names": None},
    "observation.note": {"dtype": "string", "shape": [1], "names": None},
    "complementary_info.rank": {"dtype": "int64", "shape": [1], "names": None},
    "action": {"dtype": "float64", "shape": [2], "names": ["x", "y"]},
    "next.reward": {"dtype": "float32", "shape": [1], "names": None},
    "next.done": {"dtype": "bool", "shape": [1], "names": None},
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}
INFO = {
    "codebase_version": "v3.0",
    "fps": FPS,
    "robot_type": "so100",
    "total_episodes": 2,
    "total_frames": 7,
    "total_tasks": 2,
    "chunks_size": 1000,
    "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    "splits": {"train": "0:2"},
}


def write(path, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def film(path, images):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = VideoWriter(path, find_encoder(), FPS, SIDE, SIDE)
    writer.add(images)
    writer.close()


@pytest.fixture
def source(tmp_path):
    """Return a function that writes a dataset of two episodes and a video, with other columns or info where given."""

    def make(columns=None, info=None, features=None, places=None):
        root = tmp_path / "source"
        columns = columns or {}
        parts = [frames(0, 4, 0), frames(1, 3, 4)]
        joined = {
            name: pa.concat_arrays([part[name] for part in parts]) for name in parts[0]
        } | columns
        write(root / "data/chunk-000/file-000.parquet", joined)
        film(root / f"videos/{CAMERA}/chunk-000/file-000.mp4", pictures(7))
        declared = FEATURES | {
            CAMERA: {
                "dtype": "video",
                "shape": [3, SIDE, SIDE],
                "names": ["channels", "height", "width"],
            }
        }
        document = INFO | {"features": declared | (features or {})} | (info or {})
        (root / "meta").mkdir()
        (root / "meta/info.json").write_text(json.dumps(document))
        write(
            root / "meta/tasks.parquet",
            {"task_index": [0, 1], "__index_level_0__": ["Push.", "Pull."]},
        )
        listed = {
            "episode_index": [0, 1],
            "tasks": [["Pull."], ["Push."]],
            "length": list(LENGTHS),
            "data/chunk_index": [0, 0],
            "data/file_index": [0, 0],
            "dataset_from_index": [0, 4],
            "dataset_to_index": [4, 7],
            f"videos/{CAMERA}/chunk_index": [0, 0],
            f"videos/{CAMERA}/file_index": [0, 0],
            f"videos/{CAMERA}/from_timestamp": [0.0, 0.4],
            f"videos/{CAMERA}/to_timestamp": [0.4, 0.7],
        }
        write(root / "meta/episodes/chunk-000/file-000.parquet", listed | (places or {}))
        return root

    return make


def load(root, **options):
    out = root.parent / "out"
    result = lerobot.import_(root, out, ImportOptions(**options))
    return Dataset(out), result


# --------------------------------------------------------------------------------------------------
# What becomes of it
# --------------------------------------------------------------------------------------------------


def test_features_become_observations(source):
    data, result = load(source())
    assert (result.episodes, result.steps) == (2, 7)
    episode = data.read(1)
    T = 3
    assert {key: (rows.shape, rows.dtype.name) for key, rows in episode.observations.items()} == {
        "state": ((T + 1, 2), "float32"),
        "environment_state": ((T + 1, 3), "float64"),
        "touching": ((T + 1, 1), "uint8"),
        "top": ((T + 1, SIDE, SIDE, 3), "uint8"),
    }
    state = (np.array([0, 1, 2, 2])[:, None] + [1, 0.5]).astype("f4")
    assert np.array_equal(episode.observations["state"], state)  # T rows, the last one repeated
    assert episode.observations["touching"].ravel().tolist() == [0, 1, 0, 0]
    assert np.array_equal(episode.actions, (np.arange(T)[:, None] * [0.25, 4.0]).astype("f4"))
    error = (episode.observations["top"][:T].astype("f8") - pictures(7)[4:]) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 35
    assert not data.verify()


def test_facts_come_from_what_the_source_says(source):
    data, result = load(source())
    failure, success = data.records
    assert (failure.instruction, success.instruction) == ("Pull.", "Push.")
    assert [(record.outcome, record.reason) for record in (failure, success)] == [
        ("failure", "timeout"),
        ("success", ""),
    ]
    assert (success.cell, success.seed, success.policy_digest, success.purpose) == (
        "lerobot/so100",
        1,
        "import:lerobot",
        "train",
    )
    description = data.description
    assert description["final_observation"] == "repeated"
    assert description["outcomes"].startswith("from next.reward")
    assert description["features"]["state"]["names"] == ["shoulder", "elbow"]
    assert description["action_names"] == ["x", "y"]
    assert (data.identity.raw["action_convention"], data.identity.raw["control_hz"]) == (
        "unspecified",
        FPS,
    )
    assert data.identity.raw["cameras"] == ["top"]
    assert sorted(name.partition(":")[0] for name in result.left_out) == [
        "complementary_info.rank",
        "observation.note",
    ]


def test_options_say_what_the_source_does_not(source):
    data, _ = load(source(), cell="bench/arm", action_convention="joint_delta")
    assert data.records[0].cell == "bench/arm"
    assert data.identity.raw["action_convention"] == "joint_delta"


def test_actions_are_rounded_only_when_asked(source):
    columns = {"action": pa.array([[0.1, 0.2]] * 7, pa.list_(pa.float64(), 2))}
    root = source(columns)
    with pytest.raises(
        InvalidInputError, match="action holds float64 numbers that float32 cannot hold"
    ):
        load(root)
    assert not (root.parent / "out").exists()
    data, _ = load(root, cast=True)
    assert np.array_equal(data.read(0).actions, np.full((4, 2), [0.1, 0.2], "f4"))


def test_pictures_in_the_table(source):
    cells = [{"bytes": png(picture), "path": None} for picture in pictures(7)]
    features = {"observation.image": {"dtype": "image", "shape": [SIDE, SIDE, 3], "names": None}}
    data, _ = load(source({"observation.image": pa.array(cells)}, features=features))
    assert np.array_equal(data.read(1).observations["image"][:3], pictures(7)[4:])


def test_names_that_are_taken_or_cannot_be_keys(source):
    rows = pa.array([[1.0, 2.0]] * 7, pa.list_(pa.float32()))
    names = ("observation.images.state", "observation.actions", "observation._hidden")
    features = {name: {"dtype": "float32", "shape": [2], "names": None} for name in names}
    data, result = load(source(dict.fromkeys(names, rows), features=features))
    keys = set(data.read(0).observations)
    assert {"state", "images.state", "observation.actions", "observation._hidden"} <= keys
    assert not any(name in line for line in result.left_out for name in names)


def test_a_task_that_changes_is_told(source):
    data, result = load(source({"task_index": pa.array([0, 0, 1, 1, 0, 0, 0])}))
    assert data.records[0].instruction == "Push."
    assert any(line.startswith("task: 1 episodes") for line in result.left_out)


def test_version_2_has_a_file_an_episode(tmp_path):
    root = tmp_path / "old"
    begin = 0
    for number, length in enumerate(LENGTHS):
        write(root / f"data/chunk-000/episode_{number:06d}.parquet", frames(number, length, begin))
        film(
            root / f"videos/chunk-000/{CAMERA}/episode_{number:06d}.mp4",
            pictures(7)[begin : begin + length],
        )
        begin += length
    (root / "meta").mkdir()
    declared = FEATURES | {CAMERA: {"dtype": "video", "shape": [SIDE, SIDE, 3], "names": None}}
    paths = {
        "codebase_version": "v2.1",
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    (root / "meta/info.json").write_text(json.dumps(INFO | paths | {"features": declared}))
    lines = [
        {"episode_index": number, "tasks": ["x"], "length": length}
        for number, length in enumerate(LENGTHS)
    ]
    (root / "meta/episodes.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    (root / "meta/tasks.jsonl").write_text(
        '{"task_index": 0, "task": "Push."}\n{"task_index": 1, "task": "Pull."}\n'
    )
    data, _ = load(root)
    assert [(record.steps, record.instruction) for record in data.records] == [
        (4, "Pull."),
        (3, "Push."),
    ]
    error = (data.read(1).observations["top"][:3].astype("f8") - pictures(7)[4:]) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 35


# --------------------------------------------------------------------------------------------------
# What is refused
# --------------------------------------------------------------------------------------------------


def refused(root, error, match):
    with pytest.raises(error, match=match):
        load(root)
    assert not (root.parent / "out").exists()


@pytest.mark.parametrize(
    "path",
    [
        "/etc/{chunk_index:03d}.parquet",
        "../data/file-{file_index:03d}.parquet",
        "data/{chunk_index.__class__}",
        "data/{chunk_index!r}",
        "data/{file_index:>99999999999}",
        "data/{secret}",
        "data\\{file_index:d}",
        "data/a\0b",
    ],
)
@pytest.mark.parametrize("name", ["data_path", "video_path"])
def test_paths_that_lead_elsewhere(source, name, path):
    refused(source(info={name: path}), UnsafeFileError, f"its {name}")


def test_a_feature_name_that_is_a_path(source):
    feature = {"dtype": "video", "shape": [SIDE, SIDE, 3], "names": None}
    refused(source(features={"../../secret": feature}), UnsafeFileError, "could lead elsewhere")


def test_folders_and_files_that_are_links(source, tmp_path):
    root = source()
    shutil.move(root / "data", tmp_path / "elsewhere")
    (root / "data").symlink_to(tmp_path / "elsewhere")
    refused(root, UnsafeFileError, "link that leads out")
    (root / "data").unlink()
    shutil.move(tmp_path / "elsewhere", root / "data")
    file = root / "data/chunk-000/file-000.parquet"
    shutil.move(file, tmp_path / "file")
    file.symlink_to(tmp_path / "file")
    refused(root, UnsafeFileError, "symbolic link")


@pytest.mark.parametrize(
    ("name", "values", "match"),
    [
        (
            "episode_index",
            [0, 0, 0, 1, 1, 1, 1],
            "frame 3 of episode 0 has episode_index 1, expected 0",
        ),
        ("frame_index", [0, 1, 3, 2, 0, 1, 2], "frame 2 of episode 0 has frame_index 3"),
        ("index", [0, 1, 2, 3, 5, 6, 7], "frame 0 of episode 1 has index 5, expected 4"),
        (
            "timestamp",
            [0, 0.1, 0.2, 0.35, 0, 0.1, 0.2],
            r"frame 3 of episode 0 is at 0\.3500 s, expected 0\.3000 s",
        ),
        ("timestamp", [0, 0.1, float("nan"), 0.3, 0, 0.1, 0.2], "frame 2 of episode 0 is at nan"),
    ],
)
def test_frames_out_of_order(source, name, values, match):
    refused(source({name: pa.array(values)}), DamagedFileError, match)


@pytest.mark.parametrize(
    ("places", "match"),
    [
        ({"episode_index": [0, 2]}, "episode 2 of 3 frames from frame 4 on, expected episode 1"),
        ({"dataset_from_index": [0, 5]}, "from frame 5 on, expected episode 1 from frame 4 on"),
        ({"length": [4, 9]}, "it has 7 rows, but meta/episodes places 13 there"),
        ({"length": [4, -1]}, "episode 1 of -1 frames"),
        ({"data/file_index": [0, 7]}, "7 rows, but meta/episodes places 4"),
        (
            {f"videos/{CAMERA}/from_timestamp": [0.0, 0.6]},
            r"has no picture at 0\.7000 s \(the file ends\)",
        ),
        (
            {f"videos/{CAMERA}/from_timestamp": [0.0, 0.45]},
            r"has no picture at 0\.4500 s \(the next one is at 0\.5",
        ),
        ({f"videos/{CAMERA}/from_timestamp": [0.0, float("inf")]}, "not finite"),
        ({f"videos/{CAMERA}/file_index": [0, 1]}, "file-001.mp4 is damaged: it is missing"),
    ],
)
def test_places_that_are_not_there(source, places, match):
    refused(source(places=places), DamagedFileError, match)


@pytest.mark.parametrize(
    ("column", "match"),
    [
        (
            pa.array([[1.0, 2.0]] * 6 + [[1.0]], pa.list_(pa.float32())),
            "claims 13 values in 7 rows, expected 2 a row",
        ),
        (pa.array([[1.0, 2.0]] * 6 + [[1.0, None]], pa.list_(pa.float32())), "1 empty entries"),
        (pa.array([[1.0, 2.0]] * 6 + [None], pa.list_(pa.float32())), "claims 13 values"),
        (
            pa.array([[1.0, 2.0]] * 5 + [[1.0], [1.0] * 3], pa.list_(pa.float32())),
            "lists of other lengths",
        ),
        (
            pa.array([[0.0] * 1_000_000] * 7, pa.list_(pa.float32())),
            "claims 7000000 values",
        ),  # in 1 kB
        (pa.array([["a", "b"]] * 7), "expected numbers"),
        (pa.array([[0.1, 2.0]] * 7, pa.list_(pa.float64())), "float32 cannot hold"),
        (pa.array([{"a": 1.0, "b": 2.0}] * 7), "claims 7 values"),
        (pa.array(np.arange(7.0)), "claims 7 values"),
    ],
)
def test_columns_of_another_kind(source, column, match):
    refused(source({"observation.state": column}), DamagedFileError, match)


@pytest.mark.parametrize(
    ("info", "error", "match"),
    [
        ({"codebase_version": "v4.0"}, FormatVersionError, "v4.0"),
        ({"codebase_version": 3}, FormatVersionError, "3"),
        ({"fps": 0}, DamagedFileError, "its fps is 0"),
        ({"total_episodes": 3}, DamagedFileError, "it says 3 episodes, but meta/episodes lists 2"),
        ({"total_episodes": 10**12}, DamagedFileError, "total_episodes"),
        ({"features": {}}, DamagedFileError, "its features"),
        (
            {"features": {"action": {"dtype": "float32"}}},
            DamagedFileError,
            "'action' is not declared",
        ),
        (
            {"features": {"action": {"dtype": "float32", "shape": [-1]}}},
            DamagedFileError,
            "'action' is not declared",
        ),
        (
            {"features": {"x": {"dtype": "float32", "shape": [1]}}},
            InvalidInputError,
            "no feature 'action'",
        ),
    ],
)
def test_descriptions_that_cannot_be_used(source, info, error, match):
    refused(source(info=info), error, match)


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "x").mkdir()
    refused(tmp_path / "x", NotADatasetError, "not a LeRobot dataset")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
@pytest.mark.parametrize(
    "name",
    [
        "data/chunk-000/file-000.parquet",
        f"videos/{CAMERA}/chunk-000/file-000.mp4",
        "meta/info.json",
    ],
)
def test_truncated_files(source, name, share):
    root = source()
    data = (root / name).read_bytes()
    (root / name).write_bytes(data[: int(len(data) * share)])
    refused(root, DamagedFileError, "damaged")


def test_pictures_of_another_size(source):
    features = {CAMERA: {"dtype": "video", "shape": [SIDE, 2 * SIDE, 3], "names": None}}
    refused(source(features=features), DamagedFileError, "64x64 pixels, expected 64x128")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (png(np.zeros((5_000, 5_000), "u1")), "5000x5000 pixels"),  # 75 MB in 25 kB
        (b"GIF89a" + bytes(50), "cannot be decoded"),
        (png(np.zeros((SIDE, SIDE, 3), "u1"))[:60], "cannot be decoded"),
    ],
)
def test_pictures_that_are_bombs_or_broken(source, data, match):
    cells = pa.array([{"bytes": data, "path": "/etc/passwd"}] * 7)
    features = {"observation.image": {"dtype": "image", "shape": [SIDE, SIDE, 3], "names": None}}
    refused(source({"observation.image": cells}, features=features), DamagedFileError, match)


def test_extras_that_belong_to_other_frames(dataset, tmp_path):
    root = tmp_path / "export"
    lerobot.export(Dataset(dataset), root, ExportOptions(where="seed < 2"))
    other = tmp_path / "other"
    lerobot.export(Dataset(dataset), other, ExportOptions())
    shutil.copytree(other / "meta/shopfloor", root / "meta/shopfloor", dirs_exist_ok=True)
    refused(root, DamagedFileError, "more episodes than the dataset has")
    lerobot.export(Dataset(dataset), tmp_path / "third", ExportOptions(where="seed > 0"))
    shutil.copytree(tmp_path / "third/meta/shopfloor", root / "meta/shopfloor", dirs_exist_ok=True)
    with pytest.raises((DamagedFileError, InvalidInputError)):
        load(root)
    shutil.rmtree(root / "meta/shopfloor")
    data, _ = load(root)  # as anybody's
    assert len(data) == 2
