"""Many copies of a cell at once, in processes of their own: a `gymnasium.vector.VectorEnv`.

`gymnasium.make_vec("shopfloor/PickToTray-v0", num_envs=8)` makes one. Each worker process holds
several cells and writes what they observe straight into memory that it shares with the parent.
Workers are new processes, not forks: a fork would copy PyBullet's simulations and the locks of the
parent's threads; and they run no line of the caller's main program, so that scripts need no guard
and notebooks work. Trajectories are those of single cells, byte for byte, whatever the number of
workers.
"""

from __future__ import annotations

import functools
import itertools
import os
import signal
import subprocess
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, cast, final

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from shopfloor import children
from shopfloor.children import Child
from shopfloor.core import InfrastructureError, InvalidInputError, UnknownNameError
from shopfloor.envs.registry import cell_ids, make_cell
from shopfloor.envs.vectors.worker import (
    MESSAGE,
    STEP_FLOAT32,
    STEP_FLOAT64,
    UNCHANGED,
    Info,
    Maker,
    Share,
    share,
)
from shopfloor.platforms import STARTS_WORKERS, shared_memory, usable_cores

Array = npt.NDArray[Any]
Observations = dict[str, Array]

# A vector steps cells that are Gymnasium environments, as ours are.
_MAKE_CELL = cast(Maker, make_cell)
_WORKER = "shopfloor.envs.vectors.worker:main"
_GRACE_S = 5.0


