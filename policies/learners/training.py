"""Behaviour cloning of labelled decisions, from poses, or from cameras that also learn poses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional

from shopfloor.core import InvalidInputError, canonical_json, sha256_hex
from shopfloor.datasets.listing.overlays import load_overlays
from shopfloor.datasets.reader import Dataset
from shopfloor.policies import checkpoint
from shopfloor.policies.encoders import vision
from shopfloor.policies.encoders.text import embed
from shopfloor.policies.learners.config import TrainConfig
from shopfloor.policies.learners.data import Table, Vocabulary, describe, load_table, vocabulary
from shopfloor.policies.networks.features import measured_slots, read_tool
from shopfloor.policies.networks.network import (
    LAPLACE_UNIT,
    Inputs,
    NetworkConfig,
    PolicyNetwork,
    Seen,
)

__all__ = ["TrainConfig", "train"]

Progress = Callable[[int, int, float], None]

HORIZON = 2
LEARNING_RATES = {
    ("poses", False): 1e-3,
    ("poses", True): 8e-4,
    ("cameras", False): 3e-3,
    ("cameras", True): 1.5e-3,
}
GROUNDING_STEPS = 150
AVERAGE_DECAY = 0.99
DEFAULT_STEPS = {
    ("poses", False): 1200,
    ("poses", True): 900,
    ("cameras", False): 1600,
    ("cameras", True): 1000,
}


def train(config: TrainConfig, progress: Progress | None = None) -> Path:
    """Train or fine-tune a policy.

    A finished checkpoint of the same configuration and data is returned as it is, so running again
    is harmless.

    Args:
        config: what to train.
        progress: called now and then with (step, steps, loss).

    Returns:
        The checkpoint folder: `model.safetensors`, `config.json`, `card.md`.

    Raises:
        InvalidInputError: unusable data, or `out` holds something else.
    """
    torch.set_num_threads(1)
    datasets = [Dataset(path, overlays=config.overlays) for path in config.data]
    words = vocabulary(describe(datasets))
    start = checkpoint.read(config.init) if config.init else None
    shape = _network_config(config, words, start)
    # A checkpoint that training starts from may know more cells and names, in another order.
    words = replace(words, cells=shape.cells, names=shape.names, goals=shape.goals)

    image_size = None
    if shape.views:
        image_size = start.image_size if start else _image_size(datasets[0], shape)
        _check_pictures(datasets, shape.views, image_size)

    blocks = sorted(config.scenes.glob("*.safetensors")) if config.scenes and shape.views else []
    steps = config.steps or DEFAULT_STEPS["cameras" if shape.views else "poses", start is not None]
    plan = {
        "episodes": _episodes_hash(datasets),
        "scenes": [block.name for block in blocks],
        "init": start.digest if start else "",
        "steps": steps,
        "seed": config.seed,
        "batch": config.batch,
        **_overlay_plan(datasets, config.overlays),
    }

    execute = config.execute or (2 if shape.views else 1)
    if checkpoint.is_finished(config.out, shape, plan, execute):
        return config.out

    cache = config.cache or config.out.parent / "features"
    table = load_table(
        datasets, words, shape.horizon, shape.views, cache if shape.views else None, blocks
    )
    trainer = _Trainer(shape, words, table, config.seed, start)
    trainer.run(steps, config.batch, progress or (lambda *_: None))

    return checkpoint.write(
        config.out,
        checkpoint.Checkpoint(
            network=trainer.averaged,
            texts=trainer.texts,
            embeddings=trainer.embeddings,
            instructions=tuple(sorted(words.phrasings | set(table.instructions))),
            execute=execute,
            image_size=image_size,
            label_sources=dict(table.sources),
            plan=plan,
        ),
    )


def _episodes_hash(datasets: Sequence[Dataset]) -> str:
    """Return one hash of all episode files."""
    files: list[str] = []
    for dataset in datasets:
        files += [record.sha256 for record in dataset.records]
    return sha256_hex(canonical_json(sorted(files)))


def _overlay_plan(datasets: Sequence[Dataset], overlays: Sequence[Path]) -> dict[str, str]:
    """Return the plan's entry about overlays: one hash of what they change, or no entry."""
    operations = []
    for dataset in datasets:
        changes = load_overlays(dataset.path, overlays)
        for record in dataset.records:
            if record.episode_id in changes:
                operations += changes[record.episode_id].operations(record.episode_id)

    if not operations:
        return {}
    return {"overlays": sha256_hex(canonical_json(sorted(map(canonical_json, operations))))}


