"""The main job: demonstrations -> train -> evaluate, then turns of the loop.

A turn is collect -> fine-tune -> evaluate -> gate. Every step is recorded once in the ledger and
harmless to repeat, so the same command resumes a killed run and comes to the same decisions. One
pool of processes serves the whole run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from shopfloor.collectors.collect import CollectConfig
from shopfloor.collectors.executors import Executor, make_executor, signals
from shopfloor.collectors.provenance import replace_json
from shopfloor.core import PolicyRef
from shopfloor.datasets.reader import Dataset
from shopfloor.launch import needs
from shopfloor.launch.console import Progress, QuietProgress
from shopfloor.launch.flywheel import seeds, setups
from shopfloor.launch.flywheel.config import CAMERAS, FlywheelConfig
from shopfloor.launch.flywheel.latency import measure_latency
from shopfloor.launch.flywheel.ledger import Ledger, Row
from shopfloor.launch.flywheel.report import write_report
from shopfloor.launch.flywheel.run_file import open_run, read_json
from shopfloor.launch.flywheel.summary import (
    build_summary,
    evaluation_figures,
    seeds_used,
    turn_entry,
)
from shopfloor.launch.gate import decide as gate
from shopfloor.launch.gate.pairing import compare_policies, run_episodes
from shopfloor.launch.pages.page import REPORT
from shopfloor.policies.learners.config import TrainConfig

SUMMARY, LEDGER = "summary.json", "ledger.sqlite"
LATENCY_EPISODES = 2


def flywheel(
    config: FlywheelConfig, progress: Progress | None = None, *, workers: int | str | None = None
) -> dict[str, Any]:
    """Run or resume a flywheel.

    Args:
        config: what to run; unset values are taken from the setup.
        progress: draws how it goes, None draws nothing.
        workers: as for `collect`; None for `config.workers`. The result is the same for any.

    Returns:
        The summary, as written to `OUT/summary.json`; `OUT/report.html` shows it.

    Raises:
        InvalidInputError: `config.out` holds something else, or a run with other settings.
        MissingDependencyError: torch or open weights are not installed.
        CancelledError: a signal asked to stop; run the same again to go on.
        InfrastructureError: episodes that failed because of the machine, or a full disk.
    """
    needs.require_torch()
    config = setups.resolved(replace(config, out=config.out.absolute()))
    # Of a new run: say what is missing before anything is made.
    if not (config.out / LEDGER).is_file():
        needs.require_weights(config.observations)
        setups.require_learnable(config)

    if workers is None:
        workers = config.workers or setups.default_workers()
    with (
        signals.handling(),
        make_executor(workers) as executor,  # an unknown engine is refused before anything is made
        _ledger(config, workers) as ledger,
    ):
        run = _Run(config, ledger, executor, progress or QuietProgress())
        summary = run.everything()
        path = config.out / SUMMARY
        if not (path.is_file() and (config.out / REPORT).is_file() and read_json(path) == summary):
            replace_json(path, summary)
            run.report(summary)

    return summary


def _ledger(config: FlywheelConfig, workers: int | str) -> Ledger:
    """Make or check the run's folder, and open the ledger in it."""
    open_run(config.out, config.to_json(), seeds_used(config), workers)
    return Ledger(config.out / LEDGER)


