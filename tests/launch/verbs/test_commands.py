"""Verbs on the real cell with a few episodes: documents, exit codes, files."""

import json
import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import av
import numpy as np
import pytest

from shopfloor.launch import cli
from shopfloor.launch.gate import suites


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("launch") / "demos"
    assert (
        cli.main(["collect", "PickToTray", "--episodes", "2", "--out", str(folder), "--quiet"]) == 0
    )
    return folder


def document(capsys, *arguments, code=0):
    assert cli.main([*map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.core
def test_cells(capsys, validate):
    listed = document(capsys, "cells")
    validate(listed, "cells")
    assert "shopfloor/PickToTray-v0" in [entry["id"] for entry in listed]
    assert cli.main(["cells"]) == 0
    assert re.search(
        r"^shopfloor/PickToTray-v0 +panda,ur5e +front,wrist ", capsys.readouterr().out, re.MULTILINE
    )


def test_a_broken_cell_does_not_hide_the_others(capsys, monkeypatch):
    from shopfloor.envs import registry

    entries = registry._entries()
    monkeypatch.setattr(
        registry, "_entries", lambda: {**entries, "other/Broken-v0": "no.such.module:make"}
    )
    listed = document(capsys, "cells")
    assert "shopfloor/PickToTray-v0" in [entry["id"] for entry in listed]
    assert cli.main(["cells"]) == 0
    assert "other/Broken-v0 cannot be made" in capsys.readouterr().err


def test_gallery(tmp_path, capsys, monkeypatch):
    from PIL import Image

    from shopfloor.envs import registry

    monkeypatch.setattr(registry, "cell_ids", lambda: ["shopfloor/PickToTray-v0"])
    assert cli.main(["cells", "--gallery", str(tmp_path / "g")]) == 0
    with Image.open(tmp_path / "g" / "PickToTray-v0.png") as picture:
        assert picture.size == (2 * 384 + 4, 384)
        assert np.asarray(picture.convert("RGB")).std() > 20
    with av.open(tmp_path / "g" / "PickToTray-v0.webm") as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert 40 < len(frames) < 140
    assert frames[0].shape == (256, 516, 3)
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 2
    assert "(success after" in (tmp_path / "g" / "README.md").read_text()
    capsys.readouterr()


def test_suites_are_compared_seed_by_seed(capsys, validate):
    arguments = (
        "--policy",
        "random",
        "--cell",
        "PickToTray",
        "--episodes",
        2,
        "--suites",
        "light,physics",
    )
    found = document(capsys, "evaluate", *arguments)
    validate(found, "evaluate")
    assert [entry["suite"] for entry in found["suites"]] == ["light", "physics"]
    assert all(entry["lost"] == 0 and entry["p_value"] == 1.0 for entry in found["suites"])


def test_suites_with_a_level_below():
    assert suites.shifted("hard", "light") == '{"level":"hard","light":[1.6,2.4]}'
    assert suites.shifted("nominal", "light") == "light"


def test_what_a_suite_costs_is_counted_in_pairs():
    def result(*seeds):
        return SimpleNamespace(
            per_seed=seeds,
            episodes=4,
            successes=sum(seeds),
            success=0.0,
            interval=(0.0, 1.0),
            outcomes={},
        )

    found = suites.compared(
        "light", result(True, True, True, False), result(False, False, True, True)
    )
    assert (found["lost"], found["gained"]) == (2, 1)
    assert found["p_value"] == 0.5


@pytest.mark.core
def test_collect_resumes_and_counts(dataset, capsys):
    found = document(capsys, "collect", "PickToTray", "--episodes", 3, "--out", dataset)
    assert (found["episodes"], found["resumed"], found["infrastructure"]) == (3, 2, 0)
    assert sum(found["outcomes"].values()) == 3


@pytest.mark.core
def test_run_json_of_a_dataset_follows_the_schema(dataset, validate):
    validate(json.loads((dataset / "run.json").read_text()), "run")


@pytest.mark.core
def test_evaluate_writes_its_summary(tmp_path, capsys, validate):
    summary = tmp_path / "s.json"
    found = document(
        capsys,
        "evaluate",
        "--policy",
        "expert",
        "--cell",
        "PickToTray",
        "--episodes",
        2,
        "--summary",
        summary,
    )
    validate(found, "evaluate")
    assert json.loads(summary.read_text()) == found
    assert (found["seeds"], found["met"]) == ({"first": 800_000, "count": 2}, True)
    assert found["policy"]["reference"] == "expert"


@pytest.mark.core
def test_a_missed_threshold_is_exit_code_1(capsys):
    command = "evaluate --policy random --cell PickToTray --episodes 1 --min-success 0.5 --quiet"
    assert cli.main(command.split()) == 1
    assert "NOT met" in capsys.readouterr().out
    assert cli.main(command.replace("0.5", "0").split()) == 0


def test_compare_needs_more(capsys, validate, tmp_path):
    found = document(
        capsys,
        "compare",
        "random",
        "expert",
        "--cell",
        "PickToTray",
        "--episodes",
        2,
        "--out",
        tmp_path,
        code=1,
    )
    validate(found, "compare")
    assert found["decision"] == "need_more"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["candidate", "service"]


@pytest.mark.core
def test_compare_the_same_policy_runs_nothing(capsys, validate):
    found = document(capsys, "compare", "expert", "expert", "--cell", "PickToTray", code=1)
    validate(found, "compare")
    assert (found["decision"], found["gate"]["why"], found["gate"]["pairs"]) == (
        "hold",
        "same policy.",
        0,
    )


def test_compare_promotes(capsys, monkeypatch):
    from shopfloor.launch.gate import decide as gate

    monkeypatch.setattr(gate, "LOOKS", (gate.Look(6, 0.05),))
    command = "compare random expert --cell PickToTray --episodes 6 --quiet"
    assert cli.main(command.split()) == 0
    assert "promote: 6 pairs" in capsys.readouterr().out


@pytest.mark.core
def test_data_info_and_verify(dataset, capsys, tmp_path):
    info = document(capsys, "data", "info", dataset)
    assert info["episodes"] >= 2
    assert cli.main(["data", "info", str(dataset)]) == 0
    capsys.readouterr()
    assert document(capsys, "data", "verify", dataset) == {
        "schema_version": 1,
        "sound": True,
        "damage": [],
    }
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(dataset), str(copy)], check=True)
    victim = sorted((copy / "episodes").iterdir())[0]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    capsys.readouterr()
    assert cli.main(["data", "verify", str(copy)]) == 1
    assert str(victim) in capsys.readouterr().out.splitlines()


