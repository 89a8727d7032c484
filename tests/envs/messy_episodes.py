"""Episodes in which the arm knocks parts about and drops them on edges, for the tests of exact resets."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from cell_episodes import build, having

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.experts.scripted import make_expert

VARIATIONS = ("nominal", "nominal", "displaced", "mid_task")


def play_messy(cell: WorkCell, seed: int) -> tuple[str, int]:
    """Run an episode and return the digest of all its states and the number of steps in which a part met a goal.

    A random walk and the expert take turns; where the expert carries a part, it is let go somewhere
    on the way, near the goal more often than not.
    """
    rng = np.random.default_rng(seed)
    expert, digest, meetings = make_expert(cell.cell_id), hashlib.sha256(), 0
    variations = having(cell, *VARIATIONS)
    _, info = cell.reset(seed=seed, options={"variation": variations[seed % len(variations)]})
    expert.reset(seed, info["instruction"])
    goals = [
        body for body, item in zip(cell.task.bodies, cell.task.items, strict=True) if item.is_goal
    ]
    parts = [body for body in cell.task.bodies if body not in goals]
    wild, patience, walk = (
        int(rng.integers(0, 12)),
        int(rng.integers(2, 16)),
        np.zeros(cell.action_size),
    )
    done = False
    while not done:
        digest.update(cell.sim_state().tobytes())
        if wild:
            wild -= 1
            walk = 0.7 * walk + rng.normal(0.0, 0.6, cell.action_size)
            walk[6::7] = (
                -1.0 if info["stage"] in ("carry", "grasp", "release") else rng.uniform(-1.0, 1.0)
            )
            action = np.clip(walk, -1.0, 1.0).astype(np.float32)
        else:
            action = expert.act({**cell.observe(()), "object_names": info["object_names"]}).actions[
                0
            ]
            patience -= info["stage"] == "carry" or rng.uniform() < 0.02
            if patience < 0:
                wild, patience = int(rng.integers(1, 9)), int(rng.integers(2, 16))
        _, terminated, truncated, info = cell.advance(action)
        meetings += any(cell.world.touching(part, goal) for part in parts for goal in goals)
        done = terminated or truncated
    digest.update(cell.sim_state().tobytes())
    digest.update(f"{info['success']} {info['failure']}".encode())
    return digest.hexdigest(), meetings


def fresh(name: str, seed: int) -> tuple[str, int]:
    """Run a messy episode in a new cell."""
    cell = build(name)
    try:
        return play_messy(cell, seed)
    finally:
        cell.close()


if __name__ == "__main__":
    for text in sys.argv[2:]:
        sys.stdout.write(fresh(sys.argv[1], int(text))[0] + "\n")
