from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os

import pytest

from shopfloor.core import DiskError, InvalidInputError
from shopfloor.datasets.disk import files
from shopfloor.datasets.disk.errors import DamagedFileError, FormatVersionError, NotADatasetError
from shopfloor.datasets.disk.files import POSIX
from shopfloor.datasets.listing.verify import verify
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.compact import compact
from shopfloor.datasets.tools.edit import delete
from shopfloor.datasets.tools.repair import repair
from shopfloor.datasets.writer import EpisodeWriter, write_manifest


def flip(path, place=0.5):
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x10
    path.write_bytes(data)


def contents(root):
    """Return name -> hash of all files."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@pytest.fixture
def records(dataset):
    write_manifest(dataset)
    return Dataset(dataset).records


def test_a_sound_dataset_stays_as_it_is(dataset, records):
    before = contents(dataset)
    done = repair(dataset)
    assert (done.set_aside, done.lost, done.episodes) == ((), (), 3)
    assert done.manifest == dataset / "manifests/manifest-00000001.json"
    assert contents(dataset) == before


def test_a_damaged_episode_is_set_aside_and_named(dataset, records, make_episode, assert_same):
    path = dataset / records[1].file
    flip(path)
    damaged = path.read_bytes()
    done = repair(dataset)
    (aside,) = done.set_aside
    assert (aside.file, aside.place) == (records[1].file, f"damaged/{records[1].file}")
    assert "SHA-256" in aside.problem
    assert (dataset / aside.place).read_bytes() == damaged
    assert (done.lost, done.episodes) == ((records[1].episode_id,), 2)
    assert verify(dataset) == []
    opened = Dataset(dataset)
    assert opened.damage == []
    assert_same(opened.read(0), make_episode(0, 12))
    assert_same(opened.read(1), make_episode(2, 1))
    again = repair(dataset)
    assert (again.set_aside, again.lost, again.manifest) == ((), (), done.manifest)


def test_a_lost_episode_can_be_collected_again_and_damaged_again(
    dataset, records, make_episode, description
):
    for _ in range(3):
        flip(dataset / records[1].file)
        (lost,) = repair(dataset).lost
        assert records[1].episode_id.startswith(lost)
        assert records[1].episode_id not in Dataset(dataset).episode_ids()
        assert EpisodeWriter(dataset, description).write(make_episode(1, 5), 1).new
    assert len(Dataset(dataset)) == 3
    assert verify(dataset) == []
    assert len(list((dataset / "damaged/episodes").iterdir())) == 3


def test_a_dry_run_says_the_same_and_changes_nothing(dataset, records):
    flip(dataset / records[0].file)
    (dataset / records[2].file).unlink()
    before = contents(dataset)
    plan = repair(dataset, dry_run=True)
    assert contents(dataset) == before
    assert not (dataset / "damaged").exists()
    done = repair(dataset)
    assert dataclasses.replace(plan, manifest=done.manifest) == done
    assert plan.manifest is None
    assert set(done.lost) == {records[0].episode_id, records[2].episode_id}
    assert verify(dataset) == []


def test_without_a_manifest_a_damaged_files_name_tells_what_is_lost(dataset):
    record = Dataset(dataset).records[0]
    flip(dataset / record.file)
    assert repair(dataset).lost == (record.episode_id[:16],)
    assert verify(dataset) == []


def test_strangers_among_the_episodes_are_set_aside(dataset, tmp_path):
    (dataset / "episodes/notes.h5").write_bytes(b"hello")
    (dataset / "episodes/ep-00000009-0123456789abcdef.h5").symlink_to(tmp_path / "nowhere")
    (dataset / "episodes/ep-00000010-0123456789abcdef.h5").mkdir()
    done = repair(dataset)
    assert len(done.set_aside) == 3
    assert done.episodes == 3
    assert (dataset / "damaged/episodes/notes.h5").read_bytes() == b"hello"
    assert (dataset / "damaged/episodes/ep-00000009-0123456789abcdef.h5").is_symlink()
    assert verify(dataset) == []


def test_damaged_manifests_are_set_aside(dataset, records):
    path = dataset / "manifests/manifest-00000001.json"
    path.write_text(path.read_text()[:-20])
    done = repair(dataset)
    assert [aside.file for aside in done.set_aside] == ["manifests/manifest-00000001.json"]
    assert done.lost == ()
    assert (dataset / "damaged/manifests/manifest-00000001.json").exists()
    assert Dataset(dataset).records == records
    assert verify(dataset) == []


def test_a_manifest_that_lies_is_replaced(dataset, records, make_episode, description, tmp_path):
    """The episode proves itself; what a manifest says of it does not."""
    other = EpisodeWriter(tmp_path / "other", description, codec="gzip").write(
        make_episode(1, 5), 1
    )
    (dataset / records[1].file).write_bytes(other.path.read_bytes())
    assert len(verify(dataset)) == 1
    done = repair(dataset)
    assert (done.set_aside, done.lost, done.episodes) == ((), (), 3)
    assert Dataset(dataset).records[1].sha256 == other.sha256
    assert verify(dataset) == []


def test_episodes_left_out_are_not_lost(dataset, records):
    delete(dataset, ids=[records[0].episode_id])
    (dataset / records[0].file).unlink()
    assert repair(dataset).lost == ()


def test_temporaries_of_the_dead_are_swept_and_those_of_the_living_stay(dataset, records):
    machine = files.temporary_name(dataset / "x").name.split(".")[2].split("-")[0]
    dead = dataset / f"episodes/.ep-1.h5.{machine}-{2**30}-0123456789ab.tmp"
    alive = dataset / f"episodes/.ep-1.h5.{machine}-{os.getpid()}-0123456789ab.tmp"
    dead.write_bytes(b"x")
    alive.write_bytes(b"x")
    repair(dataset, dry_run=True)
    assert dead.exists()
    repair(dataset)
    assert not dead.exists()
    assert alive.exists()


def test_without_dataset_json_it_says_what_to_do(dataset, records):
    (dataset / "dataset.json").unlink()
    before = contents(dataset)
    with pytest.raises(
        DamagedFileError,
        match=r"missing, beside 3 files.*Restore it from a copy.*Nothing was changed",
    ):
        repair(dataset)
    assert contents(dataset) == before


def test_a_damaged_dataset_json_stops_it(dataset, records):
    flip(dataset / records[0].file)
    path = dataset / "dataset.json"
    path.write_text(path.read_text().replace('"rad"', '"deg"', 1))
    before = contents(dataset)
    with pytest.raises(DamagedFileError, match=r"content_sha256.*cannot be made from them"):
        repair(dataset)
    assert contents(dataset) == before


def test_a_damaged_overlay_stops_it(dataset, records):
    """Without it, what was left out would come back."""
    overlay = delete(dataset, ids=[records[0].episode_id]).overlay
    flip(dataset / records[1].file)
    flip(overlay, 0.9)
    before = contents(dataset)
    with pytest.raises(DamagedFileError, match="overlay"):
        repair(dataset)
    assert contents(dataset) == before


def test_a_newer_format_stops_it(dataset, records):
    flip(dataset / records[0].file)
    path = dataset / "manifests/manifest-00000001.json"
    document = json.loads(path.read_text()) | {"format_version": 2}
    del document["head_sha256"]  # with it, this is a flipped bit
    path.write_text(json.dumps(document))
    before = contents(dataset)
    with pytest.raises(FormatVersionError):
        repair(dataset)
    assert contents(dataset) == before


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.ENOMEM])
def test_what_cannot_be_read_now_is_not_damaged(dataset, records, monkeypatch, number):
    flip(dataset / records[0].file)
    real, refused = os.open, str(dataset / records[1].file)

    def refuse(path, *arguments, **keywords):
        if str(path) == refused:
            raise OSError(number, os.strerror(number))
        return real(path, *arguments, **keywords)

    before = contents(dataset)
    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(DiskError, match="may well be whole"):
        repair(dataset)
    monkeypatch.undo()
    assert contents(dataset) == before


def test_not_a_dataset(tmp_path):
    with pytest.raises(NotADatasetError):
        repair(tmp_path)
    with pytest.raises(NotADatasetError):
        repair(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder(dataset, records, monkeypatch):
    flip(dataset / records[0].file)
    monkeypatch.setattr("os.access", lambda *arguments: False)
    before = contents(dataset)
    with pytest.raises(InvalidInputError, match="nothing was changed"):
        repair(dataset)
    assert contents(dataset) == before
    assert repair(dataset, dry_run=True).lost == (records[0].episode_id,)


def test_a_damaged_shard_loses_what_no_other_file_holds(
    dataset, records, make_episode, description
):
    compact(dataset)
    EpisodeWriter(dataset, description).write(make_episode(1, 5), 1)
    (shard,) = (dataset / "shards").iterdir()
    assert repair(dataset, dry_run=True).set_aside == ()
    flip(shard)
    done = repair(dataset)
    assert [aside.place for aside in done.set_aside] == [f"damaged/shards/{shard.name}"]
    assert set(done.lost) == {records[0].episode_id, records[2].episode_id}
    assert done.episodes == 1
    assert verify(dataset) == []
    assert [record.episode_id for record in Dataset(dataset).records] == [records[1].episode_id]


CALLS = [field.name for field in dataclasses.fields(POSIX)]


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("what", ["killed", "refused"])
def test_stopped_at_any_call_it_is_finished_by_the_next(
    dataset, records, what, make_episode, assert_same
):
    """Every episode that is whole stays readable all the time."""
    flip(dataset / records[1].file)
    (dataset / "manifests/manifest-00000009.json").write_text("{")
    start = {
        path.relative_to(dataset): path.read_bytes()
        for path in dataset.rglob("*")
        if path.is_file()
    }
    for stop in range(200):
        for path in [path for path in dataset.rglob("*") if path.is_file()]:
            path.unlink()
        for name, data in start.items():
            (dataset / name).write_bytes(data)
        left = stop

        def call(real):
            def stopping(*arguments):
                nonlocal left
                left -= 1
                if left == -1:
                    raise Killed if what == "killed" else OSError(errno.EIO, "broken")
                return real(*arguments)

            return stopping

        calls = dataclasses.replace(POSIX, **{name: call(getattr(POSIX, name)) for name in CALLS})
        try:
            repair(dataset, calls=calls)
        except (Killed, DiskError):
            pass
        else:
            break
        opened = Dataset(dataset)
        assert [
            record.episode_id
            for record in opened.records
            if record.episode_id != records[1].episode_id
        ] == [
            records[0].episode_id,
            records[2].episode_id,
        ]
        done = repair(dataset)
        assert done.episodes == 2
        assert verify(dataset) == []
        assert_same(Dataset(dataset).read(1), make_episode(2, 1))
        assert (dataset / "damaged" / records[1].file).exists()
    assert stop > 10
