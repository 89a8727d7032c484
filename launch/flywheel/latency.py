"""How long a policy takes to answer: measured around `act`, rendering not included."""

from __future__ import annotations

import time
from typing import Any

from shopfloor.collectors.choice import CellChoice
from shopfloor.collectors.jobs import DEFAULT_IMAGE_SIZE, build_cell
from shopfloor.collectors.rollout import rollout
from shopfloor.collectors.sources import resolve_policy
from shopfloor.core import ActionChunk, EpisodeSpec, Observation, Policy, PolicyInfo, PolicyRef


class _Timed:
    """A policy that remembers how long each answer took."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.milliseconds: list[float] = []

    @property
    def info(self) -> PolicyInfo:
        return self.policy.info

    def reset(self, seed: int, instruction: str) -> None:
        self.policy.reset(seed, instruction)

    def act(self, observation: Observation) -> ActionChunk:
        began = time.perf_counter()
        chunk = self.policy.act(observation)
        self.milliseconds.append(1000.0 * (time.perf_counter() - began))
        return chunk


def measure_latency(ref: PolicyRef, choice: CellChoice, seed: int, episodes: int) -> dict[str, Any]:
    """Run some episodes in this process and time each answer.

    Args:
        ref: the policy and its cell.
        choice: the conditions under which it acts.
        seed: first seed; the episodes are not kept.
        episodes: how many.

    Returns:
        {"latency_p50_ms", "latency_p95_ms": wall time per chunk, "chunks": how many,
        "cpu_seconds"}.
    """
    import numpy as np

    cpu = time.process_time()
    timed = _Timed(resolve_policy(ref))
    size = timed.info.image_size or choice.image_size or DEFAULT_IMAGE_SIZE
    options = {"robot": choice.robot, "cameras": [], "image_size": list(size)}
    if choice.renderer != "tiny":
        options["renderer"] = choice.renderer
    cell = build_cell(ref.cell, options, choice.variation)

    try:
        for number in range(seed, seed + episodes):
            spec = EpisodeSpec(ref.cell, number, timed.info.digest, cell_options=options)
            rollout(cell, timed, spec)
    finally:
        cell.close()

    p50, p95 = np.percentile(timed.milliseconds, [50, 95])
    return {
        "latency_p50_ms": round(float(p50), 3),
        "latency_p95_ms": round(float(p95), 3),
        "chunks": len(timed.milliseconds),
        "cpu_seconds": round(time.process_time() - cpu, 3),
    }
