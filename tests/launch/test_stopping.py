"""A signal ends the process in time even where nobody asks for it."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
from shopfloor.collectors.executors import signals
from shopfloor.launch.stopping import stopping_in_time
with stopping_in_time(float(sys.argv[2])):
    print("ready", flush=True)
    while sys.argv[1] == "deaf" or signals.requested() is None:
        time.sleep(0.05)
print("left by itself")
"""


@pytest.mark.parametrize(
    ("how", "grace_s", "code", "said"),
    [("deaf", 0.5, 143, ""), ("listening", 600.0, 0, "left by itself\n")],
)
def test_the_process_leaves(how, grace_s, code, said):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how, str(grace_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=600)
    assert (process.returncode, out) == (code, said)
    assert ("run the same command again" in err) == (how == "deaf")
