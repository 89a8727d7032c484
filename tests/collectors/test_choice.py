"""One parcel of options for everything that runs episodes, one name and one default for each."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

from shopfloor import CellChoice, collect, evaluate
from shopfloor.collectors.choice import CONDITIONS
from shopfloor.collectors.config import CollectConfig, EvaluateConfig
from shopfloor.core import InvalidInputError, UnknownNameError, listed, listed_paths
from shopfloor.datasets.convert.options import ExportOptions
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.windows.windows import Windows
from shopfloor.envs.description import CellOptions
from shopfloor.launch.cli import main
from shopfloor.launch.flywheel.config import FlywheelConfig
from shopfloor.launch.gate.pairing import compare
from shopfloor.launch.verbs.compare import Compare

CELL = "PickToTray"


def defaults(kind):
    return {
        field.name: field.default
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING
    }


# -- one name, one default -------------------------------------------------------------------------


def test_a_flywheel_calls_a_condition_the_same_and_has_the_same_default():
    here, usual = defaults(FlywheelConfig), defaults(CellChoice)
    assert set(CONDITIONS) <= set(here)
    for name in CONDITIONS:
        assert here[name] == usual[name]


@pytest.mark.parametrize("verb", ["collect", "evaluate", "compare", "flywheel"])
def test_every_verb_that_runs_episodes_takes_them(verb, capsys):
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    for name in (*CONDITIONS, "engine", "workers"):
        assert re.search(rf"^  --{name.replace('_', '-')} ", shown, re.MULTILINE), name


def test_python_has_the_defaults_of_the_command_line():
    flags = defaults(Compare)
    for name, parameter in inspect.signature(compare).parameters.items():
        if name in flags:
            assert parameter.default == flags[name], name


def test_an_evaluation_is_a_collection(tmp_path):
    shared = defaults(CollectConfig).keys() & defaults(EvaluateConfig).keys()
    assert shared == {"episodes", "seed", "purpose", "noise", "timeout_s"}

    config = EvaluateConfig.of("random", CELL, seed=600_000, noise=0.5, robot="ur5e")
    collection = config.collection(tmp_path)
    assert (collection.cell, collection.out) == (CellChoice(CELL, robot="ur5e"), tmp_path)
    assert (collection.policy, collection.episodes) == ("random", 100)
    assert (collection.seed, collection.purpose, collection.noise) == (600_000, "other", 0.5)


def test_single_options_make_a_parcel():
    config = CollectConfig.of(CELL, out="x", robot="ur5e", cameras="front, wrist", episodes=3)
    assert config.cell == CellChoice(CELL, robot="ur5e", cameras=("front", "wrist"))
    assert CollectConfig.of(config.cell, out="x", episodes=3) == config
    assert CollectConfig(CELL, "x").cell == CellChoice(CELL)


def test_a_parcel_and_single_options_are_refused_together():
    with pytest.raises(InvalidInputError, match=r"not both: robot"):
        CollectConfig.of(CellChoice(CELL), out="x", robot="ur5e")
    with pytest.raises(InvalidInputError, match=r"not both: robot"):
        evaluate("expert", CellChoice(CELL), 1, robot="ur5e")
    with pytest.raises(InvalidInputError, match=r"not both: cell, episodes"):
        evaluate(EvaluateConfig.of("expert", CELL), CELL, 1)
    with pytest.raises(InvalidInputError, match="`cell`"):
        evaluate("expert")


def test_unknown_options_are_named():
    with pytest.raises(UnknownNameError, match=r"'robott'.*Did you mean 'robot'"):
        CollectConfig.of(CELL, out="x", robott="ur5e")
    with pytest.raises(InvalidInputError, match="`out`"):
        collect(cell=CELL)
    with pytest.raises(InvalidInputError, match="`cell`"):
        collect(out="x")
    with pytest.raises(UnknownNameError, match="'gll'"):
        CellChoice(CELL, renderer="gll")


def test_whoever_helps_is_the_expert_unless_somebody_else_is_named():
    assert CollectConfig.of(CELL, out="x", intervene="label").teacher == "expert"
    assert CollectConfig.of(CELL, out="x", intervene="label", teacher="random").teacher == "random"
    assert CollectConfig.of(CELL, out="x").teacher is None


# -- old names -------------------------------------------------------------------------------------


def test_old_names_are_accepted_with_a_warning(tmp_path):
    with pytest.warns(DeprecationWarning, match="'seed_first' is called 'seed' now"):
        config = CollectConfig.of(CELL, out="x", seed_first=7)
    assert config.seed == 7
    with pytest.warns(DeprecationWarning, match="'intervention' is called 'intervene' now"):
        assert CollectConfig.of(CELL, out="x", intervention="label").intervene == "label"
    with pytest.raises(InvalidInputError, match="give only 'seed'"):
        CollectConfig.of(CELL, out="x", seed_first=7, seed=8)


def test_evaluate_accepts_the_old_name(tmp_path):
    with pytest.warns(DeprecationWarning, match="seed_first"):
        found = evaluate("expert", CELL, 1, seed_first=600_001, out=tmp_path / "e")
    assert found.seed == 600_001
    assert [record.seed for record in Dataset(tmp_path / "e").records] == [600_001]


# -- a text where a list is expected ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("front", ("front",)),
        ("front,wrist", ("front", "wrist")),
        ("front, wrist", ("front", "wrist")),
        ("front wrist", ("front", "wrist")),
        (["front", "wrist"], ("front", "wrist")),
        ("none", ()),
        ("", ()),
        (None, ()),
        ((), ()),
    ],
)
def test_names_are_taken_for_what_they_plainly_mean(given, meant):
    assert listed(given) == meant
    assert CellChoice(CELL, cameras=given).cameras == meant
    assert CellOptions(cameras=given).cameras == meant


def test_one_path_is_a_list_of_one():
    assert listed_paths("folder") == listed_paths(Path("folder")) == (Path("folder"),)
    assert listed_paths(["a", Path("b")]) == (Path("a"), Path("b"))


def test_a_flywheel_takes_texts(tmp_path):
    config = FlywheelConfig(tmp_path, cells="PickToTray,Kitting", cameras="front")
    assert (config.cells, config.cameras) == (("PickToTray", "Kitting"), ("front",))


def test_windows_and_exports_take_texts(tmp_path):
    collect(cell=CELL, out=tmp_path / "d", episodes=1, cameras="front", image_size=(16, 16))
    windows = Windows(Dataset(tmp_path / "d"), "state,front", 1, 1, step_keys="label_valid")
    assert windows.keys == ("state", "front")
    assert {"state", "front", "label_valid"} <= set(next(iter(windows)))
    options = ExportOptions(keys="state", overlays=tmp_path / "view.json")
    assert (options.keys, options.overlays) == (("state",), (tmp_path / "view.json",))
