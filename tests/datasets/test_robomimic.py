"""Committed files in the hands of the real robomimic, in a virtual environment of its own (kept in `.cache/`)."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shopfloor.core import sha256_hex
from shopfloor.datasets.store import EpisodeWriter

CACHE = Path(__file__).resolve().parents[2] / ".cache"
# torch first and pinned, as everywhere; robomimic itself without its dependencies, which it pins to old releases.
INSTALLS = (
    ["torch==2.13.0"],
    [
        *("h5py", "hdf5plugin", "numpy", "psutil", "tqdm", "termcolor", "tensorboard", "tensorboardX", "imageio"),
        *("imageio-ffmpeg", "matplotlib", "six"),  # robomimic imports six, which others no longer bring along
    ],
    ["--no-deps", "robomimic==0.3.0"],
)

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


@pytest.fixture(scope="module")
def robomimic_python() -> Path:
    """Build the environment once; test processes that run side by side wait for it."""
    CACHE.mkdir(exist_ok=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = CACHE / f"robomimic-{version}-{sha256_hex(json.dumps(INSTALLS))[:12]}"
    python, done = folder / "bin" / "python", folder / "done"
    with (CACHE / "robomimic.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            run = [sys.executable, "-m", "venv", "--clear", str(folder)]
            subprocess.run(run, check=True, capture_output=True, text=True)
            for packages in INSTALLS:
                install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
                result = subprocess.run(install, capture_output=True, text=True, check=False)
                assert result.returncode == 0, result.stderr[-2000:]
            done.touch()
    return python


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "plugin"), [("gzip", "bare"), ("blosc", "plugin")])
def test_sequence_dataset_reads_our_files(robomimic_python, tmp_path, make_episode, description, codec, plugin):
    horizon, stack, T = 4, 2, 12
    episode = make_episode(3, T)
    path = EpisodeWriter(tmp_path / "d", description, codec).write(episode, 0).path
    out = tmp_path / "out.npz"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HDF5"))}
    run = [str(robomimic_python), "-c", READER, str(path), str(out), plugin, str(horizon), str(stack)]
    result = subprocess.run(run, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    found = np.load(out)
    assert int(found["length"]) == T
    assert json.loads(str(found["env"])) == description["env_args"]
    for step in range(T):
        # With frames stacked, robomimic hands out every array from the first stacked frame on.
        rows = np.clip(np.arange(step - stack + 1, step + horizon), 0, T - 1)
        for key in ("state", "objects", "front"):
            assert np.array_equal(found[f"{step}/{key}"], episode.observations[key][rows]), (step, key)
        assert np.array_equal(found[f"{step}/actions"], episode.actions[rows]), step
        assert np.array_equal(found[f"{step}/rewards"], episode.rewards[rows]), step
        assert np.array_equal(found[f"{step}/states"], episode.sim_states[rows]), step
        assert np.array_equal(found[f"{step}/dones"], (rows == T - 1).astype("i8")), step


@pytest.mark.slow
def test_a_blosc_file_without_the_plugin_is_an_error_there(robomimic_python, tmp_path, make_episode, description):
    path = EpisodeWriter(tmp_path / "d", description, "blosc").write(make_episode(), 0).path
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HDF5"))}
    run = [str(robomimic_python), "-c", READER, str(path), str(tmp_path / "out.npz"), "bare", "1", "1"]
    result = subprocess.run(run, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode != 0
    assert "OSError: Can't synchronously read data" in result.stderr
