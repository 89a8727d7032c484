"""What is printed, on a terminal and elsewhere."""

import json

import pytest

from shopfloor.launch import console

pytestmark = pytest.mark.core


def test_plain_tables_are_aligned_and_never_cut(capsys):
    long = "x" * 300
    console.print_table("title", ("a", "b"), [("1", long), ("22", "y")])
    assert capsys.readouterr().out == f"title\na   b\n1   {long}\n22  y\n"


def test_progress_says_rate_success_and_eta(capsys, monkeypatch):
    monkeypatch.setattr(console, "PLAIN_EVERY_S", 0.0)
    with console.PlainProgress().phase("turn 1 collect", 4) as phase:
        phase.advance(True)
        phase.advance(False)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[1].startswith("turn 1 collect: 2/4 episodes, ")
    assert "/s, success 50%, ETA " in lines[1]
    assert "\x1b" not in err


def test_resumed_work_does_not_count_as_speed(capsys):
    with console.PlainProgress().phase("collect", 100) as phase:
        phase.resume(99)
    assert "/s" not in capsys.readouterr().err


def test_quiet_is_quiet(capsys):
    with console.make_progress(quiet=True).phase("x", 1) as phase:
        phase.advance(True)
        phase.reach(1, "loss 0.1")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_bars(capsys):
    with console.RichProgress().phase("collect", 2) as phase:
        phase.advance(True)
        phase.advance(True)
    assert "collect" in capsys.readouterr().err


def test_json_is_one_document(capsys):
    console.print_json({"a": [1, None]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None]}
