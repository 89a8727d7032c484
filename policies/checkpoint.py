"""Checkpoints: folders of `model.safetensors`, with normalisation, `config.json` and `card.md`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save

from shopfloor.core import (
    ACTION_CONVENTION,
    ActionChunk,
    InvalidInputError,
    Observation,
    PolicyInfo,
    canonical_json,
    seed_stream,
    sha256_hex,
)
from shopfloor.datasets.disk.errors import disk_error
from shopfloor.datasets.disk.files import settle
from shopfloor.policies.encoders import text, vision
from shopfloor.policies.encoders.weights import catalogue
from shopfloor.policies.networks.features import OBJECT_WIDTH
from shopfloor.policies.networks.network import Inputs, NetworkConfig, PolicyNetwork

FORMAT = 1
MODEL, CONFIG, CARD = "model.safetensors", "config.json", "card.md"
SIZE_LIMIT = 2 << 30
CONFIG_LIMIT = 4 << 20
_CARD_DIGEST = re.compile(r"^- Digest .*`([0-9a-f]{64})`$", re.MULTILINE)


@dataclass
class Checkpoint:
    """A trained policy and what it was made of.

    Attributes:
        network: in evaluation mode.
        texts: known texts, for which no encoder is loaded at run time.
        embeddings: the MiniLM embeddings of `texts`, shape (len(texts), 384), float32.
        instructions: instruction texts of training.
        execute: actions run per chunk.
        image_size: (height, width) of camera pictures, None from poses.
        label_sources: decisions by who labelled them: "expert", "own_success", "scenes".
        plan: what training was given: hashes, steps, seed.
        digest: SHA-256 of the two files, "" before it is written.
    """

    network: PolicyNetwork
    texts: tuple[str, ...]
    embeddings: torch.Tensor
    instructions: tuple[str, ...]
    execute: int
    image_size: tuple[int, int] | None
    label_sources: Mapping[str, int]
    plan: Mapping[str, Any]
    digest: str = field(default="")


def _config(point: Checkpoint) -> dict[str, Any]:
    shape = point.network.config
    total, active = point.network.parameter_counts()
    encoders = [text.MODEL] + ([vision.MODEL] if shape.views else [])

    return {
        "format": FORMAT,
        "action_convention": ACTION_CONVENTION,
        "cells": list(shape.cells),
        "observations": "cameras" if shape.views else "poses",
        "network": shape.to_json(),
        "texts": list(point.texts),
        "instructions": list(point.instructions),
        "execute": point.execute,
        "image_size": list(point.image_size) if point.image_size else None,
        "label_sources": dict(point.label_sources),
        "plan": dict(point.plan),
        "parameters_total": total,
        "parameters_active": active,
        "encoders": {name: catalogue()[name]["files"] for name in encoders},
    }


def is_finished(folder: Path, shape: NetworkConfig, plan: Mapping[str, Any], execute: int) -> bool:
    """Return whether `folder` already holds the checkpoint that this plan would make.

    Raises:
        InvalidInputError: the folder holds something else.
    """
    if not folder.exists():
        return False

    same = False
    if (folder / CONFIG).is_file():
        config = read_card(folder)
        wanted = json.loads(canonical_json([shape.to_json(), dict(plan), execute]))
        same = wanted == [config.get(key) for key in ("network", "plan", "execute")]

    if not same:
        raise InvalidInputError(
            f"{folder} exists and holds something else. Expected a new folder, or the checkpoint "
            "of the same training; choose another --out."
        )

    return True


def write(folder: Path, point: Checkpoint) -> Path:
    """Publish a checkpoint folder, whole or not at all; returns `folder`.

    Raises:
        DiskError: writing failed; nothing is left behind.
    """
    tensors = {name: value.contiguous() for name, value in point.network.state_dict().items()}
    model = save({**tensors, "text_embeddings": point.embeddings.contiguous()})
    config = json.dumps(_config(point), indent=1, sort_keys=True).encode()
    card = _card(point, hashlib.sha256(model + config).hexdigest()).encode()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)

    try:
        temporary.mkdir(parents=True)
        for name, data in ((MODEL, model), (CONFIG, config), (CARD, card)):
            with (temporary / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

        temporary.rename(folder)
        settle(folder.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise disk_error(folder, error) from error

    return folder


def _card(point: Checkpoint, digest: str) -> str:
    shape = point.network.config
    total, active = point.network.parameter_counts()
    encoders = "\n".join(
        f"- {name} ({catalogue()[name]['upstream']}, {catalogue()[name]['licence']}), frozen"
        for name in _config(point)["encoders"]
    )

    sees = "cameras " + ", ".join(shape.views) if shape.views else "object poses"
    trunk = "dense" if shape.experts == 1 else f"{shape.experts} experts, top {shape.top_k}"
    labels = point.label_sources

    return f"""# shopfloor policy for {", ".join(shape.cells)}

