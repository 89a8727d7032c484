"""ManiSkill's trajectories: files as its recorder writes them, what becomes of them, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from shopfloor.core import InvalidInputError, UnknownNameError
from shopfloor.datasets.convert.formats import export, import_dataset
from shopfloor.datasets.convert.maniskill import convert as maniskill
from shopfloor.datasets.convert.options import ImportOptions
from shopfloor.datasets.disk.errors import DamagedFileError, NotADatasetError, UnsafeFileError
from shopfloor.datasets.listing.verify import verify
from shopfloor.datasets.reader import Dataset

T = (4, 3)
NAME = "trajectory.rgbd.pd_joint_delta_pos.physx_cpu"
INFO = {
    "env_info": {
        "env_id": "PickCube-v1",
        "env_kwargs": {"obs_mode": "rgb+depth", "robot_uids": "panda", "sim_backend": "physx_cpu"},
        "max_episode_steps": 50,
    },
    "commit_info": {"commit_id": "0123abcd"},
    "source_type": "motionplanning",
    "source_desc": "solved by a planner",
}


def listed(number, steps, **changes):
    return {
        "episode_id": number,
        "episode_seed": 100 + number,
        "control_mode": "pd_joint_delta_pos",
        "elapsed_steps": steps,
        "reset_kwargs": {"seed": 100 + number, "options": None},
        "success": number == 0,
        "fail": False,
        **changes,
    }


def numbers(*shape, dtype="f4", salt=0):
    count = int(np.prod(shape))
    return (np.sin(np.arange(count) + salt) * 100).astype(dtype).reshape(shape)


def trajectory(number, steps):
    """Return path below the trajectory -> array."""
    side = (steps + 1, 8, 10)
    return {
        "obs/agent/qpos": numbers(steps + 1, 9, salt=number),
        "obs/agent/qvel": numbers(steps + 1, 9, salt=number + 1),
        "obs/extra/is_grasped": np.arange(steps + 1) % 2 == 1,
        "obs/extra/tcp_pose": numbers(steps + 1, 7, salt=2),
        "obs/sensor_param/base_camera/extrinsic_cv": numbers(steps + 1, 3, 4, salt=3),
        "obs/sensor_data/base_camera/rgb": numbers(*side, 3, dtype="i8", salt=4).astype("u1"),
        "obs/sensor_data/base_camera/depth": numbers(*side, 1, dtype="i8", salt=5).astype("u2"),
        "obs/sensor_data/base_camera/segmentation": numbers(*side, 1, dtype="i2", salt=6),
        "actions": numbers(steps, 8, salt=7),
        "terminated": np.arange(steps) == (steps - 1 if number == 0 else -1),
        "truncated": np.zeros(steps, bool),
        "success": np.arange(steps) == (steps - 1 if number == 0 else -1),
        "fail": np.zeros(steps, bool),
        "rewards": numbers(steps, salt=8),
        "env_states/actors/cube": numbers(steps + 1, 13, salt=9),
        "env_states/actors/table": numbers(steps + 1, 13, salt=10),
        "env_states/articulations/panda": numbers(steps + 1, 31, salt=11),
    }


def record(folder, info=None, episodes=None, arrays=None, drop=(), **changes):
    """Write a recording as ManiSkill's recorder does, with arrays of the second trajectory replaced."""
    folder.mkdir(exist_ok=True)
    episodes = (
        episodes
        if episodes is not None
        else [listed(number, steps) for number, steps in enumerate(T)]
    )
    with h5py.File(folder / f"{NAME}.h5", "w") as file:
        for number, steps in enumerate(T):
            group = file.create_group(f"traj_{number}", track_order=True)
            content = (
                trajectory(number, steps) | (arrays or {}) | (changes.get(f"traj_{number}") or {})
            )
            for path, array in content.items():
                if array is None or path in drop:
                    continue
                *folders, name = path.split("/")
                place = group
                for part in folders:
                    place = (
                        place[part] if part in place else place.create_group(part, track_order=True)
                    )
                packed = (
                    {"compression": "gzip", "compression_opts": 5}
                    if name in ("rgb", "depth", "seg")
                    else {}
                )
                place.create_dataset(name, data=array, dtype=array.dtype, **packed)
    text = json.dumps({**INFO, **(info or {}), "episodes": episodes}, indent=2)
    (folder / f"{NAME}.json").write_text(text)
    return folder


