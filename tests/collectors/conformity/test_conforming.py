"""Cells and policies that keep their contract pass; each way of breaking it is named."""

import dataclasses
from types import MappingProxyType

import numpy as np
import pytest
from fake_cell import ACTION_SIZE, CELL_ID, FakeCell, FakePolicy

import shopfloor
from shopfloor.collectors.conformity import ConformityError, check_cell, check_policy
from shopfloor.collectors.sources import policy_ref, resolve_policy
from shopfloor.core import ActionChunk, Cell, InvalidInputError, RewindableCell, ShopfloorError
from shopfloor.envs.registry import cell_ids, make_cell

pytestmark = pytest.mark.core


# -- cells -----------------------------------------------------------------------------------------


def test_a_good_cell_passes():
    assert issubclass(ConformityError, ShopfloorError)
    assert shopfloor.check_cell is check_cell
    assert shopfloor.check_policy is check_policy
    assert isinstance(FakeCell(), shopfloor.Cell)
    check_cell(FakeCell(privileged=True))


@pytest.mark.parametrize(
    "cell_id",
    [
        "shopfloor/PickToTray-v0",
        *(
            pytest.param(cell_id, marks=pytest.mark.slow)
            for cell_id in cell_ids()
            if cell_id != "shopfloor/PickToTray-v0"
        ),
    ],
)
def test_ours_pass_with_their_policies(cell_id):
    cell = make_cell(cell_id, privileged=True)
    assert isinstance(cell, Cell)
    assert isinstance(cell, RewindableCell)
    check_cell(cell)
    for kind in ("expert", "random"):
        check_policy(resolve_policy(policy_ref(kind, cell_id)), cell)
    cell.close()


class Noisy(FakeCell):
    """A real robot: no two episodes are equal."""

    def __init__(self, **options):
        super().__init__(**options)
        self.rng = np.random.default_rng(3)

    def reset(self, *, seed=None):
        return super().reset(seed=int(self.rng.integers(1000)))


class Bad(FakeCell):
    """A fault in one method: `fault(self, the sound method's result, *arguments)`."""

    faults = MappingProxyType({})

    def describe(self):
        return self._bad("describe", super().describe())

    def reset(self, *, seed=None):
        return self._bad("reset", super().reset(seed=seed), seed)

    def observe(self, cameras=None):
        return self._bad("observe", super().observe(cameras), cameras)

    def advance(self, action):
        return self._bad("advance", super().advance(action), action)

    def sim_state(self):
        return self._bad("sim_state", super().sim_state())

    def camera_track(self, name):
        return self._bad("camera_track", super().camera_track(name), name)

    def _bad(self, method, result, *arguments):
        fault = self.faults.get(method)
        return result if fault is None else fault(self, result, *arguments)


def bad(method, fault, **attributes):
    return type("Bad", (Bad,), {"faults": {method: fault}, **attributes})


def described(**changes):
    return bad("describe", lambda cell, found: {**found, **changes})


def featured(key, **changes):
    def fault(cell, found):
        feature = {**found["features"][key], **changes}
        return {**found, "features": {**found["features"], key: feature}}

    return bad("describe", fault)


def informed(**changes):
    return bad("reset", lambda cell, found, seed: (found[0], {**found[1], **changes}))


def ended(reward=0.0, terminated=True, truncated=False, **changes):
    def fault(cell, found, action):
        return reward, terminated, truncated, {**found[3], **changes}

    return bad("advance", fault)


def observed(key, change):
    def fault(cell, found, cameras):
        return {**found, key: change(found[key])} if key in found else found

    return bad("observe", fault)


class Forgetful(FakeCell):
    """Goes on from where the last episode ended."""

    position = np.zeros(3)

    def reset(self, *, seed=None):
        before = self.position
        super().reset(seed=seed)
        self.position = self.position + 0.1 * before
        return self.observe(), self._info()


class Drifting(FakeCell):
    """Moves by being looked at."""

    def observe(self, cameras=None):
        self.position = self.position + 1e-6
        return super().observe(cameras)


class Shared(FakeCell):
    """Hands out its own array."""

    def reset(self, *, seed=None):
        self.shared = np.ones(6, np.float32)
        return super().reset(seed=seed)

    def observe(self, cameras=None):
        return {**super().observe(cameras), "state": self.shared}


class Unclipped(FakeCell):
    """Takes actions beyond the limits at their word."""

    def advance(self, action):
        found = super().advance(action)
        self.position = self.position + 0.001 * np.nan_to_num(action[:3])
        return found


class Swallows(FakeCell):
    """Takes NaN for zero."""

    def advance(self, action):
        return super().advance(np.nan_to_num(action))


class Tireless(FakeCell):
    """Takes steps after the end."""

    def advance(self, action):
        if self.ended:
            return 0.0, True, False, self._info()
        return super().advance(action)


class Endless(FakeCell):
    """Never says that time is up."""

    max_episode_steps = 1000

    def describe(self):
        return {**super().describe(), "max_episode_steps": 40}


