"""The expert of Palletize: one decision per step; which place is next follows from where the boxes are seen to be.

Places are filled layer by layer. A box that lies wrong on the pallet is taken off first, the
highest one before others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from shopfloor.envs.experts.moves.cup import held, leave, pick, put
from shopfloor.envs.experts.scene import Decision, Scene, Thing, Vector, wrap

VERSION = "1"

GAP_M = 0.004  # between boxes of a layer
PER_LAYER = 2
# Where boxes lie ready: middles of the fields of the infeed table.
FIELDS_X_M, FIELDS_Y_M = (0.36, 0.505, 0.65), (-0.28, -0.18, -0.08, 0.02)
FIELD_Z_M = 0.012
NEAR_M, NEAR_RAD = 0.006, math.radians(4.0)  # a box in its place: off it and off its yaw
LEVEL_M = 0.006
LEFT_M = 0.06  # from a field's middle: it is taken


class Slot(NamedTuple):
    """A place on the pallet: where a box's middle goes, m, and its yaw, rad."""

    position: Vector
    yaw: float


def slots(pallet: Thing, size: list[float], layers: int) -> list[list[Slot]]:
    """Return the places of each layer; each layer lies across the one below.

    Args:
        pallet: position at the middle of its underside.
        size: of a box, full extents, m.
        layers: how many.
    """
    yaw, (x, y, z) = pallet.yaw, pallet.position
    shift = 0.5 * (size[1] + GAP_M)
    found = []

    for layer in range(layers):
        turned = yaw + 0.5 * math.pi * (layer % 2)
        height = z + pallet.size[2] + (layer + 0.5) * size[2]
        across = (-math.sin(turned) * shift, math.cos(turned) * shift)
        found.append(
            [Slot((x + side * across[0], y + side * across[1], height), turned) for side in (-1, 1)]
        )

    return found


def decide(scene: Scene) -> tuple[Decision, float]:
    """Return the action and the width of a box, m."""
    carried, pallet = held(scene), scene.goal()
    named = [thing for thing in scene.things if thing.name == scene.part.name]
    size = named[0].size
    layers = slots(pallet, size, len(named) // PER_LAYER)
    lying = [thing for thing in scene.things if not thing.is_goal and thing is not carried]
    free, placed = _free(layers, [thing for thing in lying if thing.name == scene.part.name])
    width = size[1]

    if carried is not None:
        ours = carried.name == scene.part.name
        scene.part = carried
        open_slots = [
            slot for slot in free if not any(_covers(slot, thing, size) for thing in lying)
        ]
        if ours and open_slots:
            slot = min(open_slots, key=lambda one: math.dist(one.position, carried.position))
            return put(scene, carried, slot.position, slot.yaw), width

        spot = next(_fields(lying, 0.5 * size[2]), None)
        return (put(scene, carried, spot, 0.0) if spot else leave(scene)), width

    todo = [thing for thing in named if thing not in placed]
    if not todo:
        return leave(scene), width

    scene.part = min(todo, key=lambda thing: _turn(thing, pallet))
    return pick(scene, scene.part), width


def _free(layers: list[list[Slot]], boxes: list[Thing]) -> tuple[list[Slot], list[Thing]]:
    """Return the places still free in the lowest layer that has any, and the boxes that lie in their places."""
    placed: list[Thing] = []
    for layer in layers:
        inside = [next((box for box in boxes if in_slot(slot, box)), None) for slot in layer]
        placed += [box for box in inside if box is not None]
        free = [slot for slot, box in zip(layer, inside, strict=True) if box is None]
        if free:
            return free, placed
    return [], placed


def in_slot(slot: Slot, box: Thing) -> bool:
    """Return whether a box lies in a place."""
    x, y, z = (box.position[axis] - slot.position[axis] for axis in range(3))
    turned = abs(wrap(box.yaw - slot.yaw, math.pi)) < NEAR_RAD
    return math.hypot(x, y) < NEAR_M and abs(z) < LEVEL_M and turned


def _covers(slot: Slot, box: Thing, size: list[float]) -> bool:
    """Return whether a box leaves no room in a place or above it."""
    x, y, z = (box.position[axis] - slot.position[axis] for axis in range(3))
    c, s = math.cos(slot.yaw), math.sin(slot.yaw)
    along, across = abs(c * x + s * y), abs(c * y - s * x)
    return z > -0.5 * size[2] and along < size[0] and across < size[1]


def _fields(boxes: list[Thing], half_m: float) -> Iterator[Vector]:
    """List the middles of free fields of the infeed table at the height of a box's middle, the nearest ones last."""
    for x in FIELDS_X_M:
        for y in FIELDS_Y_M:
            if all(
                math.hypot(x - box.position[0], y - box.position[1]) > LEFT_M + 0.04
                for box in boxes
            ):
                yield x, y, FIELD_Z_M + half_m


def _turn(box: Thing, pallet: Thing) -> tuple[float, float]:
    """Return when a box's turn is: what lies wrong on the pallet first, from the top; then those nearest to it."""
    distance = math.hypot(
        box.position[0] - pallet.position[0], box.position[1] - pallet.position[1]
    )
    on_pallet = distance < 0.5 * math.hypot(*pallet.size[:2]) and box.position[2] > pallet.size[2]
    return (-box.position[2] if on_pallet else 0.0), distance
