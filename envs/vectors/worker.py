"""One process of a `WorkCellVector`: holds some of its cells and steps them on demand.

Actions, observations, rewards and ends travel through shared memory. Over the socket goes one byte
per step each way; only where an info changed, or for anything but a step, a message follows it.
"""

from __future__ import annotations

import mmap
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

STEP_FLOAT32, STEP_FLOAT64 = b"f", b"d"
MESSAGE, UNCHANGED = b"m", b"="
_ALIGNMENT = 64

Info = dict[str, Any]
Environment = gymnasium.Env[dict[str, npt.NDArray[Any]], npt.NDArray[Any]]
Maker = Callable[..., Environment]


@dataclass(frozen=True)
class SharedArrays:
    """What all processes of a vector see, N environments, A action components.

    Attributes:
        observations: per key of the observation space, shape (N, ...).
        actions: the batch, shape (N, A), per command of a step: as float32 and as float64, in the
            same place.
        rewards: shape (N,), float64.
        terminations: shape (N,), bool.
        truncations: shape (N,), bool.
    """

    observations: dict[str, npt.NDArray[Any]]
    actions: dict[bytes, npt.NDArray[Any]]
    rewards: npt.NDArray[np.float64]
    terminations: npt.NDArray[np.bool_]
    truncations: npt.NDArray[np.bool_]


