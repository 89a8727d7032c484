"""Flags that every verb has that runs episodes: what is stored of a camera, where it runs, who intervenes."""

import json
import sys
import types
from importlib.metadata import EntryPoint

import h5py
import pytest

from shopfloor import CellChoice, Dataset
from shopfloor.collectors.config import CollectConfig
from shopfloor.collectors.executors import SerialExecutor, engine
from shopfloor.collectors.interventions import bystander, table
from shopfloor.errors import InvalidInputError
from shopfloor.launch import cli
from shopfloor.launch.flywheel.config import FlywheelConfig
from shopfloor.launch.verbs.flags import Engine


def shown(capsys, line):
    assert cli.main(line.split()) == 0
    return capsys.readouterr().out


def test_depth_is_stored_verified_shown_and_exported(tmp_path, capsys):
    data, exported = tmp_path / "d", tmp_path / "r.hdf5"
    line = f"collect PickToTray --cameras front --image-size 16 16 --episodes 1 --out {data}"
    shown(capsys, f"{line} --modalities depth,rgb")
    episode = Dataset(data).read(0)
    assert episode.spec.cell_options["modalities"] == ["rgb", "depth"]

    depth = episode.observations["front_depth"]
    assert depth.shape == (episode.steps + 1, 16, 16)
    assert depth.dtype == "float32"

    assert "sound" in shown(capsys, f"data verify {data} --deep")
    assert "front_depth float32 16 x 16" in shown(capsys, f"data info {data}")
    shown(capsys, f"data export {data} --to robomimic --out {exported}")
    with h5py.File(exported) as file:
        assert file["data/demo_0/obs/front_depth"].shape == (episode.steps, 16, 16)

    assert json.loads(shown(capsys, f"{line} --modalities rgb,depth --json"))["resumed"] == 1
    assert cli.main(line.split()) == 2  # one without depth has other features
    assert "features differ" in capsys.readouterr().err


@pytest.mark.core
def test_what_is_usual_is_left_out_of_specs_and_runs(tmp_path):
    assert CellChoice("PickToTray").looks == {}
    assert CellChoice("PickToTray", renderer="gl", modalities="segmentation rgb").looks == {
        "renderer": "gl",
        "modalities": ["rgb", "segmentation"],
    }

    config = FlywheelConfig(tmp_path, modalities="rgb,depth")
    assert config.choice("x").modalities == ("rgb", "depth")
    assert config.to_json()["modalities"] == ["rgb", "depth"]
    assert "modalities" not in FlywheelConfig(tmp_path).to_json()


@pytest.mark.core
def test_an_engine_is_named_once():
    assert Engine().address is None
    assert Engine().or_serial == "serial"
    assert Engine(engine="local:3").or_serial == "local:3"
    assert Engine(workers=3).or_serial == 3
    with pytest.raises(InvalidInputError, match="--engine serial and --workers 1"):
        Engine("serial", 1)


def announced(monkeypatch, module, name, factory):
    """Announce a factory under a name as an installed package would."""
    package = types.ModuleType("acme_flags")
    package.factory = factory
    monkeypatch.setitem(sys.modules, "acme_flags", package)

    point = EntryPoint(name, "acme_flags:factory", module.GROUP)
    monkeypatch.setattr(
        module, "entry_points", lambda group: [point] if group == module.GROUP else []
    )


@pytest.mark.parametrize(
    "line",
    [
        "evaluate --policy random --cell PickToTray --episodes 1",
        "collect PickToTray --policy random --episodes 1 --out {tmp}/d",
        "compare random expert --cell PickToTray --episodes 1 --json",
    ],
)
def test_an_installed_engine_runs_a_verb(line, tmp_path, capsys, monkeypatch):
    addresses = []

    def factory(address, *, allowed=()):
        addresses.append(address)
        return SerialExecutor(allowed=allowed)

    announced(monkeypatch, engine, "acme", factory)
    assert cli.main([*line.format(tmp=tmp_path).split(), "--engine", "acme://host:1"]) in (0, 1)
    assert addresses == ["acme://host:1"]
    capsys.readouterr()


def test_an_installed_intervention_is_taken_by_name(tmp_path, capsys, monkeypatch):
    announced(monkeypatch, table, "watch", bystander.label)
    shown(capsys, f"collect PickToTray --episodes 1 --intervene watch --out {tmp_path}/d")
    assert Dataset(tmp_path / "d").read(0).spec.intervention == "watch"

    assert cli.main(f"collect PickToTray --intervene wach --out {tmp_path}/e".split()) == 2
    message = capsys.readouterr().err
    assert "Did you mean 'watch'? Known: expert, label, none, own, watch." in message
    assert "none|expert|label|own|NAME" in shown(capsys, "collect --help")


@pytest.mark.core
def test_the_configuration_is_at_its_old_path_too():
    from shopfloor.collectors import collect

    assert collect.CollectConfig is CollectConfig
