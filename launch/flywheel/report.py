"""`report.html` of a flywheel: one page on what happened, why, and how to repeat it."""

from __future__ import annotations

import html
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shopfloor.collectors.recorded.replay import render_episode
from shopfloor.core import DiskError, Episode
from shopfloor.datasets.reader import Dataset
from shopfloor.launch.console import with_interval
from shopfloor.launch.flywheel.run_file import RUN, read_json
from shopfloor.launch.flywheel.summary import before_the_loop
from shopfloor.launch.pages.charts import Point, Series, stacked_bars, success_chart
from shopfloor.launch.pages.page import REPORT, page, table, tile_row
from shopfloor.launch.pages.video import video_tag

VIDEOS = 3
VIDEO_SIZE = (192, 192)
RULE = (
    "The first three report seeds that the policy of turn 0 failed (filled up with the first seeds "
    "where it failed fewer), whatever the last policy makes of them."
)
OUTCOME_STYLES = {
    "success": "s2",
    "timeout": "s1",
    "dropped": "s4",
    "wrong_part": "s3",
    "out_of_reach": "s6",
    "collision": "s7",
    "nonfinite_action": "s9",
    "policy_timeout": "s8",
    "policy_bad_reply": "s5",
}
Summary = Mapping[str, Any]


def write_report(out: Path, summary: Summary) -> Path:
    """Write `report.html` into a flywheel's folder.

    Args:
        out: the folder, with `run.json` and `evaluations/`.
        summary: content of `summary.json`.

    Returns:
        The page's path.
    """
    run = read_json(out / RUN)
    body = [
        *_head(summary),
        *_success(summary),
        "<h2>Before and after</h2>",
        f'<p class="soft">{html.escape(RULE)}</p>',
        *(_videos(out, summary, cell) for cell in summary["cells"]),
        *_gates(summary),
        *_sources(summary),
        *_efficiency(summary),
        *_repeat(summary, run),
    ]

    path = out / REPORT
    temporary = out / f".{REPORT}.{os.getpid()}.tmp"
    try:
        temporary.write_text(page(_title(summary), body))
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DiskError(
            f"{path} could not be written: {error.strerror}. Free space, then run again."
        ) from error

    return path


def short(cell: str) -> str:
    """Return a cell's bare name."""
    return cell.split("/")[-1].rsplit("-v", 1)[0]


def _title(summary: Summary) -> str:
    return f"shopfloor flywheel: {', '.join(short(cell) for cell in summary['cells'])}"


def entries_of(summary: Summary, cell: str) -> list[Mapping[str, Any]]:
    """Return a cell's turns in order."""
    return [entry for entry in summary["turns"] if entry["cell"] == cell]


def _head(summary: Summary) -> list[str]:
    config = summary["config"]
    tiles: list[tuple[str, str]] = []
    for cell in summary["cells"]:
        turns = entries_of(summary, cell)
        first, last = turns[0], turns[-1]
        tiles.append(
            (
                f"{100 * first['success']:.0f} % → {100 * last['success']:.0f} %",
                f"{short(cell)}: success on {last['episodes']} report seeds, after demonstrations and at the end",
            )
        )

    collected = [entry["collected"] for entry in summary["turns"]]
    tiles += [
        (str(sum(c["episodes"] for c in collected)), "episodes of training data logged"),
        (f"{sum(c['expert_steps'] for c in collected):,}", "of their steps by the expert's hand"),
        (f"{summary['cpu_seconds']:.0f} s", "CPU time in all"),
    ]

    acts = "object poses, its joints and an instruction"
    if config["observations"] == "cameras":
        acts = "two camera views, its joints and an instruction"

    return [
        f"<h1>{html.escape(_title(summary))}</h1>",
        f'<p class="soft">Loop seed {config["seed"]}, {config["turns"]} turns after the demonstrations. '
        f"The policy acts from {acts}.</p>",
        tile_row(tiles),
        f'<p class="note">{html.escape(summary["labels"]["statement"])}</p>',
    ]


def _point(at: float, figures: Mapping[str, Any]) -> Point:
    return Point(at, figures["success"], *figures["interval"])


def _success(summary: Summary) -> list[str]:
    parts = [
        "<h2>Success and failures over turns</h2>",
        '<p class="soft">Report episodes use the same seeds every turn and decide nothing. Bars: Wilson 95 % '
        "intervals; the gate decides by a paired test on other seeds.</p>",
        '<div class="columns">',
    ]

    for cell in summary["cells"]:
        turns = entries_of(summary, cell)
        labels = ["demonstrations", *(f"turn {entry['turn']}" for entry in turns[1:])]
        series = _series(summary, cell, turns)
        chart = success_chart(f"Success of {short(cell)} over turns", labels, series)
        parts.append(f'<div class="card"><h3>{html.escape(short(cell))}</h3>{chart}</div>')
        parts.append(_outcomes(summary, cell))

    return [*parts, "</div>"]


