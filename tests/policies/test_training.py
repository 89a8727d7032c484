import dataclasses
import errno
import json
import shutil

import numpy as np
import pytest
import torch

from shopfloor.collectors.choice import CellChoice
from shopfloor.collectors.collect import collect
from shopfloor.core import DiskError, InvalidInputError, UnknownNameError
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.writer import EpisodeWriter
from shopfloor.envs.registry import make_cell
from shopfloor.policies import checkpoint
from shopfloor.policies.encoders import text
from shopfloor.policies.learners import data, scenes, training
from shopfloor.policies.learners.training import TrainConfig, train

CELL = "shopfloor/PickToTray-v0"
SCENES = dataclasses.asdict(CellChoice(CELL, cameras=("front", "wrist"), image_size=(96, 96)))


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "demonstrations"
    collect(cell=CELL, policy="expert", episodes=2, out=out, noise=0.2)
    return out


@pytest.fixture(scope="module")
def trained(demonstrations, tmp_path_factory):
    out = tmp_path_factory.mktemp("checkpoints") / "poses"
    losses = []
    train(
        TrainConfig((demonstrations,), out, steps=120),
        lambda _step, _steps, loss: losses.append(loss),
    )
    assert losses[-1] < 0.7 * losses[0]
    return out


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A camera policy trained for a moment on one demonstration and six scenes."""
    root = tmp_path_factory.mktemp("cameras")
    collect(cell=CELL, policy="expert", episodes=1, out=root / "data", cameras=("front", "wrist"))
    [payload] = scenes.scene_payloads(SCENES, 6, 10_000, root / "scenes")
    scenes.render_block(payload)
    config = TrainConfig(
        (root / "data",),
        root / "checkpoint",
        observations="cameras",
        steps=4,
        scenes=root / "scenes",
    )
    return train(config), root, config


def observation(cell, keys):
    full = {**cell.observe(), "object_names": cell.object_names}
    return {key: full[key] for key in keys}


def test_the_same_training_gives_the_same_bytes(demonstrations, trained, tmp_path):
    again = train(TrainConfig((demonstrations,), tmp_path / "again", steps=120))
    assert checkpoint.read(again).digest == checkpoint.read(trained).digest
    other = train(TrainConfig((demonstrations,), tmp_path / "other", steps=120, seed=1))
    assert checkpoint.read(other).digest != checkpoint.read(trained).digest


def test_a_finished_checkpoint_is_returned_and_another_one_is_not_overwritten(
    demonstrations, trained
):
    before = (trained / "model.safetensors").stat().st_mtime_ns
    assert train(TrainConfig((demonstrations,), trained, steps=120)) == trained
    assert (trained / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InvalidInputError, match="holds something else"):
        train(TrainConfig((demonstrations,), trained, steps=121))


def test_an_output_folder_with_other_files_is_left_alone(demonstrations, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="holds something else"):
        train(TrainConfig((demonstrations,), tmp_path, steps=1))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_card_and_configuration_say_what_it_is(trained):
    card = (trained / "card.md").read_text()
    assert "teacher distillation" in card
    config = checkpoint.read_card(trained)
    assert config["observations"] == "poses"
    assert config["label_sources"]["expert"] > 0
    assert config["parameters_total"] == config["parameters_active"] > 0
    assert not list(trained.parent.glob(".*tmp"))


def test_fine_tuning_starts_from_the_checkpoint(demonstrations, trained, tmp_path):
    tuned = checkpoint.read(
        train(TrainConfig((demonstrations,), tmp_path / "tuned", init=trained, steps=1))
    )
    start = checkpoint.read(trained)
    assert tuned.plan["init"] == start.digest
    assert np.allclose(tuned.network.feature_mean, start.network.feature_mean)
    with pytest.raises(InvalidInputError, match="cannot start from it"):
        train(TrainConfig((demonstrations,), tmp_path / "x", init=trained, observations="cameras"))


def test_only_episodes_collected_for_training_are_taken(tmp_path):
    collect(
        cell=CELL,
        policy="expert",
        episodes=1,
        out=tmp_path / "gate",
        seed=700_000,
        purpose="gate",
    )
    with pytest.raises(InvalidInputError, match="collected for 'gate'"):
        train(TrainConfig((tmp_path / "gate",), tmp_path / "out", steps=1))
    assert not (tmp_path / "out").exists()


def test_without_labels_only_successes_teach(demonstrations):
    episode = Dataset(demonstrations).read(0)
    unlabelled = dataclasses.replace(episode, label_valid=np.zeros(episode.steps, np.bool_))
    steps, chunks, valid = data._labelled(unlabelled, 3)
    assert len(steps) == episode.steps
    assert np.array_equal(chunks[:-2, 2], episode.actions[2:])
    assert valid[-1].tolist() == [1.0, 0.0, 0.0]
    failed = dataclasses.replace(unlabelled, outcome="failure", reason="timeout")
    assert len(data._labelled(failed, 3)[0]) == 0


def test_labels_come_before_what_was_executed(demonstrations):
    episode = Dataset(demonstrations).read(0)
    steps, chunks, _ = data._labelled(episode, 2)
    assert np.array_equal(chunks, episode.label_chunks[steps, :2])
    assert not np.array_equal(chunks[:, 0], episode.actions[steps])


def test_the_policy_acts_and_known_texts_need_no_encoder(trained, monkeypatch):
    monkeypatch.setattr(text, "embed", lambda _texts: pytest.fail("the encoder was asked"))
    policy = checkpoint.load_policy(CELL, str(trained))
    cell = make_cell(CELL, privileged=True)
    _, info = cell.reset(seed=600_000)
    policy.reset(600_000, info["instruction"])
    chunk = policy.act(observation(cell, policy.info.observation_keys))
    assert chunk.actions.shape == (2, 7)
    assert chunk.execute == 1
    cell.close()


def test_shuffled_instructions_are_another_policy(trained):
    plain = checkpoint.load_policy(CELL, str(trained))
    shuffled = checkpoint.load_policy(CELL, str(trained), shuffle_instructions=True)
    assert plain.info.digest != shuffled.info.digest
    heard = set()
    for seed in range(20):
        shuffled.reset(seed, "Put the red cube into the tray.")
        heard.add(shuffled._instruction.numpy().tobytes())
    assert len(heard) > 5


def test_a_camera_policy_sees_pictures_and_no_poses(seen):
    folder, _, _ = seen
    policy = checkpoint.load_policy(CELL, str(folder))
    assert policy.info.observation_keys == ("state", "front", "wrist")
    assert policy.info.image_size == (96, 96)
    cell = make_cell(CELL)
    _, info = cell.reset(seed=600_000)
    policy.reset(600_000, info["instruction"])
    assert policy.act(observation(cell, policy.info.observation_keys)).execute == 2
    sources = checkpoint.read_card(folder)["label_sources"]
    assert sources["scenes"] == 6
    cell.close()


def test_features_are_cached_once_per_episode(seen):
    _, root, config = seen
    [cached] = (root / "features").glob("*.safetensors")
    before = cached.stat().st_mtime_ns
    again = train(dataclasses.replace(config, out=root / "again"))
    assert cached.stat().st_mtime_ns == before
    assert checkpoint.read(again).digest == checkpoint.read(root / "checkpoint").digest
    cached.write_bytes(cached.read_bytes()[:100])  # cut short: made again
    third = train(dataclasses.replace(config, out=root / "third"))
    assert checkpoint.read(third).digest == checkpoint.read(again).digest


def test_pictures_that_were_not_recorded_are_asked_for(demonstrations, tmp_path):
    with pytest.raises(InvalidInputError, match="--cameras front,wrist"):
        train(TrainConfig((demonstrations,), tmp_path / "out", observations="cameras", steps=1))


def test_scene_blocks_repeat_and_damage_is_named(tmp_path):
    first, second = (scenes.scene_payloads(SCENES, 3, 10_000, tmp_path / name)[0] for name in "ab")
    paths = [scenes.render_block(payload)["path"] for payload in (first, second)]
    blocks = [open(path, "rb").read() for path in paths]  # noqa: SIM115, PTH123
    assert blocks[0] == blocks[1]
    with open(paths[0], "wb") as file:  # noqa: PTH123
        file.write(blocks[0][:-50])
    with pytest.raises(InvalidInputError, match="delete it and run again"):
        scenes.read_block(tmp_path / "a" / paths[0].split("/")[-1])


def test_payloads_cover_every_scene_once(tmp_path):
    payloads = scenes.scene_payloads(SCENES, 250, 10_000, tmp_path)
    seeds = [seed for job in payloads for seed in range(job["first"], job["first"] + job["count"])]
    assert seeds == list(range(10_000, 10_250))


def test_a_checkpoint_of_another_cell_is_refused(trained):
    with pytest.raises(
        InvalidInputError, match=r"trained for shopfloor/PickToTray-v0; it cannot act in"
    ):
        checkpoint.load_policy("shopfloor/Kitting-v0", str(trained))


@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
def test_a_truncated_model_is_refused(trained, tmp_path, keep):
    copy = shutil.copytree(trained, tmp_path / "copy")
    model = copy / "model.safetensors"
    model.write_bytes(model.read_bytes()[:keep])
    with pytest.raises(InvalidInputError, match="corrupt or truncated"):
        checkpoint.load_policy(CELL, str(copy))


def test_a_flipped_bit_of_the_model_is_refused(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "copy")
    model = bytearray((copy / "model.safetensors").read_bytes())
    model[-1000] ^= 1  # still a whole file of finite weights
    (copy / "model.safetensors").write_bytes(model)
    with pytest.raises(InvalidInputError, match="corrupt or truncated"):
        checkpoint.load_policy(CELL, str(copy))
    (copy / "card.md").unlink()
    checkpoint.load_policy(CELL, str(copy))  # without a card nothing says which bytes it had


def test_a_disk_error_leaves_nothing_behind(trained, tmp_path, monkeypatch):
    def fail(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", fail)
    with pytest.raises(DiskError, match=r"out failed: No space left on device.*Free some space"):
        checkpoint.write(tmp_path / "out", checkpoint.read(trained))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "has format 99"),
        ({"action_convention": "joint_v1"}, "joint_v1"),
        ({"network": {"cells": ["x"]}}, "corrupt or truncated"),
        ({"texts": ["one"]}, "corrupt or truncated"),
    ],
)
def test_a_changed_configuration_is_refused(trained, tmp_path, change, message):
    copy = shutil.copytree(trained, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InvalidInputError, match=message):
        checkpoint.load_policy(CELL, str(copy))


def test_not_a_checkpoint(tmp_path):
    with pytest.raises(InvalidInputError, match="is not a checkpoint"):
        checkpoint.read(tmp_path)


@pytest.mark.parametrize("options", [{"head": "regresion"}, {"observations": "pose"}])
def test_unknown_choices_suggest_the_nearest(tmp_path, options):
    with pytest.raises(UnknownNameError, match="Did you mean"):
        TrainConfig((tmp_path,), tmp_path, **options)


@pytest.mark.parametrize("options", [{"head": "flow"}, {"experts": 4}])
def test_other_heads_train_too(demonstrations, tmp_path, options):
    losses = []
    out = train(
        TrainConfig((demonstrations,), tmp_path / "out", steps=100, **options),
        lambda *p: losses.append(p[2]),
    )
    assert losses[-1] < losses[0]
    assert checkpoint.load_policy(CELL, str(out)).info.name.endswith(
        options.get("head", "regression")
    )


def test_rows_are_drawn_as_often_as_they_weigh():
    generator = torch.Generator().manual_seed(0)
    drawn = training.draw(torch.tensor([1.0, 0.0, 3.0, 0.0], dtype=torch.float64), 4000, generator)
    counts = torch.bincount(drawn, minlength=4).tolist()
    assert counts[1] == counts[3] == 0
    assert 2850 < counts[2] < 3150
    plain = torch.randint(5, (64,), generator=torch.Generator().manual_seed(7))
    even = training.draw(
        torch.full((5,), 0.5, dtype=torch.float64), 64, torch.Generator().manual_seed(7)
    )
    assert torch.equal(plain, even)  # equal weights change nothing


def test_what_means_something_else_is_refused(demonstrations, tmp_path):
    source = Dataset(demonstrations)
    EpisodeWriter(tmp_path / "joints", {**source.description, "action_convention": "joints_v1"})
    with pytest.raises(InvalidInputError, match="mean 'joints_v1'"):
        train(TrainConfig((tmp_path / "joints",), tmp_path / "out", steps=1))
    plain = {key: value for key, value in source.description.items() if key != "vocabulary"}
    EpisodeWriter(tmp_path / "plain", plain)
    with pytest.raises(InvalidInputError, match="does not say which parts"):
        train(TrainConfig((tmp_path / "plain",), tmp_path / "out", steps=1))
