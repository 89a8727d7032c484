"""Tensor files are there whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from shopfloor.core import DiskError
from shopfloor.policies.encoders import tensors
from shopfloor.policies.encoders.tensors import publish_tensors

TENSORS = {"a": torch.arange(6).reshape(2, 3), "b": torch.tensor([0.5, -1.0]).half()}


def test_tensors_and_metadata_come_back_and_the_folder_is_made(tmp_path):
    path = tmp_path / "new" / "folder" / "x.safetensors"
    publish_tensors(TENSORS, path, {"about": "two tensors"})

    again = load_file(path)
    assert again.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert torch.equal(again[name], value)
        assert again[name].dtype == value.dtype

    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"about": "two tensors"}
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "x.safetensors"
    publish_tensors(TENSORS, path)
    publish_tensors({"c": torch.zeros(1)}, path)
    assert list(load_file(path)) == ["c"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (SafetensorError("Error while serializing"), "Error while serializing. Check the disk"),
    ],
)
def test_a_failed_write_keeps_the_earlier_file(tmp_path, monkeypatch, error, message):
    path = tmp_path / "x.safetensors"
    publish_tensors(TENSORS, path)
    before = path.read_bytes()

    def fail(_tensors, temporary, _metadata):
        Path(temporary).write_bytes(before[:10])
        raise error

    monkeypatch.setattr(tensors, "save_file", fail)
    with pytest.raises(DiskError, match=message):
        publish_tensors({"c": torch.zeros(1)}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_a_disk_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="file"):
        publish_tensors(TENSORS, tmp_path / "file" / "x.safetensors")
