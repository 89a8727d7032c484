from __future__ import annotations

import dataclasses
import errno
import shutil

import h5py
import numpy as np
import pytest

from shopfloor.core import DiskError, InvalidInputError
from shopfloor.datasets.disk.errors import DamagedFileError, NotADatasetError
from shopfloor.datasets.disk.files import POSIX, TRAILER_BYTES, with_trailer
from shopfloor.datasets.listing.overlays import append_overlay
from shopfloor.datasets.listing.verify import verify
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.compact import compact
from shopfloor.datasets.tools.edit import delete, purge
from shopfloor.datasets.tools.repair import repair
from shopfloor.datasets.tools.transfer import unpack
from shopfloor.datasets.writer import EpisodeWriter, write_manifest


@pytest.fixture
def ids(dataset):
    return [record.episode_id for record in Dataset(dataset).records]


def size(root):
    return sum(
        path.stat().st_size
        for name in ("episodes", "shards", "damaged")
        for path in (root / name).rglob("*.h5*")
    )


@pytest.mark.parametrize("manifest", [True, False])
def test_tombstoned_episodes_are_removed(dataset, ids, manifest, make_episode, assert_same):
    if manifest:
        write_manifest(dataset)
    before = size(dataset)
    delete(dataset, ids=[ids[1]])
    done = purge(dataset)
    assert (done.episodes, done.bytes) == (1, before - size(dataset))
    assert done.bytes > 0
    assert not list(dataset.glob(f"episodes/*{ids[1][:16]}*"))
    opened = Dataset(dataset)
    assert (len(opened), opened.damage, verify(dataset)) == (2, [], [])
    assert opened.episode_ids() == set(ids)
    assert opened.info()["tombstones"] == 0
    assert_same(opened.read(0), make_episode(0, 12))
    assert_same(opened.read(1), make_episode(2, 1))
    assert purge(dataset).to_json() == {"episodes": 0, "bytes": 0}


def test_episodes_leave_a_shard_without_all_of_it_being_kept_open(dataset):
    compact(dataset)
    records = Dataset(dataset).records
    before = h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_ALL)
    for _ in unpack(dataset, records[0].file, records):
        assert (
            h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_ALL) < before + 30
        )  # an episode has 20 arrays


def _no_environment(data):
    del data.attrs["env_args"]


def _strange_environment(data):
    data.attrs["env_args"] = np.bytes_("{")


def _strange_index(data):
    data["demo_1"].attrs["index"] = -5


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (_no_environment, "its attribute 'env_args' is missing"),
        (_strange_environment, "its env_args are not valid JSON"),
        (_strange_index, "data/demo_1 has the index -5"),
    ],
)
def test_a_strangers_shard_that_cannot_be_taken_apart(dataset, ids, edit, problem):
    compact(dataset)
    (path,) = (dataset / "shards").iterdir()
    image = path.with_suffix(".image")
    image.write_bytes(path.read_bytes()[:-TRAILER_BYTES])
    with h5py.File(image, "r+") as file:
        edit(file["data"])
    path.write_bytes(with_trailer(image.read_bytes()))
    image.unlink()
    shutil.rmtree(dataset / "manifests")
    append_overlay(dataset, [{"op": "tombstone", "episode_id": ids[0]}])
    if edit is _strange_index:
        assert [damage.problem for damage in Dataset(dataset).damage] == [
            f"{problem}, expected 0 or more"
        ]
        return
    with pytest.raises(DamagedFileError, match=problem):
        purge(dataset)
    assert not list(dataset.glob("episodes/*"))


def test_nothing_tombstoned_changes_nothing(dataset, ids):
    append_overlay(
        dataset,
        [{"op": "tombstone", "episode_id": ids[0]}, {"op": "restore", "episode_id": ids[0]}],
    )
    before = sorted(path for path in dataset.rglob("*"))
    assert purge(dataset).episodes == 0
    assert sorted(path for path in dataset.rglob("*")) == before


def test_a_purged_episode_is_unknown_to_no_one(dataset, ids):
    """Deleting it again is no error."""
    delete(dataset, ids=[ids[1]])
    purge(dataset)
    assert delete(dataset, ids=[ids[1]]).changed == 0


def test_a_tombstoned_episode_that_is_damaged_goes_too(dataset, ids):
    path = dataset / Dataset(dataset).records[1].file
    path.write_bytes(path.read_bytes()[:-50])
    append_overlay(dataset, [{"op": "tombstone", "episode_id": ids[1]}])
    assert purge(dataset).episodes == 1
    assert not path.exists()
    assert verify(dataset) == []


def test_what_repair_set_aside_goes_too(dataset, ids):
    path = dataset / Dataset(dataset).records[1].file
    whole = path.read_bytes()
    for _ in range(2):
        path.write_bytes(whole[:-50])
        repair(dataset)
    path.write_bytes(whole)
    assert len(list((dataset / "damaged/episodes").iterdir())) == 2
    delete(dataset, ids=[ids[1]])
    assert purge(dataset).episodes == 1
    assert list((dataset / "damaged/episodes").iterdir()) == []
    assert len(Dataset(dataset)) == 2


