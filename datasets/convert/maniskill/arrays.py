"""A trajectory of ManiSkill as one of our episodes: which array becomes what, and what has no place."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import Episode, EpisodeSpec, InvalidInputError
from shopfloor.datasets.convert.hdf5.foreign_arrays import ForeignArray
from shopfloor.datasets.convert.hdf5.foreign_rows import (
    bare_episode,
    no_place,
    observation_key,
    plain,
)
from shopfloor.datasets.convert.maniskill.metadata import Listed
from shopfloor.datasets.convert.rows import exact_float32
from shopfloor.datasets.disk.errors import DamagedFileError

Arrays = Mapping[str, ForeignArray]
# Of a concatenated array: name and number of columns of one that is in it.
Segment = tuple[str, int]

OBSERVATIONS, ACTIONS, STATES, REWARDS = "obs", "actions", "env_states", "rewards"
FLAGS = ("terminated", "truncated", "success", "fail")
_SENSORS = "sensor_data."
_ADVICE = "Get both files again, as one recording wrote them."
_ONE_KIND = "Import recordings of one kind, one by one."


@dataclass(frozen=True)
class ManiSkillPlan:
    """What is read of every trajectory; decided by the first.

    Attributes:
        file: the .h5.
        keys: name of an array below the trajectory -> our observation key.
        rows: name -> shape and dtype of a row of it, for observations.
        actions: the arrays that are concatenated to actions, in order.
        states: those that are concatenated to simulator states, in order.
        left_out: name -> why it has no place here.
    """

    file: Path
    keys: Mapping[str, str]
    rows: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
    actions: tuple[Segment, ...]
    states: tuple[Segment, ...]
    left_out: Mapping[str, str]

    def names(self, parts: tuple[Segment, ...]) -> list[str]:
        """Return a name for each number of a concatenated array, none if it was a single array."""
        if len(parts) == 1 and "/" not in parts[0][0]:
            return []

        names = []
        for name, size in parts:
            below = name.partition("/")[2]
            names += [f"{below}.{number}" for number in range(size)]
        return names


def plan_import(file: Path, trajectory: str, arrays: Arrays) -> ManiSkillPlan:
    """Decide which array becomes what.

    Args:
        file: the .h5.
        trajectory: name of the first trajectory.
        arrays: its arrays.

    Raises:
        InvalidInputError: there are no actions to learn from.
    """
    keys: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for name, array in arrays.items():
        root = name.partition("/")[0]
        why = _no_place(root, name, array)
        if not why and root == OBSERVATIONS:
            key = _key(name, array, keys.values())
            if key is None:
                why = "no observation key can be made of its name"
            else:
                keys[name] = key

        if why:
            left_out[name] = why

    actions = _parts(arrays, ACTIONS, left_out)
    if not actions:
        raise InvalidInputError(
            f"{file}: {trajectory}/{ACTIONS} is no array of numbers, nor a group of them; an "
            "episode needs actions."
        )

    rows = {}
    for name in keys:
        rows[name] = (arrays[name].shape[1:], arrays[name].dtype or np.dtype(np.uint8))
    return ManiSkillPlan(file, keys, rows, actions, _parts(arrays, STATES, left_out), left_out)


def _no_place(root: str, name: str, array: ForeignArray) -> str:
    """Return why an array has no place here, "" if it has one; actions are checked when read."""
    if root in (ACTIONS, REWARDS) or name in FLAGS:
        return ""
    if root not in (OBSERVATIONS, STATES):
        return "neither observation, action nor state"
    if no_place(array):
        return no_place(array)
    if root == STATES:
        fits = len(array.shape) == 2 and array.dtype in (np.float32, np.float64)
        return "" if fits else f"of shape {array.shape} and {array.dtype}, expected rows of floats"

    return f"of shape {array.shape}" if 0 in array.shape[1:] else ""


def _key(name: str, array: ForeignArray, taken: Collection[str]) -> str | None:
    """Return an array's observation key: the camera's name for its pictures, else its path, dotted."""
    if name == OBSERVATIONS:  # a single vector
        return "state"
    path = name.removeprefix(f"{OBSERVATIONS}/").replace("/", ".")
    short = path.removeprefix(_SENSORS)
    picture = array.dtype == np.uint8 and len(array.shape) == 4 and array.shape[3] == 3
    camera = short.removesuffix(".rgb") if picture and path.startswith(_SENSORS) else short
    for candidate in (camera, short, path):
        key = observation_key(candidate, taken)
        if key:
            return key
    return None


def _parts(arrays: Arrays, root: str, left_out: Collection[str]) -> tuple[Segment, ...]:
    found = []
    for name, array in arrays.items():
        if name == root or (name.startswith(f"{root}/") and name not in left_out):
            found.append((name, array.shape[1] if len(array.shape) == 2 else -1))
    return tuple(found)


class Trajectory:
    """A trajectory that is being read.

    Attributes:
        same_states: whether its simulator states are of the same bodies as the first trajectory's.
    """

    def __init__(self, plan: ManiSkillPlan, listed: Listed, arrays: Arrays) -> None:
        """Check what it holds against the plan, the .json and itself, before any of it is read.

        Raises:
            DamagedFileError: lengths that do not go together; InvalidInputError: it is not like the
                first one.
        """
        self._plan, self._listed, self._arrays = plan, listed, arrays
        self._name = f"traj_{listed.number}"
        own = _parts(arrays, ACTIONS, ())

        if own != plan.actions or min(size for _, size in own) < 0:
            raise InvalidInputError(
                f"{plan.file}: the actions of {self._name} are {_segment_texts(own)}; those of the "
                f"first trajectory are {_segment_texts(plan.actions)}. Expected are rows of "
                "numbers, the same in all."
            )

        self._steps = arrays[own[0][0]].rows
        if listed.steps not in (None, self._steps):
            raise self._damaged(
                f"has {self._steps} actions; the .json says elapsed_steps {listed.steps}"
            )

        self._check_observations()
        self._check_lengths()
        self.same_states = _parts(arrays, STATES, plan.left_out) == plan.states

    def _check_lengths(self) -> None:
        for name, array in self._arrays.items():
            root = name.partition("/")[0]
            if name in self._plan.left_out:
                continue
            due = self._steps + (root in (OBSERVATIONS, STATES))
            if array.rows != due:
                raise self._damaged(
                    f"{name} has {array.rows} rows, expected {due} for {self._steps} actions", "/"
                )

    def _check_observations(self) -> None:
        for name, (shape, dtype) in self._plan.rows.items():
            array = self._arrays.get(name)
            if array is None or (array.shape[1:], array.dtype) != (shape, dtype):
                found = (
                    "is missing"
                    if array is None
                    else f"has rows {array.shape[1:]} of {array.dtype}"
                )

                raise InvalidInputError(
                    f"{self._plan.file}: {self._name}/{name} {found}; the first one has rows "
                    f"{shape} of {dtype}. {_ONE_KIND}"
                )

        known = {*self._plan.rows, *self._plan.left_out, *FLAGS}
        for name in self._arrays:
            if name not in known and name.partition("/")[0] not in (ACTIONS, STATES, REWARDS):
                raise InvalidInputError(
                    f"{self._plan.file}: {self._name}/{name} is not in the first one. {_ONE_KIND}"
                )

    def _damaged(self, problem: str, join: str = " ") -> DamagedFileError:
        return DamagedFileError(self._plan.file, f"{self._name}{join}{problem}", _ADVICE)

    def episode(self, spec: EpisodeSpec, instruction: str, cast: bool) -> Episode:
        """Read it.

        Args:
            spec: the episode's spec.
            instruction: its text.
            cast: whether actions and rewards may be rounded to float32.

        Raises:
            DamagedFileError, UnsafeFileError: what is wrong with an array; InvalidInputError: it
                would be rounded.
        """
        where = f"{self._plan.file}: {self._name}"
        actions = []
        for name, _ in self._plan.actions:
            rows = self._arrays[name].read()
            actions.append(exact_float32(rows, f"{where}/{name}", cast))

        success = self._success()
        failed = not success and self._flag("fail") is True
        ended = self._flag("terminated")
        observations = {}
        for name, key in self._plan.keys.items():
            observations[key] = plain(self._arrays[name].read())

        return bare_episode(
            spec,
            instruction,
            observations,
            np.concatenate(actions, axis=1),
            self._rewards(f"{where}/{REWARDS}", cast),
            success=success,
            terminated=success or failed if ended is None else ended,
            sim_states=self._states(),
        )

    def _states(self) -> npt.NDArray[np.float64]:
        if not self._plan.states or not self.same_states:
            return np.zeros((self._steps + 1, 0))
        parts = [self._arrays[name].read().astype(np.float64) for name, _ in self._plan.states]
        return np.concatenate(parts, axis=1)

    def _column(self, name: str) -> npt.NDArray[Any] | None:
        """Return an array of a number a step, shape (T,), None if there is none."""
        array = self._arrays.get(name)
        if array is None:
            return None
        if array.shape[1:] not in ((), (1,)):
            raise self._damaged(f"{name} has shape {array.shape}, expected ({self._steps},)", "/")
        return array.read().reshape(-1)

    def _rewards(self, where: str, cast: bool) -> npt.NDArray[np.float32]:
        rewards = self._column(REWARDS)
        return (
            np.zeros(self._steps, np.float32)
            if rewards is None
            else exact_float32(rewards, where, cast)
        )

    def _flag(self, name: str) -> bool | None:
        """Return a truth value after the last action, from the .h5 or else the .json, None without it."""
        column = self._column(name)
        if column is not None and len(column):
            return bool(column[-1])
        return self._listed.flags.get(name)

    def _success(self) -> bool:
        success = self._flag("success")
        return self._flag("fail") is not True if success is None else success  # see `outcomes`


def _segment_texts(parts: tuple[Segment, ...]) -> str:
    return ", ".join(f"{name} ({size})" if size >= 0 else name for name, size in parts) or "none"


def outcomes(arrays: Arrays, listed: Listed) -> str:
    """Return where an import has episodes' outcomes from, for people."""
    if "success" in arrays or "success" in listed.flags:
        return "from success after the last action"
    return "assumed to be successes where nothing says that they failed: the source has no success"