def test_view_makes_a_page_of_an_episode(dataset, tmp_path, capsys):
    page = tmp_path / "e.html"
    assert cli.main(["view", str(dataset), "--episode", "1", "--out", str(page), "--no-open"]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text()
    assert text.count("<svg") >= 3
    assert "data:video/" in text
    assert "https:" not in text
    assert cli.main(["view", str(dataset), "--episode", "99", "--no-open"]) == 2
    assert "has " in capsys.readouterr().err


@pytest.mark.core
def test_view_finds_a_report(tmp_path, capsys):
    (tmp_path / "report.html").write_text("x")
    assert cli.main(["view", str(tmp_path), "--no-open"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    (tmp_path / "report.html").unlink()
    (tmp_path / "ledger.sqlite").write_text("")
    assert cli.main(["view", str(tmp_path), "--no-open"]) == 2


def test_a_missing_browser_is_said(tmp_path, monkeypatch, capsys):
    import webbrowser

    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    (tmp_path / "report.html").write_text("x")
    assert cli.main(["view", str(tmp_path)]) == 0
    assert "no browser" in capsys.readouterr().err


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_and_the_run_resumes(tmp_path, wait_until, signum, code):
    command = [
        sys.executable,
        "-m",
        "shopfloor",
        "collect",
        "PickToTray",
        "--episodes",
        "500",
        "--out",
        str(tmp_path / "d"),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    wait_until(lambda: list((tmp_path / "d" / "episodes").glob("*.h5")))
    process.send_signal(signum)
    _, err = process.communicate(timeout=600)
    assert process.returncode == code, err
    assert len(list((tmp_path / "d" / "episodes").glob("*.h5"))) < 250  # of 500
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert cli.main(["data", "verify", str(tmp_path / "d")]) == 0
