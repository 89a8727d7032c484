from __future__ import annotations

import hashlib

import pytest

from shopfloor.core import InvalidInputError, UnknownNameError
from shopfloor.datasets.disk.errors import NotADatasetError
from shopfloor.datasets.listing.verify import verify
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.edit import delete, purge, relabel, restore
from shopfloor.datasets.writer import EpisodeWriter, write_manifest


@pytest.fixture
def ids(dataset):
    """Episodes 0 and 1 succeeded, 2 dropped its part."""
    return [record.episode_id for record in Dataset(dataset).records]


def hashes(dataset):
    """Return name -> SHA-256 of every file but overlays."""
    return {
        path.relative_to(dataset): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in dataset.rglob("*")
        if path.is_file() and path.parent.name != "overlays"
    }


# --------------------------------------------------------------------------------------------------
# Delete
# --------------------------------------------------------------------------------------------------


def test_delete_by_expression(dataset, ids):
    before = hashes(dataset)
    done = delete(dataset, "outcome == 'failure'", reason="not needed")
    assert done.changed == 1
    assert done.to_json() == {"changed": 1, "overlay": str(done.overlay)}
    opened = Dataset(dataset)
    assert [record.episode_id for record in opened.records] == ids[:2]
    assert opened.episode_ids() == set(ids)
    assert "not needed" in done.overlay.read_text()
    assert hashes(dataset) == before
    assert verify(dataset) == []


def test_delete_by_ids_and_expression_takes_both(dataset, ids):
    assert delete(dataset, "steps == 1", [ids[0], ids[1][:12], ids[0]]).changed == 3
    assert len(Dataset(dataset)) == 0


def test_deleting_again_changes_nothing(dataset, ids):
    delete(dataset, "steps > 1")
    again = delete(dataset, "steps > 1", ids[:2])
    assert (again.changed, again.overlay) == (0, None)
    assert len(list((dataset / "overlays").iterdir())) == 1


def test_a_deletion_can_be_taken_back_by_expression_or_id(dataset, ids):
    delete(dataset, "steps > 0")
    nothing = restore(dataset, "steps > 100")
    assert (nothing.changed, nothing.overlay) == (0, None)
    assert restore(dataset, "outcome == 'failure'").changed == 1
    assert restore(dataset, ids=ids[0][:10]).changed == 1
    assert restore(dataset, ids=[ids[0]]).changed == 0
    assert [record.episode_id for record in Dataset(dataset).records] == [ids[0], ids[2]]
    purge(dataset)
    assert restore(dataset, "steps > 0").changed == 0  # its file is gone
    assert verify(dataset) == []
    with pytest.raises(InvalidInputError, match="has no episode"):
        restore(dataset, ids=["0" * 64])


def test_selecting_nothing_writes_nothing(dataset):
    assert delete(dataset, "steps > 1000").changed == 0
    assert not (dataset / "overlays").exists()


def test_an_unknown_id_is_named_with_near_ones_and_nothing_changes(dataset, ids):
    wrong = ids[1][:-1] + ("0" if ids[1][-1] != "0" else "1")
    with pytest.raises(InvalidInputError, match=rf"no episode '{wrong}'. Near ones: {ids[1]}"):
        delete(dataset, ids=[ids[0], wrong])
    with pytest.raises(InvalidInputError, match="has no episode 'zzz'"):
        delete(dataset, ids="zzz")
    assert not (dataset / "overlays").exists()


def test_a_beginning_that_fits_several_is_refused(dataset, ids, monkeypatch):
    monkeypatch.setattr(Dataset, "episode_ids", lambda self: {"abcdefgh1", "abcdefgh2"})
    with pytest.raises(InvalidInputError, match="fits 2 episodes"):
        delete(dataset, ids=["abcdefgh"])


def test_an_episode_whose_file_is_gone_can_be_deleted_by_id(dataset, ids):
    write_manifest(dataset)
    (dataset / Dataset(dataset).records[1].file).unlink()
    assert delete(dataset, ids=[ids[1]]).changed == 1
    assert delete(dataset, ids=[ids[1]]).changed == 0


@pytest.mark.parametrize("call", [delete, lambda path: relabel(path, instruction="x")])
def test_neither_expression_nor_id(dataset, call):
    with pytest.raises(InvalidInputError, match="Nothing says which episodes"):
        call(dataset)


def test_not_a_dataset(tmp_path):
    with pytest.raises(NotADatasetError):
        delete(tmp_path, "steps > 1")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_dataset(tmp_path, description):
    path = EpisodeWriter(tmp_path / "data", description).path
    assert delete(path, "steps > 1").changed == 0
    with pytest.raises(InvalidInputError, match="has no episode"):
        delete(path, ids=["a" * 64])


def test_a_read_only_folder(dataset, monkeypatch):
    monkeypatch.setattr("os.access", lambda *arguments: False)
    with pytest.raises(InvalidInputError, match="nothing was changed"):
        delete(dataset, "steps > 1")


# --------------------------------------------------------------------------------------------------
# Relabel
# --------------------------------------------------------------------------------------------------


def test_relabel_changes_no_committed_file(dataset, ids):
    before = hashes(dataset)
    done = relabel(
        dataset,
        "outcome == 'success'",
        instruction="Tidy up.",
        outcome="failure",
        reason="wrong_part",
    )
    assert done.changed == 2
    opened = Dataset(dataset)
    assert [
        (record.instruction, record.outcome, record.reason) for record in opened.records[:2]
    ] == [("Tidy up.", "failure", "wrong_part")] * 2
    assert opened.read(0).instruction == "Tidy up."
    assert opened.records[2].instruction != "Tidy up."
    assert hashes(dataset) == before
    assert verify(dataset) == []


def test_relabelling_again_changes_nothing(dataset):
    relabel(dataset, "True", outcome="success")
    assert [record.outcome for record in Dataset(dataset).records] == ["success"] * 3
    again = relabel(dataset, "True", outcome="success")
    assert (again.changed, again.overlay) == (0, None)


def test_only_episodes_that_differ_count(dataset):
    assert relabel(dataset, "True", outcome="success").changed == 1


def test_a_reason_alone_is_for_failures(dataset, ids):
    assert relabel(dataset, "outcome == 'failure'", reason="timeout").changed == 1
    assert Dataset(dataset).records[2].reason == "timeout"
    with pytest.raises(InvalidInputError, match=f"Episode {ids[0]}.*succeeded"):
        relabel(dataset, "True", reason="collision")
    assert Dataset(dataset).records[2].reason == "timeout"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "nothing to relabel"),
        ({"outcome": "sucess"}, "Did you mean 'success'"),
        ({"outcome": "failure"}, "needs a reason, one of timeout"),
        ({"outcome": "failure", "reason": "droped"}, "Did you mean 'dropped'"),
        ({"outcome": "success", "reason": "dropped"}, "A success has no reason"),
        ({"reason": ""}, "Unknown reason"),
        ({"instruction": "a\0b"}, "without NUL"),
    ],
)
def test_labels_that_cannot_be(dataset, labels, message):
    with pytest.raises((InvalidInputError, UnknownNameError), match=message):
        relabel(dataset, "True", **labels)
    assert not (dataset / "overlays").exists()


def test_an_episode_that_cannot_be_read_is_not_relabelled(dataset, ids):
    write_manifest(dataset)
    (dataset / Dataset(dataset).records[1].file).unlink()
    with pytest.raises(InvalidInputError, match=f"{ids[1]}.*damaged or missing"):
        relabel(dataset, ids=[ids[1]], instruction="x")
