"""The network: shapes, what its answer may depend on, sparse experts, heads, and gradients."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch.nn import functional

from shopfloor.policies.encoders.text import TEXT_WIDTH
from shopfloor.policies.networks.features import FEATURE_WIDTH, read_tool
from shopfloor.policies.networks.network import (
    Eyes,
    Grounding,
    Inputs,
    MixtureOfExperts,
    NetworkConfig,
    PolicyNetwork,
    Trunk,
)

NAMES = ("blue bar", "green cylinder", "red cube", "tray")
GOAL = 3


@pytest.fixture(autouse=True)
def seeded():
    """Initialise the layers of a test from one seed, and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def config(**changes):
    return NetworkConfig(
        **{"cells": ("shopfloor/PickToTray-v0",), "names": NAMES, "goals": ("tray",), **changes}
    )


def inputs(batch=3, views=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = torch.rand(batch, 22, generator=generator)
    state[:, 10:14] = functional.normalize(state[:, 10:14], dim=-1)
    objects = torch.rand(batch, 4, 12, generator=generator)
    objects[..., 3:7] = functional.normalize(objects[..., 3:7], dim=-1)
    objects[..., 10], objects[..., 11] = 1.0, 0.0
    objects[:, GOAL, 11] = 1.0
    text = functional.normalize(torch.randn(batch + 4, TEXT_WIDTH, generator=generator), dim=-1)
    maps = torch.randn(batch, views, 144, 40, generator=generator) if views else None
    cell = torch.zeros(batch, dtype=torch.int64)
    return Inputs(
        state,
        text[:batch],
        text[batch:].expand(batch, -1, -1),
        cell,
        None if views else objects,
        maps,
    )


def answer(network, batch, seed=0):
    context, _ = network.context(batch)
    return network.act(context, torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------------------------
# The whole network
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["regression", "flow"])
@pytest.mark.parametrize("views", [(), ("front", "wrist")])
@pytest.mark.parametrize("experts", [1, 4])
def test_every_combination_answers_within_the_action_space(head, views, experts):
    network = PolicyNetwork(config(head=head, views=views, experts=experts, horizon=3)).eval()
    context, seen = network.context(inputs(views=len(views)))
    chunk = network.act(context, torch.Generator().manual_seed(0))
    assert chunk.shape == (3, 3, 7)
    assert chunk.abs().max() <= 1.0
    assert set(chunk[..., 6].flatten().tolist()) <= {-1.0, 1.0}
    assert (seen is None) == (not views)
    total, active = network.parameter_counts()
    assert (total > active) == (experts > 1)


@pytest.mark.parametrize("action_size", [7, 9])
def test_large_motions_are_clipped_and_the_gripper_is_a_sign(action_size):
    network = PolicyNetwork(config(action_size=action_size)).eval()
    with torch.no_grad():
        network.trunk.leave[1].weight.mul_(100.0)
    chunk = answer(network, inputs(batch=20))
    assert chunk.shape == (20, 2, action_size)
    assert chunk.abs().max() == 1.0
    assert set(chunk[..., 6].flatten().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("views", [(), ("front", "wrist")])
def test_a_row_is_answered_as_if_it_were_alone(views):
    network = PolicyNetwork(config(views=views, experts=4)).eval()
    batch = inputs(batch=6, views=len(views))
    whole = network.context(batch)[0]
    for row in (0, 5):
        alone = dataclasses.replace(batch)
        for name, value in vars(batch).items():
            setattr(alone, name, None if value is None else value[row : row + 1])
        assert torch.allclose(network.context(alone)[0][0], whole[row], atol=1e-5)


def test_the_order_of_objects_does_not_matter():
    network = PolicyNetwork(config()).eval()
    batch = inputs()
    order = torch.tensor([2, 3, 0, 1])
    shuffled = Inputs(
        batch.state, batch.instruction, batch.names[:, order], batch.cell, batch.objects[:, order]
    )
    assert torch.allclose(network.context(batch)[0], network.context(shuffled)[0], atol=1e-5)


def test_absent_objects_change_nothing():
    network = PolicyNetwork(config()).eval()
    batch = inputs()
    gone = torch.zeros(3, 2, 12)
    gone[..., :3] = 0.7  # a place without an object
    more = Inputs(
        batch.state,
        batch.instruction,
        torch.cat([batch.names, batch.instruction[:, None].expand(-1, 2, -1)], 1),
        batch.cell,
        torch.cat([batch.objects, gone], 1),
    )
    assert torch.allclose(network.context(batch)[0], network.context(more)[0], atol=1e-5)


@pytest.mark.parametrize(("name", "row"), [("part", GOAL), ("goal", 0)])
def test_a_goal_is_never_the_part_nor_a_part_the_goal(name, row):
    """However well a name fits: with an instruction that is the name, the other kind stays out."""
    network = PolicyNetwork(config()).eval()
    batch = inputs()
    named = Inputs(
        batch.state, batch.names[:, row].clone(), batch.names, batch.cell, batch.objects.clone()
    )
    before = network.raw_features(named)[0]
    named.objects[:, row, 7:10] += 1.0  # the size shows in features wherever a slot is chosen
    change = (network.raw_features(named)[0] - before).abs().amax(0)
    sizes = {"part": change[48:51], "goal": change[51:54]}
    assert sizes[name].max() == 0.0
    other = {"part": "goal", "goal": "part"}[name]
    assert sizes[other].min() > 0.0


def test_the_flow_start_comes_from_the_generator_alone():
    network = PolicyNetwork(config(head="flow")).eval()
    assert torch.equal(answer(network, inputs(), 5), answer(network, inputs(), 5))
    assert not torch.equal(answer(network, inputs(), 5), answer(network, inputs(), 6))

    plain = PolicyNetwork(config()).eval()
    assert torch.equal(answer(plain, inputs(), 5), answer(plain, inputs(), 6))


def test_the_flow_head_follows_its_velocity(monkeypatch):
    """A velocity that points from the noise to one chunk ends there, whatever the noise was."""
    network = PolicyNetwork(config(head="flow")).eval()
    target = torch.linspace(-0.9, 0.9, 14)
    times = []

    def velocity(_context, noisy, time):
        times.append(float(time[0]))
        return (target - noisy) / (1.0 - time[:, None])

    monkeypatch.setattr(network, "velocity", velocity)
    chunk = network.act(torch.zeros(2, 1), torch.Generator().manual_seed(0))
    wanted = target.reshape(2, 7)
    assert torch.allclose(chunk[0, :, :6], wanted[:, :6], atol=1e-5)
    assert chunk[0, :, 6].tolist() == [-1.0, 1.0]
    assert times == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])


