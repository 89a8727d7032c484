from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest

from shopfloor.core import DiskError, InvalidInputError, UnknownNameError
from shopfloor.datasets.disk.errors import DamagedFileError, NotADatasetError
from shopfloor.datasets.listing.overlays import append_overlay
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.compact import compact
from shopfloor.datasets.tools.copies import filter_episodes, initial_state, split
from shopfloor.datasets.tools.edit import delete, relabel
from shopfloor.datasets.writer import EpisodeWriter


def contents(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def ids(path, **options):
    return {record.episode_id for record in Dataset(path, **options).records}


# --------------------------------------------------------------------------------------------------
# Filter
# --------------------------------------------------------------------------------------------------


def test_a_copy_holds_what_was_selected_byte_for_byte(dataset, tmp_path, make_episode, assert_same):
    before = contents(dataset)
    done = filter_episodes(dataset, "outcome == 'success'", out=tmp_path / "copy")
    assert (done.kept, done.left_out, done.path) == (2, 1, tmp_path / "copy")
    assert done.to_json() == {"kept": 2, "left_out": 1, "path": str(tmp_path / "copy")}
    copy = Dataset(tmp_path / "copy")
    assert_same(copy.read(0), make_episode(0, 12))
    assert_same(copy.read(1), make_episode(1, 5))
    assert [record.sha256 for record in copy.records] == [
        record.sha256 for record in Dataset(dataset).records[:2]
    ]
    assert (tmp_path / "copy/dataset.json").read_bytes() == (dataset / "dataset.json").read_bytes()
    assert copy.verify() == []
    assert copy.info()["manifest"] == {"number": 1, "loose_files": 0}
    assert contents(dataset) == before


def test_a_copy_carries_the_words_about_its_episodes_only(dataset, tmp_path):
    one, two, three = (record.episode_id for record in Dataset(dataset).records)
    append_overlay(dataset, [{"op": "weight", "episode_id": one, "weight": 2.5}])
    relabel(dataset, ids=[one, two], instruction="Tidy up.")
    delete(dataset, ids=[three])
    filter_episodes(dataset, f"episode_id == '{one}'", out=tmp_path / "copy")
    copy = Dataset(tmp_path / "copy")
    (record,) = copy.records
    assert (record.weight, record.instruction, copy.read(0).instruction) == (
        2.5,
        "Tidy up.",
        "Tidy up.",
    )
    assert copy.episode_ids() == {one}


@pytest.mark.parametrize("layout", ["sealed", "train"])
def test_a_copy_out_of_a_shard(dataset, tmp_path, make_episode, assert_same, layout):
    compact(dataset, layout=layout)
    filter_episodes(dataset, "seed != 1", out=tmp_path / "copy")
    copy = Dataset(tmp_path / "copy")
    assert [record.seed for record in copy.records] == [0, 2]
    assert_same(copy.read(0), make_episode(0, 12))
    assert_same(copy.read(1), make_episode(2, 1))
    assert copy.verify() == []
    filter_episodes(dataset, "True", out=tmp_path / "all")
    assert [record.sha256 for record in Dataset(tmp_path / "all").records] == [
        record.sha256 for record in Dataset(dataset).records
    ]


def test_a_view_leaves_out_the_rest_and_changes_nothing(dataset, tmp_path):
    before = contents(dataset)
    done = filter_episodes(dataset, "steps > 1", view=tmp_path / "view.json")
    assert (done.kept, done.left_out) == (2, 1)
    assert [record.steps for record in Dataset(dataset, overlays=[done.path]).records] == [12, 5]
    assert len(Dataset(dataset)) == 3
    assert contents(dataset) == before


def test_views_add_up(dataset, tmp_path):
    one = filter_episodes(dataset, "steps > 1", view=tmp_path / "one.json").path
    two = filter_episodes(dataset, "steps < 12", view=tmp_path / "two.json", overlays=[one])
    assert (two.kept, two.left_out) == (1, 1)
    assert [record.steps for record in Dataset(dataset, overlays=[two.path]).records] == [5]
    filter_episodes(dataset, "True", out=tmp_path / "copy", overlays=[two.path])
    assert [record.steps for record in Dataset(tmp_path / "copy").records] == [5]


@pytest.mark.parametrize("target", [{}, {"out": "a", "view": "b"}])
def test_one_of_copy_and_view(dataset, target):
    with pytest.raises(InvalidInputError, match="either"):
        filter_episodes(dataset, "True", **target)


@pytest.mark.parametrize("kind", ["out", "view"])
def test_refusals_leave_nothing_behind(dataset, tmp_path, kind):
    target = {kind: tmp_path / "new"}
    with pytest.raises(InvalidInputError, match="selects none of the 3 episodes"):
        filter_episodes(dataset, "steps > 1000", **target)
    with pytest.raises(UnknownNameError, match="Did you mean 'steps'"):
        filter_episodes(dataset, "step > 10", **target)
    with pytest.raises(NotADatasetError):
        filter_episodes(tmp_path / "nothing", "True", **target)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    (tmp_path / "new").write_text("mine")
    with pytest.raises(InvalidInputError, match="exists"):
        filter_episodes(dataset, "True", **target)
    assert (tmp_path / "new").read_text() == "mine"


def test_an_empty_dataset(tmp_path, description):
    EpisodeWriter(tmp_path / "data", description)
    with pytest.raises(InvalidInputError, match="none of the 0 episodes"):
        filter_episodes(tmp_path / "data", "True", out=tmp_path / "copy")
    with pytest.raises(InvalidInputError, match="would be empty: the 0 episodes"):
        split(tmp_path / "data", tmp_path / "parts")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_damage_is_not_hidden_by_a_copy(dataset, tmp_path):
    path = dataset / Dataset(dataset).records[1].file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for copy in (
        lambda: filter_episodes(dataset, "True", out=tmp_path / "copy"),
        lambda: split(dataset, tmp_path / "copy", shares={"a": 1.0}),
    ):
        with pytest.raises(DamagedFileError, match=f"{path}.*data repair"):
            copy()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_byte_that_changes_under_a_manifest_is_found_while_copying(dataset, tmp_path):
    """The manifest knows the file, so opening the dataset does not read it."""
    from shopfloor.datasets.writer import write_manifest

    write_manifest(dataset)
    path = dataset / Dataset(dataset).records[1].file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match=str(path)):
        filter_episodes(dataset, "True", out=tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("copy", [lambda path, out: filter_episodes(path, "True", out=out), split])
def test_a_copy_inside_its_source_is_refused(dataset, copy):
    with pytest.raises(InvalidInputError, match="would lie in the source"):
        copy(dataset, dataset / "copy")
    assert not (dataset / "copy").exists()


def test_a_read_only_folder(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *arguments: False)
    for target in ({"out": tmp_path / "copy"}, {"view": tmp_path / "view.json"}):
        with pytest.raises((InvalidInputError, DiskError)) as error:
            filter_episodes(dataset, "True", **target)
        assert error.value.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


# --------------------------------------------------------------------------------------------------
# Split
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path, description, make_episode):
    """Ten seeds, of which 0 and 1 also by another policy, 2 in another variation, and 3 begins like 4."""
    writer = EpisodeWriter(tmp_path / "many", description)
    episodes = [make_episode(seed, 2) for seed in range(10)]
    episodes += [
        dataclasses.replace(episode, spec=dataclasses.replace(episode.spec, policy_digest="other"))
        for episode in (make_episode(0, 3), make_episode(1, 3))
    ]
    hard = make_episode(30, 2)
    episodes.append(
        dataclasses.replace(hard, spec=dataclasses.replace(hard.spec, seed=2, variation="hard"))
    )
    states = episodes[3].sim_states.copy()
    states[0] = episodes[4].sim_states[0]
    episodes[3] = dataclasses.replace(episodes[3], sim_states=states)
    for index, episode in enumerate(episodes):
        writer.write(episode, index)
    return writer.path


