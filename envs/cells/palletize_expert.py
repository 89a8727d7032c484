"""The expert of Palletize: one decision per step; which place is next follows from where the boxes are seen to be.

Places are filled layer by layer. A box that lies wrong on the pallet is taken off first, the
highest one before others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from shopfloor.envs.cells.palletize import (
    FIELD_Z_M,
    FIELDS_M,
    PER_LAYER,
    Palletize,
    Slot,
    slots_on,
)
from shopfloor.envs.experts.moves.cup import held, leave, pick, put
from shopfloor.envs.experts.scene import Decision, Scene, Thing, Vector
from shopfloor.envs.record import CellRecord

# A box in its place: how far off it sideways, in its turn, and up or down.
NEAR_M, NEAR_RAD, LEVEL_M = 0.006, math.radians(4.0), 0.006
LEFT_M = 0.10  # a field is free when all boxes are that far from its middle


def decide(scene: Scene) -> tuple[Decision, float]:
    """Return the action and the width of a box, m."""
    carried, pallet = held(scene), scene.goal()
    named = [thing for thing in scene.things if thing.name == scene.part.name]
    size = named[0].size
    pose = (*pallet.position, *pallet.quaternion)
    layers = slots_on(pose, pallet.size[2], size, len(named) // PER_LAYER)
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
        inside = [next((box for box in boxes if _in_slot(slot, box)), None) for slot in layer]
        placed += [box for box in inside if box is not None]
        free = [slot for slot, box in zip(layer, inside, strict=True) if box is None]
        if free:
            return free, placed
    return [], placed


def _in_slot(slot: Slot, box: Thing) -> bool:
    aside, height, turn = slot.off(box.position, box.yaw)
    return aside < NEAR_M and height < LEVEL_M and turn < NEAR_RAD


def _covers(slot: Slot, box: Thing, size: list[float]) -> bool:
    """Return whether a box leaves no room in a place or above it."""
    x, y, z = (box.position[axis] - slot.position[axis] for axis in range(3))
    c, s = math.cos(slot.yaw), math.sin(slot.yaw)
    along, across = abs(c * x + s * y), abs(c * y - s * x)
    return z > -0.5 * size[2] and along < size[0] and across < size[1]


def _fields(boxes: list[Thing], half_m: float) -> Iterator[Vector]:
    """List the middles of free fields of the infeed table at the height of a box's middle, the nearest ones last."""
    for x, y in FIELDS_M:
        if all(math.dist((x, y), box.position[:2]) > LEFT_M for box in boxes):
            yield x, y, FIELD_Z_M + half_m


def _turn(box: Thing, pallet: Thing) -> tuple[float, float]:
    """Return when a box's turn is: what lies wrong on the pallet first, from the top; then those nearest to it."""
    distance = math.hypot(
        box.position[0] - pallet.position[0], box.position[1] - pallet.position[1]
    )
    on_pallet = distance < 0.5 * math.hypot(*pallet.size[:2]) and box.position[2] > pallet.size[2]
    return (-box.position[2] if on_pallet else 0.0), distance


CELL = CellRecord(
    "shopfloor/Palletize-v0",
    Palletize,
    version="1",
    decide=decide,
    cup=True,
    does=(
        "all boxes of the named colour onto a pallet, each layer across the one below; a suction "
        "cup"
    ),
    done_when=(
        "every place is filled within 8 mm and 5 degrees, and the stack stands still for 1 s"
    ),
)
