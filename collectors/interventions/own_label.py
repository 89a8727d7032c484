"""An expert under noise labels its own steps: what it commands before the noise is what a learner should answer."""

from __future__ import annotations

from shopfloor.collectors.interventions.command import Command
from shopfloor.core import (
    ACTOR_EXPERT,
    ActionChunk,
    ActionSpec,
    FloatArray,
    InfrastructureError,
    InvalidInputError,
    Observation,
    PolicyInfo,
)


class OwnLabel:
    """Asks the expert that acts at every step, runs its first action and keeps its chunk as label."""

    needs_teacher = False

    def reset(self, seed: int, policy: PolicyInfo, actions: ActionSpec) -> None:
        """Refuse a policy that is no expert: its commands are no labels."""
        del seed, actions
        if not policy.expert:
            raise InvalidInputError(
                f"Intervention 'own' with the policy {policy.name!r}, which is no expert: its "
                "commands are no labels. Choose 'none', or an expert as the policy."
            )

    def asks_policy(self, left: int) -> bool:
        """Ask at every step: noise leads where the last chunk was not made for."""
        del left
        return True

    def choose(
        self, observation: Observation, chunk: ActionChunk | None, label: FloatArray | None
    ) -> Command:
        """Return the expert's action and its whole chunk as label."""
        del observation, label
        if chunk is None:
            raise InfrastructureError("There is no chunk of the expert to act by.")

        return Command(chunk.actions[0], ACTOR_EXPERT, chunk.actions)