def test_every_episode_is_in_one_part_and_no_initial_state_in_two(many, tmp_path):
    before = contents(many)
    done = split(many, tmp_path / "parts")
    assert contents(many) == before
    assert (list(done.parts), sum(done.parts.values()), done.groups) == (
        ["train", "valid", "test"],
        13,
        10,
    )
    parts = {name: Dataset(tmp_path / "parts" / name) for name in done.parts}
    assert {name: len(part) for name, part in parts.items()} == dict(done.parts)
    assert sorted(
        record.episode_id for part in parts.values() for record in part.records
    ) == sorted(ids(many))
    homes: dict[object, set[str]] = {}
    for name, part in parts.items():
        assert part.verify() == []
        for index, record in enumerate(part.records):
            state = part.read(index).sim_states[0].tobytes()
            for key in (state, (record.cell, record.variation, record.seed)):
                homes.setdefault(key, set()).add(name)
    assert all(len(home) == 1 for home in homes.values())
    assert len(homes) == 13 - 3 + 13 - 2  # as planted


def test_an_equal_seed_gives_equal_parts_whatever_the_files_look_like(many, tmp_path):
    split(many, tmp_path / "one", seed=3)
    compact(many)
    split(many, tmp_path / "two", seed=3)
    split(many, tmp_path / "three", seed=4)
    one, two, three = (
        {name: ids(tmp_path / where / name) for name in ("train", "valid", "test")}
        for where in ("one", "two", "three")
    )
    assert one == two
    assert one != three


