"""Puts this folder's modules where its tests can import them; the store's own fixtures serve here too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import fault_episodes

_fixtures = sys.modules["dataset_fixtures"]
assert_same, dataset, description, make_episode = (
    _fixtures.assert_same,
    _fixtures.dataset,
    _fixtures.description,
    _fixtures.make_episode,
)

__all__ = ["assert_same", "dataset", "description", "fault_episodes", "make_episode"]
