"""The work cells: control steps and two-camera steps per CPU second on one thread, beside bare PyBullet.

Control steps: `step()` without cameras, with privileged state, reward, success and capture of the simulator's state.
The reference is a bare loop in a world of its own: PyBullet's inverse kinematics, one motor array, 12 substeps and the
same reads of joints, tool and bodies, along the same targets, so that it grips and carries the same part. Camera steps:
a control step and two 128 px views; the reference is the same cell with the arm's stock meshes. All run the same expert
episodes, in turns.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pybullet_data

from shopfloor.envs import robot
from shopfloor.envs.cell import WorkCell
from shopfloor.envs.engine import pybullet
from shopfloor.envs.experts import make_expert
from shopfloor.envs.kinematics import inverse_step, matrix, quaternion
from shopfloor.envs.registry import make_cell
from shopfloor.envs.world import SUBSTEPS

CELL = "shopfloor/PickToTray-v0"
SEEDS = range(600_500, 600_506)
SIZE = 128
CAMERAS = ("front", "wrist")
TARGETS = {"control steps": 0.90, "two 128 px cameras": 3.5}
CAMERA_STEPS = 20


@dataclass
class Recorded:
    """An expert's episode.

    Attributes:
        seed: of the episode.
        actions: one per step.
        targets: for the bare loop: tool position, quaternion of PyBullet's tool link, gripper.
    """

    seed: int
    actions: list[npt.NDArray[np.float32]]
    targets: list[tuple[list[float], tuple[float, float, float, float], float]]


def record(cell: WorkCell, seed: int) -> Recorded:
    """Run the expert."""
    expert = make_expert(CELL)
    observation, info = cell.reset(seed=seed)
    expert.reset(seed, info["instruction"])
    episode, done = Recorded(seed, [], []), False
    while not done:
        action = np.asarray(expert.act({**observation, "object_names": info["object_names"]}).actions[0], np.float32)
        observation, _, terminated, truncated, info = cell.step(action)
        done = terminated or truncated
        turned = quaternion(cell.robot.target_rotation @ np.diag([1.0, -1.0, -1.0]))
        episode.actions.append(action)
        episode.targets.append((cell.robot.target_position.tolist(), turned, cell.robot.gripper))
    return episode


def cpu_seconds(function: Callable[[], None]) -> float:
    """Return the CPU seconds of a call."""
    began = time.process_time()
    function()
    return time.process_time() - began


def control_steps(cell: WorkCell, episode: Recorded) -> float:
    """Return the CPU seconds of an episode through `step()` and `sim_state()`."""
    cell.reset(seed=episode.seed)

    def loop() -> None:
        for action in episode.actions:
            cell.step(action)
            cell.sim_state()

    return cpu_seconds(loop)


def bare_steps(cell: WorkCell, episode: Recorded, *, own_kinematics: bool = False) -> float:
    """Return the CPU seconds of the reference: PyBullet's calls alone, along the same targets."""
    client, body, bodies = cell.world.client, cell.robot.body, cell.world.bodies
    joints, forces = [0, 1, 2, 3, 4, 5, 6, 9, 10], [87.0] * 4 + [12.0] * 5
    gains = [0.2] * 7 + [0.1] * 2
    cell.reset(seed=episode.seed)
    start = cell.robot.joints[:7].copy()

    def loop() -> None:
        wanted = start
        for position, turned, gripper in episode.targets:
            if own_kinematics:
                wanted, _ = inverse_step(wanted, np.array(position), matrix(turned) * [1.0, -1.0, -1.0])
                goals = wanted.tolist()
            else:
                goals = list(pybullet.calculateInverseKinematics(body, 11, position, turned, physicsClientId=client))
            finger = 0.0 if gripper > 0.0 else 0.04
            pybullet.setJointMotorControlArray(
                body,
                joints,
                pybullet.POSITION_CONTROL,
                targetPositions=[*goals[:7], finger, finger],
                forces=forces,
                positionGains=gains,
                physicsClientId=client,
            )
            for _ in range(SUBSTEPS):
                pybullet.stepSimulation(physicsClientId=client)
            pybullet.getJointStates(body, joints, physicsClientId=client)
            pybullet.getLinkState(body, 11, physicsClientId=client)
            for part in bodies:
                pybullet.getBasePositionAndOrientation(part, physicsClientId=client)
                pybullet.getBaseVelocity(part, physicsClientId=client)

    return cpu_seconds(loop)


def camera_steps(cell: WorkCell, episode: Recorded) -> float:
    """Return the CPU seconds of the first steps of an episode with two pictures each."""
    cell.reset(seed=episode.seed)

    def loop() -> None:
        for action in episode.actions[:CAMERA_STEPS]:
            cell.advance(action)
            cell.observe(CAMERAS)

    return cpu_seconds(loop)


