"""Golden rollouts: physics, reset and kinematics may not change unnoticed.

`python tests/envs/test_golden.py` writes those that are missing: a new cell's. After an intended
change of physics run it with `--all` and review the difference; raise the cell's version where it
changes reward, reset or physics after a release.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cell_episodes import CELLS, build, play

from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.robots.arm import Arm

pytestmark = pytest.mark.core

FOLDER = Path(__file__).parent / "golden"
SEED, STEPS, EVERY = 600_001, 50, 10
# Bit for bit on one kind of machine. Elsewhere the last digits of matrix products differ, which
# contacts make grow: to 0.01 (m, rad) in 50 steps between processors with AVX-512 and without.
# `checks/digests.py` compares bytes on any machine.
TOLERANCE, AFTER_CONTACT = 1e-5, 0.03


def path(name: str) -> Path:
    return FOLDER / f"{name.split('/')[-1]}.json"


def state(cell) -> list[float]:
    """Joints, tool, base and body poses: what contact could change."""
    values = []
    for member in getattr(cell.robot, "members", (cell.robot,)):
        if isinstance(member, Arm):
            values += [*member.joints, *member.tool_position, *member.target_position]
        else:
            values += member.pose
    values += cell.world.poses.ravel().tolist()
    return [round(float(value), 9) for value in values]


def replay(name: str, actions: list[list[float]]) -> list[list[float]]:
    cell = build(name)
    cell.reset(seed=SEED)
    states = [state(cell)]
    for number, action in enumerate(actions, 1):
        cell.advance(np.array(action, dtype=np.float32))
        if number % EVERY == 0:
            states.append(state(cell))
    cell.close()
    return states


GOLDEN = [name for name in CELLS if path(name).exists()]


def test_there_are_golden_rollouts():
    assert "shopfloor/PickToTray-v0" in GOLDEN
    assert len(GOLDEN) == len(list(FOLDER.glob("*.json")))


@pytest.mark.parametrize("name", GOLDEN)
def test_rollouts_equal_the_golden_ones(name):
    golden = json.loads(path(name).read_text())
    states = replay(name, golden["actions"])
    assert len(states) == len(golden["states"]) > 2
    for step, (found, wanted) in enumerate(zip(states, golden["states"], strict=True)):
        where = f"{name} at step {EVERY * step}"
        tolerance = AFTER_CONTACT if step else TOLERANCE
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance, err_msg=where)
        assert np.median(np.abs(np.subtract(found, wanted))) < TOLERANCE, where


def main(rewrite: bool) -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in CELLS:
        if path(name).exists() and not rewrite:
            continue

        cell = build(name)
        actions: list[list[float]] = []
        expert = make_expert(name)
        advance = cell.advance

        def keep(action, advance=advance, actions=actions):
            actions.append([float(value) for value in action])
            return advance(action)

        cell.advance = keep
        play(cell, expert, SEED, limit=STEPS)
        cell.close()
        lines = [json.dumps(row) for row in replay(name, actions)]
        text = (
            f'{{"seed": {SEED}, "actions": {json.dumps(actions)},\n"states": [\n'
            + ",\n".join(lines)
            + "\n]}\n"
        )
        path(name).write_text(text)


if __name__ == "__main__":
    main(rewrite="--all" in sys.argv[1:])
