"""From a policy reference, which is plain JSON, to a policy: a closed list plus an entry-point group."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shopfloor.core import (
    InvalidInputError,
    MissingDependencyError,
    Policy,
    PolicyRef,
    UnknownNameError,
    canonical_json,
    install_command,
)

ENTRY_POINT_GROUP = "shopfloor.policies"
BUILT_IN = {
    "expert": "shopfloor.envs.experts.scripted:make_expert_from",
    "random": "shopfloor.envs.experts.scripted:make_random_from",
    "checkpoint": "shopfloor.policies.checkpoint:load_policy",
}
LEARNING_PACKAGES = (
    "torch",
    "safetensors",
    "tokenizers",
    "transformers",
)  # of the extra `policies`
MAX_CACHED = 8

_cache: OrderedDict[str, Policy] = OrderedDict()


def policy_kinds() -> list[str]:
    """Return the kinds a reference may name: the built-in ones and those of installed packages."""
    return sorted({*BUILT_IN, *(point.name for point in _entry_points())})


def policy_ref(policy: str | PolicyRef, cell: str, robot: str | None = None) -> PolicyRef:
    """Return the reference a person's name for a policy means.

    Args:
        policy: a kind of the list, such as "expert", or the folder of a checkpoint; a reference is
            returned as it is.
        cell: full id of the cell it will act in.
        robot: which of the cell's robots it will drive; None for the usual one.

    Raises:
        UnknownNameError: if it is neither.
    """
    if isinstance(policy, PolicyRef):
        return policy
    if policy != "checkpoint" and policy in policy_kinds():
        drives = (
            {"robot": robot} if policy == "random" and robot is not None else {}
        )  # it must know how many motors
        return PolicyRef(policy, cell, drives)
    if Path(policy).is_dir():
        return PolicyRef("checkpoint", cell, {"path": str(Path(policy).resolve())})

    if "/" in policy:
        raise InvalidInputError(
            f"No checkpoint folder {policy!r}; expected a folder that `train` wrote."
        )

    kinds = [kind for kind in policy_kinds() if kind != "checkpoint"]
    raise UnknownNameError("policy", policy, kinds, "Or name the folder of a checkpoint.")


def resolve_policy(ref: PolicyRef) -> Policy:
    """Return the policy a reference names; within one process the same reference gives the same object.

    Args:
        ref: kind, cell and JSON arguments; the factory is called with ``cell=ref.cell,
            **ref.arguments``.

    Returns:
        The policy; call its `reset` before each episode.

    Raises:
        UnknownNameError: if no built-in policy and no entry point has this kind.
        MissingDependencyError: if it needs a package that is not installed, or another package's
            cannot be loaded.
        InvalidInputError: if the factory does not take these arguments.
    """
    key = canonical_json(ref.to_json())
    if key in _cache:
        _cache.move_to_end(key)
        return _cache[key]

    try:
        policy = _build(_factory(ref.kind), ref)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in LEARNING_PACKAGES:
            raise

        raise MissingDependencyError(
            f"Policy {ref.kind!r} needs {error.name}, which is not installed. Install it with "
            f"{install_command('policies')}."
        ) from error

    _cache[key] = policy
    while len(_cache) > MAX_CACHED:
        _cache.popitem(last=False)
    return policy


def forget_policy(ref: PolicyRef) -> None:
    """Drop a cached policy, so that the next `resolve_policy` loads it again."""
    _cache.pop(canonical_json(ref.to_json()), None)


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    return list(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP))


def _factory(kind: str) -> Callable[..., Any]:
    """Find a kind's factory."""
    if kind in BUILT_IN:
        module, _, name = BUILT_IN[kind].partition(":")
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]

    for point in _entry_points():
        if point.name == kind:
            try:
                return point.load()  # type: ignore[no-any-return]
            except (ImportError, AttributeError) as error:
                raise MissingDependencyError(
                    f"Policy {kind!r} is announced by an installed package as {point.value}, which "
                    f"cannot be loaded ({error}). Install what it needs, or remove that package."
                ) from error

    raise UnknownNameError("policy", kind, policy_kinds())


def _build(factory: Callable[..., Any], ref: PolicyRef) -> Policy:
    try:
        policy = factory(cell=ref.cell, **ref.arguments)
    except TypeError as error:  # the arguments are a user's; the factory may hand them on
        raise InvalidInputError(
            f"Policy {ref.kind!r} with arguments {dict(ref.arguments)}: {error}."
        ) from error

    if not isinstance(policy, Policy):
        raise InvalidInputError(
            f"Policy {ref.kind!r} gave a {type(policy).__name__}; expected an object with info, "
            "reset and act."
        )
    return policy
