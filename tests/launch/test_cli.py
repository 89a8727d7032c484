"""The command line: verbs, help, exit codes, messages."""

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shopfloor.launch import cli
from shopfloor.launch.later import Later
from shopfloor.launch.verbs import VERBS

pytestmark = pytest.mark.core

SNAPSHOT = Path(__file__).parent / "snapshots" / "errors.txt"
# Users' mistakes. Regenerate the messages with SHOPFLOOR_UPDATE_SNAPSHOTS=1 and review the diff.
MISTAKES = (
    "",
    "collct PickToTray",
    "data",
    "data inof x",
    "collect",
    "collect PickToTrai --out {tmp}/a",
    "collect PickToTray --out {tmp}/a --policy expret",
    "collect PickToTray --out {tmp}/a --policy ./nowhere",
    "collect PickToTray --out {tmp}/a --episodes 0",
    "collect PickToTray --out {tmp}/a --episodes many",
    "collect PickToTray --out {tmp}/a --episods 3",
    "collect PickToTray --out {tmp}/a --seed 599999 --episodes 2",
    "collect PickToTray --out {tmp}/a --noise 2",
    "collect PickToTray --out {tmp}/a --cameras font",
    "collect PickToTray --out {tmp}/a --intervene human",
    "collect PickToTray --out {tmp}/a --robot xyz",
    "collect PickToTray --out {tmp}/a --modalities rgb,dept",
    "collect PickToTray --out {tmp}/a --modalities depth",
    "collect PickToTray --out {tmp}/a --image-size 96 big",
    "collect PickToTray --out {tmp}/a --engine locl:2",
    "collect PickToTray --out {tmp}/a --engine local:many",
    "collect PickToTray --out {tmp}/a --engine local:2 --workers 2",
    "collect PickToTray --out {tmp}/a --workers 0",
    "data verify {tmp}/foreign --deep --engine serial --workers 2",
    "flywheel --out {tmp}/f --engine serial --workers 2",
    "collect PickToTray --out {tmp}/foreign",
    "collect PickToTray --out {tmp}/foreign/file.txt",
    "collect PickToTray --out {tmp}/foreign/file.txt/below",
    "cells --gallery {tmp}/foreign/file.txt",
    "evaluate --policy expert --cell PickToTray --min-success 95",
    "evaluate --policy expert --cell PickToTray --summary {tmp}/no/such/s.json",
    "evaluate --policy expert --cell PickToTray --summary {tmp}/foreign",
    "evaluate --policy expert --cell PickToTray --seed -1",
    "evaluate --policy {tmp}/foreign --cell PickToTray",
    "compare expert --cell PickToTray",
    "compare expert random --cell PickToTray --episodes 0",
    "train --out {tmp}/ck --data {tmp}/foreign",
    "train --out {tmp}/ck --data {tmp}/foreign --execute 0",
    "flywheel --out {tmp}/f --turns 99",
    "flywheel --out {tmp}/f --observations camera",
    "flywheel --out {tmp}/f --cells Kiting",
    "flywheel --out {tmp}/f --smoke --observations cameras",
    "flywheel --out {tmp}/foreign",
    "data info {tmp}/foreign",
    "data verify {tmp}/nowhere",
    "view {tmp}/foreign",
)


@pytest.fixture
def foreign(tmp_path):
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "file.txt").write_text("mine")
    return folder


@pytest.mark.torch  # before what is wrong with their data, `train` and `flywheel` would say that torch is missing
@pytest.mark.usefixtures("foreign")
def test_messages_for_mistakes(tmp_path, capfd):
    shown = []
    for line in MISTAKES:
        code = cli.main(line.format(tmp=tmp_path).split())
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        assert code == 2, line
        text = (out + err).replace(str(tmp_path), "TMP")
        shown.append(f"$ shopfloor {line.replace('{tmp}', 'TMP')}\n{text.rstrip()}\n")
    text = "\n".join(shown)
    if os.environ.get("SHOPFLOOR_UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(text)
    assert text == SNAPSHOT.read_text()


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_whole_plain_and_shows_defaults(verb, capsys):
    assert cli.main([*verb.split(), "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"usage: shopfloor {verb}")
    assert not set(out) & set("╭│╰\x1b…")
    assert "(default:" in out
    assert "None" not in out.replace("PickToTray", "")
    described = [
        line for line in out.splitlines() if line.startswith("  -") and len(line.split("  ")) < 3
    ]
    following = dict(zip(out.splitlines(), out.splitlines()[1:], strict=False))
    assert all(following[line].startswith("      ") for line in described)
    # Help beside flags starts in one column in each list.
    for block in re.split(r"\n\n", out):
        columns = {
            found.end()
            for line in block.splitlines()
            if (found := re.match(r"  \S.*?\S {2,}", line))
        }
        assert len(columns) <= 1, block


def test_help_is_not_wrapped_where_no_terminal_is(capsys, monkeypatch):
    assert cli.main(["data", "verify", "--help"]) == 0
    whole = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "40")
    assert cli.main(["data", "verify", "--help"]) == 0
    assert capsys.readouterr().out == whole
    assert os.environ["COLUMNS"] == "40"
    assert all(line == line.rstrip() for line in whole.splitlines())


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_help_fits_a_terminal():
    import pty

    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "shopfloor", "collect", "--help"],
        stdout=child,
        stderr=child,
        env={**os.environ, "COLUMNS": "70", "TERM": "xterm"},
    )
    os.close(child)

    shown = b""
    with contextlib.suppress(OSError):  # Linux's answer when the other end is closed
        while piece := os.read(parent, 4096):
            shown += piece

    os.close(parent)
    assert process.wait(600) == 0

    lines = re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).splitlines()
    described = [line for line in lines if "--" in line]
    assert len(described) > 15
    assert max(map(len, described)) <= 70


