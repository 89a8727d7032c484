"""The trainable network: slots of objects, a choice among them by language, an action head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from shopfloor.policies.encoders.text import TEXT_WIDTH
from shopfloor.policies.encoders.vision import CHANNELS
from shopfloor.policies.networks.features import (
    ANGLE_WIDTH,
    FEATURE_WIDTH,
    Slots,
    Tool,
    measured_slots,
    read_tool,
    task_features,
)

FLOW_STEPS = 5  # Euler steps of the flow head at run time
TIME_WIDTH = 16
# m: position errors and their spreads are counted in centimetres inside the network.
LAPLACE_UNIT = 0.01


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network; stored in the checkpoint.

    Attributes:
        cells: full cell ids; more than one adds a learned vector per cell.
        names: class names known in training, parts and goals; a camera policy has one slot for
            each.
        goals: which of `names` are goals.
        views: camera names in order, empty for poses.
        map_rows: rows of a view's feature map.
        map_columns: columns of it.
        head: "regression" or "flow".
        horizon: predicted actions per chunk H.
        action_size: A.
        width: of the trunk.
        blocks: residual blocks of the trunk.
        experts: 1 for a dense trunk, else routed experts per block.
        top_k: routed experts used per sample.
    """

    cells: tuple[str, ...]
    names: tuple[str, ...]
    goals: tuple[str, ...]
    views: tuple[str, ...] = ()
    map_rows: int = 12
    map_columns: int = 12
    head: str = "regression"
    horizon: int = 2
    action_size: int = 7
    width: int = 160
    blocks: int = 2
    experts: int = 1
    top_k: int = 2

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NetworkConfig:
        """Build from `to_json` data."""
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
        }
        return cls(**values)


