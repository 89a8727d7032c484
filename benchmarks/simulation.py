"""The work cells on one thread, in CPU time, beside bare PyBullet, the stock robot model and panda-gym.

Control steps: `step()` without cameras, with privileged state, reward and success; in a row of its
own with capture of the simulator's state, which datasets keep. The reference is a bare loop in a
world of its own: PyBullet's inverse kinematics, one motor array, the same commands to the fingers,
12 substeps and the same reads of joints, tool and bodies, along the same targets, so that it grips
and carries the same part. Camera steps: a control step and two 128 px views; the reference is the
same cell with the arm's stock meshes. Resets: the reference loads the stock arm, table and parts
again. All run the same expert episodes, in turns. panda-gym's pick-and-place runs random actions,
and so do we beside it; a second of its simulation has 500 substeps, one of ours 240.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pybullet_data

from benchmarks.work_cells import make_work_cell
from shopfloor.core import CONTROL_HZ
from shopfloor.envs.cell import WorkCell
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.kinematics import PANDA, matrix, quaternion
from shopfloor.envs.physics.world import SUBSTEPS
from shopfloor.envs.robots.models import ARMS

CELL = "shopfloor/PickToTray-v0"
SEEDS = range(600_500, 600_506)
SIZE = 128
CAMERAS = ("front", "wrist")
TARGETS = {
    "control steps": 0.95,
    "two 128 px cameras": 3.5,
    "reset": 50.0,
    "one 128 px view, gl": 10.0,
    "simulated seconds, state": 1.5,
    "simulated seconds, one 128 px view": 4.0,
}
CAMERA_STEPS = 20
RESETS = 10
PEER = "PandaPickAndPlace-v3"
PEER_STEP_S = 0.04
PEER_STEPS, OUR_STEPS = 50, 40  # two seconds of either


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
        action = np.asarray(
            expert.act({**observation, "object_names": info["object_names"]}).actions[0], np.float32
        )
        observation, _, terminated, truncated, info = cell.step(action)
        done = terminated or truncated
        turned = quaternion(cell.robot.target_rotation @ np.diag([1.0, -1.0, -1.0]))
        episode.actions.append(action)
        episode.targets.append((cell.robot.target_position.tolist(), turned, cell.robot.gripper))
    return episode


def cpu_seconds(function: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    began = time.process_time()
    function()
    return time.process_time() - began


def control_steps(cell: WorkCell, episode: Recorded, *, capture: bool = False) -> float:
    """Return the CPU seconds of an episode through `step()`, and `sim_state()` where its state is captured."""
    cell.reset(seed=episode.seed)

    def loop() -> None:
        for action in episode.actions:
            cell.step(action)
            if capture:
                cell.sim_state()

    return cpu_seconds(loop)


def bare_steps(cell: WorkCell, episode: Recorded, *, own_kinematics: bool = False) -> float:
    """Return the CPU seconds of the reference: PyBullet's calls alone, along the same targets."""
    client, body, bodies = cell.world.client, cell.robot.body, cell.world.bodies
    arm, fingers = [0, 1, 2, 3, 4, 5, 6], [9, 10]
    joints, forces, gains = arm + fingers, [87.0] * 4 + [12.0] * 3, [0.2] * 7
    cell.reset(seed=episode.seed)
    start = cell.robot.joints[:7].copy()

    def loop() -> None:
        wanted, driven = start, -1.0
        for position, turned, gripper in episode.targets:
            if own_kinematics:
                wanted, _ = PANDA.inverse_step(
                    wanted, np.array(position), matrix(turned) * [1.0, -1.0, -1.0]
                )
                goals = wanted.tolist()
            else:
                goals = list(
                    pybullet.calculateInverseKinematics(
                        body, 11, position, turned, physicsClientId=client
                    )
                )
            pybullet.setJointMotorControlArray(
                body,
                arm,
                pybullet.POSITION_CONTROL,
                targetPositions=goals[:7],
                forces=forces,
                positionGains=gains,
                physicsClientId=client,
            )
            if (
                gripper != driven
            ):  # the same pads and motors, so that the same contacts are there to be solved
                driven = gripper
                cell.robot.hand.drive(gripper)
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


