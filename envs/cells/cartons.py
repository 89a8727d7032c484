"""Cardboard boxes: bodies that stand on each other for minutes without creeping."""

from __future__ import annotations

from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.world import Shape, World, box_inertia
from shopfloor.envs.task import Item

_INERTIA_SCALE = 3.0


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
