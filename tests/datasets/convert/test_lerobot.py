"""LeRobotDataset v3.0: the layout of our exports, what is in them, and that an import gives the same episodes back."""

from __future__ import annotations

import dataclasses
import errno
import io
import itertools
import json
import subprocess
import sys

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from shopfloor.core import ACTION_CONVENTION, DiskError, InvalidInputError, UnknownNameError
from shopfloor.datasets.convert.lerobot import convert as lerobot
from shopfloor.datasets.convert.lerobot import parquet as lerobot_parquet
from shopfloor.datasets.convert.lerobot import write as lerobot_write
from shopfloor.datasets.convert.lerobot.stats import QUANTILES
from shopfloor.datasets.convert.options import ExportOptions, ImportOptions
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.merge import merge
from shopfloor.datasets.writer import EpisodeWriter

pytestmark = pytest.mark.core

FPS = 20
STEPS = (12, 5, 1)
IMAGE = "observation.images.front"
AUTOMATIC = ["timestamp", "frame_index", "episode_index", "index", "task_index"]


@pytest.fixture
def exported(dataset, tmp_path):
    """Return a function that exports the three episodes and gives the folder."""

    def run(path=dataset, **options):
        out = tmp_path / f"lerobot-{len(list(tmp_path.iterdir()))}"
        lerobot.export(Dataset(path), out, ExportOptions(**options))
        return out

    return run


def imported(folder, out, **options):
    result = lerobot.import_(folder, out, ImportOptions(**options))
    return Dataset(out), result


def info_of(folder):
    return json.loads((folder / "meta/info.json").read_text())


def frames_of(folder):
    return pq.read_table(folder / "data/chunk-000/file-000.parquet").to_pydict()


def places_of(folder):
    return pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()


# --------------------------------------------------------------------------------------------------
# The layout
# --------------------------------------------------------------------------------------------------


def test_files_of_an_export_with_videos(exported):
    folder = exported()
    assert sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
    ) == [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/shopfloor/chunk-000/file-000.parquet",
        "meta/shopfloor/export.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        f"videos/{IMAGE}/chunk-000/file-000.mp4",
    ]


def test_info(exported, description):
    info = info_of(exported())
    features = info.pop("features")
    assert info == {
        "codebase_version": "v3.0",
        "fps": FPS,
        "total_episodes": 3,
        "total_frames": 18,
        "total_tasks": 3,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "robot_type": "shopfloor/PickToTray-v0",
        "splits": {"train": "0:3"},
    }
    assert features["observation.state"] == {
        "dtype": "float32",
        "shape": [9],
        "names": description["features"]["state"]["names"],
    }
    assert features["observation.objects"]["shape"] == [4, 12]
    assert features["action"] == {"dtype": "float32", "shape": [7], "names": None}
    assert {
        name: features[name]["dtype"] for name in ("next.reward", "next.done", "next.success")
    } == {
        "next.reward": "float32",
        "next.done": "bool",
        "next.success": "bool",
    }
    picture = features[IMAGE]
    assert (picture["dtype"], picture["shape"], picture["names"]) == (
        "video",
        [16, 12, 3],
        ["height", "width", "channels"],
    )
    wanted = {"height", "width", "codec", "pix_fmt", "fps", "channels", "g", "crf", "preset"}
    assert {f"video.{name}" for name in wanted} | {"has_audio", "is_depth_map"} <= set(
        picture["info"]
    )
    for name in AUTOMATIC:
        assert features[name] == {
            "dtype": "float32" if name == "timestamp" else "int64",
            "shape": [1],
            "names": None,
        }


def test_types_of_the_frames_table(exported):
    schema = pq.read_schema(exported(pictures="png") / "data/chunk-000/file-000.parquet")
    assert schema.field("observation.state").type == pa.list_(pa.float32(), 9)
    assert schema.field("action").type == pa.list_(pa.float32(), 7)
    assert schema.field("observation.objects").type == pa.list_(pa.list_(pa.float32()))
    assert schema.field(IMAGE).type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert schema.field("next.done").type == pa.bool_()
    assert [schema.field(name).type for name in AUTOMATIC] == [pa.float32(), *[pa.int64()] * 4]
    assert IMAGE not in pq.read_schema(exported() / "data/chunk-000/file-000.parquet").names


