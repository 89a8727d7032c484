"""What an earlier release made is continued, merged, exported and run.

`tests/data/datasets/before-house` and `tests/data/checkpoints/before-house` were made by release
0.1.0 (435edd1), with two demonstrations, a failure of the random policy and an overlay in the
dataset. They are never written again.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shopfloor.datasets.convert.formats import FORMATS
from shopfloor.datasets.reader import Dataset
from shopfloor.launch.cli import main

pytestmark = pytest.mark.core

DATA = Path(__file__).parents[1] / "data"
CHECKPOINT = DATA / "checkpoints" / "before-house"
COLLECTED = ["--noise", "0.1", "--cameras", "front,wrist", "--image-size", "16", "16", "--quiet"]


@pytest.fixture
def dataset(tmp_path):
    """A copy, so that nothing can change the original."""
    return Path(shutil.copytree(DATA / "datasets" / "before-house", tmp_path / "earlier"))


def run(*words):
    assert main([str(word) for word in words]) == 0


@pytest.mark.core
def test_a_dataset_is_continued(dataset, capsys):
    before = {path.name: path.read_bytes() for path in (dataset / "episodes").iterdir()}
    run("collect", "PickToTray", "--episodes", 3, *COLLECTED, "--out", dataset, "--json")
    assert json.loads(capsys.readouterr().out)["resumed"] == 2
    after = {path.name: path.read_bytes() for path in (dataset / "episodes").iterdir()}
    assert len(after) == 4
    assert before.items() < after.items()
    assert Dataset(dataset).verify() == []


@pytest.mark.core
def test_a_dataset_is_merged_with_a_new_one(dataset, tmp_path):
    new, merged = tmp_path / "new", tmp_path / "merged"
    run("collect", "PickToTray", "--episodes", 1, "--seed", 5, *COLLECTED, "--out", new)
    run("data", "merge", dataset, new, "--out", merged)
    assert sorted(record.seed for record in Dataset(merged).records) == [0, 1, 5, 7]


@pytest.mark.core
@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.exports])
def test_a_dataset_is_exported(dataset, tmp_path, name):
    run("data", "export", dataset, "--to", name, "--out", tmp_path / "exported-v0")
    assert (tmp_path / "exported-v0").exists()


@pytest.mark.torch
@pytest.mark.torch
def test_a_checkpoint_acts_as_it_did(dataset):

    expected = json.loads(CHECKPOINT.with_name("before-house.expected.json").read_text())
    from shopfloor.policies.checkpoint import load_policy

    policy = load_policy("shopfloor/PickToTray-v0", str(CHECKPOINT))
    assert policy.info.digest == expected["digest"]

    episode = Dataset(dataset).read(0)
    policy.reset(0, episode.instruction)
    for number, actions in enumerate(expected["actions"]):
        step = number * expected["every"]
        seen = {key: episode.observations[key][step] for key in ("state", "objects")}
        found = policy.act({**seen, "object_names": episode.object_names}).actions
        np.testing.assert_allclose(found, actions, atol=1e-4)


@pytest.mark.torch
@pytest.mark.torch
def test_a_checkpoint_is_evaluated_and_trained_further(dataset, tmp_path):
    summary, further = tmp_path / "summary.json", tmp_path / "further"
    flags = ["--cell", "PickToTray", "--episodes", 1, "--summary", summary, "--quiet"]
    run("evaluate", "--policy", CHECKPOINT, *flags)
    assert json.loads(summary.read_text())["episodes"] == 1
    run("train", "--data", dataset, "--init", CHECKPOINT, "--steps", 2, "--out", further, "--quiet")
