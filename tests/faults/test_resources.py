"""The machine gives out in earnest: a full disk, no more files, a limit of file size, open files or memory."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from fault_episodes import load

WRITER = Path(__file__).with_name("fault_writer.py")
# Megabytes left for an episode of 22: too few for anything, for the image, for its copies; and
# enough.
MEMORY = (30, pytest.param(1, marks=pytest.mark.slow), pytest.param(70, marks=pytest.mark.slow))
ENOUGH_MEMORY = 150


@functools.cache
def namespace():
    """Return the command that runs another where it may mount, None where nothing may."""
    for command in (["unshare", "-m"], ["unshare", "-rm"]):
        try:
            tried = subprocess.run(
                [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            break
        if tried.returncode == 0:
            return command
    return None


def run_out(folder, kind, *arguments):
    """Let a process commit until something gives out; returns what it says."""
    if kind in ("size", "inodes") and namespace() is None:
        stand_in = {"size": "filesize", "inodes": "files"}[kind]
        warnings.warn(
            f"No small disk can be mounted here: a limit ({stand_in}) stands in for it.",
            stacklevel=2,
        )
        kind = stand_in
    command = namespace() if kind in ("size", "inodes") else []
    out = subprocess.run(
        [*command, sys.executable, str(WRITER), str(folder), kind, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout)


def check(told):
    """What was saved is whole, nothing else is there, and the same command goes on when there is room again."""
    assert told["exit_code"] == 3
    assert told["saved"] >= 3
    assert told["same"]
    assert told["damage"] == []
    assert told["again"]
    assert told["in_the_end"] == told["saved"] + 1
    assert told["sound"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("size", "No space left on device.*Free some space|File too large"),
        ("inodes", "No space left on device|Too many open files"),
        ("filesize", "File too large"),
        ("files", "Too many open files"),
    ],
)
def test_the_disk_gives_out(tmp_path, kind, message):
    told = run_out(tmp_path, kind)
    check(told)
    assert told["type"] == "DiskError"
    assert re.search(message, told["error"])
    assert "Everything reported as saved is whole" in told["error"]


def test_files_that_cannot_be_opened_for_now_are_not_called_damaged(tmp_path):
    told = run_out(tmp_path, "files")
    assert "Too many open files. The file may well be whole. Raise the limit" in told["while_short"]


@pytest.mark.parametrize("megabytes", MEMORY)
def test_no_memory_for_an_episode(tmp_path, megabytes):
    """HDF5 itself dies of a signal when its image cannot grow; so it is asked for before."""
    told = run_out(tmp_path, "memory", str(megabytes))
    check(told)
    assert told["type"] == "InfrastructureError"
    assert "Not enough memory to save an episode of 1000 steps" in told["error"]


@pytest.mark.slow
def test_memory_that_is_enough(tmp_path):
    assert run_out(tmp_path, "memory", str(ENOUGH_MEMORY))["saved"] == 4


COLLECT_SCRIPT = """
    set -u
    cd "$1"
    run() { "$2" -m shopfloor collect FakeReach --policy fake --episodes 50 --codec none --cameras front,wrist \
        --image-size 32 32 --quiet --out "$3"; }
    mkdir disk
    %s
    run "$1" "$2" disk/data 2> full.error
    echo "collect $?" > told
    cp -r disk/data full
    "$2" -m shopfloor data verify disk/data > verify.out
    echo "verify $?" >> told
    %s
    run "$1" "$2" disk/data
    echo "again $?" >> told
    cp -r disk/data again
    run "$1" "$2" whole
"""
SMALL_DISK = ("mount -t tmpfs -o size=2m tmpfs disk", "mount -o remount,size=64m disk")
SMALL_FILES = ("ulimit -S -f 60", "ulimit -S -f unlimited")  # where nothing may be mounted


@pytest.mark.slow
def test_collect_on_a_full_disk(tmp_path):
    """The command itself: exit code 3 and a clear error; with room again it goes on to the same files."""
    plugin = load("tests/collectors/fake_cell.py", "fake_cell").plugin_path(tmp_path / "plugin")
    paths = os.pathsep.join([str(plugin), *(path for path in sys.path if path)])
    script = COLLECT_SCRIPT % (SMALL_DISK if namespace() else SMALL_FILES)
    subprocess.run(
        [*(namespace() or []), "sh", "-c", script, "sh", str(tmp_path), sys.executable],
        check=True,
        env={**os.environ, "PYTHONPATH": paths, "FAKE_CELL_MARKS": str(tmp_path)},
    )
    assert (tmp_path / "told").read_text().split("\n")[:3] == ["collect 3", "verify 0", "again 0"]
    error = (tmp_path / "full.error").read_text()
    assert "No space left on device" in error or "File too large" in error
    assert "Traceback" not in error
    whole = episodes(tmp_path / "whole")
    assert len(whole) == 50
    assert episodes(tmp_path / "again") == whole
    assert episodes(tmp_path / "full").items() < whole.items()


def episodes(path):
    """Return the committed files of a dataset by name."""
    return {file.name: file.read_bytes() for file in (path / "episodes").iterdir()}
