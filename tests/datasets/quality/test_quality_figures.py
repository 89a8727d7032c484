"""The figures behind the quality checks, each against something worked out by hand or in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special

from shopfloor.core import CameraTrack
from shopfloor.datasets.quality import coupling, information, motion, neighbours, sensors
from shopfloor.datasets.quality.series import Columns, Series, filled
from shopfloor.datasets.quality.survey import survey

HZ = 20.0


def columns(
    names=("tool_x", "tool_y", "tool_z"),
    units=("m", "m", "m"),
    actions=("dx", "dy", "dz"),
    **changes,
):
    found = {
        "keys": ("state",),
        "names": tuple(names),
        "units": tuple(units),
        "tool": (0, 1, 2) if names[0] == "tool_x" else (),
        "clock": None,
        "cameras": (),
        "objects": False,
        "actions": tuple(actions),
        "gripper": None,
        "motion": tuple(range(len(actions))),
        "unit_actions": True,
        "hz": HZ,
    }
    return Columns(**{**found, **changes})


def series(numbers, actions=None, commands=None, clock=None):
    numbers = np.asarray(numbers, float)
    actions = np.zeros((len(numbers) - 1, 3)) if actions is None else np.asarray(actions, float)
    return Series(
        numbers,
        actions,
        actions if commands is None else commands,
        clock,
        np.zeros((len(numbers), 0)),
        0,
    )


def straight(steps=20, speed=0.01):
    return np.outer(np.arange(steps + 1) * speed, (1.0, 0.0, 0.0))


def test_filled_repeats_the_row_before():
    array = np.array([[np.nan, 1.0], [2.0, np.inf], [np.nan, 3.0], [1e30, 4.0]])
    assert filled(array).tolist() == [[2.0, 1.0], [2.0, 1.0], [2.0, 3.0], [2.0, 4.0]]
    assert filled(np.array([np.nan, np.nan])).tolist() == [0.0, 0.0]
    good = np.ones((2, 2))
    assert filled(good) is good


def test_idle_times():
    place = np.concatenate(
        [np.zeros((10, 3)), straight(5), np.full((15, 3), 0.05), straight(4) + 0.06]
    )
    one = series(place)
    found = motion.motion_metrics(one, survey(columns(), [one]))
    assert (found["idle_start_s"], found["idle_end_s"]) == (10 / HZ, 0.0)
    assert found["idle_pause_s"] == pytest.approx(14 / HZ)
    still = series(np.zeros((11, 3)))
    found = motion.motion_metrics(still, survey(columns(), [still]))
    assert (found["idle_share"], found["idle_start_s"], found["jerk"]) == (1.0, 0.5, 0.0)


def test_jerk_of_a_cubic_is_its_third_derivative():
    times = np.arange(41) / HZ
    place = np.column_stack([0.3 * times**3, np.zeros(41), np.zeros(41)])
    one = series(place)
    found = motion.motion_metrics(one, survey(columns(), [one]))
    assert found["jerk"] == pytest.approx(1.8)  # 6 * 0.3
    speed = float(np.diff(place[:, 0]).max() * HZ)
    expected = -math.log(38 * 1.8**2 / HZ * 2.0**3 / speed**2)
    assert found["log_dimensionless_jerk"] == pytest.approx(expected)


def test_path_ratio_goes_by_the_places_where_the_gripper_switched():
    there = straight(10)
    place = np.concatenate([there, there[-2::-1]])  # out and back
    gripper = np.where(np.arange(20) < 10, -1.0, 1.0)
    about = columns(actions=("dx", "dy", "dz", "gripper"), gripper=3, motion=(0, 1, 2))
    one = series(place, np.column_stack([np.zeros((20, 3)), gripper]))
    found = motion.motion_metrics(one, survey(about, [one]))
    assert found["path_length"] == pytest.approx(0.2)
    assert found["path_ratio"] == pytest.approx(1.0)
    assert (found["gripper_switches"], found["gripper_chatter"]) == (1, 0)
    open_all_the_way = series(place, np.zeros((20, 4)))
    assert (
        motion.motion_metrics(open_all_the_way, survey(about, [one]))["path_ratio"] is None
    )  # it ends where it began


def test_brief_commands_are_chatter_and_no_stops():
    gripper = np.full(40, -1.0)
    gripper[[5, 7, 9]] = 1.0  # a twentieth of a second each
    gripper[20:30] = 1.0  # meant
    about = columns(actions=("dx", "dy", "dz", "gripper"), gripper=3, motion=(0, 1, 2))
    one = series(straight(40), np.column_stack([np.zeros((40, 3)), gripper]))
    known = survey(about, [one])
    assert motion.kept_switches(one, known) == [20, 30]
    found = motion.motion_metrics(one, known)
    assert (found["gripper_switches"], found["gripper_chatter"]) == (8, 5)
    assert found["gripper_chatter_per_s"] == pytest.approx(2.5)


def test_saturation_counts_commands_that_move():
    actions = np.zeros((50, 3))
    actions[:32, 0], actions[32:40, 1] = 1.0, 0.5
    one = series(straight(50), actions)
    found = motion.motion_metrics(one, survey(columns(), [one]))
    assert found["saturation"] == pytest.approx(0.8)
    assert found["saturation_run_s"] == pytest.approx(32 / HZ)
    few = series(straight(10), actions[30:40])
    assert motion.motion_metrics(few, survey(columns(), [few]))["saturation"] is None
    wide = columns(unit_actions=False)  # the range is what the dataset shows
    scaled = series(straight(50), actions * 7 - 3.5)
    assert motion.motion_metrics(scaled, survey(wide, [scaled]))["saturation"] > 0.5


def test_a_gripper_without_a_name_is_found_by_its_two_values():
    actions = np.column_stack(
        [np.random.default_rng(0).uniform(-1, 1, (40, 3)), np.repeat([0.0, 1.0], 20)]
    )
    about = columns(actions=("a", "b", "c", "d"), unit_actions=False)
    one = series(straight(40), actions)
    found = survey(about, [one])
    assert (found.columns.gripper, found.columns.motion, found.middle) == (3, (0, 1, 2), 0.5)
    assert motion.switches(one, found) == [20]


def walk(seed, lag, absolute=False, steps=80):
    """A tool that follows its actions some steps later."""
    moves = np.random.default_rng(seed).normal(0, 0.5, (steps, 3))
    moves[:, 2] = 0.0
    late = np.concatenate([np.zeros((lag, 3)), moves])[:steps]
    place = np.concatenate([np.zeros((1, 3)), np.cumsum(late, axis=0)])
    return series(place * 0.02, np.cumsum(moves, axis=0) if absolute else moves)


@pytest.mark.parametrize("lag", [0, 2, 5])
@pytest.mark.parametrize("absolute", [False, True])
def test_lag_and_kind_of_actions_are_learned_from_the_dataset(lag, absolute):
    sample = [walk(seed, lag, absolute) for seed in range(5)]
    known = survey(columns(), sample)
    assert [
        (pair.action, pair.column, pair.changes, pair.sign, pair.lag) for pair in known.pairs
    ] == [
        (0, 0, absolute, 1.0, lag),
        (1, 1, absolute, 1.0, lag),
    ]
    sound = coupling.match(walk(9, lag, absolute), known.pairs, known.still)
    assert (sound.late, sound.usual) == (0, pytest.approx(1.0))
    for shift in (-3, 4):
        one = walk(9, lag, absolute)
        moved = coupling.match(
            series(one.numbers, np.roll(one.actions, -shift, axis=0)), known.pairs, known.still
        )
        assert moved.late == shift
        assert moved.best > 0.9 > 0.5 > moved.usual
    other = series(walk(9, lag, absolute).numbers, walk(8, lag, absolute).actions)
    assert coupling.match(other, known.pairs, known.still).best < 0.6


def test_an_arm_against_a_wall_matches_its_actions():
    known = survey(columns(), [walk(seed, 0) for seed in range(5)])
    one = walk(9, 0)
    moves = np.diff(one.numbers, axis=0)
    moves[20:60] = 0.0  # it pushes, nothing gives
    blocked = series(np.concatenate([np.zeros((1, 3)), np.cumsum(moves, axis=0)]), one.actions)
    assert coupling.match(blocked, known.pairs, known.still).usual > 0.99
    assert coupling.match(series(np.zeros((81, 3)), one.actions), known.pairs, known.still) is None
    assert coupling.match(series(straight(5), np.ones((5, 3))), known.pairs, known.still) is None


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_mutual_information_of_gaussians_is_what_theory_says(rho):
    generator = np.random.default_rng(7)
    one = generator.normal(size=(1500, 1))
    other = rho * one + math.sqrt(1 - rho**2) * generator.normal(size=(1500, 1))
    assert information.contributions(one, other).mean() == pytest.approx(
        -0.5 * math.log(1 - rho**2), abs=0.06
    )


def test_contributions_are_kraskovs_first_estimate():
    generator = np.random.default_rng(1)
    states, chunks = generator.normal(size=(60, 3)), generator.normal(size=(60, 2))
    one = np.linalg.norm(states[:, None] - states, axis=2)
    other = np.linalg.norm(chunks[:, None] - chunks, axis=2)
    psi, expected = scipy.special.digamma, np.zeros(60)
    for k in information.NEIGHBOURS:
        for i in range(60):
            others = np.arange(60) != i
            reach = np.sort(np.maximum(one[i], other[i])[others])[k - 1]
            near = [(distance[i][others] < reach).sum() for distance in (one, other)]
            expected[i] += psi(k) + psi(60) - psi(near[0] + 1) - psi(near[1] + 1)
    np.testing.assert_allclose(information.contributions(states, chunks), expected / 3, atol=1e-4)


def test_a_predictable_demonstrator_scores_higher_than_one_who_acts_at_random():
    def pairs(seed, noise):
        generator = np.random.default_rng(seed)
        states = generator.uniform(-1, 1, (24, 3))
        return states.astype("f4"), (states[:, :2] + noise * generator.normal(size=(24, 2))).astype(
            "f4"
        )

    known = [pairs(seed, 0.05) for seed in range(20)] + [pairs(seed, 2.0) for seed in range(20, 25)]
    found = information.scores(known, np.random.default_rng(0))
    assert found[:20].min() > found[20:].max()
    again = information.scores(known, np.random.default_rng(0))
    assert found.tobytes() == again.tobytes()
    assert np.isnan(information.scores(known[:2], np.random.default_rng(0))).all()


def test_nearest_is_that_of_comparing_all(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 7)
    generator = np.random.default_rng(2)
    outlines = [generator.normal(size=(16, 5)).astype("f4") for _ in range(30)]
    outlines[21] = outlines[4] + np.float32(1e-4)
    distances, positions = neighbours.nearest(outlines)
    stacked = np.stack(outlines).astype(float)
    scaled = (stacked / stacked.std(axis=(0, 1))).reshape(30, -1)
    every = np.sqrt(((scaled[:, None] - scaled) ** 2).mean(axis=2))
    np.fill_diagonal(every, np.inf)
    assert positions.tolist() == every.argmin(axis=1).tolist()
    np.testing.assert_allclose(distances, every.min(axis=1), rtol=1e-3, atol=1e-6)
    assert positions[21] == 4


def test_of_a_chain_of_copies_the_preferred_one_stays():
    assert neighbours.later_copies([(0, 1), (1, 2), (5, 3)], [2, 1, 0, 3, 4, 5]) == {
        0: 2,
        1: 2,
        5: 3,
    }


def test_clock():
    def figures(clock):
        return sensors.clock_metrics(
            series(np.zeros((len(clock), 3)), clock=np.asarray(clock, float)), HZ
        )

    even = np.arange(21) / HZ
    assert figures(even)["clock_off"] == 0
    late = even + 0.1 * (np.arange(21) > 10)
    assert (figures(late)["clock_off"], figures(late)["clock_dropped"]) == (
        pytest.approx(1 / 20),
        2,
    )
    assert figures(np.minimum(even, 0.6))["clock_backwards"] == 1
    assert figures(np.zeros(5))["clock_off"] == 1
    assert sensors.clock_metrics(series(np.zeros((4, 3))), HZ)["clock_off"] is None


def camera(eye=(0.1, 0.0, 1.0), focal=20.0, frames=21):
    """A camera that looks down from above."""
    pose = np.eye(4)
    pose[:3, :3] = np.diag([1.0, -1.0, -1.0])
    pose[:3, 3] = eye
    return CameraTrack(
        np.array([[focal, 0, 8], [0, focal, 8], [0, 0, 1.0]]), np.tile(pose, (frames, 1, 1))
    )


def test_pictures():
    one = series(straight(20))
    known = survey(columns(), [one])
    lively = np.random.default_rng(0).integers(0, 255, (21, 16, 16, 3), dtype=np.uint8)
    assert sensors.look(lively, one, known) == sensors.Pictures(0.0, 0.0, 21)
    frozen = lively.copy()
    frozen[10:] = frozen[10]
    assert sensors.look(frozen, one, known).frozen == pytest.approx(10 / 20)
    resting = series(np.concatenate([straight(10), np.tile([0.1, 0.0, 0.0], (10, 1))]))
    assert sensors.look(frozen, resting, known).frozen == 0, "a robot at rest gives equal pictures"
    slow = series(straight(20, 0.001))
    assert sensors.look(frozen, slow, known).frozen == 0, "less than a pixel"
    dark = lively.copy()
    dark[5:15] = 2
    seen = sensors.look(dark, one, known)
    assert (seen.dark, seen.frozen) == (pytest.approx(10 / 21), 0.0)
    white = np.full_like(lively, 255)
    assert sensors.look(white, one, known).dark == 1.0


def test_motion_outside_of_the_picture_freezes_nothing():
    one = series(straight(20))
    known = survey(columns(), [one])
    still = np.tile(
        np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8), (21, 1, 1, 1)
    )
    assert sensors.look(still, one, known, camera()).frozen == 1.0
    assert sensors.look(still, one, known, camera(eye=(5.0, 0.0, 1.0))).frozen == 0.0
    assert sensors.in_view(straight(20), camera(), (16, 16)).all()
    assert not sensors.in_view(straight(20) + np.array([0, 0, 2.0]), camera(), (16, 16)).any(), (
        "behind the camera"
    )
    half = sensors.in_view(straight(20, 0.05), camera(), (16, 16))
    assert half.tolist() == [0.1 - 0.4 <= 0.05 * step < 0.1 + 0.4 for step in range(21)]


def test_a_column_that_nobody_moves_is_not_stuck():
    sample = [walk(seed, 0) for seed in range(5)]
    known = survey(columns(), sample)
    actions = walk(9, 0).actions.copy()
    actions[:, 1] = 0.0
    place = np.concatenate([np.zeros((1, 3)), np.cumsum(actions * 0.02, axis=0)])
    assert sensors.stuck(series(place, actions), known)[1] == 0.0
    dead = walk(9, 0)
    dead.numbers[30:, 1] = dead.numbers[30, 1]
    assert sensors.stuck(dead, known)[1] == pytest.approx(50 / 80, abs=0.05)
