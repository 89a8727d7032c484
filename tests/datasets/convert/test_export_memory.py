"""Exporting and importing hold one episode in memory, not the dataset."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

LIMIT_MB = 110
# Runs in a process of its own: makes a dataset, then prints how much the peak of its memory rose by
# each step.
JOB = """
import dataclasses, json, resource, sys
from pathlib import Path
import h5py
import numpy as np
from shopfloor.core import Episode, EpisodeSpec
from shopfloor.datasets.convert.arrays import npy, webdataset
from shopfloor.datasets.convert.lerobot import convert as lerobot
from shopfloor.datasets.convert.maniskill import convert as maniskill
from shopfloor.datasets.convert.minari import convert as minari
from shopfloor.datasets.convert.rlds import convert as rlds
from shopfloor.datasets.convert.robomimic import convert as robomimic
from shopfloor.datasets.convert.formats import ExportOptions, ImportOptions
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.writer import EpisodeWriter

root, episodes, T, side = Path(sys.argv[1]), 60, 80, 128
ramp = np.add.outer(np.arange(side), np.arange(side))[..., None] + np.arange(3) * 20
writer = EpisodeWriter(root / "data", {"cell": "x/Y-v0"})
for seed in range(episodes):
    pictures = np.stack([(ramp + 2 * step + 7 * seed) % 256 for step in range(T + 1)]).astype("u1")
    writer.write(Episode(
        spec=EpisodeSpec("x/Y-v0", seed, "p"), instruction=f"Task {seed % 5}.",
        observations={"front": pictures, "wrist": 255 - pictures, "state": np.ones((T + 1, 20), "f4")},
        sim_states=np.zeros((T + 1, 30)), actions=np.zeros((T, 7), "f4"), rewards=np.zeros(T, "f4"), outcome="failure",
        reason="timeout", actor=np.zeros(T, "u1"), object_names=(), stages=(), label_actions=np.zeros((T, 7), "f4"),
        label_valid=np.zeros(T, bool), decisions=np.ones(T, bool), terminated=False), seed)
data, rises, raw = Dataset(root / "data"), {}, episodes * T * 2 * side * side * 3

def measured(name, call):
    # One episode first: libraries are loaded and their buffers are there.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call()
    rises[name] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

for pictures in ("video", "png"):
    options = ExportOptions(pictures=pictures)
    measured(f"export {pictures}", lambda: lerobot.export(data, root / pictures, options))
    measured(f"import {pictures}", lambda: lerobot.import_(root / pictures, root / f"{pictures}-back", ImportOptions()))
measured("export rlds", lambda: rlds.export(data, root / "rlds", ExportOptions()))
measured("export numpy", lambda: npy.export(data, root / "numpy", ExportOptions()))
for pictures in ("raw", "png"):
    options = ExportOptions(pictures=pictures)
    measured(f"export webdataset {pictures}", lambda: webdataset.export(data, root / f"tar-{pictures}", options))
with h5py.File(root / "r.h5", "w") as file:
    for number in range(episodes):
        episode = data.read(number)
        file[f"traj_{number}/actions"] = episode.actions
        for camera in ("front", "wrist"):
            name = f"traj_{number}/obs/sensor_data/{camera}/rgb"
            file.create_dataset(name, data=episode.observations[camera], compression="gzip", compression_opts=1)
(root / "r.json").write_text(json.dumps({"episodes": [{"episode_id": number} for number in range(episodes)]}))
measured("import maniskill", lambda: maniskill.import_(root / "r.h5", root / "maniskill", ImportOptions()))
for name, form in {"robomimic": robomimic, "minari": minari}.items():
    measured(f"export {name}", lambda: form.export(data, root / name, ExportOptions()))
    measured(f"import {name}", lambda: form.import_(root / name, root / f"{name}-back", ImportOptions()))
print(json.dumps({"raw": raw / 2**20, "rises": rises}))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_dataset(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    run = [sys.executable, "-c", JOB, str(tmp_path)]
    result = subprocess.run(run, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout)
    print(found)
    assert found["raw"] > 4 * LIMIT_MB
    assert sum(found["rises"].values()) < LIMIT_MB
