"""The guard of bytes: what it calls equal, and whom it asks on another machine."""

import contextlib
import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "checks" / "digests.py"
spec = importlib.util.spec_from_file_location("digests", FILE)
digests = importlib.util.module_from_spec(spec)
sys.modules["digests"] = digests
spec.loader.exec_module(digests)

RECIPE = digests.Recipe("some", ("cells",))
HERE = digests.made_with()


def test_every_kept_recipe_is_there_and_every_recipe_is_kept():
    kept = digests.json.loads(digests.KEPT.read_text())
    assert set(kept["digests"]) == {recipe.name for recipe in digests.recipes()}
    assert sum(recipe.quick for recipe in digests.recipes()) > 10


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        ({"a": "1", "b": "2"}, []),
        ({"a": "1"}, ["missing: b"]),
        ({"a": "1", "b": "3"}, ["differs: b"]),
        ({"a": "1", "b": "2", "c": "4"}, ["new: c"]),
        ({digests.FAILED: "it said no"}, ["it said no"]),
    ],
)
def test_differences_are_named(found, lines):
    assert digests.differences({"a": "1", "b": "2"}, found) == lines


@pytest.mark.parametrize(
    ("made_with", "reference", "differing"),
    [
        (HERE, None, 1),  # the same machine: no second opinion
        ({**HERE, "processor": "another"}, {"a": "new"}, 0),  # the old code writes that here, too
        ({**HERE, "numpy": "1.0"}, {"a": "old"}, 1),
    ],
)
def test_on_another_machine_the_old_code_decides(monkeypatch, made_with, reference, differing):
    asked = []

    @contextlib.contextmanager
    def code_of(commit):
        asked.append(commit)
        yield Path("old")

    def run_all(chosen, tree, jobs):
        yield RECIPE, reference if tree == Path("old") else {"a": "new"}, 0.0

    monkeypatch.setattr(digests, "code_of", code_of)
    monkeypatch.setattr(digests, "run_all", run_all)
    kept = {"commit": "abc", "made_with": made_with, "digests": {"some": {"a": "old"}}}
    assert digests.compare([RECIPE], kept, 1) == differing
    assert asked == ([] if reference is None else ["abc"])


def test_what_differs_between_runs_is_left_out_of_a_result(tmp_path):
    path = tmp_path / "x.summary.json"
    contents = []
    for seconds in (1, 2):
        path.write_text(digests.json.dumps({"success": 0.5, "turns": [{"cpu_seconds": seconds}]}))
        contents.append(digests._content(path))
    assert contents[0] == contents[1]
    assert b"0.5" in contents[0]
