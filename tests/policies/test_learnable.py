"""Which cells policies can learn: every reason why not, in the order in which they are given."""

from __future__ import annotations

import pytest

from shopfloor.envs.registry import make_cell
from shopfloor.policies.learnable import ACTIONS, why_not


def test_a_cell_of_one_arm_with_words_can_be_learnt(make_description):
    assert why_not(make_description()) == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"action_convention": "joint_v1"},
            "its actions mean 'joint_v1'; policies learn 'ee_delta_base_v1'",
        ),
        (
            {"action_names": [*ACTIONS, "gripper_2"]},
            "its actions have 8 components, those of several robots; policies learn one arm, with 7",
        ),
        ({"action_names": ["dx", "dy"]}, "its actions have 2 components"),
    ],
)
def test_actions_that_policies_do_not_learn(make_description, changes, reason):
    assert why_not(make_description(**changes)).startswith(reason)


@pytest.mark.parametrize("word", ["vocabulary", "instruction_templates"])
def test_a_cell_without_words(make_description, word):
    description = make_description()
    del description[word]
    assert why_not(description) == (
        "its description names no parts and goals (`vocabulary`, `instruction_templates`)"
    )


def test_the_convention_is_the_first_reason():
    description = {"action_convention": "joint_v1", "action_names": ["dx"]}
    assert "'joint_v1'" in why_not(description)
    assert "components" in why_not({**description, "action_convention": "ee_delta_base_v1"})


def test_descriptions_of_earlier_releases_need_not_name_their_actions(make_description):
    description = make_description()
    del description["action_names"], description["action_convention"]
    assert why_not(description) == ""


def test_the_action_names_are_those_of_the_cells():
    cell = make_cell("PickToTray", privileged=True)
    assert tuple(cell.describe()["action_names"]) == ACTIONS
    assert why_not(cell.describe()) == ""
    cell.close()
