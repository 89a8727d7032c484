from __future__ import annotations

import json
import multiprocessing

import pytest

from shopfloor.core import InvalidInputError
from shopfloor.datasets.disk.errors import DamagedFileError, FormatVersionError
from shopfloor.datasets.listing.overlays import (
    Change,
    append_overlay,
    load_overlays,
    overlay_bytes,
    read_overlay_file,
    write_overlay,
)
from shopfloor.datasets.listing.verify import verify
from shopfloor.datasets.reader import Dataset


def overlay(path, number, *operations, version=1):
    (path / "overlays").mkdir(exist_ok=True)
    file = path / f"overlays/overlay-{number:08d}.json"
    file.write_text(json.dumps({"schema_version": version, "operations": list(operations)}))
    return file


@pytest.fixture
def ids(dataset):
    return [record.episode_id for record in Dataset(dataset).records]


def test_tombstone_and_restore(dataset, ids):
    overlay(
        dataset,
        1,
        {"op": "tombstone", "episode_id": ids[0], "reason": "a person is in the picture"},
    )
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


BAD = [
    ({"op": "forget", "episode_id": "x"}, "op is 'forget'"),
    ({"op": "tombstone"}, "peration 0 .*cannot be used"),
    ({"op": "tombstone", "episode_id": 3}, "expected text"),
    ({"op": "weight", "episode_id": "x", "weight": -1}, "at least 0"),
    ({"op": "weight", "episode_id": "x", "weight": True}, "at least 0"),
    ({"op": "weight", "episode_id": "x", "weight": 10**400}, "at least 0"),
    ({"op": "relabel", "episode_id": "x"}, "needs texts"),
    ({"op": "relabel", "episode_id": "x", "instruction": 1}, "needs texts"),
    ({"op": "relabel", "episode_id": "x", "instruction": "a\0b"}, "without NUL"),
    ({"op": "relabel", "episode_id": "x", "instruction": "a" * 60_001}, "60000 bytes"),
    ({"op": "relabel", "episode_id": "x", "instruction": "\ud800"}, "surrogates"),
    ({"op": "relabel", "episode_id": "x", "outcome": "great"}, "expected success or failure"),
    ({"op": "relabel", "episode_id": "x", "outcome": "failure"}, "reason is None"),
    ({"op": "relabel", "episode_id": "x", "reason": "dropped"}, "outcome beside it"),
    ("tombstone", "cannot be used"),
]


@pytest.mark.parametrize(("operation", "message"), BAD)
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


# --------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "message"),
    [*BAD, ({"op": "weight", "episode_id": "x", "weight": float("nan")}, "JSON")],
)
def test_what_readers_refuse_is_not_written(dataset, operation, message):
    with pytest.raises(InvalidInputError, match=message):
        append_overlay(dataset, [operation])
    assert not (dataset / "overlays").exists()


def test_an_overlay_without_operations_is_refused(dataset):
    with pytest.raises(InvalidInputError, match="says nothing"):
        append_overlay(dataset, [])


def test_overlays_are_numbered_after_the_highest_and_never_replaced(dataset, ids):
    overlay(dataset, 7, {"op": "weight", "episode_id": ids[0], "weight": 2})
    before = (dataset / "overlays/overlay-00000007.json").read_bytes()
    first = append_overlay(dataset, [{"op": "weight", "episode_id": ids[0], "weight": 3}])
    second = append_overlay(dataset, [{"op": "tombstone", "episode_id": ids[1]}])
    assert [first.name, second.name] == ["overlay-00000008.json", "overlay-00000009.json"]
    assert (dataset / "overlays/overlay-00000007.json").read_bytes() == before
    assert [record.weight for record in Dataset(dataset).records] == [3.0, 1.0]
    assert verify(dataset) == []
    assert read_overlay_file(second) == [{"op": "tombstone", "episode_id": ids[1]}]


def test_writers_of_overlays_do_not_replace_each_other(dataset, ids):
    def write(number):
        for count in range(5):
            append_overlay(
                dataset, [{"op": "weight", "episode_id": f"{number}-{count}", "weight": 2}]
            )

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write, args=(number,)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
        assert process.exitcode == 0
    assert set(load_overlays(dataset)) == {
        f"{number}-{count}" for number in range(4) for count in range(5)
    }
    assert len(list((dataset / "overlays").iterdir())) == 20


def test_a_flipped_digit_of_an_overlay_is_found(dataset, ids):
    path = append_overlay(dataset, [{"op": "weight", "episode_id": ids[0], "weight": 2.5}])
    path.write_text(path.read_text().replace("2.5", "3.5"))
    with pytest.raises(DamagedFileError, match="content_sha256"):
        Dataset(dataset)


def test_a_read_only_folder_is_bad_input(dataset, ids, monkeypatch):
    monkeypatch.setattr("os.access", lambda *arguments: False)
    with pytest.raises(InvalidInputError, match="nothing was changed") as error:
        append_overlay(dataset, [{"op": "tombstone", "episode_id": ids[0]}])
    assert error.value.exit_code == 2
    assert not (dataset / "overlays").exists()


# --------------------------------------------------------------------------------------------------
# Views
# --------------------------------------------------------------------------------------------------


def test_views_apply_after_the_datasets_own_in_their_order(dataset, ids, tmp_path):
    append_overlay(dataset, [{"op": "weight", "episode_id": ids[0], "weight": 2}])
    one = write_overlay(
        tmp_path / "one.json", [{"op": "weight", "episode_id": ids[0], "weight": 3}]
    )
    two = write_overlay(
        tmp_path / "two.json", [{"op": "weight", "episode_id": ids[0], "weight": 4}]
    )
    assert load_overlays(dataset, [one, two])[ids[0]].weight == 4.0
    assert load_overlays(dataset, [two, str(one)])[ids[0]].weight == 3.0
    assert load_overlays(dataset)[ids[0]].weight == 2.0


def test_a_view_may_leave_everything_as_it_is_but_replaces_nothing(dataset, tmp_path):
    path = write_overlay(tmp_path / "view.json", [])
    assert load_overlays(dataset, [path]) == {}
    with pytest.raises(InvalidInputError, match="exists"):
        write_overlay(path, [])
    with pytest.raises(InvalidInputError, match="no folder"):
        write_overlay(tmp_path / "nowhere/view.json", [])


def test_a_view_that_is_not_there_says_so(dataset, tmp_path):
    with pytest.raises(InvalidInputError, match="There is no overlay"):
        load_overlays(dataset, [tmp_path / "nothing.json"])


def test_a_change_says_itself_in_the_fewest_operations(tmp_path):
    change = Change(True, {"outcome": "failure", "reason": "dropped"}, 0.5)
    path = tmp_path / "overlay-1.json"
    path.write_bytes(overlay_bytes(change.operations("x")))
    (tmp_path / "overlays").mkdir()
    assert load_overlays(tmp_path, [path]) == {"x": change}
    assert Change().operations("x") == []
