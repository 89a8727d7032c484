"""Committed files in the hands of the real robomimic, in a virtual environment of its own (kept in `.cache/`)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from other_pythons import run_with

from shopfloor.datasets.writer import EpisodeWriter

# Runs in robomimic's environment: opens a file with SequenceDataset and saves what it hands out.
READER = """
import json, sys
import numpy as np
path, out, plugin, horizon, stack = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
if plugin == "plugin":
    import hdf5plugin
import h5py
import robomimic.utils.obs_utils as ObsUtils
from robomimic.utils.dataset import SequenceDataset
ObsUtils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": ["state", "objects"], "rgb": ["front"]}})
# As robomimic.utils.file_utils reads it, a module that imports torchvision.
with h5py.File(path, "r") as file:
    env = json.loads(file["data"].attrs["env_args"])
data = SequenceDataset(
    hdf5_path=path, obs_keys=["state", "objects", "front"], dataset_keys=["actions", "rewards", "dones", "states"],
    frame_stack=stack, seq_length=horizon, pad_frame_stack=True, pad_seq_length=True, hdf5_cache_mode=None,
    hdf5_use_swmr=True, load_next_obs=False)
arrays = {"length": np.array(len(data))}
for index in range(len(data)):
    item = data[index]
    for key, array in {**{k: v for k, v in item.items() if k != "obs"}, **item["obs"]}.items():
        arrays[f"{index}/{key}"] = np.asarray(array)
np.savez(out, env=json.dumps(env), **arrays)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "plugin"), [("gzip", "bare"), ("blosc", "plugin")])
def test_sequence_dataset_reads_our_files(
    robomimic_python, tmp_path, make_episode, description, codec, plugin
):
    horizon, stack, T = 4, 2, 12
    episode = make_episode(3, T)
    path = EpisodeWriter(tmp_path / "d", description, codec).write(episode, 0).path
    out = tmp_path / "out.npz"
    result = run_with(robomimic_python, READER, path, out, plugin, horizon, stack)
    assert result.returncode == 0, result.stderr[-3000:]
    found = np.load(out)
    assert int(found["length"]) == T
    assert json.loads(str(found["env"])) == description["env_args"]
    for step in range(T):
        # With frames stacked, robomimic hands out every array from the first stacked frame on.
        rows = np.clip(np.arange(step - stack + 1, step + horizon), 0, T - 1)
        for key in ("state", "objects", "front"):
            assert np.array_equal(found[f"{step}/{key}"], episode.observations[key][rows]), (
                step,
                key,
            )
        assert np.array_equal(found[f"{step}/actions"], episode.actions[rows]), step
        assert np.array_equal(found[f"{step}/rewards"], episode.rewards[rows]), step
        assert np.array_equal(found[f"{step}/states"], episode.sim_states[rows]), step
        assert np.array_equal(found[f"{step}/dones"], (rows == T - 1).astype("i8")), step


@pytest.mark.slow
def test_a_blosc_file_without_the_plugin_is_an_error_there(
    robomimic_python, tmp_path, make_episode, description
):
    path = EpisodeWriter(tmp_path / "d", description, "blosc").write(make_episode(), 0).path
    result = run_with(robomimic_python, READER, path, tmp_path / "out.npz", "bare", 1, 1)
    assert result.returncode != 0
    assert "OSError: Can't synchronously read data" in result.stderr
