"""One episode: what the policy sees, what is recorded, who acts, and what each kind of fault becomes."""

import dataclasses

import numpy as np
import pytest
from fake_cell import ACTION_SIZE, CELL_ID, FakeCell, FakePolicy
from hypothesis import given, settings
from hypothesis import strategies as st

from shopfloor.collectors.interventions.takeover import TAKEOVER_DECISIONS
from shopfloor.collectors.noise import MotionNoise
from shopfloor.collectors.recorded.episodes import rewindable
from shopfloor.collectors.rollout import EpisodeFaultError, rollout
from shopfloor.core import (
    ACTOR_EXPERT,
    ACTOR_POLICY,
    ActionChunk,
    ActionSpec,
    Cell,
    EpisodeSpec,
    InfrastructureError,
    InvalidInputError,
    MissingDependencyError,
    RewindableCell,
    seed_stream,
)

pytestmark = pytest.mark.core


def spec_for(policy, teacher=None, seed=3, intervention="none", noise=0.0, variation="nominal"):
    return EpisodeSpec(
        CELL_ID,
        seed,
        policy.info.digest,
        variation=variation,
        teacher_digest=teacher.info.digest if teacher else "",
        intervention=intervention,
        action_noise=noise,
    )


def run(policy, teacher=None, cameras=(), cell=None, **spec):
    cell = cell or FakeCell(privileged=True, cameras=(), variation=spec.get("variation", "nominal"))
    return rollout(
        cell, policy, spec_for(policy, teacher, **spec), teacher=teacher, record_cameras=cameras
    )


def expert(**options):
    return FakePolicy("expert", expert=True, **options)


def same(a, b):
    for field in dataclasses.fields(a):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype
            assert left.tobytes() == right.tobytes(), field.name
        elif field.name == "observations":
            assert {key: value.tobytes() for key, value in left.items()} == {
                k: v.tobytes() for k, v in right.items()
            }
        elif field.name != "cameras":
            assert left == right, field.name
    return True


def test_a_success_is_recorded_whole():
    episode = run(FakePolicy(), cameras=("front",))
    T = episode.steps
    assert (episode.outcome, episode.reason, episode.terminated) == ("success", "", True)
    assert episode.instruction == "reach goal 3"
    assert episode.object_names == ("point", "goal")
    assert 2 < T < 40
    shapes = {key: (rows.shape, rows.dtype) for key, rows in episode.observations.items()}
    assert shapes == {
        "state": ((T + 1, 6), np.float32),
        "objects": ((T + 1, 2, 12), np.float32),
        "front": ((T + 1, 8, 12, 3), np.uint8),
    }
    assert episode.sim_states.shape == (T + 1, 7)
    assert episode.sim_states.dtype == np.float64
    assert episode.actions.shape == (T, ACTION_SIZE)
    assert episode.actions.dtype == episode.rewards.dtype == np.float32
    assert episode.rewards.tolist() == [0.0] * (T - 1) + [1.0]
    assert episode.actor.tolist() == [ACTOR_POLICY] * T
    assert not episode.label_valid.any()
    assert episode.label_chunks is None
    assert episode.stages[0][0] == 0
    assert episode.stages[-1][1] == "near"
    assert episode.cameras["front"].extrinsics.shape == (T + 1, 4, 4)


def test_the_actions_are_what_was_executed_and_lead_to_the_states():
    cell = FakeCell(cameras=())
    episode = run(FakePolicy(), cell=cell, noise=0.3)
    assert np.array_equal(episode.actions, np.stack(cell.executed))
    moved = episode.sim_states[0, :3] + np.cumsum(0.025 * episode.actions[:, :3], axis=0)
    assert np.allclose(moved, episode.sim_states[1:, :3])


def test_time_running_out_is_a_failure_but_not_a_termination():
    episode = run(FakePolicy(sign=-1.0))
    assert (episode.outcome, episode.reason, episode.terminated, episode.steps) == (
        "failure",
        "timeout",
        False,
        40,
    )


def test_a_failure_of_the_task_keeps_its_reason():
    episode = run(FakePolicy(sign=-1.0), variation="dropped")
    assert (episode.outcome, episode.reason, episode.terminated, episode.steps) == (
        "failure",
        "dropped",
        True,
        3,
    )


@pytest.mark.parametrize(
    "keys", [("state",), ("state", "objects", "object_names"), ("state", "wrist")]
)
def test_the_policy_sees_only_what_it_asked_for(keys):
    policy = FakePolicy(keys=keys)
    run(policy)
    assert all(set(observation) == set(keys) for observation in policy.seen)
    if "object_names" in keys:
        assert policy.seen[0]["object_names"] == ("point", "goal")


