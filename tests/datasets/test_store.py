from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from shopfloor.core import InvalidInputError, UnknownNameError, canonical_json, sha256_hex
from shopfloor.datasets.disk import files
from shopfloor.datasets.disk.errors import DamagedFileError, NotADatasetError
from shopfloor.datasets.format.encode import encode_episode
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.writer import EpisodeWriter, Provenance, write_manifest

pytestmark = pytest.mark.core


@pytest.mark.parametrize("codec", ["blosc", "gzip", "none"])
@pytest.mark.parametrize("steps", [0, 1, 2, 63])
def test_what_is_written_is_read(tmp_path, make_episode, assert_same, description, codec, steps):
    episode = make_episode(4, steps)
    commit = EpisodeWriter(tmp_path / "d", description, codec).write(episode, 17)
    data = commit.path.read_bytes()
    assert (commit.sha256, commit.bytes, commit.new) == (sha256_hex(data), len(data), True)
    dataset = Dataset(tmp_path / "d")
    assert_same(dataset.read(0), episode)
    record = dataset.records[0]
    assert record.file == f"episodes/ep-00000017-{episode.spec.episode_id[:16]}.h5"
    assert (record.index, record.steps, record.seed, record.sha256) == (17, steps, 4, commit.sha256)
    assert (record.expert_steps, record.label_steps) == (
        episode.actor.sum(),
        episode.label_valid.sum(),
    )
    assert dataset.episode_ids() == {episode.spec.episode_id}
    assert dataset.verify() == []


def test_without_optional_parts(tmp_path, make_episode, assert_same, description):
    episode = make_episode(
        1, 5, label_chunks=None, cameras={}, observations={}, object_names=(), stages=()
    )
    EpisodeWriter(tmp_path, description).write(episode, 0)
    assert_same(Dataset(tmp_path).read(0), episode)


def test_unusual_numbers_keep_their_bits(tmp_path, make_episode, assert_same, description):
    actions = np.array([[np.nan, -0.0, np.inf, -np.inf, 1e-45, 3.4e38, 0.0]] * 12, "f4")
    actions.view("u4")[0, 0] = 0x7FC12345  # a NaN with a payload
    episode = make_episode(1, 12, actions=actions)
    EpisodeWriter(tmp_path, description).write(episode, 0)
    assert_same(Dataset(tmp_path).read(0), episode)


def test_layout_is_robomimics(dataset, make_episode):
    episode = make_episode(0, 12)
    path = next((dataset / "episodes").glob("ep-00000000-*.h5"))
    with h5py.File(path) as file:
        data = file["data"]
        demo = data["demo_0"]
        assert (data.attrs["total"], demo.attrs["num_samples"]) == (12, 12)
        assert json.loads(data.attrs["env_args"]) == {
            "env_name": episode.spec.cell,
            "type": 2,
            "env_kwargs": {"robot": "panda"},
        }
        assert (demo["actions"][:] == episode.actions).all()
        assert (demo["states"][:] == episode.sim_states[:12]).all()
        assert (demo["final/states"][0] == episode.sim_states[12]).all()
        assert (demo["obs/front"][:] == episode.observations["front"][:12]).all()
        assert (demo["final/obs/front"][0] == episode.observations["front"][12]).all()
        assert demo["dones"][:].tolist() == [0] * 11 + [1]
        assert demo["dones"].dtype == "i8"
        assert demo["rewards"].dtype == "f4"
        assert demo["labels/valid"].dtype == "u1"
        assert demo.attrs["site"] == b"unspecified"
        assert json.loads(demo.attrs["spec"]) == episode.spec.to_json()
        everything = []
        demo.visititems(lambda _, item: everything.append(item))
        assert all(item.fletcher32 for item in everything if isinstance(item, h5py.Dataset))