class AnyShape(FakeCell):
    """Takes actions of any shape."""

    def advance(self, action):
        return super().advance(np.resize(action, ACTION_SIZE))


class Elsewhere(FakeCell):
    """Does not come back to the state that it is given."""

    def set_sim_state(self, state):
        super().set_sim_state(state + 0.5)


class Crashing(FakeCell):
    def sim_state(self):
        raise OSError("no connection")


class WithoutTracks(FakeCell):
    def __getattribute__(self, name):
        if name in ("camera_track", "close"):
            raise AttributeError(name)
        return super().__getattribute__(name)


def twice(cell, found):
    cell.calls = getattr(cell, "calls", 0) + 1
    return {**found, "calls": cell.calls}


BAD_CELLS = {
    "members": (WithoutTracks, "WithoutTracks: there is no camera_track, close; expected the mem"),
    "id": (type("Bad", (FakeCell,), {"cell_id": "Bench"}), "cell_id is 'Bench'"),
    "size": (type("Bad", (FakeCell,), {"action_size": 7.0}), "action_size is 7.0"),
    "no json": (described(robot=np.float32(1)), "not JSON serializable; expected plain JSON"),
    "not a number": (described(mass_kg=float("nan")), "expected plain JSON data"),
    "changing": (bad("describe", twice), "two calls return different data"),
    "other cell": (described(cell="acme/Else-v0"), "'cell' is 'acme/Else-v0'; expected 'shopf"),
    "rate": (described(control_hz=10), "'control_hz' is 10; expected 20"),
    "robot": (described(robot=None), "'robot' is None"),
    "names": (described(action_names=["x", "y"]), "'action_names' are x, y; expected 7"),
    "frozen": (described(frozen_actions=["rq"]), "'frozen_actions' has rq"),
    "limit": (described(max_episode_steps=0), "'max_episode_steps' is 0"),
    "features": (described(features={}), "'features' is {}"),
    "feature": (described(features={"state": [6]}), r"feature 'state' is \[6\]"),
    "feature's dtype": (featured("state", dtype="float64"), "the dtype of 'state' is 'float64'"),
    "feature's shape": (featured("state", shape=[6, 1]), r"shape of 'state' is \[6, 1\]"),
    "feature's kind": (featured("front", shape=[8, 12]), "'float32', as it is a vector"),
    "other shape": (
        featured("state", shape=[5]),
        r"'state' is float32 \(6,\); expected float32 \(5",
    ),
    "reset": (bad("reset", lambda cell, found, seed: found[0]), "reset returned"),
    "instruction": (informed(instruction=""), r"info\['instruction'\] is ''"),
    "object names": (informed(object_names=(1, 2)), r"info\['object_names'\] is \(1, 2\)"),
    "number of names": (informed(object_names=("a",)), "there are 1 object_names; expected 2"),
    "info": (bad("reset", lambda cell, found, seed: (found[0], {})), "the info is {}"),
    "over at once": (informed(success=True), "success is True"),
    "advance": (bad("advance", lambda cell, found, action: found[:3]), "advance returned"),
    "reward": (ended(reward=float("nan"), terminated=False), "the reward is nan"),
    "terminated": (ended(terminated=1), "terminated is 1; expected a bool"),
    "success goes on": (ended(terminated=False, success=True), "success to terminate"),
    "reason": (ended(failure="because"), "ended with the failure 'because'"),
    "no state": (bad("observe", lambda cell, found, cameras: {}), "the observation has no state"),
    "dtype": (observed("state", lambda rows: rows.astype(float)), r"'state' is float64 \(6,\)"),
    "list": (observed("state", list), "'state' is a list"),
    "infinite": (observed("objects", lambda rows: rows / 0), "'objects' has non-finite numbers"),
    "picture": (observed("wrist", lambda rows: rows[:4]), r"'wrist' is uint8 \(4, 12, 3\)"),
    "unasked": (
        bad("observe", lambda cell, found, _: {**found, "front": cell._picture("front")}),
        r"observe\(\[\]\) returned front, too",
    ),
    "state's dtype": (
        bad("sim_state", lambda cell, found: found.astype(np.float32)),
        "sim_state is float32",
    ),
    "state": (bad("sim_state", lambda cell, found: found * np.nan), r"\(7,\), not finite"),
    "track": (bad("camera_track", lambda cell, found, _: found[::-1]), r"shapes \[\(4, 4\), \(3"),
    "crash": (Crashing, "step 0: sim_state raised OSError: no connection"),
    "forgets nothing": (Forgetful, "seed 0, step 0: there is another .*forget earlier episodes"),
    "looking moves": (Drifting, "another .*`observe` must change nothing"),
    "shared": (Shared, "another 'state'.*new arrays"),
    "unclipped": (Unclipped, "another .*for an action of 3.0 the same as for 1.0"),
    "shape": (AnyShape, r"an action of shape \(8,\) was taken"),
    "nan": (Swallows, r"an action with NaN gave terminated, truncated \(False, False\)"),
    "after the end": (Tireless, "a step after the episode's end was taken"),
    "endless": (Endless, "step 40: the episode goes on"),
    "rewinding": (Elsewhere, "another .*after set_sim_state the same"),
}


