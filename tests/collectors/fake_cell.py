"""A work cell without an engine: a point that must reach a goal, with faults on request. Fast, for tests of the loop.

It is installed as a plugin by `plugin_path`, so worker processes find it as they would find a third
party's cell.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from shopfloor.core import (
    ACTION_CONVENTION,
    ActionChunk,
    InvalidInputError,
    PolicyInfo,
    seed_stream,
)

CELL_ID = "shopfloor/FakeReach-v0"
ACTION_SIZE = 7


class FakeCell:
    """Move a point to a goal within 40 steps; `fault` makes it fail at step 3."""

    cell_id = CELL_ID
    action_size = ACTION_SIZE
    max_episode_steps = 40

    def __init__(
        self,
        robot="panda",
        cameras=("front",),
        image_size=(8, 12),
        privileged=False,
        variation="nominal",
        render_mode=None,
    ):
        self.cameras, self.image_size, self.fault = cameras, tuple(image_size), variation
        self.rendered = []
        self.executed = []

    def reset(self, *, seed=None, options=None):
        generator = seed_stream(seed, "cell")
        self.seed = seed
        self.position = generator.uniform(-0.1, 0.1, 3)
        self.goal = generator.uniform(-0.1, 0.1, 3)
        self.steps, self.failure, self.executed, self.ended = 0, "", [], False
        self.instruction = f"reach goal {seed}"
        self.object_names = ("point", "goal")
        if self.fault == "bad_reset":
            raise ZeroDivisionError("no reset")
        return self.observe(), self._info()

    def advance(self, action):
        if self.ended or action.shape != (ACTION_SIZE,):
            raise InvalidInputError(f"action {action} at step {self.steps}")
        self.executed.append(action.copy())  # as given: rollouts give nothing out of bounds
        self.steps += 1
        if not np.isfinite(action).all():
            self.failure, self.ended = "nonfinite_action", True
            return 0.0, True, False, self._info()
        action = np.clip(action, -1.0, 1.0)
        self.position = self.position + 0.025 * action[:3]
        if self.steps == 3:
            self._fail()
        success = bool(np.linalg.norm(self.position - self.goal) < 0.01)
        self.ended = success or bool(self.failure) or self.steps >= self.max_episode_steps
        return (
            float(success),
            success or bool(self.failure),
            self.steps >= self.max_episode_steps,
            self._info(success),
        )

    def _fail(self):
        if self.fault == "crash":
            raise RuntimeError("engine fault")
        if self.fault == "nan":
            self.position = self.position * np.nan
        if self.fault == "kill" or (self.fault == "kill_once" and _first_time(self.seed)):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "slow":
            time.sleep(0.2)
        if self.fault == "hang":
            (Path(os.environ["FAKE_CELL_MARKS"]) / f"hangs-{os.getpid()}").touch()
            time.sleep(3600)
        if self.fault == "dropped":
            self.failure = "dropped"
        if self.fault == "odd":
            self.failure = "because"

    def _info(self, success=False):
        return {
            "instruction": self.instruction,
            "object_names": self.object_names,
            "success": success,
            "stage": "near" if np.linalg.norm(self.position - self.goal) < 0.05 else "far",
            "failure": self.failure,
        }

    def observe(self, cameras=None):
        cameras = self.cameras if cameras is None else cameras
        objects = np.zeros((2, 12), np.float32)
        objects[0, :3], objects[1, :3] = self.position, self.goal
        observation = {
            "state": np.concatenate([self.position, self.goal]).astype(np.float32),
            "objects": objects,
        }
        for name in cameras:
            self.rendered.append((self.steps, name))
            observation[name] = self._picture(name)
        return observation

    def _picture(self, name):
        shade = int(1000 * float(self.position.sum())) % 251
        return np.full((*self.image_size, 3), shade + len(name) % 4, np.uint8)

    def sim_state(self):
        return np.concatenate([self.position, self.goal, [self.steps]]).astype(np.float64)

    def set_sim_state(self, state):
        self.position, self.goal, self.steps = state[:3].copy(), state[3:6].copy(), int(state[6])
        self.ended = False

    def camera_track(self, name):
        return np.eye(3), np.eye(4) * len(name)

    def describe(self):
        camera = {"shape": [*self.image_size, 3], "dtype": "uint8", "names": [], "units": []}
        return {
            "cell": CELL_ID,
            "robot": "panda",
            "control_hz": 20,
            "action_convention": ACTION_CONVENTION,
            "action_names": ["dx", "dy", "dz", "rx", "ry", "rz", "gripper"],
            "frozen_actions": ["rx", "ry"],
            "max_episode_steps": self.max_episode_steps,
            "features": {
                "state": {
                    "shape": [6],
                    "dtype": "float32",
                    "names": [f"s{i}" for i in range(6)],
                    "units": ["m"] * 6,
                },
                "objects": {"shape": [2, 12], "dtype": "float32", "names": [], "units": []},
                "front": camera,
                "wrist": camera,
            },
            "object_slots": 2,
            "instruction_templates": {"point": ["reach goal"]},
            "env_args": {"env_name": CELL_ID, "type": 2, "env_kwargs": {}},
        }

    def close(self):
        self.closed = True


def make(**options):
    return FakeCell(**options)


class FakePolicy:
    """Goes to the goal at a speed; `answer` replaces its reply."""

    def __init__(
        self,
        name="fake",
        keys=("state",),
        speed=1.0,
        execute=1,
        horizon=4,
        expert=False,
        answer=None,
        sign=1.0,
        cells=(CELL_ID,),
        image_size=None,
    ):
        digest = f"{name}-{speed}-{execute}-{sign}-{keys}"
        self.info = PolicyInfo(
            name, digest, tuple(cells), tuple(keys), image_size=image_size, expert=expert
        )
        self.speed, self.execute, self.horizon, self.answer, self.sign = (
            speed,
            execute,
            horizon,
            answer,
            sign,
        )
        self.seen, self.resets = [], []

    def reset(self, seed, instruction):
        self.resets.append((seed, instruction))
        self.generator = seed_stream(seed, "policy")

    def act(self, observation):
        self.seen.append(observation)
        if self.answer is not None:
            return self.answer(len(self.seen), observation)
        where = observation["state"][:3].astype(np.float64)
        goal = observation["state"][3:6]
        actions = np.zeros((self.horizon, ACTION_SIZE), np.float32)
        for row in actions:
            step = np.clip(self.sign * (goal - where) / 0.025, -self.speed, self.speed)
            row[:3], row[6] = step, 1.0
            where = where + 0.025 * step
        return ActionChunk(actions, execute=self.execute)


def make_policy(cell, **arguments):
    assert cell == CELL_ID
    return FakePolicy(
        **{
            key: tuple(value) if isinstance(value, list) else value
            for key, value in arguments.items()
        }
    )


def spec_parts(policy, teacher=None):
    return SimpleNamespace(
        policy_digest=policy.info.digest, teacher_digest=teacher.info.digest if teacher else ""
    )


def _first_time(seed):
    marker = Path(os.environ["FAKE_CELL_MARKS"]) / f"killed-{seed}"
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def plugin_path(folder):
    """Write a distribution that offers this module as a plugin; returns the folder to put on `sys.path`."""
    info = folder / "fake_cell-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-cell\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(
        f"[shopfloor.cells]\n{CELL_ID} = fake_cell:make\n\n[shopfloor.policies]\nfake = fake_cell:make_policy\n"
    )
    (folder / "fake_cell.py").write_text(Path(__file__).read_text())
    return folder
