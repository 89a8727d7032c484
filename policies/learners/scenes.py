"""Random scenes for perception: pictures from anywhere in a task, the simulator's poses as labels.

Scene diversity, not training time, limits perception; a scene costs some milliseconds and comes
with the scripted expert's plan, because the expert needs no memory. Both labels are named in the
checkpoint's card and in reports.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open

from shopfloor.core import InvalidInputError, canonical_json
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.registry import make_cell
from shopfloor.envs.variation import parse_variation
from shopfloor.policies.encoders import vision
from shopfloor.policies.encoders.tensors import publish_tensors

SCENE_BLOCK = "shopfloor.policies.learners.scenes:render_block"
# Scenes per job: few enough to balance workers, enough to amortise the cell's start.
BLOCK = 100


@dataclass
class Scenes:
    """One block of n scenes.

    Attributes:
        cell: full cell id.
        state: (n, 22) float32.
        objects: (n, N, 12) float32.
        object_names: per scene, class name per row of objects.
        instructions: per scene.
        chunk: (n, H, A) float32, the expert's plan.
        maps: (n, views, P, 40) float16.
    """

    cell: str
    state: npt.NDArray[np.float32]
    objects: npt.NDArray[np.float32]
    object_names: list[list[str]]
    instructions: list[str]
    chunk: npt.NDArray[np.float32]
    maps: torch.Tensor


def scene_payloads(
    choice: Mapping[str, Any], count: int, seed: int, out: Path
) -> list[dict[str, Any]]:
    """Split `count` scenes with seeds seed..seed+count-1 into jobs for an executor.

    Args:
        choice: the cell's full id and the conditions: "cell", "robot", "variation", "cameras",
            "image_size" ((height, width), pixels) and "renderer".
        count: number of scenes.
        seed: first seed, in the training range.
        out: folder for the block files.

    Returns:
        JSON payloads of `render_block`; running one again is harmless.
    """
    return [
        {
            **choice,
            "first": first,
            "count": min(BLOCK, seed + count - first),
            "out": str(out),
        }
        for first in range(seed, seed + count, BLOCK)
    ]


def render_block(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Make one block file; an existing one is kept.

    Returns:
        {"path", "scenes", "cpu_seconds"}.
    """
    began = time.process_time()
    name = payload["cell"].split("/")[-1]
    path = Path(payload["out"]) / f"{name}-{payload['first']:08d}-{payload['count']}.safetensors"
    if not path.exists():
        _render(payload, path)

    return {
        "path": str(path),
        "scenes": payload["count"],
        "cpu_seconds": time.process_time() - began,
    }


def _render(payload: Mapping[str, Any], path: Path) -> None:
    torch.set_num_threads(1)
    views = tuple(payload["cameras"])
    cell = make_cell(
        payload["cell"],
        robot=payload["robot"],
        variation=replace(parse_variation(payload["variation"]), mid_task=True),
        privileged=True,
        cameras=views,
        image_size=tuple(payload["image_size"]),
        renderer=payload["renderer"],
    )

    expert = make_expert(payload["cell"])
    rows: dict[str, list[Any]] = {key: [] for key in ("state", "objects", "chunk", *views)}
    names, instructions = [], []

    for seed in range(payload["first"], payload["first"] + payload["count"]):
        observation, info = cell.reset(seed=seed)
        expert.reset(seed, info["instruction"])
        plan = expert.act({**observation, "object_names": info["object_names"]})
        rows["chunk"].append(plan.actions)
        for key in ("state", "objects", *views):
            rows[key].append(observation[key])
        names.append(list(info["object_names"]))
        instructions.append(info["instruction"])

    cell.close()
    maps = torch.stack([vision.encode(np.stack(rows[view])) for view in views], 1).half()
    tensors = {
        key: torch.from_numpy(np.stack(rows[key]).astype(np.float32))
        for key in ("state", "objects", "chunk")
    }

    # One entry: safetensors writes several in no fixed order, and the same scenes must give the
    # same bytes.
    about = canonical_json({"names": names, "instructions": instructions, "cell": payload["cell"]})
    publish_tensors({**tensors, "maps": maps}, path, {"about": about})


def read_block(path: Path) -> Scenes:
    """Read a block file.

    Raises:
        InvalidInputError: the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {key: file.get_tensor(key) for key in ("state", "objects", "chunk", "maps")}
    except Exception as error:
        raise InvalidInputError(
            f"Scene block {path} cannot be read ({error}); delete it and run again."
        ) from error

    return Scenes(
        about["cell"],
        tensors["state"].numpy(),
        tensors["objects"].numpy(),
        about["names"],
        about["instructions"],
        tensors["chunk"].numpy(),
        tensors["maps"],
    )
