"""Paired episodes for the gate: both policies on the same seeds, look by look, until one decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shopfloor.collectors.collect import CollectResult, collect
from shopfloor.collectors.executors import Executor
from shopfloor.collectors.policies import resolve_policy
from shopfloor.collectors.statistics import wilson_interval
from shopfloor.core import InfrastructureError, PolicyRef, Receipt
from shopfloor.launch import gate
from shopfloor.launch.console import Progress
from shopfloor.launch.gate import Decision, Look

ROLES = ("service", "candidate")


def run_episodes(
    title: str,
    policy: PolicyRef,
    folder: Path,
    episodes: int,
    seed_first: int,
    executor: Executor,
    progress: Progress,
    **options: Any,  # noqa: ANN401  # fields of CollectConfig
) -> dict[str, Any]:
    """Collect episodes, showing progress; return their figures, see `episode_figures`."""
    with progress.phase(title, episodes) as phase:
        phase.resume(min(episodes, len(list((folder / "episodes").glob("*.h5")))))

        def count(receipt: Receipt) -> None:
            phase.advance(receipt.outcome == "success")

        result = collect(
            cell=policy.cell,
            policy=policy,
            episodes=episodes,
            out=folder,
            seed_first=seed_first,
            executor=executor,
            on_receipt=count,
            **options,
        )
    return episode_figures(result, seed_first)


def episode_figures(result: CollectResult, seed_first: int) -> dict[str, Any]:
    """Boil a collection down to plain JSON: counts, outcomes, interval, successes in seed order.

    Raises:
        InfrastructureError: an episode could not be run; figures would not be comparable.
    """
    receipts = result.receipts
    if result.infrastructure:
        first = next(receipt for receipt in receipts if receipt.outcome == "infrastructure")
        raise InfrastructureError(
            f"{result.infrastructure} of {len(receipts)} episodes in {result.dataset} failed because of the machine, "
            f"not the policy (seed {first.seed}: {first.reason}, {first.message}). Without them results are not "
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
        "seeds": {"first": seed_first, "count": len(receipts)},
        "succeeded": succeeded,
        "steps": sum(receipt.steps for receipt in receipts),
        "expert_steps": sum(receipt.expert_steps for receipt in receipts),
        "cpu_seconds": sum(receipt.cpu_seconds for receipt in receipts),
    }


def compare_policies(
    service: PolicyRef,
    candidate: PolicyRef,
    *,
    folder: Path,
    names: Mapping[str, str] | None = None,
    looks: Sequence[Look],
    most: int,
    seed_first: int,
    purpose: str,
    executor: Executor,
    progress: Progress,
    title: str = "gate",
) -> tuple[Decision, dict[str, dict[str, Any]]]:
    """Run both policies on the same seeds until the gate decides or the episodes are spent.

    Args:
        service: policy in service.
        candidate: its challenger, in the same cell.
        folder: keeps the episodes; what is there is not run again.
        names: folder of each role inside `folder`; the roles' names by default.
        looks: when to look.
        most: most pairs to run.
        seed_first: first seed.
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
    for pairs in [look.pairs for look in looks if look.pairs < most] + [min(most, looks[-1].pairs)]:
        for role, policy in zip(ROLES, (service, candidate), strict=True):
            shown = f"{title}, {'in service' if role == 'service' else role}"
            dataset = folder / (names or {}).get(role, role)
            results[role] = run_episodes(
                shown, policy, dataset, pairs, seed_first, executor, progress, purpose=purpose
            )
        decision = gate.decide(
            results["service"]["succeeded"], results["candidate"]["succeeded"], looks
        )
        if decision.verdict != gate.NEED_MORE:
            break
    return decision, results


def same_policy() -> Decision:
    """Return the answer to comparing a policy with itself."""
    return Decision(gate.HOLD, 0, 0, 0, 1.0, 1.0, 0.0, "same policy.")
