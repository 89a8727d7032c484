"""robomimic's one file: our exports in it, what the real robomimic makes of them, and anybody's files read in."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from other_pythons import run_with

sys.path.insert(0, str(Path(__file__).parents[2] / "faults"))

import hostile

from shopfloor.core import DiskError, InvalidInputError, UnknownNameError
from shopfloor.datasets.convert.options import ExportOptions, ImportOptions
from shopfloor.datasets.convert.robomimic import convert as robomimic
from shopfloor.datasets.disk.errors import DamagedFileError, NotADatasetError, UnsafeFileError
from shopfloor.datasets.format.digest import episode_digest
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.compact import compact
from shopfloor.datasets.writer import EpisodeWriter

KEPT = Path(__file__).parents[2] / "data" / "robomimic"
STEPS = (12, 5, 1)


@pytest.fixture
def exported(dataset, tmp_path):
    """Return a function that exports the three episodes and gives the file."""

    def run(path=dataset, name="out.hdf5", **options):
        robomimic.export(Dataset(path), tmp_path / name, ExportOptions(**options))
        return tmp_path / name

    return run


def load(path, name="back", **options):
    result = robomimic.import_(path, path.parent / name, ImportOptions(**options))
    return Dataset(path.parent / name), result


def digests(data):
    return sorted(episode_digest(data.read(index)) for index in range(len(data)))


# --------------------------------------------------------------------------------------------------
# Export
# --------------------------------------------------------------------------------------------------


def test_what_robomimic_reads(dataset, exported):
    path = exported()
    with h5py.File(path) as file:
        data = file["data"]
        about = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in data.attrs.items()
        }
        assert (about["total"], about["action_convention"], about["actions"]) == (
            18,
            "ee_delta_base_v1",
            "executed",
        )
        assert json.loads(about["env_args"])["env_name"] == "shopfloor/PickToTray-v0"
        assert sorted(data) == ["demo_0", "demo_1", "demo_2"]
        assert "mask" not in file
        for number, T in enumerate(STEPS):
            demo, episode = data[f"demo_{number}"], Dataset(dataset).read(number)
            assert demo.attrs["num_samples"] == T
            assert np.array_equal(demo["actions"][:], episode.actions)
            assert np.array_equal(demo["rewards"][:], episode.rewards)
            assert demo["dones"][:].tolist() == [0] * (T - 1) + [1]
            assert np.array_equal(demo["states"][:], episode.sim_states[:T])
            assert sorted(demo["obs"]) == ["front", "objects", "state"]
            for key, rows in episode.observations.items():
                assert np.array_equal(demo[f"obs/{key}"][:], rows[:T])
            filters = [demo[f"obs/{key}"].compression for key in demo["obs"]]
            assert filters == ["gzip"] * 3


def test_opens_without_plugins(exported):
    """Another process, which never imports hdf5plugin, reads every array."""
    script = """
import sys, h5py
seen = []
h5py.File(sys.argv[1]).visititems(lambda name, item: seen.append(item[()].size) if hasattr(item, "shape") else None)
assert "hdf5plugin" not in sys.modules and len(seen) > 30, seen
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HDF5")}
    run = [sys.executable, "-c", script, str(exported())]
    subprocess.run(run, check=True, env=environment)


def test_what_is_told_of_an_export(dataset, tmp_path):
    result = robomimic.export(Dataset(dataset), tmp_path / "a/b.hdf5", ExportOptions())
    assert (result.episodes, result.steps, result.files) == (3, 18, 1)
    assert result.bytes == (tmp_path / "a/b.hdf5").stat().st_size
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.hdf5"]


def test_equal_datasets_give_equal_bytes(exported):
    assert exported().read_bytes() == exported(name="again.hdf5").read_bytes()


def test_masks_of_the_validation_share(exported):
    path = exported(valid=0.34)
    with h5py.File(path) as file:
        masks = {name: [text.decode() for text in file[f"mask/{name}"][:]] for name in file["mask"]}
    assert masks == {"train": ["demo_0", "demo_1"], "valid": ["demo_2"]}
    data, result = load(path)
    assert len(data) == 3
    assert [line.partition(":")[0] for line in result.left_out] == ["mask/train", "mask/valid"]