def _image_size(dataset: Dataset, shape: NetworkConfig) -> tuple[int, int]:
    height, width, _ = dataset.description["features"][shape.views[0]]["shape"]
    return int(height), int(width)


def _check_pictures(
    datasets: Sequence[Dataset], views: Sequence[str], size: tuple[int, int] | None
) -> None:
    """Refuse datasets whose pictures have another size; a missing camera is reported later."""
    for dataset in datasets:
        features = dataset.description["features"]
        for view in views:
            found = tuple(features[view]["shape"][:2]) if view in features else size
            if found != size:
                raise InvalidInputError(
                    f"Dataset {dataset.path} has pictures of camera {view} of (height, width) "
                    f"{found} pixels; the policy sees {size}. Collect with one --image-size."
                )


def _network_config(
    config: TrainConfig, words: Vocabulary, start: checkpoint.Checkpoint | None
) -> NetworkConfig:
    if start is not None:
        shape = start.network.config
        wanted = {"cameras": bool(shape.views), "poses": not shape.views}.get(
            config.observations or "", True
        )

        if not wanted:
            raise InvalidInputError(
                f"Checkpoint {config.init} acts from {'cameras' if shape.views else 'poses'}; "
                f"--observations {config.observations} cannot start from it."
            )

        known = set(words.cells) <= set(shape.cells) and set(words.names) <= set(shape.names)
        if not known:
            raise InvalidInputError(
                f"Checkpoint {config.init} was made for {', '.join(shape.cells)}; "
                f"the data is of {', '.join(words.cells)}. "
                "Train without --init, or on data of the same cells."
            )

        return shape

    cameras = config.observations == "cameras"
    rows, columns = 12, 12
    if cameras:
        first = Dataset(config.data[0], overlays=config.overlays)
        missing = [view for view in config.views if view not in first.description["features"]]
        if missing:
            raise InvalidInputError(
                f"Dataset {config.data[0]} has no pictures of camera {', '.join(missing)}; "
                "collect with `--cameras front,wrist` or train with `--observations poses`."
            )

        height, width, _ = first.description["features"][config.views[0]]["shape"]
        rows, columns = vision.map_size((height, width))

    return NetworkConfig(
        cells=words.cells,
        names=words.names,
        goals=words.goals,
        views=config.views if cameras else (),
        map_rows=rows,
        map_columns=columns,
        head=config.head,
        horizon=HORIZON,
        experts=config.experts or (1 if len(words.cells) == 1 else 4),
    )