def load(path, **options):
    out = path.parent / f"out-{len(list(path.parent.iterdir()))}"
    result = import_dataset(path, "maniskill", out, ImportOptions(**options))
    assert not verify(out)
    return Dataset(out), result


def test_what_becomes_of_a_recording(tmp_path):
    data, result = load(record(tmp_path / "r"))
    assert (result.episodes, result.steps, result.left_out) == (2, 7, ())
    assert [
        (one.seed, one.steps, one.outcome, one.reason, one.terminated) for one in data.records
    ] == [
        (100, 4, "success", "", True),
        (101, 3, "failure", "timeout", False),
    ]
    for number, steps in enumerate(T):
        source, episode = trajectory(number, steps), data.read(number)
        names = {
            "agent.qpos": "obs/agent/qpos",
            "agent.qvel": "obs/agent/qvel",
            "extra.is_grasped": "obs/extra/is_grasped",
            "extra.tcp_pose": "obs/extra/tcp_pose",
            "sensor_param.base_camera.extrinsic_cv": "obs/sensor_param/base_camera/extrinsic_cv",
            "base_camera": "obs/sensor_data/base_camera/rgb",
            "base_camera.depth": "obs/sensor_data/base_camera/depth",
            "base_camera.segmentation": "obs/sensor_data/base_camera/segmentation",
        }
        assert sorted(episode.observations) == sorted(names)
        for key, name in names.items():
            wanted = source[name].view("u1") if source[name].dtype == bool else source[name]
            assert episode.observations[key].dtype == wanted.dtype
            assert np.array_equal(episode.observations[key], wanted), key
        assert np.array_equal(episode.actions, source["actions"])
        assert np.array_equal(episode.rewards, source["rewards"])
        states = [
            source[f"env_states/{name}"]
            for name in ("actors/cube", "actors/table", "articulations/panda")
        ]
        assert np.array_equal(episode.sim_states, np.concatenate(states, axis=1).astype("f8"))
        options = {"episode": number, "reset_kwargs": {"seed": 100 + number, "options": None}}
        assert episode.spec.cell_options == options
        assert (episode.spec.cell, episode.spec.purpose) == ("maniskill/PickCube-v1", "train")


def test_a_file_of_the_real_recorder(tmp_path):
    """`RecordEpisode` of mani-skill 3.0.1 wrote it, of an environment that draws its numbers at random."""
    source = Path(__file__).parents[2] / "data/maniskill"
    shutil.copytree(source, tmp_path / "r")
    data, result = load(tmp_path / "r")
    assert result.left_out == ()
    found = [(one.seed, one.steps, one.outcome, one.terminated, one.cell) for one in data.records]
    assert found == [
        (3, 5, "success", True, "maniskill/Random-v1"),
        (4, 2, "failure", False, "maniskill/Random-v1"),
    ]
    with h5py.File(next(source.glob("*.h5"))) as file:
        for number, record in enumerate(data.records):
            episode, group = data.read(number), file[f"traj_{number}"]
            assert np.array_equal(episode.actions, group["actions"])
            assert np.array_equal(episode.rewards, group["rewards"])
            assert np.array_equal(episode.sim_states[:, 13:26], group["env_states/actors/table"])
            assert np.array_equal(
                episode.observations["base_camera"], group["obs/sensor_data/base_camera/rgb"]
            )
            assert np.array_equal(
                episode.observations["base_camera.depth"],
                group["obs/sensor_data/base_camera/depth"],
            )
            assert len(episode.observations) == 9
            assert record.steps == len(group["actions"])