@pytest.mark.parametrize("name", BAD_CELLS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_bad_cell_is_refused_and_the_fault_named(name):
    make, message = BAD_CELLS[name]
    with pytest.raises(ConformityError, match=message) as caught:
        check_cell(make(privileged=True))
    assert "; expected " in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_real_robot_need_not_repeat_itself():
    check_cell(Noisy(), deterministic=False)
    with pytest.raises(ConformityError, match="deterministic=False"):
        check_cell(Noisy())


# -- policies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy",
    [
        FakePolicy(),
        FakePolicy(execute=3, expert=True, keys=("state", "objects", "object_names", "wrist")),
    ],
)
def test_a_good_policy_passes(policy):
    check_policy(policy, FakeCell(privileged=True))


def answering(answer):
    return lambda: FakePolicy(answer=answer)


def informing(**changes):
    def make():
        policy = FakePolicy()
        policy.info = dataclasses.replace(policy.info, **changes)
        return policy

    return make


def actions(value=0.0, rows=2, columns=ACTION_SIZE, dtype=np.float32):
    return np.full((rows, columns), value, dtype)


def vandal(count, observation):
    observation["state"][:] = 0
    return ActionChunk(actions())


def hoarder(count, observation):
    observation["mine"] = 1
    return ActionChunk(actions())


class Unseeded(FakePolicy):
    def reset(self, seed, instruction):
        self.generator = np.random.default_rng()

    def act(self, observation):
        return ActionChunk(self.generator.uniform(-1, 1, (1, ACTION_SIZE)).astype(np.float32))


class NewInfo(FakePolicy):
    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name != "info":
            return found
        self.count = getattr(self, "count", 0) + 1
        return dataclasses.replace(found, digest=f"{self.count}")


class NoReset(FakePolicy):
    def reset(self, seed):
        pass


class NoAct:
    info = FakePolicy().info


BAD_POLICIES = {
    "members": (NoAct, "NoAct: there is no reset, act"),
    "no info": (
        type("Bad", (FakePolicy,), {"__init__": lambda self: setattr(self, "info", {})}),
        0,
    ),
    "changing info": (NewInfo, "info changes"),
    "name": (informing(name=""), "name is ''"),
    "digest": (informing(digest=None), "digest is None"),
    "cells": (informing(cells=CELL_ID), "cells is 'shopfloor/FakeReach-v0'; expected a tuple"),
    "keys": (informing(observation_keys=["state"]), r"observation_keys is \['state'\]"),
    "no keys": (informing(observation_keys=()), r"observation_keys is \(\)"),
    "size": (informing(image_size=96), "image_size is 96"),
    "expert": (informing(expert=1), "expert is 1"),
    "reset": (NoReset, r"reset\(0, 'reach goal 0'\) raised TypeError"),
    "raises": (answering(lambda *_: 1 / 0), "step 0: act raised ZeroDivisionError"),
    "nothing": (answering(lambda *_: None), "answered a NoneType, not an ActionChunk"),
    "narrow": (answering(lambda *_: ActionChunk(actions(columns=6))), r"float32 \(2, 6\)"),
    "execute": (answering(lambda *_: ActionChunk(actions(), execute=3)), "expected 1 to 2"),
    "nan": (answering(lambda *_: ActionChunk(actions(np.nan))), "non-finite actions"),
    "double": (answering(lambda *_: ActionChunk(actions(dtype=float))), "actions are float64"),
    "list": (answering(lambda *_: ActionChunk(actions().tolist())), "actions are list"),
    "beyond": (answering(lambda *_: ActionChunk(actions(1.5))), "reach from 1.5 to 1.5"),
    "changes": (answering(vandal), "act changed state"),
    "adds": (answering(hoarder), "act changed mine"),
    "unseeded": (Unseeded, "answer 1: it differs"),
    "remembers": (
        answering(lambda count, _: ActionChunk(actions(count / 1000))),
        "answer 1: it differs.*forget earlier episodes",
    ),
}


@pytest.mark.parametrize("name", BAD_POLICIES)
def test_a_bad_policy_is_refused_and_the_fault_named(name):
    make, message = BAD_POLICIES[name]
    with pytest.raises(ConformityError, match=message or "info is a dict") as caught:
        check_policy(make(), FakeCell(privileged=True))
    assert "; expected " in str(caught.value)


def test_a_policy_of_another_cell_is_refused_as_a_run_would():
    with pytest.raises(InvalidInputError, match="was made for acme/Else-v0"):
        check_policy(FakePolicy(cells=("acme/Else-v0",)), FakeCell())
    with pytest.raises(InvalidInputError, match="needs lidar"):
        check_policy(FakePolicy(keys=("lidar",)), FakeCell())
