"""Training: what it learns, that it repeats to the byte, what it refuses, and its losses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from shopfloor.collectors.choice import CellChoice
from shopfloor.collectors.collect import collect
from shopfloor.core import InvalidInputError
from shopfloor.datasets.listing.overlays import write_overlay
from shopfloor.datasets.reader import Dataset
from shopfloor.envs.registry import make_cell
from shopfloor.policies import checkpoint
from shopfloor.policies.learners import scenes, training
from shopfloor.policies.learners.training import TrainConfig, train
from shopfloor.policies.networks.features import measured_slots, read_tool
from shopfloor.policies.networks.network import Inputs, NetworkConfig, PolicyNetwork, Seen

TOY = "toy/Reach-v0"
CELL = "shopfloor/PickToTray-v0"
STEPS = 60


@pytest.fixture(scope="module")
def demonstrations(make_dataset, make_episode, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "demonstrations"
    return make_dataset(folder, [make_episode(seed) for seed in range(12)])


@pytest.fixture(scope="module")
def trained(demonstrations, tmp_path_factory):
    """A policy of the toy arm, and the losses that were reported on the way."""
    out = tmp_path_factory.mktemp("checkpoints") / "poses"
    reports = []
    train(TrainConfig((demonstrations,), out, steps=STEPS), lambda *report: reports.append(report))
    return out, reports


@pytest.fixture
def quick(monkeypatch):
    """Let trainings fit the choice of names for a moment only, where it does not matter."""
    monkeypatch.setattr(training, "GROUNDING_STEPS", 3)


def small(data, out, **options):
    """Train for three steps."""
    return checkpoint.read(train(TrainConfig((data,), out, **{"steps": 3, **options})))


# --------------------------------------------------------------------------------------------------
# Learning
# --------------------------------------------------------------------------------------------------


def final_loss(config):
    reports = []
    train(config, lambda *report: reports.append(report))
    assert reports[-1][:2] == (config.steps, config.steps)
    return reports[-1][2]


def test_the_loss_falls_and_progress_is_reported(trained, demonstrations, tmp_path):
    first = final_loss(TrainConfig((demonstrations,), tmp_path / "first", steps=1))
    _, reports = trained
    assert [report[:2] for report in reports] == [(50, STEPS), (STEPS, STEPS)]
    assert reports[-1][2] < 0.5 * first


def test_the_policy_moves_to_the_part_that_is_named(trained, make_episode, observe):
    """On episodes that were not trained on; a policy that ignores the words is right half the time."""
    policy = checkpoint.load_policy(TOY, str(trained[0]))
    agreement = []
    for seed in range(100, 112):
        episode = make_episode(seed)
        for step in (0, 2):
            policy.reset(seed, episode.instruction)
            found = policy.act(observe(episode, step)).actions[0, :3]
            wanted = episode.label_actions[step, :3]
            agreement.append(found @ wanted / (np.linalg.norm(found) * np.linalg.norm(wanted)))
    assert np.mean(agreement) > 0.85


@pytest.mark.parametrize("options", [{"head": "flow"}, {"experts": 4}])
def test_other_heads_learn_too(demonstrations, tmp_path, quick, options):
    config = TrainConfig((demonstrations,), tmp_path / "first", steps=1, batch=32, **options)
    longer = dataclasses.replace(config, out=tmp_path / "out", steps=40)
    assert final_loss(longer) < 0.8 * final_loss(config)
    head = options.get("head", "regression")
    assert checkpoint.load_policy(TOY, str(longer.out)).info.name == f"poses-{head}"


def test_what_is_written_is_the_running_average_of_finite_weights(trained):
    point = checkpoint.read(trained[0])
    for value in point.network.state_dict().values():
        assert value.isfinite().all()
    assert point.network.feature_deviation.min() >= np.float32(0.2)
    assert point.network.feature_mean.any()


# --------------------------------------------------------------------------------------------------
# Repeating, stopping, going on
# --------------------------------------------------------------------------------------------------


def test_the_same_training_gives_the_same_bytes(demonstrations, tmp_path, quick):
    one = small(demonstrations, tmp_path / "one", head="flow")
    torch.manual_seed(99)  # whatever the global generator is at
    same = small(demonstrations, tmp_path / "same", head="flow")
    other = small(demonstrations, tmp_path / "other", head="flow", seed=1)
    assert one.digest == same.digest != other.digest


def test_training_leaves_the_global_generator_alone(demonstrations, tmp_path, quick):
    before = torch.random.get_rng_state().clone()
    small(demonstrations, tmp_path / "out", head="flow")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_order_of_the_datasets_is_not_part_of_the_plan(
    demonstrations, make_dataset, make_episode, tmp_path, quick
):
    more = make_dataset(tmp_path / "more", [make_episode(50)])
    config = TrainConfig((demonstrations, more), tmp_path / "out", steps=1)
    train(config)
    assert train(dataclasses.replace(config, data=(more, demonstrations))) == config.out
    with pytest.raises(InvalidInputError, match="holds something else"):
        train(dataclasses.replace(config, data=(demonstrations,)))


def test_a_training_that_is_stopped_leaves_nothing_and_can_be_run_again(
    demonstrations, tmp_path, quick
):
    def stop(*_report):
        raise KeyboardInterrupt

    config = TrainConfig((demonstrations,), tmp_path / "out", steps=2)
    with pytest.raises(KeyboardInterrupt):
        train(config, stop)
    assert list(tmp_path.iterdir()) == []

    train(config)
    whole = small(demonstrations, tmp_path / "whole", steps=2)
    assert checkpoint.read(config.out).digest == whole.digest


def test_a_finished_training_is_returned_as_it_is(demonstrations, trained, monkeypatch):
    out, _ = trained
    monkeypatch.setattr(training, "load_table", lambda *_: pytest.fail("the data was read again"))
    assert train(TrainConfig((demonstrations,), out, steps=STEPS)) == out


@pytest.mark.parametrize(
    "change", [{"steps": STEPS + 1}, {"seed": 1}, {"batch": 8}, {"execute": 2}, {"head": "flow"}]
)
def test_another_training_does_not_overwrite_it(demonstrations, trained, change):
    out, _ = trained
    before = (out / "model.safetensors").read_bytes()
    config = dataclasses.replace(TrainConfig((demonstrations,), out, steps=STEPS), **change)
    with pytest.raises(InvalidInputError, match="holds something else"):
        train(config)
    assert (out / "model.safetensors").read_bytes() == before


def test_an_output_folder_with_other_files_is_left_alone(demonstrations, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="holds something else"):
        train(TrainConfig((demonstrations,), tmp_path, steps=1))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_overlays_change_is_part_of_the_plan(demonstrations, tmp_path, quick):
    """The operations count, not the name of the file that they stand in."""
    ids = [record.episode_id for record in Dataset(demonstrations).records]

    def view(name, **operation):
        return write_overlay(tmp_path / f"{name}.json", [{"op": "weight", **operation}])

    one = view("one", episode_id=ids[0], weight=3.0)
    same = view("same", episode_id=ids[0], weight=3.0)
    config = TrainConfig((demonstrations,), tmp_path / "out", steps=1, overlays=(one,))
    train(config)
    assert train(dataclasses.replace(config, overlays=(same,))) == config.out

    heavier = view("heavier", episode_id=ids[0], weight=4.0)
    another = view("another", episode_id=ids[1], weight=3.0)
    for overlays in ((), (heavier,), (another,), (one, another)):
        with pytest.raises(InvalidInputError, match="holds something else"):
            train(dataclasses.replace(config, overlays=overlays))


def test_an_overlay_that_changes_nothing_here_is_not_part_of_the_plan(
    demonstrations, tmp_path, quick
):
    elsewhere = write_overlay(
        tmp_path / "view.json", [{"op": "weight", "episode_id": "f" * 64, "weight": 3.0}]
    )
    config = TrainConfig((demonstrations,), tmp_path / "out", steps=1, overlays=(elsewhere,))
    train(config)
    assert train(dataclasses.replace(config, overlays=())) == config.out


# --------------------------------------------------------------------------------------------------
# What is made
# --------------------------------------------------------------------------------------------------


def test_the_checkpoint_records_what_was_trained_on(trained):
    point = checkpoint.read(trained[0])
    assert point.label_sources == {"expert": 48, "own_success": 0, "scenes": 0}
    assert point.instructions == (
        "Put the blue bar into the tray.",
        "Put the red cube into the tray.",
    )
    assert point.texts == (*point.instructions, "blue bar", "red cube", "tray")
    assert point.plan["steps"] == STEPS
    assert point.plan["init"] == ""
    assert (point.execute, point.image_size) == (1, None)
    assert "teacher distillation" in (trained[0] / "card.md").read_text()


def test_several_cells_get_a_vector_each_and_sparse_experts(
    demonstrations, make_dataset, make_description, make_episode, tmp_path, quick
):
    other = "toy/Other-v0"
    folder = make_dataset(
        tmp_path / "other", [make_episode(5, cell=other)], make_description(other)
    )
    config = TrainConfig((demonstrations, folder), tmp_path / "out", steps=1, execute=2)
    point = checkpoint.read(train(config))
    assert point.network.config.cells == (TOY, other)
    assert point.network.config.experts == 4
    assert point.network.cell_vector.num_embeddings == 2
    assert point.execute == 2
    assert checkpoint.load_policy(other, str(config.out)).info.cells == (TOY, other)


# --------------------------------------------------------------------------------------------------
# Fine-tuning
# --------------------------------------------------------------------------------------------------


def test_fine_tuning_starts_from_the_checkpoint(demonstrations, trained, tmp_path):
    start = checkpoint.read(trained[0])
    tuned = small(demonstrations, tmp_path / "tuned", init=trained[0], steps=1, head="flow")
    assert tuned.plan["init"] == start.digest
    assert tuned.network.config == start.network.config  # the head is the checkpoint's
    assert torch.equal(tuned.network.feature_mean, start.network.feature_mean)
    for one, other in zip(tuned.network.parameters(), start.network.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-3)
    assert tuned.digest != start.digest


def test_new_texts_are_added_behind_the_known_ones(
    trained, make_dataset, make_description, make_episode, tmp_path
):
    description = make_description(instruction_templates={"red cube": ["A red cube, please."]})
    folder = make_dataset(tmp_path / "data", [make_episode(1)], description)
    start = checkpoint.read(trained[0])
    tuned = small(folder, tmp_path / "tuned", init=trained[0], steps=1)
    assert tuned.texts == (*start.texts, "A red cube, please.")
    assert torch.equal(tuned.embeddings[: len(start.texts)], start.embeddings)


@pytest.mark.parametrize("first", [0, 1])
def test_fine_tuning_on_one_of_several_cells(
    demonstrations, make_dataset, make_description, make_episode, tmp_path, quick, first
):
    """Rows are numbered as the checkpoint numbers its cells and names, whatever the data has."""
    other = "toy/Other-v0"
    words = {"parts": ["red cube", "anvil"], "goals": ["tray"]}
    folders = [
        demonstrations,
        make_dataset(
            tmp_path / "other",
            [make_episode(5, cell=other)],
            make_description(other, vocabulary=words),
        ),
    ]
    both = train(TrainConfig(tuple(folders), tmp_path / "both", steps=2))
    start = checkpoint.read(both)
    assert start.network.config.names == ("anvil", "blue bar", "red cube", "tray")

    tuned = small(folders[first], tmp_path / "tuned", init=both)
    assert tuned.network.config == start.network.config
    change = (tuned.network.cell_vector.weight - start.network.cell_vector.weight).abs().sum(1)
    trained_on, left_alone = change[first], change[1 - first]
    assert trained_on > 10 * left_alone  # what is left is weight decay


def test_a_checkpoint_of_other_cells_or_eyes_is_no_start(
    demonstrations, trained, make_dataset, make_description, make_episode, tmp_path
):
    config = TrainConfig((demonstrations,), tmp_path / "x", init=trained[0], steps=1)
    with pytest.raises(InvalidInputError, match=r"acts from poses; --observations cameras cannot"):
        train(dataclasses.replace(config, observations="cameras"))

    other = "toy/Other-v0"
    folder = make_dataset(
        tmp_path / "other", [make_episode(5, cell=other)], make_description(other)
    )
    with pytest.raises(InvalidInputError, match=r"made for toy/Reach-v0; the data is of toy/Other"):
        train(dataclasses.replace(config, data=(folder,)))

    words = {"parts": ["red cube", "anvil"], "goals": ["tray"]}
    description = make_description(vocabulary=words)
    folder = make_dataset(tmp_path / "words", [make_episode(5)], description)
    with pytest.raises(InvalidInputError, match="Train without --init"):
        train(dataclasses.replace(config, data=(folder,)))
    assert not config.out.exists()


# --------------------------------------------------------------------------------------------------
# Pictures
# --------------------------------------------------------------------------------------------------


def test_pictures_that_were_not_recorded_are_asked_for(demonstrations, tmp_path):
    with pytest.raises(InvalidInputError, match=r"no pictures of camera wrist.*--cameras front"):
        train(TrainConfig((demonstrations,), tmp_path / "out", observations="cameras", steps=1))


@pytest.fixture
def larger(make_dataset, make_description, make_episode, tmp_path):
    """A dataset whose pictures have 24 x 32 pixels."""
    description = make_description()
    description["features"]["front"] = {"shape": [24, 32, 3], "dtype": "uint8"}
    episode = make_episode(5)
    pictures = np.zeros((episode.steps + 1, 24, 32, 3), np.uint8)
    observations = {**episode.observations, "front": pictures}
    episode = dataclasses.replace(episode, observations=observations)
    return make_dataset(tmp_path / "larger", [episode], description)


def test_pictures_of_two_sizes_are_refused_before_training(demonstrations, larger, tmp_path, quick):
    config = TrainConfig(
        (demonstrations, larger),
        tmp_path / "out",
        observations="cameras",
        views=("front",),
        steps=1,
    )
    with pytest.raises(
        InvalidInputError, match=r"larger .*\(24, 32\) pixels; the policy sees \(16,"
    ):
        train(config)
    assert not (tmp_path / "features").exists()

    start = train(dataclasses.replace(config, data=(larger,)))
    with pytest.raises(InvalidInputError, match=r"\(16, 16\) pixels; the policy sees \(24, 32\)"):
        train(
            TrainConfig((demonstrations,), tmp_path / "tuned", init=start, steps=1),
        )


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A camera policy of a real cell, trained for a moment on one demonstration and four scenes."""
    root = tmp_path_factory.mktemp("cameras")
    choice = CellChoice(CELL, cameras=("front", "wrist"), image_size=(32, 32))
    collect(cell=choice, policy="expert", episodes=1, out=root / "data")
    [payload] = scenes.scene_payloads(dataclasses.asdict(choice), 4, 10_000, root / "scenes")
    scenes.render_block(payload)
    config = TrainConfig(
        (root / "data",),
        root / "checkpoint",
        observations="cameras",
        steps=3,
        scenes=root / "scenes",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "GROUNDING_STEPS", 3)
        return train(config), root, config


