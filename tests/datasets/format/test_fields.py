"""A field of an episode is a row of one table: nothing that stores episodes names fields one by one."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from dataclasses import make_dataclass

import numpy as np
import pytest

from shopfloor.core import Episode, InvalidInputError
from shopfloor.datasets.convert import formats
from shopfloor.datasets.format import fields
from shopfloor.datasets.format.digest import episode_digest
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.compact import compact
from shopfloor.datasets.tools.merge import merge
from shopfloor.datasets.windows.windows import Windows
from shopfloor.datasets.writer import EpisodeWriter

pytestmark = pytest.mark.core

GAZE = fields.Field("gaze", "gaze", np.dtype("f4"), (2,), optional=True)
Gazing = make_dataclass(
    "Gazing", [("gaze", object, dataclasses.field(default=None))], bases=(Episode,), frozen=True
)


@pytest.fixture
def gazing(monkeypatch, make_episode):
    """Makes episodes with one field more than `Episode` has; the even seeds hold it."""
    monkeypatch.setattr(fields, "FIELDS", (*fields.FIELDS, GAZE))
    monkeypatch.setattr(fields, "Episode", Gazing)

    def make(seed: int, steps: int = 6) -> Episode:
        plain = make_episode(seed, steps)
        values = {one.name: getattr(plain, one.name) for one in dataclasses.fields(Episode)}
        rows = np.arange(steps * 2, dtype=np.float32).reshape(steps, 2) + seed
        return Gazing(**values, gaze=None if seed % 2 else rows)

    return make


@pytest.fixture
def gazing_data(tmp_path, gazing, description):
    writer = EpisodeWriter(tmp_path / "data", description)
    for seed in range(2):
        writer.write(gazing(seed), seed)
    return writer.path


def same(one: Episode, other: Episode) -> bool:
    return episode_digest(one) == episode_digest(other)


def test_the_table_names_what_an_episode_holds():
    held = {field.name for field in fields.FIELDS if field.derive is None}
    facts = {"spec", "instruction", "outcome", "reason", "terminated", "stages", "object_names"}
    assert held | facts | {"observations", "cameras"} == {
        one.name for one in dataclasses.fields(Episode)
    }


def test_a_new_row_is_stored_read_and_hashed(gazing, gazing_data):
    dataset = Dataset(gazing_data)

    assert dataset.read(0).gaze.tobytes() == gazing(0).gaze.tobytes()
    assert dataset.read(1).gaze is None
    assert same(dataset.read(0), gazing(0))
    assert not same(gazing(0), dataclasses.replace(gazing(0), gaze=gazing(2).gaze))
    assert dataset.read_arrays(0, ["gaze"], (2, 4))["gaze"].tolist() == [[4, 5], [6, 7]]


def test_a_new_row_is_checked(tmp_path, gazing, description):
    writer = EpisodeWriter(tmp_path / "data", description)
    wrong = dataclasses.replace(gazing(0), gaze=np.zeros((6, 3), np.float32))

    with pytest.raises(InvalidInputError, match=r"gaze has shape \(6, 3\)"):
        writer.write(wrong, 0)


def test_a_new_row_stays_through_merge_and_compact(tmp_path, gazing, gazing_data, description):
    writer, merged = EpisodeWriter(tmp_path / "more", description), tmp_path / "merged"
    writer.write(gazing(2), 2)
    merge([gazing_data, writer.path], merged)
    compact(merged, layout="train")

    episodes = Dataset(merged)
    assert [same(episodes.read(k), gazing(k)) for k in range(3)] == [True] * 3


def test_windows_read_a_new_row(gazing, gazing_data):
    windows = Windows(
        Dataset(gazing_data), step_keys=["gaze"], episodes=lambda record: record.seed == 0
    )
    batch = windows.sample([3])
    assert batch["gaze"].tolist() == [[6, 7]]


@pytest.mark.parametrize(
    ("name", "out"),
    [("robomimic", "out.hdf5"), ("minari", "some/out-v0"), ("lerobot", "out")],
)
def test_a_new_row_comes_back_from_other_formats(tmp_path, gazing, gazing_data, name, out):
    options = formats.ExportOptions(pictures="png" if name == "lerobot" else None)
    formats.export(gazing_data, name, tmp_path / out, options)
    formats.import_dataset(tmp_path / out, name, tmp_path / "back")

    back = Dataset(tmp_path / "back")
    assert [same(back.read(k), gazing(k)) for k in range(2)] == [True, True]


def test_plain_arrays_hold_a_new_row(tmp_path, gazing, gazing_data):
    formats.export(gazing_data, "numpy", tmp_path / "numpy")
    formats.export(gazing_data, "webdataset", tmp_path / "tars")

    rows = np.load(tmp_path / "numpy/gaze.npy")
    assert rows[:6].tobytes() == gazing(0).gaze.tobytes()
    assert not rows[6:].any()
    index = json.loads((tmp_path / "numpy/index.json").read_text())
    assert [episode["gaze"] for episode in index["episodes"]] == [True, False]
    with tarfile.open(tmp_path / "tars/train-000000.tar") as tar:
        assert sum(name.endswith(".gaze.npy") for name in tar.getnames()) == 1


def test_a_foreign_episode_has_blank_rows():
    blanks = fields.blank_arrays(3, 7)

    assert blanks["sim_states"].shape == (4, 0)
    assert blanks["label_actions"].shape == (3, 7)
    assert blanks["decisions"].all()
    assert not blanks["label_valid"].any()
    assert "label_chunks" not in blanks