def test_damaged_episodes_of_others_stay_listed(dataset, ids):
    write_manifest(dataset)
    path = dataset / Dataset(dataset).records[0].file
    path.write_bytes(path.read_bytes()[:-50])
    delete(dataset, ids=[ids[1]])
    purge(dataset)
    assert path.exists()
    assert [damage.file for damage in Dataset(dataset).damage] == [str(path)]
    assert repair(dataset).lost == (ids[0],)


def test_a_purged_file_that_a_manifest_still_names_is_no_damage(dataset, ids):
    """A writer that listed the files just before they went may publish after the purge."""
    write_manifest(dataset)
    old = (dataset / "manifests/manifest-00000001.json").read_bytes()
    delete(dataset, ids=[ids[1]])
    purge(dataset)
    (dataset / "manifests/manifest-00000009.json").write_bytes(old)
    assert (Dataset(dataset).damage, verify(dataset)) == ([], [])
    append_overlay(dataset, [{"op": "restore", "episode_id": ids[1]}])
    assert len(Dataset(dataset).damage) == len(verify(dataset)) == 1


def test_a_file_that_is_gone_is_no_damage_where_another_holds_its_episode(dataset, ids):
    write_manifest(dataset)
    path = dataset / Dataset(dataset).records[1].file
    path.rename(path.with_name(path.name.replace("00000001", "00000008")))
    assert (Dataset(dataset).damage, verify(dataset)) == ([], [])
    assert [record.index for record in Dataset(dataset).records] == [0, 2, 8]
    write_manifest(dataset)
    assert (Dataset(dataset).damage, verify(dataset)) == ([], [])


@pytest.mark.parametrize("layout", ["sealed", "train"])
def test_shards(dataset, ids, layout, make_episode, assert_same):
    compact(dataset, layout=layout)
    delete(dataset, ids=[ids[1]])
    assert purge(dataset).episodes == 1
    opened = Dataset(dataset)
    assert (len(opened), opened.damage, verify(dataset)) == (2, [], [])
    assert_same(opened.read(0), make_episode(0, 12))
    assert_same(opened.read(1), make_episode(2, 1))
    text = make_episode(1, 5).instruction.encode()
    assert not [path for path in dataset.rglob("*.h5") if text in path.read_bytes()]
    assert purge(dataset).episodes == 0


def test_a_shard_of_which_nothing_stays(dataset, ids):
    compact(dataset)
    delete(dataset, "True")
    assert purge(dataset).episodes == 3
    assert list(dataset.rglob("*.h5")) == []
    assert (len(Dataset(dataset)), verify(dataset)) == (0, [])


def test_a_damaged_shard_is_left_alone(dataset, ids):
    compact(dataset)
    delete(dataset, ids=[ids[1]])
    (path,) = (dataset / "shards").iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match=str(path)):
        purge(dataset)
    assert path.read_bytes() == data


def test_places_that_cannot_be(dataset, ids, tmp_path, monkeypatch):
    with pytest.raises(NotADatasetError):
        purge(tmp_path)
    delete(dataset, ids=[ids[0]])
    monkeypatch.setattr("os.access", lambda *arguments: False)
    with pytest.raises(InvalidInputError, match="nothing was changed"):
        purge(dataset)
    assert Dataset(dataset).episode_ids() == set(ids)
    assert len(list((dataset / "episodes").iterdir())) == 3


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize(
    ("what", "bundled"),
    [
        ("killed", False),
        ("refused", False),
        ("refused", True),
        pytest.param("killed", True, marks=pytest.mark.slow),
    ],
)
def test_stopped_at_any_call_it_is_finished_by_the_next(
    tmp_path, request, description, make_episode, bundled, what
):
    for stop in range(200):
        root = EpisodeWriter(tmp_path / str(stop), description).path
        for index in range(3):
            EpisodeWriter(root, description).write(make_episode(index, 1), index)
        write_manifest(root)
        ids = [record.episode_id for record in Dataset(root).records]
        if bundled:
            compact(root)
        delete(root, ids=[ids[1]])
        left = stop

        def call(real):
            def stopping(*arguments):
                nonlocal left
                left -= 1
                if left == -1:
                    raise Killed if what == "killed" else OSError(errno.EIO, "broken")
                return real(*arguments)

            return stopping

        names = [field.name for field in dataclasses.fields(POSIX)]
        calls = dataclasses.replace(POSIX, **{name: call(getattr(POSIX, name)) for name in names})
        try:
            purge(root, calls)
        except (Killed, DiskError):
            pass
        else:
            break
        assert [record.episode_id for record in Dataset(root).records] == [ids[0], ids[2]]
        assert verify(root) == []
        purge(root)
        assert [record.episode_id for record in Dataset(root).records] == [ids[0], ids[2]]
        assert verify(root) == []
        assert Dataset(root).info()["tombstones"] == 0
        assert not list(root.rglob(f"*{ids[1][:16]}*"))
        assert not list((root / "shards").glob("*"))
    assert stop > 8
