"""`shopfloor data VERB`: each does what its Python call does, says so, and exits as promised."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest

from shopfloor.datasets.listing.overlays import write_overlay
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.writer import EpisodeWriter
from shopfloor.launch import cli

pytestmark = pytest.mark.core


def _load(path, name):
    """Import a file of the tests of the store, whose episodes are used here."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made = _load("datasets/conftest.py", "made_episodes")


@pytest.fixture
def write(tmp_path):
    """Write a dataset of the episodes of some seeds; every third seed, from 2 on, dropped its part."""

    def write(name, *seeds):
        writer = EpisodeWriter(tmp_path / name, made.DESCRIPTION)
        for seed in seeds:
            writer.write(made._episode(seed, 3), seed)
        return writer.path

    return write


def shop(*words):
    return cli.main(["data", *map(str, words)])


def document(capsys, *words, code=0):
    assert shop(*words, "--json") == code
    found = json.loads(capsys.readouterr().out)
    assert found["schema_version"] == 1
    return found


def seeds(path, **options):
    return [record.seed for record in Dataset(path, **options).records]


def test_merge_and_split(write, tmp_path, capsys):
    one, two = write("one", *range(6)), write("two", *range(5, 12))
    found = document(capsys, "merge", one, two, "--out", tmp_path / "all")
    assert (found["episodes"], found["duplicates"], len(found["proof"])) == (12, 1, 64)
    assert (
        shop("split", tmp_path / "all", "--out", tmp_path / "parts", "--shares", "a=0.5", "b=0.5")
        == 0
    )
    out = capsys.readouterr().out
    assert f"{tmp_path}/parts/a: 6 episodes\n" in out
    assert sorted(seeds(tmp_path / "parts/a") + seeds(tmp_path / "parts/b")) == list(range(12))
    assert shop("split", tmp_path / "all", "--out", tmp_path / "x", "--shares", "a") == 2
    assert "expected PART=SHARE" in capsys.readouterr().err
    assert (
        shop("split", tmp_path / "all", "--out", tmp_path / "x", "--shares", "a=0.5", "a=0.5") == 2
    )
    assert not (tmp_path / "x").exists()


def test_compact(write, tmp_path, capsys):
    data = write("data", *range(4))
    found = document(capsys, "compact", data, "--layout", "train", "--out", tmp_path / "flat")
    assert (found["episodes"], found["shards"]) == (4, 1)
    assert shop("compact", data) == 0
    assert re.search(r"4 episodes bundled into 1 shard,.*compared.*before", capsys.readouterr().out)
    assert [path.name for path in data.rglob("*.h5")] == ["shard-00000000.h5"]
    assert seeds(data) == seeds(tmp_path / "flat") == [0, 1, 2, 3]
    assert shop("compact", data) == 0
    assert capsys.readouterr().out == f"{data}: nothing to bundle\n"


def test_filter_makes_a_view_or_a_copy(write, tmp_path, capsys):
    data = write("data", *range(6))
    where = ["--where", "outcome == 'success'"]
    assert shop("filter", data, *where, "--view", tmp_path / "v.json") == 0
    assert f"4 of 6 episodes kept: the view {tmp_path}/v.json" in capsys.readouterr().out
    assert seeds(data, overlays=[tmp_path / "v.json"]) == [0, 1, 3, 4]
    found = document(
        capsys,
        "filter",
        data,
        "--where",
        "seed > 0",
        "--overlay",
        tmp_path / "v.json",
        "--out",
        tmp_path / "c",
    )
    assert (found["kept"], found["left_out"], seeds(tmp_path / "c")) == (3, 1, [1, 3, 4])
    assert shop("filter", data, *where) == 2
    assert "--out FOLDER" in capsys.readouterr().err


def test_a_deletion_says_how_to_take_it_back_and_that_works(write, capsys):
    data = write("data", *range(6))
    assert shop("delete", data, "--where", "reason == 'dropped'", "--reason", "slipped") == 0
    out = capsys.readouterr().out
    assert "2 episodes left out by overlays/overlay-00000001.json; no file was removed" in out
    assert seeds(data) == [0, 1, 3, 4]
    undo = next(line for line in out.splitlines() if "--undo" in line).partition("shopfloor ")[2]
    assert cli.main(shlex.split(undo)) == 0
    assert "2 episodes taken back" in capsys.readouterr().out
    assert seeds(data) == list(range(6))
    assert shop("delete", data, "--undo", "--where", "seed < 9") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_purge_removes_what_was_deleted(write, capsys):
    data = write("data", *range(4))
    assert shop("purge", data) == 0
    assert "nothing to remove" in capsys.readouterr().out
    one = Dataset(data).records[2].episode_id
    found = document(capsys, "delete", data, "--ids", one[:12])
    assert found["changed"] == 1
    assert shop("purge", data) == 0
    assert "1 episode removed for good" in capsys.readouterr().out
    assert len(list((data / "episodes").iterdir())) == 3
    assert shop("verify", data) == 0


def test_relabel(write, capsys):
    data = write("data", *range(3))
    assert (
        shop("relabel", data, "--where", "seed == 1", "--outcome", "failure", "--reason", "timeout")
        == 0
    )
    assert "1 episode relabelled by overlays/overlay-00000001.json" in capsys.readouterr().out
    assert Dataset(data).records[1].reason == "timeout"
    assert (
        document(capsys, "relabel", data, "--where", "seed == 1", "--reason", "timeout")["changed"]
        == 0
    )
    assert shop("relabel", data, "--where", "seed == 1") == 2


