"""Who acts: the interventions by themselves, by name, and one of another package."""

import numpy as np
import pytest
from fake_cell import ACTION_SIZE, CELL_ID, FakeCell, FakePolicy

from shopfloor.collectors.chunks import ChunkQueue
from shopfloor.collectors.collect import CollectConfig, collect
from shopfloor.collectors.interventions import (
    Command,
    Intervention,
    intervention_names,
    make_intervention,
)
from shopfloor.collectors.interventions.takeover import TAKEOVER_DECISIONS
from shopfloor.collectors.rollout import rollout
from shopfloor.core import (
    ACTOR_EXPERT,
    ACTOR_POLICY,
    ActionChunk,
    ActionSpec,
    EpisodeSpec,
    InfrastructureError,
    InvalidInputError,
    MissingDependencyError,
    PolicyInfo,
    PolicyRef,
    UnknownNameError,
)
from shopfloor.datasets.reader import Dataset

pytestmark = pytest.mark.core
ACTIONS = ActionSpec.of(FakeCell().describe(), ACTION_SIZE)
NAMES = ("none", "label", "expert", "own")


def chunk(value, rows=4, execute=1):
    return ActionChunk(np.full((rows, ACTION_SIZE), value, np.float32), execute=execute)


def started(name, expert=False):
    intervention = make_intervention(name)
    intervention.reset(3, PolicyInfo("p", "d", expert=expert), ACTIONS)
    return intervention


# -- by themselves ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_ours_are_found_by_name(name):
    assert name in intervention_names()
    assert isinstance(make_intervention(name), Intervention)
    assert make_intervention(name).needs_teacher == (name in ("label", "expert"))


@pytest.mark.parametrize(
    ("expert", "actor"), [(False, ACTOR_POLICY), (True, ACTOR_EXPERT)], ids=["policy", "expert"]
)
def test_nobody_intervenes(expert, actor):
    for name in ("none", "label"):
        one = started(name, expert)
        assert one.asks_policy(0)
        assert not one.asks_policy(1)
        label = chunk(0.9).actions
        command = one.choose({}, chunk(0.1), label)
        assert (command.action == np.float32(0.1)).all()
        assert command.actor == actor
        assert command.label is label


def test_takeover_lasts_some_decisions_and_asks_nobody_meanwhile():
    one = started("expert")
    label = chunk(0.9).actions

    for _ in range(20):  # close to the teacher: the policy acts for as long as it likes
        assert one.choose({}, chunk(0.8), label).actor == ACTOR_POLICY

    far = chunk(-0.9, execute=2)
    assert one.choose({}, far, label).actor == ACTOR_EXPERT
    for _ in range(2 * TAKEOVER_DECISIONS - 1):
        assert not one.asks_policy(0)
        command = one.choose({}, None, label)
        assert command.actor == ACTOR_EXPERT
        assert np.array_equal(command.action, label[0])
    assert one.asks_policy(0)
    assert one.choose({}, chunk(0.8), label).actor == ACTOR_POLICY


def test_an_expert_that_labels_itself_is_asked_at_every_step():
    one = started("own", expert=True)
    assert one.asks_policy(3)
    answer = chunk(0.4)
    command = one.choose({}, answer, None)
    assert command.actor == ACTOR_EXPERT
    assert np.array_equal(command.label, answer.actions)
    with pytest.raises(InvalidInputError, match="no expert"):
        started("own", expert=False)


def test_a_queue_runs_the_chunk_down():
    queue = ChunkQueue()
    assert (queue.left, queue.chunk) == (0, None)
    queue.put(ActionChunk(np.arange(4 * ACTION_SIZE).reshape(4, ACTION_SIZE), execute=2))
    for first in (0, ACTION_SIZE):
        assert queue.chunk.actions[0, 0] == first
        assert queue.chunk.execute == 2
        queue.advance()
    assert (queue.left, queue.chunk) == (0, None)
    queue.advance()
    assert queue.left == 0


# -- of another package ----------------------------------------------------------------------------

