"""A fabricated flywheel summary, and schema validation."""

import json
from pathlib import Path

import jsonschema
import pytest

from shopfloor.collectors.statistics import wilson_interval
from shopfloor.launch.flywheel.config import FlywheelConfig
from shopfloor.launch.flywheel.summary import build_summary, turn_entry

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
CELL = "shopfloor/PickToTray-v0"


def figures(name, successes, episodes=50, dataset="evaluations/x", first=800_000):
    return {
        "policy": name,
        "policy_digest": name,
        "episodes": episodes,
        "successes": successes,
        "success": successes / episodes,
        "interval": list(wilson_interval(successes, episodes)),
        "outcomes": {"success": successes, "timeout": episodes - successes},
        "seeds": {"first": first, "count": episodes},
        "dataset": dataset,
        "succeeded": [index < successes for index in range(episodes)],
        "steps": 40 * episodes,
        "expert_steps": 7 * episodes,
        "cpu_seconds": 1.25,
    }


def training(turn, steps=500):
    return {
        "policy": f"checkpoints/turn-{turn}",
        "digest": f"d{turn}",
        "init": None,
        "data": ["data/turn-0"],
        "steps": steps,
        "label_sources": {"expert": 1000, "own_success": 20, "scenes": 0},
        "parameters_total": 317_680,
        "parameters_active": 317_680,
        "cpu_seconds": 4.0,
    }


def gate_result(turn, verdict="promote"):
    return {
        "verdict": verdict,
        "pairs": 50,
        "gained": 20,
        "lost": 1,
        "p_better": 1e-5,
        "p_worse": 1.0,
        "alpha": 0.01,
        "why": "50 pairs: the candidate alone solved 20, the policy in service alone 1; better: p = 1e-05.",
        "in_service": f"checkpoints/turn-{turn - 1}",
        "candidate": f"checkpoints/turn-{turn}",
        "datasets": {"service": "a", "candidate": "b"},
        "seeds": {"first": 700_200, "count": 50},
        "cpu_seconds": 9.5,
    }


@pytest.fixture
def config(tmp_path):
    return FlywheelConfig(tmp_path / "out", cells=(CELL,), turns=2, scenes=0)


@pytest.fixture
def summary(config):
    zero, one, two = (
        figures("checkpoints/turn-0", 10),
        figures("checkpoints/turn-1", 40),
        figures("checkpoints/turn-2", 41),
    )
    collected = figures("expert", 40, first=0)
    turns = [
        turn_entry(0, CELL, zero, zero, collected, training(0), None),
        turn_entry(1, CELL, one, one, collected, training(1), gate_result(1)),
        turn_entry(2, CELL, one, two, collected, training(2), gate_result(2, "hold")),
    ]
    extras = {
        "control": [{"cell": CELL, **_shown(figures("checkpoints/control-2", 12))}],
        "shuffle_control": [{"cell": CELL, **_shown(figures("checkpoints/turn-1", 11))}],
        "scenes": None,
        "efficiency": [
            {
                "cell": CELL,
                "policy": "checkpoints/turn-1",
                "parameters_total": 317_680,
                "parameters_active": 317_680,
                "encoders": ["all-MiniLM-L6-v2"],
                "execute": 1,
                "latency_p50_ms": 0.9,
                "latency_p95_ms": 1.2,
                "chunks": 80,
                "cpu_seconds": 0.3,
            }
        ],
    }
    return build_summary(config, turns, extras)


def _shown(entry):
    return {
        key: value
        for key, value in entry.items()
        if key not in ("succeeded", "steps", "expert_steps")
    }


@pytest.fixture(scope="session")
def validate():
    """Check a document against docs/schemas/<name>.schema.json."""

    def check(document, name):
        schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(json.loads(json.dumps(document)), schema)

    return check