def test_tasks_have_their_text_as_the_index_of_pandas(exported):
    table = pq.read_table(exported() / "meta/tasks.parquet")
    assert table.to_pydict() == {
        "task_index": [0, 1, 2],
        "task": [f"Put the réd cube number {seed} into the tray." for seed in range(3)],
    }
    pandas = json.loads(table.schema.metadata[b"pandas"])
    assert pandas["index_columns"] == ["task"]
    assert [column["name"] for column in pandas["columns"]] == ["task_index", "task"]


def test_episodes_table(exported):
    folder = exported()
    rows = places_of(folder)
    begin = 0
    for number, (row, steps) in enumerate(zip(rows, STEPS, strict=True)):
        assert (row["episode_index"], row["length"]) == (number, steps)
        assert row["tasks"] == [f"Put the réd cube number {number} into the tray."]
        assert (row["dataset_from_index"], row["dataset_to_index"]) == (begin, begin + steps)
        assert row[f"videos/{IMAGE}/from_timestamp"] == pytest.approx(begin / FPS)
        assert row[f"videos/{IMAGE}/to_timestamp"] == pytest.approx((begin + steps) / FPS)
        places = ("data", "meta/episodes", f"videos/{IMAGE}")
        assert all(
            row[f"{place}/{what}_index"] == 0 for place in places for what in ("chunk", "file")
        )
        begin += steps
    features = info_of(folder)["features"]
    names = ("min", "max", "mean", "std", "count", *QUANTILES)
    assert {f"stats/{feature}/{name}" for feature in features for name in names} <= set(rows[0])


def test_frames_are_the_episodes_rows(exported, dataset):
    frames = frames_of(exported())
    episodes = [Dataset(dataset).read(index) for index in range(3)]
    for name, rows in {
        "observation.state": [episode.observations["state"][:-1] for episode in episodes],
        "observation.objects": [episode.observations["objects"][:-1] for episode in episodes],
        "action": [episode.actions for episode in episodes],
        "next.reward": [episode.rewards for episode in episodes],
        "timestamp": [np.arange(steps) / FPS for steps in STEPS],
        "frame_index": [np.arange(steps) for steps in STEPS],
        "episode_index": [np.full(steps, number) for number, steps in enumerate(STEPS)],
        "task_index": [np.full(steps, number) for number, steps in enumerate(STEPS)],
        "next.done": [np.arange(steps) == steps - 1 for steps in STEPS],
        "next.success": [
            (np.arange(steps) == steps - 1) & episode.success
            for steps, episode in zip(STEPS, episodes, strict=True)
        ],
    }.items():
        assert np.array_equal(np.array(frames[name], "f4"), np.concatenate(rows).astype("f4")), name
    assert frames["index"] == list(range(sum(STEPS)))


def test_pictures_as_png_are_exact(exported, dataset):
    cells = frames_of(exported(pictures="png"))[IMAGE]
    pictures = np.stack([np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in cells])
    wanted = np.concatenate(
        [Dataset(dataset).read(index).observations["front"][:-1] for index in range(3)]
    )
    assert np.array_equal(pictures, wanted)


def test_video_has_every_picture_at_its_time_and_short_ways_to_each(exported):
    with av.open(str(exported() / f"videos/{IMAGE}/chunk-000/file-000.mp4")) as container:
        stream = container.streams.video[0]
        frames = [
            (float(frame.pts * stream.time_base), frame.key_frame)
            for frame in container.decode(stream)
        ]
        assert (stream.width, stream.height, stream.pix_fmt) == (12, 16, "yuv420p")
    assert np.allclose([time for time, _ in frames], np.arange(sum(STEPS)) / FPS, atol=1e-6)
    assert all(one or other for (_, one), (_, other) in itertools.pairwise(frames))