def _series(summary: Summary, cell: str, turns: Sequence[Mapping[str, Any]]) -> list[Series]:
    """Return the estimates in a cell's chart; series without any are left out."""
    served: list[Point] = []
    dropped: list[Point] = []
    for at, entry in enumerate(turns):
        served.append(_point(at, entry))
        if entry["decision"] not in (None, "promote"):
            dropped.append(_point(at + 0.12, entry["candidate"]))

    series = [
        Series("policy in service", "s0", served),
        Series("candidate not promoted", "s1 hollow", dropped, joined=False),
    ]

    alone = f"trained equally long on {before_the_loop(summary['config'])} alone"
    for key, name, style in (
        ("control", alone, "s9"),
        ("shuffle_control", "last policy, instructions shuffled", "s3"),
    ):
        points: list[Point] = []
        for entry in summary.get(key) or ():
            if entry["cell"] == cell:
                points.append(_point(len(turns) - 0.8, entry))
        series.append(Series(name, style, points, joined=False))

    return [one for one in series if one.points]


def chosen_seeds(first: Sequence[bool]) -> list[int]:
    """Return the positions of the episodes to show: the turn-0 policy's first failures.

    Where there are too few, the first seeds fill up.

    Args:
        first: success per report seed of the turn-0 policy.
    """
    failed: list[int] = []
    solved: list[int] = []
    for index, success in enumerate(first):
        if success:
            solved.append(index)
        else:
            failed.append(index)

    return sorted((failed + solved)[:VIDEOS])


def _videos(out: Path, summary: Summary, cell: str) -> str:
    turns = entries_of(summary, cell)
    before = Dataset(out / turns[0]["dataset"])
    after = Dataset(out / turns[-1]["dataset"])
    known_before = _index_of_seeds(before)
    known_after = _index_of_seeds(after)
    seeds = sorted(set(known_before) & set(known_after))
    outcome = {record.seed: record.outcome == "success" for record in before.records}
    cards = []

    for position in chosen_seeds([outcome[seed] for seed in seeds]):
        seed = seeds[position]
        figures, instruction = [], ""
        for data, known, label in (
            (before, known_before, "turn 0"),
            (after, known_after, "last policy"),
        ):
            episode = data.read(known[seed])
            instruction = episode.instruction
            figures.append(_figure(episode, seed, label))

        cards.append(
            f'<div class="card"><h3>{html.escape(f"{short(cell)}, seed {seed}: “{instruction}”")}</h3>'
            f'<div class="pair">{"".join(figures)}</div></div>'
        )

    return f'<div class="columns triple">{"".join(cards)}</div>'


def _index_of_seeds(data: Dataset) -> dict[int, int]:
    return {record.seed: index for index, record in enumerate(data.records)}


def _figure(episode: Episode, seed: int, label: str) -> str:
    """Return an episode's video with its outcome below."""
    result = episode.outcome
    if not episode.success:
        result += f": {episode.reason.replace('_', ' ')}"

    says = f"{label}, seed {seed}, “{episode.instruction}”: {result}"
    frames = render_episode(episode, "front", VIDEO_SIZE)
    return (
        f"<figure>{video_tag(frames, says)}<figcaption>{html.escape(label)}: "
        f'<b class="{episode.outcome}">{html.escape(result)}</b></figcaption></figure>'
    )


def _gates(summary: Summary) -> list[str]:
    rows = []
    for entry in summary["turns"]:
        gate = entry["gate"]
        if gate is None:
            continue

        verdict = html.escape(gate["verdict"])
        rows.append(
            (
                str(entry["turn"]),
                html.escape(short(entry["cell"])),
                f'<span class="badge {verdict}">{verdict}</span>',
                html.escape(gate["why"]),
                _seed_range(gate["seeds"]),
            )
        )

    looks = (
        "looks at 50, 100 and 200 pairs, alpha 0.01, 0.015 and 0.025: together at most 5 % "
        "wrong promotions"
    )
    if summary["config"]["smoke"]:
        looks = "one look at 30 pairs, alpha 0.05"

    return [
        "<h2>Gate decisions</h2>",
        '<p class="soft">Candidate and policy in service run on the same fresh seeds, never used before. The test is a '
        f"one-sided exact McNemar test ({html.escape(looks)}). Held or rejected candidates are dropped; all data is "
        "kept.</p>",
        table("What the gate decided, and why", ("turn", "cell", "decision", "why", "seeds"), rows),
    ]


def _seed_range(seeds: Mapping[str, int]) -> str:
    """Return the first and the last of a block of seeds."""
    return f"{seeds['first']}-{seeds['first'] + max(seeds['count'] - 1, 0)}"


def _outcomes(summary: Summary, cell: str) -> str:
    rows: list[tuple[str, Mapping[str, int]]] = []
    for entry in entries_of(summary, cell):
        name = f"turn {entry['turn']} candidate" if entry["turn"] else "demonstrations"
        rows.append((name, entry["candidate"]["outcomes"]))

    chart = stacked_bars(f"Outcomes of {short(cell)} per turn", rows, OUTCOME_STYLES)
    return f'<div class="card"><h3>{html.escape(short(cell))}: report episodes by outcome</h3>{chart}</div>'


