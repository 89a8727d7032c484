"""The summary document and its closing table."""

import json

import pytest

from shopfloor.launch.flywheel.config import FlywheelConfig
from shopfloor.launch.flywheel.summary import build_summary, table_rows, teacher_statement

pytestmark = pytest.mark.core


def test_it_follows_its_schema(summary, validate):
    validate(summary, "flywheel-summary")


def test_the_pinned_keys(summary):
    entry = summary["turns"][2]
    assert [e["turn"] for e in summary["turns"]] == [0, 1, 2]
    assert [e["decision"] for e in summary["turns"]] == [None, "promote", "hold"]
    keys = {
        "turn",
        "cell",
        "policy",
        "episodes",
        "success",
        "interval",
        "candidate",
        "decision",
        "cpu_seconds",
        "seeds",
    }
    assert keys <= set(entry)
    assert entry["policy"] == "checkpoints/turn-1"  # held: the policy in service after the decision
    assert entry["candidate"]["policy"] == "checkpoints/turn-2"
    assert summary["final"][0]["success"] == 0.8


def test_cpu_seconds_add_up(summary):
    turns = [entry["cpu_seconds"] for entry in summary["turns"]]
    assert turns == [1.25 + 1.25 + 4.0, 1.25 + 1.25 + 4.0 + 9.5, 1.25 + 1.25 + 4.0 + 9.5]
    assert summary["cpu_seconds"] == sum(turns) + 2 * 1.25 + 0.3


def test_a_training_shared_by_cells_counts_once(summary, config):
    doubled = [entry for entry in summary["turns"] for _ in range(2)]
    extras = dict.fromkeys(("control", "shuffle_control", "scenes"), None) | {"efficiency": []}
    expected = 2 * sum(entry["cpu_seconds"] for entry in summary["turns"]) - 3 * 4.0
    assert build_summary(config, doubled, extras)["cpu_seconds"] == expected


def test_the_table_has_a_row_per_turn_and_control(summary):
    rows = table_rows(summary)
    assert [row[0] for row in rows] == ["0", "1", "2", "-", "-"]
    assert rows[1][3] == "80.0 % [67.0, 88.8]"
    assert rows[1][5] == "promote (+20 -1 of 50, p 1e-05)"
    assert rows[3][2] == "demonstrations only"


def test_it_is_plain_json(summary):
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_statements_say_who_taught(tmp_path):
    sources = {"expert": 5, "own_success": 7, "scenes": 0}
    taught = teacher_statement(FlywheelConfig(tmp_path), sources)
    assert "teacher distillation, not self-improvement" in taught
    assert "takes over" in taught
    assert "labels every visited state" in teacher_statement(
        FlywheelConfig(tmp_path, smoke=True), sources
    )
    alone = teacher_statement(FlywheelConfig(tmp_path, teacher="none"), sources)
    assert "filtered behaviour cloning" in alone
    assert "distillation" not in alone
    cameras = teacher_statement(
        FlywheelConfig(tmp_path, observations="cameras"), sources | {"scenes": 300}
    )
    assert "300 random scenes" in cameras
    assert "labels from the simulator" in cameras
