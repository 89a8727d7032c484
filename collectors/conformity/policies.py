"""Does a policy keep the contract of `shopfloor.Policy`, in a cell?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.collectors.chunks import PolicyFailure, checked_chunk
from shopfloor.collectors.conformity.contract import demand, demand_members, no_exception
from shopfloor.collectors.rollout import NAMES, entries_of, require_fit
from shopfloor.core import ActionChunk, Cell, Policy, PolicyInfo
from shopfloor.datasets.format import kinds

MEMBERS = ("info", "reset", "act")


def check_policy(
    policy: Policy, cell: Cell, *, seeds: tuple[int, int] = (0, 1), steps: int = 20
) -> None:
    """Try a policy out in a cell and refuse it where it does not keep the contract of `shopfloor.Policy`.

    Args:
        policy: as its factory returned it.
        cell: the policy acts in it; made with ``privileged=True`` where the policy needs "objects".
        seeds: two seeds to run episodes with.
        steps: length of those episodes.

    Raises:
        ConformityError: the first thing that does not conform.
        InvalidInputError: the policy was made for another cell, or needs what the cell does not
            observe.
    """
    demand_members(policy, MEMBERS, "shopfloor.Policy", "Add them.")
    _check_info(policy, type(policy).__name__)
    require_fit(policy, "policy", cell)

    first = _play(policy, cell, seeds[0], steps)
    _play(policy, cell, seeds[1], steps)
    _check_again(policy, seeds[0], first, _at(policy, cell, seeds[0], 0), cell.action_size)


@dataclass(frozen=True)
class _Exchange:
    """One observation a policy was handed, and its answer."""

    entries: dict[str, Any]
    answer: ActionChunk


@dataclass(frozen=True)
class _Dialogue:
    """All of an episode that a policy takes part in."""

    instruction: str
    exchanges: list[_Exchange]


def _check_info(policy: Policy, name: str) -> None:
    info = policy.info
    demand(
        isinstance(info, PolicyInfo),
        name,
        f"info is a {type(info).__name__}",
        "a PolicyInfo",
        "Build one.",
    )

    demand(policy.info == info, name, "info changes", "the same every time", "Build it once.")

    size = info.image_size
    rules: dict[str, tuple[bool, str]] = {
        "name": (isinstance(info.name, str) and bool(info.name), "a text, not empty"),
        "digest": (
            isinstance(info.digest, str) and bool(info.digest),
            "a text that changes with the policy's behaviour, such as a SHA-256",
        ),
        "cells": (_texts(info.cells), "a tuple of cell ids, () for any"),
        "observation_keys": (
            _texts(info.observation_keys) and bool(info.observation_keys),
            "a tuple of observation keys",
        ),
        "action_convention": (isinstance(info.action_convention, str), "a text, '' for the cell's"),
        "image_size": (size is None or _size(size), "(height, width) in pixels, or None"),
        "expert": (isinstance(info.expert, bool), "a bool"),
    }

    for field, (holds, expected) in rules.items():
        demand(
            holds,
            f"{name}, info",
            f"{field} is {getattr(info, field)!r}",
            expected,
            "Correct the PolicyInfo.",
        )


def _texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(text, str) for text in value)


def _size(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(side, int) and side >= 1 for side in value)
    )


def _play(policy: Policy, cell: Cell, seed: int, steps: int) -> _Dialogue:
    """Let the policy act for some steps; each answer is checked."""
    _, info = cell.reset(seed=seed)
    names = tuple(info["object_names"])
    instruction = str(info["instruction"])
    features = cell.describe()["features"]
    needed = (kinds.camera_of(key, features) for key in policy.info.observation_keys)
    cameras = sorted({name for name in needed if name is not None})
    with no_exception(_at(policy, cell, seed, 0), f"reset({seed}, {instruction!r})"):
        policy.reset(seed, instruction)

    exchanges: list[_Exchange] = []
    left: list[npt.NDArray[Any]] = []
    for step in range(steps):
        if not left:
            observation = {**cell.observe(cameras), NAMES: names}
            where = _at(policy, cell, seed, step)
            exchange = _ask(policy, entries_of(observation, policy), where, cell.action_size)
            exchanges.append(exchange)
            left = list(exchange.answer.actions[: exchange.answer.execute])

        _, terminated, truncated, _ = cell.advance(left.pop(0))
        if terminated or truncated:
            break

    return _Dialogue(instruction, exchanges)


def _ask(policy: Policy, entries: Mapping[str, Any], where: str, size: int) -> _Exchange:
    """Ask the policy once and check the answer."""
    handed = {key: np.array(value) if key != NAMES else value for key, value in entries.items()}
    with no_exception(where, "act"):
        reply = policy.act(handed)

    changed = sorted(
        key
        for key in {*entries, *handed}
        if not np.array_equal(handed.get(key, ()), entries.get(key, ()))
    )

    demand(
        not changed,
        where,
        f"act changed {', '.join(changed)} of its observation",
        "it to be left as it is",
        "Copy an array before writing into it.",
    )

    return _Exchange(dict(entries), _checked_answer(reply, where, size))


def _checked_answer(reply: Any, where: str, size: int) -> ActionChunk:  # noqa: ANN401  # anything
    """Return a copy of an answer that the contract allows."""
    try:
        sound = checked_chunk(reply, size)
    except PolicyFailure as failure:
        demand(
            False,
            where,
            str(failure),
            f"an ActionChunk of float32 (H, {size}) in [-1, 1]",
            "In an episode this would be a failure of the policy.",
        )
        raise  # never reached: `demand` has raised

    dtype = getattr(reply.actions, "dtype", type(reply.actions).__name__)
    demand(
        dtype == np.float32,
        where,
        f"actions are {dtype}",
        "float32",
        "Convert them, so that what is recorded is what was meant.",
    )

    low, high = float(np.min(reply.actions)), float(np.max(reply.actions))
    demand(
        low >= -1.0 and high <= 1.0,
        where,
        f"actions reach from {low:.3g} to {high:.3g}",
        "[-1, 1]",
        "Clip them, or scale them by the convention; an episode clips them.",
    )

    return sound


def _check_again(policy: Policy, seed: int, first: _Dialogue, where: str, size: int) -> None:
    """The same seed and observations must give the same answers, whatever happened before."""
    with no_exception(where, f"reset({seed}, {first.instruction!r})"):
        policy.reset(seed, first.instruction)

    for number, exchange in enumerate(first.exchanges, start=1):
        before = exchange.answer
        answer = _ask(policy, exchange.entries, where, size).answer
        same = answer.actions.tobytes() == before.actions.tobytes()

        demand(
            same and answer.execute == before.execute,
            f"{where}, answer {number}",
            "it differs from the one to the same observations in an earlier episode of this seed",
            "the same answer",
            "Draw everything random from the seed that `reset` is given, and forget earlier episodes.",
        )


def _at(policy: Policy, cell: Cell, seed: int, step: int) -> str:
    return f"Policy {policy.info.name!r} in {cell.cell_id}, seed {seed}, step {step}"