def test_what_the_dataset_says_of_itself(tmp_path):
    data, _ = load(record(tmp_path / "r"))
    raw, about = data.identity.raw, data.description
    assert (raw["action_convention"], raw["control_hz"]) == ("maniskill:pd_joint_delta_pos", 20)
    assert raw["cameras"] == ["base_camera"]
    assert raw["features"]["base_camera"]["shape"] == [8, 10, 3]
    assert raw["features"]["base_camera.depth"] == {
        "shape": [8, 10, 1],
        "dtype": "uint16",
        "names": [],
        "units": [],
    }
    assert raw["features"]["extra.is_grasped"] == {
        "shape": [],
        "dtype": "uint8",
        "names": [],
        "units": [],
    }
    assert about["robot"] == "panda"
    assert about["sim_state_names"][:2] == ["actors/cube.0", "actors/cube.1"]
    assert about["sim_state_names"][-1] == "articulations/panda.30"
    assert len(about["sim_state_names"]) == 57
    assert about["source"] | INFO == about["source"]
    assert about["source"]["features"]["base_camera"] == "obs/sensor_data/base_camera/rgb"
    assert about["outcomes"] == "from success after the last action"
    assert about["rewards"] == "recorded"


def test_options(tmp_path):
    folder = record(
        tmp_path / "r", info={"env_info": {"env_kwargs": {"sim_config": {"control_freq": 50}}}}
    )
    data, _ = load(
        folder,
        action_convention="mine",
        cell="lab/Pick",
        instruction="Pick the cube.",
        codec="gzip",
    )
    assert data.identity.raw["action_convention"] == "mine"
    assert data.identity.raw["control_hz"] == 50
    assert {record.cell for record in data.records} == {"lab/Pick"}
    assert {record.instruction for record in data.records} == {"Pick the cube."}
    nameless, _ = load(folder)
    assert nameless.records[0].cell == f"maniskill/{NAME}"


@pytest.mark.parametrize("name", ["", f"{NAME}.h5", f"{NAME}.json"])
def test_files_and_folders(tmp_path, name):
    data, _ = load(record(tmp_path / "r") / name)
    assert len(data) == 2


def test_a_single_vector_is_the_state(tmp_path):
    drop = [name for name in trajectory(0, 1) if name.startswith("obs")]
    each = {
        f"traj_{number}": {"obs": numbers(steps + 1, 42, salt=number)}
        for number, steps in enumerate(T)
    }
    data, _ = load(record(tmp_path / "r", drop=drop, **each))
    assert list(data.read(1).observations) == ["state"]
    assert np.array_equal(data.read(1).observations["state"], numbers(4, 42, salt=1))


def test_states_as_one_array(tmp_path):
    drop = [name for name in trajectory(0, 1) if name.startswith("env_states")]
    each = {
        f"traj_{number}": {"env_states": numbers(steps + 1, 70, salt=number)}
        for number, steps in enumerate(T)
    }
    data, result = load(record(tmp_path / "r", drop=drop, **each))
    assert np.array_equal(data.read(1).sim_states, numbers(4, 70, salt=1).astype("f8"))
    assert (data.description["sim_state_names"], result.left_out) == ([], ())


def test_no_observations_no_states_no_rewards(tmp_path):
    drop = [name for name in trajectory(0, 1) if name.startswith(("obs", "env_states", "rewards"))]
    data, result = load(record(tmp_path / "r", drop=drop))
    episode = data.read(0)
    assert not episode.observations
    assert episode.sim_states.shape == (5, 0)
    assert not episode.rewards.any()
    assert data.description["rewards"] == "not recorded: zeros"
    assert data.description["sim_state_names"] == []
    assert result.left_out == ()


