"""One of the other libraries, in a process of its own that may run another Python: it needs NumPy and that library.

Run as `PYTHON peer_worker.py NAME ARRAYS FOLDER`: ARRAYS holds the data as `.npy` files, shape
(episodes, rows, ...). Takes one JSON object a line on standard input and answers with one: {"do":
"write"} writes FOLDER; {"do": "open", "batch": [[episode, step], ...], "keep": FILE} opens it,
reads a first batch and saves it for a check; {"do": "read", "batches": [...], "limit_s": S} reads
batches until S CPU seconds have passed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

OBSERVATIONS, ACTIONS = 2, 16
FPS = 20
Batch = dict[str, np.ndarray]
Place = tuple[int, int]


def cpu() -> float:
    """Return CPU seconds of this process, its threads and the children it has waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


class Data:
    """The arrays to write."""

    def __init__(self, folder: Path) -> None:
        """Map them."""
        self.arrays = {
            path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))
        }
        self.episodes, self.steps = self.arrays["actions"].shape[:2]
        self.cameras = [key for key, array in self.arrays.items() if array.ndim == 5]

    def episode(self, index: int) -> Batch:
        """Load an episode."""
        return {key: np.array(array[index]) for key, array in self.arrays.items()}


class Robomimic:
    """robomimic's SequenceDataset; it has no writer, users write HDF5 with h5py."""

    def __init__(self, data: Data, folder: Path, cache: str | None) -> None:
        """Remember where."""
        self._data, self._path, self._cache = data, folder / "robomimic.h5", cache

    def write(self) -> list[float]:
        """Write one file, as robomimic's scripts do."""
        import h5py

        self._path.parent.mkdir(exist_ok=True)
        if self._path.exists():  # of another cache mode
            return []
        with h5py.File(self._path, "w") as file:
            group = file.create_group("data")
            group.attrs["total"] = self._data.episodes * self._data.steps
            group.attrs["env_args"] = json.dumps({"env_name": "x", "type": 2, "env_kwargs": {}})
            for index in range(self._data.episodes):
                arrays = self._data.episode(index)
                demo = group.create_group(f"demo_{index}")
                demo.attrs["num_samples"] = steps = self._data.steps
                demo["actions"], demo["rewards"] = arrays.pop("actions"), arrays.pop("rewards")
                demo["states"] = arrays.pop("sim_states")[:steps]
                demo["dones"] = (np.arange(steps) == steps - 1).astype("i8")
                for key, array in arrays.items():
                    demo[f"obs/{key}"] = array[:steps]
        return []

    def open(self) -> None:
        """Open the file; caches are filled here."""
        import robomimic.utils.obs_utils as obs_utils
        from robomimic.utils.dataset import SequenceDataset

        obs_utils.initialize_obs_utils_with_obs_specs(
            {"obs": {"low_dim": ["state"], "rgb": self._data.cameras}}
        )
        self._set = SequenceDataset(
            hdf5_path=str(self._path),
            obs_keys=["state", *self._data.cameras],
            dataset_keys=["actions"],
            frame_stack=OBSERVATIONS,
            seq_length=ACTIONS,
            pad_frame_stack=True,
            pad_seq_length=True,
            hdf5_cache_mode=self._cache,
            hdf5_use_swmr=True,
            load_next_obs=False,
        )

    def read(self, places: list[Place]) -> Batch:
        """Read a batch; robomimic has one horizon, so an item holds 17 rows of everything."""
        items = [self._set[episode * self._data.steps + step] for episode, step in places]
        batch = {
            key: np.stack([item["obs"][key][:OBSERVATIONS] for item in items])
            for key in items[0]["obs"]
        }
        return {
            **batch,
            "actions": np.stack([item["actions"][OBSERVATIONS - 1 :] for item in items]),
        }


class Minari:
    """Minari's HDF5 format with its default JPEG pictures."""

    def __init__(self, data: Data, folder: Path) -> None:
        """Remember where."""
        self._data = data
        os.environ["MINARI_DATASETS_PATH"] = str(folder)

    def write(self) -> list[float]:
        """Add episode by episode, each saved; returns the CPU seconds of each but the first, which makes the folder."""
        import minari
        from gymnasium import spaces

        data, seconds, dataset = self._data, [], None
        state, action = data.arrays["state"], data.arrays["actions"]
        pictures = {
            key: spaces.Box(0, 255, data.arrays[key].shape[2:], np.uint8) for key in data.cameras
        }
        room = spaces.Dict(
            {"state": spaces.Box(-np.inf, np.inf, state.shape[2:], np.float32), **pictures}
        )
        for index in range(data.episodes):
            buffer = [self._buffer(data.episode(index))]
            began = cpu()
            if dataset is None:
                dataset = minari.create_dataset_from_buffers(
                    "bench/store-v0",
                    buffer,
                    observation_space=room,
                    action_space=spaces.Box(-1, 1, action.shape[2:], np.float32),
                )
            else:
                dataset.update_dataset_from_buffer(buffer)
                seconds.append(cpu() - began)
        return seconds

    def _buffer(self, arrays: Batch) -> Any:  # noqa: ANN401  # minari.EpisodeBuffer
        from minari.data_collector import EpisodeBuffer

        steps = self._data.steps
        return EpisodeBuffer(
            observations={key: arrays[key] for key in ("state", *self._data.cameras)},
            actions=arrays["actions"],
            rewards=arrays["rewards"],
            terminations=np.arange(steps) == steps - 1,
            truncations=np.zeros(steps, bool),
            infos={"sim_states": arrays["sim_states"]},
        )

    def open(self) -> None:
        """Open the folder."""
        import minari

        self._set = minari.load_dataset("bench/store-v0")

    def read(self, places: list[Place]) -> Batch:
        """Read a batch: Minari reads episodes, so a window costs one."""
        parts: dict[str, list[np.ndarray]] = {
            key: [] for key in ("state", *self._data.cameras, "actions")
        }
        for index, step in places:
            episode = self._set[index]
            for key, array in {**episode.observations, "actions": episode.actions}.items():
                rows = (
                    np.arange(step, step + ACTIONS)
                    if key == "actions"
                    else np.arange(step - OBSERVATIONS + 1, step + 1)
                )
                parts[key].append(array[np.clip(rows, 0, self._data.steps - 1)])
        return {key: np.stack(rows) for key, rows in parts.items()}


