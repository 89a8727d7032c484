"""What a work cell asks for: the parts, where an episode puts them, and when the task is done or lost."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.envs.looks.camera import Camera
from shopfloor.envs.physics.kinematics import yaw_of, yaw_quaternion
from shopfloor.envs.physics.scatter import Corner, spots_near
from shopfloor.envs.physics.shapes import TABLE, Ground
from shopfloor.envs.physics.world import World
from shopfloor.envs.progress import HOLD_STEPS, Memory, Progress, Streak
from shopfloor.envs.robots.arm import Arm, Post
from shopfloor.envs.robots.models import ArmModel, RobotModel
from shopfloor.envs.robots.protocol import Robot
from shopfloor.envs.robots.table import robot_model

Array = npt.NDArray[np.float64]
Words = Mapping[str, tuple[str, ...]]

__all__ = [
    "DONE",
    "HOLD_STEPS",
    "REST_M_S",
    "Array",
    "Item",
    "Level",
    "Memory",
    "Progress",
    "Streak",
    "Task",
    "ToolPose",
    "Verdict",
    "Wording",
    "by_level",
]

REST_M_S = 0.005
_SLOW_M_S = 0.02  # slower than that, a part that nobody holds stays where it is
_OFF_TABLE_M = -0.02


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

    @classmethod
    def above(cls, pose: Array, up_m: float) -> ToolPose:
        """Return the pose of a tool above a body, turned as it is.

        Args:
            pose: shape (7,), position and quaternion of the body.
            up_m: from the body's middle to the tool.
        """
        return cls(pose[:3] + np.array([0.0, 0.0, up_m]), yaw_of(pose))


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


DONE = Verdict("done", success=True)


@dataclass(frozen=True)
class Wording:
    """All texts that ask for a cell's parts.

    Attributes:
        usual: class name of a part -> all phrasings that ask for it.
        unseen: the same for the suite `instruction`: other words, never used in training.
    """

    usual: Words = field(default_factory=dict)
    unseen: Words = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        names: Iterable[str] | Mapping[str, str],
        usual: Sequence[str],
        unseen: Sequence[str],
    ) -> Wording:
        """Fill each name into texts with a {} in the place of the name.

        Args:
            names: class names of parts, each with the name of its goal where texts have a second {}.
            usual: texts of `usual`.
            unseen: texts of `unseen`.
        """
        goal_of = names if isinstance(names, Mapping) else dict.fromkeys(names, "")

        def filled(texts: Sequence[str]) -> Words:
            return {
                name: tuple(text.format(name, goal) for text in texts)
                for name, goal in goal_of.items()
            }

        return cls(filled(usual), filled(unseen))

    def only(self, names: Collection[str]) -> Wording:
        """Return the part of it that asks for some of the names."""
        return Wording(
            {name: texts for name, texts in self.usual.items() if name in names},
            {name: texts for name, texts in self.unseen.items() if name in names},
        )


@dataclass(frozen=True, kw_only=True)
class Level:
    """What a level of difficulty asks for; a cell derives its own.

    Attributes:
        max_steps: control steps after which an episode is cut off; None for the cell's usual number.
    """

    max_steps: int | None = None


def by_level(**jobs: Level) -> Mapping[str, Level]:
    """Return a task's `jobs`, given what each of its levels asks for: easy=, nominal=, hard=."""
    return MappingProxyType(jobs)


