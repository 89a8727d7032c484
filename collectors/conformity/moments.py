"""A cell's episodes, checked moment by moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.collectors.conformity.contract import demand, no_exception
from shopfloor.collectors.conformity.descriptions import OBJECTS, STATE
from shopfloor.core import FAILURE_REASONS, Cell, FloatArray, Observation
from shopfloor.datasets.format import kinds

INFO = {
    "instruction": "a text for the policy, not empty",
    "object_names": "a tuple of class names, one per row of 'objects'",
    "success": "a bool",
    "stage": "a text",
    "failure": "a text",
}


@dataclass(frozen=True)
class Moment:
    """What a cell gives at one moment of an episode, copied.

    Attributes:
        observation: key -> array.
        sim_state: shape (D,), float64.
        reward: of the step before, 0.0 after a reset.
        ended: terminated, truncated.
        info: the info.
    """

    observation: dict[str, npt.NDArray[Any]]
    sim_state: FloatArray
    reward: float
    ended: tuple[bool, bool]
    info: dict[str, Any]

    def differences(self, other: Moment) -> Iterable[str]:
        """Yield the names of what differs from another moment."""
        pairs: dict[str, tuple[Any, Any]] = {
            "sim_state": (self.sim_state.tobytes(), other.sim_state.tobytes()),
            "reward": (self.reward, other.reward),
            "terminated, truncated": (self.ended, other.ended),
            **{f"info[{key!r}]": (self.info[key], other.info[key]) for key in INFO},
        }
        yield from self.seen_otherwise(other)
        yield from (name for name, (left, right) in pairs.items() if left != right)

    def seen_otherwise(self, other: Moment) -> Iterable[str]:
        """Yield the keys of observations that differ from another moment's."""
        for key in sorted({*self.observation, *other.observation}):
            one, two = self.observation.get(key), other.observation.get(key)
            if one is None or two is None or one.tobytes() != two.tobytes():
                yield repr(key)