def test_velocity_depends_on_time_noise_and_context():
    network = PolicyNetwork(config(head="flow")).eval()
    context, _ = network.context(inputs())
    noisy, time = torch.zeros(3, 14), torch.full((3,), 0.3)
    base = network.velocity(context, noisy, time)
    assert base.shape == (3, 14)
    for other in (
        (context + 1, noisy, time),
        (context, noisy + 1, time),
        (context, noisy, time + 0.5),
    ):
        assert not torch.allclose(network.velocity(*other), base, atol=1e-4)


def test_features_are_normalised_and_clamped():
    network = PolicyNetwork(config()).eval()
    raw = network.raw_features(inputs())[0]
    network.feature_mean.copy_(raw[0])
    context, _ = network.context(inputs())
    assert context.shape == (3, FEATURE_WIDTH)
    assert not context[0].any()

    network.feature_deviation.fill_(1e-6)
    assert float(network.context(inputs())[0].detach().abs().max()) == 5.0


def test_a_vector_a_cell_only_where_there_are_several():
    one = PolicyNetwork(config())
    several = PolicyNetwork(config(cells=("a", "b", "c")))
    batch = inputs()
    assert several.context(batch)[0].shape[1] == one.context(batch)[0].shape[1] + 8

    batch.cell = torch.tensor([0, 1, 2])
    vectors = several.context(batch)[0][:, -8:]
    assert torch.equal(vectors, several.cell_vector.weight)


@pytest.mark.parametrize(
    ("views", "missing"), [((), "objects"), (("front", "wrist"), "feature maps")]
)
def test_the_other_kind_of_observation_is_refused(views, missing):
    network = PolicyNetwork(config(views=views))
    with pytest.raises(ValueError, match=f"needs {missing}"):
        network.context(inputs(views=0 if views else 2))