def share(
    memory: int,
    observations: Mapping[str, gymnasium.Space[Any]],
    actions: tuple[int, ...],
    num_envs: int,
) -> SharedArrays:
    """Map the arrays onto a memory file, which grows as needed.

    The same arguments give the same places.

    Args:
        memory: file descriptor.
        observations: the spaces of one environment's observation.
        actions: shape of one environment's action.
        num_envs: number of environments.
    """
    pieces: list[tuple[tuple[int, ...], Any]] = [
        ((num_envs, *actions), np.float64),
        ((num_envs,), np.float64),
        ((num_envs,), np.bool_),
        ((num_envs,), np.bool_),
    ]

    for space in observations.values():
        pieces.append(((num_envs, *(space.shape or ())), space.dtype))

    places = [0]
    for shape, kind in pieces:
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        places.append(places[-1] + -(-size // _ALIGNMENT) * _ALIGNMENT)

    if os.fstat(memory).st_size < places[-1]:
        os.ftruncate(memory, places[-1])
    block = mmap.mmap(memory, places[-1])

    def array(number: int, kind: Any = None) -> npt.NDArray[Any]:  # noqa: ANN401  # NumPy's
        shape, usual = pieces[number]
        found: npt.NDArray[Any] = np.ndarray(
            shape, kind or usual, buffer=block, offset=places[number]
        )
        return found

    return SharedArrays(
        {key: array(4 + number) for number, key in enumerate(observations)},
        {STEP_FLOAT32: array(0, np.float32), STEP_FLOAT64: array(0)},
        array(1),
        array(2),
        array(3),
    )


@dataclass(frozen=True)
class Share:
    """A worker's part of the work.

    Attributes:
        make: makes an environment, given the cell's id and the options.
        cell: id of the cell.
        options: of the cell.
        rows: the numbers of the worker's environments.
        num_envs: how many environments there are in all.
        autoreset_mode: when ended episodes are followed by new ones.
    """

    make: Maker
    cell: str
    options: dict[str, Any]
    rows: range
    num_envs: int
    autoreset_mode: AutoresetMode


class Worker:
    """Some environments of a vector, stepped one after the other."""

    def __init__(self, part: Share, memory: int) -> None:
        """Make the environments."""
        self.rows, self.mode = part.rows, part.autoreset_mode
        self.envs: list[Environment] = []
        try:
            for _ in part.rows:
                self.envs.append(part.make(part.cell, **part.options))
            space, actions = self.envs[0].observation_space, self.envs[0].action_space
            self.shared = share(memory, dict(_spaces(space)), actions.shape or (), part.num_envs)
        except BaseException:
            self.close()
            raise

        self.views: list[dict[str, npt.NDArray[Any]]] = []
        for row in self.rows:
            self.views.append({key: array[row] for key, array in self.shared.observations.items()})

        self.infos: list[Info] = [{} for _ in self.rows]
        self.ended = [False for _ in self.rows]

    def step(self, command: bytes) -> dict[int, Info]:
        """Step every environment; return the infos that are not as they were."""
        shared, changed = self.shared, {}
        actions = shared.actions[command]
        for slot, row in enumerate(self.rows):
            env, final = self.envs[slot], False
            if self.ended[slot] and self.mode is AutoresetMode.NEXT_STEP:
                observation, info = env.reset()
                reward, terminated, truncated = 0.0, False, False
            else:
                observation, given, terminated, truncated, info = env.step(actions[row].copy())
                reward = float(given)
                final = (terminated or truncated) and self.mode is AutoresetMode.SAME_STEP

                if final:
                    last = {"final_info": info, "final_obs": observation}
                    observation, info = env.reset()
                    info = {**last, **info}

            self._write(slot, observation)
            shared.rewards[row] = reward
            shared.terminations[row] = terminated
            shared.truncations[row] = truncated
            self.ended[slot] = terminated or truncated
            # Final observations are arrays, not to be compared.
            if final or info != self.infos[slot]:
                changed[row] = self.infos[slot] = info

        return changed

    def reset(
        self, seeds: Sequence[int | None], options: dict[str, Any] | None, which: Sequence[bool]
    ) -> object:
        """Start episodes; all three sequences have an entry per environment of the whole vector."""
        infos = {}
        for slot, row in enumerate(self.rows):
            if which[row]:
                observation, info = self.envs[slot].reset(seed=seeds[row], options=options)
                self._write(slot, observation)
                self.ended[slot] = False
                infos[row] = self.infos[slot] = info
        return infos

    def call(self, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> object:
        """Call a method of every environment, or read an attribute."""
        values = {}
        for row, env in zip(self.rows, self.envs, strict=True):
            value = env.get_wrapper_attr(name)
            values[row] = value(*arguments, **named) if callable(value) else value
        return values

    def set(self, name: str, values: Sequence[object]) -> object:
        """Set an attribute of every environment; one value per environment of the whole vector."""
        for slot, row in enumerate(self.rows):
            self.envs[slot].set_wrapper_attr(name, values[row])
        return None

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()

    def _write(self, slot: int, observation: dict[str, npt.NDArray[Any]]) -> None:
        for key, view in self.views[slot].items():
            view[...] = observation[key]


def _spaces(space: gymnasium.Space[Any]) -> Mapping[str, gymnasium.Space[Any]]:
    return space.spaces if isinstance(space, gymnasium.spaces.Dict) else {}


def serve(connection: Connection, worker: Worker) -> None:
    """Answer until the vector hangs up."""
    handlers: dict[str, Callable[..., object]] = {
        "reset": worker.reset,
        "call": worker.call,
        "set": worker.set,
    }

    while True:
        command = connection.recv_bytes()
        try:
            if command == MESSAGE:
                name, arguments = connection.recv()
                answer(connection, ("done", handlers[name](*arguments)))
                continue

            changed = worker.step(command)
            if changed:
                answer(connection, ("done", changed))
            else:
                connection.send_bytes(UNCHANGED)
        except (EOFError, ConnectionError):
            raise
        except Exception as error:  # it belongs to whoever called: a bad option, a broken task
            report(connection, error)


def answer(connection: Connection, message: object) -> None:
    """Send a message; what cannot be sent is an error before anything is."""
    data = bytes(ForkingPickler.dumps(message))
    connection.send_bytes(MESSAGE)
    connection.send_bytes(data)


def report(connection: Connection, error: Exception) -> None:
    """Send an error: its class where the parent has it too, its text and where it arose."""
    text, trace = str(error), traceback.format_exc()
    try:
        answer(connection, ("error", (type(error), text, trace)))
    except Exception:  # a class that only this process knows
        answer(connection, ("error", (RuntimeError, f"{type(error).__name__}: {text}", trace)))


def main(connection: Connection, arguments: Sequence[str]) -> None:
    """Run a worker; started by `children.start`.

    Args:
        connection: to the vector. Its first message is the worker's part of the work; when the
            parent goes, it ends.
        arguments: the number of the descriptor of the shared memory.
    """
    memory = int(arguments[0])
    try:
        try:
            worker = Worker(connection.recv(), memory)
        except Exception as error:  # told to the parent
            report(connection, error)
            return

        try:
            answer(connection, ("done", None))
            serve(connection, worker)
        finally:
            worker.close()
    except (EOFError, ConnectionError):
        return