class Grounding(nn.Module):
    """Attention between an instruction and class names, through a trained projection of both."""

    def __init__(self, width: int = 64) -> None:
        """Start from one projection, so that scores start as (compressed) cosine similarity."""
        super().__init__()
        self.instruction = nn.Linear(TEXT_WIDTH, 2 * width, bias=False)
        self.name = nn.Linear(TEXT_WIDTH, 2 * width, bias=False)
        with torch.no_grad():
            self.name.weight.copy_(self.instruction.weight)
        self.log_scale = nn.Parameter(torch.full((2,), 3.0))

    def forward(
        self, instruction: torch.Tensor, names: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score names.

        Args:
            instruction: shape (B, 384).
            names: shape (B, N, 384).

        Returns:
            Logits for "is the named part" and "is its goal", each shape (B, N).
        """
        query = functional.normalize(self.instruction(instruction).unflatten(-1, (2, -1)), dim=-1)
        key = functional.normalize(self.name(names).unflatten(-1, (2, -1)), dim=-1)
        logits = torch.einsum("bqw,bnqw->qbn", query, key) * self.log_scale.exp()[:, None, None]
        return logits[0], logits[1]


class MixtureOfExperts(nn.Module):
    """A shared expert plus top-k of E routed experts; selection and weighting are kept apart.

    A bias that only steers selection balances the load (it is nudged against each expert's share),
    so no balance term disturbs the action loss.
    """

    def __init__(self, width: int, hidden: int, experts: int, top_k: int) -> None:
        """Make `experts` routed experts of `hidden` units, and a shared one of the same size."""
        super().__init__()
        self.balance: torch.Tensor
        self.share: torch.Tensor
        self.top_k = min(top_k, experts)
        self.shared = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, width))
        self.router = nn.Linear(width, experts)
        self.up = nn.Parameter(torch.empty(experts, width, hidden))
        self.down = nn.Parameter(torch.empty(experts, hidden, width))

        nn.init.normal_(self.up, std=width**-0.5)
        nn.init.normal_(self.down, std=0.5 * hidden**-0.5)
        self.register_buffer("balance", torch.zeros(experts))
        self.register_buffer("share", torch.full((experts,), 1.0 / experts))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, width) to (B, width)."""
        weights = torch.sigmoid(self.router(x))
        chosen = (weights + self.balance).topk(self.top_k, dim=-1).indices
        gate = weights.gather(1, chosen)
        gate = gate / gate.sum(-1, keepdim=True).clamp_min(1e-6)
        if self.training:
            self._rebalance(chosen)
        shared: torch.Tensor = self.shared(x)
        return shared + self._routed(x, chosen, gate)

    def _rebalance(self, chosen: torch.Tensor) -> None:
        with torch.no_grad():
            count = torch.bincount(chosen.flatten(), minlength=len(self.balance)).float()
            self.share.lerp_(count / count.sum(), 0.02)
            self.balance.add_(0.001 * torch.sign(1.0 / len(self.balance) - self.share))

    def _routed(self, x: torch.Tensor, chosen: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """Run each chosen expert once on its samples, sorted by expert."""
        order = chosen.flatten().argsort(stable=True)
        sample = order // self.top_k
        ends = torch.bincount(chosen.flatten(), minlength=len(self.up)).cumsum(0).to(torch.int32)
        hidden = functional.silu(functional.grouped_mm(x[sample], self.up, offs=ends))
        out = functional.grouped_mm(hidden, self.down, offs=ends)
        return torch.zeros_like(x).index_add(0, sample, out * gate.flatten()[order, None])


class Trunk(nn.Module):
    """A residual network, dense or with sparse experts."""

    def __init__(self, inputs: int, outputs: int, config: NetworkConfig) -> None:
        """Make `config.blocks` blocks of `config.width`."""
        super().__init__()
        width = config.width
        self.enter = nn.Linear(inputs, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.blocks))

        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
            if config.experts == 1
            else MixtureOfExperts(width, width, config.experts, config.top_k)
            for _ in range(config.blocks)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs) to (B, outputs)."""
        x = self.enter(x)
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + block(norm(x))
        return self.leave(x)  # type: ignore[no-any-return]


@dataclass
class Seen:
    """What a camera policy believes.

    Attributes:
        slots: the slots, whose positions fuse the two estimates.
        world: shape (B, N, 3), m, positions estimated in the base frame.
        world_spread: shape (B, N), log cm, the expected error of `world`.
        local: shape (B, N, 3), m, positions estimated in the tool frame.
        local_spread: shape (B, N), log cm, the expected error of `local`.
        summary: shape (B, 256), the last hidden layer.
    """

    slots: Slots
    world: torch.Tensor
    world_spread: torch.Tensor
    local: torch.Tensor
    local_spread: torch.Tensor
    summary: torch.Tensor


class Eyes(nn.Module):
    """Poses from feature maps: keypoints and pools per view, then positions in two frames.

    Linear layers on channels-last rows are about twice as fast on a CPU as 1 x 1 convolutions.
    """

    KEYPOINTS, POOLS, MIXED = 32, 4, 48
    # A fresh layer's logits are small: unscaled, every softmax starts almost flat and the keypoints
    # at the centre, and 1,000 steps later the 90th percentile of the named part's error is 68 mm
    # instead of 18 mm.
    SHARPNESS = 5.0
    POINT_SCALE = 3.0  # so that coordinates count beside the pools in the layer norm

    def __init__(self, config: NetworkConfig) -> None:
        """Make one reader per view, and outputs for one slot per name."""
        super().__init__()
        self.grid: torch.Tensor
        self.center: torch.Tensor
        self.size: torch.Tensor
        self.is_goal: torch.Tensor
        self.slot_count = len(config.names)

        rows, columns = torch.meshgrid(
            torch.linspace(-1, 1, config.map_rows),
            torch.linspace(-1, 1, config.map_columns),
            indexing="ij",
        )

        self.register_buffer(
            "grid", torch.stack([columns.flatten(), rows.flatten()], -1), persistent=False
        )
        self.mix = nn.ModuleList(nn.Linear(CHANNELS, self.MIXED) for _ in config.views)
        self.maps = nn.ModuleList(nn.Linear(self.MIXED, self.KEYPOINTS) for _ in config.views)
        self.pools = nn.ModuleList(nn.Linear(self.MIXED, self.POOLS) for _ in config.views)
        per_view = 3 * self.KEYPOINTS + self.POOLS * self.MIXED
        inputs = per_view * len(config.views) + 20
        self.enter = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, 256), nn.SiLU())
        self.hidden = nn.Sequential(nn.Linear(256, 256), nn.SiLU())
        self.out = nn.Linear(256, self.slot_count * (3 + 3 + 2 + ANGLE_WIDTH))

        self.register_buffer("center", torch.zeros(self.slot_count, 3))
        self.register_buffer("size", torch.zeros(self.slot_count, 3))
        self.register_buffer(
            "is_goal",
            torch.tensor([name in config.goals for name in config.names]),
            persistent=False,
        )

    def _read_view(self, index: int, rows: torch.Tensor) -> torch.Tensor:
        mixed = functional.relu(self.mix[index](rows))
        maps = self.maps[index](mixed)
        attention = (self.SHARPNESS * maps).softmax(1)
        points = torch.einsum("bpk,pc->bkc", attention, self.grid).flatten(1)
        pools = (self.SHARPNESS * self.pools[index](mixed)).softmax(1)
        pooled = torch.einsum("bpk,bpm->bkm", pools, mixed).flatten(1)
        return torch.cat([self.POINT_SCALE * points, maps.amax(1), pooled], -1)

    def forward(self, features: torch.Tensor, tool: Tool) -> Seen:
        """Look.

        Args:
            features: shape (B, views, cells of the map, 40), float32.
            tool: the tool, from proprioception.
        """
        body = torch.cat([tool.position * 5.0, tool.rotation.flatten(1), tool.rest], -1)
        views = [self._read_view(index, rows) for index, rows in enumerate(features.unbind(1))]

        x = self.enter(torch.cat([*views, body], -1))
        x = x + self.hidden(x)
        out = self.out(x).unflatten(-1, (self.slot_count, -1))
        world = self.center + out[..., :3] * 0.1
        local = out[..., 3:6] * 0.1
        world_spread, local_spread = out[..., 6].clamp(-4, 5), out[..., 7].clamp(-4, 5)

        # The precision of `local` among both.
        weight = torch.sigmoid(2.0 * (world_spread - local_spread))[..., None]
        from_local = tool.position[:, None] + torch.einsum("bij,bnj->bni", tool.rotation, local)
        position = weight * from_local + (1.0 - weight) * world
        batch = len(features)

        slots = Slots(
            position,
            out[..., 8:],
            self.size.expand(batch, -1, -1),
            torch.minimum(world_spread, local_spread),
            torch.ones(batch, self.slot_count, dtype=torch.bool),
            self.is_goal.expand(batch, -1),
        )

        return Seen(slots, world, world_spread, local, local_spread, x)


@dataclass
class Inputs:
    """A batch of observations.

    Attributes:
        state: shape (B, 22), float32.
        instruction: shape (B, 384), float32.
        names: shape (B, N, 384), float32, embeddings of the slots' class names.
        cell: shape (B,), int64, index into the configuration's cells.
        objects: shape (B, N, 12), float32, or None from cameras.
        maps: shape (B, views, P, 40), float32, or None from poses.
    """

    state: torch.Tensor
    instruction: torch.Tensor
    names: torch.Tensor
    cell: torch.Tensor
    objects: torch.Tensor | None = None
    maps: torch.Tensor | None = None


class PolicyNetwork(nn.Module):
    """Observation and instruction in, action chunk out."""

    SUMMARY = 48

    def __init__(self, config: NetworkConfig) -> None:
        """Build the layers for `config`."""
        super().__init__()
        self.feature_mean: torch.Tensor
        self.feature_deviation: torch.Tensor
        self.config = config
        self.grounding = Grounding()
        self.eyes = Eyes(config) if config.views else None
        self.summary = nn.Linear(256, self.SUMMARY) if config.views else None
        self.cell_vector = nn.Embedding(len(config.cells), 8) if len(config.cells) > 1 else None

        context = (
            FEATURE_WIDTH
            + (self.SUMMARY if config.views else 0)
            + (8 if self.cell_vector is not None else 0)
        )

        chunk = self.chunk_width = config.horizon * config.action_size
        extra = chunk + TIME_WIDTH if config.head == "flow" else 0
        self.trunk = Trunk(context + extra, chunk, config)
        self.register_buffer("feature_mean", torch.zeros(FEATURE_WIDTH))
        self.register_buffer("feature_deviation", torch.ones(FEATURE_WIDTH))

    def raw_features(self, inputs: Inputs) -> tuple[torch.Tensor, Seen | None]:
        """Return the unnormalised task features, shape (B, FEATURE_WIDTH), and what is seen."""
        tool = read_tool(inputs.state)
        seen = None
        if self.eyes is not None:
            if inputs.maps is None:
                raise ValueError("a camera policy needs feature maps")

            seen = self.eyes(inputs.maps, tool)
            slots = seen.slots
        else:
            if inputs.objects is None:
                raise ValueError("a pose policy needs objects")
            slots = measured_slots(inputs.objects, tool)

        part_logits, goal_logits = self.grounding(inputs.instruction, inputs.names)
        part = part_logits.masked_fill(~slots.present | slots.is_goal, -1e9).softmax(-1)
        goal = goal_logits.masked_fill(~(slots.present & slots.is_goal), -1e9).softmax(-1)
        return task_features(tool, slots, part, goal), seen

    def context(self, inputs: Inputs) -> tuple[torch.Tensor, Seen | None]:
        """Return the trunk's input, shape (B, context width), and what is seen."""
        features, seen = self.raw_features(inputs)
        parts = [((features - self.feature_mean) / self.feature_deviation).clamp(-5.0, 5.0)]
        if seen is not None and self.summary is not None:
            parts.append(self.summary(seen.summary))
        if self.cell_vector is not None:
            parts.append(self.cell_vector(inputs.cell))
        return torch.cat(parts, -1), seen

    def velocity(
        self, context: torch.Tensor, noisy: torch.Tensor, time: torch.Tensor
    ) -> torch.Tensor:
        """Return the flow head's velocity at a noisy chunk.

        Args:
            context: shape (B, C), the trunk's input.
            noisy: shape (B, H * A), the chunk on its way from noise.
            time: shape (B,), from 0 (noise) to 1 (action).

        Returns:
            Shape (B, H * A).
        """
        frequency = 2.0 ** torch.arange(TIME_WIDTH // 2)
        phase = time[:, None] * frequency * torch.pi / 2
        inputs = torch.cat([context, noisy, phase.sin(), phase.cos()], -1)
        return self.trunk(inputs)  # type: ignore[no-any-return]

    def act(self, context: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Answer with a chunk, shape (B, H, A), in [-1, 1]; the gripper is -1 or 1.

        The flow head draws its start from `generator`; the regression head ignores it.
        """
        if self.config.head == "flow":
            chunk = torch.randn(len(context), self.chunk_width, generator=generator)
            for step in range(FLOW_STEPS):
                time = torch.full((len(context),), step / FLOW_STEPS)
                chunk = chunk + self.velocity(context, chunk, time) / FLOW_STEPS
        else:
            chunk = self.trunk(context)

        chunk = chunk.reshape(len(chunk), self.config.horizon, self.config.action_size)
        gripper = torch.where(chunk[..., 6:7] > 0, 1.0, -1.0)
        return torch.cat(
            [chunk[..., :6].clamp(-1.0, 1.0), gripper, chunk[..., 7:].clamp(-1.0, 1.0)], -1
        )

    def parameter_counts(self) -> tuple[int, int]:
        """Return (total, active per decision) trainable parameters."""
        total = sum(parameter.numel() for parameter in self.parameters())
        idle = 0
        for module in self.modules():
            if isinstance(module, MixtureOfExperts):
                per_expert = module.up[0].numel() + module.down[0].numel()
                idle += (len(module.up) - module.top_k) * per_expert

        return total, total - idle
