"""WebDataset: what is in the shards, that nothing is lost, and that the real package reads it."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import tarfile

import numpy as np
import pytest
from other_pythons import python_with, run_with
from PIL import Image

from shopfloor.core import (
    CameraTrack,
    DiskError,
    Episode,
    EpisodeSpec,
    InvalidInputError,
    UnknownNameError,
)
from shopfloor.datasets.convert.arrays import webdataset
from shopfloor.datasets.convert.arrays.tar_write import ShardWriter
from shopfloor.datasets.convert.options import ExportOptions
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.writer import EpisodeWriter

pytestmark = pytest.mark.core

INSTALLS = (["webdataset==1.0.2", "numpy", "pillow"],)
# Runs in WebDataset's environment: saves what it hands out, after its own decoders.
READER = """
import sys
import numpy as np
import webdataset
pattern, out = sys.argv[1:]
arrays = {}
for number, sample in enumerate(webdataset.WebDataset(pattern, shardshuffle=False).decode("rgb8")):
    arrays[f"{number}/key"] = sample.pop("__key__")
    for name, value in sample.items():
        if name == "json":
            value = value["instruction"]
        if not name.startswith("__"):
            arrays[f"{number}/{name}"] = value
np.savez(out, **arrays)
"""


def run(path, out, shard_bytes=1 << 28, **options):
    webdataset.export(Dataset(path), out, ExportOptions(**options), shard_bytes)
    return out


def samples(folder, split="train"):
    """Return key -> what follows it -> content; by the rules of WebDataset, files of a sample lie side by side."""
    found = {}
    for shard in sorted(folder.glob(f"{split}-*.tar")):
        with tarfile.open(shard, "r|") as archive:
            latest = None
            for member in archive:
                key, _, end = member.name.partition(".")
                assert key == latest or key not in found
                latest = key
                sample = found.setdefault(key, {})
                assert end.lower() not in sample
                sample[end] = archive.extractfile(member).read()
    return found


def load(data):
    return np.load(io.BytesIO(data), allow_pickle=False)


def rebuilt(sample, keys):
    """Return an episode, made of nothing but a sample's files."""
    facts = json.loads(sample["json"])
    arrays = {end[:-4]: load(data) for end, data in sample.items() if end.endswith(".npy")}
    for key in keys:
        pictures = [
            sample[end]
            for end in sorted(sample)
            if end.startswith(f"{key}.") and end.endswith(".png")
        ]
        if pictures:
            arrays[key] = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in pictures])
    cameras = [name.split(".")[1] for name in arrays if name.endswith(".intrinsics")]
    return Episode(
        spec=EpisodeSpec.from_json(facts["spec"]),
        instruction=facts["instruction"],
        observations={key: arrays[key] for key in keys},
        sim_states=arrays["sim_states"],
        actions=arrays.get("executed_actions", arrays["actions"]),
        rewards=arrays["rewards"],
        outcome=facts["outcome"],
        reason=facts["reason"],
        actor=arrays["actor"],
        object_names=tuple(facts["object_names"]),
        stages=tuple((step, stage) for step, stage in facts["stages"]),
        label_actions=arrays["label_actions"],
        label_valid=arrays["label_valid"],
        decisions=arrays["decisions"],
        terminated=facts["terminated"],
        label_chunks=arrays.get("label_chunks"),
        cameras={
            name: CameraTrack(
                arrays[f"cameras.{name}.intrinsics"], arrays[f"cameras.{name}.extrinsics"]
            )
            for name in cameras
        },
    )


@pytest.mark.parametrize("options", [{}, {"pictures": "png"}, {"actions": "label"}])
def test_nothing_is_lost(dataset, tmp_path, assert_same, options):
    found = samples(run(dataset, tmp_path / "out", **options))
    source = Dataset(dataset)
    assert list(found) == [
        f"{number:08d}-{source.records[number].episode_id[:16]}" for number in range(3)
    ]
    for number, sample in enumerate(found.values()):
        assert_same(rebuilt(sample, ("state", "objects", "front")), source.read(number))


