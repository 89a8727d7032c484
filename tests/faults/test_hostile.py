"""Files made to harm: refused by name, with 10 s of CPU time and 200 MB, before anything of them is read."""

from __future__ import annotations

import dataclasses
import os
import zlib

import pytest
from fault_episodes import DESCRIPTION, children, make_episode
from hostile import (
    IN_A_FOLDER,
    IN_AN_EPISODE,
    IN_JSON,
    RECORD_NAMES,
    episode_file,
    fletcher32,
    manifest_of,
    tamper,
    virtual,
)

from shopfloor.core import ShopfloorError
from shopfloor.datasets.disk.errors import DamagedFileError, UnsafeFileError
from shopfloor.datasets.format.container import Container
from shopfloor.datasets.listing.overlays import append_overlay
from shopfloor.datasets.listing.verify import verify
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.writer import EpisodeWriter, write_manifest

# None takes a second; a loop, or a trillion elements that are looked at one by one, never ends.
LIMIT_CPU_S, LIMIT_BYTES = 10.0, 200 << 20
SLOW_TO_MAKE = ("crowded", "attribute_huge", "bomb", "bomb_in_parts")


def problems(root):
    """Open a dataset, read all of it and check it; returns what was refused, and which episodes were read."""
    told, read = [], []
    try:
        dataset = Dataset(root)
        told += [damage.problem for damage in dataset.damage]
        for position, record in enumerate(dataset.records):
            try:
                dataset.read(position)
                dataset.read_arrays(position, ("state", "actions"))
                read.append(record.index)
            except ShopfloorError as error:
                told.append(str(error))
    except ShopfloorError as error:
        told.append(str(error))
    found = verify(root)
    assert all(damage.advice for damage in found)
    told += [damage.problem for damage in found]
    return [told, read, sorted({damage.file for damage in found})]


def refuse(root):
    """Do it in a child that is ended at its limit of CPU time, and return the same."""
    (outcome,) = children.outcomes(lambda _: problems(root), [0], LIMIT_CPU_S, alone=True)
    assert outcome.how == "returned", outcome
    assert outcome.memory < LIMIT_BYTES
    return outcome.value


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            change,
            id=change.__name__,
            marks=[pytest.mark.slow] if change.__name__ in SLOW_TO_MAKE else [],
        )
        for change in IN_AN_EPISODE
    ],
)
def test_in_an_episode(dataset, tmp_path, change):
    path = episode_file(dataset)
    tamper(path, change, tmp_path)
    told, read, files = refuse(dataset)
    assert IN_AN_EPISODE[change] in told[0]
    assert read == [1, 2]
    assert files == [str(path)]


@pytest.mark.parametrize("change", IN_A_FOLDER, ids=lambda change: change.__name__)
def test_in_a_folder(dataset, change):
    change(dataset)
    told, read, _ = refuse(dataset)
    assert IN_A_FOLDER[change] in told[0]
    assert read == ([] if change.__name__.startswith(("identity", "folder_that")) else [1, 2])


@pytest.mark.parametrize("value", IN_JSON, ids=lambda value: f"{value[:20]}...{len(value)}")
@pytest.mark.parametrize(
    "where", ["dataset.json", "manifests/manifest-00000002.json", "overlays/overlay-00000001.json"]
)
def test_in_json(dataset, where, value):
    write_manifest(dataset)
    append_overlay(dataset, [{"op": "weight", "episode_id": "0" * 64, "weight": 2.0}])
    (dataset / where).write_text(
        f'{{"schema_version": 1, "format_version": 1, "x": {value}, "episodes": []}}'
    )
    told, read, _ = refuse(dataset)
    assert any(IN_JSON[value] in problem for problem in told)
    # A manifest that cannot be used is passed over; without identity or overlays nothing can be
    # read.
    assert read == ([0, 1, 2] if where.startswith("manifests") else [])


@pytest.mark.parametrize("name", RECORD_NAMES)
def test_a_manifest_cannot_name_files_elsewhere(dataset, name):
    record = {**Dataset(dataset).records[0].to_json(), "file": name}
    manifest_of(dataset / "manifests/manifest-00000001.json", [record])
    told, read, _ = refuse(dataset)
    assert "an episode's file is" in told[0]
    assert read == [0, 1, 2]


