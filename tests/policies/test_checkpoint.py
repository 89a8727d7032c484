"""Checkpoints: what is written is what is read, what is damaged or foreign is refused, and how one acts."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from shopfloor.core import DiskError, InvalidInputError, seed_stream
from shopfloor.policies import checkpoint
from shopfloor.policies.encoders import text, vision

CELL = "toy/Reach-v0"


@pytest.fixture
def folder(make_point, tmp_path):
    return checkpoint.write(tmp_path / "point", make_point(head="flow"))


def change_config(folder, **changes):
    """Change entries of `config.json` and drop the card, which would report any change."""
    (folder / "card.md").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def change_tensors(folder, **changes):
    (folder / "card.md").unlink(missing_ok=True)
    tensors = load((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").write_bytes(save({**tensors, **changes}))


def act(policy, observation, seed=1, instruction="Put the red cube into the tray."):
    policy.reset(seed, instruction)
    return policy.act(observation)


# --------------------------------------------------------------------------------------------------
# Writing and reading
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"head": "flow", "experts": 4, "horizon": 3},
        {"views": ("front", "wrist"), "map_rows": 2, "map_columns": 3},
        {"cells": (CELL, "toy/Other-v0"), "width": 32, "blocks": 1},
    ],
)
def test_everything_survives_a_round_trip(make_point, tmp_path, shape):
    point = make_point(**shape)
    again = checkpoint.read(checkpoint.write(tmp_path / "point", point))

    assert again.network.config == point.network.config
    for name, value in point.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value), name
    assert not again.network.training

    assert torch.equal(again.embeddings, point.embeddings)
    for field in ("texts", "instructions", "execute", "image_size", "label_sources", "plan"):
        assert getattr(again, field) == getattr(point, field), field


def test_equal_checkpoints_have_equal_bytes_and_others_other_digests(make_point, tmp_path):
    digests = []
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        folder = checkpoint.write(tmp_path / name, make_point(seed))
        digests.append(checkpoint.read(folder).digest)

    assert digests[0] == digests[1] != digests[2]
    for name in ("model.safetensors", "config.json", "card.md"):
        one, same = (tmp_path / folder / name for folder in ("one", "same"))
        assert one.read_bytes() == same.read_bytes()


def test_the_digest_is_that_of_the_two_files(folder):
    data = (folder / "model.safetensors").read_bytes() + (folder / "config.json").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    assert checkpoint.read(folder).digest == checkpoint.read_card(folder)["digest"] == digest
    assert f"`{digest}`" in (folder / "card.md").read_text()


@pytest.mark.parametrize(
    ("shape", "lines"),
    [
        (
            {},
            ["# shopfloor policy for toy/Reach-v0", "Acts from: object poses", "regression, dense"],
        ),
        ({"head": "flow", "experts": 4}, ["Head: flow, 4 experts, top 2;"]),
        ({"views": ("front", "wrist")}, ["Acts from: cameras front, wrist,", "EfficientNet-lite0"]),
    ],
)
def test_the_card_describes_the_policy(make_point, tmp_path, shape, lines):
    point = make_point(**shape)
    card = (checkpoint.write(tmp_path / "point", point) / "card.md").read_text()
    for line in [*lines, "all-MiniLM-L6-v2", "- 12 decisions labelled by", "- 3 decisions from"]:
        assert line in card

    total, active = point.network.parameter_counts()
    assert f"{total:,} trainable parameters, {active:,} active" in card
    assert ("EfficientNet-lite0" in card) == bool(point.network.config.views)


def test_the_configuration_can_be_read_without_the_network(folder):
    config = checkpoint.read_card(folder)
    assert config["cells"] == [CELL]
    assert config["observations"] == "poses"
    assert config["parameters_total"] == config["parameters_active"] > 0
    assert [len(files) for files in config["encoders"].values()] == [2]


def test_a_written_checkpoint_is_never_replaced(make_point, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DiskError, match="point"):
        checkpoint.write(folder, make_point(seed=1))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["point"]


def test_a_disk_error_leaves_nothing_behind(make_point, tmp_path, monkeypatch):
    def fail(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", fail)
    with pytest.raises(DiskError, match=r"out failed: No space left on device.*Free some space"):
        checkpoint.write(tmp_path / "out", make_point())
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------------------------
# Is it there already?
# --------------------------------------------------------------------------------------------------


def test_a_finished_checkpoint_is_known_by_shape_plan_and_chunk(make_point, folder, tmp_path):
    point = make_point(head="flow")
    shape = point.network.config
    assert checkpoint.is_finished(folder, shape, point.plan, point.execute)
    assert not checkpoint.is_finished(tmp_path / "nothing", shape, point.plan, point.execute)

    other_shape = make_point().network.config
    for wanted in (
        (other_shape, point.plan, 1),
        (shape, {**point.plan, "steps": 6}, 1),
        (shape, point.plan, 2),
    ):
        with pytest.raises(InvalidInputError, match="holds something else"):
            checkpoint.is_finished(folder, *wanted)


@pytest.mark.parametrize("entry", ["network", "plan", "execute"])
def test_a_configuration_without_an_entry_is_something_else(make_point, folder, entry):
    point = make_point(head="flow")
    config = json.loads((folder / "config.json").read_text())
    del config[entry]
    (folder / "card.md").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidInputError, match="holds something else"):
        checkpoint.is_finished(folder, point.network.config, point.plan, point.execute)


def test_a_folder_of_other_files_is_something_else(make_point, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="choose another --out"):
        checkpoint.is_finished(tmp_path, make_point().network.config, {}, 1)


# --------------------------------------------------------------------------------------------------
# Refusals
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", None])
def test_what_lacks_a_file_is_no_checkpoint(folder, name):
    if name is None:
        shutil.rmtree(folder)
    else:
        (folder / name).unlink()
    with pytest.raises(InvalidInputError, match="is not a checkpoint: expected a folder with"):
        checkpoint.read(folder)


@pytest.mark.parametrize("card", [True, False])
@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
def test_a_truncated_model_is_refused(folder, keep, card):
    model = folder / "model.safetensors"
    model.write_bytes(model.read_bytes()[:keep])
    if not card:
        (folder / "card.md").unlink()
    with pytest.raises(InvalidInputError, match="corrupt or truncated"):
        checkpoint.load_policy(CELL, str(folder))


def test_a_flipped_bit_is_refused_where_a_card_records_the_digest(folder):
    model = bytearray((folder / "model.safetensors").read_bytes())
    model[-1000] ^= 1  # still a whole file of finite weights
    (folder / "model.safetensors").write_bytes(model)
    with pytest.raises(InvalidInputError, match=r"its digest is \w{16}, card\.md records \w{16}"):
        checkpoint.load_policy(CELL, str(folder))

    (folder / "card.md").write_text("A card written by hand, without a digest.")
    checkpoint.load_policy(CELL, str(folder))


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"cells": []}', "[" * 100_000, "\ufeff{}"])
def test_a_configuration_that_is_no_json_object_with_a_format_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(InvalidInputError, match=r"config\.json is corrupt \(.*train again"):
        checkpoint.read(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2; this version of shopfloor reads 1"),
        ({"format": "1"}, "has format 1"),
        ({"action_convention": "joint_v1"}, "uses action convention 'joint_v1'"),
        ({"action_convention": None}, "uses action convention None"),
        ({"network": {"cells": ["x"]}}, "corrupt or truncated"),
        ({"network": {"cells": ["x"], "names": [], "goals": [], "arms": 2}}, "'arms'"),
        ({"network": None}, "corrupt or truncated"),
        ({"texts": ["one"]}, r"its text table has shape \(5, 384\); expected \(1, 384\)"),
        ({"execute": "often"}, "corrupt or truncated"),
    ],
)
def test_a_changed_configuration_is_refused(folder, change, message):
    change_config(folder, **change)
    with pytest.raises(InvalidInputError, match=message):
        checkpoint.load_policy(CELL, str(folder))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", ["text_embeddings", "feature_mean", "trunk.enter.weight"])
def test_values_that_are_not_finite_are_refused(folder, name, bad):
    stored = load((folder / "model.safetensors").read_bytes())[name]
    stored.view(-1)[-1] = bad
    change_tensors(folder, **{name: stored})
    with pytest.raises(InvalidInputError, match=f"{name} holds values that are not finite"):
        checkpoint.read(folder)


def test_tensors_of_another_network_are_refused(folder):
    change_tensors(folder, surplus=torch.zeros(1))
    with pytest.raises(InvalidInputError, match="corrupt or truncated"):
        checkpoint.read(folder)


def test_an_error_without_a_text_is_reported_by_its_kind(folder, monkeypatch):
    def fail(_data):
        raise MemoryError

    monkeypatch.setattr(checkpoint, "load_tensors", fail)
    with pytest.raises(InvalidInputError, match=r"corrupt or truncated \(MemoryError\)"):
        checkpoint.read(folder)


@pytest.mark.parametrize(
    ("limit", "name"), [("CONFIG_LIMIT", "config.json"), ("SIZE_LIMIT", "model.safetensors")]
)
def test_a_file_that_is_too_large_is_refused_before_it_is_read(folder, monkeypatch, limit, name):
    monkeypatch.setattr(checkpoint, limit, 100)
    with pytest.raises(InvalidInputError, match=rf"{name} has \d+ bytes; expected at most 100"):
        checkpoint.read(folder)


def test_a_checkpoint_of_another_cell_is_refused(folder):
    with pytest.raises(
        InvalidInputError, match=r"trained for toy/Reach-v0; it cannot act in toy/X"
    ):
        checkpoint.load_policy("toy/X-v0", str(folder))


# --------------------------------------------------------------------------------------------------
# Acting
# --------------------------------------------------------------------------------------------------


def test_info_is_what_a_caller_must_know(make_point, folder, tmp_path):
    info = checkpoint.load_policy(CELL, str(folder)).info
    assert info.name == "poses-flow"
    assert info.digest == checkpoint.read(folder).digest
    assert info.cells == (CELL,)
    assert info.observation_keys == ("state", "objects", "object_names")
    assert info.action_convention == "ee_delta_base_v1"
    assert info.image_size is None
    assert not info.expert

    seeing = make_point(views=("front",), map_rows=2, map_columns=2)
    info = checkpoint.TrainedPolicy(seeing, CELL).info
    assert (info.name, info.observation_keys) == ("cameras-regression", ("state", "front"))
    assert info.image_size == (16, 16)


@pytest.mark.parametrize(
    "shape",
    [
        {"head": "flow", "horizon": 4},
        {"experts": 4},
        {"views": ("front",), "map_rows": 2, "map_columns": 2},
    ],
)
def test_the_answer_is_a_chunk_of_actions(make_point, make_episode, observe, shape):
    point = make_point(**shape)
    policy = checkpoint.TrainedPolicy(point, CELL)
    chunk = act(policy, observe(make_episode(), 2, policy.info.observation_keys))
    assert chunk.actions.shape == (point.network.config.horizon, 7)
    assert chunk.actions.dtype == np.float32
    assert np.abs(chunk.actions).max() <= 1.0
    assert set(chunk.actions[:, 6].tolist()) <= {-1.0, 1.0}


@pytest.mark.parametrize(("execute", "ran"), [(1, 1), (3, 3), (9, 4)])
def test_no_more_actions_run_than_a_chunk_has(make_point, make_episode, observe, execute, ran):
    point = make_point(horizon=4)
    point.execute = execute
    policy = checkpoint.TrainedPolicy(point, CELL)
    assert act(policy, observe(make_episode())).execute == ran


def test_seeds_decide_the_noise_of_the_flow_head_alone(make_point, make_episode, observe):
    observation = observe(make_episode())
    flow = checkpoint.TrainedPolicy(make_point(head="flow"), CELL)
    first, again, other = (act(flow, observation, seed).actions for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(act(flow, observation, 3).actions, flow.act(observation).actions)

    plain = checkpoint.TrainedPolicy(make_point(), CELL)
    assert np.array_equal(act(plain, observation, 3).actions, act(plain, observation, 4).actions)


def test_the_noise_is_that_of_the_policys_own_stream(make_point, make_episode, observe):
    """An episode's seed gives the cell, the policy, the noise and the teacher a stream each."""
    point = make_point(head="flow")
    policy = checkpoint.TrainedPolicy(point, CELL)
    drawn = []
    act_of_network = point.network.act

    def act_and_note(context, generator):
        drawn.append(generator.initial_seed())
        return act_of_network(context, generator)

    point.network.act = act_and_note
    act(policy, observe(make_episode()), seed=3)
    assert drawn == [int(seed_stream(3, "policy").integers(2**62))]