def test_chosen_episodes_and_observations(dataset, exported):
    path = exported(where="seed > 0", keys=("state",))
    with h5py.File(path) as file:
        assert [len(file[f"data/demo_{number}/actions"]) for number in range(2)] == [5, 1]
        assert list(file["data/demo_0/obs"]) == ["state"]
    data, _ = load(path)
    assert list(data.read(0).observations) == ["state"]
    assert data.read(0).cameras["front"].intrinsics.shape == (3, 3)


def test_labels_say_so_and_what_was_executed_comes_back(dataset, exported):
    path, source = exported(actions="label"), Dataset(dataset)
    with h5py.File(path) as file:
        assert file["data"].attrs["actions"] in (b"label", "label")
        episode = source.read(0)
        wanted = np.where(episode.label_valid[:, None], episode.label_actions, episode.actions)
        assert np.array_equal(file["data/demo_0/actions"][:], wanted)
        assert not np.array_equal(wanted, episode.actions)
    data, _ = load(path)
    assert digests(data) == digests(source)


def test_other_pictures_are_refused(dataset, tmp_path):
    with pytest.raises(UnknownNameError, match="raw"):
        robomimic.export(Dataset(dataset), tmp_path / "x", ExportOptions(pictures="video"))
    robomimic.export(Dataset(dataset), tmp_path / "x", ExportOptions(pictures="raw"))


def test_episodes_that_are_not_alike(dataset, description, make_episode, tmp_path):
    other = dataclasses.replace(make_episode(7, 3, image=8))
    EpisodeWriter(dataset, description).write(other, 7)
    with pytest.raises(InvalidInputError, match="'front' has rows"):
        robomimic.export(Dataset(dataset), tmp_path / "x", ExportOptions())
    assert not (tmp_path / "x").exists()


FULL_DISK = """
import resource, sys
from pathlib import Path
from shopfloor.core import DiskError
from shopfloor.datasets.convert.minari import convert as minari
from shopfloor.datasets.convert.robomimic import convert as robomimic
from shopfloor.datasets.convert.formats import ExportOptions
from shopfloor.datasets.reader import Dataset
data, out = Dataset(sys.argv[1]), Path(sys.argv[2])
writer = {"minari": minari, "robomimic": robomimic}[sys.argv[3]]
for limit in map(int, sys.argv[4:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        writer.export(data, out, ExportOptions(valid=0.34))
    except DiskError as error:
        assert "File too large" in str(error), error
    else:
        raise SystemExit(f"no error at {limit}")
    assert not list(out.parent.iterdir()), limit
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.export(data, out, ExportOptions())
"""


@pytest.mark.parametrize("name", ["robomimic", "minari"])
def test_a_disk_that_is_full_is_an_error_and_leaves_nothing(dataset, tmp_path, name):
    """HDF5 takes the process with it where a file cannot grow: in a process of its own, at any size."""
    (tmp_path / "full").mkdir()
    limits = [str(limit) for limit in (0, 1, 96, 1000, 2048, 5000, *range(10_000, 200_000, 9001))]
    run = [sys.executable, "-c", FULL_DISK, str(dataset), str(tmp_path / "full/out"), name, *limits]
    result = subprocess.run(run, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "full/out").exists()


def test_a_place_that_cannot_be_written(dataset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((InvalidInputError, DiskError)):
        robomimic.export(Dataset(dataset), tmp_path / "file/out.hdf5", ExportOptions())


# --------------------------------------------------------------------------------------------------
# Back again
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["blosc", "gzip"])
def test_episodes_come_back_bit_for_bit(dataset, exported, assert_same, codec):
    data, result = load(exported(), codec=codec)
    source = Dataset(dataset)
    assert (result.episodes, result.steps, result.left_out) == (3, 18, ())
    for index in range(3):
        assert_same(source.read(index), data.read(index))
    assert data.identity.raw == source.identity.raw
    assert not data.verify()