def test_statistics_are_numpys(exported, dataset):
    folder = exported()
    total, rows = json.loads((folder / "meta/stats.json").read_text()), places_of(folder)
    episodes = [Dataset(dataset).read(index) for index in range(3)]
    for name, arrays in {
        "observation.state": [episode.observations["state"][:-1] for episode in episodes],
        "observation.objects": [episode.observations["objects"][:-1] for episode in episodes],
        "action": [episode.actions for episode in episodes],
        "index": np.split(np.arange(18), [12, 17]),
    }.items():
        check_statistics(total[name], np.concatenate(arrays))
        for row, array in zip(rows, arrays, strict=True):
            check_statistics({what: row[f"stats/{name}/{what}"] for what in total[name]}, array)
    pictures = (
        np.concatenate([episode.observations["front"][:-1] for episode in episodes]).reshape(-1, 3)
        / 255
    )
    assert np.shape(total[IMAGE]["mean"]) == (3, 1, 1)
    assert total[IMAGE]["count"] == [18]
    check_statistics(
        {name: np.reshape(value, -1) for name, value in total[IMAGE].items() if name != "count"},
        pictures,
    )


def check_statistics(found, rows):
    count, rows = len(rows), np.asarray(rows, "f8")
    rows = (
        rows.reshape(-1, rows.shape[-1]) if rows.ndim > 2 else rows
    )  # along the last axis, as LeRobot does
    wanted = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    wanted |= {name: np.quantile(rows, share, axis=0) for name, share in QUANTILES.items()}
    assert set(found) - {"count"} == set(wanted)
    assert "count" not in found or found["count"] == [count]
    for name, value in wanted.items():
        assert np.allclose(found[name], value, atol=1e-12), name


def test_equal_datasets_give_equal_bytes(exported):
    one, other = exported(), exported()
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert all((one / file).read_bytes() == (other / file).read_bytes() for file in files)


def test_full_files_are_followed_by_the_next(exported, monkeypatch, tmp_path, dataset, assert_same):
    monkeypatch.setattr(lerobot_write, "_MB", 4)
    monkeypatch.setattr(lerobot_parquet, "CHUNKS_SIZE", 2)
    folder = exported()
    for kind in ("data", "meta/shopfloor", f"videos/{IMAGE}"):
        names = [
            str(path.relative_to(folder / kind))
            for path in sorted((folder / kind).glob("chunk-*/*"))
        ]
        suffix = names[0].rpartition(".")[2]
        assert names == [f"chunk-{n // 2:03d}/file-{n % 2:03d}.{suffix}" for n in range(3)]
    assert [(row["data/chunk_index"], row["data/file_index"]) for row in places_of(folder)] == [
        (0, 0),
        (0, 1),
        (1, 0),
    ]
    assert [row[f"videos/{IMAGE}/from_timestamp"] for row in places_of(folder)] == [0.0, 0.0, 0.0]
    back, _ = imported(folder, tmp_path / "back")
    assert_alike(Dataset(dataset), back, assert_same)


# --------------------------------------------------------------------------------------------------
# There and back
# --------------------------------------------------------------------------------------------------


def assert_alike(source, back, assert_same):
    """Compare all but the pictures bit for bit; pictures of a video are alike."""
    assert len(back) == len(source)
    for index in range(len(source)):
        one, other = source.read(index), back.read(index)
        pictures = [episode.observations["front"].astype("f8") for episode in (one, other)]
        assert pictures[0].shape == pictures[1].shape
        observations = {**other.observations, "front": one.observations["front"]}
        assert_same(one, dataclasses.replace(other, observations=observations))


def test_png_gives_equal_episodes_back(exported, dataset, tmp_path, assert_same):
    back, result = imported(exported(pictures="png"), tmp_path / "back")
    source = Dataset(dataset)
    assert (result.episodes, result.steps, result.left_out) == (3, 18, ())
    for index in range(3):
        assert_same(source.read(index), back.read(index))
    assert back.identity.raw == source.identity.raw
    assert not back.verify()