@pytest.mark.parametrize("head", ["regression", "flow"])
@pytest.mark.parametrize("views", [(), ("front",)])
def test_every_layer_learns(head, views):
    network = PolicyNetwork(config(head=head, views=views, cells=("a", "b"), experts=3)).train()
    batch = inputs(batch=32, views=len(views))
    context, seen = network.context(batch)
    if head == "flow":
        out = network.velocity(context, torch.ones(32, 14), torch.full((32,), 0.5))
    else:
        out = network.trunk(context)

    loss = out.square().sum()
    if seen is not None:
        loss = loss + seen.world_spread.sum() + seen.local_spread.sum()
    loss.backward()
    idle = [
        name
        for name, value in network.named_parameters()
        if value.grad is None or not value.grad.any()
    ]
    assert idle == []


@pytest.mark.parametrize("experts", [1, 6])
def test_parameter_counts(experts):
    shape = config(experts=experts, top_k=2, width=16, blocks=3)
    total, active = PolicyNetwork(shape).parameter_counts()
    assert total == sum(value.numel() for value in PolicyNetwork(shape).parameters())
    idle_experts = 3 * (experts - 2) if experts > 1 else 0
    assert total - active == idle_experts * 2 * 16 * 16


def test_the_configuration_survives_json():
    shape = config(views=("front",), experts=4, head="flow")
    assert NetworkConfig.from_json(json.loads(json.dumps(shape.to_json()))) == shape


def test_a_configuration_of_a_newer_version_is_not_understood():
    with pytest.raises(TypeError, match="arms"):
        NetworkConfig.from_json({**config().to_json(), "arms": 2})


# --------------------------------------------------------------------------------------------------
# Grounding
# --------------------------------------------------------------------------------------------------


def test_grounding_starts_as_similarity():
    vectors = functional.normalize(torch.randn(4, TEXT_WIDTH), dim=-1)
    part, goal = Grounding()(vectors[2:3], vectors[None])
    assert int(part.argmax()) == int(goal.argmax()) == 2
    assert part.shape == goal.shape == (1, 4)


def test_grounding_scores_each_name_alone():
    grounding = Grounding()
    vectors = functional.normalize(torch.randn(6, TEXT_WIDTH), dim=-1)
    instruction, names = vectors[:1], vectors[None, 1:]
    order = torch.tensor([4, 0, 3, 1, 2])
    for plain, shuffled in zip(
        grounding(instruction, names), grounding(instruction, names[:, order]), strict=True
    ):
        assert torch.allclose(plain[:, order], shuffled, atol=1e-5)
    longer, _ = grounding(3.0 * instruction, names)
    assert torch.allclose(longer, grounding(instruction, names)[0], atol=1e-4)


# --------------------------------------------------------------------------------------------------
# Sparse experts
# --------------------------------------------------------------------------------------------------


def test_sparse_experts_equal_a_plain_loop():
    mixture = MixtureOfExperts(16, 24, 5, 2).eval()
    x = torch.randn(33, 16)
    weights = torch.sigmoid(mixture.router(x))
    chosen = (weights + mixture.balance).topk(2, dim=-1).indices
    gate = weights.gather(1, chosen)
    gate = gate / gate.sum(-1, keepdim=True)
    expected = mixture.shared(x)
    for row in range(len(x)):
        for slot in range(2):
            expert = chosen[row, slot]
            out = functional.silu(x[row] @ mixture.up[expert]) @ mixture.down[expert]
            expected[row] = expected[row] + gate[row, slot] * out
    assert torch.allclose(mixture(x), expected, atol=1e-5)


def test_experts_that_are_not_chosen_have_no_say():
    mixture = MixtureOfExperts(8, 8, 4, 1).eval()
    with torch.no_grad():
        mixture.router.bias.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0]))
        mixture.router.weight.mul_(0.01)
    x = torch.randn(10, 8)
    before = mixture(x)
    with torch.no_grad():
        mixture.up[[0, 2, 3]] += 1.0
    assert torch.equal(mixture(x), before)
    with torch.no_grad():
        mixture.up[1] += 1.0
    assert not torch.equal(mixture(x), before)


def test_the_balance_steers_the_choice_and_not_the_weight():
    mixture = MixtureOfExperts(8, 8, 3, 3).eval()
    x = torch.randn(10, 8)
    before = mixture(x)
    mixture.balance.copy_(torch.tensor([5.0, 0.0, -5.0]))
    assert torch.allclose(mixture(x), before, atol=1e-6)  # all are chosen in either case

    one = MixtureOfExperts(8, 8, 3, 1).eval()
    before = one(x)
    one.balance.copy_(torch.tensor([5.0, 0.0, 0.0]))
    assert not torch.allclose(one(x), before, atol=1e-3)