def stock_urdf(folder: Path, urdf: Path) -> Path:
    """Write our arm with the stock visual meshes; everything else stays, so that only drawing differs."""
    source = Path(pybullet_data.getDataPath()) / "franka_panda" / "meshes"
    text = re.sub(
        r"\s*<visual>(?:(?!</visual>).)*_dark\.obj.*?</visual>",
        "",
        urdf.read_text(),
        flags=re.DOTALL,
    )

    def mesh(match: re.Match[str]) -> str:
        visual = source / "visual" / f"{match[1]}.obj"
        return f'"{visual if visual.exists() else source / "collision" / visual.name}"'

    path = folder / "panda.urdf"
    path.write_text(re.sub(r'"(\w+)_white\.obj"', mesh, text))
    return path


def stock_cell(folder: Path) -> WorkCell:
    """Make the cell with the arm's stock meshes."""
    ours = ARMS["panda"]
    ARMS["panda"] = replace(ours, urdf=stock_urdf(folder, ours.urdf))
    try:
        return make_work_cell(CELL, privileged=True, cameras=(), image_size=(SIZE, SIZE))
    finally:
        ARMS["panda"] = ours


def views(cell: WorkCell, episode: Recorded) -> float:
    """Return the CPU seconds of the front view, drawn in the middle of an episode again and again."""
    cell.reset(seed=episode.seed)
    for action in episode.actions[:CAMERA_STEPS]:
        cell.advance(action)
    cell.look("front")

    def loop() -> None:
        for _ in range(CAMERA_STEPS):
            cell.look("front")

    return cpu_seconds(loop)


def resets(cell: WorkCell, episode: Recorded) -> float:
    """Return the CPU seconds of a reset of a used cell, the mean of ten."""

    def loop() -> None:
        for number in range(RESETS):
            cell.reset(seed=episode.seed + number)

    return cpu_seconds(loop) / RESETS


def reload(client: int) -> float:
    """Return the CPU seconds of loading what PyBullet ships for such a scene again."""

    def load() -> None:
        pybullet.resetSimulation(physicsClientId=client)
        for name in (
            "franka_panda/panda.urdf",
            "table/table.urdf",
            "tray/traybox.urdf",
            *["cube_small.urdf"] * 3,
        ):
            pybullet.loadURDF(name, useFixedBase="cube" not in name, physicsClientId=client)

    return cpu_seconds(load)


def simulated(
    env: gymnasium.Env[Any, Any], steps: int, *, look: Callable[[], object] | None = None
) -> float:
    """Return the CPU seconds of two simulated seconds of random actions, with a picture at every step if asked to."""
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(steps)]

    def loop() -> None:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if look is not None:
                look()
            if terminated or truncated:
                env.reset()

    return cpu_seconds(loop)


def have_gl() -> bool:
    """Return whether the extra `gl` is installed and works."""
    from shopfloor.core import ShopfloorError

    try:
        cell = make_work_cell(CELL, cameras=(), renderer="gl")
        cell.reset(seed=0)
        cell.look("front")
        cell.close()
    except ShopfloorError:
        return False
    return True