def test_a_camera_policy_of_a_cell_acts_there(seen):
    folder, _, _ = seen
    policy = checkpoint.load_policy(CELL, str(folder))
    assert policy.info.observation_keys == ("state", "front", "wrist")
    assert policy.info.image_size == (32, 32)
    cell = make_cell(CELL, cameras=("front", "wrist"), image_size=(32, 32))
    _, info = cell.reset(seed=600_000)
    policy.reset(600_000, info["instruction"])
    shown = cell.observe()
    chunk = policy.act({key: shown[key] for key in policy.info.observation_keys})
    assert chunk.actions.shape == (2, 7)
    assert chunk.execute == 2
    assert checkpoint.read_card(folder)["label_sources"]["scenes"] == 4
    cell.close()


def test_slots_start_at_the_mean_place_of_each_name(seen):
    network = checkpoint.read(seen[0]).network
    centers = dict(zip(network.config.names, network.eyes.center, strict=True))
    assert 0.2 < float(centers["tray"][:2].norm()) < 1.0  # on the table before the robot
    assert float(network.eyes.size.min()) > 0.0


def test_features_are_cached_once_per_episode(seen, quick):
    folder, root, config = seen
    [cached] = (root / "features").glob("*.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes.vision, "encode", lambda _: pytest.fail("encoded again"))
        again = train(dataclasses.replace(config, out=root / "again"))
    assert checkpoint.read(again).digest == checkpoint.read(folder).digest

    cached.write_bytes(cached.read_bytes()[:100])  # cut short: made again
    third = train(dataclasses.replace(config, out=root / "third"))
    assert checkpoint.read(third).digest == checkpoint.read(folder).digest


# --------------------------------------------------------------------------------------------------
# Draws and losses
# --------------------------------------------------------------------------------------------------


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


def test_a_row_without_weight_is_never_drawn_however_draws_are_rounded(monkeypatch):
    monkeypatch.setattr(training.torch, "rand", lambda *_, **__: torch.ones(3, dtype=torch.float64))
    weight = torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64)
    assert training.draw(weight, 3, torch.Generator()).tolist() == [1, 1, 1]