def test_pictures_are_rendered_only_when_asked_for_or_recorded():
    cell = FakeCell(cameras=())
    policy = FakePolicy(keys=("state", "wrist"), execute=3)
    episode = run(policy, cell=cell, cameras=("front",))
    asked = np.flatnonzero(episode.decisions).tolist()
    assert asked == list(range(0, episode.steps, 3))
    assert len(policy.seen) == len(asked)
    assert [step for step, name in cell.rendered if name == "wrist"] == asked
    assert [step for step, name in cell.rendered if name == "front"] == list(
        range(episode.steps + 1)
    )


def test_recording_pictures_changes_nothing_else():
    plain, filmed = run(FakePolicy()), run(FakePolicy(), cameras=("front", "wrist"))
    assert plain.actions.tobytes() == filmed.actions.tobytes()
    assert plain.sim_states.tobytes() == filmed.sim_states.tobytes()


def test_a_policy_cannot_change_the_record():
    def vandal(count, observation):
        observation["state"][:] = 7.0
        return ActionChunk(np.zeros((1, ACTION_SIZE), np.float32))

    episode = run(FakePolicy(answer=vandal))
    assert not (episode.observations["state"] == 7.0).any()


def test_equal_specs_give_equal_episodes():
    teacher = expert()
    for intervention, noise in (("none", 0.0), ("label", 0.2), ("expert", 0.2)):
        with_teacher = None if intervention == "none" else teacher
        first = run(FakePolicy(), with_teacher, intervention=intervention, noise=noise)
        again = run(FakePolicy(), with_teacher, intervention=intervention, noise=noise)
        assert same(first, again)


def test_reset_gets_seed_and_instruction():
    policy, teacher = FakePolicy(), expert()
    run(policy, teacher, intervention="label")
    assert policy.resets == teacher.resets == [(3, "reach goal 3")]


# -- faults of the policy --------------------------------------------------------------------------


def chunk(rows=1, columns=ACTION_SIZE, value=0.0, dtype=np.float32, **options):
    return ActionChunk(np.full((rows, columns), value, dtype), **options)


BAD_REPLIES = {
    "nothing": None,
    "array": np.zeros((1, ACTION_SIZE), np.float32),
    "narrow": chunk(columns=6),
    "empty": chunk(rows=0),
    "flat": ActionChunk(np.zeros(ACTION_SIZE, np.float32)),
    "text": ActionChunk(np.full((1, ACTION_SIZE), "up")),
    "object": ActionChunk(np.full((1, ACTION_SIZE), None)),
    "ragged": ActionChunk([[0.0], [0.0, 1.0]]),
    "complex": chunk(dtype=np.complex64),
    "execute zero": chunk(execute=0),
    "execute more": chunk(execute=2),
    "execute half": chunk(execute=0.5),
    "execute bool": chunk(execute=True),
    "other rate": chunk(control_hz=10),
}


@pytest.mark.parametrize("name", BAD_REPLIES)
@pytest.mark.parametrize("step", [1, 4])
def test_a_bad_reply_is_a_failure_of_the_policy(name, step):
    cell = FakeCell()
    policy = FakePolicy(answer=lambda count, _: BAD_REPLIES[name] if count == step else chunk())
    episode = run(policy, cell=cell)
    assert (episode.outcome, episode.reason, episode.terminated) == (
        "failure",
        "policy_bad_reply",
        True,
    )
    assert episode.steps == len(cell.executed) == step - 1
    assert len(episode.observations["state"]) == len(episode.sim_states) == step


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_actions_never_reach_the_simulator(value):
    bad = np.zeros((4, ACTION_SIZE), np.float64)
    bad[3, 6] = value  # even in a part of the chunk that would not be executed
    cell = FakeCell()
    episode = run(
        FakePolicy(answer=lambda count, _: ActionChunk(bad) if count == 3 else chunk()), cell=cell
    )
    assert (episode.outcome, episode.reason, episode.steps) == ("failure", "nonfinite_action", 2)
    assert len(cell.executed) == 2


def test_actions_beyond_the_limits_are_clipped():
    episode = run(FakePolicy(answer=lambda *_: chunk(value=1e30, dtype=np.float64)))
    assert (episode.actions == 1.0).all()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ZeroDivisionError, "policy_bad_reply"),
        (KeyError, "policy_bad_reply"),
        (TimeoutError, "policy_timeout"),
    ],
)
def test_a_policys_exception_is_its_failure(error, reason, caplog):
    def fail(count, _):
        if count == 2:
            raise error("inside the policy")
        return chunk()

    episode = run(FakePolicy(answer=fail))
    assert (episode.reason, episode.steps) == (reason, 1)
    assert "inside the policy" in caplog.text
    assert "seed 3, step 1" in caplog.text


