"""Vectors of cells: Gymnasium's semantics, the trajectories of single cells, errors instead of hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from short_episodes import short

from shopfloor.core import InfrastructureError, InvalidInputError, UnknownNameError
from shopfloor.envs.registry import make_cell
from shopfloor.envs.vectors import vector
from shopfloor.envs.vectors.vector import WorkCellVector

CELL = "shopfloor/PickToTray-v0"
OPTIONS = {"cameras": (), "privileged": True}


def batches(vec, steps, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1, 1, vec.action_space.shape).astype(np.float32) for _ in range(steps)]


def assert_same(ours, theirs):
    """Compare nested results to the byte, types included."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert list(ours) == list(theirs) or set(ours) == set(theirs)
        for key in ours:
            assert_same(ours[key], theirs[key])
    elif isinstance(ours, tuple):
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(ours, np.ndarray) and ours.dtype == object:
        assert_same(tuple(ours), tuple(theirs))
    elif isinstance(ours, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.tobytes() == theirs.tobytes()
    else:
        assert ours == theirs


def made(cell_id, num_envs, **options):
    return contextlib.closing(WorkCellVector(cell_id, num_envs, **options))


@pytest.fixture(scope="module")
def pair():
    """Two environments in one worker; tests must leave it usable."""
    vec = WorkCellVector(CELL, 2, workers=1, **OPTIONS)
    yield vec
    vec.close()


@pytest.mark.parametrize(
    ("num_envs", "workers"),
    [(1, 1), (2, 2), pytest.param(8, 1, marks=pytest.mark.slow), (8, 2)],
    ids=str,
)
def test_trajectories_are_those_of_single_cells(num_envs, workers):
    options = {"cameras": ("front",), "image_size": (16, 24), "privileged": True}
    with made(CELL, num_envs, workers=workers, **options) as vec:
        assert len(vec.process_ids()) == workers
        single = [make_cell(CELL, **options) for _ in range(num_envs)]
        seen, infos = vec.reset(seed=600_000)
        for row, cell in enumerate(single):
            alone, info = cell.reset(seed=600_000 + row)
            assert_same({key: value[row] for key, value in seen.items()}, alone)
            assert {key: infos[key][row] for key in info} == info
        for batch in batches(vec, 6):
            seen, rewards, ends, cuts, infos = vec.step(batch)
            for row, cell in enumerate(single):
                alone, *facts, info = cell.step(batch[row])
                assert_same({key: value[row] for key, value in seen.items()}, alone)
                assert [rewards[row], ends[row], cuts[row]] == facts
                assert {key: infos[key][row] for key in info} == info
        for cell in single:
            cell.close()


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_everything_is_as_in_gymnasiums_vector(mode):
    theirs = SyncVectorEnv([lambda: short(CELL, **OPTIONS)] * 2, autoreset_mode=mode)
    ours = WorkCellVector(CELL, 2, workers=2, autoreset_mode=mode, make=short, **OPTIONS)
    try:
        for name in (
            "single_observation_space",
            "observation_space",
            "single_action_space",
            "action_space",
        ):
            assert getattr(ours, name) == getattr(theirs, name)
        assert ours.metadata == theirs.metadata
        assert ours.render_mode == theirs.render_mode
        assert_same(ours.reset(seed=[5, 3]), theirs.reset(seed=[5, 3]))
        assert ours.np_random_seed == theirs.np_random_seed
        for number, batch in enumerate(batches(ours, 8)):
            if number == 2:
                mask = np.array([False, True])
                assert_same(
                    ours.reset(seed=7, options={"reset_mask": mask}),
                    theirs.reset(seed=7, options={"reset_mask": mask}),
                )
            assert_same(ours.step(batch), theirs.step(batch))
    finally:
        ours.close()
        theirs.close()


def test_ended_episodes_wait_where_no_new_ones_are_wanted():
    with made(CELL, 1, autoreset_mode=AutoresetMode.DISABLED, make=short, **OPTIONS) as vec:
        vec.reset(seed=1)
        *steps, last = batches(vec, 4)
        assert [bool(vec.step(batch)[3][0]) for batch in steps] == [False, False, True]
        with pytest.raises(InvalidInputError, match="after the episode ended; call reset"):
            vec.step(last)
        with pytest.raises(
            InvalidInputError, match="after an error that ended the episodes; call reset first"
        ):
            vec.step(last)
        vec.reset(seed=1)
        vec.step(last)


def test_make_vec_makes_one(monkeypatch):
    spec = gymnasium.spec(CELL)
    monkeypatch.setattr(spec, "vector_entry_point", f"shopfloor.envs.vectors.vector:{CELL}")
    vec = gymnasium.make_vec(
        CELL, num_envs=2, vectorization_mode="vector_entry_point", workers=1, cameras=()
    )
    try:
        assert isinstance(vec, WorkCellVector)
        assert vec.spec.id == CELL
        assert vec.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        assert vec.reset(seed=0)[0]["state"].shape == vec.observation_space["state"].shape
    finally:
        vec.close()
    with pytest.raises(AttributeError, match="shopfloor/Nothing-v0"):
        getattr(vector, "shopfloor/Nothing-v0")


def test_observations_are_the_callers_own_unless_asked_otherwise(pair):
    first, _ = pair.reset(seed=0)
    kept = first["state"].copy()
    infos = pair.step(batches(pair, 1)[0])[4]
    assert np.array_equal(first["state"], kept)
    infos["stage"][:] = "spoilt"
    assert "spoilt" not in pair.step(batches(pair, 1)[0])[4]["stage"]
    with made(CELL, 1, copy=False, **OPTIONS) as vec:
        seen, _ = vec.reset(seed=0)
        assert vec.step(batches(vec, 1)[0])[0]["state"] is seen["state"]


def test_actions_of_either_precision_arrive_unrounded(pair):
    cell = make_cell(CELL, **OPTIONS)
    action = np.random.default_rng(0).uniform(-1, 1, cell.action_space.shape)
    ends = []
    for kind in (np.float64, np.float32):
        seen = [pair.reset(seed=0)[0], cell.reset(seed=0)[0]]
        for _ in range(5):
            seen = [
                pair.step(np.array([action, action], kind))[0],
                cell.step(action.astype(kind))[0],
            ]
        assert seen[0]["state"][0].tobytes() == seen[1]["state"].tobytes()
        ends.append(cell.sim_state())
    assert not np.array_equal(*ends)  # so that rounding would have shown
    cell.close()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda shape: np.zeros(shape[1:]),
            r"actions have shape \(\d+,\); expected \(2, \d+\): one row for each of 2",
        ),
        (lambda shape: np.zeros((3, shape[1])), r"actions have shape \(3, \d+\)"),
        (lambda shape: np.zeros((2, shape[1] + 1)), "components each"),
        (lambda shape: None, "shape"),
        (lambda shape: [["left"] * shape[1]] * 2, "expected numbers"),
        (lambda shape: np.zeros(shape, complex), "expected numbers"),
    ],
)
def test_batches_that_do_not_fit_are_refused_and_harm_nothing(pair, wrong, message):
    pair.reset(seed=0)
    with pytest.raises(InvalidInputError, match=message):
        pair.step(wrong(pair.action_space.shape))
    pair.step(batches(pair, 1)[0])


