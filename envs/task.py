"""What a work cell asks for: the parts, where an episode puts them, and when the task is done or lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shopfloor.envs.camera import Camera
from shopfloor.envs.robot import Panda
from shopfloor.envs.world import World

Array = npt.NDArray[np.float64]

HOLD_STEPS = 10  # 0.5 s at 20 Hz
REST_M_S = 0.005


@dataclass(frozen=True)
class Item:
    """One row of the privileged observation `objects`.

    Attributes:
        name: class name in words, such as "red cube"; a policy embeds it.
        size: full extents in the body's frame, m.
        rgb: nominal colour in [0, 1].
        is_goal: whether parts go there.
        belongs_to: name of a part's goal; may be left out where there is only one.
    """

    name: str
    size: tuple[float, float, float]
    rgb: tuple[float, float, float]
    is_goal: bool = False
    belongs_to: str = ""


@dataclass(frozen=True)
class ToolPose:
    """A tool that points straight down.

    Attributes:
        position: shape (3,), m, base frame, point between the fingertips.
        yaw: rad, about z; the fingers close along the tool's y axis.
    """

    position: Array
    yaw: float


@dataclass(frozen=True)
class Verdict:
    """How an episode stands after a control step.

    Attributes:
        stage: a word for people and for statistics.
        success: done, once and for all.
        failure: "" or the failure reason that ends the episode.
    """

    stage: str
    success: bool = False
    failure: str = ""


class Task(Protocol):
    """One job. A task holds the state of the current episode; `WorkCell` owns it and calls it in a fixed order.

    Attributes:
        max_episode_steps: control steps after which an episode is cut off.
        frozen_axes: action components that the cell ignores (see `Panda`).
        workspace: shape (2, 3), m, lowest and highest target position of the tool.
        start_low, start_high: shape (3,), m, box in which the tool starts.
        cameras: views of this cell.
        items: one per object row, in a fixed order.
        bodies: PyBullet body per item, filled by `build`.
        present: shape (len(items),), bool, which items take part in this episode.
        instructions: class name of a part -> all phrasings that ask for it.
        named: class name that this episode's instruction names.
        named_body: the body to pick up (where several fit, the one to take first); `reset` and `recall` set it.
        grip_m: width of the named part where the fingers hold it.
        moves: whether `before_substep` has anything to do.
    """

    max_episode_steps: int
    frozen_axes: tuple[int, ...]
    workspace: Array
    start_low: Array
    start_high: Array
    cameras: tuple[Camera, ...]
    items: tuple[Item, ...]
    bodies: tuple[int, ...]
    present: npt.NDArray[np.bool_]
    instructions: Mapping[str, tuple[str, ...]]
    named: str
    named_body: int
    grip_m: float
    moves: bool

    def build(self, world: World) -> None:
        """Add the bodies to a new or cleared world; called for every episode and must always do the same."""

    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Place every body for a new episode and choose the named part. All randomness must come from `rng`."""

    def free_spots(self, world: World, low_m: float, high_m: float, rng: np.random.Generator) -> list[Array]:
        """List places (position, quaternion; shape (7,)) `low_m` to `high_m` away where the named part fits."""

    def before_substep(self, world: World) -> None:
        """Act on the world 240 times a second (conveyors); called only where `moves` is True."""

    def judge(self, world: World, robot: Panda) -> Verdict:
        """Judge the state after a control step, from what `world` and `robot` have read."""

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named part where it lies."""

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose at which the held named part is let go."""

    def memory(self) -> Array:
        """Return what the task remembers, `named` included: float64, always of the same length."""

    def recall(self, memory: Array) -> None:
        """Come back to a `memory`."""