class Player:
    """Runs episodes of a cell and checks what it gives.

    Attributes:
        cell: the cell.
        features: of its description.
        cameras: names of its pictures.
    """

    def __init__(self, cell: Cell, features: Mapping[str, Any]) -> None:
        """Play in a cell whose description is sound."""
        self.cell = cell
        self.features = features
        self.cameras = list(kinds.keys_of(features, kinds.PICTURE))

    def play(self, seed: int, actions: npt.NDArray[np.float32]) -> list[Moment]:
        """Run an episode until the actions or the episode end; pictures at both ends."""
        moments = [self.begin(seed)]
        for step, action in enumerate(actions, start=1):
            cameras = self.cameras if step == len(actions) else ()
            moments.append(self.step(seed, step, action, cameras))
            if any(moments[-1].ended):
                break
        return moments

    def begin(self, seed: int) -> Moment:
        """Reset, and look with all cameras."""
        where = self.at(seed, 0)
        with no_exception(where, f"reset(seed={seed})"):
            found: Any = self.cell.reset(seed=seed)

        demand(
            isinstance(found, tuple) and len(found) == 2,
            where,
            f"reset returned {found!r}",
            "the observation and the info",
            "Return both.",
        )

        observation, info = found
        self._check_observation(where, observation, (STATE,))
        check_info(where, info)

        demand(
            not info["success"] and not info["failure"],
            where,
            f"success is {info['success']}, failure {info['failure']!r}",
            "False and ''",
            "An episode that is over before its first step teaches nothing.",
        )

        return self.look(where, self.cameras, 0.0, (False, False), info)

    def step(
        self, seed: int, step: int, action: npt.NDArray[np.float32], cameras: Sequence[str] = ()
    ) -> Moment:
        """Advance by one action, and look with some cameras."""
        where = self.at(seed, step)
        with no_exception(where, "advance"):
            found: Any = self.cell.advance(action)

        demand(
            isinstance(found, tuple) and len(found) == 4,
            where,
            f"advance returned {found!r}",
            "reward, terminated, truncated, info",
            "Return the four; it is `observe` that returns the observation.",
        )

        reward, terminated, truncated, info = found
        demand(
            isinstance(reward, float | int | np.number) and np.isfinite(reward),
            where,
            f"the reward is {reward!r}",
            "a finite number",
            "Give 1.0 on the step where success first holds, else 0.0.",
        )

        for name, value in (("terminated", terminated), ("truncated", truncated)):
            is_bool = isinstance(value, bool | np.bool_)
            demand(is_bool, where, f"{name} is {value!r}", "a bool", "Wrap it in bool().")

        check_info(where, info)
        ended = bool(terminated), bool(truncated)
        check_ending(where, ended, info)
        return self.look(where, cameras, float(reward), ended, info)

    def look(
        self,
        where: str,
        cameras: Sequence[str],
        reward: float,
        ended: tuple[bool, bool],
        info: Mapping[str, Any],
    ) -> Moment:
        """Observe with some cameras; check and keep what is seen."""
        with no_exception(where, f"observe({list(cameras)})"):
            observation = self.cell.observe(list(cameras))
        self._check_observation(where, observation, (STATE, *cameras))

        extra = [key for key in self.cameras if key in observation and key not in cameras]
        demand(
            not extra,
            where,
            f"observe({list(cameras)}) returned {', '.join(extra)}, too",
            "only the pictures that were asked for",
            "Render no others: pictures cost most of a step.",
        )

        rows = observation.get(OBJECTS)
        demand(
            rows is None or len(info["object_names"]) == len(rows),
            where,
            f"there are {len(info['object_names'])} object_names",
            f"{0 if rows is None else len(rows)}, one per row of 'objects'",
            "Name absent objects, too.",
        )

        for name in cameras:
            self._check_track(where, name)

        kept = {key: np.array(value) for key, value in observation.items()}
        return Moment(kept, self._sim_state(where), reward, ended, dict(info))

    def at(self, seed: int, step: int) -> str:
        """Return the text that says where something happened."""
        return f"{self.cell.cell_id}, seed {seed}, step {step}"

    def _check_observation(
        self, where: str, observation: Observation, wanted: Sequence[str]
    ) -> None:
        is_mapping = isinstance(observation, Mapping)
        found = f"the observation is {observation!r}"
        demand(is_mapping, where, found, "a dict of arrays", "Return one.")
        missing = [key for key in wanted if key not in observation]

        demand(
            not missing,
            where,
            f"the observation has no {', '.join(missing)}",
            ", ".join(wanted),
            "`observe` returns 'state' and each picture that it is asked for.",
        )

        for key in [key for key in self.features if key in observation]:
            value, feature = observation[key], self.features[key]
            found = f"a {type(value).__name__}"
            if isinstance(value, np.ndarray):
                found = f"{value.dtype} {value.shape}"
            expected = f"{feature['dtype']} {tuple(feature['shape'])}"
            advice = "Correct `describe` or `observe`."
            demand(found == expected, where, f"{key!r} is {found}", expected, advice)

            demand(
                np.isfinite(value).all(),
                where,
                f"{key!r} has non-finite numbers",
                "finite ones",
                "Hold the last value, or end the episode, where a sensor knows nothing.",
            )

    def _sim_state(self, where: str) -> FloatArray:
        with no_exception(where, "sim_state"):
            state = np.array(self.cell.sim_state())
        sound = state.dtype == np.float64 and state.ndim == 1

        demand(
            sound and np.isfinite(state).all(),
            where,
            f"sim_state is {state.dtype} {state.shape}{', not finite' if sound else ''}",
            "finite float64 (D,)",
            "Return np.zeros(0) where there is no simulator.",
        )

        return state

    def _check_track(self, where: str, name: str) -> None:
        with no_exception(where, f"camera_track({name!r})"):
            track = [np.asarray(part, dtype=np.float64) for part in self.cell.camera_track(name)]
        shapes = [part.shape for part in track]
        demand(
            shapes == [(3, 3), (4, 4)] and all(np.isfinite(part).all() for part in track),
            where,
            f"camera_track({name!r}) returned shapes {shapes}",
            "finite (3, 3) intrinsics and (4, 4) pose",
            "shopfloor.Cell.camera_track says in which units and axes.",
        )


def check_info(where: str, info: Any) -> None:  # noqa: ANN401  # whatever is there
    """Check that an info has all that it needs."""
    demand(
        isinstance(info, dict) and set(INFO) <= set(info),
        where,
        f"the info is {info!r}",
        f"a dict with {', '.join(INFO)}",
        "Add what is missing; there may be more.",
    )

    names, instruction = info["object_names"], info["instruction"]
    is_list = isinstance(names, tuple | list)
    sound = {
        "instruction": isinstance(instruction, str) and bool(instruction),
        "object_names": is_list and all(isinstance(name, str) for name in names),
        "success": isinstance(info["success"], bool | np.bool_),
        "stage": isinstance(info["stage"], str),
        "failure": isinstance(info["failure"], str),
    }

    for key, holds in sound.items():
        found = f"info[{key!r}] is {info[key]!r}"
        demand(holds, where, found, INFO[key], "Correct the info.")


def check_ending(where: str, ended: tuple[bool, bool], info: Mapping[str, Any]) -> None:
    """Check that success, failure and the end of the episode fit together."""
    terminated, truncated = ended
    success, failure = bool(info["success"]), info["failure"]
    demand(
        not success or (terminated and not failure),
        where,
        f"success is True, failure {failure!r}, terminated {terminated}",
        "success to terminate the episode, without a failure",
        "Decide once what came of it.",
    )

    # That time is up needs no reason of its own.
    known = failure in FAILURE_REASONS or (truncated and not terminated and not failure)
    demand(
        success or known or not any(ended),
        where,
        f"the episode ended with the failure {failure!r}",
        f"one of {', '.join(FAILURE_REASONS)}",
        "Choose the nearest.",
    )
