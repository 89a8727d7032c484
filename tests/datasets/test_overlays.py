from __future__ import annotations

import json

import pytest

from shopfloor.datasets.errors import DamagedFileError, FormatVersionError
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.verify import verify


def overlay(path, number, *operations, version=1):
    (path / "overlays").mkdir(exist_ok=True)
    file = path / f"overlays/overlay-{number:08d}.json"
    file.write_text(json.dumps({"schema_version": version, "operations": list(operations)}))
    return file


@pytest.fixture
def ids(dataset):
    return [record.episode_id for record in Dataset(dataset).records]


def test_tombstone_and_restore(dataset, ids):
    overlay(dataset, 1, {"op": "tombstone", "episode_id": ids[0], "reason": "a person is in the picture"})
    opened = Dataset(dataset)
    assert [record.index for record in opened.records] == [1, 2]
    assert opened.episode_ids() == set(ids)
    assert opened.info()["tombstones"] == 1
    assert opened.verify() == []
    overlay(dataset, 2, {"op": "restore", "episode_id": ids[0]})
    assert len(Dataset(dataset)) == 3


def test_relabel(dataset, ids, make_episode, assert_same):
    overlay(
        dataset,
        1,
        {"op": "relabel", "episode_id": ids[0], "outcome": "failure", "reason": "dropped"},
        {"op": "relabel", "episode_id": ids[0], "instruction": "Tidy up."},
        {"op": "relabel", "episode_id": ids[2], "outcome": "success"},
    )
    opened = Dataset(dataset)
    records, episodes = opened.records, [opened.read(index) for index in range(3)]
    for item in (records[0], episodes[0]):
        assert (item.outcome, item.reason, item.instruction) == ("failure", "dropped", "Tidy up.")
    for item in (records[2], episodes[2]):
        assert (item.outcome, item.reason) == ("success", "")
    assert_same(episodes[1], make_episode(1, 5))
    assert episodes[0].spec == make_episode(0, 12).spec
    assert opened.info()["outcomes"] == {"failure": 1, "success": 2}


def test_later_overlays_win(dataset, ids):
    overlay(dataset, 10, {"op": "weight", "episode_id": ids[1], "weight": 3})
    overlay(dataset, 9, {"op": "weight", "episode_id": ids[1], "weight": 0.5})
    assert [record.weight for record in Dataset(dataset).records] == [1.0, 3.0, 1.0]


def test_words_about_episodes_elsewhere_are_fine(dataset):
    overlay(dataset, 1, {"op": "tombstone", "episode_id": "0" * 64})
    assert len(Dataset(dataset)) == 3


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"op": "forget", "episode_id": "x"}, "op is 'forget'"),
        ({"op": "tombstone"}, "operation 0 cannot be used"),
        ({"op": "tombstone", "episode_id": 3}, "expected text"),
        ({"op": "weight", "episode_id": "x", "weight": -1}, "at least 0"),
        ({"op": "weight", "episode_id": "x", "weight": True}, "at least 0"),
        ({"op": "relabel", "episode_id": "x"}, "needs texts"),
        ({"op": "relabel", "episode_id": "x", "instruction": 1}, "needs texts"),
        ({"op": "relabel", "episode_id": "x", "outcome": "great"}, "expected success or failure"),
        ({"op": "relabel", "episode_id": "x", "outcome": "failure"}, "reason is None"),
        ({"op": "relabel", "episode_id": "x", "reason": "dropped"}, "outcome beside it"),
        ("tombstone", "cannot be used"),
    ],
)
def test_a_damaged_overlay_stops_reading(dataset, operation, message):
    """Ignored, it would bring back what was to be left out."""
    path = overlay(dataset, 1, operation)
    with pytest.raises(DamagedFileError, match=message):
        Dataset(dataset)
    assert [damage.file for damage in verify(dataset)] == [str(path)]


def test_a_later_overlay_version_says_so(dataset):
    overlay(dataset, 1, version=2)
    with pytest.raises(FormatVersionError, match="Install a newer"):
        Dataset(dataset)