def measure(repeats: int) -> dict[str, Any]:
    """Run everything in turns; return the rows of the table."""
    import panda_gym  # noqa: F401  # registers its environments

    folder = tempfile.TemporaryDirectory()
    options: dict[str, Any] = {"privileged": True, "cameras": ()}
    ours, bare, small = (
        make_work_cell(CELL, image_size=(size, size), **options) for size in (SIZE, SIZE, 96)
    )
    stock = stock_cell(Path(folder.name))
    gl = (
        make_work_cell(CELL, image_size=(SIZE, SIZE), renderer="gl", **options)
        if have_gl()
        else None
    )
    peer = gymnasium.make(
        PEER, render_mode="rgb_array", renderer="Tiny", render_width=SIZE, render_height=SIZE
    )
    client = pybullet.connect(pybullet.DIRECT)
    pybullet.setAdditionalSearchPath(pybullet_data.getDataPath(), physicsClientId=client)
    times: dict[str, list[float]] = {}
    for number, episode in enumerate([record(ours, seed) for seed in SEEDS] * repeats):
        steps = len(episode.actions)
        peer_s, our_s = PEER_STEPS * PEER_STEP_S, OUR_STEPS / CONTROL_HZ
        round_times = {
            "step": control_steps(ours, episode) / steps,
            "captured": control_steps(ours, episode, capture=True) / steps,
            "bare": bare_steps(bare, episode) / steps,
            "bare own": bare_steps(bare, episode, own_kinematics=True) / steps,
            "cameras": camera_steps(ours, episode) / CAMERA_STEPS,
            "stock": camera_steps(stock, episode) / CAMERA_STEPS,
            "small": views(small, episode) / CAMERA_STEPS,
            "view": views(ours, episode) / CAMERA_STEPS,
            "stock view": views(stock, episode) / CAMERA_STEPS,
            "reset": resets(ours, episode),
            "reload": reload(client),
            "state": simulated(ours, OUR_STEPS) / our_s,
            "peer state": simulated(peer, PEER_STEPS) / peer_s,
            "picture": simulated(ours, OUR_STEPS, look=lambda: ours.look("front")) / our_s,
            "peer picture": simulated(peer, PEER_STEPS, look=peer.render) / peer_s,
        }
        if gl is not None:
            round_times["gl view"] = views(gl, episode) / CAMERA_STEPS
            round_times["gl cameras"] = camera_steps(gl, episode) / CAMERA_STEPS
        if number:  # the first warms up
            for key, value in round_times.items():
                times.setdefault(key, []).append(value)
    for each in (ours, bare, stock, small, peer, *([gl] if gl else [])):
        each.close()
    pybullet.disconnect(physicsClientId=client)
    folder.cleanup()
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
            row("control steps, state captured", "captured", "bare", "bare loop"),
            row(
                "control steps, our kinematics in both",
                "step",
                "bare own",
                "bare loop, our kinematics",
            ),
            row("two 128 px cameras", "cameras", "stock", "stock meshes"),
            *([row("two 128 px cameras, gl", "gl cameras", "stock", "stock meshes")] if gl else []),
            row("one 128 px view", "view", "stock view", "stock meshes"),
            *([row("one 128 px view, gl", "gl view", "stock view", "stock meshes")] if gl else []),
            row("reset", "reset", "reload", "reload of the stock scene"),
            row("simulated seconds, state", "state", "peer state", "panda-gym"),
            row(
                "simulated seconds, one 128 px view", "picture", "peer picture", "panda-gym, 128 px"
            ),
        ],
        "views": {"96_px_ms": round(ms["small"], 2)},
    }


def main() -> None:
    """Print the table, or one JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document instead of the table"
    )
    parser.add_argument("--repeats", type=int, default=4, help="rounds of six episodes (default 4)")
    arguments = parser.parse_args()
    result = measure(arguments.repeats)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(
        "CPU time on one thread, medians of interleaved rounds; ratio = reference time / our time\n"
    )
    print(
        f"{'what':38} {'ms':>8} {'per CPU-s':>10}  {'reference':26} {'ms':>8} {'ratio':>7} {'target':>7}"
    )
    for entry in result["rows"]:
        target = f">= {entry['target']}" if entry["target"] else ""
        print(
            f"{entry['name']:38} {entry['ms']:8.3f} {entry['per_cpu_second']:10.1f}  {entry['reference']:26} "
            f"{entry['reference_ms']:8.3f} {entry['ratio']:7.2f} {target:>7}"
        )
    print(f"\none view of 96 px: {result['views']['96_px_ms']} ms")


if __name__ == "__main__":
    main()