def test_identity_is_published_first_and_kept(tmp_path, make_episode, description):
    provenance = Provenance(site="plant 7", licence="CC-BY-4.0")
    writer = EpisodeWriter(tmp_path / "d", description, provenance=provenance)
    raw = json.loads((tmp_path / "d/dataset.json").read_text())
    assert not list((tmp_path / "d").rglob("*.h5"))
    assert (raw["format_version"], raw["cells"], raw["cameras"]) == (
        1,
        [description["cell"]],
        ["front"],
    )
    assert (raw["site"], raw["licence"], raw["owner"]) == ("plant 7", "CC-BY-4.0", "unspecified")
    assert raw["features"]["state"]["units"] == ["rad"] * 9
    writer.write(make_episode(), 0)
    with h5py.File(writer.path_for(make_episode().spec, 0)) as file:
        assert file["data/demo_0"].attrs["site"] == b"plant 7"
    EpisodeWriter(tmp_path / "d", description, provenance=provenance)
    assert EpisodeWriter(tmp_path / "d", description).identity.provenance == provenance
    with pytest.raises(
        InvalidInputError, match="whose site is 'plant 7'; this run would write 'plant 8'"
    ):
        EpisodeWriter(tmp_path / "d", description, provenance=Provenance("plant 8"))
    with pytest.raises(InvalidInputError, match="whose features differ"):
        EpisodeWriter(tmp_path / "d", {**description, "features": {}})
    with pytest.raises(InvalidInputError, match="whose control_hz is 20"):
        EpisodeWriter(tmp_path / "d", {**description, "control_hz": 10}, provenance=provenance)
    assert Dataset(tmp_path / "d").description == description


@pytest.mark.parametrize("name", ["notes.txt", "episodes/ep-00000000-0123456789abcdef.h5"])
def test_a_folder_that_holds_something_else_is_refused(tmp_path, description, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(NotADatasetError, match="not empty"):
        EpisodeWriter(tmp_path, description)
    assert (tmp_path / name).read_text() == "mine"
    with pytest.raises(NotADatasetError, match="is a file"):
        EpisodeWriter(tmp_path / name, description)


def test_run_files_and_leftovers_do_not_make_a_folder_foreign(tmp_path, description):
    (tmp_path / "receipts.jsonl").write_text("")
    (tmp_path / ".dataset.json.x-1-0.tmp").write_text("{")
    EpisodeWriter(tmp_path, description)


def test_wrong_arguments(tmp_path, make_episode, description):
    with pytest.raises(UnknownNameError, match="Did you mean 'gzip'"):
        EpisodeWriter(tmp_path, description, "gzp")
    with pytest.raises(InvalidInputError, match='"cell"'):
        EpisodeWriter(tmp_path, {})
    with pytest.raises(InvalidInputError, match="plain JSON"):
        EpisodeWriter(tmp_path, {**description, "x": object()})
    writer = EpisodeWriter(tmp_path, {**description, "cell": "other/Cell-v0"})
    with pytest.raises(InvalidInputError, match="holds episodes of other/Cell-v0"):
        writer.write(make_episode(), 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": np.zeros((12, 7), "f8")}, "actions has shape .* float64"),
        ({"rewards": np.zeros(11, "f4")}, "rewards has shape"),
        ({"sim_states": np.zeros((12, 30))}, "sim_states has shape"),
        ({"label_valid": np.zeros(12, "u1")}, "label_valid .* expected 12 of bool"),
        ({"label_chunks": np.zeros((12, 4, 6), "f4")}, "label_chunks"),
        ({"observations": {"a/b": np.zeros((13, 1), "f4")}}, "'a/b' cannot be stored"),
        ({"observations": {"actions": np.zeros((13, 1), "f4")}}, "cannot be stored"),
        ({"observations": {"state": np.zeros((12, 1), "f4")}}, "expected 13 rows"),
        ({"observations": {"state": np.zeros((13, 1), object)}}, "integers or floats"),
        ({"outcome": "infrastructure"}, "only 'success' and 'failure'"),
        ({"instruction": "a\0b"}, "without NUL"),
        ({"instruction": "a" * 70_000}, "at most 60000 bytes"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(
    tmp_path, make_episode, description, changes, message
):
    writer = EpisodeWriter(tmp_path, description)
    with pytest.raises(InvalidInputError, match=message):
        writer.write(make_episode(0, 12, **changes), 0)
    assert len(Dataset(tmp_path)) == 0


def test_writing_a_spec_again_is_harmless(tmp_path, make_episode, description):
    writer = EpisodeWriter(tmp_path, description)
    first = writer.write(make_episode(1), 0)
    state = first.path.stat()
    again = EpisodeWriter(tmp_path, description).write(make_episode(1), 0)
    assert (again.path, again.sha256, again.bytes, again.new) == (
        first.path,
        first.sha256,
        first.bytes,
        False,
    )
    after = first.path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (
        state.st_ino,
        state.st_size,
        state.st_mtime_ns,
    )
    assert len(list((tmp_path / "episodes").iterdir())) == 1


def test_the_same_episode_under_two_numbers_counts_once(tmp_path, make_episode, description):
    writer = EpisodeWriter(tmp_path, description)
    writer.write(make_episode(1), 0)
    writer.write(make_episode(1), 5)
    write_manifest(tmp_path)
    dataset = Dataset(tmp_path)
    assert [record.index for record in dataset.records] == [0]
    assert dataset.info()["manifest"] == {"number": 1, "loose_files": 0}


def test_a_damaged_file_in_the_way_is_named(tmp_path, make_episode, description):
    writer = EpisodeWriter(tmp_path, description)
    path = writer.write(make_episode(1), 0).path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match=path.name):
        writer.write(make_episode(1), 0)


def test_bytes_depend_on_the_episode_alone(make_episode):
    here = sha256_hex(encode_episode(make_episode(3)))
    time.sleep(1.1)  # HDF5 keeps whole seconds where it keeps times
    assert sha256_hex(encode_episode(make_episode(3))) == here
    script = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('made', {str(Path(__file__).parent / 'conftest.py')!r})\n"
        "made = importlib.util.module_from_spec(spec); spec.loader.exec_module(made)\n"
        "from shopfloor.core import sha256_hex\n"
        "from shopfloor.datasets.format.encode import encode_episode\n"
        "noise = [bytes(range(256)) * 1000 for _ in range(50)]\n"
        "print(sha256_hex(encode_episode(made._episode(3))))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TZ": "Asia/Tokyo"},
    )
    assert out.stdout.strip() == here


