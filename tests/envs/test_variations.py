"""Shift suites: one thing changes, everything else is as without them; texts stand for variations."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cell_episodes import CELLS, build

from shopfloor.core import InvalidInputError, UnknownNameError
from shopfloor.envs.conditions import CLUTTER, MAX_CLUTTER, Conditions
from shopfloor.envs.description import variations_of
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.physics.textures import TEXTURES, texture_file
from shopfloor.envs.registry import make_cell
from shopfloor.envs.variation import SUITES, VARIATIONS, Variation, parse_variation, variation_name

SEEDS = (610_000, 610_003)


@pytest.fixture(scope="module", params=CELLS)
def pair(request):
    """Two cells of a kind: one for nominal episodes, one for shifted ones."""
    plain, shifted = build(request.param), build(request.param)
    yield plain, shifted
    plain.close()
    shifted.close()


def facts(cell):
    """What an episode started with."""
    task, count = cell.task, len(cell.task.bodies)
    rows = cell.world.poses[[cell.world.bodies.index(body) for body in task.bodies]]
    looks = cell.sim_state()[2 : 2 + len(task.items)]
    return {
        "places": rows[:, :2].tobytes(),
        "heights": rows[:, 2].tobytes(),
        "turns": rows[:, 3:].tobytes(),
        "robot": cell.robot.sim_state().tobytes(),
        "memory": task.memory().tobytes(),
        "named": task.named,
        "order": looks.tobytes(),
        "names": cell.object_names,
        "sizes": tuple(item.size for item in task.items),
        "phrase": float(cell.sim_state()[1]),
        "instruction": cell.instruction,
        "colours": tuple(sorted((body, rgba) for body, rgba in cell.world.colours.items())),
        "light": tuple(cell.sim_state()[2 + count : 2 + count + 11]),
        "textures": dict(cell.world.textures),
        "bodies": len(cell.world.bodies),
        "cameras": tuple(cell.camera_track(camera.name)[1].tobytes() for camera in task.cameras),
    }


CHANGES = {
    "light": {"light"},
    "camera": {"cameras"},
    "texture": {"textures"},
    "clutter": {"bodies"},
    "objects": {"sizes", "heights"},
    "physics": set(),
    "instruction": {"instruction", "phrase"},
}


@pytest.mark.parametrize("suite", SUITES)
def test_one_thing_changes_and_all_else_is_the_matched_control(pair, suite):
    plain, shifted = pair
    if suite not in variations_of(plain.task):
        with pytest.raises(UnknownNameError, match=f"variation of {plain.cell_id}"):
            shifted.reset(seed=0, options={"variation": suite})
        return
    for seed in SEEDS:
        plain.reset(seed=seed)
        shifted.reset(seed=seed, options={"variation": suite})
        before, after = facts(plain), facts(shifted)
        changed = {name for name in before if before[name] != after[name]}
        assert changed <= CHANGES[suite]
        assert (changed or {"physics"}) & (CHANGES[suite] or {"physics"})


@pytest.mark.parametrize("suite", SUITES)
def test_starts_are_sound(pair, suite):
    _, cell = pair
    if suite not in variations_of(cell.task):
        return
    for seed in SEEDS:
        cell.reset(seed=seed, options={"variation": suite})
        verdict = cell.task.judge(cell.world, cell.robot)
        assert not verdict.success
        assert not verdict.failure
        assert all(cell.world.overlap_m(body) < 0.0005 for body in cell.world.bodies)


def test_physics_changes_mass_and_friction_within_what_it_says(pair):
    plain, cell = pair
    plain.reset(seed=SEEDS[0])
    cell.reset(seed=SEEDS[0], options={"variation": "physics"})
    moved = 0
    for body in cell.world.bodies:
        mass, friction = pybullet.getDynamicsInfo(body, -1, cell.world.client)[:2]
        usual_mass, usual_friction = pybullet.getDynamicsInfo(body, -1, plain.world.client)[:2]
        if usual_mass > 0.0:
            moved += 1
            assert 1.5 <= mass / usual_mass <= 2.5
            assert 0.6 <= friction / usual_friction <= 0.8
        else:
            assert (mass, friction) == (usual_mass, usual_friction)
    assert moved or plain.task.part_scales == (1.0, 1.0)


@pytest.mark.parametrize("suite", ["camera", "texture", "clutter", "objects", "light"])
def test_a_stored_state_draws_the_same_in_a_new_cell(pair, suite):
    plain, _ = pair
    if suite not in variations_of(plain.task):
        return
    options = {"privileged": True, "image_size": (48, 48), "variation": suite}
    cell, other = make_cell(plain.cell_id, **options), make_cell(plain.cell_id, **options)
    cell.reset(seed=SEEDS[0])
    for _ in range(2):
        cell.advance(np.full(cell.action_size, 0.3))
    before, state = cell.observe(), cell.sim_state()
    other.reset(seed=SEEDS[1])
    other.set_sim_state(state)
    after = other.observe()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert cell.instruction == other.instruction
    np.testing.assert_allclose(other.sim_state(), state, rtol=0, atol=1e-9)
    plain.reset(seed=SEEDS[0])
    assert not all(
        np.array_equal(before[name], plain.observe((name,))[name]) for name in cell.options.cameras
    )
    cell.close()
    other.close()


def test_conditions_there_and_back():
    for clutter in ((), (3, 0), tuple(range(len(CLUTTER))), (1,) * MAX_CLUTTER):
        conditions = Conditions(((0.1, 0.2, -0.3), (0.0, 0.5, 0.0)), 4, clutter, 0.9, 1.5, 0.7)
        assert Conditions.from_row(conditions.to_row()) == conditions


def test_every_texture_covers_the_ground_in_sight():
    cell = make_cell("PickToTray", cameras=(), variation="texture", image_size=(64, 64))
    seen = {}
    for seed in range(40):
        cell.reset(seed=seed)
        name = cell.world.textures[cell.world.ground]
        if name not in seen:
            view = cell.look("front")
            seen[name] = view.rgb[view.ids == cell.world.ground].astype(float).std(axis=0).max()
    cell.close()
    assert set(seen) == set(TEXTURES)
    assert min(seen.values()) > 4.0  # a plain table has less than 1
    assert all(texture_file(name).is_file() for name in TEXTURES)


def test_clutter_lies_in_sight():
    cell = make_cell("PickToTray", cameras=(), variation="clutter", image_size=(96, 96))
    seen = []
    for seed in range(20):
        cell.reset(seed=seed)
        ids = cell.look("front").ids
        seen.append(len(set(np.unique(ids)) & set(cell.world.bodies) - set(cell.task.bodies)))
    cell.close()
    assert np.mean(seen) >= 2
    assert max(seen) <= 5


@pytest.mark.parametrize("name", VARIATIONS)
def test_names_and_json_stand_for_variations(name):
    variation = VARIATIONS[name]
    assert parse_variation(name) == parse_variation(variation) == variation
    assert (
        parse_variation(json.dumps(variation.to_json()))
        == parse_variation(variation.to_json())
        == variation
    )
    assert variation_name(variation) == variation_name(variation.to_json()) == name
    assert variation.suites == ((name,) if name in SUITES else ())
    assert variation.shifts == (name in SUITES)


def test_a_point_without_a_name_has_one_text():
    variation = Variation(level="hard", clutter=(2, 2), light=(1.5, 2.0))
    text = variation_name(variation)
    assert parse_variation(text) == variation
    assert variation_name(text) == variation_name(f" {text}") == text
    assert variation.suites == ("light", "clutter")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("hrad", "hard"),
        ({"levle": "hard"}, "level"),
        ({"level": "hrad"}, "hard"),
        ({"level": ["hard"]}, "level"),
        ('{"level": ', "not JSON"),
        ("[1]", "variation"),
        (7, "expected a name"),
        ({"light": 2.0}, "two numbers"),
        ({"light": [2.0, 1.0]}, "lower one first"),
        ({"light": ["a", "b"]}, "two numbers"),
        ('{"mass": [1, NaN]}', "two numbers"),
        ('{"mass": [1, Infinity]}', "two numbers"),
        ({"clutter": [0.5, 2]}, "clutter"),
        ({"clutter": [0, 99]}, "from 0 to 8"),
        ({"clutter": [True, 2]}, "clutter"),
        ({"texture": 1}, "true or false"),
        ({"colour_jitter": -0.1}, "from 0 to 3"),
        ({"colour_jitter": "much"}, "from 0 to 3"),
        ({"displace_m": [0.1, 5.0]}, "displace_m"),
    ],
)
def test_what_means_nothing_is_refused_in_words(value, message):
    with pytest.raises((InvalidInputError, UnknownNameError), match=message):
        parse_variation(value)