@settings(max_examples=8)
@given(
    code=st.sampled_from(["u1", "i1", "<u2", "<i4", "<i8", "<f2", "<f4", "<f8"]),
    row=st.lists(st.integers(0, 5), max_size=3),
    steps=st.integers(1, 6),
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30),
)
def test_any_episode_comes_back(tmp_path_factory, make_episode, code, row, steps, text):
    folder = tmp_path_factory.mktemp("any")
    count = (steps + 1) * int(np.prod(row, dtype=int))
    rows = np.arange(count).astype(code).reshape(steps + 1, *row)
    episode = dataclasses.replace(
        make_episode(0, steps),
        observations={"x": rows},
        instruction=text,
        label_chunks=None,
        cameras={},
    )
    EpisodeWriter(folder / "d", {"cell": episode.spec.cell}).write(episode, 0)
    robomimic.export(Dataset(folder / "d"), folder / "out", ExportOptions())
    data, _ = load(folder / "out")
    assert episode_digest(data.read(0)) == episode_digest(episode)


def test_an_export_that_was_changed(exported):
    path = exported()
    with h5py.File(path, "r+") as file:
        file["data/demo_1/actions"][2, 3] = 0.125
    with pytest.raises(DamagedFileError, match="demo_1 was changed after it was exported"):
        load(path)
    assert not (path.parent / "back").exists()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda file: file["data/demo_0"].__delitem__("labels"),
            "demo_0 has no array labels/actions",
        ),
        (
            lambda file: file["data/demo_0"].attrs.__delitem__("spec"),
            "demo_0 has no attribute spec",
        ),
        (
            lambda file: file["data/demo_0"].attrs.__setitem__("stages", "[[1"),
            "is not an episode as it was exported",
        ),
        (
            lambda file: file["data/demo_0"].attrs.__setitem__("spec", '{"a": 1}'),
            "is not an episode",
        ),
        (lambda file: file["data/demo_0"].attrs.__setitem__("digest", "x"), "was changed"),
        (
            lambda file: file["shopfloor"].attrs.__setitem__("schema_version", 2),
            "a newer shopfloor's",
        ),
        (lambda file: file["shopfloor"].__delitem__("identity"), "identity is missing"),
        (lambda file: file["shopfloor/identity"].__setitem__(slice(None), 1), "is not valid JSON"),
        (
            lambda file: put_text(file, '{"kind": "shopfloor-dataset"}'),
            "identity is that of no dataset",
        ),
        (
            lambda file: put_text(file, '{"kind":' * 900 + "1" + "}" * 900),
            "identity is that of no dataset",
        ),
    ],
)
def test_exports_that_cannot_be_used(exported, change, match):
    path = exported()
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(DamagedFileError, match=match):
        load(path)
    assert not (path.parent / "back").exists()


def put_text(file, text):
    swap(file["shopfloor"], "identity", np.frombuffer(text.encode(), "u1"))


@pytest.mark.parametrize("codec", ["blosc", "gzip", "none"])
def test_a_committed_episode_file(tmp_path, make_episode, description, codec):
    episode = make_episode(4, 7)
    path = EpisodeWriter(tmp_path / "d", description, codec).write(episode, 3).path
    data, result = load(path.rename(tmp_path / "one.h5"))
    assert (result.episodes, result.steps) == (1, 7)
    assert episode_digest(data.read(0)) == episode_digest(episode)
    assert data.identity.raw["action_convention"] == "ee_delta_base_v1"
    assert data.identity.raw["cameras"] == ["front"]
    assert data.description["env_args"] == description["env_args"]


@pytest.mark.parametrize("layout", ["sealed", "train"])
def test_a_shard(dataset, tmp_path, layout):
    before = digests(Dataset(dataset))
    compact(dataset, layout=layout)
    (shard,) = (dataset / "shards").glob("*.h5")
    data, result = load(shutil.copy(shard, tmp_path / "shard.h5"))
    assert result.episodes == 3
    assert digests(data) == before


def test_a_committed_file_that_is_damaged(dataset, tmp_path):
    path = shutil.copy(next((dataset / "episodes").iterdir()), tmp_path / "x.h5")
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["outcome"] = "failure"
    with pytest.raises(DamagedFileError, match="trailer"):
        load(path)


