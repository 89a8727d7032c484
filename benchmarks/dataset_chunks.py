"""Why pictures are stored as they are: codecs and chunk shapes, by CPU time to write, to read windows, and by size.

One episode of 200 steps with two 128 px cameras, all with HDF5's checksum (fletcher32), in memory,
through HDF5's low-level calls; windows of two frames at random places. Medians over rounds in which
all take turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Literal

import h5py
import hdf5plugin
import numpy as np

from benchmarks.dataset_episodes import CAMERAS, STEPS, Pictures, make_episode
from shopfloor.datasets.format.encode import IMAGE_INCREMENT

FRAMES, WINDOWS = 2, 100
Setter = Callable[[h5py.h5p.PropDCID], object]


def blosc(
    name: Literal["lz4", "lz4hc", "zstd"], level: int, shuffle: int = hdf5plugin.Blosc.NOSHUFFLE
) -> Setter:
    """Return what sets the Blosc filter."""
    filters = hdf5plugin.Blosc(cname=name, clevel=level, shuffle=shuffle)
    return lambda creation: creation.set_filter(
        filters.filter_id, h5py.h5z.FLAG_OPTIONAL, tuple(filters.filter_options)
    )


CODECS: dict[str, Setter] = {
    "none": lambda _: None,
    "Blosc LZ4, level 1": blosc("lz4", 1),
    "Blosc LZ4, level 5 (`blosc`)": blosc("lz4", 5),
    "Blosc LZ4, level 9": blosc("lz4", 9),
    "Blosc LZ4, bits shuffled": blosc("lz4", 5, hdf5plugin.Blosc.BITSHUFFLE),
    "Blosc LZ4-HC, level 5": blosc("lz4hc", 5),
    "Blosc Zstd, level 1": blosc("zstd", 1),
    "gzip, level 4 (`gzip`)": lambda creation: creation.set_deflate(4),
}
ROWS = (1, 4, 16)


def image(pictures: dict[str, Pictures], codec: Setter, rows: int) -> bytes:
    """Return an HDF5 file of the pictures with `rows` frames a chunk."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(IMAGE_INCREMENT, False)
    file = h5py.h5f.create(b"image", h5py.h5f.ACC_TRUNC, fapl=access)
    for key, array in pictures.items():
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((rows, *array.shape[1:]))
        codec(creation)
        creation.set_fletcher32()
        space = h5py.h5s.create_simple(array.shape)
        h5py.h5d.create(file, key.encode(), h5py.h5t.NATIVE_UINT8, space, creation).write(
            h5py.h5s.ALL, h5py.h5s.ALL, array
        )
    h5py.h5f.flush(file)
    out: bytes = file.get_file_image()
    file.close()
    return out


def read(data: bytes, pictures: dict[str, Pictures], starts: list[int]) -> float:
    """Read windows and check the last one; returns CPU seconds."""
    file = h5py.h5f.open_file_image(data)
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(0, 0, 1.0)
    handles = {key: h5py.h5d.open(file, key.encode(), access) for key in pictures}
    spaces = {key: handle.get_space() for key, handle in handles.items()}
    out = {key: np.empty((FRAMES, *array.shape[1:]), np.uint8) for key, array in pictures.items()}
    began = time.process_time()
    for start in starts:
        for key, handle in handles.items():
            spaces[key].select_hyperslab((start, 0, 0, 0), out[key].shape)
            handle.read(h5py.h5s.create_simple(out[key].shape), spaces[key], out[key])
    seconds = time.process_time() - began
    if any(
        not np.array_equal(out[key], array[starts[-1] : starts[-1] + FRAMES])
        for key, array in pictures.items()
    ):
        raise SystemExit("other pictures were read than were written")
    file.close()
    return seconds


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="how often everything is written and read (default: 5)",
    )
    rounds = parser.parse_args().rounds
    episode = make_episode(0)
    pictures = {key: np.ascontiguousarray(episode.observations[key][:STEPS]) for key in CAMERAS}
    starts = np.random.default_rng(0).integers(0, STEPS - FRAMES + 1, WINDOWS).tolist()
    cases = [(name, rows) for name in CODECS for rows in ROWS]
    written: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    taken: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    size: dict[tuple[str, int], int] = {}
    for _ in range(rounds):
        for name, rows in cases:
            began = time.process_time()
            data = image(pictures, CODECS[name], rows)
            written[name, rows].append(time.process_time() - began)
            taken[name, rows].append(read(data, pictures, starts))
            size[name, rows] = len(data)
    print(
        f"{'':32}{'frames a chunk':>15}{'write, us a step':>18}{'read, us a window':>19}{'bytes a step':>14}"
    )
    for case in cases:
        write_us, read_us = 1e6 * median(written[case]) / STEPS, 1e6 * median(taken[case]) / WINDOWS
        print(f"{case[0]:32}{case[1]:15}{write_us:18.0f}{read_us:19.0f}{size[case] / STEPS:14,.0f}")


if __name__ == "__main__":
    main()
