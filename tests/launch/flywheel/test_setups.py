"""Configuration and seeds of a flywheel."""

import itertools

import pytest

from shopfloor.core import InvalidInputError, ShopfloorError, UnknownNameError
from shopfloor.launch.flywheel.config import (
    MAX_EPISODES,
    MAX_SCENES,
    MAX_SEED,
    MAX_TURNS,
    FlywheelConfig,
)
from shopfloor.launch.flywheel.seeds import gate_seed, report_seed, scene_seed, train_seed
from shopfloor.launch.flywheel.setups import demonstration_noise, resolved
from shopfloor.launch.gate.decide import LOOKS, SMOKE_LOOKS

pytestmark = pytest.mark.core


def blocks():
    for loop, turn in itertools.product(range(MAX_SEED + 1), range(MAX_TURNS + 1)):
        yield "train", train_seed(loop, turn), MAX_EPISODES
        if turn:
            yield "gate", gate_seed(loop, turn), LOOKS[-1].pairs
    for loop in range(MAX_SEED + 1):
        yield "train", scene_seed(loop), MAX_SCENES
        yield "report", report_seed(loop), MAX_EPISODES


def test_no_seed_is_used_twice_and_each_lies_in_its_range():
    ranges = {"train": (0, 600_000), "gate": (700_000, 800_000), "report": (800_000, 900_000)}
    ordered = sorted((first, count, purpose) for purpose, first, count in blocks())
    for (first, count, _), (following, _, _) in itertools.pairwise(ordered):
        assert first + count <= following
    for first, count, purpose in ordered:
        low, high = ranges[purpose]
        assert low <= first
        assert first + count <= high


def test_setups_fill_in_what_was_left_open(tmp_path):
    smoke = resolved(FlywheelConfig(tmp_path, smoke=True))
    assert (smoke.demonstrations, smoke.report_episodes, smoke.looks) == (3, 50, SMOKE_LOOKS)
    assert (smoke.intervention, smoke.cells) == ("label", ("shopfloor/PickToTray-v0",))
    poses = resolved(FlywheelConfig(tmp_path, cells=("PickToTray,Kitting", "ConveyorSort")))
    assert (poses.report_episodes, poses.scenes, len(poses.cells), poses.intervention) == (
        200,
        0,
        3,
        "expert",
    )
    assert resolved(FlywheelConfig(tmp_path, observations="cameras")).scenes > 0
    assert resolved(FlywheelConfig(tmp_path, episodes=7)).episodes == 7
    assert FlywheelConfig(tmp_path, teacher="none").intervention == "none"


def test_resolving_twice_changes_nothing(tmp_path):
    once = resolved(FlywheelConfig(tmp_path, observations="cameras"))
    assert resolved(once) == once


def test_what_is_recorded_leaves_out_where_and_how_many_workers(tmp_path):
    config = resolved(FlywheelConfig(tmp_path, workers=3))
    assert not {"out", "workers"} & set(config.to_json())
    assert config.to_json() == resolved(FlywheelConfig(tmp_path / "other", workers=1)).to_json()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"turns": 10}, "--turns is 10; expected 0 to 9"),
        ({"seed": 30}, "--seed is 30"),
        ({"episodes": 0}, "--episodes is 0"),
        ({"report_episodes": 1001}, "--report-episodes is 1001"),
        ({"cells": ()}, "--cells is empty"),
        ({"cells": ("Kitting", "Kitting")}, "each once"),
        ({"smoke": True, "observations": "cameras"}, "leave out --smoke"),
        ({"observations": "camera"}, "Did you mean 'cameras'"),
        ({"teacher": "human"}, "value of --teacher"),
    ],
)
def test_bad_settings_are_named(tmp_path, arguments, message):
    with pytest.raises(ShopfloorError, match=message):
        FlywheelConfig(tmp_path, **arguments)


def test_scenes_need_cameras(tmp_path):
    with pytest.raises(InvalidInputError, match="--observations cameras"):
        resolved(FlywheelConfig(tmp_path, scenes=100))


def test_unknown_cells_get_the_nearest_name(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'PickToTray'"):
        resolved(FlywheelConfig(tmp_path, cells=("PickToTrai",)))


def test_kitting_forgives_less_noise():
    assert demonstration_noise("shopfloor/Kitting-v0") < demonstration_noise(
        "shopfloor/PickToTray-v0"
    )
