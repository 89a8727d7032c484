"""Cardboard boxes: bodies that stand on each other without creeping, and when one is lost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.kinematics import uprightness
from shopfloor.envs.physics.shapes import Shape, box_inertia
from shopfloor.envs.physics.world import World
from shopfloor.envs.robots.arm import Arm
from shopfloor.envs.task import Item, Progress, Streak, Verdict

UPRIGHT_COSINE = 0.96  # the cup seals within 16 degrees
SLOW_M_S = 0.02  # slower than that a box is left
_INERTIA_SCALE = 3.0
_OFF_TABLE_M = -0.02


@dataclass
class StackProgress(Progress):
    """How far an episode with boxes is.

    Attributes:
        lost: steps for which a box has been lost.
    """

    lost: Streak = field(default_factory=Streak)

    def verdict(self, robot: Arm, losses: Iterable[str], *, done: bool) -> Verdict:
        """Count a step with a lost box and return how the episode stands, success aside.

        Args:
            robot: the arm with the cup.
            losses: per box why it is lost, or "".
            done: whether all boxes are where they belong.
        """
        reason = next((loss for loss in losses if loss), "")
        failure = reason if self.lost.count(bool(reason)) else ""
        if self.wrong.full:
            failure = "wrong_part"

        if done:
            return Verdict("release", failure=failure)
        if robot.holding >= 0:
            return Verdict("carry", failure=failure)
        return Verdict("grasp" if robot.gripper > 0.0 else "approach", failure=failure)


def add_carton(world: World, item: Item, mass_kg: float, *, anchored: bool) -> int:
    """Add a box and return its body.

    Boxes that stand on boxes creep. Measured on three layers of two in 10 s: by 6 mm, with anchors
    of friction by 0.2 mm. Anchors stop a belt from carrying boxes; where there is one, three times
    the inertia helps almost as much (two layers: 0.9 mm in 15 s). Friction against spinning and
    rolling is for parts that touch at a point; boxes need none, and it costs a quarter of the time.

    Args:
        world: where to.
        item: its size and colour.
        mass_kg: its mass.
        anchored: whether it has anchors of friction.
    """
    body = world.add([Shape("box", item.size)], [(*item.rgb, 1.0)], mass_kg)
    pybullet.changeDynamics(
        body,
        -1,
        localInertiaDiagonal=box_inertia(item.size, mass_kg, 1.0 if anchored else _INERTIA_SCALE),
        frictionAnchor=int(anchored),
        spinningFriction=0.0,
        rollingFriction=0.0,
        physicsClientId=world.client,
    )

    return body


def pallet(size: tuple[float, float, float], deck_m: float, runner_y_m: float) -> list[Shape]:
    """Return a pallet that stands on z = 0 of the body: a deck on three runners along x.

    Args:
        size: full extents, m.
        deck_m: thickness of the deck.
        runner_y_m: from the middle runner to the outer ones.
    """
    x, y, height = size
    feet = height - deck_m
    deck = Shape("box", (x, y, deck_m), (0.0, 0.0, feet + deck_m / 2))
    runners = [
        Shape("box", (x, 0.02, feet), (0.0, side * runner_y_m, feet / 2)) for side in (-1, 0, 1)
    ]
    return [deck, *runners]


def upright(pose: Sequence[float]) -> bool:
    """Return whether a box stands flat, whichever side is up."""
    return abs(uprightness(pose)) > UPRIGHT_COSINE


def lost_carton(box: Sequence[float], robot: Arm, *, wanted: bool = True) -> str:
    """Return why a box that the cup does not hold is lost for good, or "".

    Args:
        box: its row of `World.rows`.
        robot: the arm with the cup.
        wanted: whether the arm must be able to take it.
    """
    if box[2] < _OFF_TABLE_M:
        return "dropped"
    if math.hypot(*box[7:10]) > SLOW_M_S:
        return ""

    if not upright(box):
        return "dropped"
    return "out_of_reach" if wanted and not robot.reaches(box[0], box[1]) else ""