def test_video_gives_alike_pictures_back(
    tmp_path, description, make_episode, exported, assert_same
):
    """Stated in docs/datasets.md: smooth pictures of 64 px come back at 40 dB and more."""
    slope = np.add.outer(np.arange(64) * 2, np.arange(64))[..., None] + np.array([0, 30, 60])
    front = np.stack(
        [
            (slope + 3 * step) % 250 if step < 0 else np.clip(slope + 3 * step, 0, 255)
            for step in range(31)
        ]
    )
    episode = make_episode(steps=30)
    episode = dataclasses.replace(
        episode, observations={**episode.observations, "front": front.astype("u1")}
    )
    features = {
        **description["features"],
        "front": {**description["features"]["front"], "shape": [64, 64, 3]},
    }
    path = EpisodeWriter(tmp_path / "smooth", {**description, "features": features}).path
    EpisodeWriter(path, {**description, "features": features}).write(episode, 0)
    back, _ = imported(exported(path), tmp_path / "back")
    assert_alike(Dataset(path), back, assert_same)
    found = back.read(0).observations["front"]
    error = ((found[:-1].astype("f8") - front[:-1]) ** 2).mean()
    decibels = 10 * np.log10(255**2 / error)
    print(f"PSNR {decibels:.1f} dB")
    assert decibels > 40
    assert back.description["pictures"] == "decoded from lossy video"
    assert np.array_equal(
        found[-1], front[-1]
    )  # the last observation is no frame of the video: kept exactly


def test_a_merged_dataset_keeps_its_cells(
    tmp_path, dataset, description, make_episode, assert_same
):
    other = EpisodeWriter(tmp_path / "other", {**description, "cell": "shopfloor/Kitting-v0"})
    episode = make_episode(9)
    episode = dataclasses.replace(
        episode, spec=dataclasses.replace(episode.spec, cell="shopfloor/Kitting-v0")
    )
    other.write(episode, 0)
    merge([dataset, other.path], tmp_path / "both")
    lerobot.export(Dataset(tmp_path / "both"), tmp_path / "out", ExportOptions(pictures="png"))
    back, _ = imported(tmp_path / "out", tmp_path / "back")
    source = Dataset(tmp_path / "both")
    assert back.identity.raw == source.identity.raw
    for index in range(4):
        assert_same(source.read(index), back.read(index))


def test_labels_as_actions(exported, dataset, tmp_path, assert_same):
    folder = exported(actions="label", pictures="png")
    episode = Dataset(dataset).read(0)
    wanted = np.where(episode.label_valid[:, None], episode.label_actions, episode.actions)
    assert np.array_equal(np.array(frames_of(folder)["action"][:12], "f4"), wanted)
    back, _ = imported(folder, tmp_path / "back")
    assert_same(episode, back.read(0))


def test_chosen_keys_and_episodes(exported, tmp_path):
    folder = exported(keys=("state",), where="steps > 4")
    assert [name for name in info_of(folder)["features"] if name.startswith("observation")] == [
        "observation.state"
    ]
    assert info_of(folder)["video_path"] is None
    back, _ = imported(folder, tmp_path / "back")
    assert [record.steps for record in back.records] == [12, 5]
    assert list(back.read(0).observations) == ["state"]


def test_the_validation_share_comes_last(exported, dataset):
    folder = exported(valid=0.34)
    splits, rows = info_of(folder)["splits"], places_of(folder)
    assert splits == {"train": "0:2", "val": "2:3"}
    assert sorted(row["length"] for row in rows) == sorted(STEPS)


