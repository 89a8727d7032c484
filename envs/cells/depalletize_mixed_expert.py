"""The expert of DepalletizeMixed: one decision per step, from what can be seen at that step alone.

It takes the named boxes from the top down. Where another box stands on a named one, that goes to
the mat first.
"""

from __future__ import annotations

import math

from shopfloor.envs.cells.depalletize_mixed import CONVEYOR, MAT, DepalletizeMixed
from shopfloor.envs.experts.moves.cup import held, leave, pick, put, top
from shopfloor.envs.experts.scene import Decision, Scene, Thing, Vector
from shopfloor.envs.record import CellRecord

PLACE_M = 0.07  # from the start of the belt to where boxes are put down
ROOM_M = 0.02  # along the belt between a box put down and the one before
ON_TOP_M = 0.012  # off the top of what a box stands on
SPOTS_M = (0.065, -0.065)  # on the mat, from its middle


def decide(scene: Scene) -> tuple[Decision, float]:
    """Return the action and the width of a box, m."""
    name, carried = scene.part.name, held(scene)
    belt, mat = scene.goal(CONVEYOR.name), scene.goal(MAT.name)
    boxes = [thing for thing in scene.things if not thing.is_goal]

    if carried is not None:
        scene.part = carried
        lying = [box for box in boxes if box is not carried]
        wanted = carried.name == name
        place = _on_belt(belt, carried) if wanted else _on_mat(mat, carried, lying)
        wait = wanted and _taken(place, carried, lying)
        return put(scene, carried, place, 0.0, wait=wait), carried.size[1]

    todo = [box for box in boxes if box.name == name and not rides(belt, box)]
    if not todo:
        return leave(scene), scene.part.size[1]

    free = [box for box in todo if not _above(box, boxes)]
    scene.part = max(free or todo, key=lambda box: (round(top(box)[2], 2), -box.position[1]))
    if not free:
        scene.part = max(_above(scene.part, boxes), key=lambda box: box.position[2])
    return pick(scene, scene.part), scene.part.size[1]


def rides(belt: Thing, box: Thing) -> bool:
    """Return whether a box is on the belt."""
    across, along = (abs(box.position[axis] - belt.position[axis]) for axis in range(2))
    inside = across < 0.5 * belt.size[0] and along < 0.5 * belt.size[1]
    return inside and box.position[2] - 0.5 * box.height < top(belt)[2] + ON_TOP_M


def _on_belt(belt: Thing, box: Thing) -> Vector:
    """Return where the middle of a box goes: on the start of the belt, which runs against y."""
    x, y, _ = belt.position
    return x, y + 0.5 * belt.size[1] - PLACE_M, top(belt)[2] + 0.5 * box.size[2]


def _taken(place: Vector, box: Thing, others: list[Thing]) -> bool:
    """Return whether another box is still where this one is to be put down."""
    near = 0.5 * box.size[1] + ROOM_M
    return any(
        math.hypot(other.position[0] - place[0], other.position[1] - place[1])
        < near + 0.5 * max(other.size[:2])
        for other in others
    )


def _on_mat(mat: Thing, box: Thing, others: list[Thing]) -> Vector:
    """Return where the middle of a box goes on the mat: where there is most room."""
    x, y, _ = mat.position
    z = top(mat)[2] + 0.5 * box.size[2]

    def room(spot: float) -> float:
        return min(
            (math.hypot(x - other.position[0], y + spot - other.position[1]) for other in others),
            default=1.0,
        )

    # A spot with room enough stays the choice while others are no worse.
    return x, y + max(SPOTS_M, key=lambda spot: min(0.11, room(spot))), z


def _above(box: Thing, boxes: list[Thing]) -> list[Thing]:
    """Return the boxes that stand on another, directly or on each other."""
    x, y, z = box.position
    return [
        other
        for other in boxes
        if other is not box
        and other.position[2] > z + 0.3 * box.size[2]
        and abs(other.position[0] - x) < 0.5 * box.size[0]
        and abs(other.position[1] - y) < 0.5 * box.size[1]
    ]


CELL = CellRecord(
    "shopfloor/DepalletizeMixed-v0",
    DepalletizeMixed,
    version="1",
    decide=decide,
    cup=True,
    does=(
        "the boxes of the named colour from a mixed stack onto a running conveyor; a suction cup"
    ),
    done_when="all of them, and no others, have passed the line upright",
)
