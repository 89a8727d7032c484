"""Cells by name, ours and those of other packages."""

from __future__ import annotations

import sys
import types
from importlib.metadata import EntryPoint

import gymnasium
import pytest

import shopfloor
from shopfloor.core import UnknownNameError
from shopfloor.envs import registry
from shopfloor.envs.cell import WorkCell
from shopfloor.envs.cells.pick_to_tray import PickToTray
from shopfloor.envs.experts.scripted import make_expert

pytestmark = pytest.mark.core


def test_our_cells_are_registered_by_importing_the_package():
    assert shopfloor.__version__
    assert "shopfloor/PickToTray-v0" in registry.cell_ids()
    assert "shopfloor/PickToTray-v0" in gymnasium.registry
    env = gymnasium.make("shopfloor:shopfloor/PickToTray-v0", cameras=())
    assert isinstance(env.unwrapped, WorkCell)
    env.close()


@pytest.mark.parametrize("name", ["PickToTray", "PickToTray-v0", "shopfloor/PickToTray-v0"])
def test_names_resolve(name):
    assert registry.resolve_cell(name) == "shopfloor/PickToTray-v0"


@pytest.mark.parametrize("name", ["pick_to_tray", "PickToTrey", "", "shopfloor/PickToTray-v9"])
def test_unknown_names_are_refused(name):
    with pytest.raises(UnknownNameError, match=r"Unknown cell .* Known: .*PickToTray"):
        registry.make_cell(name)


def test_other_packages_announce_cells(monkeypatch):
    module = types.ModuleType("acme_cells")
    module.make = lambda **options: WorkCell("acme/Tray-v3", PickToTray(), **options)
    monkeypatch.setitem(sys.modules, "acme_cells", module)
    points = [
        EntryPoint("acme/Tray-v3", "acme_cells:make", registry.GROUP),
        EntryPoint("acme/Tray-v2", "acme_cells:make", registry.GROUP),
    ]
    monkeypatch.setattr(
        registry, "entry_points", lambda group: points if group == registry.GROUP else []
    )
    assert {"acme/Tray-v2", "acme/Tray-v3", "shopfloor/PickToTray-v0"} <= set(registry.cell_ids())
    assert registry.resolve_cell("Tray") == "acme/Tray-v3"
    cell = registry.make_cell("Tray", cameras=())
    assert cell.reset(seed=1)[1]["instruction"]
    cell.close()
    with pytest.raises(UnknownNameError, match="expert for cell 'acme/Tray-v3'"):
        make_expert("Tray")
