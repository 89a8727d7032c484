"""`report.html` of a flywheel: one self-contained page on what happened, why, and how to repeat it."""

from __future__ import annotations

import html
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shopfloor.collectors.recorded.replay import render_episode
from shopfloor.core import DiskError
from shopfloor.datasets.reader import Dataset
from shopfloor.launch.console import with_interval
from shopfloor.launch.flywheel.run_file import RUN, read_json
from shopfloor.launch.flywheel.summary import before_the_loop
from shopfloor.launch.pages.charts import Point, Series, stacked_bars, success_chart
from shopfloor.launch.pages.page import REPORT, page, table
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
    tiles = []
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

    shown = "".join(
        f'<div class="tile"><b>{html.escape(a)}</b><span>{html.escape(b)}</span></div>'
        for a, b in tiles
    )

    acts = (
        "two camera views, its joints and an instruction"
        if config["observations"] == "cameras"
        else ("object poses, its joints and an instruction")
    )

    return [
        f"<h1>{html.escape(_title(summary))}</h1>",
        f'<p class="soft">Loop seed {config["seed"]}, {config["turns"]} turns after the demonstrations. '
        f"The policy acts from {acts}.</p>",
        f'<div class="tiles">{shown}</div>',
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
        series = [
            Series(
                "policy in service", "s0", [_point(at, entry) for at, entry in enumerate(turns)]
            ),
            Series(
                "candidate not promoted",
                "s1 hollow",
                [
                    _point(at + 0.12, entry["candidate"])
                    for at, entry in enumerate(turns)
                    if entry["decision"] not in (None, "promote")
                ],
                joined=False,
            ),
        ]

        for key, name, style in (
            (
                "control",
                f"trained equally long on {before_the_loop(summary['config'])} alone",
                "s9",
            ),
            ("shuffle_control", "last policy, instructions shuffled", "s3"),
        ):
            found = [
                _point(len(turns) - 0.8, e) for e in summary.get(key) or () if e["cell"] == cell
            ]
            series.append(Series(name, style, found, joined=False))

        chart = success_chart(
            f"Success of {short(cell)} over turns", labels, [s for s in series if s.points]
        )
        parts.append(f'<div class="card"><h3>{html.escape(short(cell))}</h3>{chart}</div>')
        parts.append(_outcomes(summary, cell))

    return [*parts, "</div>"]


def chosen_seeds(first: Sequence[bool]) -> list[int]:
    """Return the positions of the episodes to show: the first failures of the turn-0 policy, then the first seeds.

    Args:
        first: success per report seed of the turn-0 policy.
    """
    failed = [index for index, success in enumerate(first) if not success]
    return sorted((failed + [index for index, success in enumerate(first) if success])[:VIDEOS])


def _videos(out: Path, summary: Summary, cell: str) -> str:
    turns = entries_of(summary, cell)
    before, after = (Dataset(out / entry["dataset"]) for entry in (turns[0], turns[-1]))
    records = [
        {record.seed: index for index, record in enumerate(data.records)}
        for data in (before, after)
    ]

    seeds = sorted(set(records[0]) & set(records[1]))
    outcome = {record.seed: record.outcome == "success" for record in before.records}
    cards = []

    for position in chosen_seeds([outcome[seed] for seed in seeds]):
        seed = seeds[position]
        figures, instruction = [], ""
        for data, known, label in (
            (before, records[0], "turn 0"),
            (after, records[1], "last policy"),
        ):
            episode = data.read(known[seed])
            instruction = episode.instruction
            result = (
                episode.outcome
                if episode.success
                else f"{episode.outcome}: {episode.reason.replace('_', ' ')}"
            )

            says = f"{label}, seed {seed}, “{instruction}”: {result}"
            frames = render_episode(episode, "front", VIDEO_SIZE)
            figures.append(
                f"<figure>{video_tag(frames, says)}<figcaption>{html.escape(label)}: "
                f'<b class="{episode.outcome}">{html.escape(result)}</b></figcaption></figure>'
            )

        cards.append(
            f'<div class="card"><h3>{html.escape(f"{short(cell)}, seed {seed}: “{instruction}”")}</h3>'
            f'<div class="pair">{"".join(figures)}</div></div>'
        )

    return f'<div class="columns triple">{"".join(cards)}</div>'


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
                f"{gate['seeds']['first']}-{gate['seeds']['first'] + max(gate['seeds']['count'] - 1, 0)}",
            )
        )

    looks = (
        "one look at 30 pairs, alpha 0.05"
        if summary["config"]["smoke"]
        else (
            "looks at 50, 100 and 200 pairs, alpha 0.01, 0.015 and 0.025: together at most 5 % "
            "wrong promotions"
        )
    )

    return [
        "<h2>Gate decisions</h2>",
        '<p class="soft">Candidate and policy in service run on the same fresh seeds, never used before. The test is a '
        f"one-sided exact McNemar test ({html.escape(looks)}). Held or rejected candidates are dropped; all data is "
        "kept.</p>",
        table("What the gate decided, and why", ("turn", "cell", "decision", "why", "seeds"), rows),
    ]


