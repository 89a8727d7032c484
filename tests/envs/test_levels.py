"""Levels: what they change at a start, and that every start is sound."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from cell_episodes import build, play

from shopfloor.core import InvalidInputError
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.variation import LEVELS

NAMES = ("PickToTray", "Kitting", "ConveyorSort", "RingOnShaft", "PegInsertion")
STARTS = 200


@pytest.fixture(scope="module")
def starts():
    """Per cell and level: the poses and the memory of 200 starts, and the cell."""
    found = {}
    cells = []
    for name in NAMES:
        for level in LEVELS:
            cell = build(name, variation=level)
            cells.append(cell)
            found[name, level] = cell, [start(cell, seed) for seed in range(STARTS)]
    yield found
    for cell in cells:
        cell.close()


def start(cell, seed):
    """Reset, and check what must hold of every start."""
    _, info = cell.reset(seed=seed)
    assert not info["success"]
    verdict = cell.task.judge(cell.world, cell.robot)
    assert not verdict.success
    assert not verdict.failure
    assert all(cell.world.overlap_m(body) < 0.0005 for body in cell.task.bodies)
    return cell.world.poses.copy(), cell.task.memory(), cell.task.named


def count(cell):
    return sum(not item.is_goal for item in cell.task.items)


def nearest(starts, parts):
    return min(
        float(np.hypot(*(poses[a, :2] - poses[b, :2])))
        for poses, *_ in starts
        for a, b in combinations(range(parts), 2)
    )


def widest_yaw(starts, rows):
    return max(
        2 * abs(math.atan2(poses[row, 5], poses[row, 6])) for poses, *_ in starts for row in rows
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", LEVELS)
def test_every_part_is_named_and_every_start_differs(starts, name, level):
    cell, found = starts[name, level]
    assert (
        {named for _, _, named in found}
        == set(cell.task.instructions)
        == set(cell.task.unseen_instructions)
    )
    assert len({poses.tobytes() for poses, *_ in found}) == STARTS


def test_pick_to_tray(starts):
    expected = {
        "easy": (3, 0.12, 15, 0.15),
        "nominal": (3, 0.105, 45, 0.13),
        "hard": (5, 0.105, 90, 0.11),
    }
    for level, (parts, spacing, yaw, tray) in expected.items():
        cell, found = starts["PickToTray", level]
        assert count(cell) == parts
        assert spacing < nearest(found, parts) < spacing + 0.01
        assert math.radians(yaw - 2) < widest_yaw(found, range(parts)) <= math.radians(yaw)
        assert cell.task.items[parts].size[0] == pytest.approx(tray + 0.012)


def test_kitting(starts):
    expected = {"easy": (2, 1, 0.6, 0.3), "nominal": (2, 1, 1.2, 0.7), "hard": (5, 3, 1.2, 0.3)}
    for level, (parts, slots, part_yaw, slot_yaw) in expected.items():
        cell, found = starts["Kitting", level]
        assert (count(cell), len(cell.task.items)) == (parts, parts + slots)
        assert part_yaw - 0.03 < widest_yaw(found, range(parts)) <= part_yaw
        assert slot_yaw - 0.03 < widest_yaw(found, range(parts, parts + slots)) <= slot_yaw
    cell, found = starts["Kitting", "hard"]
    assert {tuple(np.argsort(poses[5:8, 0])) for poses, *_ in found} == {
        (0, 1, 2),
        (0, 2, 1),
        (1, 0, 2),
        (1, 2, 0),
        (2, 0, 1),
        (2, 1, 0),
    }


@pytest.mark.parametrize(("level", "room"), [("easy", 0.007), ("nominal", 0.005), ("hard", 0.0035)])
def test_kitting_leaves_its_parts_the_room_it_says(starts, level, room):
    cell, _ = starts["Kitting", level]
    cell.reset(seed=0)
    for row, item in enumerate(cell.task.items[: count(cell)]):
        slot = next(at for at, other in enumerate(cell.task.items) if other.name == item.belongs_to)
        x, y, _, *turn = cell.world.poses[slot]
        half = 2 * math.atan2(turn[2], turn[3])
        for way, free in ((room - 3e-4, True), (room + 1e-3, False)):
            place = (x - way * math.sin(half), y + way * math.cos(half), 0.0061 + item.size[2] / 2)
            cell.world.place(cell.task.bodies[row], place, turn)
            assert (cell.world.overlap_m(cell.task.bodies[row]) < 2e-4) == free
        cell.world.place(cell.task.bodies[row], (2.0 + row, 0.0, 1.0))


def test_conveyor_sort(starts):
    expected = {
        "easy": (3, 0.02, 0.05, 10),
        "nominal": (3, 0.03, 0.09, 30),
        "hard": (5, 0.10, 0.30, 30),
    }
    for level, (parts, slow, fast, yaw) in expected.items():
        cell, found = starts["ConveyorSort", level]
        assert count(cell) == parts
        speeds = [memory[3] for _, memory, _ in found]
        assert (min(speeds), max(speeds)) == pytest.approx((slow, fast), abs=0.01)
        assert math.radians(yaw - 2) < widest_yaw(found, range(parts)) <= math.radians(yaw)
        for poses, memory, _ in found:
            assert (poses[int(memory[0]), 0] - 0.30) / memory[3] >= 3.2 - 1e-9
            assert poses[:parts, 0].max() < (0.85 if parts == 3 else 1.65)


@pytest.mark.parametrize(
    ("level", "room", "height"),
    [("easy", 0.005, 0.04), ("nominal", 0.0035, 0.05), ("hard", 0.001, 0.056)],
)
def test_ring_on_shaft(starts, level, room, height):
    cell, _ = starts["RingOnShaft", level]
    cell.reset(seed=0)
    x, y, _ = cell.world.poses[3, :3]
    assert cell.task.items[3].size[2] == height
    for way, free in ((room - 2e-4, True), (room + 2e-3, False)):
        cell.world.place(cell.task.bodies[0], (x + way, y, 0.0221))
        assert (cell.world.overlap_m(cell.task.bodies[0]) < 2e-4) == free


@pytest.mark.parametrize(
    ("level", "room", "depth"),
    [("easy", 0.002, 0.03), ("nominal", 0.001, 0.03), ("hard", 0.0005, 0.036)],
)
def test_peg_insertion(starts, level, room, depth):
    cell, found = starts["PegInsertion", level]
    yaw = 0.25 if level == "easy" else 0.5
    assert yaw - 0.02 < widest_yaw(found, (3,)) <= yaw
    cell.reset(seed=0)
    pose = cell.world.poses[3]
    assert cell.task.items[3].size[2] == pytest.approx(0.006 + depth)
    half = 2 * math.atan2(pose[5], pose[6])
    for way, free in ((room - 1e-4, True), (room + 5e-4, False)):
        place = (pose[0] + way * math.cos(half), pose[1] + way * math.sin(half), 0.0461)
        cell.world.place(cell.task.bodies[0], place, pose[3:])
        assert (cell.world.overlap_m(cell.task.bodies[0]) < 2e-4) == free


@pytest.mark.parametrize("name", ["PickToTray", "Kitting", "ConveyorSort"])
def test_another_number_of_object_rows_needs_another_cell(starts, name):
    cell, _ = starts[name, "nominal"]
    with pytest.raises(InvalidInputError, match="make it with variation='hard'"):
        cell.reset(seed=0, options={"variation": "hard"})
    assert len(cell.reset(seed=0)[0]["objects"]) == len(cell.task.items)


@pytest.mark.parametrize("name", NAMES)
def test_a_change_of_level_and_back_leaves_nothing_behind(starts, name):
    cell, _ = starts[name, "nominal"]
    expert = make_expert(name)
    before = play(cell, expert, 610_000).digest
    cell.reset(seed=3, options={"variation": "easy"})
    assert play(cell, expert, 610_000).digest == before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", ["easy", "hard"])
def test_experts_succeed(starts, name, level):
    cell, _ = starts[name, level]
    expert = make_expert(name)
    outcomes = [play(cell, expert, seed, variation=level).outcome for seed in (620_000, 620_001)]
    assert outcomes == ["success"] * 2