class Task(ABC):
    """One job. A task holds the state of the current episode; `WorkCell` owns it and calls it in a fixed order.

    A cell sets `post`, `cameras`, `wording`, `jobs` and what departs from the defaults, lists its
    items, and fills in the abstract methods; the others have defaults that fit a job at a table.

    Attributes:
        max_episode_steps: control steps after which an episode is cut off.
        robots: names of the robots that can do the job, the usual one first.
        ground: what everything stands on.
        post: where an arm stands and where its tool may go and starts; None without an arm at a table.
        cameras: views of this cell.
        wording: the texts that ask for its parts.
        jobs: what each level asks for, one entry for each level that it has.
        job: that of the level in use.
        level: the one in use; `set_level` sets it.
        levels: those of "easy", "nominal" and "hard" that it has.
        items: one per object row, in a fixed order.
        bodies: PyBullet body per item, filled by `build`.
        present: shape (len(items),), bool, which items take part in this episode.
        instructions, unseen_instructions: those of the `wording` that ask for parts of this level.
        remembers: kind of `progress`.
        progress: what it remembers of this episode.
        named: class name that this episode's instruction names.
        named_body: the body to pick up (where several fit, the one to take first).
        grip_m: width of the named part where the hand holds it.
        moves: whether `before_substep` has anything to do.
        displaces: whether `free_spots` can move the named part during an episode.
        teleports: whether `grasp_pose` and `release_pose` allow starts in the middle of the task.
        part_scales: lowest and highest factor on the size of parts for the suite `objects`; (1, 1)
            where it has none.
        part_scale: the factor in use.
    """

    max_episode_steps: int
    robots: tuple[str, ...] = ("panda",)
    ground: Ground = TABLE
    cameras: tuple[Camera, ...]
    wording: Wording = Wording()
    jobs: Mapping[str, Level] = MappingProxyType({})
    job: Any
    level: str = "nominal"
    levels: tuple[str, ...] = ("nominal",)
    items: tuple[Item, ...]
    bodies: tuple[int, ...] = ()
    present: npt.NDArray[np.bool_]
    instructions: Words
    unseen_instructions: Words = MappingProxyType({})
    remembers: type[Memory] = Progress
    progress: Any
    named: str
    named_body: int = -1
    grip_m: float = 0.0
    moves: bool = False
    displaces: bool = False
    teleports: bool = False
    part_scales: tuple[float, float] = (1.0, 1.0)
    part_scale: float = 1.0

    def __init__(self) -> None:
        """Start at the level `nominal`, with nothing built."""
        self.progress = self.remembers()
        self.levels = tuple(self.jobs)
        self.set_level("nominal")

    @property
    def post(self) -> Post | None:
        """Where the arm stands; tasks of earlier releases have its four values as attributes of their own."""
        if not hasattr(self, "workspace"):
            return None
        frozen: tuple[int, ...] = getattr(self, "frozen_axes", ())
        return Post(self.workspace, self.start_low, self.start_high, frozen)  # type: ignore[attr-defined]

    def set_level(self, level: str) -> None:
        """Change to one of `levels`; takes effect with the next `build` and `reset`."""
        self.level = level
        if not self.jobs:
            return

        self.job = self.jobs[level]
        self.max_episode_steps = self.job.max_steps or type(self).max_episode_steps
        self.items = self.list_items()
        self.present = np.ones(len(self.items), dtype=bool)
        wording = self.wording.only({item.name for item in self.items})
        self.instructions, self.unseen_instructions = wording.usual, wording.unseen

    def scale_parts(self, factor: float) -> None:
        """Change the size of the parts; takes effect with the next `build`."""
        self.part_scale = factor
        if self.jobs:
            self.items = self.list_items()

    def list_items(self) -> tuple[Item, ...]:
        """Return parts and goals as `job` asks for them, parts in the size that `part_scale` asks for."""
        return self.items

    def make_robot(self, world: World, name: str) -> Any:  # noqa: ANN401  # any Robot; a task knows which it made
        """Make a robot in a new world: an arm that stands where `post` says, if not overridden.

        Args:
            world: where it works.
            name: one of `robots`, or of another package's robots that the task `takes`.
        """
        model = robot_model(name)
        assert isinstance(model, ArmModel), "a task that has no arm makes its robots itself"
        assert self.post is not None, "a task without a post makes its robots itself"
        return Arm(world, model, self.post)

    def takes(self, model: RobotModel) -> bool:
        """Return whether a robot of another package that names this cell can do the job.

        Any arm can where `make_robot` is not overridden: a task that makes its robots itself knows
        those of `robots` only, unless it overrides this as well.
        """
        return isinstance(model, ArmModel) and type(self).make_robot is Task.make_robot

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

    def failure(
        self,
        part: Sequence[float],
        robot: Arm,
        *,
        let_go: bool,
        below_m: float = 0.06,
        toppled: bool = False,
    ) -> str:
        """Return why the episode is lost, or "".

        Args:
            part: the named part's row of `World.rows`.
            robot: its arm.
            let_go: whether the tool is clear of the part.
            below_m: a part higher than this may still fall or roll, m.
            toppled: whether the part lies in a way from which no tool can stand it up again.
        """
        left = let_go and part[2] < below_m and math.hypot(*part[7:10]) < _SLOW_M_S
        if part[2] < _OFF_TABLE_M or (left and toppled):
            return "dropped"
        if self.progress.wrong.full:
            return "wrong_part"
        return "out_of_reach" if left and not robot.reaches(part[0], part[1]) else ""

    def begin(self, **first: Any) -> None:  # noqa: ANN401  # fields of `remembers`
        """Start an episode's progress; `reset` calls it first. Fields that are not given start at 0."""
        self.progress = self.remembers(**first)
        self.take_up()

    def lay_out(self, world: World, spots: Sequence[Array], yaws: Array) -> None:
        """Put the first of the parts on the table, upright.

        Args:
            world: where they are.
            spots: places of their middles, each of shape (2,), m.
            yaws: shape (len(spots),), rad.
        """
        places = zip(self.bodies, self.items, spots, yaws.tolist(), strict=False)
        for body, item, (x, y), yaw in places:
            world.place(body, (x, y, 0.5 * item.size[2]), yaw_quaternion(yaw))

    def spots_beside(
        self,
        world: World,
        rectangle: tuple[Corner, Corner],
        way_m: tuple[float, float],
        spacing_m: float,
        rng: np.random.Generator,
    ) -> list[Array]:
        """Draw poses a short way from the named part, clear of all other parts; see `spots_near`."""
        named = self.progress.named
        parts = (row for row, item in enumerate(self.items) if not item.is_goal)
        others = [world.poses[row, :2] for row in parts if row != named]
        return spots_near(world.poses[named], others, rectangle, way_m, spacing_m, rng)

    @property
    def named_row(self) -> int:
        """Row of the named part among the items; of the first one where several fit."""
        row: int = self.progress.named
        return row

    def take_up(self) -> None:
        """Set what follows from `progress`: which part is named, its body, and how wide it is gripped."""
        row = self.named_row
        part = self.items[row]
        self.named, self.named_body, self.grip_m = part.name, self.bodies[row], part.size[1]

    def memory(self) -> Array:
        """Return what the task remembers: float64, always of the same length."""
        row: Array = self.progress.to_row()
        return row

    def recall(self, memory: Array) -> None:
        """Come back to a `memory`."""
        self.progress.set_row(memory)
        self.take_up()
