"""Jobs that misbehave, for tests of executors."""

import os
import signal
import sys
import time
from pathlib import Path

from shopfloor.core import DiskError, InfrastructureError, InvalidInputError


def double(payload):
    if "mark" in payload:
        Path(payload["mark"]).touch()  # it is under way
    time.sleep(payload.get("sleep", 0))
    return {"value": 2 * payload["value"], "attempt": payload.get("attempt"), "pid": os.getpid()}


def fail(payload):
    """Misbehave on the first `times` tries of a payload, as counted by files in `marks`."""
    marks = Path(payload["marks"])
    tries = len(list(marks.glob(f"{payload['name']}-*")))
    (marks / f"{payload['name']}-{tries}").touch()
    if tries < payload["times"]:
        _misbehave(payload["how"], marks)
    return {"value": payload["name"], "tries": tries + 1, "attempt": payload.get("attempt")}


def _misbehave(how, marks):
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(0)
    if how == "hang":
        (marks / f"hangs-{os.getpid()}").touch()
        time.sleep(3600)
    if how == "raise":
        raise ZeroDivisionError("by zero")
    if how == "infrastructure":
        raise InfrastructureError("the machine")
    if how == "input":
        raise InvalidInputError("the user")
    if how == "disk":
        raise DiskError("full")
    if how == "garbage":
        os.write(1, b"noise on standard output\n")
        return


def garbage(payload):
    return {"value": object()}


def look(payload):
    return {
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "sigint": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        "torch": "torch" in sys.modules,
        "pid": os.getpid(),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
    }