def test_a_committed_file_with_a_chunk_that_unpacks_to_less(tmp_path, make_episode, description):
    """HDF5 would fill it up with whatever lay in memory; the trailer is no proof of who wrote it."""
    path = EpisodeWriter(tmp_path / "d", description, "gzip").write(make_episode(4, 7), 0).path

    def change(file, _):
        packed = zlib.compress(b"abcd")
        file["data/demo_0/actor"].id.write_direct_chunk((0,), packed + hostile.fletcher32(packed))

    hostile.tamper(path, change, tmp_path)
    with pytest.raises(UnsafeFileError, match=r"actor has a chunk at .* of 4 bytes"):
        load(path)


# --------------------------------------------------------------------------------------------------
# Anybody's files
# --------------------------------------------------------------------------------------------------

ENV_ARGS = {
    "env_name": "Lift",
    "type": 1,
    "env_version": "1.4.1",
    "env_kwargs": {"control_freq": 10, "robots": "Panda"},
}


def demo(number, T, side=6):
    """Arrays of an episode, each value by arithmetic."""
    ramp = np.arange(T + 1)[:, None] + number
    seen = {
        "robot0_eef_pos": ramp * [0.1, 0.2, 0.3],
        "object": (ramp * np.ones(5)).astype("f4"),
        "agentview_image": (ramp[..., None, None] * 3 + np.zeros((side, side, 3))).astype("u1"),
        "agentview_depth": (ramp[..., None, None] * 0.5 + np.zeros((side, side, 1))).astype("f4"),
    }
    return {
        "actions": (ramp[:T] * [0.25, -0.5]).astype("f8"),
        "rewards": (np.arange(T) == T - 1).astype("f8") * (number % 2 == 0),
        "dones": (np.arange(T) == T - 1).astype("i8"),
        "states": ramp[:T] * np.ones(4),
        **{f"obs/{key}": rows[:T] for key, rows in seen.items()},
        **{f"next_obs/{key}": rows[1:] for key, rows in seen.items()},
    }