@pytest.fixture
def flow():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PolicyNetwork(NetworkConfig((TOY,), ("cube", "tray"), ("tray",), head="flow"))


def flow_loss(network, context, target, valid, seed=0):
    return training.flow_loss(network, context, target, valid, torch.Generator().manual_seed(seed))


def test_the_right_velocity_has_no_flow_loss(flow, monkeypatch):
    """On a straight path the velocity is what is left to go, over the time that is left."""
    target = torch.rand(4, 2, 7) * 2 - 1
    target[..., 6] = target[..., 6].sign()

    def velocity(_context, noisy, time):
        return (target.flatten(1) - noisy) / (1.0 - time[:, None])

    monkeypatch.setattr(flow, "velocity", velocity)
    loss = flow_loss(flow, torch.zeros(4, 1), target, torch.ones(4, 2))
    assert float(loss) == pytest.approx(0.0, abs=1e-6)


def test_flow_loss_counts_valid_actions_and_the_sign_of_the_gripper(flow):
    context = torch.randn(4, flow.trunk.enter.in_features - 14 - 16)
    target, valid = torch.rand(4, 2, 7), torch.ones(4, 2)
    valid[:, 1] = 0.0
    loss = flow_loss(flow, context, target, valid)

    changed = target.clone()
    changed[..., 6] = 0.01  # closed a little is closed
    assert torch.equal(flow_loss(flow, context, changed, valid), loss)
    assert not torch.equal(flow_loss(flow, context, target, valid, seed=1), loss)
    assert not flow_loss(flow, context, target, torch.zeros(4, 2)).any()