def test_verify_finds_a_flipped_byte_and_repair_sets_it_aside(write, capsys):
    data = write("data", *range(3))
    victim = sorted((data / "episodes").iterdir())[1]
    bits = bytearray(victim.read_bytes())
    bits[len(bits) // 2] ^= 1
    victim.write_bytes(bits)
    assert shop("verify", data) == 1
    assert str(victim) in capsys.readouterr().out.splitlines()
    assert document(capsys, "repair", data, "--dry-run")["manifest"] is None
    assert victim.exists()
    assert shop("repair", data) == 0
    out = capsys.readouterr().out
    assert f"set aside: episodes/{victim.name} -> damaged/episodes/{victim.name}" in out
    assert (
        "2 episodes whole; manifest-00000001.json lists them, 1 file set aside, 1 episode lost"
        in out
    )
    assert document(capsys, "verify", data)["sound"]


def test_export_and_import_round_trip(write, tmp_path, capsys):
    data = write("data", *range(3))
    found = document(
        capsys, "export", data, "--to", "lerobot", "--out", tmp_path / "le", "--pictures", "png"
    )
    assert (found["episodes"], found["steps"], found["actions"]) == (3, 9, "executed")
    assert shop("import", tmp_path / "le", "--from", "lerobot", "--out", tmp_path / "back") == 0
    assert "back: 3 episodes, 9 steps" in capsys.readouterr().out
    assert seeds(tmp_path / "back") == [0, 1, 2]
    assert shop("export", data, "--to", "lerobt", "--out", tmp_path / "x") == 2
    assert "lerobot" in capsys.readouterr().err


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two real episodes of poses."""
    folder = tmp_path_factory.mktemp("recorded") / "poses"
    assert cli.main(["collect", "Kitting", "--episodes", "2", "--out", str(folder), "--quiet"]) == 0
    return folder


def test_replay_and_deep_verification(recorded, tmp_path, capsys):
    capsys.readouterr()
    assert shop("replay", recorded) == 0
    out = capsys.readouterr().out
    assert out == (
        "2 episodes replayed: 2/2 (100.0 %) with the same states bit for bit, 2/2 (100.0 %) ended as recorded, "
        "2/2 (100.0 %) successes succeeded again\n"
    )
    assert (
        document(capsys, "replay", recorded, "--sample", "1", "--where", "seed == 1")["replayed"]
        == 1
    )
    assert shop("verify", recorded, "--deep", "--sample", "1") == 0
    assert "sound: 2 episodes, 1 of them replayed to the same states" in capsys.readouterr().out
    altered = EpisodeWriter(tmp_path / "altered", Dataset(recorded).description)
    episode = Dataset(recorded).read(0)
    altered.write(dataclasses.replace(episode, actions=-episode.actions), 0)
    assert shop("replay", altered.path, "--quiet") == 1
    line = r"differs: [0-9a-f]{64} \(shopfloor/Kitting-v0, seed 0\) from state 1 on\n"
    assert re.match(line, capsys.readouterr().out)
    assert document(capsys, "verify", altered.path)["sound"]
    assert shop("verify", altered.path, "--deep") == 1
    assert capsys.readouterr().out == f"{altered.path / Dataset(altered.path).records[0].file}\n"
    assert (
        document(capsys, "verify", altered.path, "--deep", code=1)["replays"]["states_equal"] == 0
    )


def test_render(recorded, tmp_path, capsys):
    assert (
        shop(
            "render",
            recorded,
            "--out",
            tmp_path / "r",
            "--cameras",
            "front",
            "--size",
            "16",
            "20",
            "--quiet",
        )
        == 0
    )
    assert "r: 2 episodes with " in capsys.readouterr().out
    assert Dataset(tmp_path / "r").read(0).observations["front"].shape[1:] == (16, 20, 3)
    assert shop("render", recorded, "--out", tmp_path / "x", "--cameras", "none") == 2
    assert "No camera is named" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.torch
def test_train_learns_by_an_overlay(recorded, tmp_path, capsys):
    one, two = Dataset(recorded).records
    capsys.readouterr()
    assert shop("filter", recorded, "--where", "seed == 0", "--view", tmp_path / "first.json") == 0
    heavy = write_overlay(
        tmp_path / "heavy.json", [{"op": "weight", "episode_id": one.episode_id, "weight": 3}]
    )
    light = write_overlay(
        tmp_path / "light.json", [{"op": "weight", "episode_id": two.episode_id, "weight": 0}]
    )

    def train(name, *overlays):
        capsys.readouterr()
        words = ["train", "--data", recorded, "--out", tmp_path / name, "--steps", "3", "--json"]
        assert (
            cli.main([*map(str, words), *(["--overlay", *map(str, overlays)] if overlays else [])])
            == 0
        )
        return json.loads(capsys.readouterr().out)

    every, first = train("every"), train("first", tmp_path / "first.json")
    assert (
        every["label_sources"]["own_success"] + every["label_sources"]["expert"]
        == one.steps + two.steps
    )
    assert sum(first["label_sources"].values()) == one.steps
    train("heavy", heavy)
    train("light", light)
    weights = {path.parent.name: path.read_bytes() for path in tmp_path.glob("*/model.safetensors")}
    assert weights["light"] == weights["first"]
    assert len(set(weights.values())) == 3
    command = ["train", "--data", str(recorded), "--out", str(tmp_path / "every"), "--steps", "3"]
    assert cli.main(command) == 0
    assert (
        cli.main([*command, "--overlay", str(heavy)]) == 2
    )  # another training than the one that is there
    assert cli.main([*command, "--overlay", str(tmp_path / "none.json")]) == 2
    assert "There is no overlay" in capsys.readouterr().err