def test_overview_names_every_verb(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(re.search(rf"^  {verb} ", out, re.MULTILINE) for verb in VERBS)
    assert cli.main(["data", "--help"]) == 0
    assert "data verify" in capsys.readouterr().out


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(r"shopfloor \d+\.\d+\.\d+\n", capsys.readouterr().out)


def python(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        **options,
    )


@pytest.mark.parametrize(
    ("arguments", "banned"),
    [
        ("--help", "torch pybullet h5py av rich"),
        ("collct", "torch pybullet h5py av"),
        ("data info /nowhere", "torch pybullet av"),
        ("cells --json", "torch h5py"),
        ("evaluate --policy expert --cell PickToTray --episodes 1", "torch"),
    ],
)
def test_a_verb_imports_only_what_it_needs(arguments, banned):
    code = (
        "import sys\nfrom shopfloor.launch.cli import main\nmain(sys.argv[2:])\n"
        "print('IMPORTED', [name for name in sys.argv[1].split() if name in sys.modules])"
    )
    answer = python(code, banned, *arguments.split())
    assert "IMPORTED []" in answer.stdout, answer.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_imports_nothing_heavy(verb):
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in sys.argv[1].split():\n"
        "            raise ModuleNotFoundError(f'blocked: {name}', name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "from shopfloor.launch.cli import main\nfrom shopfloor.launch.verbs import VERBS\n"
        "code = main([*sys.argv[2:], '--help'])\n"
        "print('EXIT', code, 'VERBS', [verb for verb in VERBS if VERBS[verb] in sys.modules])"
    )
    blocked = (
        "torch safetensors tokenizers transformers pybullet h5py hdf5plugin av rich PIL "
        "gymnasium numpy scipy sqlite3 typeguard"
    )
    answer = python(code, blocked, *verb.split())
    assert answer.stderr == ""
    assert f"usage: shopfloor {verb} " in answer.stdout
    assert f"EXIT 0 VERBS ['{verb}']" in answer.stdout  # its own file and no other verb's


def test_what_verbs_import_later_is_there():
    for name in VERBS.values():
        module = importlib.import_module(name)
        later = [value for value in vars(module).values() if isinstance(value, Later)]
        assert later, name
        assert all(importlib.util.find_spec(one._name) for one in later)


def test_it_runs_as_a_module():
    answer = subprocess.run(
        [sys.executable, "-m", "shopfloor", "--version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert (answer.returncode, answer.stdout[:10]) == (0, "shopfloor ")


def test_standard_output_holds_one_document_and_nothing_else():
    command = "evaluate --policy expert --cell PickToTray --episodes 1 --json"
    answer = subprocess.run(
        [sys.executable, "-m", "shopfloor", *command.split()],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["episodes"] == 1
    assert answer.stderr == ""


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m shopfloor flywheel --help | head -1"
    answer = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=600
    )
    assert "Traceback" not in answer.stderr


@pytest.mark.torch
def test_without_weights_a_flywheel_makes_nothing(tmp_path):
    code = (
        "import sys, importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if 'minilm' in name else find(name, *rest)\n"
        "from shopfloor.launch.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    answer = python(code, "flywheel", "--smoke", "--out", str(tmp_path / "run"))
    assert answer.returncode == 2
    assert "pip install --no-deps" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["evaluate", "compare", "train", "flywheel"])
def test_without_torch_the_message_says_what_to_install(verb, tmp_path):
    (tmp_path / "ck").mkdir()
    lines = {
        "evaluate": f"evaluate --policy {tmp_path}/ck --cell PickToTray",
        "compare": f"compare expert {tmp_path}/ck --cell PickToTray",
        "train": f"train --data {tmp_path} --out {tmp_path}/x",
        "flywheel": f"flywheel --out {tmp_path}/x",
    }
    code = (
        "import sys, importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest)\n"
        "from shopfloor.launch.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    answer = python(code, *lines[verb].split())
    assert answer.returncode == 2
    assert "pip install -e '.[policies]'" in answer.stderr
    assert "Traceback" not in answer.stderr
