"""The table of decisions: which steps are imitated, with which labels, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from shopfloor.core import InvalidInputError
from shopfloor.datasets.listing.overlays import append_overlay, write_overlay
from shopfloor.datasets.reader import Dataset
from shopfloor.policies.encoders import vision
from shopfloor.policies.encoders.tensors import publish_tensors
from shopfloor.policies.learners import data
from shopfloor.policies.learners.data import describe, episode_maps, load_table, vocabulary

CELL = "toy/Reach-v0"
NAMES = ("blue bar", "red cube", "tray")
RED, BLUE = "Put the red cube into the tray.", "Put the blue bar into the tray."
HORIZON = 2


def table_of(*datasets, horizon=HORIZON, views=(), cache=None, blocks=()):
    words = vocabulary(describe(datasets))
    return load_table(datasets, words, horizon, views, cache, blocks)


@pytest.fixture
def tabulate(make_dataset, tmp_path):
    """Give a function that writes episodes and returns the table of them."""

    def run(*episodes, **options):
        return table_of(Dataset(make_dataset(tmp_path / "data", episodes)), **options)

    return run


# --------------------------------------------------------------------------------------------------
# Vocabulary
# --------------------------------------------------------------------------------------------------


def test_the_vocabulary_is_that_of_the_cell(make_description):
    words = vocabulary([make_description()])
    assert words.cells == (CELL,)
    assert words.names == NAMES
    assert words.goals == ("tray",)
    assert words.grounding == ((BLUE, "blue bar", "tray"), (RED, "red cube", "tray"))
    assert words.phrasings == {RED, BLUE}


def test_vocabularies_of_several_cells_are_joined(make_description):
    other = make_description(
        "toy/Other-v0",
        vocabulary={"parts": ["red cube", "gear"], "goals": ["shaft", "bin"]},
        instruction_templates={"gear": ["Put the gear on the shaft."]},
    )
    words = vocabulary([make_description(), other, make_description()])
    assert words.cells == (CELL, "toy/Other-v0")
    assert words.names == ("bin", "blue bar", "gear", "red cube", "shaft", "tray")
    assert words.goals == ("bin", "shaft", "tray")
    # With two goals and no word on which is whose, the phrase teaches the part alone.
    assert ("Put the gear on the shaft.", "gear", "") in words.grounding
    assert len(words.grounding) == 3


def test_a_cell_may_name_the_goal_of_each_part(make_description):
    description = make_description(
        vocabulary={
            "parts": ["red cube", "blue bar"],
            "goals": ["left", "right"],
            "goal_of": {"red cube": "left", "blue bar": "right"},
        }
    )
    goals = {part: goal for _, part, goal in vocabulary([description]).grounding}
    assert goals == {"red cube": "left", "blue bar": "right"}


def test_actions_of_another_meaning_are_refused(make_dataset, make_description, tmp_path):
    folder = make_dataset(
        tmp_path / "d", description=make_description(action_convention="joint_v1")
    )
    with pytest.raises(InvalidInputError, match=r"mean 'joint_v1'.*--action-convention"):
        describe([Dataset(folder)])


def test_a_cell_that_cannot_be_learnt_is_refused_with_the_reason(
    make_dataset, make_description, tmp_path
):
    description = make_description()
    del description["vocabulary"]
    folder = make_dataset(tmp_path / "d", description=description)
    with pytest.raises(InvalidInputError, match=r"toy/Reach-v0 in .*names no parts and goals"):
        describe([Dataset(folder)])


def test_arms_with_other_states_are_not_mixed(make_dataset, make_description, tmp_path):
    six = make_description()
    names = six["features"]["state"]["names"][1:]
    six["features"]["state"] = {"shape": [21], "dtype": "float32", "names": names}
    folders = [make_dataset(tmp_path / "seven"), make_dataset(tmp_path / "six", description=six)]
    assert len(describe([Dataset(folders[0]), Dataset(folders[0])])) == 2
    with pytest.raises(InvalidInputError, match="different arms"):
        describe([Dataset(folder) for folder in folders])


# --------------------------------------------------------------------------------------------------
# Labels
# --------------------------------------------------------------------------------------------------


def test_planned_chunks_come_before_what_was_executed(tabulate, make_episode):
    episode = make_episode(1)
    table = tabulate(episode)
    steps = np.flatnonzero(episode.label_valid)
    assert len(table) == len(steps) == 4
    assert np.array_equal(table.chunk, episode.label_chunks[steps, :HORIZON])
    assert not np.array_equal(table.chunk[:, 0], episode.actions[steps])
    assert table.valid.all()
    assert np.array_equal(table.state, episode.observations["state"][steps])
    assert table.sources == {"expert": 4, "own_success": 0, "scenes": 0}


def test_single_labels_fill_the_first_action_of_a_chunk(tabulate, make_episode):
    episode = make_episode(1, labels="actions")
    table = tabulate(episode)
    steps = np.flatnonzero(episode.label_valid)
    assert np.array_equal(table.chunk[:, 0], episode.label_actions[steps])
    assert not table.chunk[:, 1].any()
    assert table.valid.tolist() == [[1.0, 0.0]] * len(steps)


def test_a_plan_shorter_than_a_chunk_leaves_its_end_open(tabulate, make_episode):
    table = tabulate(make_episode(1), horizon=5)
    assert table.chunk.shape == (4, 5, 7)
    assert table.valid.tolist() == [[1.0, 1.0, 1.0, 0.0, 0.0]] * 4


def test_without_labels_successes_teach_what_was_executed(tabulate, make_episode):
    episode = make_episode(1, labels="none")
    table = tabulate(episode, horizon=3)
    assert len(table) == episode.steps
    assert np.array_equal(table.chunk[:-2, 2], episode.actions[2:])
    assert table.valid[-1].tolist() == [1.0, 0.0, 0.0]
    assert table.valid[:-2].all()
    assert table.sources == {"expert": 0, "own_success": 8, "scenes": 0}


def test_a_demonstration_without_labels_counts_as_the_experts(tabulate, make_episode):
    table = tabulate(make_episode(1, labels="none", actor=np.ones(8, np.uint8)))
    assert table.sources == {"expert": 8, "own_success": 0, "scenes": 0}


def test_a_failed_episode_teaches_by_its_labels_alone(tabulate, make_episode):
    failure = {"outcome": "failure", "reason": "timeout", "terminated": False}
    table = tabulate(
        make_episode(1, **failure), make_episode(2, labels="none", **failure), make_episode(3)
    )
    assert len(table) == 8
    assert table.instructions == (RED,)  # that of seeds 1 and 3; seed 2 taught nothing


def test_nothing_to_imitate_is_refused(tabulate, make_episode):
    failed = make_episode(1, labels="none", outcome="failure", reason="timeout", terminated=False)
    with pytest.raises(InvalidInputError, match=r"No step to train on.*--intervene expert"):
        tabulate(failed)


def test_grippers_are_stored_as_commanded(tabulate, make_episode):
    episode = make_episode(1, steps=12)
    table = tabulate(episode)
    assert set(table.chunk[..., 6].flatten().tolist()) == {-1.0, 1.0}
    assert np.array_equal(table.chunk[:, 0, 6], episode.label_chunks[episode.label_valid][:, 0, 6])


# --------------------------------------------------------------------------------------------------
# Rows
# --------------------------------------------------------------------------------------------------


def test_objects_are_sorted_by_the_vocabulary(tabulate, make_episode):
    episodes = [make_episode(seed) for seed in range(4)]
    assert len({episode.object_names for episode in episodes}) > 1
    table = tabulate(*episodes)
    row = 0
    for episode in episodes:
        for step in np.flatnonzero(episode.label_valid):
            for slot, name in enumerate(NAMES):
                source = episode.observations["objects"][step, episode.object_names.index(name)]
                assert np.array_equal(table.objects[row, slot], source)
            row += 1


def test_absent_and_unknown_objects(tabulate, make_episode):
    episode = make_episode(1)
    names = tuple("screw" if name == "blue bar" else name for name in episode.object_names)
    table = tabulate(dataclasses.replace(episode, object_names=names))
    assert not table.objects[:, NAMES.index("blue bar")].any()
    assert table.objects[:, NAMES.index("red cube")].any()
    assert table.objects.shape[1] == len(NAMES)


def test_instructions_are_numbered_and_relabelled_ones_used(make_dataset, tmp_path):
    folder = make_dataset(tmp_path / "data")
    table = table_of(Dataset(folder))
    assert table.instructions == (BLUE, RED)
    assert table.instruction.tolist() == [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4

    first = Dataset(folder).records[0].episode_id
    append_overlay(folder, [{"op": "relabel", "episode_id": first, "instruction": "Fetch it."}])
    table = table_of(Dataset(folder))
    assert table.instructions == ("Fetch it.", BLUE, RED)
    assert table.instruction.tolist()[:4] == [0] * 4


def test_weights_and_tombstones_of_overlays(make_dataset, tmp_path):
    folder = make_dataset(tmp_path / "data")
    ids = [record.episode_id for record in Dataset(folder).records]
    view = write_overlay(
        tmp_path / "view.json",
        [
            {"op": "weight", "episode_id": ids[0], "weight": 2.5},
            {"op": "weight", "episode_id": ids[1], "weight": 0.0},
            {"op": "tombstone", "episode_id": ids[2]},
        ],
    )
    table = table_of(Dataset(folder, overlays=[view]))
    assert table.weight.tolist() == [2.5] * 4 + [1.0] * 4
    assert table.weight.dtype == torch.float64
    assert len(table_of(Dataset(folder))) == 16


def test_cells_are_numbered_in_the_order_of_the_datasets(
    make_dataset, make_description, make_episode, tmp_path
):
    other = "toy/Other-v0"
    folders = [
        make_dataset(tmp_path / "one"),
        make_dataset(tmp_path / "two", [make_episode(7, cell=other)], make_description(other)),
    ]
    table = table_of(*map(Dataset, folders))
    assert table.cell.tolist() == [0] * 16 + [1] * 4
    assert table.group.tolist() == [0] * 20


def test_only_episodes_for_training_are_taken(tabulate, make_episode):
    episode = make_episode(1)
    gate = dataclasses.replace(episode, spec=dataclasses.replace(episode.spec, purpose="gate"))
    with pytest.raises(InvalidInputError, match=r"collected for 'gate'.*seed below 600000"):
        tabulate(gate)


@pytest.mark.parametrize(
    ("lacking", "message"),
    [("objects", "seed 1 has no `objects` poses"), ("front", "no pictures of camera front")],
)
def test_an_episode_without_what_is_learnt_from_is_refused(
    tabulate, make_episode, lacking, message
):
    episode = make_episode(1)
    observations = {k: rows for k, rows in episode.observations.items() if k != lacking}
    with pytest.raises(InvalidInputError, match=message):
        tabulate(dataclasses.replace(episode, observations=observations), views=("front",))


# --------------------------------------------------------------------------------------------------
# Feature maps
# --------------------------------------------------------------------------------------------------


def test_maps_are_those_of_the_labelled_steps(tabulate, make_episode):
    episodes = [make_episode(seed) for seed in (1, 2)]
    table = tabulate(*episodes, views=("front",))
    assert [block.shape for block in table.maps] == [(4, 1, 4, vision.CHANNELS)] * 2

    rows = torch.tensor([6, 0, 6, 3])
    maps = table.gather_maps(rows)
    assert maps.dtype == torch.float32
    pictures = np.concatenate([e.observations["front"][:-1][e.label_valid] for e in episodes])
    expected = vision.encode(pictures[rows.numpy()]).half().float()
    assert torch.allclose(maps[:, 0], expected, atol=2e-3)


def test_maps_are_cached_by_the_file_and_the_views(make_dataset, tmp_path, monkeypatch):
    dataset = Dataset(make_dataset(tmp_path / "data"))
    cache = tmp_path / "features"
    first = table_of(dataset, views=("front",), cache=cache)
    names = sorted(path.name for path in cache.iterdir())
    assert len(names) == 4
    assert {name[:64] for name in names} == {record.sha256 for record in dataset.records}
    assert all(name[64:].startswith("-front-") for name in names)

    monkeypatch.setattr(data.vision, "encode", lambda _: pytest.fail("encoded again"))
    again = table_of(dataset, views=("front",), cache=cache)
    for one, other in zip(first.maps, again.maps, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("damage", [b"", b"no tensors", None])
def test_a_damaged_cache_is_made_again(make_episode, tmp_path, damage):
    episode = make_episode(1)
    images, steps = [episode.observations["front"]], np.array([0, 5])
    first = episode_maps(images, "key", tmp_path, steps)
    [cached] = tmp_path.iterdir()
    if damage is None:
        publish_tensors({"other": torch.zeros(1)}, cached)  # whole, and of something else
    else:
        cached.write_bytes(damage)

    assert torch.equal(episode_maps(images, "key", tmp_path, steps), first)
    assert torch.equal(load_file(cached)["maps"], first)


def test_without_a_cache_nothing_is_written(make_episode, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    maps = episode_maps([make_episode(1).observations["front"]], "key", None, np.array([2]))
    assert maps.shape == (1, 1, 4, vision.CHANNELS)
    assert not list(tmp_path.iterdir())