- Acts from: {sees}, joints and an instruction.
- Actions: `{ACTION_CONVENTION}`, chunks of {shape.horizon}, {point.execute} executed.
- Head: {shape.head}, {trunk};
  {total:,} trainable parameters, {active:,} active per decision.
- Digest (SHA-256 of {MODEL} and {CONFIG}): `{digest}`

## Labels it was trained on
- {labels["expert"]} decisions labelled by the scripted expert (teacher distillation, not self-improvement).
- {labels["own_success"]} decisions from episodes that succeeded without a teacher's label.
- {labels["scenes"]} random simulated scenes: poses from the simulator, actions from the scripted expert.

## Open weights used
{encoders}
"""


def read_card(folder: Path) -> dict[str, Any]:
    """Return `config.json` of a checkpoint, plus "digest".

    Raises:
        InvalidInputError: missing, too large, not JSON, of another format version, or not the
            files whose digest `card.md` records.
    """
    path = folder / CONFIG
    if not folder.is_dir() or not path.is_file() or not (folder / MODEL).is_file():
        raise InvalidInputError(
            f"{folder} is not a checkpoint: expected a folder with {MODEL} and {CONFIG}. "
            "Name the folder that `shopfloor train --out` made."
        )
    if path.stat().st_size > CONFIG_LIMIT:
        raise InvalidInputError(
            f"{path} has {path.stat().st_size} bytes; expected at most {CONFIG_LIMIT}."
        )

    data = path.read_bytes()
    try:
        config: dict[str, Any] = json.loads(data)
        version = config["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidInputError(
            f"{path} is corrupt ({error}); train again or restore it from a copy."
        ) from error

    if version != FORMAT:
        raise InvalidInputError(
            f"{path} has format {version}; this version of shopfloor reads {FORMAT}."
        )
    if config.get("action_convention") != ACTION_CONVENTION:
        raise InvalidInputError(
            f"{path} uses action convention {config.get('action_convention')!r}; "
            f"this version runs {ACTION_CONVENTION!r}."
        )

    digest = _digest(folder, data)
    _check_digest(folder, digest)
    return {**config, "digest": digest}


def _check_digest(folder: Path, digest: str) -> None:
    """Refuse files other than those that `card.md` describes; without a card any pass."""
    try:
        recorded = _CARD_DIGEST.search((folder / CARD).read_text(errors="replace"))
    except OSError:
        return

    if recorded and recorded[1] != digest:
        raise InvalidInputError(
            f"Checkpoint {folder} is corrupt or truncated (its digest is {digest[:16]}, {CARD} "
            f"records {recorded[1][:16]}); train again or restore it from a copy."
        )


def _digest(folder: Path, config: bytes) -> str:
    model = folder / MODEL
    if model.stat().st_size > SIZE_LIMIT:
        raise InvalidInputError(
            f"{model} has {model.stat().st_size} bytes; expected at most {SIZE_LIMIT}."
        )
    return hashlib.sha256(model.read_bytes() + config).hexdigest()


def read(folder: Path) -> Checkpoint:
    """Load a checkpoint.

    Raises:
        InvalidInputError: it is missing, corrupt, truncated, or of another convention or format.
    """
    config = read_card(folder)
    try:
        shape = NetworkConfig.from_json(config["network"])
        # The first weights are replaced; drawing them must not move the caller's generator.
        with torch.random.fork_rng(devices=[]):
            network = PolicyNetwork(shape)

        tensors = load_tensors((folder / MODEL).read_bytes())
        embeddings = tensors.pop("text_embeddings")
        network.load_state_dict(tensors)
        _check_values({**tensors, "text_embeddings": embeddings})
        _check_texts(embeddings, len(config["texts"]))

        return Checkpoint(
            network.eval(),
            tuple(config["texts"]),
            embeddings,
            tuple(config["instructions"]),
            int(config["execute"]),
            tuple(config["image_size"]) if config["image_size"] else None,
            config["label_sources"],
            config["plan"],
            config["digest"],
        )
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InvalidInputError(
            f"Checkpoint {folder} is corrupt or truncated ({reason}); "
            "train again or restore it from a copy."
        ) from error


def _check_values(tensors: Mapping[str, torch.Tensor]) -> None:
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ValueError(f"{name} holds values that are not finite")


def _check_texts(embeddings: torch.Tensor, count: int) -> None:
    wanted = (count, text.TEXT_WIDTH)
    if embeddings.shape != wanted:
        raise ValueError(f"its text table has shape {tuple(embeddings.shape)}; expected {wanted}")


class TrainedPolicy:
    """A checkpoint that acts, a `Policy`: one observation at a time, on one thread, in float32."""

    def __init__(self, point: Checkpoint, cell: str, *, shuffle_instructions: bool = False) -> None:
        """Prepare to act in `cell`.

        Args:
            point: the checkpoint.
            cell: full cell id, one of the checkpoint's.
            shuffle_instructions: replace each episode's instruction by one drawn from all known
                ones: the control that shows whether the policy listens.
        """
        torch.set_num_threads(1)
        shape = point.network.config
        self.point, self._shuffle = point, shuffle_instructions
        self._cell = torch.tensor([shape.cells.index(cell)])
        self._known = {name: point.embeddings[index] for index, name in enumerate(point.texts)}
        self._slot_names = torch.stack([self._embedding(name) for name in shape.names])[None]
        self._instruction = torch.zeros(1, text.TEXT_WIDTH)
        self._generator = torch.Generator()
        keys = ("state", *shape.views) if shape.views else ("state", "objects", "object_names")

        self.info = PolicyInfo(
            name=f"{'cameras' if shape.views else 'poses'}-{shape.head}",
            digest=sha256_hex(point.digest + ":shuffled") if shuffle_instructions else point.digest,
            cells=shape.cells,
            observation_keys=keys,
            action_convention=ACTION_CONVENTION,
            image_size=point.image_size,
        )

    def _embedding(self, words: str) -> torch.Tensor:
        if words not in self._known:
            self._known[words] = text.embed([words])[0]
        return self._known[words]

    def reset(self, seed: int, instruction: str) -> None:
        """Start an episode: embed the instruction and seed the flow head's noise."""
        stream = seed_stream(seed, "policy")
        if self._shuffle:
            instruction = str(stream.choice(self.point.instructions))
        self._generator.manual_seed(int(stream.integers(2**62)))
        self._instruction = self._embedding(instruction)[None]

    def act(self, observation: Observation) -> ActionChunk:
        """Answer one observation with a chunk."""
        shape = self.point.network.config
        state = torch.from_numpy(np.asarray(observation["state"], np.float32))[None]
        objects, maps, names = None, None, self._slot_names

        if shape.views:
            maps = (
                vision.encode(np.stack([observation[view] for view in shape.views]))
                .half()
                .float()[None]
            )
        else:
            objects = torch.from_numpy(np.asarray(observation["objects"], np.float32))[None]
            names = torch.zeros(1, objects.shape[1], text.TEXT_WIDTH)
            for row, name in enumerate(observation["object_names"]):
                names[0, row] = self._embedding(name)

            if objects.shape[-1] != OBJECT_WIDTH:
                raise InvalidInputError(
                    f"`objects` has {objects.shape[-1]} columns; expected {OBJECT_WIDTH}."
                )

        with torch.inference_mode():
            inputs = Inputs(state, self._instruction, names, self._cell, objects, maps)
            context, _ = self.point.network.context(inputs)
            chunk = self.point.network.act(context, self._generator)
        return ActionChunk(actions=chunk[0].numpy(), execute=min(self.point.execute, shape.horizon))


def load_policy(cell: str, path: str, *, shuffle_instructions: bool = False) -> TrainedPolicy:
    """Load a checkpoint as a policy for a cell.

    Args:
        cell: full cell id.
        path: checkpoint folder.
        shuffle_instructions: see `TrainedPolicy`.

    Raises:
        InvalidInputError: unusable checkpoint, or one made for other cells.
    """
    point = read(Path(path))
    cells = point.network.config.cells
    if cell not in cells:
        raise InvalidInputError(
            f"Checkpoint {path} was trained for {', '.join(cells)}; it cannot act in {cell}. "
            "Choose one of its cells, or train on data of this cell."
        )

    return TrainedPolicy(point, cell, shuffle_instructions=shuffle_instructions)