def __getattr__(name: str) -> Callable[..., WorkCellVector]:
    """Return what makes the vector of a cell, given its full id: a `vector_entry_point`."""
    if "/" in name and name in cell_ids():
        return functools.partial(WorkCellVector, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass
class _Process:
    """A worker process and its part of the vector."""

    child: Child
    rows: range
    process: subprocess.Popen[bytes] = field(init=False)
    connection: Connection = field(init=False)
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.process = self.child.process
        self.connection = self.child.connection
        self.name = (
            f"worker process {self.process.pid} (environments {self.rows[0]} to {self.rows[-1]})"
        )


def _start(memory: int, rows: range) -> _Process:
    return _Process(children.start(_WORKER, [str(memory)], descriptors=[memory]), rows)


def _end(workers: list[_Process], grace_s: float = _GRACE_S) -> None:
    """Hang up, which ends the workers; kill those that do not go."""
    for worker in workers:
        worker.connection.close()
    for worker in workers:
        worker.child.wait(grace_s)
    workers.clear()


@final
class WorkCellVector(VectorEnv[Observations, Array, Array]):
    """N copies of a cell, stepped together.

    Follows `gymnasium.vector.AsyncVectorEnv`: infos are arrays with masks, ended episodes are
    followed by new ones on the next step (by default), an integer seed s gives the copies the seeds
    s, s + 1, ..., and `reset` understands `options["reset_mask"]`.
    """

    def __init__(
        self,
        cell: str,
        num_envs: int = 1,
        *,
        workers: int | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        timeout_s: float | None = None,
        make: Maker = _MAKE_CELL,
        **options: Any,  # noqa: ANN401  # checked by the cell
    ) -> None:
        """Start the workers and make the cells.

        Args:
            cell: full id or bare name.
            num_envs: number of copies.
            workers: number of processes; None for one per usable processor core, and never more
                than copies.
            autoreset_mode: "NextStep", "SameStep" or "Disabled".
            copy: whether observations are the caller's own; otherwise they change with the next
                step or reset.
            timeout_s: how long the workers may take for a step, reset or call; None to wait for
                ever.
            make: makes a copy from `cell` and `options`, a function that a worker can import; wrap
                cells there. Spaces must be a Dict of Boxes for observations and a float32 Box for
                actions.
            options: see `shopfloor.envs.description.CellOptions`.
        """
        self.closed = True  # until there is something to close
        if not STARTS_WORKERS:
            raise InvalidInputError(
                f"{cell}: copies of a cell run in worker processes, which cannot be started on "
                "this operating system. Use gymnasium.make."
            )

        self.num_envs = _at_least_one("num_envs", num_envs)
        usable = usable_cores() if workers is None else _at_least_one("workers", workers)
        self.autoreset_mode, self.copy, self._timeout_s = _mode(autoreset_mode), copy, timeout_s
        sample = make(cell, **options)

        try:
            self._describe(cell, sample)
        finally:
            sample.close()

        count = min(usable, self.num_envs)
        edges = [self.num_envs * number // count for number in range(count + 1)]
        parts = []
        for first, end in itertools.pairwise(edges):
            rows = range(first, end)
            parts.append(Share(make, cell, options, rows, self.num_envs, self.autoreset_mode))

        try:
            messages = [bytes(ForkingPickler.dumps(part)) for part in parts]
        except Exception as error:
            raise InvalidInputError(
                f"{cell}: these options, or `make`, cannot be sent to a worker ({error}); expected "
                "plain data, and a function that can be imported by its name."
            ) from error

        self._infos: list[Info] = [{} for _ in range(self.num_envs)]
        self._batched: dict[str, Any] = {}
        self._ready, self._broken = False, ""
        self._launch(parts, messages)

    def _describe(self, cell: str, sample: gymnasium.Env[Any, Any]) -> None:
        """Take over what a copy says of itself."""
        observations, actions = sample.observation_space, sample.action_space
        spaces: dict[str, gymnasium.Space[Any]] = {}
        if isinstance(observations, gymnasium.spaces.Dict):
            spaces = dict(observations.spaces)

        boxes = [isinstance(space, gymnasium.spaces.Box) for space in spaces.values()]
        if not boxes or not all(boxes):
            raise InvalidInputError(
                f"{cell}: observations are {observations}; a vector expects a Dict of Boxes."
            )
        if not isinstance(actions, gymnasium.spaces.Box) or actions.dtype != np.float32:
            raise InvalidInputError(
                f"{cell}: actions are {actions}; a vector expects a float32 Box."
            )

        self._cell = cell
        self._spaces = spaces
        self._action_shape = (self.num_envs, *actions.shape)
        self.single_observation_space, self.single_action_space = observations, actions
        self.observation_space = batch_space(observations, self.num_envs)
        self.action_space = batch_space(actions, self.num_envs)
        self.metadata = {**sample.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = sample.render_mode

    def _launch(self, parts: Sequence[Share], messages: Sequence[bytes]) -> None:
        """Start one worker per part and wait until all have made their cells."""
        self._workers: list[_Process] = []
        # For a vector that nobody closes.
        self._finalizer = weakref.finalize(self, _end, self._workers)
        self.closed = False
        memory = shared_memory(f"{self._cell} x {self.num_envs}")

        try:
            self._shared = share(memory, self._spaces, self._action_shape[1:], self.num_envs)
            for part in parts:
                self._workers.append(_start(memory, part.rows))
            for worker, message in zip(self._workers, messages, strict=True):
                self._send(worker, message)
            self._gather("start")
        except BaseException:
            self.close(terminate=True)
            raise
        finally:
            os.close(memory)

    # -- Gymnasium ---------------------------------------------------------------------------------

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observations, dict[str, Any]]:
        """Start episodes.

        Args:
            seed: one seed per copy, or s for s, s + 1, ...; None lets every copy go on with its own
                generator.
            options: for every copy; "reset_mask", shape (N,), bool, says which of them are reset.

        Returns:
            Observations, each with N rows, and infos of the copies that were reset.
        """
        self._check_usable()
        seeds, (which, options) = self._seeds(seed), self._mask(options)
        self._ready = False
        changed = self._ask("reset", seeds, options, which)
        self._ready = True
        infos: dict[str, Any] = {}

        for row in range(self.num_envs):
            if which[row]:
                self._infos[row] = changed[row]
                infos = self._add_info(infos, changed[row], row)

        self._batched = {}
        return self._observations(), infos

    def step(self, actions: Array) -> tuple[Observations, Array, Array, Array, dict[str, Any]]:
        """Run one step of every copy.

        Args:
            actions: shape (N, A); where an episode has just ended they start a new one instead and
                are ignored, see `autoreset_mode`.

        Returns:
            Observations (N rows each), rewards (N,) float64, terminations (N,) bool, truncations
            (N,) bool, infos.
        """
        self._check_usable()
        if not self._ready:
            raise InvalidInputError(
                f"{self._cell}: step was called before reset, or after an error that ended the "
                "episodes; call reset first."
            )

        command = self._put(actions)
        self._ready = False
        changed = self._exchange("step", command)
        self._ready = True

        if changed or not self._batched:
            for row, info in changed.items():
                self._infos[row] = info
            self._batched = {}
            for row, info in enumerate(self._infos):
                self._batched = self._add_info(self._batched, info, row)

        shared = self._shared
        return (
            self._observations(),
            shared.rewards.copy(),
            shared.terminations.copy(),
            shared.truncations.copy(),
            _copied(self._batched),
        )

    def render(self) -> tuple[Any, ...]:
        """Return what each copy renders."""
        return self.call("render")

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:  # noqa: ANN401  # the method's own
        """Call a method of every copy, or read an attribute; return one value per copy."""
        if name in ("reset", "step", "close"):
            raise InvalidInputError(
                f"{self._cell}: {name!r} cannot be called on every copy; use `{name}` directly."
            )
        self._check_usable()
        values = self._ask("call", name, args, kwargs)
        return tuple(values[row] for row in range(self.num_envs))

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute of every copy."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:  # noqa: ANN401  # the attribute's own
        """Set an attribute of every copy.

        Args:
            name: of the attribute.
            values: a list or tuple of one value per copy; anything else is for all.
        """
        self._check_usable()
        each = list(values) if isinstance(values, (list, tuple)) else [values] * self.num_envs
        if len(each) != self.num_envs:
            raise InvalidInputError(
                f"{self._cell}: {len(each)} values of {name!r}; expected {self.num_envs}."
            )
        self._ask("set", name, each)

    def process_ids(self) -> list[int]:
        """Return the ids of the worker processes."""
        return [worker.process.pid for worker in self._workers]

    @property  # type: ignore[misc]  # read-only, as Gymnasium's own vectors
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]  # as above
        """The copies' random generators."""
        return self.get_attr("np_random")

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]  # as above
        """The seeds of the copies' random generators."""
        return self.get_attr("np_random_seed")

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """End the workers.

        Args:
            timeout: seconds for them to end by themselves; None for a few.
            terminate: kill them at once.
        """
        self._finalizer.detach()
        grace_s = _GRACE_S if timeout is None else timeout
        _end(self._workers, 0.0 if terminate else grace_s)

    # -- Inside ------------------------------------------------------------------------------------

    def _observations(self) -> Observations:
        shared = self._shared.observations
        return {key: array.copy() for key, array in shared.items()} if self.copy else shared

    def _put(self, actions: Array) -> bytes:
        """Check a batch, leave it for the workers, and return the command that steps with it."""
        try:
            batch = np.asarray(actions)
            command = STEP_FLOAT32 if batch.dtype == np.float32 else STEP_FLOAT64
            if batch.shape == self._action_shape:
                np.copyto(self._shared.actions[command], batch, casting="same_kind")
                return command
        except (TypeError, ValueError):
            raise InvalidInputError(
                f"{self._cell}: actions are {actions!r}; expected numbers of shape "
                f"{self._action_shape}."
            ) from None

        raise InvalidInputError(
            f"{self._cell}: actions have shape {batch.shape}; expected {self._action_shape}: one "
            f"row for each of {self.num_envs} environments, "
            f"{' x '.join(map(str, self._action_shape[1:]))} components each."
        )

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, (int, np.integer)):
            return [int(seed) + row for row in range(self.num_envs)]
        seeds = [None if one is None else int(one) for one in seed]
        if len(seeds) != self.num_envs:
            raise InvalidInputError(
                f"{self._cell}: {len(seeds)} seeds; expected {self.num_envs}, one for each "
                "environment, or one integer."
            )
        return seeds

    def _mask(self, options: dict[str, Any] | None) -> tuple[list[bool], dict[str, Any] | None]:
        """Return which copies to reset, and the options for the cells."""
        if options is None or "reset_mask" not in options:
            return [True] * self.num_envs, options

        mask = options["reset_mask"]
        sound = (
            isinstance(mask, np.ndarray)
            and mask.shape == (self.num_envs,)
            and mask.dtype == np.bool_
        )

        if not sound or not mask.any():
            raise InvalidInputError(
                f"{self._cell}: options['reset_mask'] is {mask!r}; expected an array of shape "
                f"({self.num_envs},), bool, with at least one True."
            )
        if not self._ready and not mask.all():
            raise InvalidInputError(
                f"{self._cell}: only some environments were to be reset; reset all of them first."
            )

        others = {name: value for name, value in options.items() if name != "reset_mask"}
        return mask.tolist(), others

    def _check_usable(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError(f"{self._cell}: this vector is closed; make a new one.")
        if self._broken:
            raise InfrastructureError(
                f"{self._broken} This vector cannot go on: close it and make a new one."
            )

    def _ask(self, name: str, *arguments: Any) -> dict[int, Any]:  # noqa: ANN401  # the handler's own
        """Send a message to all workers; return their answers, per copy."""
        try:
            message = bytes(ForkingPickler.dumps((name, arguments)))
        except Exception as error:
            raise InvalidInputError(
                f"{self._cell}: {arguments!r} cannot be sent to a worker: {error}"
            ) from error
        return self._exchange(name, MESSAGE, message)

    def _exchange(self, command: str, *messages: bytes) -> dict[int, Any]:
        """Send the same to all workers; return their answers, per copy."""
        # A Ctrl-C from here on would leave answers behind that the next command takes for its own.
        self._broken = f"{self._cell}: {command!r} was interrupted."
        for worker in self._workers:
            for message in messages:
                self._send(worker, message)
        return self._gather(command)

    def _send(self, worker: _Process, data: bytes) -> None:
        try:
            worker.connection.send_bytes(data)
        except OSError:
            self._lose(worker, "start")

    def _gather(self, command: str) -> dict[int, Any]:
        """Wait for every worker; return the answers, per copy, or raise the first error."""
        answers: dict[int, Any] = {}
        failure: tuple[type[Exception], str, str] | None = None
        for worker in self._workers:
            try:
                if (
                    self._timeout_s is not None
                    and command != "start"
                    and not worker.connection.poll(self._timeout_s)
                ):
                    self._lose(worker, command, hung=True)

                if worker.connection.recv_bytes() == UNCHANGED:
                    continue
                kind, content = worker.connection.recv()
            except (EOFError, ConnectionError):
                self._lose(worker, command)

            if kind == "done":
                answers.update(content or {})
            else:
                failure = failure or content

        self._broken = ""
        if failure is not None:
            raise _rebuilt(*failure)
        return answers

    def _lose(self, worker: _Process, command: str, *, hung: bool = False) -> None:
        """Say how a worker was lost, and end the others."""
        if hung:
            how = f"gave no answer to {command!r} within {self._timeout_s:g} s and was killed"
            worker.process.kill()
        else:
            code = worker.child.wait(_GRACE_S)
            how = f"ended with exit status {code}"
            if code < 0:
                how = f"was killed by {signal.Signals(-code).name}"
            how = f"{how}; expected an answer to {command!r}"

        self._broken = f"{self._cell}: {worker.name} {how}; what it wrote is on standard error."
        _end(self._workers, 0.0)
        self._check_usable()


def _at_least_one(name: str, value: int) -> int:
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise InvalidInputError(f"{name} is {value!r}; expected an integer of at least 1.")
    return int(value)


def _mode(value: str | AutoresetMode) -> AutoresetMode:
    try:
        return AutoresetMode(value)
    except ValueError:
        raise UnknownNameError(
            "autoreset mode", str(value), [mode.value for mode in AutoresetMode]
        ) from None


def _copied(infos: dict[str, Any]) -> dict[str, Any]:
    """Return copies of all arrays, in dictionaries of the same keys."""
    copies: dict[str, Any] = {}
    for key, value in infos.items():
        copies[key] = _copied(value) if isinstance(value, dict) else value.copy()
    return copies


def _rebuilt(kind: type[Exception], text: str, trace: str) -> Exception:
    """Return a worker's error as one of this process, of the same class.

    Its cause says where it arose.
    """
    error = kind.__new__(kind)
    error.args = (text,)
    error.__cause__ = InfrastructureError(f"In a worker process:\n{trace}")
    return error