def test_a_manifest_that_vouches_for_a_hostile_file(dataset, tmp_path):
    path = episode_file(dataset)
    record = Dataset(dataset).records[0].to_json()
    tamper(path, virtual, tmp_path)
    manifest_of(
        dataset / "manifests/manifest-00000009.json", [{**record, "bytes": path.stat().st_size}]
    )
    opened = Dataset(dataset)
    for read in (opened.read, lambda index: opened.read_arrays(index, ["state"])):
        with pytest.raises(UnsafeFileError, match="virtual"):
            read(0)


def test_a_manifest_of_nested_entries_whose_digest_cannot_be_taken(dataset):
    for depth in range(850, 1000, 10):
        text = f'{{"format_version": 1, "content_sha256": "", "episodes": [{"[" * depth}{"]" * depth}]}}'
        (dataset / "manifests").mkdir(exist_ok=True)
        (dataset / f"manifests/manifest-{depth:08d}.json").write_text(text)
    told, read, _ = refuse(dataset)
    assert told
    assert read == [0, 1, 2]


@pytest.mark.parametrize("length", [5, 1 << 20])
def test_a_deflate_chunk_of_another_length_is_found_by_verify(tmp_path, length):
    """HDF5 reads a short one without an error, and hands out what lay in memory for the rest."""
    writer = EpisodeWriter(tmp_path / "d", DESCRIPTION, "gzip")
    path = writer.write(make_episode(0), 0).path

    def change(file, folder):
        raw = zlib.compress(b"\1" * length)
        file["data/demo_0/obs/front"].id.write_direct_chunk((0, 0, 0, 0), raw + fletcher32(raw))

    tamper(path, change, tmp_path)
    problem = refuse(writer.path)[0][-1]
    assert f"has a chunk at (0, 0, 0, 0) of {min(length, 6913)} bytes, expected 6912" in problem


def test_whole_files_are_refused_from_memory_as_well(dataset, tmp_path):
    path = episode_file(dataset)
    tamper(path, virtual, tmp_path)
    with pytest.raises(UnsafeFileError):
        Container.of_bytes(path, path.read_bytes())


def test_json_larger_than_its_limit(dataset, monkeypatch):
    monkeypatch.setattr("shopfloor.datasets.listing.identity.MAX_IDENTITY_BYTES", 10)
    with pytest.raises(UnsafeFileError, match="more than the limit of 10"):
        Dataset(dataset)


def test_a_plugin_of_somebody_else_is_not_loaded(dataset, tmp_path, monkeypatch):
    """HDF5 looks for unknown filters in this folder when data is read; the reader never gets that far."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    os.mkfifo(plugins / "libh5other.so")  # loading it would wait for ever
    monkeypatch.setenv("HDF5_PLUGIN_PATH", str(plugins))
    unknown = next(change for change in IN_AN_EPISODE if change.__name__ == "unknown_filter")
    tamper(episode_file(dataset), unknown, tmp_path)
    assert "needs HDF5 filter 31999" in refuse(dataset)[0][0]


def test_an_overlay_that_is_a_pipe_stops_reading_but_does_not_hang(dataset):
    (dataset / "overlays").mkdir()
    os.mkfifo(dataset / "overlays/overlay-00000001.json")
    with pytest.raises(DamagedFileError, match="not a regular file"):
        Dataset(dataset)


def test_what_the_writer_makes_of_a_covered_camera_is_not_taken_for_a_bomb(tmp_path, monkeypatch):
    """What packs too well is stored unpacked, since a reader could not tell it from a bomb."""
    monkeypatch.setattr("shopfloor.datasets.format.layout.MAX_UNPROVEN_BYTES", 1 << 20)
    monkeypatch.setattr("shopfloor.datasets.format.layout.MAX_EXPANSION", 10)
    black = make_episode(0, 100, image=300)
    black = dataclasses.replace(black, observations={"front": black.observations["front"] * 0})
    writer = EpisodeWriter(tmp_path / "d", DESCRIPTION, "gzip")
    commit = writer.write(black, 0)
    assert Dataset(writer.path).verify() == []
    assert commit.bytes > black.observations["front"].nbytes
