"""What a worker process does for `collect`: describe cell and policies, and run one episode and commit it.

Policies, writers and cells are kept from job to job within a process.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shopfloor.collectors.executors.worker import one_torch_thread
from shopfloor.collectors.rollout import require_fit, rollout
from shopfloor.collectors.sources import forget_policy, resolve_policy
from shopfloor.core import (
    ActionSpec,
    Cell,
    EpisodeSpec,
    InvalidInputError,
    Policy,
    PolicyInfo,
    PolicyRef,
    Receipt,
    canonical_json,
)
from shopfloor.datasets.writer import EpisodeWriter
from shopfloor.envs.registry import make_cell
from shopfloor.envs.variation import variation_name

logger = logging.getLogger(__name__)

PREPARE = "shopfloor.collectors.jobs:prepare"
RUN_EPISODE = "shopfloor.collectors.jobs:run_episode"
MAX_CELLS = 4
# A reset makes a used cell equal to a new one, in less than half the time. Set it to False for
# cells that do not keep that promise: every episode then gets a new one.
REUSE_CELLS = True
DEFAULT_IMAGE_SIZE = (96, 96)

_cells: OrderedDict[str, Cell] = OrderedDict()
_writers: OrderedDict[str, EpisodeWriter] = OrderedDict()


def prepare(payload: dict[str, Any]) -> dict[str, Any]:
    """Say what a run needs to know before its first episode.

    Args:
        payload: {"cell", "robot", "looks", "image_size", "variation", "policy", "teacher"}: the
            policies as `PolicyRef` JSON, teacher or None; looks as `CellChoice.looks`; image_size
            [height, width] in pixels, or None for what the policy expects.

    Returns:
        {"policy", "teacher": what their `info` says, "image_size", "variation": its one name,
        "description": the cell's}.
    """
    roles = {
        role: resolve_policy(PolicyRef.from_json(payload[role]))
        for role in ("policy", "teacher")
        if payload[role]
    }

    size = payload["image_size"]
    for role, policy in roles.items():
        expected = policy.info.image_size
        if expected is not None and size is not None and tuple(size) != tuple(expected):
            raise InvalidInputError(
                f"The {role} {policy.info.name!r} expects pictures of {tuple(expected)} pixels "
                f"(height, width), not {tuple(size)}."
            )

        size = size or expected

    size = list(size or DEFAULT_IMAGE_SIZE)
    options = {"robot": payload["robot"], "image_size": size, **payload["looks"]}
    variation = payload["variation"]
    if variation.startswith("{"):
        variation = variation_name(variation)
    cell = pooled_cell(payload["cell"], options, variation)
    for role, policy in roles.items():
        require_fit(policy, role, cell)

    description = cell.describe()
    takes = ActionSpec.of(description, cell.action_size).convention
    infos = {role: info_to_json(policy.info) for role, policy in roles.items()}
    for info in infos.values():
        info["action_convention"] = info["action_convention"] or takes

    settings = {"image_size": size, "variation": variation, "description": description}
    return {"teacher": None, **infos, **settings}


def run_episode(payload: dict[str, Any]) -> dict[str, Any]:
    """Run one episode and commit it.

    Args:
        payload: {"spec", "policy", "teacher", "index", "attempt", "out", "codec", "description"}.

    Returns:
        The receipt as JSON.

    Raises:
        InfrastructureError: if the cell failed; the caller tries again.
        DiskError: if the episode could not be written.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    spec = EpisodeSpec.from_json(payload["spec"])
    policy = _policy(payload["policy"], spec.policy_digest)
    teacher = _policy(payload["teacher"], spec.teacher_digest) if payload["teacher"] else None
    cell = pooled_cell(spec.cell, spec.cell_options, spec.variation)
    sound = False

    try:
        with one_torch_thread():
            episode = rollout(
                cell,
                policy,
                spec,
                teacher=teacher,
                record_cameras=tuple(spec.cell_options.get("cameras", ())),
            )

        sound = True
    finally:
        if not (sound and REUSE_CELLS):
            drop_cell(spec.cell, spec.cell_options, spec.variation)

    commit = _writer(payload).write(episode, payload["index"])
    return Receipt(
        episode_id=spec.episode_id,
        index=payload["index"],
        seed=spec.seed,
        outcome=episode.outcome,
        reason=episode.reason,
        steps=episode.steps,
        path=str(
            Path(commit.path).relative_to(payload["out"])
            if Path(commit.path).is_absolute()
            else commit.path
        ),
        sha256=commit.sha256,
        bytes=commit.bytes,
        attempt=payload["attempt"],
        seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - cpu,
        expert_steps=int((episode.actor == 1).sum()),
    ).to_json()


def pooled_cell(cell_id: str, options: Mapping[str, Any], variation: str) -> Cell:
    """Return this process's cell for a set of options, privileged.

    Args:
        cell_id: full id.
        options: of `EpisodeSpec.cell_options`; its cameras are rendered on request only, so they
            are not built in.
        variation: name.
    """
    key = _cell_key(cell_id, options, variation)
    if key in _cells:
        _cells.move_to_end(key)
        return _cells[key]

    while len(_cells) >= MAX_CELLS:
        _close(_cells.popitem(last=False)[1])
    _cells[key] = build_cell(cell_id, options, variation)
    return _cells[key]


def build_cell(cell_id: str, options: Mapping[str, Any], variation: str) -> Cell:
    """Make a new privileged cell whose reset renders nothing, see `pooled_cell`."""
    arguments = {key: value for key, value in options.items() if key != "cameras"}
    if "image_size" in arguments:
        arguments["image_size"] = tuple(arguments["image_size"])
    return make_cell(cell_id, **arguments, cameras=(), privileged=True, variation=variation)


def drop_cell(cell_id: str, options: Mapping[str, Any], variation: str) -> None:
    """Close a pooled cell, so that the next episode gets a new one."""
    cell = _cells.pop(_cell_key(cell_id, options, variation), None)
    if cell is not None:
        _close(cell)


def info_to_json(info: PolicyInfo) -> dict[str, Any]:
    """Return a policy's info as JSON."""
    return {
        "name": info.name,
        "digest": info.digest,
        "cells": list(info.cells),
        "observation_keys": list(info.observation_keys),
        "action_convention": info.action_convention,
        "image_size": list(info.image_size) if info.image_size else None,
        "expert": info.expert,
    }


def _cell_key(cell_id: str, options: Mapping[str, Any], variation: str) -> str:
    shared = {key: value for key, value in options.items() if key != "cameras"}
    return canonical_json([cell_id, shared, variation])


def _close(cell: Cell) -> None:
    with contextlib.suppress(Exception):  # a crashed cell may not even close
        cell.close()


def _policy(data: Mapping[str, Any], digest: str) -> Policy:
    """Resolve a policy and make sure it is the one the spec names; a cached one that is not is loaded afresh."""
    ref = PolicyRef.from_json(data)
    policy = resolve_policy(ref)
    if policy.info.digest != digest:
        forget_policy(ref)
        policy = resolve_policy(ref)

    if policy.info.digest != digest:
        raise InvalidInputError(
            f"Policy {ref.kind!r} {dict(ref.arguments)} has digest {policy.info.digest[:16]}, the "
            f"run was started with {digest[:16]}: it was changed meanwhile. Start the run again."
        )

    return policy


def _writer(payload: Mapping[str, Any]) -> EpisodeWriter:
    key = canonical_json([payload["out"], payload["codec"], payload["description"]])
    if key not in _writers:
        _writers[key] = EpisodeWriter(
            Path(payload["out"]), payload["description"], codec=payload["codec"]
        )
        while len(_writers) > MAX_CELLS:
            _writers.popitem(last=False)
    return _writers[key]
