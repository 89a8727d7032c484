"""What every intervention answers, and what it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from shopfloor.core import ActionChunk, ActionSpec, FloatArray, Observation, PolicyInfo


@dataclass(frozen=True)
class Command:
    """What is done at one step.

    Attributes:
        action: shape (A,), float32, in [-1, 1], before noise.
        actor: who commands it: `ACTOR_POLICY`, `ACTOR_EXPERT` or `ACTOR_HUMAN` of core.
        label: shape (H, A), float32, the chunk that a learner should have answered here, or None.
    """

    action: FloatArray
    actor: int
    label: FloatArray | None = None


@runtime_checkable
class Intervention(Protocol):
    """Decides who acts. It is made anew for each episode, and everything it knows is of that episode."""

    @property
    def needs_teacher(self) -> bool:
        """Whether there must be a teacher, who then answers every observation; without need there is none."""

    def reset(self, seed: int, policy: PolicyInfo, actions: ActionSpec) -> None:
        """Start an episode.

        Args:
            seed: the episode's; the source of all randomness.
            policy: info of the policy that acts where nobody intervenes.
            actions: meaning of the cell's actions.
        """

    def asks_policy(self, left: int) -> bool:
        """Whether the policy is asked for a new chunk at this step.

        Args:
            left: how many actions of its last chunk are still to be run; each step uses one up,
                whoever acts.
        """

    def choose(
        self, observation: Observation, chunk: ActionChunk | None, label: FloatArray | None
    ) -> Command:
        """Return what is done at this step, and the label that is recorded.

        Args:
            observation: everything observed now; pictures only where somebody needs them.
            chunk: what is left of the policy's last answer, the action for this step first, with
                the `execute` that it was given; None where nothing is left to run.
            label: shape (H, A), float32, the teacher's chunk for this observation, None without a
                teacher.
        """
