"""How often a policy succeeds: rollouts on fixed seeds, logged like any other, with an interval."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopfloor.collectors.choice import CellChoice, renamed
from shopfloor.collectors.collect import (
    PURPOSE_SEEDS,
    CollectConfig,
    CollectResult,
    collect,
)
from shopfloor.collectors.executors import Executor
from shopfloor.collectors.executors.engine import TIMEOUT_S
from shopfloor.collectors.statistics import wilson_interval
from shopfloor.core import PolicyRef, Receipt

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
    policy: str | PolicyRef,
    cell: str | CellChoice,
    episodes: int = 100,
    *,
    seed: int = 800_000,
    out: Path | str | None = None,
    purpose: str | None = None,
    noise: float = 0.0,
    timeout_s: float = TIMEOUT_S,
    executor: Executor | None = None,
    workers: int | str = 1,
    on_receipt: Callable[[Receipt], None] | None = None,
    **options: Any,  # noqa: ANN401  # the fields of CellChoice
) -> Evaluation:
    """Run a policy on seeds seed..seed + episodes - 1 and count.

    Args:
        policy: "expert", "random", a checkpoint's folder, or a reference.
        cell: cell id or bare name, or a whole `CellChoice`.
        episodes: number of seeds.
        seed: first seed.
        out: dataset that keeps the episodes, so that the evaluation resumes; None uses a temporary
            folder.
        purpose: "gate", "report", "train" or "other"; None for the one that the seeds are reserved
            for: "report" or "gate", else "other".
        noise: scale of the noise on executed actions, in units of a full action.
        timeout_s: wall time after which an episode counts as hanging; needs more than one worker.
        executor: runs the episodes; kept open.
        workers: as for `collect`, where no executor is given.
        on_receipt: called with each new receipt.
        **options: fields of `CellChoice`, such as ``robot="ur5e"`` or ``variation="hard"``.

    Returns:
        Counts, rate and interval.

    Raises:
        InvalidInputError, DiskError, CancelledError: as `collect`.
    """
    conditions = renamed(options, {"seed_first": "seed"})
    first = int(conditions.pop("seed", seed))

    with ExitStack() as stack:
        if out is None:
            out = stack.enter_context(tempfile.TemporaryDirectory(prefix="shopfloor-evaluate-"))
        config = CollectConfig.of(
            cell,
            policy=policy,
            episodes=episodes,
            out=out,
            seed=first,
            noise=noise,
            purpose=purpose or purpose_of(first, episodes),
            timeout_s=timeout_s,
            **conditions,
        )
        result = collect(config, executor=executor, workers=workers, on_receipt=on_receipt)

    return summarise(result, config)


def purpose_of(seed: int, episodes: int) -> str:
    """Return what episodes of these seeds are for: report or gate where all lie in that range, else other."""
    for purpose in ("report", "gate"):
        low, high = PURPOSE_SEEDS[purpose]
        if low <= seed and seed + episodes <= high:
            return purpose
    return "other"


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
