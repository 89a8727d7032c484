"""A `collect` that is killed at random and started again until it is done. Run by a test.

    python resuming.py OUT SEED EPISODES kill|alone

Prints, in JSON, how often it was killed and which episodes were reported before, or at the end. The
runs are forks of this process, so that starting one costs nothing beside what it does.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "collectors"))

from fake_cell import CELL_ID

from shopfloor.collectors.collect import collect
from shopfloor.core import PolicyRef

# A run is killed after up to so many reports and then at any moment. Counting reports, not seconds
# alone, lets runs come as far on a busy machine as on an idle one.
MOST_REPORTS, THEN_S = 7, 0.05


def run(out, episodes, report):
    collect(
        cell="FakeReach",
        policy=PolicyRef("fake", CELL_ID, {"speed": 0.1}),
        episodes=episodes,
        out=out,
        on_receipt=lambda receipt: report(f"{receipt.path} {receipt.sha256}\n"),
    )


def life(out, episodes, dice):
    """Start one run; kill it after a while. Returns what it reported, and whether it was killed."""
    read_end, write_end = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.close(read_end)
            run(out, episodes, lambda line: os.write(write_end, line.encode()))
            code = 0
        finally:
            os._exit(code)
    os.close(write_end)

    with os.fdopen(read_end, "rb") as pipe:
        read = []
        if sys.argv[4] == "kill":
            read += [pipe.readline() for _ in range(dice.randint(0, MOST_REPORTS))]
            time.sleep(dice.uniform(0.0, THEN_S))
            os.kill(process, signal.SIGKILL)
        read += pipe.readlines()
    lines = [line.decode().split() for line in read if line.endswith(b"\n")]

    status = os.waitpid(process, 0)[1]
    if status not in (0, signal.SIGKILL):
        raise RuntimeError(f"A run ended with status {status}.")
    return dict(lines), status != 0


def main():
    out, dice, episodes = Path(sys.argv[1]), random.Random(int(sys.argv[2])), int(sys.argv[3])
    reported, kills, killed = {}, 0, True
    while killed:
        told, killed = life(out, episodes, dice)
        reported |= told
        kills += killed
    print(json.dumps({"kills": kills, "reported": reported}))


main()
