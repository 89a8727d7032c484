"""What every work cell gives and refuses."""

from __future__ import annotations

import json
import math

import cell_episodes
import gymnasium
import numpy as np
import pytest
from cell_episodes import arms, each_arm
from gymnasium.utils.env_checker import check_env

from shopfloor.core import FAILURE_REASONS, InvalidInputError, UnknownNameError
from shopfloor.envs.cell import WorkCell
from shopfloor.envs.physics.engine import pybullet
from shopfloor.envs.registry import make_cell
from shopfloor.envs.robots.hand import Cup


def memory_pages() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123  # not a file one opens by Path
        return int(file.read().split()[1])


@pytest.mark.parametrize("name", cell_episodes.CELLS)
@pytest.mark.parametrize("privileged", [False, pytest.param(True, marks=pytest.mark.core)])
@pytest.mark.filterwarnings("ignore:.*WARN.*")
def test_gymnasium_checker(name, privileged):
    env = gymnasium.make(name, privileged=privileged, image_size=(32, 48), render_mode="rgb_array")
    check_env(env.unwrapped)
    frame = env.unwrapped.render()
    assert frame.dtype == np.uint8
    assert frame.shape == (480, 480, 3)
    env.close()


@pytest.mark.core
def test_observations_are_as_described(cell):
    description = cell.describe()
    assert json.loads(json.dumps(description)) == json.loads(json.dumps(cell.describe()))
    observation, info = cell.reset(seed=1)
    observation.update(cell.observe(list(description["cameras"])))
    assert set(observation) == set(description["features"])
    for key, feature in description["features"].items():
        assert list(observation[key].shape) == feature["shape"]
        assert str(observation[key].dtype) == feature["dtype"]
        assert len(feature["names"]) == len(feature["units"])
    assert description["object_slots"] == len(observation["objects"])
    assert set(info) >= {"instruction", "object_names", "success", "stage", "failure"}
    assert description["control_hz"] == 20
    assert description["action_convention"] == cell.robot.convention
    assert description["env_args"]["env_name"] == cell.cell_id
    gymnasium.make(cell.cell_id, **description["env_args"]["env_kwargs"]).close()


def test_state_entries_mean_what_they_say(arm_cell):
    cell = arm_cell
    observation, _ = cell.reset(seed=3)
    action = each_arm(cell, [0.5, -0.3, -0.4, 0.0, 0.0, 0.3, 1.0])
    for _ in range(3):
        cell.advance(action)
    row = dict(
        zip(cell.describe()["features"]["state"]["names"], cell.observe(())["state"], strict=True)
    )
    assert row["last_gripper"] == 1.0
    opening = cell.describe()["features"]["state"]["names"].index("finger_opening")
    # A cup that finds nothing stays open.
    closed = 0.0 if isinstance(arms(cell)[0].hand, Cup) else 0.02
    assert row["finger_opening"] <= observation["state"][opening] - closed
    assert row["tool_qw"] > 0.9  # pointing down is the identity
    assert math.dist([row[f"tool_{axis}"] for axis in "xyz"], arms(cell)[0].tool_position) < 1e-6
    assert 0.0 < row["offset_x"] < 0.02  # the target runs a little ahead


def test_frozen_axes_are_ignored(cell):
    action = each_arm(cell, [0.2, 0.1, -0.1, 0.0, 0.0, 0.4, -1.0])
    frozen = []
    for number, arm in enumerate(arms(cell)):
        frozen += [axis + 7 * number for axis in arm.post.frozen_axes]
    assert frozen or not arms(cell)

    ends = []
    for value in (0.0, 1.0):
        cell.reset(seed=4)
        action[frozen] = value
        for _ in range(4):
            cell.advance(action)
        ends.append(cell.sim_state())
    assert np.array_equal(*ends)
    members = cell.describe().get("members", [cell.describe()])
    assert sum(len(member["frozen_actions"]) for member in members) == len(frozen)


def test_actions_integrate_the_target(cell):
    cell.reset(seed=5)
    before = [(arm.target_position.copy(), arm.target_rotation.copy()) for arm in arms(cell)]
    cell.advance(each_arm(cell, [0.4, -0.2, 0.2, 0.0, 0.0, 0.5, 0.0]).astype(np.float32))
    for arm, (position, yaw) in zip(arms(cell), before, strict=True):
        np.testing.assert_allclose(
            arm.target_position - position, [0.010, -0.005, 0.005], atol=1e-8
        )
        turn = arm.target_rotation @ yaw.T
        assert math.atan2(turn[1, 0], turn[0, 0]) == pytest.approx(0.1, abs=1e-7)
        assert arm.gripper == -1.0  # 0 opens
    for _ in range(8):
        cell.advance(np.zeros(cell.action_size))
    for arm in arms(cell):
        np.testing.assert_allclose(arm.tool_position, arm.target_position, atol=1.5e-3)