def test_actions_of_several_agents(tmp_path):
    each = {
        f"traj_{number}": {
            "actions": None,
            "actions/panda-1": numbers(steps, 2, salt=1),
            "actions/panda-0": numbers(steps, 3),
        }
        for number, steps in enumerate(T)
    }
    data, _ = load(record(tmp_path / "r", **each))
    assert data.description["action_names"] == [
        "panda-0.0",
        "panda-0.1",
        "panda-0.2",
        "panda-1.0",
        "panda-1.1",
    ]
    for number, steps in enumerate(T):
        wanted = np.concatenate([numbers(steps, 3), numbers(steps, 2, salt=1)], axis=1)
        assert np.array_equal(data.read(number).actions, wanted)


@pytest.mark.parametrize(
    ("flags", "said", "outcome", "reason", "terminated"),
    [
        ({"success": [0, 1, 0]}, {}, "failure", "timeout", False),  # what counts is how it ends
        ({"success": [0, 0, 1], "terminated": [0, 0, 1]}, {}, "success", "", True),
        ({"fail": [0, 0, 1], "terminated": [0, 0, 1]}, {}, "failure", "timeout", True),
        ({"success": None, "fail": None}, {"success": True}, "success", "", False),
        (
            {"success": None, "fail": None, "terminated": None},
            {"success": True},
            "success",
            "",
            True,
        ),
        (
            {"success": None, "fail": None, "terminated": None},
            {"success": False},
            "failure",
            "timeout",
            False,
        ),
        (
            {"success": None, "fail": None},
            {"success": None, "fail": True},
            "failure",
            "timeout",
            False,
        ),
        ({"success": None, "fail": None}, {"success": None, "fail": None}, "success", "", False),
    ],
)
def test_outcomes(tmp_path, flags, said, outcome, reason, terminated):
    arrays = {name: None if rows is None else np.array(rows, bool) for name, rows in flags.items()}
    episodes = [listed(0, 4), listed(1, 3, **said)]
    record_ = load(record(tmp_path / "r", episodes=episodes, traj_1=arrays))[0].records[1]
    assert (record_.outcome, record_.reason, record_.terminated) == (outcome, reason, terminated)


def test_nobody_says_how_it_ended(tmp_path):
    episodes = [listed(number, steps, success=None, fail=None) for number, steps in enumerate(T)]
    data, _ = load(record(tmp_path / "r", episodes=episodes, drop=("success", "fail")))
    assert "assumed" in data.description["outcomes"]
    assert {one.outcome for one in data.records} == {"success"}


def test_seeds(tmp_path):
    episodes = [listed(0, 4, episode_seed=7), listed(1, 3, episode_seed=7)]
    data, _ = load(record(tmp_path / "r", episodes=episodes))
    assert [one.seed for one in data.records] == [7, 7]
    assert len({one.episode_id for one in data.records}) == 2
    data, _ = load(record(tmp_path / "s", episodes=[listed(1, 3, episode_seed=None), listed(0, 4)]))
    assert [(one.seed, one.steps) for one in data.records] == [(1, 3), (100, 4)]


def test_other_bodies_are_left_out_and_told(tmp_path):
    arrays = {"env_states/actors/cube": None, "env_states/actors/ball": numbers(4, 13)}
    data, result = load(record(tmp_path / "r", traj_1=arrays))
    assert [data.read(number).sim_states.shape for number in range(2)] == [(5, 57), (4, 0)]
    assert result.left_out == ("env_states: 1 episodes have other bodies than the first one",)


