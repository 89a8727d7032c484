"""How experts with a suction cup move: to the top of a box, with a box to a place, and away."""

from __future__ import annotations

import math
from collections.abc import Iterable

from shopfloor.envs.experts.scene import Decision, Scene, Thing, Vector, wrap

ABOVE_M = 0.025  # between what moves and what it moves over
NEAR_M = 0.06  # how far beside the way things count as being on it, besides their own extent
ON_TOP_M, TOUCH_M = (
    0.006,
    0.012,
)  # off the middle of a box to come down; above its top to start sucking
IN_PLACE_M, DOWN_M, LAST_M = (
    0.002,
    0.0025,
    0.02,
)  # off the place: to come down, above it to let go, to go slowly
BESIDE_M, SLOW = 0.05, 0.5  # above its place a box comes down beside others: slowly, in full scales
TURN_ARM_M = 0.04  # makes a turn a distance
WAIT_M = 0.03  # further above what passes below
STEEP = 12.0  # how much higher than its place a box stays, per distance from it
TURNS = (
    -1.7,
    3.0,
)  # of the tool against the direction of its place, rad: the Panda's last joint stays off its limits


def top(thing: Thing) -> Vector:
    """Return the middle of a box's upper side, m."""
    x, y, z = thing.position
    return x, y, z + 0.5 * thing.height


def held(scene: Scene) -> Thing | None:
    """Return what the cup holds."""
    if scene.opening > 0.5:
        return None
    parts = (thing for thing in scene.things if not thing.is_goal)
    return min(parts, key=lambda thing: math.dist(top(thing), scene.tool))


def reach(thing: Thing) -> float:
    """Return the radius of a circle around a thing, seen from above, m."""
    return 0.5 * math.hypot(*sorted(thing.size)[1:])


def off_way(
    point: Vector | list[float], start: Vector | list[float], end: Vector | list[float]
) -> float:
    """Return how far a point is from the way between two others, seen from above, m."""
    x, y = end[0] - start[0], end[1] - start[1]
    squared = x * x + y * y
    along = (
        ((point[0] - start[0]) * x + (point[1] - start[1]) * y) / squared if squared > 0.0 else 0.0
    )
    along = min(1.0, max(0.0, along))
    return math.hypot(point[0] - start[0] - along * x, point[1] - start[1] - along * y)


def clear_height(
    things: Iterable[Thing], start: list[float], end: Vector | list[float], radius: float
) -> float:
    """Return the height of the highest thing in the way of something of that radius, m."""
    on_way = (
        thing for thing in things if off_way(thing.position, start, end) < radius + reach(thing)
    )
    return max((top(thing)[2] for thing in on_way), default=0.0)


def pick(scene: Scene, part: Thing) -> Decision:
    """Rise, go over a box, come down on the middle of its upper side and suck."""
    x, y, z = top(part)
    distance = math.hypot(scene.tool[0] - x, scene.tool[1] - y)
    height = scene.tool[2] - z
    suck = distance < ON_TOP_M and height < TOUCH_M
    low = clear_height(scene.things, scene.tool, part.position, NEAR_M) + ABOVE_M

    if distance < 0.03:
        goal_z = z + min(low - z, 4.0 * max(0.0, distance - 0.6 * ON_TOP_M))
        free = 1.0
    else:
        goal_z = low
        free = min(1.0, max(0.0, (scene.tool[2] - low + ABOVE_M) / (0.8 * ABOVE_M)))

    x, y = (tool + free * (goal - tool) for tool, goal in zip(scene.tool[:2], (x, y), strict=True))
    # The last bit slowly: what is pushed moves away.
    speed = SLOW if distance < ON_TOP_M and height < LAST_M else 1.0
    return scene.servo((x, y, goal_z - (0.001 if suck else 0.0)), 0.0, close=suck, speed=speed)


def put(scene: Scene, part: Thing, place: Vector, yaw: float, *, wait: bool = False) -> Decision:
    """Lift the held box, carry it over everything on its way, line it up above its place, come down and let go.

    Args:
        scene: what is seen.
        part: the held box.
        place: where its middle goes, m.
        yaw: of the box there, rad; half a turn makes no difference.
        wait: whether to stay above the place.
    """
    off = [place[axis] - part.position[axis] for axis in range(3)]
    turn = wrap(yaw - part.yaw, math.pi)
    ahead = scene.yaw + turn - math.atan2(place[1], place[0])
    if not TURNS[0] < ahead < TURNS[1]:
        turn += math.pi if ahead < TURNS[0] else -math.pi
    distance = math.hypot(off[0], off[1])
    astray = distance + TURN_ARM_M * abs(turn)
    above = part.position[2] - place[2]
    if astray < 1.5 * IN_PLACE_M and above < DOWN_M and not wait:
        return leave(scene)

    others = [thing for thing in scene.things if thing is not part]
    low = clear_height(others, part.position, place, reach(part) + 0.3 * NEAR_M)
    low = max(low + 0.5 * part.height + ABOVE_M, place[2] + 0.01)  # of the box's middle, on its way

    if distance < LAST_M and not wait:
        middle = place[2] + min(low - place[2], STEEP * max(0.0, astray - IN_PLACE_M))
        free = 1.0
    else:
        middle = low + (WAIT_M if wait else 0.0)
        free = min(1.0, max(0.0, (part.position[2] - low + ABOVE_M) / (0.8 * ABOVE_M)))

    x, y = (scene.tool[axis] + free * off[axis] for axis in range(2))
    speed = SLOW if distance < LAST_M and above < BESIDE_M else 1.0
    z = scene.tool[2] + middle - part.position[2] - 0.001
    return scene.servo((x, y, z), scene.yaw + turn, close=True, speed=speed)


def leave(scene: Scene) -> Decision:
    """Let go and rise."""
    x, y, z = scene.target
    free = scene.opening > 0.5
    return scene.servo((x, y, z + (0.05 if free else 0.0)), scene.target_yaw, close=False)