def test_processes_writing_the_same_specs_give_one_file_each(tmp_path, make_episode, description):
    context = multiprocessing.get_context("fork")
    start = context.Event()

    def work(queue):
        start.wait()
        writer = EpisodeWriter(tmp_path / "d", description)
        queue.put([writer.write(make_episode(seed, 4), seed) for seed in range(8)])

    queue = context.Queue()
    processes = [context.Process(target=work, args=(queue,)) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    commits = [queue.get(timeout=600) for _ in processes]
    for process in processes:
        process.join(600)
    for seed in range(8):
        assert len({commit[seed].sha256 for commit in commits}) == 1
        assert sum(commit[seed].new for commit in commits) == 1
    assert len(list((tmp_path / "d/episodes").iterdir())) == 8
    assert Dataset(tmp_path / "d").verify() == []


def test_leftovers_of_killed_writers_are_swept(tmp_path, make_episode, description):
    writer = EpisodeWriter(tmp_path, description)
    gone = tmp_path / f"episodes/.ep-1.h5.{files._machine()}-999999999-0123456789ab.tmp"
    alive = tmp_path / f"episodes/.ep-1.h5.{files._machine()}-{os.getpid()}-0123456789ab.tmp"
    elsewhere = tmp_path / "episodes/.ep-1.h5.0000beef-1-0123456789ab.tmp"
    old = tmp_path / "episodes/.ep-2.h5.0000beef-1-0123456789ab.tmp"
    for path in (gone, alive, elsewhere, old):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert Dataset(tmp_path).verify() == []
    EpisodeWriter(tmp_path, description)
    assert sorted(path.name for path in (tmp_path / "episodes").iterdir()) == sorted(
        [alive.name, elsewhere.name]
    )
    assert writer.write(make_episode(), 0).new


def test_canonical_json_of_records_survives_a_manifest(dataset):
    before = Dataset(dataset).records
    write_manifest(dataset)
    assert canonical_json(
        [record.to_json() for record in Dataset(dataset).records]
    ) == canonical_json([record.to_json() for record in before])