def test_a_policy_that_cannot_even_start_gives_an_episode_without_steps():
    policy = FakePolicy()
    policy.reset = lambda seed, instruction: 1 / 0
    episode = run(policy)
    assert (episode.reason, episode.steps, len(episode.sim_states)) == ("policy_bad_reply", 0, 1)


def test_errors_with_a_cause_of_their_own_are_no_outcomes():
    def missing(*_):
        raise MissingDependencyError("pip install torch")

    with pytest.raises(MissingDependencyError):
        run(FakePolicy(answer=missing))


# -- faults of the cell and the teacher ------------------------------------------------------------


@pytest.mark.parametrize(
    ("variation", "reason"),
    [
        ("crash", "env_crash"),
        ("bad_reset", "env_crash"),
        ("odd", "env_crash"),
        ("nan", "nonfinite_obs"),
    ],
)
def test_a_fault_of_the_cell_is_no_episode(variation, reason):
    with pytest.raises(EpisodeFaultError, match="seed 3, step") as error:
        run(FakePolicy(sign=-1.0), variation=variation)
    assert error.value.reason == reason


def test_a_faulty_teacher_is_infrastructure():
    with pytest.raises(InfrastructureError, match="Teacher"):
        run(
            FakePolicy(),
            FakePolicy("bad", answer=lambda *_: chunk(value=np.nan)),
            intervention="label",
        )


def test_what_does_not_fit_is_refused_before_anything_runs():
    policy, other, cell = (
        FakePolicy(),
        FakePolicy("other", cells=("shopfloor/Else-v0",)),
        FakeCell(),
    )
    for bad, teacher, spec in (
        (policy, None, dataclasses.replace(spec_for(policy), cell="shopfloor/Else-v0")),
        (policy, None, dataclasses.replace(spec_for(policy), policy_digest="x")),
        (other, None, spec_for(other)),
        (policy, policy, spec_for(policy)),
        (policy, None, spec_for(policy, intervention="label")),
        (policy, policy, spec_for(policy, policy, intervention="none")),
    ):
        with pytest.raises(InvalidInputError):
            rollout(cell, bad, spec, teacher=teacher)
    foreign = FakePolicy()
    foreign.info = dataclasses.replace(foreign.info, action_convention="joint_v1")
    with pytest.raises(
        InvalidInputError,
        match=r"convention 'joint_v1'.*takes 'ee_delta_base_v1' .7 components: dx, dy",
    ):
        rollout(cell, foreign, spec_for(foreign))
    with pytest.raises(InvalidInputError, match="lidar"):
        run(FakePolicy(keys=("state", "lidar")))
    assert cell.executed == []


# -- interventions ---------------------------------------------------------------------------------


def test_label_asks_the_teacher_at_every_step_and_lets_the_policy_act():
    teacher = expert()
    episode = run(FakePolicy(sign=-1.0, execute=2), teacher, intervention="label")
    assert (episode.actor == ACTOR_POLICY).all()
    assert episode.label_valid.all()
    assert episode.label_chunks.shape == (episode.steps, 4, ACTION_SIZE)
    assert np.array_equal(episode.label_chunks[:, 0], episode.label_actions)
    assert len(teacher.seen) == episode.steps
    towards = (
        episode.label_actions[:, :3] * (episode.sim_states[:-1, 3:6] - episode.sim_states[:-1, :3])
    ).sum(axis=1)
    assert (towards > 0).all()  # labels are for the states the policy visited


def test_expert_takes_over_on_deviation_for_some_decisions_and_hands_back():
    policy, teacher = FakePolicy(sign=-1.0, execute=2), expert(speed=0.4)
    episode = run(policy, teacher, intervention="expert", seed=5)
    acts = episode.actor == ACTOR_EXPERT
    assert acts.any()
    assert (~acts).any()
    start = int(np.flatnonzero(acts)[0])
    span = 2 * TAKEOVER_DECISIONS
    assert acts[start : start + span].all()
    assert start + span == episode.steps or episode.decisions[start + span]
    assert not episode.decisions[
        start + 1 : start + span
    ].any()  # while the teacher acts the policy is not asked
    assert np.array_equal(episode.actions[acts], episode.label_actions[acts])
    assert episode.label_valid.all()
    assert len(policy.seen) == episode.decisions.sum()


def test_expert_leaves_a_good_policy_alone():
    episode = run(FakePolicy(speed=0.9), expert(), intervention="expert")
    assert episode.success
    assert (episode.actor == ACTOR_POLICY).all()
    assert episode.label_valid.all()


def test_an_expert_that_acts_is_recorded_as_the_expert():
    episode = run(expert())
    assert (episode.actor == ACTOR_EXPERT).all()
    assert not episode.label_valid.any()


