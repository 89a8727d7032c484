"""Scripted experts and the random policy.

An expert decides from one privileged observation alone, so it can be asked for a label in any
state. Its chunk is planned on a simple model: the target moves by each action, the tool follows,
and a held part moves along.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, final

import numpy as np

from shopfloor.core import (
    ActionChunk,
    InvalidInputError,
    Observation,
    Policy,
    PolicyInfo,
    UnknownNameError,
    seed_stream,
    sha256_hex,
)
from shopfloor.envs.experts.scene import Decision, Scene, Thing
from shopfloor.envs.registry import cell_entry, make_cell, resolve_cell
from shopfloor.envs.robots.protocol import TAIL_SIZE

CHUNK = 4

Phrasings = Mapping[str, tuple[str, ...]]
Decide = Callable[[Scene], tuple[Decision, float]]


class Reader:
    """What every scripted expert has: an info, and its cell's phrasings, each with what it asks for.

    Attributes:
        info: name, digest and what it needs.
    """

    def __init__(
        self, cell_id: str, version: str, execute: int, phrasings: Sequence[Phrasings]
    ) -> None:
        """Make one.

        Args:
            cell_id: full id.
            version: change it with every change of behaviour: it is what the digest is made of.
            execute: how many actions of a chunk callers run.
            phrasings: tables of what is asked for -> texts that ask for it.
        """
        self._asks = {
            text: asked for known in phrasings for asked, texts in known.items() for text in texts
        }

        self.info = PolicyInfo(
            "expert",
            sha256_hex(f"expert:{cell_id}:{version}:{execute}"),
            (cell_id,),
            ("state", "objects", "object_names"),
            expert=True,
        )

    def read(self, instruction: str) -> str:
        """Return what an instruction asks for.

        Raises:
            InvalidInputError: it is none of the cell's.
        """
        if instruction not in self._asks:
            raise InvalidInputError(
                f"The expert of {self.info.cells[0]} cannot read the instruction {instruction!r}; "
                f"it knows: {' | '.join(list(self._asks)[:3])} ..."
            )

        return self._asks[instruction]


@final
class ScriptedExpert:
    """A cell's expert: unpacks the observation and asks the cell's `decide` for each action of its plan."""

    def __init__(
        self,
        cell_id: str,
        version: str,
        instructions: Phrasings,
        decide: Decide,
        execute: int = 1,
        *,
        unseen: Phrasings | None = None,
        rest: int = 0,
        chunk: int = CHUNK,
        cup: bool = False,
    ) -> None:
        """Make an expert.

        Args:
            cell_id: full id.
            version: change it with every change of behaviour: it is what the digest is made of.
            instructions: class name -> phrasings, of the cell.
            decide: maps a scene to an action and the part's width between the fingers, m.
            execute: how many actions of a chunk callers run.
            unseen: the phrasings of the suite `instruction`.
            rest: how many entries of the state follow the first arm's.
            chunk: how many actions it plans; 1 where `Scene.advance` does not model the cell's
                robot.
            cup: whether the hand is a suction cup.
        """
        self._decide = decide
        self._execute, self._rest, self._chunk, self._cup = min(execute, chunk), rest, chunk, cup
        self._reader = Reader(cell_id, version, execute, (instructions, unseen or {}))
        self._named = ""

    @property
    def info(self) -> PolicyInfo:
        """Name, digest and what it needs."""
        return self._reader.info

    def reset(self, seed: int, instruction: str) -> None:
        """Read which part is meant; the seed is not used."""
        self._named = self._reader.read(instruction)

    def act(self, observation: Observation) -> ActionChunk:
        """Plan a chunk of actions."""
        scene = self._scene(observation)
        actions = []
        for _ in range(self._chunk):
            action, width = self._decide(scene)
            action = [max(-1.0, min(1.0, value)) for value in action]
            actions.append(action)
            scene.advance(action, width)
        return ActionChunk(np.array(actions, dtype=np.float32), self._execute)

    def _scene(self, observation: Observation) -> Scene:
        state = np.asarray(observation["state"], dtype=np.float64).tolist()
        rows = np.asarray(observation["objects"], dtype=np.float64).tolist()
        things = [
            Thing(name, row[:3], row[3:7], row[7:10], row[11] > 0.5)
            for name, row in zip(observation["object_names"], rows, strict=True)
            if row[10] > 0.5
        ]

        arm, rest = state[: len(state) - self._rest], state[len(state) - self._rest :]
        tail = arm[-TAIL_SIZE:]
        named = [thing for thing in things if thing.name == self._named and not thing.is_goal]
        part = min(named, key=lambda thing: math.dist(thing.position, tail[:3]))
        return Scene.of_arm(tail, part, things, rest, cup=self._cup)


@final
class RandomPolicy:
    """Uniform random actions."""

    def __init__(self, cell_id: str, action_size: int) -> None:
        """Make one for a cell, given its number of action components."""
        self._size = action_size
        self._rng = np.random.default_rng(0)
        self._info = PolicyInfo("random", sha256_hex(f"random:{cell_id}:1"), (cell_id,), ("state",))

    @property
    def info(self) -> PolicyInfo:
        """Name, digest and what it needs."""
        return self._info

    def reset(self, seed: int, instruction: str) -> None:
        """Start the episode's stream of actions."""
        self._rng = seed_stream(seed, "policy")

    def act(self, observation: Observation) -> ActionChunk:
        """Draw one action."""
        return ActionChunk(self._rng.uniform(-1.0, 1.0, (1, self._size)).astype(np.float32))


def make_expert(cell: str, **arguments: Any) -> Policy:  # noqa: ANN401  # JSON, handed to the cell's own factory
    """Return a cell's scripted expert.

    Args:
        cell: full id or bare name.
        arguments: of the cell's `expert` function, such as execute=2.
    """
    entry = cell_entry(cell)
    expert = getattr(entry, "expert", None) or getattr(
        sys.modules[entry.__module__], "expert", None
    )
    if expert is None:
        raise UnknownNameError("expert for cell", resolve_cell(cell), [])
    return cast(Policy, expert(**arguments))


def make_random(cell: str, robot: str | None = None) -> Policy:
    """Return the uniform random policy of a cell (full id or bare name), driven by one of its robots."""
    made = make_cell(cell, robot=robot, cameras=())
    try:
        return RandomPolicy(resolve_cell(cell), made.action_size)
    finally:
        made.close()


make_expert_from = make_expert
make_random_from = make_random
