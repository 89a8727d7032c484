"""A process that commits episodes until the machine gives out, and then says in JSON what is left. Run by a test.

    python fault_writer.py FOLDER KIND [MEGABYTES]

KIND: "size" (a full disk), "inodes" (no more files on it), "filesize" (a limit of one file),
"files" (no more open files), "memory" (that many megabytes left, for an episode of 22). For the
first two FOLDER is made a small tmpfs, which needs a mount namespace of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fault_episodes import DESCRIPTION, make_episode

from shopfloor.core import ShopfloorError, sha256_hex
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.writer import EpisodeWriter, write_manifest

TMPFS = {"size": "size=2m", "inodes": "size=64m,nr_inodes=16"}
LIMITS = {
    "filesize": resource.RLIMIT_FSIZE,
    "files": resource.RLIMIT_NOFILE,
    "memory": resource.RLIMIT_AS,
}


def mount(folder, kind):
    subprocess.run(["mount", "-t", "tmpfs", "-o", TMPFS[kind], "tmpfs", folder], check=True)


def hold(folder, kind):
    """Take what is to run out, and return what gives it back."""
    if kind == "size":
        filler = folder / "filler"
        filler.write_bytes(b"\0" * (1 << 20))
        return filler.unlink
    if kind == "inodes":
        fillers = [folder / f"filler-{number}" for number in range(6)]
        for filler in fillers:
            filler.touch()
        return lambda: [filler.unlink() for filler in fillers]
    limit = {
        "filesize": 200_000,
        "files": 256,
        "memory": _address_space() + (int(sys.argv[3] if len(sys.argv) > 3 else 0) << 20),
    }[kind]
    hard = resource.getrlimit(LIMITS[kind])[1]
    resource.setrlimit(LIMITS[kind], (limit, hard))
    if kind == "files":
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
    return lambda: (resource.setrlimit(LIMITS[kind], (hard, hard)), [os.close(fd) for fd in held])


held: list[int] = []


def _address_space():
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def episodes(kind):
    """Return the episodes to commit: they grow, so that each limit is met somewhere."""
    if kind == "memory":
        return [make_episode(index, 10) for index in range(3)] + [make_episode(3, 1000, image=600)]
    return [make_episode(index, 20 + 30 * index) for index in range(40)]


def main():
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # Python's own default
    if kind in TMPFS:
        mount(folder, kind)
    root = folder / "data"
    writer = EpisodeWriter(root, DESCRIPTION, "none")
    saved, told = {}, {"kind": kind, "error": "", "type": "", "exit_code": None, "while_short": ""}
    give_back = lambda: None  # noqa: E731
    made, index = episodes(kind), 0
    for index, episode in enumerate(made):
        if index == 3:
            give_back = hold(folder, kind)
        try:
            commit = writer.write(episode, index)
        except ShopfloorError as error:
            told |= {
                "error": str(error),
                "type": type(error).__name__,
                "exit_code": error.exit_code,
            }
            break
        saved[commit.path.name] = commit.sha256
    try:
        Dataset(root)
    except ShopfloorError as error:
        told["while_short"] = str(error)
    give_back()
    whole = {path.name: sha256_hex(path.read_bytes()) for path in (root / "episodes").iterdir()}
    told |= {
        "saved": len(saved),
        "same": whole == saved,
        "damage": [str(one) for one in Dataset(root).verify()],
    }
    told["again"] = writer.write(made[index], index).new
    write_manifest(root)
    told |= {"in_the_end": len(Dataset(root)), "sound": Dataset(root).verify() == []}
    print(json.dumps(told))


main()
