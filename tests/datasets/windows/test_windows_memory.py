"""Memory of random windows does not grow with the dataset: 100 and 10,000 episodes, each in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shopfloor.core import canonical_json, sha256_hex
from shopfloor.datasets.disk.files import TRAILER_BYTES, with_trailer
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.decode import read_record
from shopfloor.datasets.format.encode import encode_episode
from shopfloor.datasets.listing.manifest import publish_manifest
from shopfloor.datasets.writer import EpisodeWriter

OPEN_FILES, BATCHES = 16, 60
# Prints anonymous resident memory when the dataset is listed, after as many batches as open all
# files once, at the end.
READER = """
import gc, json, sys
from pathlib import Path
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.windows.windows import Windows

def resident():
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

path, open_files, batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
before = resident()
windows = Windows(Dataset(path, max_open_files=open_files), ("state", "front"), 2, 4, batch_size=32)
listed, seen, marks = resident(), set(), []
stream = iter(windows)
for number in range(batches):
    batch = next(stream, None)
    if batch is None:
        stream = iter(windows)
        batch = next(stream)
    seen |= set(batch["episode"].tolist())
    marks.append(resident())
del batch
print(json.dumps({"listing": listed - before, "reading": max(marks) - listed, "growth": marks[-1] - marks[batches // 3],
                  "opened": len(seen)}))
"""


def make_many(path: Path, count: int, make_episode, description) -> None:
    """Publish `count` episodes that differ in their seed, by exchanging text of equal length in one file's bytes."""
    front = np.arange(13 * 40 * 40 * 3, dtype=np.uint8).reshape(13, 40, 40, 3)
    first = make_episode(100_000, 12)
    first = dataclasses.replace(
        first, observations={**first.observations, "front": front}, cameras={}
    )
    body = encode_episode(first)[:-TRAILER_BYTES]
    EpisodeWriter(path, description)  # dataset.json
    (path / layout.EPISODES).mkdir(exist_ok=True)
    old, records, record = canonical_json(first.spec.to_json()), [], None
    for index in range(count):
        spec = dataclasses.replace(first.spec, seed=100_000 + index)
        image = body.replace(old.encode(), canonical_json(spec.to_json()).encode())
        image = with_trailer(
            image.replace(first.spec.episode_id.encode(), spec.episode_id.encode())
        )
        file = layout.episode_file(index, spec.episode_id)
        (path / file).write_bytes(image)
        record = record or read_record(path, file)
        changes = {"file": file, "sha256": sha256_hex(image), "episode_id": spec.episode_id}
        records.append(dataclasses.replace(record, index=index, seed=spec.seed, **changes))
    publish_manifest(path, records)


@pytest.mark.slow
def test_memory_is_flat_from_100_to_10000_episodes(tmp_path, make_episode, description):
    found = {}
    for count in (100, 10_000):
        make_many(tmp_path / str(count), count, make_episode, description)
        run = [
            sys.executable,
            "-c",
            READER,
            str(tmp_path / str(count)),
            str(OPEN_FILES),
            str(BATCHES),
        ]
        out = subprocess.run(run, capture_output=True, text=True, check=True)
        found[count] = json.loads(out.stdout)
    small, large = found[100], found[10_000]
    assert small["opened"] == 100, found
    assert large["opened"] > 1500, found
    # The list of episodes is all that grows with their number.
    assert large["listing"] < 4096 * 10_000, found
    assert large["reading"] < small["reading"] + 8e6, found
    assert large["growth"] < 4e6, found
    assert large["reading"] < 40e6, found