@pytest.mark.parametrize("direction", [(1, 1, 1), (-1, -1, -1), (1, -1, -1), (-1, 1, 1)])
def test_the_target_stays_on_its_leash_and_in_the_workspace(arm_cell, direction):
    cell = arm_cell
    cell.reset(seed=6)
    low, high = arms(cell)[0].post.workspace
    action = each_arm(cell, [*direction, 0, 0, direction[0], 1])
    action[7 * len(arms(cell)) :] = 0.0  # a base would take it along
    for _ in range(40):
        before = [arm.tool_position.copy() for arm in arms(cell)]
        _, terminated, truncated, _ = cell.advance(action)
        for arm, start in zip(arms(cell), before, strict=True):
            assert np.linalg.norm(arm.target_position - start) <= 0.0601
            assert (arm.target_position >= low - 1e-9).all()
            assert (arm.target_position <= high + 1e-9).all()
            assert (arm.tool_position >= low - 0.025).all()
            assert (arm.tool_position <= high + 0.025).all()
        if terminated or truncated:
            break


def test_object_rows_are_shuffled_and_named(cell):
    orders, tables = set(), []
    for seed in range(8):
        observation, info = cell.reset(seed=seed)
        table = observation["objects"]
        orders.add(info["object_names"])
        goals = {
            name
            for name, row in zip(info["object_names"], table, strict=True)
            if row[10] and row[11]
        }
        assert goals <= set(cell.vocabulary["goals"])
        assert {
            name for name, row in zip(info["object_names"], table, strict=True) if not row[11]
        } <= set(cell.vocabulary["parts"]) | set(cell.vocabulary["goals"])
        assert (table[table[:, 10] > 0, 6] >= 0).all()  # w of the quaternions
        assert (table[table[:, 10] == 0] == 0).all()
        tables.append(table)
    assert len(orders) > 2
    assert cell.object_names == info["object_names"]


def test_instructions_name_every_part_in_several_ways(cell):
    assert set(cell.instructions) <= {*cell.vocabulary["parts"], *cell.vocabulary["goals"]}
    texts = [text for phrases in cell.instructions.values() for text in phrases]
    assert len(texts) == len(set(texts))
    assert all(len(phrases) >= 4 for phrases in cell.instructions.values())
    seen = {cell.reset(seed=seed)[1]["instruction"] for seed in range(60)}
    assert seen <= set(texts)
    assert len(seen) > 0.6 * min(60, len(texts))


def test_timeout_truncates(cell):
    cell.reset(seed=8)
    up = each_arm(cell, [0, 0, 1.0, 0, 0, 0, -1])
    for step in range(cell.max_episode_steps):
        reward, terminated, truncated, info = cell.advance(up)
        if terminated:
            break
        assert reward == 0.0
        assert truncated == (step == cell.max_episode_steps - 1)
    assert info["failure"] in FAILURE_REASONS
    assert truncated == (info["failure"] == "timeout")
    with pytest.raises(InvalidInputError, match="after the episode ended; call reset"):
        cell.advance(up)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nonfinite_actions_end_the_episode_before_the_engine(cell, bad):
    cell.reset(seed=9)
    before = cell.world.poses.copy(), cell.robot.sim_state()
    action = np.zeros(cell.action_size, dtype=np.float32)
    action[min(5, cell.action_size - 1)] = bad
    reward, terminated, truncated, info = cell.advance(action)
    assert (reward, terminated, truncated, info["failure"]) == (
        0.0,
        True,
        False,
        "nonfinite_action",
    )
    after = cell.world.poses, cell.robot.sim_state()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    observation, _ = cell.reset(seed=9)
    assert np.isfinite(observation["state"]).all()


@pytest.mark.parametrize("more", [(-1,), (1,), (1, 0), ()])
def test_actions_of_the_wrong_shape_are_refused(cell, more):
    cell.reset(seed=10)
    size = cell.action_size
    shape = {(-1,): (size - 1,), (1,): (size + 1,), (1, 0): (1, size), (): ()}[more]
    expected = (
        rf"action has shape .*; expected \({size},\): {', '.join(cell.robot.action_names[:2])}"
    )
    with pytest.raises(InvalidInputError, match=expected):
        cell.advance(np.zeros(shape))


def test_actions_that_are_no_numbers_are_refused(cell):
    cell.reset(seed=10)
    with pytest.raises(InvalidInputError, match="numbers"):
        cell.advance(["left"] * cell.action_size)