def test_what_is_in_a_sample(dataset, tmp_path):
    sample = next(iter(samples(run(dataset, tmp_path / "out", where="seed == 1")).values()))
    arrays = [
        "actions",
        "rewards",
        "dones",
        "actor",
        "decisions",
        "label_actions",
        "label_valid",
        "label_chunks",
    ]
    more = [
        "sim_states",
        "cameras.front.intrinsics",
        "cameras.front.extrinsics",
        "state",
        "objects",
        "front",
    ]
    assert sorted(sample) == sorted(["json", *(f"{name}.npy" for name in arrays + more)])
    assert [len(load(sample[f"{name}.npy"])) for name in ("actions", "front", "sim_states")] == [
        5,
        6,
        6,
    ]
    assert load(sample["dones.npy"]).tolist() == [False] * 4 + [True]
    facts = json.loads(sample["json"])
    assert (facts["steps"], facts["seed"], facts["control_hz"]) == (5, 1, 20)
    assert (facts["action_convention"], facts["actions"]) == ("ee_delta_base_v1", "executed")
    assert facts["episode_id"] == Dataset(dataset).records[1].episode_id


def test_pictures_as_png(dataset, tmp_path):
    sample = next(iter(samples(run(dataset, tmp_path / "out", pictures="png")).values()))
    assert [end for end in sorted(sample) if end.startswith("front")] == [
        f"front.{step:06d}.png" for step in range(13)
    ]
    assert "objects.npy" in sample


def test_shards_and_index(dataset, tmp_path):
    whole = run(dataset, tmp_path / "whole")
    assert sorted(path.name for path in whole.iterdir()) == ["index.json", "train-000000.tar"]
    folder = run(dataset, tmp_path / "out", shard_bytes=30_000, valid=0.4, seed=3)
    index = json.loads((folder / "index.json").read_text())
    assert index["shards"] == {
        "train": [
            {"file": "train-000000.tar", "samples": 1},
            {"file": "train-000001.tar", "samples": 1},
        ],
        "valid": [{"file": "valid-000000.tar", "samples": 1}],
    }
    files = ["index.json", "train-000000.tar", "train-000001.tar", "valid-000000.tar"]
    assert sorted(path.name for path in folder.iterdir()) == files
    assert list(samples(folder)) + list(samples(folder, "valid")) == sorted(
        {**samples(folder), **samples(folder, "valid")}
    )
    seeds = [
        json.loads(sample["json"])["seed"]
        for split in ("train", "valid")
        for sample in samples(folder, split).values()
    ]
    assert sorted(seeds) == [0, 1, 2]
    about = {
        name: index[name]
        for name in ("kind", "schema_version", "actions", "action_convention", "control_hz")
    }
    assert list(about.values()) == [
        "shopfloor-webdataset-export",
        1,
        "executed",
        "ee_delta_base_v1",
        20,
    ]
    assert index["features"]["state"]["units"] == ["rad"] * 9