class _Trainer:
    """One training run: the network, its running average, and the batches."""

    def __init__(
        self,
        shape: NetworkConfig,
        words: Vocabulary,
        table: Table,
        seed: int,
        start: checkpoint.Checkpoint | None,
    ) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.table = table
        with torch.random.fork_rng(devices=[]):
            # Module initialisers know no generator; the fork keeps the seed local.
            torch.manual_seed(seed)
            self.network = PolicyNetwork(shape)
            self.averaged = PolicyNetwork(shape)

        self.warm = start is not None
        texts = sorted({*shape.names, *table.instructions, *words.phrasings})
        if start is not None:
            texts = list(dict.fromkeys([*start.texts, *texts]))

        self.texts = tuple(texts)
        self.embeddings = embed(self.texts)
        position = {text: index for index, text in enumerate(self.texts)}
        self.names = self.embeddings[[position[name] for name in shape.names]]
        self.instructions = self.embeddings[[position[text] for text in table.instructions]]

        self._prepare_grounding(words, shape, position)
        if start is not None:
            self.network.load_state_dict(start.network.state_dict())
        else:
            self._fit_normalisation()

        self.averaged.load_state_dict(self.network.state_dict())

    def _prepare_grounding(
        self, words: Vocabulary, shape: NetworkConfig, position: dict[str, int]
    ) -> None:
        phrases: list[int] = []
        parts: list[int] = []
        goals: list[int] = []
        for text, part, goal in words.grounding:
            if part in shape.names:
                phrases.append(position[text])
                parts.append(shape.names.index(part))
                goals.append(shape.names.index(goal) if goal else -1)

        self.phrases = self.embeddings[phrases]
        self.phrase_part = torch.tensor(parts)
        self.phrase_goal = torch.tensor(goals)
        self.name_is_goal = torch.tensor([name in shape.goals for name in shape.names])

    def _fit_normalisation(self) -> None:
        """Fit feature scales, and the slots' mean places and sizes; they stay fixed afterwards."""
        network = self.network
        present = self.table.objects[..., 10:11]
        mean = (self.table.objects * present).sum(0) / present.sum(0).clamp_min(1.0)
        if network.eyes is not None:
            network.eyes.center.copy_(mean[:, :3])
            network.eyes.size.copy_(mean[:, 7:10])

        with torch.random.fork_rng(devices=[]):
            measured = PolicyNetwork(replace(network.config, views=()))

        measured.grounding.load_state_dict(network.grounding.state_dict())
        optimiser = torch.optim.Adam(measured.grounding.parameters(), lr=2e-3)

        for _ in range(GROUNDING_STEPS):
            optimiser.zero_grad()
            torch.autograd.backward(self._grounding_loss(measured))
            optimiser.step()

        network.grounding.load_state_dict(measured.grounding.state_dict())
        rows = torch.randperm(len(self.table), generator=self.generator)[:4096]
        with torch.no_grad():
            features, _ = measured.raw_features(self._inputs(rows, maps=False))
        network.feature_mean.copy_(features.mean(0))
        network.feature_deviation.copy_(features.std(0).clamp_min(0.2))

    def _grounding_loss(self, network: PolicyNetwork) -> torch.Tensor:
        """Cross entropy of "which name does this phrase mean", over all phrasings of the cells."""
        if not len(self.phrases):
            return torch.zeros((), requires_grad=True)
        part, goal = network.grounding(self.phrases, self.names.expand(len(self.phrases), -1, -1))
        loss = functional.cross_entropy(part.masked_fill(self.name_is_goal, -1e9), self.phrase_part)
        if bool((self.phrase_goal >= 0).any()):
            logits = goal.masked_fill(~self.name_is_goal, -1e9)
            loss = loss + functional.cross_entropy(logits, self.phrase_goal, ignore_index=-1)
        return loss

    def _inputs(self, rows: torch.Tensor, *, maps: bool) -> Inputs:
        table = self.table
        return Inputs(
            state=table.state[rows],
            instruction=self.instructions[table.instruction[rows]],
            names=self.names.expand(len(rows), -1, -1),
            cell=table.cell[rows],
            objects=table.objects[rows],
            maps=table.gather_maps(rows) if maps else None,
        )

    def _draw(self, batch: int) -> torch.Tensor:
        """Draw rows by weight; episodes fill a fifth of a batch, from 1,000 rows on half of it."""
        from_episodes = torch.nonzero(self.table.group == 0)[:, 0]
        from_scenes = torch.nonzero(self.table.group == 1)[:, 0]
        if not len(from_scenes) or not len(from_episodes):
            return draw(self.table.weight, batch, self.generator)

        count = batch // 2 if len(from_episodes) >= 1000 else batch // 5
        weight = self.table.weight
        episodes = draw(weight[from_episodes], count, self.generator)
        scenes = draw(weight[from_scenes], batch - count, self.generator)
        return torch.cat([from_episodes[episodes], from_scenes[scenes]])

    def run(self, steps: int, batch: int, progress: Progress) -> None:
        """Optimise for `steps` steps; `averaged` then holds the running average of the weights."""
        network = self.network.train()
        rate = LEARNING_RATES["cameras" if network.config.views else "poses", self.warm]
        optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4, fused=True)

        for step in range(steps):
            warm_up = min(1.0, (step + 1) / 50)
            for group in optimiser.param_groups:
                group["lr"] = rate * warm_up * 0.5 * (1 + math.cos(math.pi * step / steps))
            rows = self._draw(batch)
            inputs = self._inputs(rows, maps=bool(network.config.views))
            context, seen = network.context(inputs)
            loss = self._action_loss(context, rows) + 0.1 * self._grounding_loss(network)
            if seen is not None:
                loss = loss + pose_loss(seen, inputs)

            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            self._average(step)
            if step % 50 == 49 or step == steps - 1:
                progress(step + 1, steps, float(loss.detach()))

        self.averaged.eval()

    def _average(self, step: int) -> None:
        decay = min(AVERAGE_DECAY, (1 + step) / (10 + step))
        with torch.no_grad():
            mine, theirs = self.averaged.state_dict(), self.network.state_dict()
            for key, value in mine.items():
                if value.is_floating_point():
                    value.lerp_(theirs[key], 1.0 - decay)

    def _action_loss(self, context: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        target, valid = self.table.chunk[rows], self.table.valid[rows]
        if self.network.config.head == "flow":
            return flow_loss(self.network, context, target, valid, self.generator)

        out: torch.Tensor = self.network.trunk(context).reshape(target.shape)
        motion = (
            torch.cat([out[..., :6], out[..., 7:]], -1),
            torch.cat([target[..., :6], target[..., 7:]], -1),
        )

        loss = functional.smooth_l1_loss(*motion, beta=0.1, reduction="none").mean(-1) * 4.0
        grip = functional.binary_cross_entropy_with_logits(
            out[..., 6], (target[..., 6] > 0).float(), reduction="none"
        )

        return ((loss + 0.5 * grip) * valid).sum() / valid.sum().clamp_min(1.0)


def draw(weight: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw rows with replacement, each as often as it weighs.

    Args:
        weight: shape (M,), float64, at least 0, one of them above.
        count: how many.
        generator: draws.

    Returns:
        Shape (count,), int64.
    """
    if bool((weight == weight[0]).all()):
        return torch.randint(len(weight), (count,), generator=generator)

    reached = torch.cumsum(weight, 0)
    where = torch.rand(count, dtype=torch.float64, generator=generator) * reached[-1]
    # Rounding may reach the very end, where a row without weight could be.
    return torch.searchsorted(reached, where, right=True).clamp_max(int(torch.nonzero(weight)[-1]))


def flow_loss(
    network: PolicyNetwork,
    context: torch.Tensor,
    target: torch.Tensor,
    valid: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Conditional flow matching on straight paths (Lipman et al. 2023, arXiv:2210.02747).

    Args:
        network: with a flow head.
        context: shape (B, C).
        target: shape (B, H, A).
        valid: shape (B, H).
        generator: draws noise and time.
    """
    goal = target.clone()
    goal[..., 6] = torch.where(target[..., 6] > 0, 1.0, -1.0)
    noise = torch.randn(goal.shape, generator=generator)
    time = torch.rand(len(goal), generator=generator)
    noisy = noise + time[:, None, None] * (goal - noise)
    velocity = network.velocity(context, noisy.flatten(1), time).reshape(goal.shape)
    error = (velocity - (goal - noise)).square().mean(-1)

    return (error * valid).sum() / valid.sum().clamp_min(1.0)


def pose_loss(seen: Seen, inputs: Inputs) -> torch.Tensor:
    """Return the loss of seen poses: Laplace likelihoods of both positions, and the yaw's error.

    Parts near the tool count more. The targets are the simulator's poses in `inputs.objects`.
    """
    assert inputs.objects is not None
    tool = read_tool(inputs.state)
    truth = measured_slots(inputs.objects, tool)
    local = torch.einsum("bji,bnj->bni", tool.rotation, truth.position - tool.position[:, None])
    near = 1.0 + 3.0 * torch.exp(-local.norm(dim=-1) / 0.1)
    present = truth.present.float()

    def laplace(
        estimate: torch.Tensor, target: torch.Tensor, log_spread: torch.Tensor
    ) -> torch.Tensor:
        error = (estimate - target).abs().sum(-1) / LAPLACE_UNIT
        return error * torch.exp(-log_spread) / 3.0 + log_spread

    position = laplace(seen.world, truth.position, seen.world_spread) + laplace(
        seen.local, local, seen.local_spread
    )

    fused = (
        functional.smooth_l1_loss(
            seen.slots.position, truth.position, beta=0.01, reduction="none"
        ).sum(-1)
        * 20.0
    )

    angle = functional.smooth_l1_loss(
        seen.slots.angle, truth.angle, beta=0.2, reduction="none"
    ).mean(-1)
    weight = near * present

    return ((position + fused + 2.0 * angle) * weight).sum() / weight.sum().clamp_min(1.0)
