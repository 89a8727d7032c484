"""The figures of docs/results.md: whole flywheels with several loop seeds, pooled, beside their controls.

    python -m benchmarks.results --out docs/results.md --runs runs/results

Runs are kept and resumed: what is finished is not run again. Add `--report-only` to write the page
from finished runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopfloor.collectors.statistics import wilson_interval
from shopfloor.launch.console import make_progress, note, with_interval
from shopfloor.launch.flywheel.report import command_line
from shopfloor.launch.flywheel.run_file import read_json
from shopfloor.launch.flywheel.summary import before_the_loop

Summary = Mapping[str, Any]
FIGURES = (
    ("PickToTray", "poses"),
    ("ConveyorSort", "poses"),
    ("Kitting", "poses"),
    ("PickToTray", "cameras"),
    ("ConveyorSort", "cameras"),
)


@dataclass(frozen=True)
class Figure:
    """The finished runs of one cell and observation set.

    Attributes:
        cell: bare name.
        observations: "poses" or "cameras".
        runs: loop seed -> summary.
    """

    cell: str
    observations: str
    runs: Mapping[int, Summary]

    @property
    def title(self) -> str:
        """Heading of its section."""
        return f"{self.cell} from {self.observations}"


def run_folder(runs: Path, cell: str, observations: str, seed: int) -> Path:
    """Return the folder of one flywheel."""
    return runs / f"{cell}-{observations}-{seed}"


def run_one(
    runs: Path, cell: str, observations: str, seed: int, arguments: argparse.Namespace
) -> Summary | None:
    """Run or resume one flywheel; under `--report-only` read it, None where it is not finished."""
    out = run_folder(runs, cell, observations, seed)
    if arguments.report_only:
        summary = out / "summary.json"
        return read_json(summary) if (out / "report.html").is_file() and summary.is_file() else None
    from shopfloor.launch.flywheel.config import FlywheelConfig
    from shopfloor.launch.flywheel.loop import flywheel

    note(f"-- {cell} from {observations}, loop seed {seed}: {out}")
    config = FlywheelConfig(
        out,
        cells=(cell,),
        turns=arguments.turns,
        observations=observations,  # type: ignore[arg-type]  # checked by the config
        seed=seed,
        report_episodes=arguments.report_episodes,
        control=True,
        shuffle_control=True,
        workers=arguments.workers,
    )
    return flywheel(config, make_progress())


def pooled(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return the pooled success of several evaluations, with its Wilson 95 % interval."""
    successes, episodes = (
        sum(entry[key] for entry in entries) for key in ("successes", "episodes")
    )
    return f"{with_interval(successes / episodes, wilson_interval(successes, episodes))} ({successes}/{episodes})"


def rows_of(figure: Figure) -> list[tuple[str, ...]]:
    """Return a figure's table: a row per turn and control, a column per seed, and the pool."""
    summaries = list(figure.runs.values())
    before = before_the_loop(summaries[0]["config"])
    rows = []
    for turn in range(len(summaries[0]["turns"])):
        entries = [summary["turns"][turn] for summary in summaries]
        name = f"turn 0: {before} alone" if turn == 0 else f"turn {turn}"
        rows.append((name, *(_turn_text(entry) for entry in entries), pooled(entries)))
    for key, name in (
        ("control", f"control: as many optimiser steps on {before} alone"),
        ("shuffle_control", "control: last policy, instructions shuffled across episodes"),
    ):
        entries = [entry for summary in summaries for entry in summary[key] or ()]
        if len(entries) == len(summaries):
            rows.append(
                (name, *(f"{100 * entry['success']:.1f} %" for entry in entries), pooled(entries))
            )
    return rows


