"""Datasets in odd places: moved, read-only, another user's, under odd names. It works, or the error is clear."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from fault_episodes import DESCRIPTION, assert_same, children, make_episode
from fault_model import folder_bytes
from test_resources import namespace

from shopfloor.core import DiskError, InvalidInputError, ShopfloorError
from shopfloor.datasets.disk.errors import NotADatasetError
from shopfloor.datasets.listing.verify import verify
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.copies import filter_episodes
from shopfloor.datasets.tools.edit import delete
from shopfloor.datasets.tools.purge import purge
from shopfloor.datasets.tools.repair import repair
from shopfloor.datasets.windows.windows import Windows
from shopfloor.datasets.writer import EpisodeWriter, write_manifest

NOBODY = 65534
NAMES = {
    "spaces": "a data set  with spaces ",
    "unicode": "Datensätze 数据 🤖",
    "quotes": 'it\'s "so" $HOME `x` ;&|*?[a]',
    "newline": "two\nlines",
    "leading dash": "-rf",
    "hidden": ".data",
    "255 bytes": "n" * 255,
    "255 bytes of unicode": "ü" * 127 + "n",
    "not UTF-8": os.fsdecode(b"\xff\xfe data"),
    "ends in .h5": "data.h5",
    "ends in .tmp": "data.tmp",
}
WRITES = {
    "write": lambda path: EpisodeWriter(path, DESCRIPTION).write(make_episode(5), 5),
    "manifest": lambda path: write_manifest(path),
    "delete": lambda path: delete(path, ids=[make_episode(0).spec.episode_id]),
    "purge": lambda path: purge(path),
    "repair": lambda path: repair(path),
    "copy beside": lambda path: filter_episodes(path, "seed > 0", out=path.parent / "copy"),
}


def read_all(path):
    """Read a dataset in every way, and compare with what was written."""
    dataset = Dataset(path)
    for position, steps in enumerate((12, 5, 1)):
        assert_same(dataset.read(position), make_episode(position, steps))
        assert dataset.read_arrays(position, ["state"])["state"].shape == (steps + 1, 9)
    assert dataset.verify() == []
    assert dataset.info()["path"] == str(path)
    assert sum(len(batch["state"]) for batch in Windows(dataset, ("state",), 1, 1)) > 0
    dataset.close()


@pytest.mark.parametrize("name", NAMES)
def test_any_name_a_folder_may_have(tmp_path, name):
    path = tmp_path / NAMES[name]
    writer = EpisodeWriter(path, DESCRIPTION)
    for index, steps in enumerate((12, 5, 1)):
        writer.write(make_episode(index, steps), index)
    write_manifest(path)
    read_all(path)
    delete(path, ids=[make_episode(0).spec.episode_id])
    assert purge(path).episodes == 1
    copy = tmp_path / "copies" / NAMES[name]
    filter_episodes(path, "seed > 0", out=copy)
    assert len(Dataset(copy)) == len(Dataset(path)) == 2
    assert verify(path) == verify(copy) == []


@pytest.mark.slow
def test_the_command_line_takes_any_name(tmp_path, dataset):
    for name in ("spaces", "unicode", "leading dash", "255 bytes"):
        path = tmp_path / "odd" / NAMES[name]
        shutil.copytree(dataset, path)
        command = [sys.executable, "-m", "shopfloor", "data", "verify", str(path)]
        run = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
        )
        assert (run.returncode, "Traceback" in run.stderr) == (0, False), run.stderr
        next((path / "episodes").glob("*.h5")).write_bytes(b"damaged")
        run = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
        )
        assert run.returncode == 1
        assert NAMES[name] in run.stdout + run.stderr


@pytest.mark.parametrize("name", ["n" * 256, "ü" * 128, "a\0b", "x" * 5000])
def test_a_name_that_no_folder_may_have(tmp_path, name):
    for attempt in (
        lambda: EpisodeWriter(tmp_path / name, DESCRIPTION),
        lambda: Dataset(tmp_path / name),
    ):
        with pytest.raises(ShopfloorError):
            attempt()
    assert list(tmp_path.iterdir()) == []


def test_moved_and_copied(tmp_path, dataset):
    write_manifest(dataset)
    opened = Dataset(dataset)
    opened.read_arrays(0, ["state"])
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    dataset.rename(moved)
    read_all(moved)
    with pytest.raises(ShopfloorError, match=r"ep-00000001.*missing|is not a folder"):
        opened.read(1)
    shutil.copytree(moved, tmp_path / "copied")
    read_all(tmp_path / "copied")
    EpisodeWriter(moved, DESCRIPTION).write(make_episode(5), 5)
    assert len(Dataset(moved)) == 4
    (tmp_path / "by-link").symlink_to(moved)
    assert len(Dataset(tmp_path / "by-link")) == 4


@pytest.mark.parametrize("part", ["dataset.json", "episodes/*1-*.h5", "manifests"])
def test_half_copied(tmp_path, dataset, part):
    write_manifest(dataset)
    (left_out,) = dataset.glob(part)
    shutil.rmtree(left_out) if left_out.is_dir() else left_out.unlink()
    if part == "dataset.json":
        with pytest.raises(NotADatasetError, match=r"has no dataset\.json"):
            Dataset(dataset)
        with pytest.raises(NotADatasetError, match="not empty"):
            EpisodeWriter(dataset, DESCRIPTION)
    elif part == "manifests":
        read_all(dataset)
    else:
        assert [record.index for record in Dataset(dataset).records] == [0, 2]
        assert ["missing" in damage.problem for damage in Dataset(dataset).verify()] == [True]


def as_somebody(task, *, uid=NOBODY):
    """Run a task in a child, as another user where this one may become it; returns what it returned."""

    def run(_):
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
        return task()

    (outcome,) = children.outcomes(run, [0])
    assert outcome.how == "returned", outcome
    return outcome.value


@pytest.fixture
def open_folder(tmp_path_factory):
    """A folder that every user may enter (pytest's own are the owner's alone)."""
    folder = tmp_path_factory.mktemp("open")
    above = [folder, *folder.parents]
    modes = {path: path.stat().st_mode for path in above if path.stat().st_uid == os.getuid()}
    for path, mode in modes.items():
        if path != path.parent and not mode & 0o001:
            path.chmod(mode | 0o055)
    yield folder
    for path, mode in modes.items():
        path.chmod(mode)


def placed(dataset, folder, mode):
    """Copy a dataset to a folder and take rights from it."""
    path = folder / "data"
    shutil.copytree(dataset, path)
    write_manifest(path)
    for inner in (*path.rglob("*"), path):
        inner.chmod(mode | 0o111 if inner.is_dir() else mode)
    return path


def try_writes(path, names):
    """Try to change a dataset; returns what each was told."""
    told = {}
    for name in names:
        try:
            WRITES[name](path)
            told[name] = "done"
        except ShopfloorError as error:
            told[name] = f"{type(error).__name__} {error.exit_code} {error}"
    return told


def check_refusals(told, reason):
    assert told.pop("manifest") == "done"  # it is up to date
    for name, message in told.items():
        assert message != "done", name
        kind, code, text = message.split(" ", 2)
        assert kind in (DiskError.__name__, InvalidInputError.__name__), message
        assert int(code) == (3 if kind == "DiskError" else 2)
        assert reason in text, (name, message)


def test_another_users_read_only_dataset(dataset, open_folder):
    path = placed(dataset, open_folder, 0o444)
    path.parent.chmod(0o555)
    before = folder_bytes(path)
    as_somebody(lambda: read_all(path))
    check_refusals(as_somebody(lambda: try_writes(path, WRITES)), "ermi")
    assert folder_bytes(path) == before


def test_another_users_private_dataset(dataset, open_folder):
    """What may not be read is not called damaged, and nobody's repair touches it."""
    path = placed(dataset, open_folder, 0o644)
    for file in path.glob("episodes/*.h5"):
        file.chmod(0o600)

    def look():
        opened = Dataset(path)
        told = []
        for read in (opened.read, lambda index: opened.read_arrays(index, ["state"])):
            try:
                read(0)
            except ShopfloorError as error:
                told.append(f"{type(error).__name__} {error}")
        return [told, [damage.problem for damage in verify(path)]]

    if os.getuid() != 0:
        path.chmod(0o755)
        for file in path.glob("episodes/*.h5"):
            file.chmod(0o000)
    told, problems = as_somebody(look)
    assert [message.split()[0] for message in told] == ["DiskError", "DiskError"]
    assert all(
        "Permission denied. The file may well be whole. Ask its owner" in message
        for message in told
    )
    assert len(problems) == 3
    assert all("Permission denied" in problem for problem in problems)


def test_a_read_only_disk(dataset, tmp_path):
    """A real one where something may be mounted; without that, another user's folder stands for it, above."""
    script = """
import json, sys
sys.path[:0] = json.loads(sys.argv[2])
from pathlib import Path
import subprocess
path = Path(sys.argv[1])
subprocess.run(["mount", "--bind", path.parent, path.parent], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", path.parent], check=True)
from test_places import WRITES, read_all, try_writes
read_all(path)
print(json.dumps(try_writes(path, WRITES)))
"""
    if namespace() is None:
        return
    folder = tmp_path / "disk"
    folder.mkdir()
    path = placed(dataset, folder, 0o644)
    before = folder_bytes(path)
    run = subprocess.run(
        [*namespace(), sys.executable, "-c", script, str(path), json.dumps(sys.path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    check_refusals(json.loads(run.stdout), "ead-only")
    assert folder_bytes(path) == before
