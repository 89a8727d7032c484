"""Datasets that earlier releases committed must open for ever.

`tests/data/datasets/format-1` was written once, by the first release of format 1, from the
synthetic episodes of `conftest.py`: one file per codec, a manifest behind its files, an overlay. It
is never written again; a later format adds a folder. `format-1.expected.json` lies beside it and
holds the digest of every array. `before-house` is of format 1, too: a dataset that release 0.1.0
(435edd1) collected in a cell.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shopfloor.core import CameraTrack, Episode
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.windows.windows import Windows

pytestmark = pytest.mark.core

GOLDEN = Path(__file__).parents[2] / "data" / "datasets"


def digest(value: object) -> object:
    """Return an episode's field as JSON, arrays as dtype, shape and SHA-256 of their little-endian bytes."""
    if isinstance(value, np.ndarray):
        return [value.dtype.str, list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, CameraTrack):
        return [digest(value.intrinsics), digest(value.extrinsics)]
    if isinstance(value, dict):
        return {key: digest(item) for key, item in sorted(value.items())}
    if dataclasses.is_dataclass(value):
        return value.to_json()
    return json.loads(json.dumps(value))


def describe(episode: Episode) -> dict[str, object]:
    return {
        field.name: digest(getattr(episode, field.name)) for field in dataclasses.fields(Episode)
    }


@pytest.fixture(params=["format-1", "before-house"])
def golden(request, tmp_path):
    """A copy, so that nothing can change the original."""
    shutil.copytree(GOLDEN / request.param, tmp_path / "golden")
    return tmp_path / "golden", json.loads((GOLDEN / f"{request.param}.expected.json").read_text())


def test_every_value_is_as_it_was(golden):
    path, expected = golden
    dataset = Dataset(path)
    assert dataset.damage == []
    assert dataset.verify() == []
    assert [describe(dataset.read(index)) for index in range(len(dataset))] == expected["episodes"]
    assert [record.to_json() | {"weight": record.weight} for record in dataset.records] == expected[
        "records"
    ]
    info = {**dataset.info(), "path": ""}
    assert {key: info[key] for key in expected["info"]} == expected[
        "info"
    ]  # a later release may say more


def test_windows_of_it(golden):
    dataset = Dataset(golden[0])
    windows = Windows(dataset, ("state", "front"), 2, 4)
    assert next(iter(windows))["front"].dtype == np.uint8
    assert len(windows) == dataset.info()["steps"]
