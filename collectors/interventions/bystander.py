"""Nobody intervenes: the policy acts, and a teacher, where there is one, labels each step."""

from __future__ import annotations

from shopfloor.collectors.interventions.command import Command
from shopfloor.core import (
    ACTOR_EXPERT,
    ACTOR_POLICY,
    ActionChunk,
    ActionSpec,
    FloatArray,
    InfrastructureError,
    Observation,
    PolicyInfo,
)


class Bystander:
    """Lets the policy act and keeps the teacher's label."""

    def __init__(self, needs_teacher: bool) -> None:
        """Say whether a teacher labels the steps."""
        self.needs_teacher = needs_teacher
        self._actor = ACTOR_POLICY

    def reset(self, seed: int, policy: PolicyInfo, actions: ActionSpec) -> None:
        """Note whose the steps are: an expert's own count as the expert's."""
        del seed, actions
        self._actor = ACTOR_EXPERT if policy.expert else ACTOR_POLICY

    def asks_policy(self, left: int) -> bool:
        """Ask once the last chunk is used up."""
        return left == 0

    def choose(
        self, observation: Observation, chunk: ActionChunk | None, label: FloatArray | None
    ) -> Command:
        """Return the policy's action and the teacher's label."""
        del observation
        if chunk is None:
            raise InfrastructureError("There is no chunk of the policy to act by.")

        return Command(chunk.actions[0], self._actor, label)


def none() -> Bystander:
    """Return the intervention `none`: the policy acts, without labels."""
    return Bystander(needs_teacher=False)


def label() -> Bystander:
    """Return the intervention `label`: the policy acts, and a teacher labels each step."""
    return Bystander(needs_teacher=True)
