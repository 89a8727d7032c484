"""`summary.json` of a flywheel, built from the ledger's step results alone; its closing table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shopfloor.launch.console import with_interval
from shopfloor.launch.flywheel.config import FlywheelConfig
from shopfloor.launch.flywheel.seeds import (
    gate_seed,
    report_seed,
    scene_seed,
    train_seed,
)

SCHEMA_VERSION = 1
FINAL_KEYS = ("cell", "policy", "episodes", "successes", "success", "interval")
COLUMNS = ("turn", "cell", "collected", "success (95 % interval)", "candidate", "gate", "CPU s")


def seeds_used(config: FlywheelConfig) -> dict[str, Any]:
    """Return the first seeds of every block of a run."""
    turns = range(config.turns + 1)
    return {
        "train": {str(turn): train_seed(config.seed, turn) for turn in turns},
        "scenes": scene_seed(config.seed) if config.scenes else None,
        "gate": {str(turn): gate_seed(config.seed, turn) for turn in turns if turn},
        "report": report_seed(config.seed),
    }


def evaluation_figures(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of an evaluation step that a summary shows."""
    keys = (
        "policy",
        "policy_digest",
        "episodes",
        "successes",
        "success",
        "interval",
        "outcomes",
        "seeds",
        "dataset",
    )

    return {key: evaluation[key] for key in keys} | {
        "cpu_seconds": round(evaluation["cpu_seconds"], 2)
    }


def turn_entry(
    turn: int,
    cell: str,
    in_service: Mapping[str, Any],
    candidate: Mapping[str, Any],
    collected: Mapping[str, Any],
    training: Mapping[str, Any],
    gate: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Describe one turn of one cell.

    Args:
        turn: 0 is the demonstrations.
        cell: full id.
        in_service: evaluation of the policy in service after the decision.
        candidate: evaluation of the turn's candidate.
        collected: result of the turn's collection.
        training: result of the turn's training (shared by all cells).
        gate: the gate's result, None in turn 0.
    """
    return {
        "turn": turn,
        "cell": cell,
        **evaluation_figures(in_service),
        "candidate": evaluation_figures(candidate),
        "decision": gate["verdict"] if gate else None,
        "gate": dict(gate) if gate else None,
        "collected": dict(collected),
        "training": dict(training),
        "cpu_seconds": round(  # of the turn, not of the policy in service
            candidate["cpu_seconds"]
            + collected["cpu_seconds"]
            + training["cpu_seconds"]
            + (gate["cpu_seconds"] if gate else 0.0),
            2,
        ),
    }


def build_summary(
    config: FlywheelConfig, turns: Sequence[Mapping[str, Any]], extras: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the summary document.

    Args:
        config: resolved.
        turns: entries of `turn_entry`, in time order.
        extras: "control", "shuffle_control", "efficiency", "scenes", each None or JSON data.
    """
    final = []
    for entry in turns:
        if entry["turn"] == config.turns:
            final.append({key: entry[key] for key in FINAL_KEYS})

    sources = dict(turns[-1]["training"]["label_sources"])
    return {
        "schema_version": SCHEMA_VERSION,
        "config": config.to_json(),
        "cells": list(config.cells),
        "turns": [dict(entry) for entry in turns],
        "final": final,
        "seeds": seeds_used(config),
        "labels": {
            "sources": sources,
            "teacher": config.teacher,
            "statement": teacher_statement(config, sources),
        },
        **extras,
        "cpu_seconds": round(_total_cpu(turns) + sum(_cpu(extras[key]) for key in extras), 2),
    }


def _total_cpu(turns: Sequence[Mapping[str, Any]]) -> float:
    """Add up the turns; a training shared by several cells counts once."""
    own: list[float] = []
    shared: dict[int, float] = {}
    for entry in turns:
        training = entry["training"]["cpu_seconds"]
        own.append(entry["cpu_seconds"] - training)
        shared[entry["turn"]] = training

    return float(sum(own) + sum(shared.values()))


def _cpu(extra: Any) -> float:  # noqa: ANN401  # JSON
    if isinstance(extra, list):
        return sum(_cpu(entry) for entry in extra)
    return float(extra.get("cpu_seconds", 0.0)) if isinstance(extra, Mapping) else 0.0


def before_the_loop(config: Mapping[str, Any]) -> str:
    """Name what turn 0 and the control arm train on, from a summary's resolved configuration."""
    return "the demonstrations and random scenes" if config.get("scenes") else "the demonstrations"


def teacher_statement(config: FlywheelConfig, sources: Mapping[str, int]) -> str:
    """Say plainly where the labels of the last training came from."""
    expert, own, scenes = (sources.get(key, 0) for key in ("expert", "own_success", "scenes"))
    parts = []
    if config.teacher == "expert":
        how = "takes over when the policy strays"
        if config.intervention == "label":
            how = "labels every visited state"

        parts.append(
            "This is teacher distillation, not self-improvement: a scripted expert that sees the "
            f"simulator's poses {how}, and the policy learns its commands."
        )
    else:
        parts.append(
            "No teacher after the demonstrations: the policy learns from its own successful "
            "episodes only (filtered behaviour cloning)."
        )

    parts.append(
        f"The last training used {expert} steps labelled by the expert and {own} steps of the "
        "policy's own successes."
    )

    if scenes:
        parts.append(
            f"Perception was trained beside it on {scenes} random scenes rendered by the "
            "simulator, whose object poses are labels from the simulator and whose actions are the "
            "expert's; at run time the policy sees pictures, "
            "its own joints and the instruction, no pose."
        )
    elif config.observations == "cameras":
        parts.append(
            "The simulator's object poses supervise perception; at run time the policy sees no "
            "pose."
        )
    else:
        parts.append("The policy acts from the simulator's object poses.")

    return " ".join(parts)


def table_rows(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the closing table, a row per turn and cell, then the controls."""
    rows: list[tuple[str, ...]] = []
    for entry in summary["turns"]:
        gate, candidate = entry["gate"], entry["candidate"]
        rows.append(
            (
                str(entry["turn"]),
                _bare(entry["cell"]),
                f"{entry['collected']['episodes']} episodes",
                with_interval(entry["success"], entry["interval"]),
                "-" if gate is None else f"{100 * candidate['success']:.1f} %",
                "-" if gate is None else gate_text(gate),
                f"{entry['cpu_seconds']:.0f}",
            )
        )

    for name, label in (
        ("control", "demonstrations only"),
        ("shuffle_control", "shuffled instructions"),
    ):
        for entry in summary.get(name) or ():
            success = with_interval(entry["success"], entry["interval"])
            cpu_seconds = f"{entry['cpu_seconds']:.0f}"
            rows.append(("-", _bare(entry["cell"]), label, success, "-", "-", cpu_seconds))

    return rows


def _bare(cell: str) -> str:
    """Return a cell's name without its package and version."""
    return cell.split("/")[-1].rsplit("-", 1)[0]


def gate_text(gate: Mapping[str, Any]) -> str:
    """Return a decision in a few words."""
    return f"{gate['verdict']} (+{gate['gained']} -{gate['lost']} of {gate['pairs']}, p {gate['p_better']:.2g})"