def looked_at(offset_m=0.0, log_spread=0.0, present=(1.0, 1.0)):
    """Return what was seen, `offset_m` beside the truth, with the inputs that hold the truth."""
    state = torch.zeros(1, 22)
    state[:, 7:10], state[:, 10] = torch.tensor([0.5, 0.0, 0.3]), 1.0
    objects = torch.zeros(1, 2, 12)
    objects[..., :3] = torch.tensor([[0.5, 0.1, 0.02], [0.6, -0.1, 0.02]])
    objects[..., 6] = 1.0
    objects[..., 10] = torch.tensor(present)
    inputs = Inputs(state, torch.zeros(1, 384), torch.zeros(1, 2, 384), torch.zeros(1), objects)

    tool = read_tool(state)
    truth = measured_slots(objects, tool)
    beside = truth.position + torch.tensor([offset_m, 0.0, 0.0])
    local = torch.einsum("bji,bnj->bni", tool.rotation, beside - tool.position[:, None])
    spread = torch.full((1, 2), log_spread)
    slots = dataclasses.replace(truth, position=beside)
    return Seen(slots, beside, spread, local, spread, torch.zeros(1, 256)), inputs


def test_pose_loss_is_least_at_the_truth_with_a_small_spread():
    assert float(training.pose_loss(*looked_at())) == pytest.approx(0.0, abs=1e-4)
    assert training.pose_loss(*looked_at(0.01)) > training.pose_loss(*looked_at(0.005)) > 0.0
    assert training.pose_loss(*looked_at(0.0, -2.0)) < training.pose_loss(*looked_at(0.0))


