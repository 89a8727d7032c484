"""Policy latency: milliseconds per action chunk, one observation at a time, one thread.

Beside each policy runs a bare reference with the same arithmetic and no bookkeeping: for poses a
plain three-layer network of the same active parameters, for cameras the frozen image encoder alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from shopfloor.policies.checkpoint import Checkpoint, TrainedPolicy
from shopfloor.policies.encoders import vision
from shopfloor.policies.encoders.text import embed
from shopfloor.policies.networks.network import NetworkConfig, PolicyNetwork

CELL = "shopfloor/PickToTray-v0"
NAMES = ("blue bar", "green cylinder", "red cube", "tray")
ROUNDS = 200


def make_policy(views: tuple[str, ...], head: str, experts: int) -> TrainedPolicy:
    """Make a policy of the default shape with untrained weights: latency does not depend on their values."""
    shape = NetworkConfig((CELL,), NAMES, ("tray",), views=views, head=head, experts=experts)
    texts = (*NAMES, "put the red cube into the tray")
    point = Checkpoint(
        PolicyNetwork(shape).eval(),
        texts,
        embed(texts),
        texts[-1:],
        1,
        (96, 96) if views else None,
        {},
        {},
        "bench",
    )
    policy = TrainedPolicy(point, CELL)
    policy.reset(0, texts[-1])
    return policy


def observation(views: tuple[str, ...], generator: np.random.Generator) -> dict[str, Any]:
    """Draw an observation of the right shapes."""
    state = generator.random(22, dtype=np.float32)
    objects = generator.random((4, 12), dtype=np.float32)
    objects[:, 10:] = ((1, 0), (1, 0), (1, 0), (1, 1))
    pictures = {view: generator.integers(0, 255, (96, 96, 3), dtype=np.uint8) for view in views}
    return {"state": state, "objects": objects, "object_names": NAMES, **pictures}


def milliseconds(function: Callable[[], object]) -> tuple[float, float]:
    """Return the median and the 95th percentile of CPU milliseconds of `ROUNDS` calls."""
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        function()
        times.append(1e3 * (time.process_time() - began))
    return float(np.percentile(times, 50)), float(np.percentile(times, 95))


def reference(
    views: tuple[str, ...], parameters: int, generator: np.random.Generator
) -> Callable[[], object]:
    """Return the bare computation a policy is compared with."""
    if views:
        images = generator.integers(0, 255, (len(views), 96, 96, 3), dtype=np.uint8)
        return lambda: vision.encode(images)
    width = int((parameters / 2) ** 0.5)
    network = nn.Sequential(
        nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
    )
    row = torch.zeros(1, 64)

    def run() -> object:
        with torch.inference_mode():
            return network(row)

    return run


def measure() -> list[dict[str, Any]]:
    """Measure every combination of observations, head and experts."""
    torch.set_num_threads(1)
    rows = []
    for views in ((), ("front", "wrist")):
        for head, experts in (("regression", 1), ("flow", 1), ("regression", 4)):
            generator = np.random.default_rng(0)
            policy = make_policy(views, head, experts)
            seen = observation(views, generator)
            total, active = policy.point.network.parameter_counts()
            bare = reference(views, active, generator)
            for warm in (lambda: policy.act(seen), bare):  # noqa: B023  # called at once
                [warm() for _ in range(20)]
            p50, p95 = milliseconds(lambda: policy.act(seen))  # noqa: B023  # called at once
            bare50, _ = milliseconds(bare)
            rows.append(
                {
                    "observations": "cameras" if views else "poses",
                    "head": head,
                    "experts": experts,
                    "parameters_total": total,
                    "parameters_active": active,
                    "p50_ms": p50,
                    "p95_ms": p95,
                    "reference_p50_ms": bare50,
                    "ratio": bare50 / p50,
                }
            )
    return rows


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    rows = measure()
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    print(
        "observations  head        experts  active par.  p50 ms  p95 ms  reference p50 ms  reference / policy"
    )
    for row in rows:
        print(
            f"{row['observations']:<12}  {row['head']:<10}  {row['experts']:>7}  {row['parameters_active']:>11,}"
            f"  {row['p50_ms']:>6.2f}  {row['p95_ms']:>6.2f}  {row['reference_p50_ms']:>16.2f}  {row['ratio']:>18.2f}"
        )


if __name__ == "__main__":
    main()