def test_observations_that_lerobot_has_no_type_for_come_back(
    tmp_path, description, make_episode, exported, assert_same
):
    T = 3
    episode = make_episode(steps=T)
    observations = {
        "single": np.arange(T + 1, dtype="f8"),
        "column": np.arange(T + 1, dtype="i4").reshape(-1, 1),
        "nothing": np.zeros((T + 1, 0), "f4"),
        "deep": np.arange((T + 1) * 64, dtype="u2").reshape(T + 1, 2, 2, 2, 2, 2, 2),
        "grey": np.arange((T + 1) * 12, dtype="u1").reshape(T + 1, 4, 3, 1),
    }
    episode = dataclasses.replace(episode, observations=observations, label_chunks=None, cameras={})
    path = EpisodeWriter(tmp_path / "odd", description).path
    EpisodeWriter(path, description).write(episode, 0)
    folder = exported(path)
    shapes = {
        name: feature["shape"]
        for name, feature in info_of(folder)["features"].items()
        if "observation" in name
    }
    assert shapes == {
        "observation.single": [1],
        "observation.column": [1],
        "observation.grey": [4, 3, 1],
    }
    back, _ = imported(folder, tmp_path / "back")
    assert_same(episode, back.read(0))


# --------------------------------------------------------------------------------------------------
# Refusals
# --------------------------------------------------------------------------------------------------


def with_episode(tmp_path, description, episode):
    writer = EpisodeWriter(tmp_path / "one", description)
    writer.write(episode, 0)
    return writer.path


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"steps": 0}, {}, "has no steps"),
        ({"image": 15}, {}, "needs even sides"),
        ({}, {"where": "steps > 99"}, "no episode to export"),
        ({}, {"valid": 1.5}, "validation share is 1.5"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    tmp_path, description, make_episode, changes, options, message
):
    path = with_episode(tmp_path, description, make_episode(**changes))
    with pytest.raises(InvalidInputError, match=message):
        lerobot.export(Dataset(path), tmp_path / "out", ExportOptions(**options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [{"pictures": "gif"}, {"keys": ("stat",)}, {"actions": "labels"}]
)
def test_unknown_names_are_refused(tmp_path, dataset, options):
    with pytest.raises(UnknownNameError):
        lerobot.export(Dataset(dataset), tmp_path / "out", ExportOptions(**options))


def test_an_episode_unlike_the_first_is_refused_by_name(
    tmp_path, dataset, description, make_episode
):
    EpisodeWriter(dataset, description).write(make_episode(7, image=20), 3)
    with pytest.raises(
        InvalidInputError, match=r"seed 7\): observation 'front' has rows \(20, 12, 3\)"
    ):
        lerobot.export(Dataset(dataset), tmp_path / "out", ExportOptions())


def test_numbers_without_statistics_are_refused(tmp_path, description, make_episode):
    state = np.full((13, 9), np.nan, "f4")
    episode = make_episode()
    episode = dataclasses.replace(episode, observations={**episode.observations, "state": state})
    path = with_episode(tmp_path, description, episode)
    with pytest.raises(InvalidInputError, match=r"observation\.state holds NaN"):
        lerobot.export(Dataset(path), tmp_path / "out", ExportOptions())
    assert Dataset(path).identity.raw["action_convention"] == ACTION_CONVENTION


@pytest.mark.parametrize("pictures", ["video", "png"])
def test_a_full_disk_leaves_nothing_behind(tmp_path, dataset, monkeypatch, pictures):
    calls = []

    def write(table, rows):
        calls.append(rows)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_rows(table, rows)

    write_rows = lerobot_parquet.RollingTable.write
    monkeypatch.setattr(lerobot_parquet.RollingTable, "write", write)
    with pytest.raises(DiskError, match="Free some space"):
        lerobot.export(Dataset(dataset), tmp_path / "new" / "out", ExportOptions(pictures=pictures))
    assert not list((tmp_path / "new").iterdir())


def test_without_pyarrow_the_command_that_installs_it_is_named():
    code = "import sys; sys.modules['pyarrow'] = None; import shopfloor.datasets.convert.lerobot.parquet"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "MissingDependencyError" in result.stderr
    assert "pip install -e '.[export]'" in result.stderr
