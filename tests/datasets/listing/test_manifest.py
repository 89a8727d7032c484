from __future__ import annotations

import json
import multiprocessing
import shutil

import h5py
import pytest

from shopfloor.core import canonical_json, sha256_hex
from shopfloor.datasets.disk import files
from shopfloor.datasets.disk.errors import FormatVersionError
from shopfloor.datasets.listing.manifest import list_dataset
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.writer import EpisodeWriter, write_manifest

pytestmark = pytest.mark.core


def forbid_reading(monkeypatch):
    """Fail the test when an episode is opened to list it."""

    def refuse(root, file):
        raise AssertionError(f"{file} was opened")

    monkeypatch.setattr("shopfloor.datasets.listing.manifest.read_records", refuse)


def test_opening_by_a_manifest_opens_no_episode(dataset, monkeypatch):
    before = Dataset(dataset).records
    assert write_manifest(dataset).name == "manifest-00000001.json"
    forbid_reading(monkeypatch)
    assert Dataset(dataset).records == before
    assert Dataset(dataset).info()["manifest"] == {"number": 1, "loose_files": 0}
    assert write_manifest(dataset).name == "manifest-00000001.json"


def test_newer_files_join_the_manifest(dataset, make_episode, description, monkeypatch):
    write_manifest(dataset)
    EpisodeWriter(dataset, description).write(make_episode(9), 9)
    opened = Dataset(dataset)
    assert [record.index for record in opened.records] == [0, 1, 2, 9]
    assert opened.info()["manifest"] == {"number": 1, "loose_files": 1}
    assert opened.verify() == []
    assert write_manifest(dataset).name == "manifest-00000002.json"
    forbid_reading(monkeypatch)
    assert len(Dataset(dataset)) == 4


def test_without_a_manifest_the_files_are_enough(dataset):
    write_manifest(dataset)
    records = Dataset(dataset).records
    shutil.rmtree(dataset / "manifests")
    assert Dataset(dataset).records == records
    assert Dataset(dataset).verify() == []


@pytest.mark.parametrize("damage", ["torn", "changed", "empty"])
def test_the_highest_whole_manifest_rules(dataset, make_episode, description, damage):
    first = write_manifest(dataset)
    EpisodeWriter(dataset, description).write(make_episode(9), 9)
    second = write_manifest(dataset)
    text = second.read_text()
    second.write_text(
        {"torn": text[:-30], "changed": text.replace('"steps": 5', '"steps": 6'), "empty": ""}[
            damage
        ]
    )
    opened = Dataset(dataset)
    assert len(opened) == 4
    assert list_dataset(dataset).manifest.path == first
    assert [found.file for found in opened.verify()] == [str(second)]
    assert write_manifest(dataset).name == "manifest-00000003.json"
    second.unlink()
    assert Dataset(dataset).verify() == []


def test_a_manifest_of_a_later_version_says_so(dataset):
    path = write_manifest(dataset)
    document = json.loads(path.read_text())
    document["format_version"] = 2
    path.write_text(json.dumps(document))
    (found,) = Dataset(dataset).verify()  # a flipped bit: the files themselves are read
    assert "does not match its head_sha256" in found.problem
    assert len(Dataset(dataset)) == 3
    del document["head_sha256"]
    path.write_text(json.dumps(document))
    with pytest.raises(FormatVersionError, match="Install a newer shopfloor"):
        Dataset(dataset)


def test_a_manifest_that_lies_is_found_by_verify(dataset):
    path = write_manifest(dataset)
    document = json.loads(path.read_text())
    document["episodes"][0]["outcome"] = "failure"
    document["content_sha256"] = sha256_hex(canonical_json(document["episodes"]))
    path.write_text(json.dumps(document))
    (found,) = Dataset(dataset).verify()
    assert "its outcome differ" in found.problem


def test_writers_of_manifests_do_not_replace_each_other(dataset):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_manifest, args=(dataset,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
        assert process.exitcode == 0
    assert Dataset(dataset).verify() == []
    assert list_dataset(dataset).loose == ()


def test_keys_of_a_later_release_are_ignored(dataset):
    path = write_manifest(dataset)
    document = json.loads(path.read_text())
    for entry in document["episodes"]:
        entry["quality"] = {"score": 1}
    document["content_sha256"] = sha256_hex(canonical_json(document["episodes"]))
    path.write_text(json.dumps(document))
    assert len(Dataset(dataset)) == 3
    assert Dataset(dataset).verify() == []


def test_info(dataset):
    info = Dataset(dataset).info()
    assert (info["episodes"], info["steps"]) == (3, 18)
    assert info["outcomes"] == {"failure": 1, "success": 2}
    assert info["reasons"] == {"dropped": 1}
    assert info["cells"] == {"shopfloor/PickToTray-v0": 3}
    assert info["bytes"] == sum(path.stat().st_size for path in (dataset / "episodes").iterdir())
    assert info["seeds"] == {"first": 0, "last": 2}
    assert info["purposes"] == {"train": 3}
    json.dumps(info, allow_nan=False)


def test_info_of_an_empty_dataset(tmp_path, description):
    EpisodeWriter(tmp_path, description)
    info = Dataset(tmp_path).info()
    assert (info["episodes"], info["steps"], info["bytes"], info["seeds"]) == (0, 0, 0, None)
    assert Dataset(tmp_path).verify() == []
    write_manifest(tmp_path)
    assert Dataset(tmp_path).verify() == []


@pytest.mark.parametrize("count", [1, 3])
def test_info_opens_no_episode(tmp_path, make_episode, description, monkeypatch, count):
    writer = EpisodeWriter(tmp_path / "d", description)
    for index in range(count):
        writer.write(make_episode(index, 2), index)
    write_manifest(writer.path)
    opened = []
    open_regular = files.open_regular
    monkeypatch.setattr(
        files,
        "open_regular",
        lambda path, *limit: opened.append(path.name) or open_regular(path, *limit),
    )
    monkeypatch.setattr(h5py.h5f, "open", lambda *_, **__: opened.append("HDF5"))
    assert Dataset(writer.path).info()["episodes"] == count
    assert opened == ["dataset.json", "manifest-00000001.json"]
