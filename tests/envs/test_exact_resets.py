"""A used cell equals a new one, bit for bit: in physics after messy episodes, in pictures after any number of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import messy_episodes
import numpy as np
import pytest
from cell_episodes import CAMERAS, CELLS, build, cells_with_arms, each_arm, having
from messy_episodes import fresh, play_messy

ASSETS = Path(messy_episodes.__file__).parents[2] / "envs" / "assets"
QUICK = (4, 6)
SOME, MANY = range(6), range(18)
GRIPPING = [
    name for name in cells_with_arms() if name != "shopfloor/ShelfPick-v0"
]  # its goal is on the robot itself


@pytest.fixture(params=CELLS, ids=lambda name: name.split("/")[-1])
def name(request):
    return request.param


def check(name, seeds, expected):
    """Compare two used cells, with histories in opposite order, and one that has been looked at, with new ones."""
    for order in (list(seeds), list(reversed(seeds))):
        cell = build(name)
        for seed in order:
            assert play_messy(cell, seed)[0] == expected[seed], (seed, order[: order.index(seed)])
        cell.close()
    cell = build(name)
    for seed in list(seeds)[::2]:
        cell.reset(seed=1000 + seed)
        for _ in range(9):
            cell.advance(each_arm(cell, [0.0, 0.0, -1.0, 0.0, 0.0, 1.0, 1.0]))
        state = cell.sim_state()
        cell.observe(CAMERAS)
        cell.reset(seed=2000 + seed, options={"variation": having(cell, "mid_task", "nominal")[0]})
        cell.set_sim_state(state)
        cell.advance(np.ones(cell.action_size))
        assert play_messy(cell, seed)[0] == expected[seed], seed
    cell.close()


def test_used_cells_equal_new_ones_after_messy_episodes(name):
    runs = {seed: fresh(name, seed) for seed in QUICK}
    assert name not in GRIPPING or any(meetings for _, meetings in runs.values())
    check(name, QUICK, {seed: digest for seed, (digest, _) in runs.items()})


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [SOME, pytest.param(MANY, marks=pytest.mark.long)], ids=len)
def test_used_cells_equal_new_ones_after_many_messy_episodes(name, seeds):
    runs = {seed: fresh(name, seed) for seed in seeds}
    meetings = sum(meetings > 0 for _, meetings in runs.values())
    assert name not in GRIPPING or meetings > len(seeds) // 2
    check(name, seeds, {seed: digest for seed, (digest, _) in runs.items()})


@pytest.mark.slow
def test_a_new_process_gives_the_same_messy_episodes(name):
    command = [sys.executable, messy_episodes.__file__, name, "0", "1", "2"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert output[-3:] == [fresh(name, seed)[0] for seed in range(3)]


def states(name, count):
    """Return simulator states all over the task."""
    cell, found = build(name), []
    for seed in range(count):
        cell.reset(seed=seed, options={"variation": having(cell, "mid_task", "nominal")[0]})
        for _ in range(seed % 7):
            cell.advance(np.full(cell.action_size, 0.5))
        found.append(cell.sim_state())
    cell.close()
    return found


def pictures(cell, found):
    drawn = []
    for state in found:
        cell.set_sim_state(state)
        drawn += [
            picture.tobytes() for key, picture in cell.observe(CAMERAS).items() if key in CAMERAS
        ]
    return drawn


@pytest.mark.slow
def test_pictures_do_not_depend_on_how_many_were_drawn_before(name):
    found = states(name, 66)
    used, new = build(name, image_size=(48, 48)), build(name, image_size=(48, 48))
    first = pictures(used, found)
    assert pictures(used, found) == first
    used.observe(("front",))  # an odd number of drawings
    assert pictures(used, found) == first
    assert pictures(new, found[::-1]) != first
    assert pictures(new, found) == first
    for cell in (used, new):
        cell.close()


@pytest.mark.parametrize("path", sorted(ASSETS.rglob("*.obj")), ids=lambda path: path.stem)
def test_meshes_hold_normals_that_the_renderer_leaves_as_they_are(path):
    """The renderer normalises them in place, in float32, at each drawing."""
    rows = [line.split()[1:] for line in path.read_text().splitlines() if line.startswith("vn ")]
    normals = np.array(rows, dtype=np.float64).astype(np.float32)
    assert len(normals) > 12
    for x, y, z in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        squares = normals * normals
        scale = np.float32(1.0) / np.sqrt(squares[:, x] + squares[:, y] + squares[:, z])
        assert np.array_equal(normals * scale[:, None], normals)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_resets_leak_no_memory(name):
    cell = build(name)

    def resident_kb():
        return 4 * int(Path("/proc/self/statm").read_text().split()[1])

    for seed in range(50):
        cell.reset(seed=seed)
    before = resident_kb()
    for seed in range(1000):
        cell.reset(seed=seed)
    assert resident_kb() - before < 4000
    cell.close()