def test_reading_and_acting_leave_the_global_generator_alone(folder, make_episode, observe):
    before = torch.random.get_rng_state().clone()
    act(checkpoint.load_policy(CELL, str(folder)), observe(make_episode()))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_instruction_decides_which_part_is_meant(make_point, make_episode, observe):
    observation = observe(make_episode())
    policy = checkpoint.TrainedPolicy(make_point(), CELL)
    red = act(policy, observation, instruction="Put the red cube into the tray.")
    blue = act(policy, observation, instruction="Put the blue bar into the tray.")
    assert not np.array_equal(red.actions, blue.actions)


def test_known_texts_need_no_encoder_and_a_new_one_is_embedded_once(
    make_point, make_episode, observe, monkeypatch
):
    asked = []

    def embed(texts):
        asked.extend(texts)
        return torch.ones(len(texts), text.TEXT_WIDTH)

    monkeypatch.setattr(checkpoint.text, "embed", embed)
    policy = checkpoint.TrainedPolicy(make_point(), CELL)
    act(policy, observe(make_episode()))
    assert asked == []
    for seed in range(3):
        act(policy, observe(make_episode()), seed, "Fetch the cube.")
    assert asked == ["Fetch the cube."]


def test_shuffled_instructions_are_another_policy_that_does_not_listen(
    make_point, make_episode, observe
):
    point = make_point()
    point.digest = "0" * 64
    observation = observe(make_episode())
    plain = checkpoint.TrainedPolicy(point, CELL)
    shuffled = checkpoint.TrainedPolicy(point, CELL, shuffle_instructions=True)
    assert plain.info.digest == point.digest != shuffled.info.digest

    known = {act(plain, observation, 0, words).actions.tobytes() for words in point.instructions}
    answers = {act(shuffled, observation, seed).actions.tobytes() for seed in range(12)}
    assert len(known) == 2
    assert answers == known
    heard = act(shuffled, observation, 5, "Put the red cube into the tray.")
    other = act(shuffled, observation, 5, "Put the blue bar into the tray.")
    assert np.array_equal(heard.actions, other.actions)