class _Run:
    """A flywheel under way: its folder, ledger, processes, and which policy is in service where."""

    def __init__(
        self, config: FlywheelConfig, ledger: Ledger, executor: Executor, progress: Progress
    ) -> None:
        self.config, self.ledger, self.executor, self.progress = config, ledger, executor, progress
        self.in_service: dict[str, str] = {}  # cell -> checkpoint folder
        self.newest = ""  # the checkpoint promoted last: the next candidate starts from it
        self.reports: dict[tuple[str, str], dict[str, Any]] = {}  # (checkpoint, cell) -> evaluation
        self.training_data: list[str] = []

    # -- the loop ----------------------------------------------------------------------------------

    def everything(self) -> dict[str, Any]:
        """Run all turns and controls; return the summary."""
        entries: list[dict[str, Any]] = []
        steps: list[int] = []
        for turn in range(self.config.turns + 1):
            entries += self.turn(turn)
            training = self.ledger.done(f"turn-{turn}/train")
            if training:
                steps.append(training["steps"])

        extras = {
            "control": self.control(steps) if self.config.control else None,
            "shuffle_control": self.shuffle_control() if self.config.shuffle_control else None,
            "scenes": self.ledger.done("turn-0/scenes"),
            "efficiency": [self.efficiency(cell) for cell in self.config.cells],
        }

        return build_summary(self.config, entries, extras)

    def turn(self, turn: int) -> list[dict[str, Any]]:
        """Run one turn in every cell; return its summary entries."""
        cells = self.config.cells
        collected = {}
        for cell in cells:
            collected[cell] = self.collect(turn, cell)
            self.training_data.append(collected[cell]["dataset"])

        if turn == 0 and self.config.scenes:
            self.scenes()

        name = f"checkpoints/turn-{turn}"
        training = self.train(f"turn-{turn}", name, self.newest, tuple(self.training_data), turn)
        candidates = {cell: self.evaluate(name, cell, turn) for cell in cells}
        decisions = {}
        for cell in cells:
            decision = self.gate(turn, cell, name) if turn else None
            decisions[cell] = decision
            if decision is None or decision["verdict"] == gate.PROMOTE:
                self.in_service[cell] = self.newest = name

        entries = []
        for cell in cells:
            service = self.reports[self.in_service[cell], cell]
            results = (candidates[cell], collected[cell], training, decisions[cell])
            entries.append(turn_entry(turn, cell, service, *results))
        return entries

    # -- steps -------------------------------------------------------------------------------------

    def collect(self, turn: int, cell: str) -> dict[str, Any]:
        """Record demonstrations (turn 0), or the policy in service with the teacher's help."""
        name = f"data/turn-{turn}-{_short(cell)}"
        config = self.config
        demonstrations = turn == 0
        teacher = None if demonstrations or config.teacher == "none" else PolicyRef("expert", cell)

        def run() -> dict[str, Any]:
            if demonstrations:
                policy, episodes = PolicyRef("expert", cell), config.demonstrations
                noise = setups.demonstration_noise(cell)
            else:
                policy, episodes = self.checkpoint(self.in_service[cell], cell), config.episodes
                noise = config.collection_noise

            return self.episodes(
                f"turn {turn} {'demonstrations' if demonstrations else 'collect'}",
                name,
                policy,
                episodes or 1,
                seeds.train_seed(config.seed, turn),
                purpose="train",
                cameras=config.views,
                teacher=teacher,
                intervene=config.intervention if teacher else "none",
                noise=noise,
            )

        return self.ledger.step(
            f"turn-{turn}/collect/{cell}", run, lambda _: self.dataset_rows(name, cell, turn)
        )

    def scenes(self) -> dict[str, Any]:
        """Render random scenes for perception."""

        def run() -> dict[str, Any]:
            from shopfloor.policies.learners.scenes import SCENE_BLOCK, scene_payloads

            share = (self.config.scenes or 0) // len(self.config.cells)
            folder = self.config.out / "data" / "scenes"
            first = seeds.scene_seed(self.config.seed)
            payloads: list[dict[str, Any]] = []

            for cell in self.config.cells:
                choice = self.config.choice(cell, self.config.views)
                payloads += scene_payloads(asdict(choice), share, first, folder)

            cpu_seconds, scenes = 0.0, 0
            with self.progress.phase(
                "turn 0 scenes", share * len(self.config.cells), "scenes"
            ) as phase:
                for _, result in self.executor.run(SCENE_BLOCK, payloads):
                    cpu_seconds += result["cpu_seconds"]
                    scenes += result["scenes"]
                    phase.reach(scenes)

            return {"folder": "data/scenes", "scenes": scenes, "cpu_seconds": cpu_seconds}

        return self.ledger.step("turn-0/scenes", run)

    def train(
        self,
        key: str,
        name: str,
        init: str,
        data: tuple[str, ...],
        turn: int,
        steps: int | None = None,
    ) -> dict[str, Any]:
        """Train the turn's candidate on all data so far, from the policy in service."""
        config = self.config

        def run() -> dict[str, Any]:
            from shopfloor.policies.checkpoint import read_card
            from shopfloor.policies.learners.training import train

            began = time.process_time()
            wanted = steps or (config.turn_steps if init else config.steps)
            settings = TrainConfig(
                data=tuple(config.out / dataset for dataset in data),
                out=config.out / name,
                init=config.out / init if init else None,
                observations=config.observations,
                head=config.head,
                experts=config.experts,
                steps=wanted,
                seed=config.seed,
                scenes=config.out / "data" / "scenes" if config.scenes else None,
                cache=config.out / "data" / "features",
                views=config.views or CAMERAS,
            )

            with self.progress.phase(
                f"{key.replace('-', ' ').replace('/', ' ')} train", wanted or 1, "steps"
            ) as phase:

                def tell(step: int, total: int, loss: float) -> None:
                    signals.check()
                    phase.total = total
                    phase.reach(step, f"loss {loss:.3f}")

                train(settings, tell)

            card = read_card(config.out / name)
            return {
                "policy": name,
                "digest": card["digest"],
                "init": init or None,
                "data": list(data),
                "steps": card["plan"]["steps"],
                "label_sources": card["label_sources"],
                "parameters_total": card["parameters_total"],
                "parameters_active": card["parameters_active"],
                "cpu_seconds": time.process_time() - began,
            }

        def rows(result: dict[str, Any]) -> list[Row]:
            arm = "control" if "control" in key else "loop"
            point = {
                "name": name,
                "digest": result["digest"],
                "parent": init or None,
                "turn": turn,
                "arm": arm,
            }

            found: list[Row] = [("checkpoints", point)]
            for dataset in data:
                found.append(("checkpoint_datasets", {"checkpoint": name, "dataset": dataset}))
            return found

        return self.ledger.step(f"{key}/train", run, rows)

    def evaluate(
        self, name: str, cell: str, turn: int, label: str = "", **arguments: bool
    ) -> dict[str, Any]:
        """Evaluate a checkpoint on the report seeds."""
        label = label or Path(name).name
        dataset = f"evaluations/{label}-{_short(cell)}"
        first = seeds.report_seed(self.config.seed)

        def run() -> dict[str, Any]:
            return self.episodes(
                f"{label.replace('-', ' ')} evaluate",
                dataset,
                self.checkpoint(name, cell, **arguments),
                self.config.report_episodes or 1,
                first,
                purpose="report",
            ) | {"policy": name}

        result = self.ledger.step(
            f"evaluate/{label}/{cell}",
            run,
            lambda result: self.evaluation_rows(result, dataset, name, cell, turn),
        )

        if not arguments:
            self.reports[name, cell] = result
        return result

    def gate(self, turn: int, cell: str, candidate: str) -> dict[str, Any]:
        """Compare the candidate with the policy in service on fresh seeds until a look decides."""
        service = self.in_service[cell]
        folder = f"evaluations/turn-{turn}-{_short(cell)}-gate"
        names = {"service": f"{folder}-service", "candidate": f"{folder}-candidate"}
        checkpoints = {"service": service, "candidate": candidate}

        def run() -> dict[str, Any]:
            decision, results = compare_policies(
                self.checkpoint(service, cell),
                self.checkpoint(candidate, cell),
                self.config.choice(cell),
                folder=self.config.out,
                names=names,
                looks=self.config.looks,
                most=self.config.looks[-1].pairs,
                seed=seeds.gate_seed(self.config.seed, turn),
                purpose="gate",
                executor=self.executor,
                progress=self.progress,
                title=self.title(f"turn {turn} gate", cell),
            )

            return {
                **decision.to_json(),
                "in_service": service,
                "candidate": candidate,
                "datasets": names,
                "seeds": {
                    "first": seeds.gate_seed(self.config.seed, turn),
                    "count": decision.pairs,
                },
                "cpu_seconds": sum(figures["cpu_seconds"] for figures in results.values()),
            }

        def rows(result: dict[str, Any]) -> list[Row]:
            found: list[Row] = []
            for role, dataset in names.items() if result["pairs"] else ():
                found += self.evaluation_rows(result, dataset, checkpoints[role], cell, turn)

            keys = (
                "in_service",
                "candidate",
                "verdict",
                "pairs",
                "gained",
                "lost",
                "p_better",
                "why",
            )

            return [
                *found,
                ("decisions", {"turn": turn, "cell": cell, **{key: result[key] for key in keys}}),
            ]

        return self.ledger.step(f"turn-{turn}/gate/{cell}", run, rows)

    def control(self, steps: Sequence[int]) -> list[dict[str, Any]]:
        """Train as long as the loop did, on the demonstrations alone, and evaluate."""
        data = tuple(f"data/turn-0-{_short(cell)}" for cell in self.config.cells)
        name, cpu_seconds = "checkpoints/turn-0", 0.0
        for turn in range(1, self.config.turns + 1):
            before, name = name, f"checkpoints/control-{turn}"
            result = self.train(f"control-{turn}", name, before, data, turn, steps[turn])
            cpu_seconds += result["cpu_seconds"]

        results = []
        for cell in self.config.cells:
            evaluation = self.evaluate(name, cell, self.config.turns, "control")
            figures = {"cell": cell, **evaluation_figures(evaluation), "steps": sum(steps)}
            results.append(
                figures | {"cpu_seconds": round(cpu_seconds + evaluation["cpu_seconds"], 2)}
            )
            cpu_seconds = 0.0  # the training is shared by the cells; count it once

        return results

    def shuffle_control(self) -> list[dict[str, Any]]:
        """Run the policies in service at the end with instructions shuffled across episodes."""
        results = []
        for cell in self.config.cells:
            evaluation = self.evaluate(
                self.in_service[cell],
                cell,
                self.config.turns,
                "shuffled",
                shuffle_instructions=True,
            )

            figures = {"cell": cell, **evaluation_figures(evaluation)}
            results.append(figures | {"cpu_seconds": round(evaluation["cpu_seconds"], 2)})

        return results

    def efficiency(self, cell: str) -> dict[str, Any]:
        """Measure the last policy in service: its latency in this process, on report seeds."""

        def run() -> dict[str, Any]:
            from shopfloor.policies.checkpoint import read_card

            name = self.in_service[cell]
            card = read_card(self.config.out / name)
            return {
                "cell": cell,
                "policy": name,
                "parameters_total": card["parameters_total"],
                "parameters_active": card["parameters_active"],
                "encoders": sorted(card["encoders"]),
                "execute": card["execute"],
                **measure_latency(
                    self.checkpoint(name, cell),
                    self.config.choice(cell),
                    seeds.report_seed(self.config.seed),
                    LATENCY_EPISODES,
                ),
            }

        return self.ledger.step(f"efficiency/{cell}", run)

    def report(self, summary: Mapping[str, Any]) -> None:
        """Write `report.html`."""
        with self.progress.phase("report", 1, "page") as phase:
            write_report(self.config.out, summary)
            phase.advance()

    # -- episodes ----------------------------------------------------------------------------------

    def checkpoint(self, name: str, cell: str, **arguments: bool) -> PolicyRef:
        """Refer to a checkpoint of this run."""
        return PolicyRef("checkpoint", cell, {"path": str(self.config.out / name), **arguments})

    def title(self, text: str, cell: str) -> str:
        """Name a phase; the cell is named where there are several."""
        return f"{text} {_short(cell)}" if len(self.config.cells) > 1 else text

    def episodes(
        self,
        title: str,
        dataset: str,
        policy: PolicyRef,
        episodes: int,
        seed: int,
        cameras: tuple[str, ...] = (),
        **options: Any,  # noqa: ANN401  # fields of CollectConfig
    ) -> dict[str, Any]:
        """Collect episodes into a dataset of this run; return their figures as plain JSON."""
        config = CollectConfig(
            self.config.choice(policy.cell, cameras),
            self.config.out / dataset,
            policy,
            episodes,
            seed,
            **options,
        )

        title = self.title(title, policy.cell)
        figures = run_episodes(title, config, self.executor, self.progress)
        return {"dataset": dataset, **figures}

    def dataset_rows(self, name: str, cell: str, turn: int) -> list[Row]:
        """Return the ledger's rows of a dataset and its episodes."""
        records = Dataset(self.config.out / name).records
        rows: list[Row] = [
            (
                "datasets",
                {
                    "name": name,
                    "cell": cell,
                    "purpose": records[0].purpose if records else "",
                    "turn": turn,
                    "episodes": len(records),
                    "steps": sum(record.steps for record in records),
                },
            )
        ]

        keys = (
            "episode_id",
            "file",
            "sha256",
            "seed",
            "policy_digest",
            "outcome",
            "reason",
            "steps",
            "expert_steps",
        )

        for record in records:
            values = {key: getattr(record, key) for key in keys}
            rows.append(("episodes", {"dataset": name, **values}))
        return rows

    def evaluation_rows(
        self, result: Mapping[str, Any], dataset: str, checkpoint: str, cell: str, turn: int
    ) -> list[Row]:
        """Return the ledger's rows of an evaluation."""
        rows = self.dataset_rows(dataset, cell, turn)
        outcomes = [row["outcome"] for table, row in rows if table == "episodes"]
        figures = {
            "dataset": dataset,
            "checkpoint": checkpoint,
            "seed_first": result["seeds"]["first"],
            "episodes": len(outcomes),
            "successes": outcomes.count("success"),
        }

        return [*rows, ("evaluations", figures)]


def _short(cell: str) -> str:
    """Return a cell's name for folders: without the package prefix, with the version."""
    return cell.split("/")[-1]
