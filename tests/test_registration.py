"""The cells' ids are Gymnasium's, whoever is imported first, and `import shopfloor` imports no Gymnasium for it."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.core


def answer_of(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("imports", "name"),
    [
        ("import shopfloor, gymnasium", "shopfloor/Kitting-v0"),
        ("import gymnasium, shopfloor", "shopfloor/Kitting-v0"),
        ("import gymnasium", "shopfloor:shopfloor/Kitting-v0"),
        ("import shopfloor; from gymnasium.envs import registration", "shopfloor/Kitting-v0"),
    ],
)
def test_a_cell_is_made_in_any_order_of_imports(imports, name):
    code = f"""
{imports}
import gymnasium
cell = gymnasium.make({name!r})
print(cell.spec.id, cell.spec.vector_entry_point)
"""
    assert answer_of(code) == [
        "shopfloor/Kitting-v0",
        "shopfloor.envs.vectors.vector:shopfloor/Kitting-v0",
    ]


def test_the_package_alone_imports_neither_gymnasium_nor_numpy():
    code = "import sys, shopfloor; print({'gymnasium', 'numpy'} & set(sys.modules) or 'none')"
    assert answer_of(code) == ["none"]


def test_the_registry_is_left_as_its_own_loader_would_have_made_it():
    code = """
import shopfloor, gymnasium
module = gymnasium.envs.registration
print(module.__spec__.loader is module.__loader__, type(module.__loader__).__name__)
"""
    assert answer_of(code) == ["True", "SourceFileLoader"]


def test_a_package_that_is_imported_anew_registers_once():
    code = """
import sys, warnings
warnings.simplefilter("error")
import shopfloor
for name in [name for name in sys.modules if name.startswith("shopfloor")]:
    del sys.modules[name]
import shopfloor, gymnasium
print(len([name for name in gymnasium.registry if name == "shopfloor/Kitting-v0"]))
"""
    assert answer_of(code) == ["1"]


def test_without_gymnasium_its_import_fails_as_ever():
    code = """
import sys, shopfloor
sys.path[:] = [entry for entry in sys.path if "site-packages" not in entry]
try:
    import gymnasium
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert answer_of(code) == ["gymnasium"]
