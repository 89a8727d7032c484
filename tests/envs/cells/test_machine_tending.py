"""MachineTending's rules: the order of the job, what the machine does, what counts as done and as lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cell_episodes import WAIT, build, play

from shopfloor.envs.cells.lamps import LAMP_ON_M
from shopfloor.envs.cells.machine_tending import (
    AMBER,
    BLANK_M,
    BUTTON,
    BUTTON_WAY_M,
    DOOR,
    DOOR_WAY_M,
    FINISHED,
    FIXTURE,
    FLOOR_M,
    GREEN,
    IDLE,
    MAT,
    RIM_M,
    RUN_STEPS,
    RUNNING,
    SPACING_M,
    MachineTending,
)
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.task import HOLD_STEPS

JOBS = MachineTending.jobs
AWAY = np.array([0.40, -0.05, 0.25])


@pytest.fixture(scope="module")
def cell():
    built = build("MachineTending")
    yield built
    built.close()


def start(cell, seed, **options):
    cell.reset(seed=seed, **options)
    cell.robot.reset(AWAY, 0.0)


def named(cell):
    return cell.task.bodies.index(cell.task.named_body)


def put(cell, index, goal, height, along=0.0):
    """Put a blank square onto a goal, its lower side at a height (m), `along` off its middle."""
    pose = cell.world.poses[goal]
    yaw = 2 * math.atan2(pose[5], pose[6])
    place = pose[:3] + along * np.array([math.cos(yaw), math.sin(yaw), 0.0])
    cell.world.place(
        cell.task.bodies[index], (*place[:2], height + 0.5 * BLANK_M), pose[3:].tolist()
    )
    cell.world.read()


def press(cell, door=DOOR_WAY_M):
    """Judge the state with the door somewhere and the button pushed in."""
    cell.world.slide_to(cell.task.bodies[DOOR], door)
    cell.world.slide_to(cell.task.bodies[BUTTON], BUTTON_WAY_M)
    cell.world.read()
    return cell.task.judge(cell.world, cell.robot)


def run(cell, steps, door=DOOR_WAY_M):
    """Let time pass with the door held somewhere; return which of the two lamps was lit after each step."""
    lamps = []
    for _ in range(steps):
        cell.world.slide_to(cell.task.bodies[DOOR], door)
        cell.advance(WAIT)
        lamps.append(tuple(bool(cell.world.poses[lamp, 2] > LAMP_ON_M) for lamp in (AMBER, GREEN)))
    return lamps


def finish(cell):
    """Have the named blank machined; it stays in the nest, the door is open again."""
    put(cell, named(cell), FIXTURE, FLOOR_M)
    press(cell)
    run(cell, RUN_STEPS)
    assert cell.task.progress.phase == FINISHED
    run(cell, 1, door=0.0)


def wait(cell, steps=30):
    for _ in range(steps):
        _, terminated, truncated, info = cell.advance(WAIT)
        if terminated or truncated:
            break
    return info


@pytest.mark.parametrize("level", ["easy", "nominal", "hard"])
def test_scenes_are_sound(level):
    """Nothing overlaps, blanks have room, the machine turns and fits as the level says, and nothing is done yet."""
    cell = build("MachineTending", variation=level)
    yaws, chosen = [], set()
    for seed in range(200):
        _, info = cell.reset(seed=seed)
        spots = cell.world.poses[:FIXTURE, :2]
        assert (
            min(np.linalg.norm(spots[a] - spots[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
            >= SPACING_M
        )
        assert max(cell.world.overlap_m(body) for body in cell.task.bodies[:FIXTURE]) < 5e-4
        assert cell.world.overlap_m(cell.robot.body) < 5e-4
        assert (info["stage"], info["success"]) == ("approach", False)
        z, w = cell.world.poses[FIXTURE, 5:]
        yaws.append(2 * math.atan2(z, w) - 0.5 * math.pi)
        chosen.add(cell.task.named)
    limit = JOBS[level].yaw
    assert 0.85 * limit < np.max(np.abs(yaws)) <= limit + 1e-9
    assert len(chosen) == FIXTURE
    wall = cell.world.built[cell.task.bodies[FIXTURE]].shapes[0]
    assert 2 * (wall.position[0] + 0.5 * wall.size[0]) < 0  # the nest is between the walls
    assert -2 * (wall.position[0] + 0.5 * wall.size[0]) == pytest.approx(
        BLANK_M + 2 * JOBS[level].room_m
    )
    assert cell.task.items[MAT].size[0] == JOBS[level].mat_m
    cell.close()


def test_levels_get_harder():
    easy, nominal, hard = (JOBS[name] for name in ("easy", "nominal", "hard"))
    for one, two in ((easy, nominal), (nominal, hard)):
        assert one.yaw < two.yaw
        assert one.room_m > two.room_m
        assert one.door_n < two.door_n
        assert one.mat_m > two.mat_m


def test_the_machine_runs_only_loaded_and_shut(cell):
    start(cell, 1)
    press(cell)
    assert cell.task.progress.phase == IDLE  # nothing in the nest
    put(cell, named(cell), FIXTURE, FLOOR_M)
    press(cell, door=DOOR_WAY_M - 0.012)
    assert cell.task.progress.phase == IDLE  # the door is ajar
    run(cell, 12)  # and the button comes back
    assert cell.task.progress.phase == IDLE
    assert cell.task.judge(cell.world, cell.robot).stage == "press"
    assert press(cell).stage == "running"
    assert run(cell, RUN_STEPS + 2) == [(True, False)] * RUN_STEPS + [(False, True)] * 2
    assert cell.task.progress.phase == FINISHED


def test_a_door_pushed_open_stops_the_machine(cell):
    start(cell, 2)
    put(cell, named(cell), FIXTURE, FLOOR_M)
    press(cell)
    assert cell.task.progress.phase == RUNNING
    assert run(cell, 2, door=0.5 * DOOR_WAY_M)[-1] == (False, False)
    run(cell, RUN_STEPS + 2)
    assert cell.task.progress.phase == IDLE


@pytest.mark.parametrize(("height", "along"), [(RIM_M, 0.0), (FLOOR_M + 0.004, 0.0), (0.0, -0.075)])
def test_a_blank_that_is_not_in_the_nest_is_not_loaded(cell, height, along):
    """Judged where it was put, not where it would fall."""
    start(cell, 3)
    put(cell, named(cell), FIXTURE, height, along)
    assert press(cell).stage == "approach"
    assert cell.task.progress.phase == IDLE


def test_finished_released_on_the_mat_with_the_door_open_is_done(cell):
    start(cell, 4)
    finish(cell)
    assert not wait(cell)["success"]  # still in the nest
    put(cell, named(cell), MAT, 0.003)
    for step in range(HOLD_STEPS):
        reward, terminated, _, info = cell.advance(WAIT)
        assert (reward, terminated, info["success"]) == (
            (1.0, True, True) if step == HOLD_STEPS - 1 else (0, False, False)
        )


@pytest.mark.parametrize("miss", ["unfinished", "door", "beside", "closed", "near", "moving"])
def test_near_misses_are_not_done(cell, miss):
    start(cell, 5)
    if miss != "unfinished":
        finish(cell)
    put(cell, named(cell), MAT, 0.003, along=0.052 if miss == "beside" else 0.0)
    if miss == "door":
        cell.world.slide_to(cell.task.bodies[DOOR], 0.04)
    if miss == "near":
        cell.robot.reset(cell.world.poses[named(cell), :3] + [0.0, 0.0, 0.02], 0.0)
    for _ in range(2 * HOLD_STEPS):
        if miss == "moving":
            pose = cell.world.poses[named(cell)]
            cell.world.place(cell.task.named_body, pose[:3], pose[3:], (0, 0, 0.2, 0, 0, 0))
        action = WAIT * (-1.0 if miss == "closed" else 1.0)
        _, terminated, _, info = cell.advance(action)
        assert not terminated, info


def test_working_on_another_blank_is_wrong(cell):
    start(cell, 6)
    put(cell, (named(cell) + 1) % FIXTURE, FIXTURE, FLOOR_M)
    assert press(cell).failure == "wrong_part"
    start(cell, 6)
    finish(cell)
    put(cell, (named(cell) + 1) % FIXTURE, MAT, 0.003)
    assert wait(cell)["failure"] == "wrong_part"


@pytest.mark.parametrize(
    ("place", "reason"), [((1.4, 0.0, 0.05), "dropped"), ((0.85, 0.1, 0.0201), "out_of_reach")]
)
def test_lost_blanks(cell, place, reason):
    start(cell, 7)
    cell.world.place(cell.task.named_body, place)
    cell.world.read()
    assert wait(cell)["failure"] == reason


def test_the_job_has_its_order_and_its_state_comes_back(cell):
    played = play(cell, make_expert("MachineTending"), 600_301)
    assert played.outcome == "success"
    assert list(dict.fromkeys(played.stages)) == [
        "approach",
        "load",
        "close",
        "press",
        "running",
        "unload",
    ]
    for step in (played.stages.index("running") + 5, played.stages.index("unload") + 5):
        cell.set_sim_state(played.states[step])
        np.testing.assert_allclose(cell.sim_state(), played.states[step], rtol=0, atol=1e-12)
        lit = [cell.world.poses[lamp, 2] > LAMP_ON_M for lamp in (AMBER, GREEN)]
        assert lit == [cell.task.progress.phase == RUNNING, cell.task.progress.phase == FINISHED]