def test_what_has_no_place_is_told(tmp_path):
    long = "obs/extra/" + "x" * 70
    arrays = {
        "obs/note": np.array([b"a"]),
        "obs/actions": np.zeros((5, 1)),
        "obs/empty": np.zeros((5, 0)),
        long: np.zeros((5, 1)),
        "env_states/actors/odd": np.zeros((5, 2, 2)),
        "note": np.zeros(3),
    }
    folder = record(tmp_path / "r", traj_0=arrays)
    with h5py.File(folder / f"{NAME}.h5", "a") as file:
        file["meta"] = np.zeros(3)
        file.create_group("traj_01")
    data, result = load(folder)
    assert dict(line.split(": ", 1) for line in result.left_out) == {
        "meta": "no trajectory",
        "traj_01": "no trajectory",
        "obs/note": "holds texts",
        "obs/actions": "no observation key can be made of its name",
        "obs/empty": "of shape (5, 0)",
        long: "no observation key can be made of its name",
        "env_states/actors/odd": "of shape (5, 2, 2) and float64, expected rows of floats",
        "note": "neither observation, action nor state",
    }
    assert data.read(1).sim_states.shape == (4, 57)


def test_a_name_that_is_taken_gets_more_of_its_path(tmp_path):
    each = {
        f"traj_{number}": {"obs/base_camera": numbers(steps + 1, 2)}
        for number, steps in enumerate(T)
    }
    data, _ = load(record(tmp_path / "r", **each))
    keys = set(data.read(0).observations)
    assert {"base_camera", "base_camera.rgb"} <= keys
    assert data.identity.raw["cameras"] == ["base_camera.rgb"]


def test_numbers_that_float32_cannot_hold(tmp_path):
    each = {
        f"traj_{number}": {"actions": np.full((steps, 2), 0.1)} for number, steps in enumerate(T)
    }
    folder = record(tmp_path / "r", **each)
    with pytest.raises(InvalidInputError, match=r"traj_0/actions holds float64 numbers.*cast"):
        load(folder)
    data, _ = load(folder, cast=True)
    assert np.array_equal(data.read(0).actions, np.full((4, 2), np.float32(0.1)))


# --------------------------------------------------------------------------------------------------
# What is refused
# --------------------------------------------------------------------------------------------------


def refused(path, error, match):
    with pytest.raises(error, match=match):
        load(path)
    root = path if path.is_dir() else path.parent
    assert not [entry for entry in root.parent.iterdir() if entry.name.startswith(("out", ".out"))]


@pytest.mark.parametrize(
    ("arrays", "error", "match"),
    [
        (
            {"actions": numbers(2, 8)},
            DamagedFileError,
            "traj_1 has 2 actions; the .json says elapsed_steps 3",
        ),
        (
            {"obs/agent/qpos": numbers(3, 9)},
            DamagedFileError,
            "obs/agent/qpos has 3 rows, expected 4 for 3 actions",
        ),
        (
            {"env_states/actors/cube": numbers(3, 13)},
            DamagedFileError,
            "actors/cube has 3 rows, expected 4",
        ),
        ({"success": np.zeros(4, bool)}, DamagedFileError, "traj_1/success has 4 rows, expected 3"),
        (
            {"rewards": numbers(3, 2)},
            DamagedFileError,
            r"traj_1/rewards has shape \(3, 2\), expected \(3,\)",
        ),
        ({"rewards": np.full(3, 0.1)}, InvalidInputError, "traj_1/rewards holds float64"),
        (
            {"actions": numbers(3, 7)},
            InvalidInputError,
            r"the actions of traj_1 are actions \(7\); those of",
        ),
        ({"actions": numbers(3)}, InvalidInputError, "of traj_1 are actions; those of"),
        ({"actions": None}, InvalidInputError, "the actions of traj_1 are none"),
        ({"obs/agent/qpos": None}, InvalidInputError, "traj_1/obs/agent/qpos is missing"),
        (
            {"obs/agent/qpos": numbers(4, 8)},
            InvalidInputError,
            r"has rows \(8,\) of float32; the first one has",
        ),
        ({"obs/agent/qpos": numbers(4, 9, dtype="f8")}, InvalidInputError, "float64"),
        ({"obs/more": numbers(4, 9)}, InvalidInputError, "traj_1/obs/more is not in the first one"),
        ({"more": numbers(3)}, InvalidInputError, "traj_1/more is not in the first one"),
        (
            {"rewards": np.array([b"a", b"b", b"c"])},
            UnsafeFileError,
            "traj_1/rewards holds texts, expected numbers",
        ),
    ],
)
def test_arrays_that_do_not_go_together(tmp_path, arrays, error, match):
    refused(record(tmp_path / "r", traj_1=arrays), error, match)


