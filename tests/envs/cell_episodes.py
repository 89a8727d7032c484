"""Runs episodes for the tests of all cells; as a program it prints an episode's digest, for comparing processes."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from shopfloor.core import Policy
from shopfloor.envs.cell import WorkCell
from shopfloor.envs.description import variations_of
from shopfloor.envs.experts.scripted import make_expert, make_random
from shopfloor.envs.registry import cell_ids, cell_module, make_cell
from shopfloor.envs.robots.arm import Arm

CELLS = [cell_id for cell_id in cell_ids() if importlib.util.find_spec(cell_module(cell_id)[0])]
CAMERAS = ("front", "wrist")
WAIT = np.array([0, 0, 0, 0, 0, 0, -1.0])  # an arm stays, its hand open


@dataclass
class Run:
    outcome: str = ""
    steps: int = 0
    states: list[np.ndarray] = field(default_factory=list)
    pictures: list[dict[str, np.ndarray]] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    digest: str = ""


def play(
    cell: WorkCell,
    policy: Policy,
    seed: int,
    *,
    variation: str = "nominal",
    execute: int | None = None,
    cameras: tuple[str, ...] = (),
    every: int = 1,
    limit: int = 10_000,
) -> Run:
    """Run an episode as `rollout` does; pictures are taken at every `every`-th decision."""
    run, digest = Run(), hashlib.sha256()
    _, info = cell.reset(seed=seed, options={"variation": variation})
    policy.reset(seed, info["instruction"])
    done = False
    while not done and run.steps < limit:
        observation = dict(cell.observe(cameras if run.steps % every == 0 else ()))
        if cameras and run.steps % every == 0:
            run.pictures.append({name: observation[name] for name in cameras})
        for key in sorted(observation):
            digest.update(observation[key].tobytes())
        chunk = policy.act({**observation, "object_names": info["object_names"]})
        for action in chunk.actions[: execute or chunk.execute]:
            run.states.append(cell.sim_state())
            run.stages.append(info["stage"])
            digest.update(run.states[-1].tobytes())
            digest.update(action.tobytes())
            reward, terminated, truncated, info = cell.advance(action)
            digest.update(
                json.dumps([reward, terminated, truncated, info["stage"], info["failure"]]).encode()
            )
            run.steps += 1
            done = terminated or truncated
            if done or run.steps >= limit:
                break
    run.outcome = "success" if info["success"] else info["failure"]
    run.digest = digest.hexdigest()
    return run


def build(cell_id: str, **options: object) -> WorkCell:
    """Build a privileged cell without cameras in its observations."""
    return make_cell(cell_id, **{"privileged": True, "cameras": (), **options})


@contextmanager
def built_at(cell_id: str, levels: Iterable[str]) -> Iterator[dict[str, WorkCell]]:
    """Lend a cell per level."""
    made = {level: build(cell_id, variation=level) for level in levels}
    try:
        yield made
    finally:
        for cell in made.values():
            cell.close()


def wait(
    cell: WorkCell, steps: int = 60, action: np.ndarray = WAIT
) -> tuple[int, float, bool, dict]:
    """Let each arm do the same until the episode ends or time is up.

    Returns:
        How many steps that took, and of the last one reward, terminated and info.
    """
    step, ended = 0, False
    while step < steps and not ended:
        reward, terminated, truncated, info = cell.advance(each_arm(cell, action))
        step, ended = step + 1, terminated or truncated
    return step, reward, terminated, info


def waits_for(cell: WorkCell, reason: str = "") -> int:
    """Wait until the episode ends: in success, or as a failure for a reason; return how many steps that took."""
    step, reward, terminated, info = wait(cell)
    ended = (reward, terminated, info["success"], info["failure"])
    assert ended == (float(not reason), True, not reason, reason)
    assert reason or info["stage"] == "done"
    return step


def having(cell: WorkCell, *variations: str) -> list[str]:
    """Return those of some variations that a cell has."""
    return [name for name in variations if name in variations_of(cell.task)]


def cells_with_arms() -> list[str]:
    """Return the cells in which an arm works; in the others there is nothing to grip."""
    found = []
    for cell_id in CELLS:
        cell = build(cell_id)
        found += [cell_id] if arms(cell) else []
        cell.close()
    return found


def cells_with(variation: str) -> list[str]:
    """Return the cells that have a variation."""
    found = []
    for cell_id in CELLS:
        cell = build(cell_id)
        found += [cell_id] if having(cell, variation) else []
        cell.close()
    return found


def each_arm(cell: WorkCell, action: Sequence[float]) -> np.ndarray:
    """Return the action in which each arm of a cell does the same, given an arm's 7 numbers."""
    return np.tile(np.array(action, dtype=float), -(-cell.action_size // 7))[: cell.action_size]


def arms(cell: WorkCell) -> list[Arm]:
    """Return the arms of a cell, in the order of their actions."""
    members = getattr(cell.robot, "members", (cell.robot,))
    return [member for member in members if isinstance(member, Arm)]


def count(
    cell_id: str, seeds: range, *, variation: str = "nominal", execute: int = 1, expert: bool = True
) -> list[str]:
    """Return the outcome of one episode per seed."""
    cell = build(cell_id, variation=variation)
    policy = make_expert(cell_id) if expert else make_random(cell_id)
    try:
        return [
            play(cell, policy, seed, variation=variation, execute=execute).outcome for seed in seeds
        ]
    finally:
        cell.close()


if __name__ == "__main__":
    name, *seeds = sys.argv[1:]
    cell = build(name)
    for text in seeds:
        run = play(cell, make_expert(name), int(text), cameras=CAMERAS, every=10)
        sys.stdout.write(run.digest + "\n")
