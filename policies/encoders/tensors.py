"""Safetensors files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from shopfloor.core import DiskError
from shopfloor.datasets.disk.errors import disk_error


def publish_tensors(
    tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a file under a temporary name and move it into place; its folder is made if need be.

    Raises:
        DiskError: the folder cannot be written; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        os.close(handle)

        try:
            save_file(tensors, temporary, metadata)
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(path, error) from error
    except SafetensorError as error:  # what save_file raises where writing failed
        raise DiskError(
            f"Writing {path} failed: {error}. Check the disk, then run the same command again."
        ) from error