@pytest.mark.parametrize(
    ("actions", "match"),
    [
        (None, "an episode needs actions"),
        (numbers(4), "rows of numbers"),
        (np.zeros((4, 2, 2)), "rows of numbers"),
    ],
)
def test_no_actions_to_learn_from(tmp_path, actions, match):
    refused(record(tmp_path / "r", traj_0={"actions": actions}), InvalidInputError, match)


@pytest.mark.parametrize(
    ("episodes", "error", "match"),
    [
        ([], InvalidInputError, "lists no episode to import"),
        (None, DamagedFileError, "its episodes are not a list"),
        ([3], DamagedFileError, "entry 0 of its episodes is not an object"),
        ([listed(0, 4)], DamagedFileError, r"it does not list traj_1, which trajectory.*\.h5 has"),
        ([listed(0, 4), listed(1, 3), listed(2, 3)], DamagedFileError, "it lists traj_2, of which"),
        (
            [listed(0, 4), listed(0, 4)],
            DamagedFileError,
            "entry 1 of its episodes has episode_id 0, expected",
        ),
        ([{"elapsed_steps": 4}], DamagedFileError, "entry 0 of its episodes has episode_id None"),
        (
            [listed(0, 4), listed(1, 3, episode_seed=-1)],
            DamagedFileError,
            "entry 1 .* episode_seed -1",
        ),
        ([listed(0, 4), listed(1, 3, episode_seed=[1])], DamagedFileError, r"episode_seed \[1\]"),
        ([listed(0, 4), listed(1, 3, episode_seed=1 << 70)], DamagedFileError, "episode_seed"),
        ([listed(0, 4), listed(1, True)], DamagedFileError, "has elapsed_steps True"),
        (
            [listed(0, 4), listed(1, 4)],
            DamagedFileError,
            "traj_1 has 3 actions; the .json says elapsed_steps 4",
        ),
        (
            [listed(0, 4), listed(1, 3, reset_kwargs=[])],
            DamagedFileError,
            "its reset_kwargs is a list",
        ),
        (
            [listed(0, 4, reset_kwargs={"x": "y" * 50_000})],
            UnsafeFileError,
            "entry 0 .* reset_kwargs of 50008 bytes",
        ),
        (
            [listed(0, 4), listed(1, 3, control_mode="pd_ee_pose")],
            InvalidInputError,
            "'pd_ee_pose', 'pd_joint_delta",
        ),
        ([listed(0, 4), listed(1, 3, control_mode=4)], DamagedFileError, "its control_mode is 4"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, episodes, error, match):
    folder = record(tmp_path / "r", episodes=episodes or [])
    if episodes is None:
        (folder / f"{NAME}.json").write_text(json.dumps({**INFO, "episodes": {}}))
    refused(folder, error, match)


@pytest.mark.parametrize(
    ("info", "error", "match"),
    [
        ({"env_info": 3}, DamagedFileError, "its env_info is a int, expected an object"),
        ({"env_info": {"env_id": ["x"]}}, DamagedFileError, "its env_id is"),
        ({"env_info": {"env_id": "a\nb"}}, DamagedFileError, "its env_id is"),
        (
            {"env_info": {"env_kwargs": {"sim_config": {"control_freq": 0}}}},
            DamagedFileError,
            "its control_freq is 0",
        ),
        ({"source_desc": "x" * (1 << 20)}, UnsafeFileError, "source_desc take"),
    ],
)
def test_descriptions_that_cannot_be_used(tmp_path, info, error, match):
    refused(record(tmp_path / "r", info=info), error, match)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"episodes": [], "episodes": []}', "'episodes' appears twice"),
        ('{"episodes": [NaN]}', "NaN is not a number"),
        ('{"episodes": ' + "[" * 100_000, "not valid JSON"),
        ("[]", "expected an object"),
        ("", "not valid JSON"),
    ],
)
def test_json_that_is_none(tmp_path, text, match):
    folder = record(tmp_path / "r")
    (folder / f"{NAME}.json").write_text(text)
    refused(folder, DamagedFileError, match)


