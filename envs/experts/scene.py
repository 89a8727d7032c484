"""What a scripted expert sees and how it plans: an observation unpacked, with a model to look a few steps ahead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from shopfloor.envs.physics.kinematics import in_frame
from shopfloor.envs.robots.hand import CUP_GAP_M, MAX_OPENING_M
from shopfloor.envs.robots.protocol import FULL_SCALE_M, FULL_SCALE_RAD

FOLLOW = 0.9  # share of its lag that the tool makes up in one control step
FINGER_STEP_M = 0.02
QUARTER_TURN = 0.5 * math.pi  # what is square looks the same after it

Vector = tuple[float, float, float]
Decision = list[float]


@dataclass
class Thing:
    """A part or a goal as an expert sees it.

    Attributes:
        name: class name.
        position: m, base frame.
        quaternion: x, y, z, w.
        size: full extents, m.
        is_goal: whether parts go there.
    """

    name: str
    position: list[float]
    quaternion: list[float]
    size: list[float]
    is_goal: bool

    def axis(self, index: int) -> Vector:
        """Return the direction of an own axis (0 x, 1 y, 2 z) in the base frame."""
        x, y, z, w = self.quaternion
        if index == 0:
            return 1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)
        if index == 1:
            return 2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w)
        return 2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)

    @property
    def yaw(self) -> float:
        """Angle of the own x axis about the vertical, rad."""
        x, y, _ = self.axis(0)
        return math.atan2(y, x)

    def local(self, position: Sequence[float]) -> tuple[float, float]:
        """Return x and y, m, of a position in the own frame, of something that stands upright."""
        return in_frame(position, (*self.position, *self.quaternion))

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return x and y, m, in the base frame of a place in the own frame; the inverse of `local`."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return self.position[0] + c * x - s * y, self.position[1] + s * x + c * y

    @property
    def height(self) -> float:
        """Vertical extent, m (a box's; near enough for a cylinder)."""
        return sum(abs(self.axis(index)[2]) * self.size[index] for index in range(3))


@dataclass
class Scene:
    """An observation unpacked for decisions, with a model to look a few steps ahead.

    Attributes:
        tool: measured tool position, m.
        yaw: measured tool yaw, rad.
        target: commanded tool position, m.
        target_yaw: commanded tool yaw, rad.
        opening: between the fingers, m.
        closing: whether the last gripper command was to close.
        part: the named part nearest to the tool.
        things: everything that is present.
        rest: entries of the state observation after the first arm's.
        cup: whether the hand is a suction cup; `opening` is then 1 while it holds nothing, else 0.
    """

    tool: list[float]
    yaw: float
    target: list[float]
    target_yaw: float
    opening: float
    closing: bool
    part: Thing
    things: list[Thing]
    rest: list[float] = field(default_factory=list)
    cup: bool = False

    @classmethod
    def of_arm(
        cls,
        tail: Sequence[float],
        part: Thing,
        things: list[Thing],
        rest: Sequence[float] = (),
        *,
        cup: bool = False,
    ) -> Scene:
        """Unpack an arm's state.

        Args:
            tail: what follows the joints in the state, see `shopfloor.envs.robots.arm.TAIL_NAMES`.
            part: the named part.
            things: everything that is present.
            rest: entries of the state observation after the first arm's.
            cup: whether the hand is a suction cup.
        """
        yaw = 2.0 * math.atan2(tail[5], tail[6])
        return cls(
            tool=list(tail[:3]),
            yaw=yaw,
            target=[tail[axis] + tail[8 + axis] for axis in range(3)],
            target_yaw=yaw + tail[13],
            opening=tail[7],
            closing=tail[14] > 0.0,
            part=part,
            things=things,
            rest=list(rest),
            cup=cup,
        )

    @property
    def gap(self) -> float:
        """Distance from the tool to the part's centre, m."""
        return math.dist(self.tool, self.part.position)

    def others(self) -> list[Thing]:
        """Return the parts that are not named."""
        return [thing for thing in self.things if not thing.is_goal and thing is not self.part]

    def goal(self, name: str | None = None) -> Thing:
        """Return the goal, or the goal of that class name."""
        return next(thing for thing in self.things if thing.is_goal and name in (None, thing.name))

    def off(self, goal: Thing) -> tuple[float, float]:
        """Return x and y, m, of the way from the named part to a goal."""
        part, place = self.part.position, goal.position
        return place[0] - part[0], place[1] - part[1]

    def grips(self, width: float, reach: float = 0.025) -> bool:
        """Return whether the fingers hold the part, `width` m wide where they touch it."""
        return self.closing and self.opening < width + 0.006 and self.gap < reach

    def servo(self, position: Vector, yaw: float, close: bool, speed: float = 1.0) -> Decision:
        """Return the action that brings the target towards a pose, straight and saturated.

        Args:
            position: wanted tool position, m.
            yaw: wanted tool yaw, rad.
            close: gripper command.
            speed: largest step, in full scales.
        """
        move = [(position[axis] - self.target[axis]) / FULL_SCALE_M for axis in range(3)]
        longest = max(speed, *(abs(step) for step in move))
        turn = max(-1.0, min(1.0, (yaw - self.target_yaw) / FULL_SCALE_RAD))
        return [*(step * speed / longest for step in move), 0.0, 0.0, turn, 1.0 if close else -1.0]

    def advance(self, action: Decision, width: float) -> None:
        """Move the model by one action; `width` is the part's where the fingers touch it, m."""
        held = self.closing and self.opening < 0.5 if self.cup else self.grips(width)
        between = self.gap < 0.03
        before, before_yaw = list(self.tool), self.yaw

        for axis in range(3):
            self.target[axis] += action[axis] * FULL_SCALE_M
            self.tool[axis] += FOLLOW * (self.target[axis] - self.tool[axis])

        self.target_yaw += action[5] * FULL_SCALE_RAD
        self.yaw += FOLLOW * (self.target_yaw - self.yaw)
        self.closing = action[6] > 0.0

        if self.cup:
            self.opening = 0.0 if self.closing and (held or self._before_cup()) else 1.0
        elif self.closing:
            self.opening = max(width if between else 0.0, self.opening - FINGER_STEP_M)
        else:
            self.opening = min(MAX_OPENING_M, self.opening + FINGER_STEP_M)

        if held and self.closing:
            for axis in range(3):
                self.part.position[axis] += self.tool[axis] - before[axis]
            _, _, qz, qw = self.part.quaternion
            half = 0.5 * (self.yaw - before_yaw)
            s, c = math.sin(half), math.cos(half)
            qx, qy = self.part.quaternion[:2]

            self.part.quaternion = [
                c * qx - s * qy,
                c * qy + s * qx,
                c * qz + s * qw,
                c * qw - s * qz,
            ]

    def _before_cup(self) -> bool:
        """Return whether the cup's mouth is at the top of the part."""
        x, y, z = (self.tool[axis] - self.part.position[axis] for axis in range(3))
        return (
            math.hypot(x, y) < 0.5 * min(self.part.size)
            and abs(z - 0.5 * self.part.height) < CUP_GAP_M
        )


def wrap(angle: float, period: float) -> float:
    """Return the angle's representative in [-period / 2, period / 2)."""
    return (angle + 0.5 * period) % period - 0.5 * period


def grasp_yaw(part: Thing, tool_yaw: float, max_width: float = 0.05) -> tuple[float, float]:
    """Choose how to turn the tool to grip a part from above, however it lies.

    Args:
        part: boxes, and cylinders whose diameter equals their height.
        tool_yaw: the nearest of equal turns is taken.
        max_width: widest grip, m.

    Returns:
        The tool's yaw (rad) and the part's width between the fingers (m).
    """
    flat = sorted(range(3), key=lambda index: abs(part.axis(index)[2]))[:2]
    options = []
    for index in flat:
        x, y, _ = part.axis(index)
        turn = wrap(math.atan2(y, x) - 0.5 * math.pi - tool_yaw, math.pi)
        options.append((part.size[index] > max_width, abs(turn), turn, part.size[index]))

    _, _, turn, width = min(options)
    return tool_yaw + turn, width
