"""What a cell drives, what an arm holds parts with, and the meaning of an arm's actions and state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Frame = tuple[Array, Array]

# Of the convention `ee_delta_base_v1`: what an action of 1 moves the target by, and how far it may
# be from where the tool is.
FULL_SCALE_M = 0.025
FULL_SCALE_RAD = 0.2
LEASH_M = 0.060
LEASH_RAD = 0.3

ACTION_NAMES = ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")
# What follows the joints in an arm's state. An opening is the fingers', or 1 while a suction cup
# holds nothing, else 0.
TAIL_NAMES = (
    *(f"tool_{axis}" for axis in "xyz"),
    *(f"tool_q{axis}" for axis in "xyzw"),
    "finger_opening",
    *(f"offset_{axis}" for axis in "xyz"),
    *(f"offset_r{axis}" for axis in "xyz"),
    "last_gripper",
)
TAIL_UNITS = ("m",) * 3 + ("1",) * 4 + ("m",) + ("m",) * 3 + ("rad",) * 3 + ("1",)
TAIL_SIZE = len(TAIL_NAMES)


class Robot(Protocol):
    """What a cell drives: an arm, a mobile base, or several of these together.

    Attributes:
        action_names: one per action component.
        state_names, state_units: one per entry of `state`.
        convention: id of the meaning of its actions.
    """

    @property
    def action_names(self) -> tuple[str, ...]: ...  # noqa: D102  # see above
    @property
    def state_names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def state_units(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def convention(self) -> str: ...  # noqa: D102

    def build(self) -> None:
        """Load it into its world, which was just made or cleared."""

    def release(self) -> None:
        """Let go of what it holds, at once: its world is about to be brought back to how it was built."""

    def start(self, rng: np.random.Generator) -> None:
        """Put it where an episode starts; all randomness comes from `rng`."""

    def command(self, action: Sequence[float]) -> None:
        """Drive the motors by an action: one number in [-1, 1] per component."""

    def read(self) -> None:
        """Refresh what is measured."""

    def state(self) -> npt.NDArray[np.float32]:
        """Return the proprioception, float32; entries are named by `state_names`."""

    def sim_state(self) -> Array:
        """Return everything needed to come back, float64, always of the same length."""

    def set_sim_state(self, state: Array) -> None:
        """Come back to a `sim_state`."""

    def frame(self, member: int) -> Frame:
        """Return where cameras ride: position, shape (3,), m, and rotation, shape (3, 3), in the world frame."""

    def describe(self) -> dict[str, Any]:
        """Return plain JSON data on what its actions do."""


class Hand(Protocol):
    """What an arm holds parts with; `ArmModel.hand` makes one for an arm's world.

    Attributes:
        joints: indices of its own joints; they are measured and stored after the arm's.
        seeks: whether `drive` must be called in every step, not only when the command changes.
        holding: PyBullet's id of the body it is fixed to, -1 for none and where friction holds.
    """

    @property
    def joints(self) -> tuple[int, ...]: ...  # noqa: D102  # see above
    @property
    def seeks(self) -> bool: ...  # noqa: D102
    @property
    def holding(self) -> int: ...  # noqa: D102

    def find(self, indices: Mapping[str, int]) -> None:
        """Look up joints and links, given the robot's indices by name; a name that is not there is a KeyError."""

    def build(self, body: int) -> None:
        """Prepare the hand of a robot that was just loaded."""

    def drive(self, gripper: float) -> None:
        """Take hold (+1) or let go (-1)."""

    def release(self) -> None:
        """Let go at once."""

    def positions(self, opening_m: float) -> list[float]:
        """Return where its joints are when it is open by so much."""

    def opening(self, joints: Array) -> float:
        """Return how far it is open, given the positions of the arm's joints and its own.

        That is the distance between fingers, m; of a cup 1 while it holds nothing, else 0.
        """

    def memory(self) -> list[float]:
        """Return what the positions of joints do not show; always of the same length."""

    def recall(self, memory: Array, gripper: float) -> None:
        """Come back to a `memory`, given the last gripper command."""


class Carrier(Protocol):
    """What an arm may ride on.

    Attributes:
        body: PyBullet's body id, of the URDF that holds the arm as well.
    """

    body: int