class LeRobot:
    """LeRobotDataset v3 with its default video."""

    def __init__(self, data: Data, folder: Path) -> None:
        """Remember where."""
        self._data, self._root = data, folder
        os.environ["HF_HUB_OFFLINE"] = "1"

    def write(self) -> list[float]:
        """Add frames and save episode by episode; returns the CPU seconds of each."""
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        data, seconds = self._data, []
        names = {
            "state": "observation.state",
            "sim_states": "observation.environment_state",
            "actions": "action",
        }
        names |= {key: f"observation.images.{key}" for key in data.cameras}
        features = {
            name: {
                "dtype": "video" if key in data.cameras else str(data.arrays[key].dtype),
                "names": None,
            }
            | {"shape": data.arrays[key].shape[2:]}
            for key, name in names.items()
        }
        features["next.reward"] = {"dtype": "float32", "shape": (1,), "names": None}
        for key in data.cameras:
            features[names[key]]["names"] = ["height", "width", "channels"]
        dataset = LeRobotDataset.create(
            "bench/store", fps=FPS, features=features, root=self._root, use_videos=True
        )
        for index in range(data.episodes):
            arrays = data.episode(index)
            began = cpu()
            for step in range(data.steps):
                frame = {name: arrays[key][step] for key, name in names.items()}
                dataset.add_frame(
                    {**frame, "next.reward": arrays["rewards"][step : step + 1], "task": "pick"}
                )
            dataset.save_episode()
            seconds.append(cpu() - began)
        dataset.finalize()
        return seconds

    def open(self) -> None:
        """Open the folder with windows."""
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        before = [step / FPS for step in range(1 - OBSERVATIONS, 1)]
        cameras = [f"observation.images.{key}" for key in self._data.cameras]
        deltas = dict.fromkeys(("observation.state", *cameras), before)
        self._set = LeRobotDataset(
            "bench/store",
            root=self._root,
            delta_timestamps={**deltas, "action": [step / FPS for step in range(ACTIONS)]},
            return_uint8=True,
        )

    def read(self, places: list[Place]) -> Batch:
        """Read a batch; pictures come as (rows, channel, height, width)."""
        import torch

        items = [self._set[episode * self._data.steps + step] for episode, step in places]
        names = {"state": "observation.state", "actions": "action"}
        names |= {key: f"observation.images.{key}" for key in self._data.cameras}
        batch = {
            key: torch.stack([item[name] for item in items]).numpy() for key, name in names.items()
        }
        return {
            key: array.transpose(0, 1, 3, 4, 2) if array.ndim == 5 else array
            for key, array in batch.items()
        }


MAKERS: dict[str, Callable[[Data, Path], Robomimic | Minari | LeRobot]] = {
    "robomimic": lambda data, folder: Robomimic(data, folder, None),
    "robomimic-low_dim": lambda data, folder: Robomimic(data, folder, "low_dim"),
    "robomimic-all": lambda data, folder: Robomimic(data, folder, "all"),
    "minari": Minari,
    "lerobot": LeRobot,
}

MODULES = {
    "robomimic": "robomimic.utils.dataset",
    "minari": "minari",
    "lerobot": "lerobot.datasets.lerobot_dataset",
}


def answer(peer: Robomimic | Minari | LeRobot, folder: Path, ask: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked."""
    began = cpu()
    if ask["do"] == "write":
        seconds = peer.write()
        stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return {"cpu": seconds, "bytes": stored}
    if ask["do"] == "open":
        peer.open()
        first = peer.read(ask["batch"])
        seconds_open = cpu() - began
        np.savez(ask["keep"], **first)  # type: ignore[arg-type]  # its flags are keywords, too
        return {"cpu": seconds_open}
    windows = 0
    for batch in ask["batches"]:
        windows += len(peer.read(batch)["actions"])
        if cpu() - began > ask["limit_s"]:
            break
    return {"windows": windows, "cpu": cpu() - began}


def main() -> None:
    """Serve until standard input ends."""
    # Libraries print what they like: answers go to a copy of standard output that they do not know.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, arrays, out = sys.argv[1:]
    folder = Path(out)
    peer = MAKERS[name](Data(Path(arrays)), folder)
    importlib.import_module(MODULES[name.split("-")[0]])  # so that opening is not charged with it
    for line in sys.stdin:
        answers.write(json.dumps(answer(peer, folder, json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
