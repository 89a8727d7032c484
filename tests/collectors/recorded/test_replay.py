"""Replays: the same states again, sampling, workers, and what `verify --deep` makes of them."""

import dataclasses

import numpy as np
import pytest

from shopfloor.collectors import jobs
from shopfloor.collectors.collect import collect
from shopfloor.collectors.recorded import episodes as recorded
from shopfloor.collectors.recorded.replay import deep_verify, draw, replay, replay_dataset
from shopfloor.core import InvalidInputError
from shopfloor.datasets.disk.errors import DamagedFileError
from shopfloor.datasets.listing.overlays import write_overlay
from shopfloor.datasets.listing.verify import verify
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.edit import delete, relabel
from shopfloor.datasets.writer import EpisodeWriter

CELLS = ("PickToTray", "Kitting", "ConveyorSort")
FAILS = {"policy": "random", "teacher": "expert", "intervene": "label"}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Six successes, noisy and displaced, of three cells."""
    root = tmp_path_factory.mktemp("parts")
    for cell in CELLS:
        collect(
            cell=cell,
            policy="expert",
            episodes=2,
            noise=0.2,
            variation="displaced",
            out=root / cell,
        )
    return root


@pytest.fixture
def altered(parts, tmp_path):
    """A dataset whose episode 1 had a wrong action when it was committed; its file is whole."""
    source = Dataset(parts / "PickToTray")
    writer = EpisodeWriter(tmp_path / "altered", source.description)
    for index in range(2):
        episode = source.read(index)
        if index == 1:
            actions = episode.actions.copy()
            actions[5] = -actions[5]
            episode = dataclasses.replace(episode, actions=actions)
        writer.write(episode, index)
    return writer.path


@pytest.mark.parametrize("cell", CELLS)
def test_recorded_actions_give_the_recorded_states(parts, cell):
    done = replay_dataset(parts / cell)
    assert [one.states_equal and one.success for one in done.episodes] == [True, True]
    found = done.to_json()
    assert (found["replayed"], found["states_equal_share"], found["successes_again"]) == (2, 1.0, 2)
    assert replay(Dataset(parts / cell).read(1)).states_equal


def test_failures_are_replayed_as_failures(tmp_path):
    collect(cell="PickToTray", **FAILS, episodes=1, out=tmp_path / "d")
    (one,) = replay_dataset(tmp_path / "d").episodes
    assert (one.states_equal, one.recorded, one.success) == (True, False, False)


def test_the_first_state_that_differs_is_told(altered):
    steps = []
    done = replay_dataset(altered, progress=lambda count, total: steps.append((count, total)))
    assert [one.first_difference for one in done.episodes] == [-1, 6]
    assert (done.states_equal, steps) == (1, [(1, 2), (2, 2)])
    assert not recorded._opened


def test_an_episode_that_ends_early_differs_from_there_on(parts):
    episode = Dataset(parts / "PickToTray").read(0)
    longer = dataclasses.replace(
        episode,
        actions=np.concatenate([episode.actions, episode.actions[-1:]]),
        sim_states=np.concatenate([episode.sim_states, episode.sim_states[-1:]]),
    )
    found = replay(longer)
    assert (found.states_equal, found.first_difference, found.success) == (
        False,
        episode.steps + 1,
        True,
    )


def test_workers_and_cell_reuse_change_nothing(parts, pool, monkeypatch):
    one = replay_dataset(parts / "ConveyorSort")
    assert replay_dataset(parts / "ConveyorSort", executor=pool) == one
    monkeypatch.setattr(jobs, "REUSE_CELLS", False)
    assert replay_dataset(parts / "ConveyorSort") == one


def test_episodes_are_chosen_by_expression_ids_and_views(parts, tmp_path):
    path = parts / "Kitting"
    first, second = (record.episode_id for record in Dataset(path).records)
    assert [one.episode_id for one in replay_dataset(path, where="seed == 1").episodes] == [second]
    assert [one.episode_id for one in replay_dataset(path, ids=[first[:10]]).episodes] == [first]
    view = write_overlay(tmp_path / "view.json", [{"op": "tombstone", "episode_id": first}])
    assert [one.episode_id for one in replay_dataset(path, overlays=[view]).episodes] == [second]
    with pytest.raises(InvalidInputError, match="selects none of the 2"):
        replay_dataset(path, where="seed == 9")
    with pytest.raises(InvalidInputError, match="has no episode 'nowhere0'"):
        replay_dataset(path, ids=["nowhere0"])


def test_a_draw_depends_on_ids_and_seed_alone():
    @dataclasses.dataclass(frozen=True)
    class Record:
        episode_id: str

    records = [Record(f"{number:04d}") for number in range(50)]
    drawn = draw(records, 5, 3)
    assert len(drawn) == 5
    assert drawn == sorted(drawn, key=lambda record: record.episode_id)
    assert set(draw(records[::-1], 5, 3)) == set(drawn)
    assert draw(records, 5, 4) != drawn
    assert draw(records, 50, 3) == draw(records, None, 3) == records
    with pytest.raises(InvalidInputError, match="The seed is -1"):
        draw(records, 5, -1)
    with pytest.raises(InvalidInputError, match="at least 1"):
        draw(records, 0, 0)


def test_relabelled_outcomes_are_what_replays_are_compared_with(parts, altered):
    source = replay_dataset(altered, where="seed == 0").to_json()
    assert source["outcomes_equal"] == 1
    relabel(altered, where="seed == 0", outcome="failure", reason="dropped")
    found = replay_dataset(altered, where="seed == 0").to_json()
    assert (found["outcomes_equal"], found["successes"], found["states_equal"]) == (0, 0, 1)


def test_what_cannot_be_simulated_is_refused_by_name(parts, tmp_path, make_stateless):
    path = make_stateless("shopfloor/PickToTray-v0")
    with pytest.raises(InvalidInputError, match="has no simulator states"):
        replay_dataset(path)
    with pytest.raises(InvalidInputError, match="robots/Lift, which is not installed"):
        replay_dataset(make_stateless("robots/Lift"))


@pytest.fixture
def make_stateless(parts, tmp_path):
    """Write a dataset as an import makes it: without simulator states."""

    def make(cell):
        source = Dataset(parts / "PickToTray")
        episode = source.read(0)
        writer = EpisodeWriter(
            tmp_path / cell.replace("/", "-"), {**source.description, "cell": cell}
        )
        spec = dataclasses.replace(episode.spec, cell=cell)
        states = np.zeros((episode.steps + 1, 0))
        writer.write(dataclasses.replace(episode, spec=spec, sim_states=states), 0)
        return writer.path

    return make


def test_a_deep_check_finds_actions_altered_before_the_commit(altered, parts):
    assert verify(altered) == []
    found = deep_verify(altered)
    (damage,) = found.damage
    assert damage.file == str(altered / Dataset(altered).records[1].file)
    assert "other states from 6 on" in damage.problem
    assert len(found.replays.episodes) == 2
    assert deep_verify(parts / "PickToTray", 1).replays.chosen_from == 2
    with pytest.raises(InvalidInputError, match="sample is -1"):
        deep_verify(altered, -1)


def test_a_deep_check_replays_what_is_whole_and_says_what_it_passes_over(altered, make_stateless):
    victim = altered / Dataset(altered).records[1].file
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    found = deep_verify(altered)
    assert [entry.file for entry in found.damage] == [str(victim)]
    assert [one.states_equal for one in found.replays.episodes] == [True]
    found = deep_verify(make_stateless("shopfloor/PickToTray-v0"))
    assert (found.damage, found.replays) == ((), None)
    assert "no simulator states" in found.passed_over
    identity = altered / "dataset.json"
    identity.write_text(identity.read_text().replace('"control_hz": 20', '"control_hz": 21', 1))
    found = deep_verify(altered)
    assert (str(identity), None) == (found.damage[0].file, found.replays)


def test_a_deleted_episode_is_not_replayed(altered):
    delete(altered, where="seed == 1")
    assert replay_dataset(altered).chosen_from == 1
    assert deep_verify(altered).damage == ()


def test_a_dataset_that_changes_meanwhile_is_noticed(altered):
    record = Dataset(altered).records[0]
    payload = {
        "dataset": str(altered),
        "overlays": [],
        "position": 0,
        "episode_id": record.episode_id,
    }
    assert (
        recorded.read_recorded({**payload, "sha256": record.sha256}).spec.episode_id
        == record.episode_id
    )
    payload["sha256"] = "0" * 64
    with pytest.raises(DamagedFileError, match="changed it meanwhile"):
        recorded.read_recorded(payload)
    recorded.forget()