def test_a_large_error_is_cheaper_where_it_was_expected():
    sure, unsure = looked_at(0.2, -1.0), looked_at(0.2, 2.0)
    assert training.pose_loss(*unsure) < training.pose_loss(*sure)


def test_an_error_counts_more_near_the_tool():
    losses = []
    for wrong in (0, 1):
        seen, inputs = looked_at()
        inputs.state[:, 7:10] = torch.tensor([0.5, 0.1, 0.07])  # 50 mm from the first part
        moved = looked_at()[0].slots.position
        moved[:, wrong] += 0.1
        slots = dataclasses.replace(seen.slots, position=moved)
        # Both estimates of positions are the same in the two cases, only the fused one differs.
        losses.append(training.pose_loss(dataclasses.replace(seen, slots=slots), inputs))
        right = dataclasses.replace(seen, slots=looked_at()[0].slots)
        losses[-1] -= training.pose_loss(right, inputs)
    near, far = map(float, losses)
    assert 2.0 < near / far < 4.0


def test_absent_objects_have_no_pose_loss():
    seen, inputs = looked_at(present=(1.0, 0.0))
    seen.world[:, 1] += 1.0
    seen.slots.position[:, 1] += 1.0
    assert float(training.pose_loss(seen, inputs)) == pytest.approx(0.0, abs=1e-4)
    none, inputs = looked_at(0.1, present=(0.0, 0.0))
    assert float(training.pose_loss(none, inputs)) == 0.0
