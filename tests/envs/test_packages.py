"""The work cells in the hands of the field's own packages: Gymnasium's vectors and wrappers, Stable-Baselines3, Minari.

Gymnasium's checker runs in test_cell.py, our own vectors in test_vector.py.
"""

from __future__ import annotations

import functools
import itertools
import warnings

import av
import cell_episodes
import gymnasium
import minari
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from gymnasium.wrappers import RecordVideo
from stable_baselines3.common.env_checker import check_env

EVERY_CELL = pytest.mark.parametrize(
    "name", cell_episodes.CELLS, ids=lambda name: name.split("/")[-1]
)
A_COUPLE = pytest.mark.parametrize(
    "name", cell_episodes.CELLS[::6], ids=lambda name: name.split("/")[-1]
)


def make(name, **options):
    return gymnasium.make(name, **{"cameras": (), "privileged": True, **options})


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@A_COUPLE
def test_gymnasiums_vectors_agree(name):
    # The module's name before the id, so that a new process knows the cells.
    options = {"cameras": ("front",), "image_size": (16, 24), "privileged": True}
    makers = [functools.partial(gymnasium.make, f"shopfloor:{name}", **options)] * 2
    vectors = [SyncVectorEnv(makers), AsyncVectorEnv(makers, shared_memory=True, context="spawn")]
    try:
        seen = [vector.reset(seed=600_001)[0] for vector in vectors]
        vectors[0].action_space.seed(0)
        for _ in range(3):
            action = vectors[0].action_space.sample()
            for key in seen[0]:
                assert seen[0][key].tobytes() == seen[1][key].tobytes()
            results = [vector.step(action) for vector in vectors]
            seen = [result[0] for result in results]
            assert results[0][4]["instruction"].tolist() == results[1][4]["instruction"].tolist()
    finally:
        for vector in vectors:
            vector.close()


@pytest.mark.slow
@EVERY_CELL
@pytest.mark.filterwarnings("ignore:.*Overwriting existing videos:UserWarning")
def test_videos_can_be_recorded_and_played(name, tmp_path):
    env = RecordVideo(
        make(name, render_mode="rgb_array"), str(tmp_path), name_prefix="cell", fps=20
    )
    env.action_space.seed(0)
    env.reset(seed=600_002)
    shown = [env.unwrapped.render()]
    for _ in range(4):
        env.step(env.action_space.sample())
        shown.append(env.unwrapped.render())
    env.close()
    with av.open(str(next(tmp_path.glob("*.mp4")))) as video:
        assert float(video.streams.video[0].average_rate) == 20.0
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == len(shown)
    for frame, picture in zip(frames, shown, strict=True):
        assert frame.shape == picture.shape
        assert np.abs(frame.astype(int) - picture).mean() < 6.0  # a lossy codec
        assert frame.std() > 10.0  # not a blank picture
    assert any(np.any(one != other) for one, other in itertools.pairwise(shown))


@EVERY_CELL
@pytest.mark.parametrize("privileged", [False, True], ids=["cameras", "objects"])
def test_stable_baselines3_checks(name, privileged):
    cameras = () if privileged else ("front",)
    env = make(name, privileged=privileged, cameras=cameras, image_size=(48, 48))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env)
    env.close()
    about = [
        str(warning.message)
        for warning in caught
        if "unconventional shape" not in str(warning.message)
    ]
    assert [text for text in about if "stable" in text.lower() or "recommend" in text] == []


@pytest.mark.slow
@A_COUPLE
@pytest.mark.parametrize("cameras", [(), ("front",)], ids=["state", "camera"])
def test_stable_baselines3_trains(name, cameras):
    env = make(name, privileged=False, cameras=cameras, image_size=(48, 48))
    model = stable_baselines3.PPO(
        "MultiInputPolicy", env, n_steps=8, batch_size=8, n_epochs=1, seed=0, device="cpu"
    )
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    model.learn(8)
    assert model.num_timesteps == 8
    assert any(
        not torch.equal(before[key], value) for key, value in model.policy.state_dict().items()
    )
    observation, _ = env.reset(seed=600_003)
    assert env.action_space.contains(model.predict(observation, deterministic=True)[0])
    env.close()


@pytest.fixture
def minari_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))


def collect(env, seeds, steps=4):
    """Run a few steps per seed; return observations and actions per episode."""
    episodes = []
    for seed in seeds:
        seen, actions = [env.reset(seed=seed)[0]], []
        for _ in range(steps):
            actions.append(env.action_space.sample())
            seen.append(env.step(actions[-1])[0])
        episodes.append((seen, actions))
    return episodes


@pytest.mark.slow
@EVERY_CELL
@pytest.mark.usefixtures("minari_home")
@pytest.mark.filterwarnings("ignore:.*is set to None:UserWarning")
def test_minari_collects_and_loads(name):
    env = minari.DataCollector(
        make(name, cameras=("front",), image_size=(16, 24)),
        record_infos=True,
        data_format="hdf5",
        jpeg_encoding=False,
    )
    env.action_space.seed(0)
    episodes = collect(env, (600_004, None))  # None: Minari draws a seed of 64 bits
    env.create_dataset(
        "shopfloor/test-v0", algorithm_name="random", ref_min_score=0.0, ref_max_score=1.0
    )
    env.close()
    dataset = minari.load_dataset("shopfloor/test-v0")
    assert dataset.total_episodes == len(episodes)
    assert dataset.env_spec.id == name
    for (seen, actions), episode in zip(episodes, dataset.iterate_episodes(), strict=True):
        assert episode.actions.tobytes() == np.array(actions).tobytes()
        assert set(episode.observations) == set(seen[0])
        for key, rows in episode.observations.items():
            assert rows.tobytes() == np.array([one[key] for one in seen]).tobytes()
        assert len(episode.infos["instruction"]) == len(episode.infos["stage"]) == len(seen)
    drawn = next(iter(dataset.storage.get_episode_metadata([1])))["seed"]
    again = dataset.recover_environment()
    assert again.unwrapped.cell_id == name
    assert again.reset(seed=drawn)[0]["state"].tobytes() == episodes[1][0][0]["state"].tobytes()
    again.close()
