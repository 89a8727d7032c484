"""Commits under a disk that fails: stopped after every call, every call refused, once and for ever."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shopfloor.core import DiskError, sha256_hex
from shopfloor.datasets.files import POSIX, SystemCalls, publish
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.store import EpisodeWriter, write_manifest

CALLS = ("open", "write", "fsync", "close", "link", "rename_noreplace", "unlink")
ERRORS = ("ENOSPC", "EIO", "EACCES", "EROFS", "EDQUOT", "short", "nothing")


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs after it."""


class Shim:
    """Counts the calls of a commit, and from the n-th on (or only there) does something else."""

    def __init__(self, at: int = -1, fault: str = "", *, forever: bool = False) -> None:
        self.at, self.fault, self.forever = at, fault, forever
        self.log: list[str] = []
        self.dead = False

    def calls(self) -> SystemCalls:
        return SystemCalls(**{name: self._wrap(name) for name in CALLS})

    def _wrap(self, name):
        real = getattr(POSIX, name)

        def call(*arguments):
            if self.dead:
                raise Killed
            number = len(self.log)
            self.log.append(name)
            hit = number == self.at or (self.forever and number > self.at >= 0)
            if hit and self.fault == "kill":
                self.dead = True
                raise Killed
            if hit and name == "write" and self.fault == "short":
                return real(arguments[0], arguments[1][: max(len(arguments[1]) // 2, 1)])
            if hit and name == "write" and self.fault == "nothing":
                return 0
            if hit and hasattr(errno, self.fault):
                if name == "close":  # the descriptor is gone even when close reports an error
                    real(*arguments)
                number = getattr(errno, self.fault)
                raise OSError(number, os.strerror(number))
            return real(*arguments)

        return call


@pytest.fixture
def committed(tmp_path, make_episode, description):
    """A dataset with one episode, to be copied for each fault; and what is in it."""
    writer = EpisodeWriter(tmp_path / "before", description)
    return writer.path, writer.write(make_episode(0, 4), 0)


def copy_of(path: Path, name: str) -> Path:
    target = path.with_name(name)
    shutil.copytree(path, target)
    return target


def commit_with(path, description, shim, episode):
    """Commit one episode through a shim; return the commit if it was reported."""
    writer = EpisodeWriter(path, description, calls=shim.calls())
    try:
        return writer.write(episode, 1)
    except (DiskError, Killed):
        return None


def test_order_of_calls_makes_a_commit_durable(committed, description, make_episode):
    shim = Shim()
    commit_with(committed[0], description, shim, make_episode(1, 4))
    assert shim.log == ["open", "write", "fsync", "close", "link", "unlink", "open", "fsync", "close"]


def test_stopped_after_every_call(committed, description, make_episode, assert_same):
    path, before = committed
    outcomes = set()
    for number in range(10):
        copy = copy_of(path, f"kill{number}")
        shim = Shim(number, "kill", forever=True)
        reported = commit_with(copy, description, shim, make_episode(1, 4))
        dataset = Dataset(copy)
        assert dataset.verify() == []
        assert_same(dataset.read(0), make_episode(0, 4))
        assert dataset.records[0].sha256 == before.sha256
        outcomes.add((reported is not None, len(dataset)))
        assert reported is None or len(dataset) == 2
        if len(dataset) == 2:
            assert_same(dataset.read(1), make_episode(1, 4))
        # The job is run again.
        again = EpisodeWriter(copy, description).write(make_episode(1, 4), 1)
        assert again.new == (len(dataset) == 1)
        assert_same(Dataset(copy).read(1), make_episode(1, 4))
    assert outcomes == {(False, 1), (False, 2), (True, 2)}


@pytest.mark.parametrize(("fault", "forever"), [*((fault, False) for fault in ERRORS), ("ENOSPC", True), ("EIO", True)])
def test_every_call_refused(tmp_path, committed, description, make_episode, assert_same, fault, forever):
    path, before = committed
    messages = []
    for number in range(10):
        copy = copy_of(path, f"{fault}{number}{forever}")
        shim = Shim(number, fault, forever=forever)
        writer = EpisodeWriter(copy, description, calls=shim.calls())
        commit = None
        try:
            commit = writer.write(make_episode(1, 4), 1)
        except DiskError as error:
            messages.append(str(error))
        dataset = Dataset(copy)
        assert dataset.verify() == []
        assert dataset.records[0].sha256 == before.sha256
        if commit:
            assert sha256_hex(commit.path.read_bytes()) == commit.sha256
            assert_same(dataset.read(1), make_episode(1, 4))
        left = [entry.name for entry in (copy / "episodes").iterdir() if entry.suffix == ".tmp"]
        assert not left or forever or shim.log[shim.at] == "unlink"
        assert EpisodeWriter(copy, description).write(make_episode(1, 4), 1).sha256
        assert len(Dataset(copy)) == 2
    assert bool(messages) == (fault != "short")  # writing the rest is enough
    for message in messages:
        assert f"Writing {tmp_path}" in message
        assert "Everything reported as saved is whole" in message
        assert "same command" in message or "output folder" in message


def test_without_hard_links_it_renames_without_replacing(tmp_path):
    def no_links(source, target):
        raise OSError(errno.EPERM, "no links here")

    calls = SystemCalls(link=no_links)
    assert publish(tmp_path / "a", b"first", calls)
    assert not publish(tmp_path / "a", b"second", calls)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"first")]


def test_a_manifest_that_cannot_be_written_harms_nothing(dataset):
    (dataset / "manifests").write_text("in the way")
    with pytest.raises(DiskError, match="manifests"):
        write_manifest(dataset)


@pytest.mark.parametrize("limit", [4096, 60_000])
def test_a_file_size_limit_is_a_clear_error(tmp_path, description, limit):
    """EFBIG in a process of its own: no crash of HDF5, nothing torn."""
    script = f"""
import importlib.util, resource, signal, sys
spec = importlib.util.spec_from_file_location("made", {str(Path(__file__).parent / "conftest.py")!r})
made = importlib.util.module_from_spec(spec); spec.loader.exec_module(made)
from shopfloor.core import DiskError
from shopfloor.datasets.store import EpisodeWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = EpisodeWriter({str(tmp_path / "d")!r}, made.DESCRIPTION, "none")
writer.write(made._episode(0, 0, observations={{}}, cameras={{}}), 0)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    writer.write(made._episode(1, 300), 1)
except DiskError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "File too large" in out.stdout
    assert [record.index for record in Dataset(tmp_path / "d").records] == [0]
    assert len(list((tmp_path / "d/episodes").iterdir())) == 1