def test_half_a_recording(tmp_path):
    folder = record(tmp_path / "r")
    (folder / f"{NAME}.json").rename(tmp_path / "j")
    refused(
        folder / f"{NAME}.h5",
        NotADatasetError,
        "half a ManiSkill recording: trajectory.*json is not beside it",
    )
    refused(folder, NotADatasetError, "holds no ManiSkill recording")
    other = folder / "x.txt"
    other.touch()
    refused(other, NotADatasetError, "expected an .h5 file, its .json, or their folder")


def test_several_recordings(tmp_path):
    folder = record(tmp_path / "r")
    for end in ("h5", "json"):
        shutil.copy(folder / f"{NAME}.{end}", folder / f"other.{end}")
    shutil.copy(folder / f"{NAME}.h5", folder / "alone.h5")
    refused(folder, InvalidInputError, "several recordings .other.h5, trajectory")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_truncated_arrays(tmp_path, share):
    file = record(tmp_path / "r") / f"{NAME}.h5"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    refused(file, DamagedFileError, "damaged")


def change(folder, call):
    with h5py.File(folder / f"{NAME}.h5", "a") as file:
        call(file)
    return folder


def test_links_that_lead_elsewhere(tmp_path):
    def soft(file):
        file["traj_1/obs/x"] = h5py.SoftLink("/traj_0/actions")

    def external(file):
        file["traj_2"] = h5py.ExternalLink("/etc/passwd", "/")

    def loop(file):
        file["traj_1/obs/x"] = file["traj_1"]

    refused(change(record(tmp_path / "a"), soft), UnsafeFileError, "traj_1/obs/x is a soft link")
    refused(change(record(tmp_path / "b"), external), UnsafeFileError, "traj_2 is an external link")
    refused(change(record(tmp_path / "c"), loop), UnsafeFileError, "linked more than once")


def test_a_bomb(tmp_path):
    def bomb(file):
        del file["traj_1/obs/agent/qpos"]
        shape = (4, 1 << 33)
        file.create_dataset(
            "traj_1/obs/agent/qpos", shape, "f4", chunks=(1, 1 << 20), compression="gzip"
        )

    refused(
        change(record(tmp_path / "r"), bomb), InvalidInputError, "traj_1/obs/agent/qpos has rows"
    )

    def claim(file):
        for number, steps in enumerate(T):
            file.create_dataset(
                f"traj_{number}/obs/big",
                (steps + 1, 1 << 26),
                "f4",
                chunks=(1, 1 << 20),
                fillvalue=0,
            )

    refused(change(record(tmp_path / "s"), claim), DamagedFileError, "obs/big has 0 chunks")


def test_a_file_that_changes_meanwhile(tmp_path, monkeypatch):
    folder = record(tmp_path / "r")

    def append(self):
        with (folder / f"{NAME}.h5").open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(maniskill.Incoming, "finish", append)
    refused(folder, DamagedFileError, "changed while it was read")


def test_a_link_as_a_file(tmp_path):
    folder = record(tmp_path / "r")
    (folder / f"{NAME}.json").rename(tmp_path / "elsewhere.json")
    (folder / f"{NAME}.json").symlink_to(tmp_path / "elsewhere.json")
    refused(folder, UnsafeFileError, "symbolic link")


def test_it_is_not_written(tmp_path):
    with pytest.raises(UnknownNameError, match="can be written"):
        export(tmp_path, "maniskill", tmp_path / "out")
