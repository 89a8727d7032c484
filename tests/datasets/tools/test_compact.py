"""Episodes in shards: the same episodes, proven before their files go, whatever stops it on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pickle
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from shopfloor.core import InfrastructureError, InvalidInputError, UnknownNameError
from shopfloor.datasets.disk.errors import DamagedFileError, NotADatasetError
from shopfloor.datasets.disk.files import TRAILER_BYTES, alone, with_trailer
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.container import Container
from shopfloor.datasets.format.decode import EpisodeFile
from shopfloor.datasets.listing.manifest import publish_manifest
from shopfloor.datasets.listing.verify import verify
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools import compact as compacting
from shopfloor.datasets.tools import shards
from shopfloor.datasets.tools.compact import compact
from shopfloor.datasets.tools.edit import delete, purge, relabel
from shopfloor.datasets.tools.merge import merge
from shopfloor.datasets.tools.repair import repair
from shopfloor.datasets.windows.windows import Windows
from shopfloor.datasets.writer import EpisodeWriter, write_manifest

STEPS = (12, 5, 1)
LAYOUTS = pytest.mark.parametrize("kind", layout.SHARD_LAYOUTS)


def files(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.h5"))


def contents(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def known(dataset):
    place = {"file", "group", "sha256", "bytes"}
    return [
        {k: v for k, v in record.to_json().items() if k not in place} for record in dataset.records
    ]


def shard_of(root):
    (path,) = (root / "shards").iterdir()
    return path


@LAYOUTS
def test_the_same_episodes(dataset, make_episode, assert_same, kind):
    before = known(Dataset(dataset))
    done = compact(dataset, layout=kind)
    assert (done.episodes, done.shards) == (3, 1)
    assert files(dataset) == ["shards/shard-00000000.h5"]
    assert done.bytes_after == shard_of(dataset).stat().st_size
    opened = Dataset(dataset)
    assert known(opened) == before
    for index, steps in enumerate(STEPS):
        assert_same(opened.read(index), make_episode(index, steps))
    assert verify(dataset) == []
    everything = contents(dataset)
    assert compact(dataset, layout=kind).to_json() == {
        "episodes": 0, "shards": 0, "bytes_before": done.bytes_after, "bytes_after": done.bytes_after,
    }  # fmt: skip
    assert contents(dataset) == everything


@LAYOUTS
def test_without_a_manifest_a_shard_tells_the_same(dataset, kind):
    compact(dataset, layout=kind)
    listed = Dataset(dataset).records
    shutil.rmtree(dataset / "manifests")
    assert Dataset(dataset).records == listed
    write_manifest(dataset)
    assert Dataset(dataset).records == listed


@LAYOUTS
def test_equal_datasets_give_equal_shards(dataset, tmp_path, kind):
    shutil.copytree(dataset, tmp_path / "other")
    compact(dataset, layout=kind)
    compact(tmp_path / "other", layout=kind)
    assert shard_of(dataset).read_bytes() == shard_of(tmp_path / "other").read_bytes()


@LAYOUTS
def test_windows_are_the_same(dataset, tmp_path, kind):
    keys, more = ("state", "front"), {"step_keys": ("label_chunks", "sim_states"), "batch_size": 7}
    one = list(Windows(Dataset(dataset), keys, 2, 4, **more))
    compact(dataset, layout=kind, out=tmp_path / "out")
    for cache in (False, True):
        other = list(
            Windows(Dataset(tmp_path / "out", max_open_files=1), keys, 2, 4, cache=cache, **more)
        )
        for a, b in zip(one, other, strict=True):
            assert a.keys() == b.keys()
            for key in a:
                assert a[key].dtype == b[key].dtype
                assert np.array_equal(a[key], b[key]), key


@LAYOUTS
def test_a_dataset_of_shards_can_be_sent_to_a_process(dataset, make_episode, assert_same, kind):
    compact(dataset, layout=kind)
    opened = Dataset(dataset)
    opened.read_arrays(1, ["state"])
    other = pickle.loads(pickle.dumps(opened))
    opened.close()
    assert_same(other.read(1), make_episode(1, 5))
    assert np.array_equal(
        opened.read_arrays(0, ["front"], (3, 9))["front"],
        make_episode(0).observations["front"][3:9],
    )


def test_new_episodes_go_into_the_next_shard(dataset, make_episode, description, assert_same):
    compact(dataset)
    first = shard_of(dataset).read_bytes()
    EpisodeWriter(dataset, description).write(make_episode(7, 4), 3)
    assert compact(dataset, layout="train").shards == 1
    assert files(dataset) == ["shards/shard-00000000.h5", "shards/shard-00000001.h5"]
    assert (dataset / "shards/shard-00000000.h5").read_bytes() == first
    assert_same(Dataset(dataset).read(3), make_episode(7, 4))
    assert verify(dataset) == []


def test_a_shard_is_full_by_bytes_and_by_episodes(dataset, tmp_path, monkeypatch):
    assert compact(dataset, out=tmp_path / "a", shard_bytes=1).shards == 3
    sizes = [record.bytes for record in Dataset(dataset).records]
    assert compact(dataset, out=tmp_path / "b", shard_bytes=sizes[0] + sizes[1]).shards == 2
    monkeypatch.setattr(layout, "SHARD_EPISODES", 2)
    assert compact(dataset, out=tmp_path / "c").shards == 2


def test_what_was_collected_otherwise_is_not_mixed(dataset, make_episode, description):
    other = {
        **description,
        "env_args": {**description["env_args"], "env_kwargs": {"robot": "other"}},
    }
    text = json.loads((dataset / "dataset.json").read_text())
    file = dataset / "elsewhere"
    EpisodeWriter(file, other).write(make_episode(9, 3), 3)
    (moved,) = (file / "episodes").iterdir()
    moved.rename(dataset / "episodes" / moved.name)
    shutil.rmtree(file)
    assert compact(dataset).shards == 2
    assert [len(Container.open(dataset / name)[0].groups()) for name in files(dataset)] == [3, 1]
    assert json.loads((dataset / "dataset.json").read_text()) == text


def test_cells_that_alternate_are_bundled_each_by_itself(tmp_path, make_episode, description):
    for number, cell in enumerate((description["cell"], "shopfloor/Kitting-v0")):
        args = {**description["env_args"], "env_name": cell}
        writer = EpisodeWriter(
            tmp_path / str(number), {**description, "cell": cell, "env_args": args}
        )
        for index in range(4):
            episode = make_episode(index, 2)
            writer.write(
                dataclasses.replace(episode, spec=dataclasses.replace(episode.spec, cell=cell)),
                index,
            )
    merge([tmp_path / "0", tmp_path / "1"], tmp_path / "both")
    before = {record.episode_id for record in Dataset(tmp_path / "both").records}
    assert compact(tmp_path / "both").shards == 2
    assert {record.episode_id for record in Dataset(tmp_path / "both").records} == before
    assert compact(tmp_path / "both", out=tmp_path / "again").shards == 2


@LAYOUTS
def test_the_name_of_a_purged_shard_is_not_used_again(dataset, make_episode, assert_same, kind):
    compact(dataset, layout=kind)
    reader = Dataset(dataset)
    delete(dataset, ids=[reader.records[0].episode_id])
    purge(dataset)
    compact(dataset, layout=kind)
    assert files(dataset) == ["shards/shard-00000001.h5"]
    assert_same(reader.read(2), make_episode(2, 1))  # listed when it lay in the first shard
    ruling = max((dataset / "manifests").iterdir())
    ruling.write_bytes(b"")
    before = max((dataset / "manifests").iterdir())
    while before.stat().st_size == 0 or b"shard-00000000" not in before.read_bytes():
        before.unlink()
        before = max((dataset / "manifests").iterdir())
    assert len(Dataset(dataset)) == 2


@LAYOUTS
def test_a_shard_holds_no_more_arrays_than_readers_take(dataset, monkeypatch, kind):
    with contextlib.closing(
        Container.open(dataset / Dataset(dataset).records[0].file)[0]
    ) as container:
        objects = len(container.arrays) + len(container._attributes) - 2  # without root and data
    monkeypatch.setattr(layout, "MAX_OBJECTS", 3 + 2 * objects)
    assert compact(dataset, layout=kind).shards == 2
    assert verify(dataset) == []
    monkeypatch.setattr(layout, "MAX_OBJECTS", 1 + (kind == "train") + 2 * objects)
    assert [damage.file for damage in verify(dataset)] == [
        str(dataset / "shards/shard-00000000.h5")
    ]


@pytest.mark.parametrize("codec", ["gzip", "blosc", "none"])
def test_sealed_shards_keep_what_was_stored(
    tmp_path, make_episode, description, assert_same, codec
):
    writer = EpisodeWriter(tmp_path / "d", description, codec)
    writer.write(make_episode(), 0)
    writer.write(make_episode(1), 1)

    def chunks(path, group):
        with h5py.File(path) as file:
            array = file[f"data/{group}/obs/front"]
            return array.chunks, [
                array.id.read_direct_chunk((row, 0, 0, 0))
                for row in range(0, len(array), array.chunks[0])
            ]

    before = [chunks(path, "demo_0") for path in sorted((tmp_path / "d/episodes").iterdir())]
    compact(tmp_path / "d")
    assert [chunks(shard_of(tmp_path / "d"), f"demo_{number}") for number in (0, 1)] == before
    with h5py.File(shard_of(tmp_path / "d")) as file:
        assert (file["data"].attrs["total"], file.attrs["layout"]) == (24, b"sealed")


@pytest.mark.parametrize("kinds", [("sealed", "train"), ("train", "sealed"), ("train", "train")])
def test_shards_of_shards(dataset, tmp_path, make_episode, assert_same, kinds):
    compact(dataset, layout=kinds[0])
    compact(dataset, layout=kinds[1], out=tmp_path / "out", shard_bytes=20_000)
    opened = Dataset(tmp_path / "out")
    for index, steps in enumerate(STEPS):
        assert_same(opened.read(index), make_episode(index, steps))
    assert verify(tmp_path / "out") == []


def test_train_shards_lie_flat(dataset):
    compact(dataset, layout="train")
    path = shard_of(dataset)
    with h5py.File(path) as file:
        array = file["data/demo_0/obs/front"]
        assert (array.chunks, array.compression) == (None, None)
        flat = np.memmap(path, array.dtype, "r", array.id.get_offset(), array.shape)
        assert np.array_equal(flat, array[:])
        lines = [json.loads(line) for line in file["index"][:].tobytes().splitlines()]
        assert lines[0]["arrays"]["obs/front"] == ["|u1", [12, 16, 12, 3], array.id.get_offset()]
        assert lines[1]["attributes"]["num_samples"] == 5


def test_what_overlays_say_holds(dataset, tmp_path):
    ids = [record.episode_id for record in Dataset(dataset).records]
    delete(dataset, ids=[ids[0]])
    relabel(dataset, ids=[ids[1]], instruction="Tidy up.")
    compact(dataset, out=tmp_path / "out")
    assert compact(dataset).episodes == 2
    for root in (dataset, tmp_path / "out"):
        assert Dataset(root).records[0].instruction == "Tidy up."
        assert [record.episode_id for record in Dataset(root).records] == ids[1:]
    assert len(files(dataset)) == 2  # the deleted one stays where it is until it is purged
    assert files(tmp_path / "out") == ["shards/shard-00000000.h5"]


def test_out_leaves_the_source_alone(dataset, tmp_path):
    before = contents(dataset)
    done = compact(dataset, layout="train", out=tmp_path / "deep" / "out")
    assert contents(dataset) == before
    assert done.bytes_before == sum(
        len(data) for name, data in before.items() if name.endswith(".h5")
    )


def test_a_reader_finds_episodes_that_were_compacted_meanwhile(dataset, make_episode, assert_same):
    opened, windows = (
        Dataset(dataset),
        Windows(Dataset(dataset, max_open_files=1), ("state",), batch_size=3),
    )
    stream = iter(windows)
    batches = [next(stream)]
    compact(dataset)
    assert_same(opened.read(1), make_episode(1, 5))
    assert np.array_equal(opened.read_arrays(2, ["actions"])["actions"], make_episode(2, 1).actions)
    batches += stream
    assert sum(len(batch["step"]) for batch in batches) == sum(STEPS)


def test_running_the_job_again_makes_nothing_twice(dataset, make_episode, description):
    compact(dataset)
    assert make_episode(1, 5).spec.episode_id in Dataset(dataset).episode_ids()
    EpisodeWriter(dataset, description).write(make_episode(1, 5), 1)  # a late duplicate
    assert len(Dataset(dataset)) == 3
    before = shard_of(dataset).read_bytes()
    assert compact(dataset).shards == 0
    assert (files(dataset), shard_of(dataset).read_bytes()) == (
        ["shards/shard-00000000.h5"],
        before,
    )


# --------------------------------------------------------------------------------------------------
# Damage
# --------------------------------------------------------------------------------------------------


def test_another_episode_of_the_same_id_is_refused(dataset, make_episode, description):
    compact(dataset)
    EpisodeWriter(dataset, description).write(make_episode(1, 5, instruction="Something else."), 1)
    before = contents(dataset)
    with pytest.raises(
        DamagedFileError,
        match=r"another episode than shards/shard-00000000\.h5.*Nothing was removed",
    ):
        compact(dataset)
    assert contents(dataset) == before


@pytest.mark.parametrize("listed", [False, True])
def test_a_damaged_episode_stops_it(dataset, listed, tmp_path):
    if listed:
        write_manifest(dataset)
    path = sorted((dataset / "episodes").iterdir())[1]
    data = bytearray(path.read_bytes())
    data[3000] ^= 1
    path.write_bytes(data)
    before = contents(dataset)
    for out in (None, tmp_path / "out"):
        with pytest.raises(DamagedFileError, match=path.name):
            compact(dataset, out=out)
    assert not (tmp_path / "out").exists()
    assert contents(dataset) == before


def test_sources_stay_if_the_shard_reads_back_otherwise(dataset, monkeypatch):
    written = compacting._publish_next

    def spoilt(root, data, calls):
        name = written(root, data, calls)
        (root / name).write_bytes(
            with_trailer(data[:-TRAILER_BYTES].replace(b"red cube", b"rad cube"))
        )
        return name

    monkeypatch.setattr(compacting, "_publish_next", spoilt)
    before = files(dataset)
    with pytest.raises(DamagedFileError, match=r"shard-00000000.*Nothing was removed"):
        compact(dataset)
    assert set(before) < set(files(dataset))


def change(path, edit):
    """Change a shard in place, by h5py, under a trailer that holds."""
    image = path.with_suffix(".image")
    image.write_bytes(path.read_bytes()[:-TRAILER_BYTES])
    with h5py.File(image, "r+") as file:
        edit(file)
    path.write_bytes(with_trailer(image.read_bytes()))
    image.unlink()


def _one_value(file):
    file["data/demo_1/actions"][2, 3] += 1


def _no_index(file):
    del file["index"]


def _index(change):
    def edit(file):
        lines = [json.loads(line) for line in file["index"][:].tobytes().splitlines()]
        change(lines[1])
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        del file["index"]
        file.create_dataset("index", data=np.frombuffer(text, np.uint8))

    return edit


def _array(position, value):
    return _index(lambda line: line["arrays"]["actions"].__setitem__(position, value))


def _steps(value):
    return _index(lambda line: line["attributes"].__setitem__("num_samples", value))


def _claims_more(line):
    line["arrays"].update({f"more/{number}": ["|u1", [20_000], 0] for number in range(9)})


# What is changed, and what readers that trust the trailer say: they see what is out of bounds.
CHANGES = {
    "a value": (_one_value, None),
    "no index": (_no_index, "has no index"),
    "an array less": (
        _index(lambda line: line["arrays"].pop("actions")),
        "has no array data/demo_1/actions",
    ),
    "another place": (_array(2, 40), None),
    "a place outside": (_array(2, 1 << 40), "index cannot be used for demo_1"),
    "a place before": (_array(2, -8), "index cannot be used for demo_1"),
    "objects": (_array(0, "O"), "index cannot be used for demo_1"),
    "a huge shape": (_array(1, [1 << 40, 7]), "index cannot be used for demo_1"),
    "no shape": (_array(1, []), "index cannot be used for demo_1"),
    "half a step": (_steps(1.5), "index cannot be used for demo_1"),
    "a step more": (_steps(6), "expected 6 rows"),
    "no arrays": (_index(lambda line: line.pop("arrays")), "index cannot be used for demo_1"),
    "a bomb": (_index(_claims_more), "claims more for demo_1"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_train_shard(dataset, name):
    edit, refused = CHANGES[name]
    compact(dataset, layout="train")
    path = shard_of(dataset)
    change(path, edit)
    # What `verify` and `repair` do: nothing is taken on trust.
    with pytest.raises(
        DamagedFileError, match=r"not the episode that was put in|index does not say|has no index"
    ):
        EpisodeFile(Container.open(path, whole=True)[0], "demo_1").proven_episode()
    if refused is None:
        EpisodeFile(Container.open(path)[0], "demo_1").episode()
        return
    with pytest.raises(DamagedFileError, match=refused):
        EpisodeFile(Container.open(path)[0], "demo_1").episode()
    if name != "no index":
        EpisodeFile(Container.open(path)[0], "demo_0").episode()  # the others are not affected


def test_checking_a_shard_takes_no_memory_for_all_of_it(tmp_path, make_episode, description):
    writer = EpisodeWriter(tmp_path / "data", description, "none")
    for index in range(24):
        writer.write(make_episode(index, 60, image=800), index)
    compact(writer.path)
    size = shard_of(writer.path).stat().st_size
    assert size > 40 << 20

    code = (
        "from shopfloor.datasets.tools.repair import repair; from shopfloor.datasets.listing.verify import verify; "
        "import resource, sys; before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        "verify(sys.argv[1]); repair(sys.argv[1], dry_run=True); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", code, str(writer.path)]
    assert int(subprocess.run(command, check=True, capture_output=True).stdout) * 1024 < size / 2


def test_a_shard_with_more_episodes_than_are_listed(dataset):
    compact(dataset)
    records = Dataset(dataset).records
    shutil.rmtree(dataset / "manifests")
    publish_manifest(dataset, records[:2])
    (damage,) = verify(dataset)
    assert "lists 2 of its 3 episodes" in damage.problem


# --------------------------------------------------------------------------------------------------
# Bad input
# --------------------------------------------------------------------------------------------------


def test_bad_input(dataset, tmp_path):
    before = contents(dataset)
    with pytest.raises(UnknownNameError, match=r"layout 'traim'.*'train'"):
        compact(dataset, layout="traim")
    with pytest.raises(InvalidInputError, match="shard_bytes is 0"):
        compact(dataset, shard_bytes=0)
    with pytest.raises(InvalidInputError, match="would lie in the source"):
        compact(dataset, out=dataset / "inside")
    (tmp_path / "there").mkdir()
    with pytest.raises(InvalidInputError, match="exists"):
        compact(dataset, out=tmp_path / "there")
    with pytest.raises(NotADatasetError):
        compact(tmp_path / "there")
    assert contents(dataset) == before


def test_a_dataset_without_episodes(tmp_path, description):
    EpisodeWriter(tmp_path / "d", description)
    assert compact(tmp_path / "d").episodes == 0
    with pytest.raises(InvalidInputError, match="no episodes to bundle"):
        compact(tmp_path / "d", out=tmp_path / "out")


def test_too_little_memory_is_said(dataset, monkeypatch):
    def none(size):
        raise MemoryError

    monkeypatch.setattr(shards, "room_for", none)
    before = contents(dataset)
    with pytest.raises(InfrastructureError, match=r"Not enough memory for a shard.*smaller shards"):
        compact(dataset)
    assert contents(dataset) == before


def test_episodes_without_steps_or_labels(tmp_path, make_episode, description, assert_same):
    writer = EpisodeWriter(tmp_path / "d", description)
    episodes = [
        make_episode(0, 0),
        make_episode(1, 3, label_chunks=None, cameras={}),
        make_episode(2, 2),
    ]
    for index, episode in enumerate(episodes):
        writer.write(episode, index)
    for kind in layout.SHARD_LAYOUTS:
        compact(tmp_path / "d", layout=kind, out=tmp_path / kind)
        opened = Dataset(tmp_path / kind)
        for index, episode in enumerate(episodes):
            assert_same(opened.read(index), episode)
        assert verify(tmp_path / kind) == []


def test_sources_go_shard_by_shard(dataset, monkeypatch, make_episode, assert_same):
    """The disk needs room for one more shard, not for a second dataset."""
    beside = []
    build = compacting._build

    def watched(*arguments):
        for built in build(*arguments):
            beside.append(len(list((dataset / "episodes").iterdir())))
            yield built

    monkeypatch.setattr(compacting, "_build", watched)
    assert compact(dataset, shard_bytes=1).shards == 3
    assert beside == [3, 2, 1]
    for index, steps in enumerate(STEPS):
        assert_same(Dataset(dataset).read(index), make_episode(index, steps))


@pytest.mark.parametrize("change", [compact, purge, repair], ids=lambda call: call.__name__)
def test_two_that_remove_files_do_not_work_at_once(dataset, change):
    before = contents(dataset)
    with (
        alone(dataset),
        pytest.raises(InvalidInputError, match="Another process compacts, purges or repairs"),
    ):
        change(dataset)
    assert contents(dataset) == before
    assert len(Dataset(dataset)) == 3  # readers need not wait
    change(dataset)


def test_the_order_is_the_same_in_any_files(tmp_path, make_episode, description):
    """Merged datasets have episodes of one index; a seed gives the same windows before and after a compaction."""
    writer = EpisodeWriter(tmp_path / "d", description)
    for seed in range(12):
        writer.write(make_episode(seed, 2), 0)
    before = [record.episode_id for record in Dataset(tmp_path / "d").records]
    compact(tmp_path / "d", shard_bytes=100_000)
    assert [record.episode_id for record in Dataset(tmp_path / "d").records] == before
    assert len(files(tmp_path / "d")) > 2


def test_when_no_number_is_left(dataset):
    (dataset / "shards").mkdir()
    (dataset / "shards/shard-999999999999.h5").write_bytes(b"")
    with pytest.raises((InvalidInputError, DamagedFileError)):
        compact(dataset)
    (dataset / "shards/shard-999999999999.h5").unlink()
    publish_manifest(
        dataset,
        [dataclasses.replace(Dataset(dataset).records[0], file="shards/shard-999999999999.h5")],
    )
    publish_manifest(dataset, [])
    with pytest.raises(InvalidInputError, match="no higher one can be made"):
        compact(dataset)
