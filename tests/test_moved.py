"""Paths of modules that documents named before work for one more version, with a warning."""

import importlib
import subprocess
import sys

import pytest

from shopfloor.moved import MOVED, Finder

FACES = {
    "shopfloor.collectors.executors": ("Executor", "LocalExecutor", "make_executor"),
    "shopfloor.datasets.convert": ("Exported", "Selection", "given_actions", "observed"),
    "shopfloor.datasets.windows": ("Windows",),
    "shopfloor.envs.experts": ("Scene", "ScriptedExpert", "grasp_yaw", "make_expert"),
    "shopfloor.envs.looks": ("Camera",),
    "shopfloor.envs.physics": ("Shape", "World"),
    "shopfloor.envs.robots": ("Arm", "ArmModel", "Fingers", "Hand", "Robot", "robot_model"),
}


@pytest.fixture(autouse=True)
def forgotten():
    """Import old paths anew."""
    for old in MOVED:
        sys.modules.pop(old, None)
        package, _, name = old.rpartition(".")
        vars(importlib.import_module(package)).pop(name, None)


@pytest.mark.parametrize("old", [name for name in MOVED if ".policies." not in name])
def test_an_old_path_is_the_new_module(old):
    with pytest.warns(DeprecationWarning, match=rf"{old} is {MOVED[old]} now"):
        module = importlib.import_module(old)
    assert module is importlib.import_module(MOVED[old])
    assert module.__name__ == module.__spec__.name == MOVED[old]


def test_every_form_of_import_works():
    with pytest.warns(DeprecationWarning, match="looks.camera"):
        from shopfloor.envs.camera import Camera
    with pytest.warns(DeprecationWarning, match="physics.world"):
        from shopfloor.envs import world
    from shopfloor.envs import looks, physics

    assert Camera is looks.Camera
    assert world.World is physics.World


def test_other_missing_modules_stay_missing():
    assert Finder().find_spec("shopfloor.envs.nothing", None) is None
    with pytest.raises(ModuleNotFoundError, match=r"envs\.nothing"):
        importlib.import_module("shopfloor.envs.nothing")


def test_nothing_of_ours_uses_an_old_path():
    names = sorted({new for new in MOVED.values() if ".policies." not in new})
    code = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    subprocess.run([sys.executable, "-W", "error::DeprecationWarning", "-c", code], check=True)


@pytest.mark.parametrize("face", FACES)
def test_a_folder_has_a_face(face):
    module = importlib.import_module(face)
    assert set(FACES[face]) <= set(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)
