"""How often a policy succeeds: rollouts on fixed seeds, logged like any other, with an interval."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopfloor.collectors.choice import CellChoice
from shopfloor.collectors.collect import CollectResult, collect
from shopfloor.collectors.config import CollectConfig, EvaluateConfig
from shopfloor.collectors.executors import Executor
from shopfloor.collectors.statistics import wilson_interval
from shopfloor.core import InvalidInputError, PolicyRef, Receipt

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        cell: full id.
        policy: name and digest, and what else the policy's info says.
        episodes: how many count: all but infrastructure failures.
        successes: how many of them succeeded.
        success: their ratio, 0 without episodes.
        interval: Wilson 95 % interval of the success rate, (low, high).
        outcomes: count by reason; "success" for successes.
        seed: first seed.
        seed_count: number of seeds asked for.
        per_seed: success by seed, in order of the seeds; None where infrastructure failed.
        mean_steps: mean number of actions of the episodes that count.
        cpu_seconds: CPU time of rollouts and commits.
        infrastructure: episodes that could not be run for the machine's fault.
        resumed: episodes that were already in `out`.
    """

    cell: str
    policy: dict[str, Any]
    episodes: int
    successes: int
    success: float
    interval: tuple[float, float]
    outcomes: dict[str, int]
    seed: int
    seed_count: int
    per_seed: tuple[bool | None, ...]
    mean_steps: float
    cpu_seconds: float
    infrastructure: int
    resumed: int

    @property
    def exit_code(self) -> int:
        """0, or 3 where an episode failed for the machine's fault."""
        return 3 if self.infrastructure else 0

    def to_json(self) -> dict[str, Any]:
        """Return the summary that `evaluate --summary` writes."""
        return {
            "schema_version": SCHEMA_VERSION,
            "cell": self.cell,
            "policy": self.policy,
            "episodes": self.episodes,
            "successes": self.successes,
            "success": self.success,
            "interval": list(self.interval),
            "outcomes": dict(self.outcomes),
            "seeds": {"first": self.seed, "count": self.seed_count},
            "per_seed": list(self.per_seed),
            "mean_steps": self.mean_steps,
            "cpu_seconds": self.cpu_seconds,
            "infrastructure": self.infrastructure,
        }


def evaluate(
    policy: str | PolicyRef | EvaluateConfig,
    cell: str | CellChoice | None = None,
    episodes: int | None = None,
    *,
    executor: Executor | None = None,
    workers: int | str = 1,
    on_receipt: Callable[[Receipt], None] | None = None,
    **options: Any,  # noqa: ANN401  # see EvaluateConfig.of
) -> Evaluation:
    """Run a policy on seeds seed..seed + episodes - 1 and count.

    Args:
        policy: "expert", "random", a checkpoint's folder, or a reference; or the whole
            configuration, and nothing beside it.
        cell: cell id or bare name, or a whole `CellChoice`.
        episodes: number of seeds; 100 by default.
        executor: runs the episodes; kept open.
        workers: as for `collect`, where no executor is given.
        on_receipt: called with each new receipt.
        **options: further fields of `EvaluateConfig`, such as ``seed=700_000`` or ``out="kept"``,
            and of `CellChoice`, such as ``robot="ur5e"`` or ``variation="hard"``.

    Returns:
        Counts, rate and interval.

    Raises:
        InvalidInputError, DiskError, CancelledError: as `collect`.
    """
    if episodes is not None:
        options["episodes"] = episodes

    config = _config(policy, cell, options)
    with ExitStack() as stack:
        out = config.out
        if out is None:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="shopfloor-evaluate-"))
            out = Path(made)

        collection = config.collection(out)
        result = collect(collection, executor=executor, workers=workers, on_receipt=on_receipt)

    return summarise(result, collection)


def _config(
    policy: str | PolicyRef | EvaluateConfig,
    cell: str | CellChoice | None,
    options: dict[str, Any],
) -> EvaluateConfig:
    if isinstance(policy, EvaluateConfig):
        if cell is not None:
            options = {"cell": cell, **options}
        if options:
            raise InvalidInputError(
                f"Give either a config or its fields, not both: {', '.join(sorted(options))}."
            )

        return policy

    if cell is None:
        raise InvalidInputError("evaluate needs `cell`: a work cell, such as 'PickToTray'.")
    return EvaluateConfig.of(policy, cell, **options)


def summarise(result: CollectResult, config: CollectConfig) -> Evaluation:
    """Count a run's outcomes; infrastructure failures are counted apart."""
    counted = [receipt for receipt in result.receipts if receipt.outcome != "infrastructure"]
    successes = sum(receipt.outcome == "success" for receipt in counted)
    reasons = Counter(receipt.reason or "success" for receipt in counted)

    return Evaluation(
        cell=result.cell,
        policy=dict(result.policy),
        episodes=len(counted),
        successes=successes,
        success=successes / len(counted) if counted else 0.0,
        interval=wilson_interval(successes, len(counted)),
        outcomes=dict(sorted(reasons.items())),
        seed=config.seed,
        seed_count=config.episodes,
        per_seed=tuple(
            None if receipt.outcome == "infrastructure" else receipt.outcome == "success"
            for receipt in result.receipts
        ),
        mean_steps=sum(receipt.steps for receipt in counted) / len(counted) if counted else 0.0,
        cpu_seconds=sum(receipt.cpu_seconds for receipt in result.receipts),
        infrastructure=result.infrastructure,
        resumed=result.resumed,
    )