def test_nonfinite_actions_end_one_episode(pair):
    pair.reset(seed=0)
    batch = batches(pair, 1)[0]
    batch[1, 0] = np.nan
    _, _, ends, _, infos = pair.step(batch)
    assert ends.tolist() == [False, True]
    assert infos["failure"][1] == "nonfinite_action"


def test_errors_of_cells_come_through_as_they_are(pair):
    with pytest.raises(
        UnknownNameError, match=r"variation 'nominl'. Did you mean 'nominal'"
    ) as caught:
        pair.reset(options={"variation": "nominl"})
    assert "In a worker process" in str(caught.value.__cause__)
    with pytest.raises(InvalidInputError, match="3 seeds; expected 2"):
        pair.reset(seed=[1, 2, 3])
    with pytest.raises(InvalidInputError, match="reset all of them first"):
        pair.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(InvalidInputError, match=r"reset_mask.* shape \(2,\), bool"):
        pair.reset(options={"reset_mask": [True, False]})
    with pytest.raises(AttributeError, match="no_such_thing"):
        pair.get_attr("no_such_thing")
    with pytest.raises(InvalidInputError, match="use `step` directly"):
        pair.call("step", 1)
    pair.reset(seed=0)


def test_attributes_and_methods_of_all_copies(pair):
    pair.reset(seed=0, options={"variation": "nominal"})
    assert pair.get_attr("cell_id") == (CELL, CELL)
    assert pair.call("describe")[1] == pair.call("describe")[0]
    assert pair.call("look", "front", size=(16, 24))[0].rgb.shape == (16, 24, 3)
    pair.set_attr("mark", [1, 2])
    assert pair.get_attr("mark") == (1, 2)
    pair.set_attr("mark", "x")
    assert pair.get_attr("mark") == ("x", "x")
    with pytest.raises(InvalidInputError, match="3 values of 'mark'; expected 2"):
        pair.set_attr("mark", [1, 2, 3])
    assert pair.render() == (None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"autoreset_mode": "Sometimes"}, "Unknown autoreset mode"),
        ({"privilegd": True}, "Unknown cell option 'privilegd'"),
        (
            {"make": lambda cell, **options: make_cell(cell, cameras=())},
            "cannot be sent to a worker",
        ),
        (
            {"make": lambda *_, **__: gymnasium.make("CartPole-v1")},
            "a vector expects a Dict of Boxes",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_vectors_that_cannot_be_are_refused(arguments, message):
    with pytest.raises((InvalidInputError, UnknownNameError), match=message):
        WorkCellVector(CELL, **arguments)


def test_a_dead_worker_is_an_error_and_the_others_end():
    with made(CELL, 2, workers=2, **OPTIONS) as vec:
        vec.reset(seed=0)
        processes = [worker.process for worker in vec._workers]
        os.kill(processes[1].pid, signal.SIGKILL)
        with pytest.raises(
            InfrastructureError,
            match=r"environments 1 to 1\) was killed by SIGKILL; expected an answer",
        ):
            vec.step(batches(vec, 1)[0])
        assert all(process.poll() is not None for process in processes)
        with pytest.raises(InfrastructureError, match="cannot go on: close it and make a new one"):
            vec.reset(seed=0)


def test_a_hanging_worker_is_an_error_after_the_time_given():
    with made(CELL, 1, timeout_s=3600.0, **OPTIONS) as vec:
        vec.reset(seed=0)
        assert vec._timeout_s == 3600.0
        vec._timeout_s = 0.5  # only now: a reset on a busy machine may take longer
        os.kill(vec.process_ids()[0], signal.SIGSTOP)
        with pytest.raises(
            InfrastructureError, match=r"no answer to 'step' within 0.5 s and was killed"
        ):
            vec.step(batches(vec, 1)[0])


def test_an_interrupted_step_leaves_no_answers_for_the_next(monkeypatch):
    with made(CELL, 1, **OPTIONS) as vec:
        vec.reset(seed=0)

        def interrupt(_):
            raise KeyboardInterrupt

        monkeypatch.setattr(vec._workers[0].connection, "_recv", interrupt)
        with pytest.raises(KeyboardInterrupt):
            vec.step(batches(vec, 1)[0])
        monkeypatch.undo()
        with pytest.raises(
            InfrastructureError, match=r"'step' was interrupted\. This vector cannot go on"
        ):
            vec.reset(seed=0)


def test_closing_ends_the_workers(monkeypatch):
    monkeypatch.setattr(vector._end, "__defaults__", (600.0,))  # the grace, on a busy machine
    vec = WorkCellVector(CELL, 1, **OPTIONS)
    process = vec._workers[0].process
    vec.close(timeout=600.0)
    vec.close()
    assert process.returncode == 0
    with pytest.raises(ClosedEnvironmentError, match="closed; make a new one"):
        vec.reset()
    dropped = WorkCellVector(CELL, 1, **OPTIONS)
    process = dropped._workers[0].process
    del dropped
    assert process.returncode == 0


def test_workers_die_with_a_program_that_needs_no_guard(wait_until):
    program = (
        "import os, sys; from shopfloor.envs.vectors.vector import WorkCellVector\n"
        f"vec = WorkCellVector({CELL!r}, 1, cameras=())\n"
        "vec.reset(seed=0); print(vec._workers[0].process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    run = subprocess.run(
        [sys.executable, "-"],
        input=program,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    worker = int(run.stdout)
    wait_until(lambda: not runs(worker))


def runs(process):
    """Whether a process, by its id, has not ended: a zombie has no command line."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False
