"""The configuration of training: what it takes, and each refusal."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from shopfloor.core import InvalidInputError, UnknownNameError
from shopfloor.policies.learners.config import TrainConfig


def config(**options):
    return TrainConfig((Path("data"),), Path("out"), **options)


def test_the_defaults_are_valid_and_cannot_be_changed():
    plain = config()
    assert (plain.head, plain.seed, plain.batch, plain.views) == (
        "regression",
        0,
        64,
        ("front", "wrist"),
    )
    assert plain.observations is plain.experts is plain.steps is plain.execute is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        plain.steps = 5  # type: ignore[misc]


@pytest.mark.parametrize("data", ["one", Path("one"), ["one"], (Path("one"),)])
def test_one_folder_or_several_are_a_tuple_of_paths(data):
    assert TrainConfig(data, Path("out")).data == (Path("one"),)


def test_views_and_overlays_become_tuples():
    made = config(views="front,wrist", overlays="view.json")
    assert made.views == ("front", "wrist")
    assert made.overlays == (Path("view.json"),)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "regresion"}, "Unknown head 'regresion'.*Did you mean 'regression'"),
        ({"observations": "pose"}, "Unknown observation set 'pose'.*Did you mean 'poses'"),
    ],
)
def test_unknown_choices_suggest_the_nearest(options, message):
    with pytest.raises(UnknownNameError, match=message):
        config(**options)


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("name", ["steps", "experts", "execute", "batch"])
def test_numbers_below_one_are_refused(name, value):
    with pytest.raises(InvalidInputError, match=f"--{name} is {value}; expected at least 1"):
        config(**{name: value})
    assert getattr(config(**{name: 1}), name) == 1


def test_flags_are_shown_without_torch():
    """`shopfloor train --help` reads this module and must not wait for torch."""
    code = (
        "import json, sys; import shopfloor.policies.learners.config; "
        "print(json.dumps([name in sys.modules for name in ('torch', 'transformers')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(done.stdout) == [False, False]
