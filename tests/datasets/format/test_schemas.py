"""What lies on disk, and what `info` says, is what the published schemas promise."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.writer import EpisodeWriter, write_manifest

SCHEMAS = Path(__file__).parents[3] / "docs" / "schemas"


def check(document: object, name: str) -> None:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)
    # A key that the schema does not name is one that users do not know of.
    assert set(document) <= set(schema["properties"])
    assert set(schema["required"]) <= set(document)


def test_dataset_and_manifest(dataset):
    check(json.loads((dataset / "dataset.json").read_text()), "dataset")
    manifest = json.loads(write_manifest(dataset).read_text())
    check(manifest, "manifest")
    schema = json.loads((SCHEMAS / "manifest.schema.json").read_text())
    entry = schema["properties"]["episodes"]["items"]["properties"]
    assert all(set(episode) == set(entry) for episode in manifest["episodes"])


@pytest.mark.parametrize("empty", [False, True])
def test_info(dataset, tmp_path, description, empty):
    if empty:
        dataset = EpisodeWriter(tmp_path / "empty", description).path
    check(json.loads(json.dumps(Dataset(dataset).info())), "data-info")
