"""How far a part creeps in the fingers: the expert lifts it, then the arm holds still for five seconds.

python -m benchmarks.grasp
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shopfloor.envs.cell import WorkCell
from shopfloor.envs.conditions import Conditions, apply_physics
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.registry import make_cell

CELLS = ("PickToTray", "Kitting", "MachineTending")
MASSES_KG = (0.1, 0.3, 0.5)
SEEDS = range(610_001, 610_025)
STILL, HOLD = 10, 100  # steps in which the arm comes to rest, and five seconds
LIFTED_M = 0.08
GRIP = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]


def creep_mm(cell: WorkCell, seed: int, mass_kg: float) -> float | None:
    """Return how far the named part moves in the tool's frame, mm; None where the expert did not come to lift it."""
    expert = make_expert(cell.cell_id)
    observation, info = cell.reset(seed=seed)
    expert.reset(seed, info["instruction"])
    usual_kg = pybullet.getDynamicsInfo(cell.task.named_body, -1, cell.world.client)[0]
    apply_physics(cell.world, Conditions(mass=mass_kg / usual_kg))
    for _ in range(cell.max_episode_steps):
        action = expert.act({**observation, "object_names": info["object_names"]}).actions[0]
        observation, _, terminated, truncated, info = cell.step(action)
        if terminated or truncated:
            return None
        if (
            info["stage"] in ("carry", "load")
            and cell.robot.tool_position[2] > LIFTED_M
            and cell.robot.gripper > 0.0
        ):
            break
    hold(cell, STILL)
    before = in_hand(cell)
    hold(cell, HOLD)
    return 1e3 * float(np.linalg.norm(in_hand(cell) - before))


def hold(cell: WorkCell, steps: int) -> None:
    """Stand still with closed fingers, whatever the episode's clock says."""
    for _ in range(steps):
        cell.robot.command(GRIP)
        cell.world.control_step()
        cell.robot.read()
    cell.world.read()


def in_hand(cell: WorkCell) -> npt.NDArray[np.float64]:
    """Return the named part's place in the tool's frame, shape (3,), m."""
    part = cell.world.poses[cell.world.bodies.index(cell.task.named_body), :3]
    offset: npt.NDArray[np.float64] = cell.robot.tool_rotation.T @ (part - cell.robot.tool_position)
    return offset


def main() -> None:
    """Print the table."""
    print(f"mm in 5 s, median and largest of {len(SEEDS)} grasps")
    for name in CELLS:
        cell = make_cell(name, privileged=True, cameras=())
        assert isinstance(cell, WorkCell)
        for mass_kg in MASSES_KG:
            found = [way for seed in SEEDS if (way := creep_mm(cell, seed, mass_kg)) is not None]
            print(
                f"{name:16} {mass_kg} kg  {np.median(found):5.2f}  {max(found):5.2f}  ({len(found)} lifted)"
            )
        cell.close()


if __name__ == "__main__":
    main()