def test_by_variation(many, tmp_path):
    done = split(many, tmp_path / "parts", by="variation", shares={"known": 0.9, "new": 0.1})
    assert dict(done.parts) == {"known": 12, "new": 1}
    assert [record.variation for record in Dataset(tmp_path / "parts/new").records] == ["hard"]


def test_words_about_episodes_go_with_them(many, tmp_path):
    first, second, *_ = (record.episode_id for record in Dataset(many).records)
    relabel(many, ids=[first], instruction="Tidy up.")
    delete(many, ids=[second])
    done = split(many, tmp_path / "parts", shares={"a": 0.5, "b": 0.5})
    assert sum(done.parts.values()) == 12
    said = {
        record.episode_id: record.instruction
        for name in done.parts
        for record in Dataset(tmp_path / "parts" / name).records
    }
    assert said[first] == "Tidy up."
    assert second not in said


def test_a_part_that_would_be_empty(dataset, tmp_path):
    with pytest.raises(
        InvalidInputError, match=r"part 'd' would be empty: the 3 episodes .* form 3 groups"
    ):
        split(dataset, tmp_path / "parts", shares=dict.fromkeys("abcd", 0.25))
    with pytest.raises(InvalidInputError, match="form 1 groups"):
        split(dataset, tmp_path / "parts", by="variation")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": {}}, "expected 1"),
        ({"shares": {"a": 0.5, "b": 0.4}}, "add up to 0.9"),
        ({"shares": {"a": 1.5, "b": -0.5}}, "share of part 'a' is 1.5"),
        ({"shares": {"a": float("nan"), "b": 1}}, "share of part 'a' is nan"),
        ({"shares": {"../a": 1.0}}, "cannot be called '../a'"),
        ({"by": "cell"}, "Unknown way to split 'cell'"),
    ],
)
def test_options_that_cannot_be(dataset, tmp_path, options, message):
    with pytest.raises((InvalidInputError, UnknownNameError), match=message):
        split(dataset, tmp_path / "parts", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_initial_states(tmp_path, description, make_episode):
    writer = EpisodeWriter(tmp_path / "data", description)
    zero = make_episode(0, 1)
    states = np.zeros_like(zero.sim_states)
    none = np.zeros((2, 0))
    other = {**zero.observations, "state": zero.observations["state"] + 1}
    planted = [
        dataclasses.replace(zero, sim_states=states),
        dataclasses.replace(zero, sim_states=-states, observations=other),
        dataclasses.replace(zero, sim_states=states + np.array([[0], [1]])),
        dataclasses.replace(zero, sim_states=none),
        dataclasses.replace(zero, sim_states=none, actions=zero.actions + 1),
        dataclasses.replace(zero, sim_states=none, observations=other),
    ]
    for index, episode in enumerate(planted):
        writer.write(
            dataclasses.replace(episode, spec=dataclasses.replace(zero.spec, seed=index)), index
        )
    opened = Dataset(writer.path)
    found = [initial_state(opened.open_episode(index)) for index in range(len(planted))]
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4]
    assert len(set(found)) == 3
