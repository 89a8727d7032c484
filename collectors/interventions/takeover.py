"""HG-DAgger (Kelly 2019): the teacher takes over where the policy has strayed, and hands back."""

from __future__ import annotations

import numpy as np

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

# The teacher takes over where the running deviation (mean over the axes in use of
# |policy - teacher|, in full actions, averaged exponentially over steps) passes the threshold, for
# some of the policy's decisions.
DEVIATION_THRESHOLD = 0.5
DEVIATION_MEMORY = 0.5
TAKEOVER_DECISIONS = 6


class Takeover:
    """Lets the policy act until it deviates from the teacher, then the teacher for a while."""

    needs_teacher = True

    def reset(self, seed: int, policy: PolicyInfo, actions: ActionSpec) -> None:
        """Start an episode with the policy in charge."""
        del seed
        self._actor = ACTOR_EXPERT if policy.expert else ACTOR_POLICY
        self._axes = actions.used
        self._deviation = 0.0
        self._steps_left = 0  # steps the teacher still acts

    def asks_policy(self, left: int) -> bool:
        """Ask once the last chunk is used up, but not while the teacher acts."""
        return not self._steps_left and left == 0

    def choose(
        self, observation: Observation, chunk: ActionChunk | None, label: FloatArray | None
    ) -> Command:
        """Return the policy's action, or the teacher's while it has taken over."""
        del observation
        if label is None:
            raise InfrastructureError("There is no label of a teacher to judge the policy by.")

        if not self._steps_left:
            if chunk is None:
                raise InfrastructureError("There is no chunk of the policy to act by.")
            if not self._strays(chunk.actions[0], label[0]):
                return Command(chunk.actions[0], self._actor, label)

            # Never fewer steps than are left of the chunk, so that the policy decides afresh.
            self._steps_left = TAKEOVER_DECISIONS * chunk.execute
            self._deviation = 0.0

        self._steps_left -= 1
        return Command(label[0], ACTOR_EXPERT, label)

    def _strays(self, action: FloatArray, label: FloatArray) -> bool:
        distance = float(np.mean(np.abs(action - label)[self._axes]))
        self._deviation = DEVIATION_MEMORY * self._deviation + (1 - DEVIATION_MEMORY) * distance
        return self._deviation > DEVIATION_THRESHOLD