def _turn_text(entry: Mapping[str, Any]) -> str:
    text = f"{100 * entry['success']:.1f} %"
    if entry["decision"] is None:
        return text
    return f"{text}, {entry['decision']}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def section(figure: Figure) -> str:
    """Return a figure's part of the page."""
    summaries = figure.runs
    first = next(iter(summaries.values()))
    seeds = [f"loop seed {seed}" for seed in summaries]
    final = [summary["turns"][-1] for summary in summaries.values()]
    cost = [
        (
            f"{seed}",
            str(sum(entry["collected"]["episodes"] for entry in summary["turns"])),
            f"{sum(entry['collected']['expert_steps'] for entry in summary['turns']):,}",
            ", ".join(
                f"{name} {count:,}" for name, count in summary["labels"]["sources"].items() if count
            ),
            f"{_phase(summary, 'collected'):.0f}",
            f"{_phase(summary, 'training') + _cpu(summary['scenes']):.0f}",
            f"{_phase(summary, 'candidate'):.0f}",
            f"{_phase(summary, 'gate'):.0f}",
            f"{summary['cpu_seconds']:.0f}",
        )
        for seed, summary in summaries.items()
    ]
    columns = (
        "loop seed",
        "training episodes",
        "steps by the expert",
        "labels of the last training",
        "collect",
        "train and scenes",
        "evaluate",
        "gate",
        "CPU seconds in all",
    )
    outcomes: dict[str, int] = {}
    for entry in final:
        for reason, count in entry["outcomes"].items():
            outcomes[reason] = outcomes.get(reason, 0) + count
    listed = ", ".join(
        f"{reason} {count}" for reason, count in sorted(outcomes.items(), key=lambda item: -item[1])
    )
    return "\n\n".join(
        [
            f"## {figure.title}",
            markdown_table(("policy in service", *seeds, "pooled"), rows_of(figure)),
            f"Outcomes at the end, pooled: {listed}.",
            first["labels"]["statement"].split(" The last training used")[0],
            markdown_table(columns, cost),
            f"One run: `{command_line(first['config'])}` (`--seed` is the loop seed).",
        ]
    )


def _phase(summary: Summary, key: str) -> float:
    return float(sum(_cpu(entry[key]) for entry in summary["turns"]))


def _cpu(part: Mapping[str, Any] | None) -> float:
    return float(part["cpu_seconds"]) if part else 0.0


def document(figures: Sequence[Figure], command: str, missing: Sequence[str] = ()) -> str:
    """Return the whole page; `missing` names the runs that it lacks."""
    overview = [
        (
            figure.title,
            pooled([summary["turns"][0] for summary in figure.runs.values()]),
            pooled([summary["turns"][-1] for summary in figure.runs.values()]),
            f"{min(summary['turns'][-1]['success'] for summary in figure.runs.values()):.1%}".replace(
                "%", " %"
            ),
        )
        for figure in figures
    ]
    parts = [
        "# Results",
        "Every figure is of episodes in PyBullet, of the policy in service after each turn, on report seeds that "
        "decide nothing and are the same every turn. Intervals are Wilson 95 %. Turn 0 is the policy trained on the "
        "first demonstrations. *promote*, *hold* and *reject* are what the gate decided on other, fresh seeds.",
        "The interventions are a scripted expert's, which sees the simulator's poses: this is teacher distillation, "
        "not self-improvement. CPU seconds are of one core, all processes added up.",
        f"Repeat it (finished runs are not run again):\n\n    {command}",
        "## Overview",
        markdown_table(("", "turn 0", "end", "weakest seed at the end"), overview),
        *([f"Not measured yet: {'; '.join(missing)}."] if missing else []),
        *(section(figure) for figure in figures),
    ]
    return "\n\n".join(parts) + "\n"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.results", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"), help="page to write")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/results"), help="folder of the runs"
    )
    parser.add_argument("--cells", nargs="+", default=None, help="only these cells")
    parser.add_argument(
        "--observations", nargs="+", choices=("poses", "cameras"), default=("poses", "cameras")
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=(10, 11, 12), help="loop seeds")
    parser.add_argument("--turns", type=int, default=2, help="turns after the demonstrations")
    parser.add_argument("--report-episodes", type=int, default=200)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument(
        "--report-only", action="store_true", help="run nothing, write the page from finished runs"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing and write the page; the page grows with each figure that is finished."""
    options = parse(arguments)
    wanted = [
        (cell, observations)
        for cell, observations in FIGURES
        if observations in options.observations and (options.cells is None or cell in options.cells)
    ]
    given = [
        word
        for word in (sys.argv[1:] if arguments is None else arguments)
        if word != "--report-only"
    ]
    command = " ".join(["python -m benchmarks.results", *given])
    figures: list[Figure] = []
    missing: list[str] = []
    for cell, observations in wanted:
        found = {
            seed: run_one(options.runs, cell, observations, seed, options) for seed in options.seeds
        }
        runs = {seed: summary for seed, summary in found.items() if summary is not None}
        missing += [
            f"{cell} from {observations}, loop seed {seed}" for seed in found if seed not in runs
        ]
        if runs:
            figures.append(Figure(cell, observations, runs))
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(document(figures, command, missing))
    print(f"{options.out}: {len(figures)} figures")


if __name__ == "__main__":
    main()
