"""`shopfloor data quality`: what it prints and writes, and that the page is whole and loads nothing."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from shopfloor.datasets.listing.overlays import read_overlay_file
from shopfloor.datasets.quality.assess import assess
from shopfloor.datasets.reader import Dataset
from shopfloor.launch import cli
from shopfloor.launch.pages import quality_page

VOID = {"meta", "link", "img", "br", "rect", "line", "circle", "polyline"}


@pytest.fixture(scope="module")
def toys():
    spec = importlib.util.spec_from_file_location(
        "toys", Path(__file__).parents[2] / "datasets" / "toy_robot.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["toys"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(toys, tmp_path_factory):
    """Twelve sound episodes, one with a frozen camera and an instruction made to fool a page, one that hesitates."""
    import dataclasses

    episodes = [toys.toy_episode(seed) for seed in range(12)]
    frozen = toys.toy_episode(20)
    frozen.observations["front"][4:] = frozen.observations["front"][4]
    episodes.append(
        dataclasses.replace(frozen, instruction='Reach <script>alert("x")</script> & go.')
    )
    actions = toys.toy_episode(21).actions.astype(float)
    slow = toys.toy_episode(21, np.concatenate([np.tile([0.0, 0.0, 0.0, -1.0], (30, 1)), actions]))
    return toys.write_toys(tmp_path_factory.mktemp("toys") / "data", [*episodes, slow])


def shop(*words):
    return cli.main(["data", "quality", *map(str, words)])


class Checker(HTMLParser):
    """Finds unclosed elements and whatever a page would load."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [
            value
            for name, value in attrs
            if name in ("src", "href") and not value.startswith("data:")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_without_out_it_prints_the_worst_first_and_exits_with_0(data, capsys):
    assert shop(data, "--quiet") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["episode", "verdict", "weight", "cell", "seed", "outcome", "why"]
    assert re.match(
        r"12 +drop +0 +Reach-v0 +20 +success +frozen_camera: camera front: one and the same",
        lines[1],
    )
    assert re.match(
        r"13 +down-weight +0.5 +Reach-v0 +21 +success +idle: 1.50 s without motion at the start",
        lines[2],
    )
    assert lines[3].startswith(
        f"{data}: 14 episodes: 12 to keep, 1 to draw less often, 1 to leave out ("
    )
    assert "success labels: 0 replayed" in lines[4]
    assert "not checked: success labels: 14 episodes: toy/Reach-v0 is not installed here" in lines
    assert lines[-1].endswith(f"shopfloor data quality {data} --out quality")


def test_out_holds_page_report_and_view(data, tmp_path, capsys, validate):
    out = tmp_path / "a place"
    assert shop(data, "--out", out, "--no-replay", "--quiet") == 0
    said = capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == [
        "quality.html",
        "quality.json",
        "view.json",
    ]
    document = json.loads((out / "quality.json").read_text())
    validate(document, "data-quality")
    assert document["labels"] is None
    operations = read_overlay_file(out / "view.json")
    assert [operation["op"] for operation in operations] == ["tombstone", "weight"]
    command = shlex.split(
        next(line for line in said.splitlines() if "to train" in line).partition(": ")[2]
    )
    assert command == [
        "shopfloor",
        "train",
        "--data",
        str(data),
        "--overlay",
        f"{out}/view.json",
        "--out",
        "checkpoint",
    ]
    assert len(Dataset(data, overlays=[command[5]])) == 13
    assert shop(data, "--out", out, "--quiet") == 2  # nothing is ever replaced
    assert "exists" in capsys.readouterr().err


def test_json_is_one_document_of_the_schema(data, capsys, validate):
    assert shop(data, "--json", "--where", "seed < 5", "--seed", "7") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    validate(document, "data-quality")
    assert (document["episodes"], document["seed"]) == (5, 7)
    assert captured.err == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--where", "sed == 1"], "seed"),
        (["--where", "seed == 99"], "selects none"),
        (["--overlay", "{tmp}/none.json"], "There is no overlay"),
        (["--workers", "0"], "at least 1"),
        (["--seed", "-1"], "The seed is -1"),
        (["--out", "{data}/quality"], "would lie in the source"),
    ],
)
def test_mistakes_leave_nothing_behind(words, says, data, tmp_path, capsys):
    out = [] if "--out" in words else ["--out", tmp_path / "q"]
    assert (
        shop(data, *(word.format(tmp=tmp_path, data=data) for word in words), *out, "--quiet") == 2
    )
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_overlay_holds_and_stays_in_the_commands(data, tmp_path, capsys):
    assert shop(data, "--out", tmp_path / "one", "--no-replay", "--quiet") == 0
    assert (
        shop(
            data,
            "--overlay",
            tmp_path / "one/view.json",
            "--out",
            tmp_path / "two",
            "--no-replay",
            "--quiet",
        )
        == 0
    )
    document = json.loads((tmp_path / "two/quality.json").read_text())
    assert document["episodes"] == 13
    assert (
        f"--overlay {tmp_path}/one/view.json {tmp_path}/two/view.json --out"
        in capsys.readouterr().out
    )


def test_the_page_is_whole_loads_nothing_and_escapes(data):
    found = assess(data)
    text = quality_page.quality_page(found, commands=["train <it>"])
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.loads == []
    assert "script" not in checker.tags
    assert "Reach &lt;script&gt;" in text
    assert "train &lt;it&gt;" in text
    assert text.count("data:image/jpeg;base64,") == 2 * 5
    assert text.count('<div class="card flagged">') == 2
    assert "frozen camera" in text
    assert "1.50 s without motion at the start" in text
    assert "usual" in text


def test_the_page_has_bounds(data, monkeypatch):
    found = assess(data)
    monkeypatch.setattr(quality_page, "SHOWN", 1)
    text = quality_page.quality_page(found)
    assert text.count('<div class="card flagged">') == 1
    assert "(the first 1)" in text
    assert "Further episodes" in text
    monkeypatch.setattr(quality_page, "LISTED", 0)
    assert "Further episodes" not in quality_page.quality_page(found)


def test_a_page_without_findings(toys, tmp_path):
    data = toys.write_toys(tmp_path / "data", [toys.toy_episode(seed) for seed in range(2)])
    text = quality_page.quality_page(assess(data))
    assert "Nothing was found that is worth leaving out." in text


@pytest.mark.slow
@pytest.mark.torch
def test_train_reads_through_the_view(tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "q"
    collect = [
        "collect",
        "PickToTray",
        "--episodes",
        "3",
        "--noise",
        "0.2",
        "--out",
        str(data),
        "--quiet",
    ]
    assert cli.main(collect) == 0
    assert (
        cli.main(
            [
                "data",
                "relabel",
                str(data),
                "--where",
                "seed == 1",
                "--outcome",
                "failure",
                "--reason",
                "timeout",
            ]
        )
        == 0
    )
    assert shop(data, "--out", out, "--quiet") == 0
    steps = {record.seed: record.steps for record in Dataset(data).records}
    capsys.readouterr()
    words = [
        "train",
        "--data",
        data,
        "--overlay",
        out / "view.json",
        "--out",
        tmp_path / "c",
        "--steps",
        "3",
        "--json",
    ]
    assert cli.main([str(word) for word in words]) == 0
    learned = json.loads(capsys.readouterr().out)
    assert sum(learned["label_sources"].values()) == steps[0] + steps[2]
