"""macOS and Windows, by taking away from Linux what they lack: imports work, one sentence says what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shopfloor import platforms
from shopfloor.launch import cli

pytestmark = pytest.mark.core
SOURCE = Path(__file__).resolve().parents[1] / "src"
# What shopfloor builds on is imported before anything is taken away: it has its own ways on other systems.
TAKE_AWAY = """
import ctypes, importlib, json, os, select, signal, sys
import gymnasium
for name in ("multiprocessing.connection multiprocessing.reduction subprocess tempfile shutil pathlib asyncio "
             "gymnasium.vector h5py hdf5plugin av pybullet PIL.Image tyro rich.console scipy.stats").split():
    importlib.import_module(name)
system, gone, calls = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
modules = {"os": os, "select": select, "signal": signal}
for name in gone:
    module, _, attribute = name.partition(".")
    if attribute:
        delattr(modules[module], attribute)
    else:
        sys.modules[module] = None
sys.platform = system
real_open = os.open
def no_folders(path, *rest, **options):
    if system == "win32" and os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return real_open(path, *rest, **options)
os.open = no_folders
def no_library(name, *rest, **options):
    raise OSError("no such call on this system")
ctypes.CDLL = no_library
from pathlib import Path
from shopfloor import core
from shopfloor.launch.cli import main
codes = [main(call) for call in calls]
try:
    vector = gymnasium.make_vec("shopfloor/PickToTray-v0", num_envs=2)
    state = vector.reset(seed=1)[0]["state"]
    vector.close()
    vector = len(state)
except core.InvalidInputError as error:
    vector = str(error)
source = Path(core.__file__).parent
for folder in ("envs", "datasets", "collectors", "launch"):
    for path in sorted((source / folder).rglob("*.py")):
        importlib.import_module(".".join(path.relative_to(source.parent).with_suffix("").parts))
print(json.dumps([codes, vector]))
"""
ON_MACOS = ("os.sched_getaffinity", "os.memfd_create")
ON_WINDOWS = (
    *ON_MACOS,
    *("os.pread", "os.preadv", "os.pwrite", "os.O_NOFOLLOW", "os.O_NONBLOCK", "os.O_CLOEXEC"),
    *("os.O_DIRECTORY", "os.fork", "os.killpg", "os.setsid", "signal.SIGHUP"),
    *("signal.pthread_sigmask", "select.poll", "fcntl", "resource"),
)
SYSTEMS = {"darwin": ON_MACOS, "win32": ON_WINDOWS}


def run_there(system, *calls):
    """Run command lines where what a system lacks is gone, make two copies of a cell, import every module.

    Returns:
        The exit codes; the number of copies, or why there are none; standard error.
    """
    words = [[str(word) for word in call] for call in calls]
    done = subprocess.run(
        [sys.executable, "-c", TAKE_AWAY, system, json.dumps(SYSTEMS[system]), json.dumps(words)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    codes, vector = json.loads(done.stdout.splitlines()[-1])
    return codes, vector, done.stderr


def test_linux_has_all_of_it(monkeypatch):
    assert platforms.limits() == ""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert platforms.limits() == platforms.LIMITS["darwin"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_sentence_is_one(system):
    sentence = platforms.LIMITS[system]
    assert sentence.count(".") - sentence.count("gymnasium.make_vec") == 1
    assert sentence.endswith(".")
    assert "tested on Linux only" in sentence


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_works_there_and_what_is_refused(system, tmp_path):
    data, collect = (
        tmp_path / "data",
        ("collect", "PickToTray", "--quiet", "--episodes", "2", "--out"),
    )
    codes, vector, err = run_there(
        system,
        [*collect, data],
        ["data", "verify", data],
        ["data", "compact", data, "--layout", "train", "--out", tmp_path / "flat"],
        ["data", "export", data, "--to", "robomimic", "--out", tmp_path / "robomimic"],
        ["cells"],
        [*collect, tmp_path / "two", "--workers", "2"],
        [*collect, tmp_path / "gl", "--cameras", "front", "--renderer", "gl"],
    )
    workers = 0 if system == "darwin" else 2
    assert codes == [0, 0, 0, 0, 0, workers, 2], err
    assert "Traceback" not in err
    assert err.count(f"shopfloor: {platforms.LIMITS[system]}\n") == 6  # not for `cells`
    refused = "worker processes cannot be started on this operating system; expected 1: leave out --workers"
    assert (refused in err) == (system == "win32")
    assert vector == 2 if system == "darwin" else "Use gymnasium.make" in vector
    assert f"needs EGL, which {system} does not have" in err
    assert cli.main([str(word) for word in (*collect, tmp_path / "here")]) == 0
    assert episodes(data) == episodes(tmp_path / "here")


def episodes(folder):
    return {path.name: path.read_bytes() for path in (folder / "episodes").iterdir()}


# --------------------------------------------------------------------------------------------------
# The replacements
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def without(monkeypatch):
    """Take away functions of os."""

    def take(*names):
        for name in names:
            monkeypatch.delattr(os, name)

    return take


def test_cores_are_counted_where_affinity_is_unknown(without, monkeypatch):
    without("sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert platforms.usable_cores() == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert platforms.usable_cores() == 1


def test_reading_and_writing_at_a_position_leave_the_place_alone(without, tmp_path):
    without("pread", "preadv", "pwrite")
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"0123456789")
    os.lseek(fd, 2, os.SEEK_SET)
    assert platforms.read_at(fd, 3, 4) == b"456"
    out = bytearray(4)
    assert platforms.read_into(fd, memoryview(out), 8) == 2
    assert out == b"89\0\0"
    assert platforms.write_at(fd, memoryview(b"xy"), 5) == 2
    assert os.read(fd, 20) == b"234xy789"[0:3] + b"xy789"
    os.close(fd)


def test_memory_to_share_without_memfd(without):
    without("memfd_create")
    fd = platforms.shared_memory("x")
    os.ftruncate(fd, 100)
    assert os.fstat(fd).st_size == 100
    os.close(fd)


def test_a_rename_replaces_nothing_without_renameat2(monkeypatch, tmp_path):
    from shopfloor.datasets.disk.files import POSIX

    monkeypatch.setattr(platforms, "LINUX", False)
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    with pytest.raises(FileExistsError):
        POSIX.rename_noreplace(tmp_path / "a", tmp_path / "b")
    POSIX.rename_noreplace(tmp_path / "a", tmp_path / "c")
    assert [(path.name, path.read_text()) for path in sorted(tmp_path.iterdir())] == [
        ("b", "b"),
        ("c", "a"),
    ]


def test_without_proc_a_writer_at_work_is_not_taken_for_dead(monkeypatch, tmp_path):
    from shopfloor.datasets.disk import files

    monkeypatch.setattr(files, "_machine", lambda: "elsewhere")
    there = tmp_path / ".ep.h5.elsewhere-4999999-0123456789ab.tmp"  # no process has this number
    there.write_bytes(b"half")
    files.sweep_temporaries(tmp_path)
    assert there.exists()
    os.utime(there, (0, 0))  # a day later
    files.sweep_temporaries(tmp_path)
    assert not there.exists()


def test_links_are_refused_without_the_flag_for_it(monkeypatch, tmp_path):
    from shopfloor.datasets.disk.errors import UnsafeFileError
    from shopfloor.datasets.disk.files import read_bytes

    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    monkeypatch.setattr(platforms, "NO_FOLLOW", 0)
    assert read_bytes(tmp_path / "file") == b"x"
    with pytest.raises(UnsafeFileError, match="symbolic link"):
        read_bytes(tmp_path / "link")
