"""Child processes: what a worker can rely on, whoever starts it."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap

import pytest

from shopfloor import children

pytestmark = pytest.mark.core
WORK = """
    import json, os, signal, sys, time

    def look(connection, arguments):
        os.write(1, b"noise from C\\n")
        connection.send_bytes(json.dumps({
            "arguments": arguments,
            "path": sys.path,
            "main": sys.modules["__main__"].__dict__.get("__file__"),
            "stdin": sys.stdin.read(),
            "ignored": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
            "blocked": signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set()),
            "threads": os.environ["OMP_NUM_THREADS"],
            "given": os.pread(int(arguments[0]), 5, 0).decode(),
            "inherited": os.get_inheritable(connection.fileno()) or os.get_inheritable(int(arguments[0])),
        }).encode())

    def wait(connection, arguments):
        try:
            connection.recv_bytes()
        except EOFError:
            time.sleep(0.1)
            sys.exit(7)

    def hang(connection, arguments):
        connection.send_bytes(b"here")
        time.sleep(3600)
"""


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    (tmp_path / "a_childs_work.py").write_text(textwrap.dedent(WORK))
    monkeypatch.syspath_prepend(str(tmp_path))


def test_what_a_child_can_rely_on(tmp_path, capfd):
    (tmp_path / "shared").write_text("given")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    descriptor = os.open(tmp_path / "shared", os.O_RDONLY)
    child = children.start("a_childs_work:look", [str(descriptor), "ä"], descriptors=[descriptor])
    os.close(descriptor)
    seen = json.loads(child.connection.recv_bytes())
    assert child.end(600.0) == 0
    assert seen == {
        "arguments": [str(descriptor), "ä"],
        "path": sys.path,
        "main": None,
        "stdin": "",
        "ignored": True,
        "blocked": True,
        "threads": "1",
        "given": "given",
        "inherited": False,
    }
    out, err = capfd.readouterr()
    assert (out, err) == ("", "noise from C\n")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == mask


def test_by_default_a_child_returns_in_its_own_time_when_the_parent_hangs_up():
    assert children.start("a_childs_work:wait").end(600.0) == 7


def test_at_once_means_in_the_middle_of_anything():
    child = children.start("a_childs_work:hang", at_once=True)
    assert child.connection.recv_bytes() == b"here"
    assert child.end(600.0) == 0


def test_a_child_that_does_not_go_is_killed():
    child = children.start("a_childs_work:hang")
    assert child.connection.recv_bytes() == b"here"
    assert child.end(0.0) == -signal.SIGKILL
