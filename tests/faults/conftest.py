"""Puts this folder's modules where its tests can import them, and makes datasets to harm."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fault_episodes import DESCRIPTION, make_episode
from fault_model import folder_bytes, make_folder_of

from shopfloor.datasets.writer import EpisodeWriter


@pytest.fixture(scope="session")
def dataset_content(tmp_path_factory):
    writer = EpisodeWriter(tmp_path_factory.mktemp("made") / "data", DESCRIPTION)
    for index, steps in enumerate((12, 5, 1)):
        writer.write(make_episode(index, steps), index)
    return folder_bytes(writer.path)


@pytest.fixture
def dataset(tmp_path, dataset_content):
    """A dataset of three episodes of 12, 5 and 1 steps, without a manifest."""
    make_folder_of(dataset_content, tmp_path / "data")
    return tmp_path / "data"
