"""`run.json` keeps two runs from mixing in one folder."""

import json

import pytest

from shopfloor.core import InvalidInputError
from shopfloor.launch.flywheel.run_file import open_run, read_json
from shopfloor.launch.flywheel.setups import resolved
from shopfloor.launch.flywheel.summary import seeds_used

pytestmark = pytest.mark.core


def test_it_follows_its_schema(config, validate):
    config = resolved(config)
    open_run(config.out, config.to_json(), seeds_used(config), 2)
    validate(read_json(config.out / "run.json"), "run")


def test_the_same_settings_go_on(tmp_path):
    out = tmp_path / "out"
    open_run(out, {"a": (1, 2)}, {}, 1)
    before = (out / "run.json").read_bytes()
    open_run(out, {"a": [1, 2]}, {}, 8)
    assert (out / "run.json").read_bytes() == before


def test_other_settings_are_refused_and_named(tmp_path):
    open_run(tmp_path / "out", {"turns": 3, "seed": 0}, {}, 1)
    with pytest.raises(InvalidInputError, match="turns is 3 there and 2 here"):
        open_run(tmp_path / "out", {"turns": 2, "seed": 0}, {}, 1)


def test_a_folder_with_something_else_is_refused_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InvalidInputError, match="not a flywheel's folder"):
        open_run(tmp_path, {}, {}, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(InvalidInputError, match="not a flywheel's folder"):
        open_run(tmp_path / "thesis.tex", {}, {}, 1)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"command": "collect", "config": {}}', '{"command": "flywheel"}']
)
def test_another_or_broken_run_file_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InvalidInputError):
        open_run(tmp_path, {}, {}, 1)


def test_an_empty_folder_is_fine(tmp_path):
    open_run(tmp_path, {"a": 1}, {}, 1)
    assert json.loads((tmp_path / "run.json").read_text())["config"] == {"a": 1}
