"""What a work cell asks for: the parts, where an episode puts them, and when the task is done or lost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.world import TABLE, Ground, World
from shopfloor.envs.robots.arm import ARMS, Arm, Post, Robot

Array = npt.NDArray[np.float64]
Words = Mapping[str, tuple[str, ...]]

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

    def scaled(self, factor: float) -> Item:
        """Return the same in another size."""
        x, y, z = self.size
        return replace(self, size=(x * factor, y * factor, z * factor))


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


class Task(ABC):
    """One job. A task holds the state of the current episode; `WorkCell` owns it and calls it in a fixed order.

    A cell sets the attributes and fills in the abstract methods; the others have defaults that fit
    a job at a table.

    Attributes:
        max_episode_steps: control steps after which an episode is cut off.
        robots: names of the robots that can do the job, the usual one first.
        ground: what everything stands on.
        frozen_axes: action components that an arm ignores (see `shopfloor.envs.robots.arm.Post`).
        workspace: shape (2, 3), m, lowest and highest target position of an arm's tool.
        start_low, start_high: shape (3,), m, box in which an arm's tool starts.
        cameras: views of this cell.
        items: one per object row, in a fixed order.
        bodies: PyBullet body per item, filled by `build`.
        present: shape (len(items),), bool, which items take part in this episode.
        instructions: class name of a part -> all phrasings that ask for it.
        unseen_instructions: the same for the suite `instruction`: other words, never used in
            training.
        named: class name that this episode's instruction names.
        named_body: the body to pick up (where several fit, the one to take first); `reset` and
            `recall` set it.
        grip_m: width of the named part where the hand holds it.
        moves: whether `before_substep` has anything to do.
        levels: those of "easy", "nominal" and "hard" that it has.
        level: the one in use; `set_level` sets it.
        displaces: whether `free_spots` can move the named part during an episode.
        teleports: whether `grasp_pose` and `release_pose` allow starts in the middle of the task.
        part_scales: lowest and highest factor on the size of parts for the suite `objects`; (1, 1)
            where it has none.
        part_scale: the factor in use, read by `build`.
    """

    max_episode_steps: int
    robots: tuple[str, ...] = ("panda",)
    ground: Ground = TABLE
    frozen_axes: tuple[int, ...] = ()
    workspace: Array
    start_low: Array
    start_high: Array
    cameras: tuple[Camera, ...]
    items: tuple[Item, ...]
    bodies: tuple[int, ...] = ()
    present: npt.NDArray[np.bool_]
    instructions: Words
    unseen_instructions: Words = MappingProxyType({})
    named: str
    named_body: int = -1
    grip_m: float = 0.0
    moves: bool = False
    levels: tuple[str, ...] = ("nominal",)
    level: str = "nominal"
    displaces: bool = False
    teleports: bool = False
    part_scales: tuple[float, float] = (1.0, 1.0)
    part_scale: float = 1.0

    def set_level(self, level: str) -> None:
        """Change to one of `levels`; takes effect with the next `build` and `reset`."""
        self.level = level

    def offer(self, items: tuple[Item, ...], words: Words, unseen: Words) -> None:
        """Take `items`, all present, and of the phrasings, usual and unseen, those that ask for their parts."""
        self.items = items
        self.present = np.ones(len(items), dtype=bool)
        names = [item.name for item in items if not item.is_goal]
        self.instructions = {name: words[name] for name in names}
        self.unseen_instructions = {name: unseen[name] for name in names}

    def make_robot(self, world: World, name: str) -> Any:  # noqa: ANN401  # any Robot; a task knows which it made
        """Make one of `robots` in a new world: an arm with its base at the origin, if not overridden."""
        post = Post(self.workspace, self.start_low, self.start_high, self.frozen_axes)
        return Arm(world, ARMS[name], post)

    def start(self, robot: Robot, rng: np.random.Generator) -> None:
        """Put the robot where an episode starts; called before `reset`."""
        robot.start(rng)

    @abstractmethod
    def build(self, world: World) -> None:
        """Add the bodies to a new or cleared world; must always do the same at a level.

        Every episode finds them where this leaves them, at rest; what else an episode changes,
        `reset` must undo.
        """

    @abstractmethod
    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Place every body for a new episode and choose the named part. All randomness must come from `rng`."""

    def free_spots(
        self, world: World, low_m: float, high_m: float, rng: np.random.Generator
    ) -> list[Array]:
        """List places (position, quaternion; shape (7,)) `low_m` to `high_m` away where the named part fits."""
        return []

    def before_substep(self, world: World) -> None:  # noqa: B027  # most cells have nothing to do
        """Act on the world 240 times a second (conveyors); called only where `moves` is True."""

    @abstractmethod
    def judge(self, world: World, robot: Any) -> Verdict:  # noqa: ANN401  # what make_robot made
        """Judge the state after a control step, from what `world` and `robot` have read."""

    def grasp_pose(self, world: World) -> ToolPose:
        """Return the tool pose that grips the named part where it lies; of use where `teleports` is True."""
        raise NotImplementedError

    def release_pose(self, world: World) -> ToolPose:
        """Return the tool pose at which the held named part is let go; of use where `teleports` is True."""
        raise NotImplementedError

    @abstractmethod
    def memory(self) -> Array:
        """Return what the task remembers, `named` included: float64, always of the same length."""

    @abstractmethod
    def recall(self, memory: Array) -> None:
        """Come back to a `memory`."""
