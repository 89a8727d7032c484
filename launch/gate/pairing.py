"""Paired episodes for the gate: both policies on the same seeds until a look decides."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shopfloor.collectors.choice import CellChoice
from shopfloor.collectors.collect import CollectResult, collect
from shopfloor.collectors.config import CollectConfig, PurposeName, purpose_of
from shopfloor.collectors.executors import Executor, make_executor
from shopfloor.collectors.sources import policy_ref, resolve_policy
from shopfloor.collectors.statistics import wilson_interval
from shopfloor.core import InfrastructureError, InvalidInputError, PolicyRef, Receipt
from shopfloor.envs.registry import resolve_cell
from shopfloor.launch.console import Progress, QuietProgress
from shopfloor.launch.gate import decide as gate
from shopfloor.launch.gate.decide import Decision, Look

SCHEMA_VERSION = 1
ROLES = ("service", "candidate")


def compare(
    a: str | PolicyRef,
    b: str | PolicyRef,
    cell: str | CellChoice,
    episodes: int = 200,
    *,
    seed: int = 760_000,
    out: Path | str | None = None,
    workers: int | str = 1,
    progress: Progress | None = None,
    **options: Any,  # noqa: ANN401  # the fields of CellChoice
) -> dict[str, Any]:
    """Run the gate on two policies: looks at 50, 100 and 200 pairs, up to the one that decides.

    Args:
        a: policy in service: "expert", "random", a checkpoint's folder, or a reference.
        b: candidate, likewise.
        cell: cell id or bare name, or a whole `CellChoice`.
        episodes: most seeds to spend.
        seed: first seed.
        out: keeps the episodes, so that the comparison resumes; None uses a temporary folder.
        workers: as for `collect`; the result is the same for any.
        progress: draws how it goes, None draws nothing.
        **options: fields of `CellChoice`, such as ``robot="ur5e"``.

    Returns:
        What `shopfloor compare --json` prints: "decision", "gate", and the figures of "a" and "b".

    Raises:
        InvalidInputError, InfrastructureError, DiskError, CancelledError: as `collect`.
    """
    if episodes < 1:
        raise InvalidInputError(f"--episodes is {episodes}; expected at least 1.")

    choice = CellChoice.of(cell, options)
    cell_id = resolve_cell(choice.cell)
    service = policy_ref(a, cell_id, choice.robot)
    candidate = policy_ref(b, cell_id, choice.robot)

    with contextlib.ExitStack() as stack:
        executor = stack.enter_context(make_executor(workers))
        if out is None:
            out = stack.enter_context(tempfile.TemporaryDirectory(prefix="shopfloor-compare-"))

        decision, results = compare_policies(
            service,
            candidate,
            choice,
            folder=Path(out),
            looks=gate.LOOKS,
            most=episodes,
            seed=seed,
            purpose=purpose_of(seed, episodes),
            executor=executor,
            progress=progress or QuietProgress(),
        )

    figures = {}
    for side, policy, role in (("a", a, "service"), ("b", b, "candidate")):
        figures[side] = {"reference": _name(policy), **results.get(role, {})}

    return {
        "schema_version": SCHEMA_VERSION,
        "cell": cell_id,
        "decision": decision.verdict,
        "gate": decision.to_json(),
        **figures,
        "seeds": {"first": seed, "count": decision.pairs},
    }


def _name(policy: str | PolicyRef) -> Any:  # noqa: ANN401  # JSON
    return policy.to_json() if isinstance(policy, PolicyRef) else policy


def run_episodes(
    title: str, config: CollectConfig, executor: Executor, progress: Progress
) -> dict[str, Any]:
    """Collect episodes, showing progress; return their figures, see `episode_figures`."""
    with progress.phase(title, config.episodes) as phase:
        there = len(list((Path(config.out) / "episodes").glob("*.h5")))
        phase.resume(min(config.episodes, there))

        def count(receipt: Receipt) -> None:
            phase.advance(receipt.outcome == "success")

        result = collect(config, executor=executor, on_receipt=count)
    return episode_figures(result, config.seed)


def episode_figures(result: CollectResult, seed: int) -> dict[str, Any]:
    """Boil a collection down to plain JSON: counts, outcomes, interval, successes in seed order.

    Raises:
        InfrastructureError: an episode could not be run; figures would not be comparable.
    """
    receipts = result.receipts
    if result.infrastructure:
        first = next(receipt for receipt in receipts if receipt.outcome == "infrastructure")
        raise InfrastructureError(
            f"{result.infrastructure} of {len(receipts)} episodes in {result.dataset} failed "
            f"because of the machine, not the policy (seed {first.seed}: {first.reason}, "
            f"{first.message}). Without them results are not "
            "comparable; run the same command again to repeat them."
        )

    outcomes: dict[str, int] = {}
    for receipt in receipts:
        key = receipt.reason or receipt.outcome
        outcomes[key] = outcomes.get(key, 0) + 1

    succeeded = [receipt.outcome == "success" for receipt in receipts]
    return {
        "policy_digest": result.policy["digest"],
        "episodes": len(receipts),
        "successes": sum(succeeded),
        "success": sum(succeeded) / len(receipts),
        "interval": list(wilson_interval(sum(succeeded), len(receipts))),
        "outcomes": dict(sorted(outcomes.items())),
        "seeds": {"first": seed, "count": len(receipts)},
        "succeeded": succeeded,
        "steps": sum(receipt.steps for receipt in receipts),
        "expert_steps": sum(receipt.expert_steps for receipt in receipts),
        "cpu_seconds": sum(receipt.cpu_seconds for receipt in receipts),
    }


def compare_policies(
    service: PolicyRef,
    candidate: PolicyRef,
    choice: CellChoice,
    *,
    folder: Path,
    names: Mapping[str, str] | None = None,
    looks: Sequence[Look],
    most: int,
    seed: int,
    purpose: PurposeName,
    executor: Executor,
    progress: Progress,
    title: str = "gate",
) -> tuple[Decision, dict[str, dict[str, Any]]]:
    """Run both policies on the same seeds until the gate decides or the episodes are spent.

    Args:
        service: policy in service.
        candidate: its challenger.
        choice: the cell and the conditions.
        folder: keeps the episodes; what is there is not run again.
        names: folder of each role inside `folder`; the roles' names by default.
        looks: when to look.
        most: most pairs to run.
        seed: first seed.
        purpose: of the episodes.
        executor: runs them.
        progress: draws them.
        title: of the progress.

    Returns:
        The decision, and the figures of each role ("service", "candidate"); without figures where
        both are the same policy and nothing had to be run.
    """
    results: dict[str, dict[str, Any]] = {}
    decision = gate.decide([], [], looks)
    if resolve_policy(service).info.digest == resolve_policy(candidate).info.digest:
        return same_policy(), results

    steps = [look.pairs for look in looks if look.pairs < most]
    for pairs in (*steps, min(most, looks[-1].pairs)):
        for role, policy in zip(ROLES, (service, candidate), strict=True):
            shown = f"{title}, {'in service' if role == 'service' else role}"
            config = CollectConfig(
                choice,
                folder / (names or {}).get(role, role),
                policy,
                pairs,
                seed,
                purpose=purpose,
            )
            results[role] = run_episodes(shown, config, executor, progress)

        decision = gate.decide(
            results["service"]["succeeded"], results["candidate"]["succeeded"], looks
        )
        if decision.verdict != gate.NEED_MORE:
            break

    return decision, results


def same_policy() -> Decision:
    """Return the answer to comparing a policy with itself."""
    return Decision(gate.HOLD, 0, 0, 0, 1.0, 1.0, 0.0, "same policy.")
