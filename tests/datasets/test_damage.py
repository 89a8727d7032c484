"""Damaged files: noticed, named, and never anyone else's trouble."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest

from shopfloor.core import ShopfloorError
from shopfloor.datasets.disk import files
from shopfloor.datasets.disk.errors import (
    DamagedFileError,
    FormatVersionError,
    NotADatasetError,
    UnsafeFileError,
)
from shopfloor.datasets.disk.files import with_trailer
from shopfloor.datasets.format.encode import encode_episode
from shopfloor.datasets.listing.overlays import append_overlay
from shopfloor.datasets.listing.verify import verify
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.writer import EpisodeWriter, write_manifest


def episode_file(path, index):
    return next((path / "episodes").glob(f"ep-{index:08d}-*.h5"))


def test_a_loose_damaged_file_is_listed_and_left_out(dataset, assert_same, make_episode, caplog):
    path = episode_file(dataset, 1)
    path.write_bytes(path.read_bytes()[:-7])
    opened = Dataset(dataset)
    assert [record.index for record in opened.records] == [0, 2]
    assert [(damage.file, "no trailer" in damage.problem) for damage in opened.damage] == [
        (str(path), True)
    ]
    assert path.name in caplog.text
    assert_same(opened.read(1), make_episode(2, 1))
    assert opened.info()["damaged"] == 1
    write_manifest(dataset)
    assert [record.index for record in Dataset(dataset).records] == [0, 2]
    assert [damage.file for damage in Dataset(dataset).verify()] == [str(path)]


def test_a_missing_file_is_damage_until_it_is_back(dataset, make_episode, description):
    write_manifest(dataset)
    path = episode_file(dataset, 0)
    path.unlink()
    for _ in range(2):
        opened = Dataset(dataset)
        assert len(opened) == 2
        assert [(damage.file, damage.problem) for damage in opened.verify()] == [
            (str(path), "it is missing, though the manifest lists it")
        ]
        write_manifest(dataset)
    assert opened.episode_ids() == {
        make_episode(seed, steps).spec.episode_id for seed, steps in ((1, 5), (2, 1))
    }
    EpisodeWriter(dataset, description).write(make_episode(0, 12), 0)
    assert Dataset(dataset).verify() == []
    assert len(Dataset(dataset)) == 3


def test_a_file_that_vanishes_while_open_is_named(dataset):
    opened = Dataset(dataset)
    episode_file(dataset, 0).unlink()
    for read in (opened.read, lambda index: opened.read_arrays(index, ["state"])):
        with pytest.raises(DamagedFileError, match=r"ep-00000000.*it is missing"):
            read(0)


def test_a_file_exchanged_for_another_whole_one_is_noticed(dataset):
    write_manifest(dataset)
    shutil.copy(episode_file(dataset, 1), episode_file(dataset, 0))
    assert [damage.file for damage in Dataset(dataset).verify()] == [str(episode_file(dataset, 0))]


def test_a_file_changed_after_it_was_checked_is_checked_again(dataset):
    opened = Dataset(dataset, max_open_files=1)
    opened.read_arrays(0, ["front"])
    opened.read_arrays(1, ["front"])  # pushes the first file out
    path = episode_file(dataset, 0)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError):
        opened.read_arrays(0, ["front"])


def test_strangers_in_the_folder(dataset):
    (dataset / "episodes/ep-1 (copy).h5").write_bytes(b"x")
    (dataset / "episodes/notes.txt").write_text("hello")
    (dataset / "episodes/.ep-1.h5.x-1-0.tmp").write_bytes(b"half")
    found = Dataset(dataset).verify()
    assert [damage.file for damage in found] == [str(dataset / "episodes/ep-1 (copy).h5")]
    assert len(Dataset(dataset)) == 3


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 5000, b"not hdf5", with_trailer(b"not hdf5"), with_trailer(b"")]
)
def test_no_hdf5_at_all(dataset, content):
    path = episode_file(dataset, 0)
    path.write_bytes(content)
    assert [damage.file for damage in Dataset(dataset).verify()] == [str(path)]


def test_not_a_dataset(tmp_path):
    with pytest.raises(NotADatasetError, match="is not a folder"):
        Dataset(tmp_path / "nowhere")
    with pytest.raises(NotADatasetError, match=r"has no dataset\.json"):
        Dataset(tmp_path)
    (tmp_path / "dataset.json").write_text('{"kind": "something"}')
    with pytest.raises(NotADatasetError, match="kind is 'something'"):
        Dataset(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        (
            '"format_version": 1',
            '"format_version": 2',
            FormatVersionError,
            "format version 2; this release reads version 1",
        ),
        ('"kind"', '"kind": 1, "kind"', DamagedFileError, "'kind' appears twice"),
        ("20", "NaN", DamagedFileError, "NaN is not a number"),
        ("20", "1e999", DamagedFileError, "out of range"),
        ("20", "1" * 5000, DamagedFileError, "not valid JSON"),
        ("20", "[" * 100_000, DamagedFileError, "nested too deep"),
        ('"descriptions"', '"other"', DamagedFileError, "lacks descriptions"),
        ("{", "[{", DamagedFileError, "not valid JSON"),
    ],
)
def test_a_damaged_identity(dataset, old, new, error, message):
    path = dataset / "dataset.json"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(error, match=message):
        Dataset(dataset)
    found = verify(dataset)
    assert [damage.file for damage in found] == [str(path)]


def test_a_file_of_a_later_version(dataset, monkeypatch, make_episode, description):
    monkeypatch.setattr("shopfloor.datasets.format.layout.FORMAT_VERSION", 2)
    data = encode_episode(make_episode(5))
    monkeypatch.undo()
    (dataset / f"episodes/ep-00000005-{make_episode(5).spec.episode_id[:16]}.h5").write_bytes(data)
    found = Dataset(dataset).verify()
    assert len(found) == 1
    assert "format version 2; this release reads version 1" in found[0].problem
    assert len(Dataset(dataset)) == 3


def test_errors_survive_the_way_from_a_worker():
    for error in (DamagedFileError("f", "p", "a"), UnsafeFileError("f", "p")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.file) == (type(error), str(error), "f")


def test_reads_out_of_range(dataset):
    opened = Dataset(dataset)
    with pytest.raises(ShopfloorError, match="it has 3"):
        opened.read(3)
    with pytest.raises(ShopfloorError, match="it has 13"):
        opened.read_arrays(0, ["state"], (0, 14))
    with pytest.raises(ShopfloorError, match="Did you mean 'state'"):
        opened.read_arrays(0, ["stat"])
    assert opened.read_arrays(0, ["state"], slice(-1, None))["state"].shape == (1, 9)
    assert np.array_equal(opened.read_arrays(0, ["actions"])["actions"], opened.read(0).actions)


def test_a_large_file_without_a_trailer_is_refused_unread(dataset, monkeypatch):
    path = dataset / "shards/shard-00000000.h5"
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(8 << 30)
    monkeypatch.setattr(files.os, "read", None)
    with pytest.raises(DamagedFileError, match="no trailer"):
        files.hash_file(path)


def test_each_damaged_overlay_is_named(dataset):
    id_ = Dataset(dataset).records[0].episode_id
    overlays = [
        append_overlay(dataset, [{"op": "weight", "episode_id": id_, "weight": 1.5}])
        for _ in range(3)
    ]
    overlays[0].write_bytes(overlays[0].read_bytes().replace(b"1.5", b"1.4"))
    overlays[2].write_bytes(
        overlays[2].read_bytes().replace(b'"schema_version": 1', b'"schema_version": 3')
    )
    damage = verify(dataset)
    assert [entry.file for entry in damage] == [str(overlays[0]), str(overlays[2])]
    assert all("content_sha256" in entry.problem for entry in damage)
