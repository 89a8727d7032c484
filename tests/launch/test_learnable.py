"""Every cell that policies can learn reaches its report; the others are refused before anything is run."""

import json

import pytest

from shopfloor.core import ACTION_CONVENTION
from shopfloor.launch.cli import main
from shopfloor.policies.learnable import ACTIONS, why_not

LEARNABLE = (
    *("PickToTray", "Kitting", "ConveyorSort", "RingOnShaft", "PegInsertion", "MachineTending"),
    *("ToteInspection", "Palletize", "DepalletizeMixed", "TotePack"),
)
NOT_YET = ("AisleDelivery", "HandOver", "ShelfPick")
SMALLEST = [
    "--smoke",
    "--turns",
    "0",
    "--demonstrations",
    "1",
    "--report-episodes",
    "1",
    "--steps",
    "2",
    "--quiet",
]
ARM = {
    "action_convention": ACTION_CONVENTION,
    "action_names": ACTIONS,
    "vocabulary": {},
    "instruction_templates": {},
}


def flywheel(out, cell, *flags):
    return main(["flywheel", "--cells", cell, "--out", str(out), *flags])


@pytest.mark.slow
@pytest.mark.parametrize("cell", LEARNABLE)
def test_a_learnable_cell_reaches_its_report(tmp_path, cell):
    assert flywheel(tmp_path / "run", cell, *SMALLEST) == 0
    [entry] = json.loads((tmp_path / "run" / "summary.json").read_text())["turns"]
    assert entry["cell"] == f"shopfloor/{cell}-v0"
    assert entry["episodes"] == 1
    assert cell in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
def test_a_flywheel_takes_another_robot_and_harder_episodes(tmp_path):
    flags = ["--robot", "ur5e", "--variation", "hard", *SMALLEST]
    assert flywheel(tmp_path / "run", "PickToTray", *flags) == 0
    description = json.loads(next((tmp_path / "run" / "data").glob("*/dataset.json")).read_text())
    assert description["descriptions"]["shopfloor/PickToTray-v0"]["robot"] == "ur5e"
    [manifest] = (tmp_path / "run" / "evaluations").glob("*/manifests/*.json")
    assert '"hard"' in manifest.read_text()


@pytest.mark.parametrize("cell", NOT_YET)
def test_a_cell_that_cannot_be_learnt_yet_is_refused_before_anything_is_made(
    tmp_path, cell, capsys
):
    assert flywheel(tmp_path / "run", cell, *SMALLEST) == 2
    shown = capsys.readouterr().err
    assert f"No policy can learn shopfloor/{cell}-v0 yet: its actions" in shown
    assert not (tmp_path / "run").exists()


def test_conditions_that_a_cell_lacks_are_refused_before_anything_is_made(tmp_path, capsys):
    for cell, flags, reason in (
        ("Palletize", ["--robot", "panda"], "Unknown robot of shopfloor/Palletize-v0 'panda'"),
        ("Palletize", ["--observations", "cameras"], "Give --scenes 0"),
        ("Kitting", ["--variation", "hardest"], "'hardest'"),
        ("Kitting", ["--cameras", "frnt"], "Did you mean 'front'?"),
    ):
        assert flywheel(tmp_path / "run", cell, *flags) == 2
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_cells_says_which_can_be_learnt(capsys):
    assert main(["cells", "--json"]) == 0
    listed = {entry["id"]: entry for entry in json.loads(capsys.readouterr().out)}
    able = {cell_id for cell_id, entry in listed.items() if entry["learnable"]}
    ours = {cell_id for cell_id in listed if cell_id.startswith("shopfloor/")}
    assert able & ours == {f"shopfloor/{name}-v0" for name in LEARNABLE}
    assert listed["shopfloor/Kitting-v0"]["why_not_learnable"] is None
    assert "several robots" in listed["shopfloor/HandOver-v0"]["why_not_learnable"]
    assert "base_velocity_v1" in listed["shopfloor/AisleDelivery-v0"]["why_not_learnable"]

    assert main(["cells"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert sum("not yet" in row for row in rows) == len(listed) - len(able)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"action_convention": "joints_v1"}, "'joints_v1'"),
        ({"action_names": [*ACTIONS, *ACTIONS]}, "14 components"),
    ],
)
def test_the_reason_is_named(changes, reason):
    assert reason in why_not({**ARM, **changes})
    assert bool(why_not({**ARM, **changes})) == bool(reason)


@pytest.mark.parametrize("word", ["vocabulary", "instruction_templates"])
def test_a_cell_must_say_what_is_asked_for(word):
    assert word in why_not({key: value for key, value in ARM.items() if key != word})
