"""Success labels against the simulator, pictures of episodes, and how many planted defects are found."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from shopfloor.collectors.collect import collect
from shopfloor.collectors.recorded.quality import quality, strips
from shopfloor.core import EpisodeSpec
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.edit import relabel
from shopfloor.datasets.writer import EpisodeWriter

ROOT = Path(__file__).parents[3]
CELL = "PickToTray"


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    out = tmp_path_factory.mktemp("demonstrations") / "d"
    collect(
        cell=CELL,
        policy="expert",
        episodes=4,
        noise=0.2,
        seed=645_000,
        purpose="other",
        out=out,
    )
    return out


@pytest.fixture
def rewritten(demonstrations, tmp_path):
    """Write the demonstrations anew, some of them changed by a function of position and episode."""

    def write(change, name="rewritten"):
        source = Dataset(demonstrations)
        writer = EpisodeWriter(tmp_path / name, source.description)
        for index in range(len(source)):
            writer.write(change(index, source.read(index)), index)
        return writer.path

    return write


def kinds(found):
    return [[finding.kind for finding in one.findings] for one in found.episodes]


def test_labels_that_hold_are_no_finding(demonstrations):
    calls = []
    found = quality(demonstrations, progress=lambda *call: calls.append(call))
    assert found.labels == {"replayed": 4, "states_equal": 4, "wrong": 0, "passed_over": 0}
    assert kinds(found) == [[], [], [], []]
    assert calls[-1] == ("replay", 4, 4)
    assert ("read", 4, 4) in calls


def test_a_failure_called_a_success_is_found_and_a_success_called_a_failure(
    rewritten, demonstrations
):
    def cut(index, episode):  # stops before the part is in the tray, and says that it succeeded
        if index != 1:
            return episode
        half = episode.steps // 2
        names = (
            "actions",
            "rewards",
            "actor",
            "label_actions",
            "label_valid",
            "decisions",
            "label_chunks",
        )
        return dataclasses.replace(
            episode,
            observations={key: rows[: half + 1] for key, rows in episode.observations.items()},
            sim_states=episode.sim_states[: half + 1],
            **{name: getattr(episode, name)[:half] for name in names},
        )

    path = rewritten(cut)
    relabel(path, where="seed == 645002", outcome="failure", reason="dropped")
    found = quality(path)
    assert kinds(found) == [[], ["wrong_label"], ["wrong_label"], []]
    assert found.labels["wrong"] == 2
    assert [one.verdict for one in found.episodes] == ["keep", "drop", "drop", "keep"]
    texts = [one.findings[0].text for one in found.episodes if one.findings]
    assert texts[0].startswith("labelled a success, the simulator does not call it one")
    assert texts[1].startswith("labelled a failure, the simulator calls it a success")
    assert kinds(quality(path, replay=False)) == [[], [], [], []]


def test_altered_actions_show_where_others_replay(rewritten):
    def alter(index, episode):
        actions = episode.actions.copy()
        actions[5, :2] = -actions[5, :2]
        return dataclasses.replace(episode, actions=actions) if index == 3 else episode

    found = quality(rewritten(alter))
    assert kinds(found) == [[], [], [], ["not_reproduced"]]
    assert found.labels == {"replayed": 4, "states_equal": 3, "wrong": 0, "passed_over": 0}
    assert "from 6 on" in found.episodes[3].findings[0].text


def test_another_machine_blames_nobody(rewritten):
    """Where no episode replays to the same states, states say nothing of labels, and the report says so."""

    def elsewhere(index, episode):
        return dataclasses.replace(episode, sim_states=episode.sim_states + 1e-12)

    found = quality(rewritten(elsewhere))
    assert kinds(found) == [[], [], [], []]
    assert found.labels["states_equal"] == 0
    assert any(
        "most episodes do not replay to the same states here" in reason
        for reason in found.not_checked
    )


def test_episodes_that_cannot_be_simulated_are_passed_over(rewritten):
    def stateless(index, episode):
        return (
            dataclasses.replace(episode, sim_states=np.zeros((episode.steps + 1, 0)))
            if index < 2
            else episode
        )

    def shorter(index, episode):  # actions that the cell does not take
        names = ("actions", "label_actions")
        fewer = {name: getattr(episode, name)[:, :6] for name in names}
        return dataclasses.replace(episode, **fewer, label_chunks=episode.label_chunks[..., :6])

    found = quality(rewritten(stateless))
    assert (found.labels["replayed"], found.labels["passed_over"]) == (2, 2)
    assert any(
        reason.startswith("success labels: 2 episodes: no simulator states")
        for reason in found.not_checked
    )
    found = quality(rewritten(shorter, "shorter"))
    assert (found.labels["replayed"], found.labels["passed_over"]) == (0, 4)
    assert any("the cell cannot take it" in reason for reason in found.not_checked)


def test_unknown_cells_are_passed_over(demonstrations, tmp_path):
    source = Dataset(demonstrations)
    writer = EpisodeWriter(tmp_path / "strange", {**source.description, "cell": "acme/Weld-v0"})
    episode = source.read(0)
    spec = EpisodeSpec("acme/Weld-v0", 3, "someone", purpose="other")
    writer.write(dataclasses.replace(episode, spec=spec), 0)
    found = quality(writer.path)
    assert (found.labels["replayed"], found.labels["passed_over"]) == (0, 1)
    assert any("acme/Weld-v0 is not installed here" in reason for reason in found.not_checked)
    (pictures,) = strips(writer.path, Dataset(writer.path).records)
    assert pictures == []


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same(demonstrations):
    assert quality(demonstrations, workers=2).to_json() == quality(demonstrations).to_json()


def test_pictures_are_the_recorded_ones_or_rendered(demonstrations, tmp_path):
    records = Dataset(demonstrations).records[:2]
    for shown, record in zip(strips(demonstrations, records), records, strict=True):
        (strip,) = shown
        assert (strip.camera, strip.rendered, strip.pictures.shape) == (
            "front",
            True,
            (5, 120, 160, 3),
        )
        assert (strip.steps[0], strip.steps[-1]) == (0, record.steps)
        assert len({picture.tobytes() for picture in strip.pictures}) == 5
    out = tmp_path / "pictures"
    options = {"cameras": ("front", "wrist"), "image_size": (16, 20)}
    collect(
        cell=CELL,
        policy="expert",
        episodes=1,
        seed=645_000,
        purpose="other",
        out=out,
        **options,
    )
    data = Dataset(out)
    (shown,) = strips(out, data.records)
    assert [(strip.camera, strip.rendered) for strip in shown] == [
        ("front", False),
        ("wrist", False),
    ]
    seen = data.read(0).observations["wrist"]
    assert all(
        np.array_equal(seen[step], one)
        for step, one in zip(shown[1].steps, shown[1].pictures, strict=True)
    )


@pytest.fixture
def benchmark(monkeypatch):
    """The program that plants defects, which is no installed module."""
    package = types.ModuleType("benchmarks")
    package.__path__ = [str(ROOT / "benchmarks")]
    for name in ("benchmarks", "benchmarks.planted", "benchmarks.quality"):
        monkeypatch.setitem(sys.modules, name, package)
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "benchmarks", package)
    return importlib.import_module("benchmarks.quality")


@pytest.mark.slow
def test_planted_defects_are_found_and_sound_episodes_are_not_blamed(benchmark):
    """One episode of each of the 17 kinds in every cell, beside 24 + 8 demonstrations and 6 + 2 honest failures."""
    tallies = benchmark.measure(640_000, 1, clean=24, failures=6, each=1)
    counts = benchmark.rates(tallies)
    assert counts["planted"] == 3 * len(benchmark.KINDS) == 51
    assert (
        sum(tally.planted for kind, tally in tallies.items() if kind not in benchmark.KINDS)
        == 3 * 40
    )
    assert counts["found"] / counts["planted"] >= 0.9, benchmark.report(tallies)
    flagged = counts["flagged_bad"] + counts["flagged_good"]
    assert counts["flagged_bad"] / flagged >= 0.9, benchmark.report(tallies)
