"""One episode run more than once, by workers that die, race, or live at another time: one file, the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import time

import pytest
from fault_episodes import DESCRIPTION, load, make_episode

from shopfloor.collectors.collect import collect
from shopfloor.collectors.executors import LocalExecutor
from shopfloor.core import PolicyRef
from shopfloor.datasets.disk import files
from shopfloor.datasets.listing import identity
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.writer import EpisodeWriter

WORKERS, ROUNDS = 4, 5


@pytest.fixture
def fake_cell(tmp_path, monkeypatch):
    """Install the fake cell, and this folder's jobs, where workers find them."""
    module = load("tests/collectors/fake_cell.py", "fake_cell")
    monkeypatch.syspath_prepend(str(module.plugin_path(tmp_path / "plugin")))
    monkeypatch.setenv("FAKE_CELL_MARKS", str(tmp_path))
    return module


def options(module, out):
    policy = PolicyRef("fake", module.CELL_ID, {"speed": 0.8})
    return {"cell": "FakeReach", "policy": policy, "episodes": 4, "out": out, "codec": "gzip"}


def committed(root):
    return {path.name: path.read_bytes() for path in (root / "episodes").iterdir()}


def test_a_worker_that_dies_after_its_commit_and_before_its_reply(tmp_path, fake_cell, monkeypatch):
    """The executor cannot know and runs the episode again: it finds the first one's file."""
    collect(**options(fake_cell, tmp_path / "one"))
    monkeypatch.setattr(
        "shopfloor.collectors.collect.RUN_EPISODE", "dying_jobs:die_after_publishing"
    )
    with LocalExecutor(2, allowed=("dying_jobs",)) as executor:
        result = collect(**options(fake_cell, tmp_path / "two"), executor=executor)
    assert committed(tmp_path / "two") == committed(tmp_path / "one")
    assert [receipt.outcome for receipt in result.receipts].count("infrastructure") == 0
    assert sorted(receipt.attempt for receipt in result.receipts) == [1, 2, 2, 2]
    assert Dataset(tmp_path / "two").verify() == []


def race(root, start, replies):
    writer = EpisodeWriter(root, DESCRIPTION)
    episode = make_episode(0)
    start.wait()
    commit = writer.write(episode, 0)
    replies.put((commit.new, commit.sha256))


def test_workers_that_commit_one_episode_at_the_same_moment(tmp_path):
    context = multiprocessing.get_context("fork")
    for number in range(ROUNDS):
        root, start, replies = tmp_path / f"{number}", context.Barrier(WORKERS), context.Queue()
        processes = [
            context.Process(target=race, args=(root, start, replies)) for _ in range(WORKERS)
        ]
        for process in processes:
            process.start()
        told = [replies.get(timeout=600) for _ in processes]
        for process in processes:
            process.join()
        assert sum(new for new, _ in told) == 1
        assert len({sha256 for _, sha256 in told}) == 1
        (path,) = (root / "episodes").iterdir()
        assert path.suffix == ".h5"
        assert Dataset(root).verify() == []


def test_a_worker_that_meets_a_dataset_made_since_it_looked(tmp_path, monkeypatch):
    real = identity._refuse_foreign

    def another_was_faster(root):
        monkeypatch.setattr(identity, "_refuse_foreign", real)
        EpisodeWriter(root, DESCRIPTION).write(make_episode(0), 0)
        real(root)

    monkeypatch.setattr(identity, "_refuse_foreign", another_was_faster)
    assert not EpisodeWriter(tmp_path / "one", DESCRIPTION).write(make_episode(0), 0).new
    assert Dataset(tmp_path / "one").verify() == []


@pytest.mark.parametrize("jump_s", [-1.7e9, 3.2e8])
def test_a_clock_that_is_wrong(tmp_path, monkeypatch, jump_s):
    """At the epoch, or ten years ahead: the same bytes, and nobody's unfinished file is taken for an old one."""
    first = EpisodeWriter(tmp_path / "one", DESCRIPTION).write(make_episode(0), 0)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    unfinished = files.temporary_name(tmp_path / "one/episodes/ep-00000001-0123456789abcdef.h5")
    unfinished.write_bytes(b"half")
    old = jump_s + real()
    os.utime(unfinished, (max(old, 0),) * 2)
    again = EpisodeWriter(tmp_path / "one", DESCRIPTION).write(make_episode(0), 0)
    other = EpisodeWriter(tmp_path / "two", DESCRIPTION).write(make_episode(0), 0)
    assert unfinished.exists()
    assert (again.new, other.new) == (False, True)
    assert first.sha256 == again.sha256 == other.sha256
    assert first.path.read_bytes() == other.path.read_bytes()