def _outcomes(summary: Summary, cell: str) -> str:
    rows = [
        (
            f"turn {entry['turn']} candidate" if entry["turn"] else "demonstrations",
            entry["candidate"]["outcomes"],
        )
        for entry in entries_of(summary, cell)
    ]
    chart = stacked_bars(f"Outcomes of {short(cell)} per turn", rows, OUTCOME_STYLES)
    return f'<div class="card"><h3>{html.escape(short(cell))}: report episodes by outcome</h3>{chart}</div>'


def _sources(summary: Summary) -> list[str]:
    bars, rows = [], []
    for entry in summary["turns"]:
        collected = entry["collected"]
        name = f"turn {entry['turn']}" + (
            f" {short(entry['cell'])}" if len(summary["cells"]) > 1 else ""
        )
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
                f"{collected['seeds']['first']}-{collected['seeds']['first'] + collected['seeds']['count'] - 1}",
            )
        )

    names = {
        "expert": "steps labelled by the scripted expert (teacher)",
        "own_success": "steps of the policy's own successes",
        "scenes": "random scenes: poses from the simulator, actions from the expert",
    }

    labels = [
        (html.escape(names.get(key, key)), f"{count:,}")
        for key, count in summary["labels"]["sources"].items()
        if count
    ]

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
    rows = [
        (
            html.escape(short(entry["cell"])),
            f"{entry['parameters_total']:,}",
            f"{entry['parameters_active']:,}",
            html.escape(", ".join(entry["encoders"])),
            f"{entry['latency_p50_ms']:.1f} ms",
            f"{entry['latency_p95_ms']:.1f} ms",
            str(entry["execute"]),
        )
        for entry in summary["efficiency"]
    ]

    cpu = [
        (
            str(entry["turn"]),
            html.escape(short(entry["cell"])),
            f"{entry['collected']['cpu_seconds']:.0f}",
            f"{entry['training']['cpu_seconds']:.0f}",
            f"{entry['candidate'].get('cpu_seconds', 0):.0f}",
            f"{entry['gate']['cpu_seconds']:.0f}" if entry["gate"] else "-",
            f"{entry['cpu_seconds']:.0f}",
        )
        for entry in summary["turns"]
    ]

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

    controls = [
        (
            html.escape(label),
            html.escape(short(entry["cell"])),
            with_interval(entry["success"], entry["interval"]),
        )
        for key, label in (
            ("control", f"trained equally long on {before_the_loop(summary['config'])} alone"),
            ("shuffle_control", "last policy with instructions shuffled across episodes"),
        )
        for entry in summary.get(key) or ()
    ]

    if controls:
        parts += [
            "<h2>Controls</h2>",
            table("On the report seeds", ("control", "cell", "success"), controls),
        ]

    return parts


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
    commit = f"; commit {git['commit']}{'' if git['clean'] else ' with changes'}" if git else ""

    return [
        "<h2>Repeat it</h2>",
        f"<pre>{html.escape(command_line(summary['config']))}</pre>",
        f'<p class="soft">Made with {html.escape(versions + commit)}.</p>',
        '<p class="soft">The same command on the same kind of machine with the same packages gives the same episodes, '
        "checkpoints and decisions, with any number of workers. All figures are in <code>summary.json</code>, lineage "
        "in <code>ledger.sqlite</code>, every episode in <code>data/</code> and <code>evaluations/</code>.</p>",
    ]