def test_a_shard_holds_what_fits(dataset, tmp_path):
    size = {path.name: path.stat().st_size for path in run(dataset, tmp_path / "all").iterdir()}[
        "train-000000.tar"
    ]
    for shard_bytes, shards in ((size, 1), (size // 2, 2), (1, 3)):
        folder = run(dataset, tmp_path / str(shard_bytes), shard_bytes=shard_bytes)
        assert len(list(folder.glob("*.tar"))) == shards
        assert len(samples(folder)) == 3


def test_members_say_nothing_of_who_wrote_them_and_when(dataset, tmp_path):
    one, other = run(dataset, tmp_path / "one"), run(dataset, tmp_path / "other")
    with tarfile.open(one / "train-000000.tar") as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    facts = {
        (member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode)
        for member in members
    }
    assert facts == {(0, 0, 0, "", "", 0o644)}
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


def test_the_archive_is_as_tarfile_writes_it(dataset, tmp_path):
    shard = run(dataset, tmp_path / "out") / "train-000000.tar"
    buffer = io.BytesIO()
    with (
        tarfile.open(shard) as source,
        tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as target,
    ):
        for member in source:
            target.addfile(member, source.extractfile(member))
    assert shard.read_bytes() == buffer.getvalue()


def write(path, description, *episodes):
    writer = EpisodeWriter(path, description)
    for index, episode in enumerate(episodes):
        writer.write(episode, index)
    return path


def test_long_names_and_episodes_without_steps(tmp_path, make_episode, description, assert_same):
    key = "k" * 64
    pictures = np.arange(1 * 2 * 2 * 3, dtype="u1").reshape(1, 2, 2, 3)
    episode = make_episode(0, 0, observations={key: pictures})
    found = samples(
        run(write(tmp_path / "data", description, episode), tmp_path / "out", pictures="png")
    )
    (sample,) = found.values()
    assert f"{key}.000000.png" in sample
    assert_same(rebuilt(sample, (key,)), episode)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("Front", "front"), "Front and front would have the same name"),
        (("Dones", "state"), "dones and Dones would"),
        (("cameras.front.intrinsics",), "would have the same name in WebDataset"),
    ],
)
def test_names_that_webdataset_reads_as_one(tmp_path, make_episode, description, names, match):
    episode = make_episode(0, 2, observations={name: np.zeros((3, 2), "f4") for name in names})
    path = write(tmp_path / "data", description, episode)
    with pytest.raises(InvalidInputError, match=match):
        run(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_episodes_of_another_kind(tmp_path, make_episode, description):
    other = dataclasses.replace(make_episode(1, 2), observations={"state": np.zeros((3, 8), "f4")})
    path = write(tmp_path / "data", description, make_episode(0, 2), other)
    with pytest.raises(InvalidInputError, match="observation 'state' has rows"):
        run(path, tmp_path / "out", keys=["state"])


def test_no_video(dataset, tmp_path):
    with pytest.raises(UnknownNameError, match=r"kind of pictures 'video'.*Known: png, raw"):
        run(dataset, tmp_path / "out", pictures="video")


def test_a_full_disk(dataset, tmp_path, monkeypatch):
    def full(self, key, files):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ShardWriter, "add", full)
    with pytest.raises(DiskError):
        run(dataset, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.slow
@pytest.mark.parametrize("pictures", ["raw", "png"])
def test_webdataset_reads_our_shards(dataset, tmp_path, pictures):
    folder = run(dataset, tmp_path / "out", shard_bytes=30_000, pictures=pictures)
    assert len(list(folder.glob("*.tar"))) > 1
    shards = sorted(folder.glob("train-*.tar"))
    pattern = f"{folder}/train-{{000000..{len(shards) - 1:06d}}}.tar"
    result = run_with(python_with("webdataset", INSTALLS), READER, pattern, tmp_path / "found.npz")
    assert result.returncode == 0, result.stderr[-3000:]
    found = np.load(tmp_path / "found.npz")
    source = Dataset(dataset)
    for number in range(3):
        episode = source.read(number)
        assert str(found[f"{number}/key"]) == f"{number:08d}-{episode.spec.episode_id[:16]}"
        assert str(found[f"{number}/json"]) == episode.instruction
        assert np.array_equal(found[f"{number}/actions.npy"], episode.actions)
        assert np.array_equal(found[f"{number}/state.npy"], episode.observations["state"])
        for step, picture in enumerate(episode.observations["front"]):
            if pictures == "png":
                assert np.array_equal(found[f"{number}/front.{step:06d}.png"], picture)
            else:
                assert np.array_equal(found[f"{number}/front.npy"][step], picture)
    assert "3/key" not in found