def test_objects_may_come_in_any_order_and_number(make_point, make_episode, observe):
    policy = checkpoint.TrainedPolicy(make_point(), CELL)
    observation = observe(make_episode())
    order = np.array([2, 0, 1])
    names = [observation["object_names"][row] for row in order]
    shuffled = {**observation, "objects": observation["objects"][order], "object_names": names}
    padded = np.concatenate([observation["objects"], np.zeros((2, 12), np.float32)])

    actions = act(policy, observation).actions
    assert np.allclose(act(policy, shuffled).actions, actions, atol=1e-5)
    assert np.allclose(act(policy, {**observation, "objects": padded}).actions, actions, atol=1e-5)


def test_objects_of_another_width_are_refused(make_point, make_episode, observe):
    observation = observe(make_episode())
    observation["objects"] = observation["objects"][:, :11]
    with pytest.raises(InvalidInputError, match="`objects` has 11 columns; expected 12"):
        act(checkpoint.TrainedPolicy(make_point(), CELL), observation)


def test_a_camera_policy_looks_at_its_own_view(make_point, make_episode, observe, monkeypatch):
    looked = []
    encode = vision.encode
    monkeypatch.setattr(
        checkpoint.vision, "encode", lambda images: looked.append(images) or encode(images)
    )
    point = make_point(views=("front",), map_rows=2, map_columns=2)
    policy = checkpoint.TrainedPolicy(point, CELL)
    episode = make_episode()
    observation = observe(episode, 1, ("state", "front"))
    dark = {**observation, "front": np.zeros_like(observation["front"])}

    answers = [act(policy, observation), act(policy, dark)]
    assert np.array_equal(looked[0][0], episode.observations["front"][1])
    assert not np.array_equal(answers[0].actions, answers[1].actions)


def test_the_cell_decides_which_learnt_vector_is_used(make_point, make_episode, observe):
    point = make_point(cells=(CELL, "toy/Other-v0"))
    observation = observe(make_episode())
    answers = [
        act(checkpoint.TrainedPolicy(point, cell), observation).actions
        for cell in point.network.config.cells
    ]
    assert not np.array_equal(*answers)
