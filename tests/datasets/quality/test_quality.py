"""The quality of episodes of a toy robot: each defect is found as what it is, sound episodes are not."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from shopfloor.core import InvalidInputError
from shopfloor.datasets.listing.overlays import write_overlay
from shopfloor.datasets.quality.assess import assess
from shopfloor.datasets.quality.judge import Thresholds
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.windows.windows import Windows
from shopfloor.datasets.writer import EpisodeWriter

HERE = Path(__file__).parents[1]
SCHEMAS = HERE.parents[1] / "docs" / "schemas"


@pytest.fixture(scope="module")
def toys():
    spec = importlib.util.spec_from_file_location("toy_robot", HERE / "toy_robot.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy_robot"] = module
    spec.loader.exec_module(module)
    return module


SOUND = 24


@pytest.fixture(scope="module")
def sound(toys):
    return [toys.toy_episode(seed) for seed in range(SOUND)]


@pytest.fixture(scope="module")
def base(toys, sound, tmp_path_factory):
    return toys.write_toys(tmp_path_factory.mktemp("toys") / "data", sound)


@pytest.fixture
def sound_and(base, toys, tmp_path):
    """Write the sound episodes and more: a copy of their files, so that they are made durable once."""

    def write(*more, name="data"):
        folder = tmp_path / name
        shutil.copytree(base, folder)
        writer = EpisodeWriter(folder, toys.DESCRIPTION)
        for index, episode in enumerate(more, SOUND):
            writer.write(episode, index)
        return folder

    return write


def with_state(episode, change):
    state = episode.observations["state"].copy()
    change(state)
    return dataclasses.replace(episode, observations={**episode.observations, "state": state})


def with_clock(episode, change):
    clock = episode.observations["timestamp"].copy()
    change(clock)
    return dataclasses.replace(episode, observations={**episode.observations, "timestamp": clock})


def with_front(episode, change):
    front = episode.observations["front"].copy()
    change(front)
    return dataclasses.replace(episode, observations={**episode.observations, "front": front})


def actions_of(toys, seed):
    return toys.toy_episode(seed).actions.astype(float)


def still(count, gripper=-1.0):
    return np.tile([0.0, 0.0, 0.0, gripper], (count, 1))


def put(array, where, value):
    array[where] = value


def pause(toys, at, count):
    actions = actions_of(toys, 900)
    at = len(actions) if at is None else at
    gripper = actions[max(at - 1, 0), 3]
    return toys.toy_episode(
        900, np.concatenate([actions[:at], still(count, gripper), actions[at:]])
    )


def shaken(toys):
    actions = actions_of(toys, 900)
    actions[4:24, :3] += np.resize([1.0, -1.0], (20, 3)) * np.random.default_rng(0).uniform(
        0.6, 1, (20, 3)
    )
    return toys.toy_episode(900, np.clip(actions, -1, 1))


def wandering(toys):
    actions = actions_of(toys, 900)
    there = np.tile([0.0, 0.8, 0.0, -1.0], (20, 1))
    back = there * (1, -1, 1, 1)
    return toys.toy_episode(900, np.concatenate([there, back, actions]))


def toggling(toys):
    actions = actions_of(toys, 900)
    actions[2:12, 3] = np.resize([1.0, -1.0], 10)
    return toys.toy_episode(900, actions)


def slammed(toys):
    actions = actions_of(toys, 900)
    actions[:, :3] = np.where(np.abs(actions[:, :3]) > 0.2, np.sign(actions[:, :3]), 0.0)
    return toys.toy_episode(900, actions)


def late(toys, by):
    episode = toys.toy_episode(900)
    return dataclasses.replace(episode, actions=np.roll(episode.actions, by, axis=0))


def foreign(toys):
    episode, other = toys.toy_episode(900), toys.toy_episode(901)
    return dataclasses.replace(episode, actions=np.resize(other.actions, episode.actions.shape))


def skipped(toys):
    episode = toys.toy_episode(900)
    state = episode.observations["state"].copy()
    state[8:, :3] += (0.0, 0.12, 0.0)
    return with_state(episode, lambda one: put(one, slice(8, None), state[8:]))


def infinite(episode):
    actions = episode.actions.copy()
    actions[7, 2] = -np.inf
    return dataclasses.replace(episode, actions=actions)


DEFECTS = {
    "idle at the start": (lambda toys: pause(toys, 0, 30), "idle", 0.5),
    "idle at the end": (lambda toys: pause(toys, None, 40), "idle", 0.5),
    "a pause": (lambda toys: pause(toys, 6, 35), "idle", 0.5),
    "shaking": (shaken, "jerky", 0.5),
    "a detour": (wandering, "detour", 0.5),
    "a toggling gripper": (toggling, "chatter", 0.5),
    "full scale": (slammed, "saturated", 0.5),
    "actions late": (lambda toys: late(toys, 4), "shifted_actions", 0.0),
    "actions early": (lambda toys: late(toys, -4), "shifted_actions", 0.0),
    "foreign actions": (foreign, "foreign_actions", 0.0),
    "lost steps": (skipped, "lost_steps", 0.0),
    "a dead joint": (
        lambda toys: with_state(toys.toy_episode(900), lambda s: put(s, (..., 3), 1.5)),
        "dead_sensor",
        0.0,
    ),
    "not a number": (
        lambda toys: with_state(toys.toy_episode(900), lambda s: put(s, (3, 1), np.nan)),
        "non_finite",
        0.0,
    ),
    "an infinite action": (lambda toys: infinite(toys.toy_episode(900)), "non_finite", 0.0),
    "an uneven clock": (
        lambda toys: with_clock(
            toys.toy_episode(900),
            lambda c: (
                put(c, slice(9, None), c[9:] + 0.1)
                or put(c, slice(5, None), c[5:] + 0.2)
                or put(c, slice(7, None), c[7:] + 0.1)
            ),
        ),
        "clock",
        0.5,
    ),
    "a clock that runs back": (
        lambda toys: with_clock(toys.toy_episode(900), lambda c: put(c, 9, 0.1)),
        "clock",
        0.0,
    ),
    "a frozen camera": (
        lambda toys: with_front(toys.toy_episode(900), lambda f: put(f, slice(4, None), f[4])),
        "frozen_camera",
        0.0,
    ),
    "a black camera": (
        lambda toys: with_front(toys.toy_episode(900), lambda f: put(f, slice(4, None), 1)),
        "black_camera",
        0.0,
    ),
    "a copy": (
        lambda toys: with_state(
            dataclasses.replace(toys.toy_episode(3), spec=toys.toy_episode(900).spec),
            lambda s: put(s, (2, 0), s[2, 0] + 1e-4),
        ),
        "near_duplicate",
        0.0,
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found_as_what_it_is(name, toys, sound_and):
    make, kind, weight = DEFECTS[name]
    bad = make(toys)
    found = assess(sound_and(bad))
    kinds = {finding.kind: finding for finding in found.episodes[-1].findings}
    assert kind in kinds, kinds
    assert found.episodes[-1].weight <= weight
    assert (found.episodes[-1].weight == 0) == (weight == 0)
    assert [one.record.index for one in found.flagged] == [SOUND], "a sound episode is blamed"
    assert kind in found.kinds()


@pytest.fixture(scope="module")
def nameless(toys, sound, tmp_path_factory):
    """The sound episodes, and failures of a random policy, in a dataset that says nothing of its columns."""
    about = {
        "cell": toys.CELL,
        "action_convention": "unspecified",
        "control_hz": 20,
        "features": {"state": {}},
    }
    writer = EpisodeWriter(tmp_path_factory.mktemp("nameless") / "data", about)
    random = [np.random.default_rng(seed).uniform(-1, 1, (60, 4)) for seed in range(5)]
    failures = [
        dataclasses.replace(
            toys.toy_episode(100 + seed, actions), outcome="failure", reason="timeout"
        )
        for seed, actions in enumerate(random)
    ]
    for index, episode in enumerate([*sound, *failures]):
        writer.write(episode, index)
    return writer


@pytest.mark.parametrize(
    "name",
    ["idle at the start", "a toggling gripper", "actions late", "foreign actions", "a dead joint"],
)
def test_defects_are_found_without_names_and_units(name, toys, nameless, tmp_path):
    make, kind, _ = DEFECTS[name]
    folder = tmp_path / "data"
    shutil.copytree(nameless.path, folder)
    EpisodeWriter(folder, nameless.identity.description).write(make(toys), 50)
    found = assess(folder)
    assert kind in [finding.kind for finding in found.episodes[-1].findings]
    assert [one.record.index for one in found.flagged] == [50]
    assert any("tool path: no state is called" in reason for reason in found.not_checked)


def test_sound_episodes_are_kept(base):
    found = assess(base)
    assert [one.findings for one in found.episodes] == [()] * SOUND
    assert found.counts() == {"keep": SOUND, "down-weight": 0, "drop": 0}
    assert found.operations() == []
    assert not any("clock" in reason or "gripper" in reason for reason in found.not_checked)
    figures = found.episodes[0].figures
    assert figures["clock_rate_hz"] == pytest.approx(20)
    assert figures["action_late"] == 0
    assert figures["action_fit"] > 0.95
    assert figures["path_ratio"] == pytest.approx(1.1, abs=0.15)


def test_an_honest_failure_is_no_defect(toys, sound_and):
    """A random policy shakes, wanders and toggles; it is a failure and nothing else."""
    actions = np.random.default_rng(5).uniform(-1, 1, (60, 4))
    failure = dataclasses.replace(
        toys.toy_episode(900, actions), outcome="failure", reason="timeout", terminated=False
    )
    found = assess(sound_and(failure))
    last = found.episodes[-1]
    assert {finding.kind for finding in last.findings} >= {"jerky", "chatter"}
    assert {finding.severity for finding in last.findings} == {"note"}
    assert last.weight == 1
    labelled = dataclasses.replace(
        failure,
        label_valid=np.ones(60, bool),
        label_actions=failure.actions,
        spec=toys.toy_episode(901).spec,
    )
    found = assess(sound_and(labelled, name="labelled"))
    assert found.episodes[-1].weight < 1, "with labels it teaches, so that how it moves counts"


def test_of_copies_the_first_sound_one_stays(toys, sound, tmp_path):
    three = [dataclasses.replace(sound[0], spec=toys.toy_episode(seed).spec) for seed in (900, 901)]
    broken = with_clock(sound[0], lambda clock: put(clock, 9, 0.1))
    found = assess(toys.write_toys(tmp_path / "data", [broken, *sound[1:], *three]))
    verdicts = {one.record.seed: one.verdict for one in found.episodes}
    assert [seed for seed, verdict in verdicts.items() if verdict == "drop"] == [0, 901]
    assert verdicts[900] == "keep"
    text = next(
        finding.text for finding in found.episodes[-1].findings if finding.kind == "near_duplicate"
    )
    assert text.startswith(f"the same as episode {SOUND} ")


def test_training_follows_the_view(toys, sound_and, tmp_path):
    bad = [DEFECTS[name][0](toys) for name in ("a frozen camera",)]
    idle = dataclasses.replace(pause(toys, 0, 30), spec=toys.toy_episode(901).spec)
    data = sound_and(*bad, idle)
    found = assess(data)
    view = write_overlay(tmp_path / "view.json", found.operations())
    seen = Dataset(data, overlays=[view])
    assert len(seen) == SOUND + 1
    assert 900 not in [record.seed for record in seen.records]
    assert {record.seed: record.weight for record in seen.records if record.weight != 1} == {
        901: 0.5
    }
    windows = Windows(seen, ("state",), action_horizon=1)
    drawn = [int(number) for batch in windows for number in batch["episode"]]
    by_seed = {seen.records[number].seed: drawn.count(number) for number in set(drawn)}
    steps = {record.seed: record.steps for record in seen.records}
    assert by_seed[901] / steps[901] == pytest.approx(0.5 * by_seed[3] / steps[3], rel=0.2)
    tombstone = found.operations()[0]
    assert tombstone["op"] == "tombstone"
    assert "frozen_camera: camera front" in tombstone["reason"]
    # Judged through its own view, what is left is sound, and a weight is not lowered twice.
    again = assess(data, overlays=[view])
    assert [one.record.seed for one in again.flagged] == [901]
    assert again.operations()[0]["weight"] == 0.25


def test_the_same_seed_gives_the_same_document(toys, sound_and):
    data = sound_and(shaken(toys))
    one, other = (json.dumps(assess(data, seed=3).to_json()) for _ in range(2))
    assert one == other
    document = json.loads(one)
    schema = json.loads((SCHEMAS / "data-quality.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)
    assert set(document) == set(schema["properties"])
    assert len(document["assessed"]) == document["episodes"] == SOUND + 1
    assert document["assessed"][-1]["verdict"] == "down-weight"


def test_where_and_mistakes(toys, sound, tmp_path):
    data = toys.write_toys(tmp_path / "data", sound[:4])
    assert [one.record.seed for one in assess(data, where="seed in (1, 3)").episodes] == [1, 3]
    with pytest.raises(InvalidInputError, match="selects none"):
        assess(data, where="seed == 99")
    empty = EpisodeWriter(tmp_path / "empty", toys.DESCRIPTION).path
    with pytest.raises(InvalidInputError, match="has no episodes to judge"):
        assess(empty)


def test_few_episodes_have_no_usual_but_absolute_limits(toys, tmp_path):
    found = assess(
        toys.write_toys(
            tmp_path / "data", [toys.toy_episode(1), pause(toys, 0, 30), wandering(toys)][:2]
        )
    )
    assert [one.verdict for one in found.episodes] == ["keep", "down-weight"]
    assert any("2 episodes are too few; 8 are needed" in reason for reason in found.not_checked)


def test_thresholds_can_be_set(toys, sound_and):
    data = sound_and(pause(toys, 0, 30))
    assert assess(data, thresholds=Thresholds(idle_start_s=2.0)).flagged == []


def test_episodes_of_the_store_that_say_nothing(dataset, make_episode, description):
    """No tool, no gripper, no clock, episodes of 12, 5, 1 and 0 steps: figures are null and it says why."""
    EpisodeWriter(dataset, description).write(make_episode(7, 0), 7)
    found = assess(dataset)
    assert len(found.episodes) == 4
    assert found.episodes[-1].figures["jerk"] is None
    assert found.episodes[0].figures["clock_off"] is None
    reasons = "\n".join(found.not_checked)
    for what in (
        "clock: no observation",
        "gripper: no action",
        "tool path: no state",
        "what is usual: ",
    ):
        assert what in reasons
    json.dumps(found.to_json(), allow_nan=False)


def test_an_instruction_for_what_is_not_there(toys, sound, tmp_path):
    about = {
        **toys.DESCRIPTION,
        "instruction_templates": {"cup": ["Reach."], "can": ["Take the can."]},
    }
    writer = EpisodeWriter(tmp_path / "data", about)
    for index, names in enumerate((("cup", "can"), ("can", "tray"), ())):
        writer.write(dataclasses.replace(sound[index], object_names=names), index)
    writer.write(dataclasses.replace(sound[3], instruction="Tidy up.", object_names=("tray",)), 3)
    writer.write(dataclasses.replace(sound[4], instruction=" "), 4)
    found = assess(tmp_path / "data")
    kinds = [
        [(finding.kind, finding.severity) for finding in one.findings] for one in found.episodes
    ]
    assert kinds == [[], [("wrong_instruction", "drop")], [], [], [("no_instruction", "note")]]


def test_kinds_of_arrays_are_judged_apart(toys, sound, tmp_path):
    wider = [
        dataclasses.replace(
            toys.toy_episode(seed),
            observations={
                "state": toys.toy_episode(seed).observations["state"],
                "force": np.zeros((toys.toy_episode(seed).steps + 1, 3), "f4"),
            },
        )
        for seed in range(40, 44)
    ]
    found = assess(toys.write_toys(tmp_path / "data", [*sound[:10], *wider]))
    assert sorted(found.usual) == [
        "toy/Reach-v0 (arrays of kind 1)",
        "toy/Reach-v0 (arrays of kind 2)",
    ]
    assert [one.record.index for one in found.episodes] == list(range(14))