def test_more_experts_a_sample_than_there_are_means_all():
    assert MixtureOfExperts(8, 8, 2, 5).top_k == 2
    assert MixtureOfExperts(8, 8, 2, 5)(torch.randn(3, 8)).shape == (3, 8)


def test_load_balance_turns_towards_idle_experts():
    mixture = MixtureOfExperts(8, 8, 4, 1).train()
    with torch.no_grad():
        mixture.router.bias.copy_(torch.tensor([5.0, 0.0, 0.0, 0.0]))
    x = torch.randn(64, 8)
    for _ in range(50):
        mixture(x)
    assert mixture.balance[0] < 0 < mixture.balance[1:].min()
    assert float(mixture.share.sum()) == pytest.approx(1.0, abs=1e-5)


def test_acting_changes_no_balance():
    mixture = MixtureOfExperts(8, 8, 4, 1).eval()
    mixture(torch.randn(64, 8))
    assert not mixture.balance.any()


def test_experts_get_gradients():
    mixture = MixtureOfExperts(8, 8, 4, 2)
    mixture(torch.randn(64, 8)).square().sum().backward()
    assert mixture.up.grad.abs().sum(dim=(1, 2)).min() > 0
    assert mixture.router.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("experts", "kind"), [(1, torch.nn.Sequential), (3, MixtureOfExperts)])
def test_one_expert_is_a_dense_trunk(experts, kind):
    trunk = Trunk(5, 3, config(experts=experts, blocks=2, width=16))
    assert [type(block) for block in trunk.blocks] == [kind, kind]
    assert trunk(torch.randn(4, 5)).shape == (4, 3)


# --------------------------------------------------------------------------------------------------
# Eyes
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def eyes():
    return Eyes(config(views=("front", "wrist"))).eval()


def look(eyes, batch):
    return eyes(batch.maps, read_tool(batch.state))


def test_eyes_give_a_slot_a_name(eyes):
    seen = look(eyes, inputs(views=2))
    assert seen.slots.position.shape == seen.world.shape == seen.local.shape == (3, 4, 3)
    assert seen.slots.angle.shape == (3, 4, 6)
    assert seen.summary.shape == (3, 256)
    assert seen.slots.present.all()
    assert seen.slots.is_goal.tolist() == [[False, False, False, True]] * 3


def test_positions_start_about_the_mean_place_of_each_name(eyes):
    eyes.center.copy_(torch.arange(12.0).reshape(4, 3))
    eyes.size.fill_(0.04)
    seen = look(eyes, inputs(views=2))
    assert (seen.world - eyes.center).abs().max() < 0.2
    assert torch.equal(seen.slots.size, torch.full((3, 4, 3), 0.04))


def test_the_surer_estimate_counts(eyes):
    batch = inputs(views=2)
    tool = read_tool(batch.state)
    bias = eyes.out.bias.view(4, -1)
    for column, wanted in ((6, "world"), (7, "local")):
        with torch.no_grad():
            bias[:, 6:8] = 4.0
            bias[:, column] = -4.0
        seen = look(eyes, batch)
        if wanted == "world":
            expected = seen.world
        else:
            turned = (tool.rotation[:, None] @ seen.local[..., None])[..., 0]
            expected = tool.position[:, None] + turned
        assert torch.allclose(seen.slots.position, expected, atol=1e-3), wanted
        assert torch.allclose(
            seen.slots.spread, torch.minimum(seen.world_spread, seen.local_spread)
        )


def test_spreads_stay_within_their_limits(eyes):
    with torch.no_grad():
        eyes.out.bias.view(4, -1)[:, 6] = 100.0
        eyes.out.bias.view(4, -1)[:, 7] = -100.0
    seen = look(eyes, inputs(views=2))
    assert (seen.world_spread == 5.0).all()
    assert (seen.local_spread == -4.0).all()


def test_each_view_has_its_own_reader(eyes):
    batch = inputs(views=2)
    seen = look(eyes, batch)
    swapped = look(eyes, dataclasses.replace(batch, maps=batch.maps.flip(1)))
    assert not torch.allclose(swapped.world, seen.world, atol=1e-4)


def test_where_something_is_in_a_map_matters(eyes):
    """Keypoints keep places, which a mean over the map would lose."""
    batch = inputs(views=2)
    moved = dataclasses.replace(batch, maps=batch.maps.roll(30, dims=2))
    assert not torch.allclose(look(eyes, batch).world, look(eyes, moved).world, atol=1e-4)