def write_robomimic(path, lengths=(4, 3), change=lambda file: None, without=()):
    """Write a file as robomimic's `dataset_states_to_obs.py` and `split_train_val.py` do."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for number, T in enumerate(lengths):
            group = data.create_group(f"demo_{number}")
            for name, rows in demo(number, T).items():
                if name.partition("/")[0] not in without:
                    group.create_dataset(
                        name, data=rows, compression="gzip" if "image" in name else None
                    )
            group.attrs["model_file"] = "<mujoco/>" * 200
            group.attrs["num_samples"] = T
        data.attrs["total"] = sum(lengths)
        data.attrs["env_args"] = json.dumps(ENV_ARGS, indent=4)
        names = [f"demo_{number}" for number in range(len(lengths))]
        file["mask/train"], file["mask/valid"] = (
            np.array(names[:-1], dtype="S"),
            np.array(names[-1:], dtype="S"),
        )
        change(file)
    return path


@pytest.fixture
def foreign(tmp_path):
    """Return a function that writes a file as robomimic does, changed."""
    return lambda change=lambda file: None, **about: write_robomimic(
        tmp_path / "theirs.hdf5", change=change, **about
    )


def test_their_arrays_become_an_episode(foreign):
    data, result = load(foreign())
    assert (result.episodes, result.steps) == (2, 7)
    episode, theirs, T = data.read(1), demo(1, 3), 3
    assert {key: (rows.dtype.name, rows.shape) for key, rows in episode.observations.items()} == {
        "robot0_eef_pos": ("float64", (T + 1, 3)),
        "object": ("float32", (T + 1, 5)),
        "agentview_image": ("uint8", (T + 1, 6, 6, 3)),
        "agentview_depth": ("float32", (T + 1, 6, 6, 1)),
    }
    for key, rows in episode.observations.items():
        assert np.array_equal(rows[:T], theirs[f"obs/{key}"])
        assert np.array_equal(rows[T:], theirs[f"next_obs/{key}"][-1:])
    assert np.array_equal(episode.actions, theirs["actions"])
    assert np.array_equal(episode.sim_states, theirs["states"][[0, 1, 2, 2]])
    assert not data.verify()


def test_facts_come_from_rewards_and_env_args(foreign):
    data, result = load(foreign())
    assert [(record.outcome, record.reason, record.terminated) for record in data.records] == [
        ("success", "", True),
        ("failure", "timeout", False),
    ]
    assert {record.cell for record in data.records} == {"robomimic/Lift"}
    assert (data.identity.raw["control_hz"], data.identity.raw["action_convention"]) == (
        10,
        "unspecified",
    )
    assert data.identity.raw["cameras"] == ["agentview_image"]
    assert data.description["env_args"] == ENV_ARGS
    assert data.description["outcomes"].startswith("from rewards")
    assert [line.partition(":")[0] for line in result.left_out] == [
        "attribute model_file",
        "mask/train",
        "mask/valid",
    ]


def test_without_next_obs_the_last_observation_is_repeated(foreign):
    data, result = load(foreign(without=("next_obs",)))
    rows = data.read(0).observations["object"]
    assert np.array_equal(rows, demo(0, 4)["obs/object"][[0, 1, 2, 3, 3]])
    assert any(line.startswith("final observation: ") for line in result.left_out)


def test_without_rewards_states_and_env_args(foreign):
    data, _ = load(
        foreign(
            lambda file: file["data"].attrs.__delitem__("env_args"), without=("rewards", "states")
        )
    )
    assert data.read(0).sim_states.shape == (5, 0)
    assert data.records[1].outcome == "success"
    assert data.description["outcomes"].startswith("assumed")
    assert data.records[0].cell == "robomimic/theirs"
    assert data.description["control_hz_from"].startswith("assumed")


def test_options_say_what_the_source_does_not(foreign):
    data, _ = load(
        foreign(), cell="bench/lift", action_convention="osc_pose", instruction="Lift it."
    )
    assert (data.records[0].cell, data.records[0].instruction) == ("bench/lift", "Lift it.")
    assert data.identity.raw["action_convention"] == "osc_pose"


@pytest.mark.parametrize(
    "text", ["{", "3", '{"env_name": 3}', '{"a":' * 950 + "1" + "}" * 950, "{" * 5000]
)
def test_env_args_that_cannot_be_used(foreign, text):
    data, _ = load(foreign(lambda file: file["data"].attrs.__setitem__("env_args", text)))
    assert data.records[0].cell == "robomimic/theirs"


@pytest.mark.parametrize("hz", [0, -1, True, "20", 1e300])
def test_frequencies_that_are_none(foreign, hz):
    env_args = json.dumps({"env_name": "Lift", "env_kwargs": {"control_freq": hz}})
    data, _ = load(foreign(lambda file: file["data"].attrs.__setitem__("env_args", env_args)))
    assert data.identity.raw["control_hz"] == 20


def test_instructions_of_robocasa_and_libero(foreign):
    def robocasa(file):
        file["data/demo_0"].attrs["ep_meta"] = json.dumps({"lang": "Open the drawer."})
        file["data"].attrs["problem_info"] = json.dumps(
            {"language_instruction": "Turn on the stove."}
        )

    data, _ = load(foreign(robocasa))
    assert [record.instruction for record in data.records] == [
        "Open the drawer.",
        "Turn on the stove.",
    ]


def test_episodes_in_order_of_their_numbers(foreign):
    def rename(file):
        file["data"].move("demo_0", "demo_10")
        file["data"].move("demo_1", "demo_2")

    data, _ = load(foreign(rename))
    assert [(record.seed, record.steps) for record in data.records] == [(2, 3), (10, 4)]


def test_actions_are_rounded_only_when_asked(foreign):
    path = foreign(lambda file: file["data/demo_1/actions"].__setitem__((0, 0), 0.1))
    with pytest.raises(
        InvalidInputError, match="demo_1/actions holds float64 numbers that float32 cannot hold"
    ):
        load(path)
    assert not (path.parent / "back").exists()
    data, _ = load(path, cast=True)
    assert data.read(1).actions[0, 0] == np.float32(0.1)


def test_what_has_no_place_is_told(foreign):
    def change(file):
        for name in ("demo_0", "demo_1"):
            group = file[f"data/{name}"]
            group["action_dict/rel_pos"] = np.zeros((len(group["actions"]), 3))
            group.create_dataset(
                "obs/note", data=["a"] * len(group["actions"]), dtype=h5py.string_dtype()
            )
            group["obs/ä"] = np.zeros(len(group["actions"]))
            group["obs/cameras/top"] = np.zeros(len(group["actions"]), bool)
        file["data/extra"], file["notes"] = np.zeros(3), np.zeros(3)
        file.create_group("data/demo_9")["actions"] = np.zeros((0, 2))

    data, result = load(foreign(change))
    told = {line.partition(": ")[0]: line.partition(": ")[2] for line in result.left_out}
    assert told["action_dict"] == "no place for it (2 of them)"
    assert told["obs/note"] == "holds texts"
    assert told["obs/ä"] == "no observation key can be made of its name"
    assert (told["data/extra"], told["notes"]) == ("no episode", "no episode")
    assert told["data/demo_9"] == "it has no steps"
    assert data.read(0).observations["cameras.top"].dtype == np.uint8


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda demo: demo.__delitem__("actions"), DamagedFileError, "demo_0 has no array actions"),
        (
            lambda demo: demo.attrs.__setitem__("num_samples", 9),
            DamagedFileError,
            "4 rows, but num_samples is 9",
        ),
        (
            lambda demo: resize(demo, "obs/object", 3),
            DamagedFileError,
            "obs/object has 3 rows, expected 4",
        ),
        (
            lambda demo: resize(demo, "rewards", 5),
            DamagedFileError,
            "rewards has 5 rows, expected 4",
        ),
        (
            lambda demo: swap(demo, "actions", np.zeros(4)),
            InvalidInputError,
            r"actions has shape \(4,\)",
        ),
        (
            lambda demo: swap(demo, "actions", np.array([b"x"] * 4)),
            UnsafeFileError,
            "expected numbers",
        ),
        (
            lambda demo: swap(demo, "actions", np.zeros(4, "V8")),
            UnsafeFileError,
            "neither numbers nor texts",
        ),
        (
            lambda demo: swap(demo, "next_obs/object", np.zeros((4, 2))),
            DamagedFileError,
            "next_obs/object has rows",
        ),
        (
            lambda demo: demo.__setitem__("obs/x", h5py.ExternalLink("/etc/passwd", "/")),
            UnsafeFileError,
            "external",
        ),
        (
            lambda demo: demo.__setitem__("obs/x", demo["actions"]),
            UnsafeFileError,
            "linked more than once",
        ),
        (
            lambda demo: (
                demo.create_dataset("states2", data=np.zeros(4), **hdf5plugin.Zstd())
                and swap_states(demo)
            ),
            InvalidInputError,
            "rewards holds",
        ),
    ],
)
def test_files_that_are_not_what_they_say(foreign, change, error, match):
    path = foreign(lambda file: change(file["data/demo_0"]))
    with pytest.raises(error, match=match) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert not (path.parent / "back").exists()


def swap(group, name, rows):
    del group[name]
    group[name] = rows


def resize(group, name, rows):
    swap(group, name, np.resize(group[name][:], (rows, *group[name].shape[1:])))


def swap_states(group):
    """Nothing of a filter that is not needed is in the way; the rewards are refused."""
    swap(group, "rewards", np.full(4, 0.1))
    return True


def test_files_of_something_else(tmp_path):
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["data/episode_0"] = np.zeros(3)
    with pytest.raises(NotADatasetError, match="no group data/demo_<number>"):
        load(tmp_path / "x.hdf5")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidInputError, match="is a folder"):
        load(tmp_path / "folder")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DamagedFileError, match="HDF5 cannot read it"):
        load(tmp_path / "text")


def test_a_file_without_steps(foreign):
    path = foreign(lengths=(0,))
    with pytest.raises(InvalidInputError, match="holds no steps"):
        load(path)
    assert not (path.parent / "back").exists()


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_files_cut_short(foreign, share):
    path = foreign()
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(DamagedFileError, match="Get a whole copy"):
        load(path)
    assert not (path.parent / "back").exists()


def test_a_file_that_opens_for_ever(tmp_path):
    """Written once, as robomimic's own scripts do (`write_robomimic`), and never again."""
    data, result = load(shutil.copy(KEPT / "states_to_obs.hdf5", tmp_path / "kept.hdf5"))
    assert (result.episodes, result.steps) == (2, 7)
    for number, T in enumerate((4, 3)):
        episode, theirs = data.read(number), demo(number, T)
        for key, rows in episode.observations.items():
            assert np.array_equal(rows, [*theirs[f"obs/{key}"], theirs[f"next_obs/{key}"][-1]])
        assert np.array_equal(episode.actions, theirs["actions"])
        assert np.array_equal(episode.rewards, theirs["rewards"])


