"""The loop on the real cell: experts are recorded as experts, replays are exact, and workers do not change a byte."""

import numpy as np
import pytest

from shopfloor.collectors.collect import collect
from shopfloor.collectors.evaluate import evaluate
from shopfloor.collectors.executors import LocalExecutor
from shopfloor.collectors.recorded.replay import render_episode, replay
from shopfloor.core import ACTOR_EXPERT, ACTOR_POLICY
from shopfloor.datasets.reader import Dataset

CELL = "PickToTray"
KINDS = {
    "demonstrations": {"policy": "expert", "noise": 0.2},
    "expert intervenes": {"policy": "random", "teacher": "expert", "intervene": "expert"},
    "expert labels": {
        "policy": "random",
        "teacher": "expert",
        "intervene": "label",
        "noise": 0.1,
    },
    "displaced": {"policy": "expert", "variation": "displaced"},
}


def episodes(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "episodes").iterdir())}


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    """Three noisy demonstrations with pictures of both cameras."""
    out = tmp_path_factory.mktemp("demonstrations") / "d"
    options = {"noise": 0.2, "cameras": ("front", "wrist"), "image_size": (32, 40)}
    collect(cell=CELL, policy="expert", episodes=3, out=out, **options)
    return Dataset(out)


def test_demonstrations_are_the_experts_with_clean_labels(demonstrations):
    for index in range(len(demonstrations)):
        episode = demonstrations.read(index)
        assert episode.success
        assert (episode.actor == ACTOR_EXPERT).all()
        assert episode.label_valid.all()
        assert np.array_equal(episode.label_chunks[:, 0], episode.label_actions)
        moved = np.abs(episode.actions - episode.label_actions).max(axis=0)
        assert (moved[[0, 1, 2, 5]] > 0).all()
        assert (moved[[3, 4, 6]] == 0).all()  # frozen axes and the gripper


def test_a_replay_is_exact(demonstrations):
    episode = demonstrations.read(0)
    found = replay(episode)
    assert (found.states_equal, found.success) == (True, True)


def test_states_render_to_pictures_of_any_size(demonstrations):
    episode = demonstrations.read(0)
    assert render_episode(episode, "wrist", (24, 20)).shape == (episode.steps + 1, 24, 20, 3)


def test_an_intervention_rescues_a_hopeless_policy(tmp_path):
    options = KINDS["expert intervenes"]
    collect(cell=CELL, **options, episodes=3, out=tmp_path / "d")
    dataset = Dataset(tmp_path / "d")
    actors = np.concatenate([dataset.read(index).actor for index in range(3)])
    assert {ACTOR_POLICY, ACTOR_EXPERT} == set(actors.tolist())
    assert all(dataset.read(index).label_valid.all() for index in range(3))
    assert [record.expert_steps for record in dataset.records] == [
        int((dataset.read(index).actor == ACTOR_EXPERT).sum()) for index in range(3)
    ]


def test_evaluation_tells_an_expert_from_chance():
    expert = evaluate("expert", CELL, 5, seed=600_000)
    chance = evaluate("random", CELL, 2, seed=600_000)
    assert expert.successes == 5
    assert chance.successes == 0
    assert expert.mean_steps < chance.mean_steps


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_one_and_two_workers_and_any_order_give_the_same_files(tmp_path, kind):
    options = {"cell": CELL, **KINDS[kind], "episodes": 12}
    collect(**options, out=tmp_path / "one")
    with LocalExecutor(2) as two:
        collect(**options, out=tmp_path / "two", executor=two)
        collect(**options, out=tmp_path / "warm", executor=two)  # the same again, in used cells
    assert episodes(tmp_path / "one") == episodes(tmp_path / "two") == episodes(tmp_path / "warm")
    for seed in (7, 2, 11):
        collect(**{**options, "episodes": 1, "seed": seed}, out=tmp_path / f"s{seed}")
        ((name, data),) = episodes(tmp_path / f"s{seed}").items()
        assert episodes(tmp_path / "one")[name.replace("ep-00000000", f"ep-{seed:08d}")] == data


@pytest.mark.slow
def test_pictures_do_not_depend_on_workers_and_can_be_rendered_again(tmp_path):
    options = {
        "cell": CELL,
        "policy": "expert",
        "noise": 0.2,
        "cameras": ("front", "wrist"),
        "episodes": 12,
    }
    collect(**options, out=tmp_path / "one", workers=1)
    collect(**options, out=tmp_path / "two", workers=2)
    assert episodes(tmp_path / "one") == episodes(tmp_path / "two")
    dataset = Dataset(tmp_path / "one")
    for index in range(0, 12, 4):
        episode = dataset.read(index)
        for camera in ("front", "wrist"):
            assert np.array_equal(render_episode(episode, camera), episode.observations[camera])
