"""Every operation, stopped before and within every call that changes the disk, and refused every such call.

In CI, the calls of an operation that makes many take turns: one is stopped before, the next within;
one is refused in this way, the next in that. `make long` does all of it to each.
"""

from __future__ import annotations

import errno

import pytest
from fault_disk import ERRORS, Disk
from fault_model import Model, folder_bytes, make_folder_of
from fault_operations import OPERATIONS, check, commit, temporaries

from shopfloor.core import DiskError
from shopfloor.datasets.disk.files import SystemCalls, publish
from shopfloor.datasets.writer import write_manifest

# Each once, and two of them from then on for ever.
FAULTS = [*((fault, "once") for fault in ERRORS), ("ENOSPC", "for ever"), ("EIO", "for ever")]
# For calls that are like those of other operations, or many that are all alike.
FAULTS_ALIKE = (("ENOSPC", "once"), ("EIO", "for ever"), ("short", "once"))
QUICK_STOPS = ("commit",)
QUICK_FAULTS = (("commit", "ENOSPC", "once"),)
# Refused in every way in CI: what writes one file, and what writes many; the others in few ways.
IN_EVERY_WAY = ("commit", "compact once more")
MANY_CALLS = 30
STOPS = ("kill", "torn")


def _cases(cases, quick, sample=lambda *case: True):
    """Return (*case, at_length) for each case: as a sample, quick or slow, where it is one, and at length."""
    params = []
    for case in cases:
        name = "-".join(case)
        marks = () if case in quick else pytest.mark.slow
        if sample(*case):
            params.append(pytest.param(*case, False, marks=marks, id=name))
        params.append(pytest.param(*case, True, marks=pytest.mark.long, id=f"{name}-at length"))
    return params


def _in_ci(name, *fault):
    return name in IN_EVERY_WAY or fault in FAULTS_ALIKE


def turns(calls, ways, at_length):
    """Return how many ways take turns at an operation's calls: 1 where each does its worst to every call."""
    return 1 if at_length or calls <= MANY_CALLS else ways


class Places:
    """Folders to run one operation in, each with the same content before."""

    def __init__(self, operation, folder):
        self.operation, self.folder, self.made = operation, folder, 0
        folder.mkdir()
        (folder / "prepared").mkdir()
        operation.prepare(folder / "prepared")
        self.content = folder_bytes(folder / "prepared")

    def new(self):
        self.made += 1
        root = self.folder / f"{self.made}"
        make_folder_of(self.content, root)
        return root


def count_calls(places):
    """Run undisturbed; returns the number of calls, after checking that all changes went through them."""
    root = places.new()
    with Disk(root) as disk:
        places.operation.run(root)
    assert Model(places.content, disk.log).state(len(disk.log)) == folder_bytes(root)
    check(places.operation, root, finished=True)
    assert temporaries(root) == []
    return disk.calls


@pytest.mark.parametrize(
    ("name", "at_length"),
    _cases([(name,) for name in OPERATIONS], [(name,) for name in QUICK_STOPS]),
)
def test_stopped_before_and_within_every_call(tmp_path, name, at_length):
    places = Places(OPERATIONS[name], tmp_path / "places")
    calls = count_calls(places)
    step = turns(calls, len(STOPS), at_length)
    for first, fault in enumerate(STOPS):
        for at in range(first % step, calls, step):
            root = places.new()
            with Disk(root, at, fault):
                places.operation.run(root)
            check(places.operation, root)
            places.operation.run(root)
            check(places.operation, root, finished=True)
    assert calls >= 9


@pytest.mark.parametrize(
    ("name", "fault", "how_long", "at_length"),
    _cases(
        [
            (name, *fault)
            for name, operation in OPERATIONS.items()
            for fault in (FAULTS_ALIKE if operation.at_once or operation.alike else FAULTS)
        ],
        QUICK_FAULTS,
        _in_ci,
    ),
)
def test_every_call_refused(tmp_path, name, fault, how_long, at_length):
    places = Places(OPERATIONS[name], tmp_path / "places")
    messages, forever = [], how_long == "for ever"

    step = turns(count_calls(places), len(FAULTS_ALIKE), at_length)
    ways = FAULTS_ALIKE if (fault, how_long) in FAULTS_ALIKE else FAULTS
    at = ways.index((fault, how_long)) % step
    while True:
        root = places.new()
        disk = Disk(root, at, fault, forever=forever)
        refused = False
        with disk:
            try:
                places.operation.run(root)
            except DiskError as error:
                refused = True
                messages.append(str(error))
        if not disk.hit and disk.calls <= at:
            break
        check(places.operation, root, finished=not refused)
        assert not temporaries(root) or forever or disk.hit[0] in ("unlink", "rmdir")
        places.operation.run(root)
        check(places.operation, root, finished=True)
        at += step
    assert bool(messages) == (fault != "short")  # writing the rest is enough
    for message in messages:
        assert f"Writing {root.parent}" in message
        assert "Everything reported as saved is whole" in message
        assert "same command" in message or "output folder" in message


def test_the_order_of_calls_makes_a_commit_durable(tmp_path):
    commit(tmp_path, 0)
    with Disk(tmp_path) as disk:
        commit(tmp_path, 1)
    calls = [entry[0] for entry in disk.log]
    start = calls.index("create")
    assert calls[start:] == ["create", "write", "fsync", "link", "unlink", "fsync"]


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
