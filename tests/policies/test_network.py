import pytest
import torch
from torch.nn import functional

from shopfloor.policies.encoders.text import TEXT_WIDTH
from shopfloor.policies.networks.network import (
    Grounding,
    Inputs,
    MixtureOfExperts,
    NetworkConfig,
    PolicyNetwork,
)

NAMES = ("blue bar", "green cylinder", "red cube", "tray")


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
    objects[:, 3, 11] = 1.0
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


def test_flow_noise_comes_from_the_generator_alone():
    network = PolicyNetwork(config(head="flow")).eval()
    context, _ = network.context(inputs())
    first, again = (network.act(context, torch.Generator().manual_seed(5)) for _ in range(2))
    other = network.act(context, torch.Generator().manual_seed(6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_order_of_objects_does_not_matter():
    network = PolicyNetwork(config()).eval()
    batch = inputs()
    order = torch.tensor([2, 3, 0, 1])
    shuffled = Inputs(
        batch.state, batch.instruction, batch.names[:, order], batch.cell, batch.objects[:, order]
    )
    assert torch.allclose(network.context(batch)[0], network.context(shuffled)[0], atol=1e-5)


def test_sparse_experts_equal_a_plain_loop():
    torch.manual_seed(0)
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


def test_load_balance_turns_towards_idle_experts():
    torch.manual_seed(0)
    mixture = MixtureOfExperts(8, 8, 4, 1).train()
    with torch.no_grad():
        mixture.router.bias.copy_(torch.tensor([5.0, 0.0, 0.0, 0.0]))
    x = torch.randn(64, 8)
    for _ in range(50):
        mixture(x)
    assert mixture.balance[0] < 0 < mixture.balance[1:].min()


def test_experts_get_gradients():
    mixture = MixtureOfExperts(8, 8, 4, 2)
    mixture(torch.randn(64, 8)).square().sum().backward()
    assert mixture.up.grad.abs().sum(dim=(1, 2)).min() > 0


def test_grounding_starts_as_similarity():
    torch.manual_seed(0)
    vectors = functional.normalize(torch.randn(4, TEXT_WIDTH), dim=-1)
    part, _ = Grounding()(vectors[2:3], vectors[None])
    assert int(part.argmax()) == 2


def test_configuration_survives_json():
    import json

    shape = config(views=("front",), experts=4, head="flow")
    assert NetworkConfig.from_json(json.loads(json.dumps(shape.to_json()))) == shape