# --------------------------------------------------------------------------------------------------
# The real robomimic
# --------------------------------------------------------------------------------------------------

# Opens a file with SequenceDataset, all of it or one mask of it, and saves what it hands out.
READER = """
import sys
import numpy as np
import robomimic.utils.obs_utils as ObsUtils
from robomimic.utils.dataset import SequenceDataset
path, out, mask = sys.argv[1:]
ObsUtils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": ["state", "objects"], "rgb": ["front"]}})
data = SequenceDataset(
    hdf5_path=path, obs_keys=["state", "objects", "front"], dataset_keys=["actions", "rewards", "dones", "states"],
    frame_stack=1, seq_length=1, hdf5_cache_mode=None, hdf5_use_swmr=True, load_next_obs=False,
    filter_by_attribute=mask or None)
arrays = {"demos": np.array(data.demos), "length": np.array(len(data))}
for index in range(len(data)):
    item = data[index]
    for key, array in {**{k: v for k, v in item.items() if k != "obs"}, **item["obs"]}.items():
        arrays[f"{index}/{key}"] = np.asarray(array)
np.savez(out, **arrays)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mask", "episodes"), [("", (0, 1, 2)), ("train", (0, 1)), ("valid", (2,))]
)
def test_sequence_dataset_reads_our_exports(
    robomimic_python, dataset, exported, tmp_path, mask, episodes
):
    out = tmp_path / "read.npz"
    path = exported(valid=0.34)
    result = run_with(robomimic_python, READER, path, out, mask)
    assert result.returncode == 0, result.stderr[-3000:]
    found, (data, _) = np.load(out), load(path)
    assert digests(data) == digests(Dataset(dataset))
    assert found["demos"].tolist() == [f"demo_{number}" for number in episodes]
    assert int(found["length"]) == sum(data.read(number).steps for number in episodes)
    place = 0
    for number in episodes:
        episode = data.read(number)
        for step in range(episode.steps):
            for key, rows in episode.observations.items():
                assert np.array_equal(found[f"{place}/{key}"], rows[step : step + 1])
            assert np.array_equal(found[f"{place}/actions"], episode.actions[step : step + 1])
            assert np.array_equal(found[f"{place}/rewards"], episode.rewards[step : step + 1])
            assert np.array_equal(found[f"{place}/states"], episode.sim_states[step : step + 1])
            assert found[f"{place}/dones"].tolist() == [step == episode.steps - 1]
            place += 1


# As robomimic's `scripts/split_train_val.py` ends, which cannot be imported without its simulators.
SPLITTER = """
import sys, h5py, numpy as np
with h5py.File(sys.argv[1], "r+") as file:
    file.create_dataset("mask/mine", data=np.array(["demo_2", "demo_0"], dtype="S"))
"""


@pytest.mark.slow
def test_a_mask_that_robomimic_adds_does_not_keep_an_export_from_coming_back(
    robomimic_python, dataset, exported
):
    path = exported()
    assert run_with(robomimic_python, SPLITTER, path).returncode == 0
    data, result = load(path)
    assert digests(data) == digests(Dataset(dataset))
    assert [line.partition(":")[0] for line in result.left_out] == ["mask/mine"]