def stock_camera_steps(cell: WorkCell, episode: Recorded) -> float:
    """Return the same with the stock visual meshes; every reset but a cell's first loads the arm anew."""
    cell.reset(seed=episode.seed)
    with tempfile.TemporaryDirectory() as folder, patch.object(robot, "URDF", stock_urdf(Path(folder))):
        return camera_steps(cell, episode)


def stock_urdf(folder: Path) -> Path:
    """Write our arm with the stock visual meshes; everything else stays, so that only drawing differs."""
    source = Path(pybullet_data.getDataPath()) / "franka_panda" / "meshes"
    text = robot.URDF.read_text()
    text = re.sub(r"\s*<visual>(?:(?!</visual>).)*_dark\.obj.*?</visual>", "", text, flags=re.DOTALL)

    def mesh(match: re.Match[str]) -> str:
        visual = source / "visual" / f"{match[1]}.obj"
        return f'"{visual if visual.exists() else source / "collision" / visual.name}"'

    path = folder / "panda.urdf"
    path.write_text(re.sub(r'"(\w+)_white\.obj"', mesh, text))
    return path


def measure(repeats: int) -> dict[str, Any]:
    """Run everything in turns; return the rows of the table."""
    ours = make_cell(CELL, privileged=True, cameras=(), image_size=(SIZE, SIZE))
    bare = make_cell(CELL, privileged=True, cameras=())
    stock = make_cell(CELL, privileged=True, cameras=(), image_size=(SIZE, SIZE))
    small = make_cell(CELL, privileged=True, cameras=())
    times: dict[str, list[float]] = {key: [] for key in ("step", "bare", "bare own", "cameras", "stock", "small")}
    for number, episode in enumerate([record(ours, seed) for seed in SEEDS] * repeats):
        steps = len(episode.actions)
        round_times = {
            "step": control_steps(ours, episode) / steps,
            "bare": bare_steps(bare, episode) / steps,
            "bare own": bare_steps(bare, episode, own_kinematics=True) / steps,
            "cameras": camera_steps(ours, episode) / CAMERA_STEPS,
            "stock": stock_camera_steps(stock, episode) / CAMERA_STEPS,
            "small": camera_steps(small, episode) / CAMERA_STEPS,
        }
        if number:  # the first warms up
            for key, value in round_times.items():
                times[key].append(value)
    for cell in (ours, bare, stock, small):
        cell.close()
    ms = {key: 1e3 * float(np.median(values)) for key, values in times.items()}

    def row(name: str, mine: str, reference: str, against: str) -> dict[str, Any]:
        pairs = zip(times[reference], times[mine], strict=True)
        ratio = float(np.median([theirs / own for theirs, own in pairs]))
        return {
            "name": name,
            "ms": round(ms[mine], 3),
            "per_cpu_second": round(1e3 / ms[mine], 1),
            "reference": against,
            "reference_ms": round(ms[reference], 3),
            "ratio": round(ratio, 3),
            "target": TARGETS.get(name),
        }

    return {
        "schema_version": 1,
        "benchmark": "simulation",
        "cell": CELL,
        "repeats": repeats,
        "rows": [
            row("control steps", "step", "bare", "bare loop"),
            row("control steps, our kinematics in both", "step", "bare own", "bare loop, our kinematics"),
            row("two 128 px cameras", "cameras", "stock", "stock meshes"),
        ],
        "views": {
            "96_px_ms": round((ms["small"] - ms["step"]) / 2, 2),
            "128_px_ms": round((ms["cameras"] - ms["step"]) / 2, 2),
            "stock_128_px_ms": round((ms["stock"] - ms["step"]) / 2, 2),
        },
    }


def main() -> None:
    """Print the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    parser.add_argument("--repeats", type=int, default=4, help="rounds of six episodes (default 4)")
    arguments = parser.parse_args()
    result = measure(arguments.repeats)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print("CPU time on one thread, medians of interleaved rounds; ratio = reference time / our time\n")
    print(f"{'what':38} {'ms':>8} {'per CPU-s':>10}  {'reference':26} {'ms':>8} {'ratio':>7} {'target':>7}")
    for entry in result["rows"]:
        target = f">= {entry['target']}" if entry["target"] else ""
        print(
            f"{entry['name']:38} {entry['ms']:8.3f} {entry['per_cpu_second']:10.1f}  {entry['reference']:26} "
            f"{entry['reference_ms']:8.3f} {entry['ratio']:7.2f} {target:>7}"
        )
    views = result["views"]
    print(
        f"\none view: {views['96_px_ms']} ms at 96 px, {views['128_px_ms']} ms at 128 px "
        f"(stock meshes {views['stock_128_px_ms']} ms)"
    )


if __name__ == "__main__":
    main()