def test_a_noisy_expert_leaves_its_clean_commands_as_labels():
    policy = expert(execute=2)
    episode = run(policy, noise=0.3)
    assert episode.label_valid.all()
    assert episode.decisions.all()
    assert episode.label_chunks.shape == (episode.steps, 4, ACTION_SIZE)
    assert not np.array_equal(episode.actions, episode.label_actions)
    clean = FakePolicy()
    for row, label in zip(episode.observations["state"], episode.label_chunks, strict=False):
        assert np.array_equal(clean.act({"state": row}).actions, label)


def test_a_noisy_policy_without_teacher_has_no_labels():
    episode = run(FakePolicy(), noise=0.3)
    assert not episode.label_valid.any()
    assert (episode.actor == ACTOR_POLICY).all()


# -- noise -----------------------------------------------------------------------------------------

AXES = ActionSpec.of(FakeCell().describe(), ACTION_SIZE).moving


def test_noise_moves_neither_grippers_nor_frozen_axes():
    assert AXES.tolist() == [True, True, True, False, False, True, False]
    noise = MotionNoise(seed_stream(0, "noise"), 0.5, AXES)
    action = np.array([0.5, 0, 0, 0, 0, 0, 1.0], np.float32)
    moved = np.stack([noise.perturb(action) for _ in range(50)]) - action
    assert (moved[:, ~AXES] == 0).all()
    assert (moved[:, AXES] != 0).all()


@settings(max_examples=50)
@given(
    scale=st.floats(0.0, 1.0),
    action=st.lists(st.floats(-1, 1, width=32), min_size=7, max_size=7),
    seed=st.integers(0, 1000),
)
def test_noisy_actions_stay_in_bounds_and_stand_still_where_nothing_moves(scale, action, seed):
    noise = MotionNoise(seed_stream(seed, "noise"), scale, AXES)
    action = np.array(action, np.float32)
    for _ in range(5):
        noisy = noise.perturb(action)
        assert noisy.dtype == np.float32
        assert (np.abs(noisy) <= 1).all()
        assert np.array_equal(noisy[~AXES], action[~AXES])
    still = np.where(AXES, 0.0, action).astype(np.float32)
    assert np.array_equal(noise.perturb(still), still)


def test_noise_has_the_stated_size_and_correlation():
    noise = MotionNoise(seed_stream(1, "noise"), 0.1, AXES)
    action = np.array([0.5, 0, 0, 0, 0, 0, 1.0], np.float32)
    moved = np.stack([noise.perturb(action)[:3] - action[:3] for _ in range(20_000)])[100:]
    assert moved.std() == pytest.approx(0.05, rel=0.05)
    correlation = (moved[1:] * moved[:-1]).mean() / (moved**2).mean()
    assert correlation == pytest.approx(0.8, abs=0.02)


# -- the cell's protocol ---------------------------------------------------------------------------


class RealRobot:
    """The least that a cell can be: no simulator, one camera, nothing to rewind."""

    cell_id, action_size = "acme/Bench-v0", 2

    def reset(self, *, seed=None):
        self.steps = 0
        return self.observe(), self.info()

    def advance(self, action):
        self.steps += 1
        return float(self.steps == 5), self.steps == 5, False, self.info()

    def info(self):
        return {
            "instruction": "wait",
            "object_names": (),
            "success": self.steps == 5,
            "stage": "",
            "failure": "",
        }

    def observe(self, cameras=None):
        pictures = {name: np.zeros((4, 6, 3), np.uint8) for name in cameras or ()}
        return {"state": np.full(3, self.steps, np.float32), **pictures}

    def sim_state(self):
        return np.zeros(0)

    def camera_track(self, name):
        return np.eye(3), np.eye(4)

    def describe(self):
        features = {"state": {"shape": [3], "dtype": "float32", "names": [], "units": []}}
        features["top"] = {"shape": [4, 6, 3], "dtype": "uint8", "names": [], "units": []}
        return {"cell": self.cell_id, "robot": "bench", "control_hz": 20, "features": features}

    def close(self):
        pass


def test_a_real_robot_is_a_cell():
    cell = RealRobot()
    assert isinstance(cell, Cell)
    assert not isinstance(cell, RewindableCell)
    assert isinstance(FakeCell(), RewindableCell)

    policy = FakePolicy(
        cells=(), answer=lambda *_: ActionChunk(np.zeros((1, 2), np.float32)), name="idle"
    )
    spec = EpisodeSpec(cell.cell_id, 3, policy.info.digest)
    episode = rollout(cell, policy, spec, record_cameras=("top",))
    assert episode.success
    assert episode.sim_states.shape == (6, 0)
    assert episode.observations["top"].shape == (6, 4, 6, 3)


def test_only_a_cell_with_set_sim_state_renders_again():
    assert rewindable(cell := FakeCell()) is cell
    with pytest.raises(InvalidInputError, match="acme/Bench-v0 cannot come back"):
        rewindable(RealRobot())