def _sources(summary: Summary) -> list[str]:
    bars, rows = [], []
    for entry in summary["turns"]:
        collected = entry["collected"]
        name = f"turn {entry['turn']}"
        if len(summary["cells"]) > 1:
            name += f" {short(entry['cell'])}"
        own = collected["steps"] - collected["expert_steps"]
        bars.append((name, {"policy": own, "expert": collected["expert_steps"]}))

        rows.append(
            (
                str(entry["turn"]),
                html.escape(short(entry["cell"])),
                str(collected["episodes"]),
                str(collected["successes"]),
                f"{own:,}",
                f"{collected['expert_steps']:,}",
                _seed_range(collected["seeds"]),
            )
        )

    names = {
        "expert": "steps labelled by the scripted expert (teacher)",
        "own_success": "steps of the policy's own successes",
        "scenes": "random scenes: poses from the simulator, actions from the expert",
    }

    labels = []
    for key, count in summary["labels"]["sources"].items():
        if count:
            labels.append((html.escape(names.get(key, key)), f"{count:,}"))

    columns = (
        "turn",
        "cell",
        "episodes",
        "successes",
        "steps by policy",
        "steps by expert",
        "seeds",
    )

    return [
        "<h2>Where the data came from</h2>",
        '<div class="columns">',
        f'<div class="card"><h3>Steps by who acted</h3>'
        f"{stacked_bars('Steps collected by who acted', bars, {'policy': 's0', 'expert': 's1'})}</div>",
        '<div class="card"><h3>Labels of the last training</h3>'
        f"{table('By source', ('source', 'count'), labels, (1,))}</div>",
        "</div>",
        table("Training episodes", columns, rows, (2, 3, 4, 5)),
    ]


def _efficiency(summary: Summary) -> list[str]:
    rows = []
    for entry in summary["efficiency"]:
        rows.append(
            (
                html.escape(short(entry["cell"])),
                f"{entry['parameters_total']:,}",
                f"{entry['parameters_active']:,}",
                html.escape(", ".join(entry["encoders"])),
                f"{entry['latency_p50_ms']:.1f} ms",
                f"{entry['latency_p95_ms']:.1f} ms",
                str(entry["execute"]),
            )
        )

    cpu = []
    for entry in summary["turns"]:
        cpu.append(
            (
                str(entry["turn"]),
                html.escape(short(entry["cell"])),
                f"{entry['collected']['cpu_seconds']:.0f}",
                f"{entry['training']['cpu_seconds']:.0f}",
                f"{entry['candidate'].get('cpu_seconds', 0):.0f}",
                f"{entry['gate']['cpu_seconds']:.0f}" if entry["gate"] else "-",
                f"{entry['cpu_seconds']:.0f}",
            )
        )

    parts = [
        "<h2>Efficiency</h2>",
        table(
            "The policy in service at the end, on this machine, one thread; latency per answer, without rendering",
            (
                "cell",
                "parameters",
                "active",
                "frozen encoders",
                "latency p50",
                "p95",
                "actions per answer",
            ),
            rows,
            (1, 2, 4, 5, 6),
        ),
        table(
            "CPU seconds",
            ("turn", "cell", "collect", "train", "evaluate", "gate", "sum"),
            cpu,
            tuple(range(2, 7)),
        ),
    ]

    controls = _control_rows(summary)
    if controls:
        parts += [
            "<h2>Controls</h2>",
            table("On the report seeds", ("control", "cell", "success"), controls),
        ]

    return parts


def _control_rows(summary: Summary) -> list[tuple[str, str, str]]:
    """Return the table of the controls that were run, a row per cell."""
    rows: list[tuple[str, str, str]] = []
    for key, label in (
        ("control", f"trained equally long on {before_the_loop(summary['config'])} alone"),
        ("shuffle_control", "last policy with instructions shuffled across episodes"),
    ):
        for entry in summary.get(key) or ():
            rows.append(
                (
                    html.escape(label),
                    html.escape(short(entry["cell"])),
                    with_interval(entry["success"], entry["interval"]),
                )
            )

    return rows


def command_line(config: Mapping[str, Any]) -> str:
    """Return the command that repeats a run, given its resolved configuration."""
    words = ["shopfloor", "flywheel", "--cells", *(short(cell) for cell in config["cells"])]
    for key, value in config.items():
        flag = f"--{key.replace('_', '-')}"
        if key == "cells" or value is None or value is False or (key == "scenes" and not value):
            continue
        words += [flag] if value is True else [flag, str(value)]
    return shlex.join([*words, "--out", "OUT"])


def _repeat(summary: Summary, run: Mapping[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items())
    git = run.get("git") or {}
    commit = f"; commit {git['commit']}" if git else ""
    if git and not git["clean"]:
        commit += " with changes"

    return [
        "<h2>Repeat it</h2>",
        f"<pre>{html.escape(command_line(summary['config']))}</pre>",
        f'<p class="soft">Made with {html.escape(versions + commit)}.</p>',
        '<p class="soft">The same command on the same kind of machine with the same packages gives the same episodes, '
        "checkpoints and decisions, with any number of workers. All figures are in <code>summary.json</code>, lineage "
        "in <code>ledger.sqlite</code>, every episode in <code>data/</code> and <code>evaluations/</code>.</p>",
    ]
