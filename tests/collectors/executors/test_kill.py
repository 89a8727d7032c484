"""The promise of `collect`: what it reported is there, whole, however it was killed, and a resumed run is equal.

Real processes on a real cell, killed with SIGKILL at random moments: while they start, simulate,
write and report.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from shopfloor.collectors.collect import collect
from shopfloor.core import sha256_hex
from shopfloor.datasets.disk.errors import NotADatasetError
from shopfloor.datasets.reader import Dataset

pytestmark = pytest.mark.slow

# Kills of the whole process group, and of the driver alone.
SAMPLE, AT_LENGTH = (10, 2), (34, 6)
OPTIONS = {"cell": "PickToTray", "policy": "expert", "noise": 0.2}
ENDLESS = 3000  # more than are ever run before the last kill
DRIVER = f"""
    import json, sys
    from shopfloor.collectors.collect import collect
    collect(**{OPTIONS}, episodes={ENDLESS}, out=sys.argv[1], workers=2,
            on_receipt=lambda receipt: print(json.dumps(receipt.to_json()), flush=True))
"""


class Collecting:
    """A `collect` in a process group of its own."""

    def __init__(self, out, environment, wait_until):
        self.wait_until = wait_until
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(DRIVER), str(out)],
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self.group = self.process.pid

    def wait_for(self, receipts, then_s):
        """Read that many receipts, wait some more; returns what was read."""
        lines = [line for _ in range(receipts) if (line := self.process.stdout.readline())]
        time.sleep(then_s)
        return lines

    def kill(self, *, whole_group):
        """Kill it; returns what it had reported besides, and whether it was still running."""
        running = self.process.poll() is None
        os.killpg(self.group, signal.SIGKILL) if whole_group else self.process.kill()
        lines = self.process.stdout.read().splitlines(keepends=True)
        code = self.process.wait()
        self.process.stdout.close()
        self.wait_until(lambda: not _members(self.group))
        return lines, running and code == -signal.SIGKILL


def _members(group):
    """Return the processes of a group that run."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = stat.read_text().split(" ", 1)
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _, pgrp = rest.rsplit(")", 1)[1].split()[:3]
        if int(pgrp) == group and state not in "ZX":
            members.append(int(pid))
    return members


def whole_lines(lines):
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def check(out, reported):
    """Every reported episode is there with the bytes that were reported, and nothing is damaged."""
    journal = out / "receipts.jsonl"
    if journal.exists():
        for receipt in whole_lines(journal.read_bytes().splitlines(keepends=True)):
            reported[receipt["path"]] = receipt["sha256"]
    for path, sha256 in reported.items():
        assert sha256_hex((out / path).read_bytes()) == sha256, path
    try:
        dataset = Dataset(out)
    except NotADatasetError:
        assert not reported  # killed before the dataset began
        return
    assert dataset.verify() == []
    assert {record.file: record.sha256 for record in dataset.records}.items() >= reported.items()


def episodes(folder):
    return {
        path.name: path.read_bytes()
        for path in (folder / "episodes").iterdir()
        if path.suffix == ".h5"
    }


@pytest.mark.parametrize("planned", [SAMPLE, pytest.param(AT_LENGTH, marks=pytest.mark.long)])
def test_no_kill_loses_a_reported_episode_and_the_resumed_dataset_is_equal(
    tmp_path, child_environment, wait_until, planned
):
    generator = np.random.default_rng(20)
    out, reported, kills = tmp_path / "killed", {}, {True: 0, False: 0}
    began = time.monotonic()
    plan = generator.permutation([True] * planned[0] + [False] * planned[1]).tolist()
    for whole_group in plan:
        collecting = Collecting(out, child_environment, wait_until)
        receipts = int(generator.integers(0, 5))
        delay = generator.uniform(0, 0.15) if receipts else generator.uniform(0, 1.5)
        lines = collecting.wait_for(receipts, float(delay))
        rest, killed = collecting.kill(whole_group=whole_group)
        kills[whole_group] += killed
        for receipt in whole_lines([*lines, *rest]):
            reported[receipt["path"]] = receipt["sha256"]
        check(out, reported)
    assert (kills[True], kills[False]) == planned

    survived = len(reported)
    count = 1 + max(record.index for record in Dataset(out).records)
    result = collect(**OPTIONS, episodes=count, out=out, workers=2)
    check(out, reported)
    assert [receipt.index for receipt in result.receipts] == list(range(count))
    collect(**OPTIONS, episodes=count, out=tmp_path / "whole", workers=1)
    assert episodes(out) == episodes(tmp_path / "whole")
    assert len(Dataset(out)) == count
    print(
        f"\n{kills[True]} kills of the process group and {kills[False]} of the driver alone in "
        f"{time.monotonic() - began:.0f} s: {survived} episodes reported before a kill, all whole; "
        f"{result.resumed} resumed, {count} files equal to those of a run without a kill."
    )