ACME = '''
"""Whoever acts changes with every step."""

from shopfloor.collectors.interventions import Command
from shopfloor.core import ACTOR_EXPERT, ACTOR_POLICY


class Turns:
    needs_teacher = True

    def reset(self, seed, policy, actions):
        self.steps = 0

    def asks_policy(self, left):
        return left == 0

    def choose(self, observation, chunk, label):
        self.steps += 1
        if self.steps % 2:
            return Command(chunk.actions[0], ACTOR_POLICY, label)
        return Command(label[0], ACTOR_EXPERT, label)


class Odd(Turns):
    def choose(self, observation, chunk, label):
        return self.answer(chunk, label)


class Raises(Odd):
    def answer(self, chunk, label):
        return 1 / 0


class Tuple(Odd):
    def answer(self, chunk, label):
        return chunk.actions[0], ACTOR_POLICY, label


class Narrow(Odd):
    def answer(self, chunk, label):
        return Command(chunk.actions[0, :3], ACTOR_POLICY, label)


class Infinite(Odd):
    def answer(self, chunk, label):
        return Command(chunk.actions[0] / 0, ACTOR_POLICY, label)


class Stranger(Odd):
    def answer(self, chunk, label):
        return Command(chunk.actions[0], 7, label)
'''
ENTRIES = """[shopfloor.interventions]
turns = acme_turns:Turns
raises = acme_turns:Raises
tuple = acme_turns:Tuple
narrow = acme_turns:Narrow
infinite = acme_turns:Infinite
stranger = acme_turns:Stranger
nothing = acme_turns:Nothing
number = builtins:int
"""


@pytest.fixture
def acme(tmp_path, monkeypatch):
    """Install a package with interventions of its own."""
    folder = tmp_path / "acme"
    info = folder / "acme_turns-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-turns\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (folder / "acme_turns.py").write_text(ACME)
    monkeypatch.syspath_prepend(str(folder))


def run(name):
    policy, teacher = FakePolicy(execute=2), FakePolicy("expert", expert=True)
    spec = EpisodeSpec(
        CELL_ID,
        3,
        policy.info.digest,
        teacher_digest=teacher.info.digest,
        intervention=name,
    )
    return rollout(FakeCell(cameras=()), policy, spec, teacher=teacher)


def test_an_intervention_of_another_package_decides_who_acts(acme):
    episode = run("turns")
    assert episode.actor.tolist() == [step % 2 for step in range(episode.steps)]
    assert episode.label_valid.all()
    assert episode.decisions.tolist() == [step % 2 == 0 for step in range(episode.steps)]


@pytest.mark.usefixtures("acme", "plugin")
def test_it_fills_a_dataset_that_can_be_read_without_it(tmp_path, monkeypatch):
    config = CollectConfig.of(
        cell="FakeReach",
        policy=PolicyRef("fake", CELL_ID, {}),
        teacher=PolicyRef("fake", CELL_ID, {"name": "expert", "expert": True}),
        intervene="turns",
        episodes=2,
        out=tmp_path / "d",
        codec="none",
    )
    assert collect(config).exit_code == 0
    monkeypatch.undo()
    assert "turns" not in intervention_names()
    assert [record.intervention for record in Dataset(tmp_path / "d").records] == ["turns"] * 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "'raises' raised ZeroDivisionError"),
        ("tuple", "is no Command with an actor"),
        ("narrow", r"actions are float32 \(1, 3\); expected numbers"),
        ("infinite", "non-finite"),
        ("stranger", r"an actor of \(0, 1, 2\)"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_one_that_misbehaves_is_to_blame(acme, name, message):
    with pytest.raises(InfrastructureError, match=f"(?s)seed 3, step 0.*{message}"):
        run(name)


def test_one_that_cannot_be_had_is_refused(acme):
    with pytest.raises(MissingDependencyError, match="acme_turns:Nothing, which cannot be loaded"):
        make_intervention("nothing")
    with pytest.raises(InvalidInputError, match="gave a int; expected an object with"):
        make_intervention("number")
    with pytest.raises(UnknownNameError, match="Did you mean 'turns'"):
        make_intervention("turn")


def test_an_unknown_name_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'label'"):
        CollectConfig.of("PickToTray", out=tmp_path / "d", intervene="lable")
    with pytest.raises(InvalidInputError, match="expected a name"):
        EpisodeSpec(CELL_ID, 3, "x", intervention="")
    with pytest.raises(InvalidInputError, match="would do nothing"):
        CollectConfig.of("PickToTray", out=tmp_path / "d", intervene="own", teacher="expert")


def test_a_command_is_plain_data():
    assert Command(np.zeros(7, np.float32), ACTOR_POLICY).label is None
