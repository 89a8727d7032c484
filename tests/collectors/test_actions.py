"""What actions mean belongs to the cell: policies are compared with its specification, whatever it is."""

import numpy as np
import pytest
from fake_cell import ACTION_SIZE, CELL_ID, FakeCell, FakePolicy

from shopfloor.collectors.rollout import rollout
from shopfloor.core import (
    ACTION_CONVENTION,
    ActionChunk,
    ActionSpec,
    EpisodeSpec,
    InvalidInputError,
    PolicyInfo,
)
from shopfloor.envs.registry import cell_ids, make_cell
from shopfloor.launch.cli import main

ARM = ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")


class Drive:
    """Drives straight ahead, and is honest about what its actions are."""

    def __init__(self, cell, convention="base_velocity_v1", size=2):
        self.info = PolicyInfo("drive", f"drive:{convention}", action_convention=convention)
        self.size = size

    def reset(self, seed, instruction):
        pass

    def act(self, observation):
        action = np.zeros((1, self.size), dtype=np.float32)
        action[:, 0] = 0.2
        return ActionChunk(action)


class Plain(FakeCell):
    """A cell of a release that knew no specification: its description lacks all of it."""

    def describe(self):
        keys = ("action_convention", "action_names", "frozen_actions")
        return {key: value for key, value in super().describe().items() if key not in keys}


def episode_of(cell, policy):
    return rollout(cell, policy, EpisodeSpec(cell.cell_id, 3, policy.info.digest))


@pytest.fixture
def aisle():
    cell = make_cell("AisleDelivery", cameras=(), privileged=True)
    yield cell
    cell.close()


# -- the specification -----------------------------------------------------------------------------


@pytest.mark.parametrize("cell_id", cell_ids())
def test_a_specification_says_all_of_a_cells_actions(cell_id):
    cell = make_cell(cell_id, cameras=())
    actions = ActionSpec.of(cell.describe(), cell.action_size)
    cell.close()
    assert len(actions.names) == len(actions.units) == len(actions.low) == cell.action_size
    assert np.array_equal(actions.low, cell.action_space.low)
    assert np.array_equal(actions.high, cell.action_space.high)
    grippers = [index for index, name in enumerate(actions.names) if name.startswith("gripper")]
    assert list(actions.grippers) == grippers
    assert not actions.moving[grippers].any()
    assert set(actions.units) <= {"m", "rad", "1", "m/s", "rad/s"}


def test_two_arms_and_a_base_have_the_units_of_each():
    names = [*ARM, *(f"{name}_2" for name in ARM), "v", "omega"]
    description = {"action_names": names, "frozen_actions": ["rx", "ry_2"]}
    actions = ActionSpec.of(description, len(names))
    arm = ("m", "m", "m", "rad", "rad", "rad", "1")
    assert actions.units == (*arm, *arm, "m/s", "rad/s")
    assert actions.grippers == (6, 13)
    assert actions.frozen == (3, 11)
    assert np.flatnonzero(~actions.used).tolist() == [3, 11]
    assert np.flatnonzero(~actions.moving).tolist() == [3, 6, 11, 13]


def test_what_a_description_lacks_is_derived():
    actions = ActionSpec.of({}, 3)
    assert actions.convention == ACTION_CONVENTION
    assert actions.names == ("action_0", "action_1", "action_2")
    assert actions.units == ("1", "1", "1")
    assert actions.moving.all()


# -- policies beside it ----------------------------------------------------------------------------


def test_an_honest_base_policy_drives_a_base(aisle):
    episode = episode_of(aisle, Drive(aisle.cell_id))
    assert episode.actions.shape == (episode.steps, 2)
    assert episode.steps > 1
    assert np.ptp(episode.observations["state"][:, 0]) > 0.1  # it went somewhere


def test_a_policy_that_states_nothing_takes_the_cells(aisle):
    assert episode_of(aisle, Drive(aisle.cell_id, convention="")).steps > 1


def test_a_policy_for_an_arm_is_refused_by_a_base_and_both_are_shown(aisle):
    with pytest.raises(InvalidInputError) as refused:
        episode_of(aisle, Drive(aisle.cell_id, convention=ACTION_CONVENTION))
    assert "'ee_delta_base_v1'" in str(refused.value)
    assert "'base_velocity_v1' (2 components: v, omega)" in str(refused.value)


def test_a_policy_for_a_base_is_refused_by_an_arm():
    with pytest.raises(InvalidInputError, match=r"'base_velocity_v1'.*'ee_delta_base_v1' \(7 comp"):
        episode_of(FakeCell(privileged=True), Drive(CELL_ID, size=ACTION_SIZE))


def test_cells_that_know_of_no_specification_work_unchanged():
    policy = FakePolicy()
    old, new = (episode_of(kind(privileged=True), policy) for kind in (Plain, FakeCell))
    assert np.array_equal(old.actions, new.actions)
    assert old.steps > 1


def test_the_command_line_refuses_a_mismatch_with_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("shopfloor.collectors.sources._factory", lambda kind: Drive)
    monkeypatch.setattr("shopfloor.collectors.sources.policy_kinds", lambda: ["drive"])
    flags = ["--policy", "drive", "--episodes", "1", "--seed", "0"]
    assert main(["evaluate", "--cell", "AisleDelivery", *flags]) == 0
    assert main(["evaluate", "--cell", "PickToTray", *flags]) == 2
    shown = capsys.readouterr().err
    assert "'base_velocity_v1'" in shown
    assert "'ee_delta_base_v1'" in shown