def test_actions_beyond_the_limits_count_as_the_limit(cell):
    ends = []
    for scale in (1.0, 50.0):
        cell.reset(seed=11)
        cell.advance(each_arm(cell, [0, 0, 1, 0, 0, 0, 1]) * scale)
        ends.append(cell.sim_state())
    assert np.array_equal(*ends)


def test_step_before_reset_is_refused():
    built = cell_episodes.build(cell_episodes.CELLS[0])
    with pytest.raises(InvalidInputError, match="before reset; call reset first"):
        built.step(np.zeros(7, dtype=np.float32))
    with pytest.raises(InvalidInputError, match="observed before reset"):
        built.observe()
    built.close()
    built.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cameras": ("frnt",)}, "Unknown camera of .* 'frnt'. Did you mean 'front'"),
        ({"variation": "displaced_"}, "Unknown variation 'displaced_'. Did you mean 'displaced'"),
        ({"privilegd": True}, "Unknown cell option 'privilegd'. Did you mean 'privileged'"),
        ({"robot": "pandas"}, "Unknown robot of .* 'pandas'. Did you mean 'panda'"),
        ({"render_mode": "rgb-array"}, "Unknown render mode 'rgb-array'. Did you mean 'rgb_array'"),
    ],
)
def test_unknown_names_suggest_the_nearest(options, message):
    with pytest.raises(UnknownNameError, match=message):
        make_cell("PickToTray", **options)


@pytest.mark.parametrize(
    "size", [(0, 96), (96, 20_000), (96,), "big", None, (math.nan, 96), (96, 96, 3)]
)
def test_picture_sizes_out_of_range_are_refused(size):
    with pytest.raises(InvalidInputError, match="image_size is"):
        make_cell(cell_episodes.CELLS[0], image_size=size)


def test_bad_resets_are_refused(cell):
    cell.reset(seed=1)
    with pytest.raises(
        UnknownNameError, match=r"reset option 'variatoin'. Did you mean 'variation'"
    ):
        cell.reset(seed=1, options={"variatoin": "nominal"})
    with pytest.raises(UnknownNameError, match=r"variation 'nominl'. Did you mean 'nominal'"):
        cell.reset(seed=1, options={"variation": "nominl"})
    with pytest.raises(InvalidInputError, match="Seed is -1"):
        cell.reset(seed=-1)
    with pytest.raises(UnknownNameError, match="Unknown camera"):
        cell.observe(["side"])


def test_foreign_simulator_states_are_refused(cell):
    cell.reset(seed=1)
    state = cell.sim_state()
    with pytest.raises(InvalidInputError, match="another cell, variation or version"):
        cell.set_sim_state(state[:-1])
    state[0] = math.nan
    with pytest.raises(InvalidInputError, match="finite"):
        cell.set_sim_state(state)


def test_many_resets_do_not_grow(cell):
    for seed in range(20):
        cell.reset(seed=seed)
    before = memory_pages()
    for seed in range(100):
        cell.reset(seed=seed)
        cell.advance(np.zeros(cell.action_size))
    assert (memory_pages() - before) * 4096 < 2_000_000


def test_building_and_closing_many_times_does_not_grow():
    name = cell_episodes.CELLS[0]
    for _ in range(3):
        cell_episodes.build(name).close()
    before = memory_pages()
    for _ in range(12):
        cell_episodes.build(name).close()
    assert (memory_pages() - before) * 4096 < 40_000_000


@pytest.mark.parametrize("name", cell_episodes.CELLS)
def test_what_is_read_is_where_the_engine_has_it(name):
    """Bodies that nothing pushes are not read at every step: their rows must follow all the same."""
    cell = cell_episodes.build(name)
    rng = np.random.default_rng(0)
    for seed in (1, 2):
        cell.reset(seed=seed)
        for _ in range(10):
            cell.advance(rng.uniform(-1.0, 1.0, cell.action_size))
        world, task = cell.world, cell.task
        for moved in (None, task.bodies[-1]):
            if moved is not None:
                world.place(moved, (0.1, 0.2, 3.0))
                world.read()
            for body, pose in zip(world.bodies, world.poses, strict=True):
                if world.built[body].slide:
                    position, quaternion = pybullet.getLinkState(
                        body, 0, physicsClientId=world.client
                    )[4:6]
                else:
                    position, quaternion = pybullet.getBasePositionAndOrientation(
                        body, world.client
                    )
                np.testing.assert_allclose(pose, [*position, *quaternion], rtol=0.0, atol=1e-12)
    cell.close()


def test_the_cell_is_the_one_final_environment():
    assert issubclass(WorkCell, gymnasium.Env)
    assert WorkCell.__final__
