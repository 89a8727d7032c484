"""Random scenes: the same ones for the same seeds, rendered once, and what damage does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from shopfloor.collectors.choice import CellChoice
from shopfloor.core import InvalidInputError
from shopfloor.policies.encoders import vision
from shopfloor.policies.encoders.tensors import publish_tensors
from shopfloor.policies.learners import scenes
from shopfloor.policies.learners.data import Vocabulary, load_table
from shopfloor.policies.learners.scenes import read_block, render_block, scene_payloads

CELL = "shopfloor/PickToTray-v0"
FIRST = 10_000
CHOICE = dataclasses.asdict(CellChoice(CELL, cameras=("front", "wrist"), image_size=(24, 32)))


@pytest.fixture(scope="module")
def block(tmp_path_factory):
    """Four scenes of two small views."""
    [payload] = scene_payloads(CHOICE, 4, FIRST, tmp_path_factory.mktemp("scenes"))
    return Path(render_block(payload)["path"])


# --------------------------------------------------------------------------------------------------
# Jobs
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "jobs"), [(1, 1), (100, 1), (101, 2), (250, 3)])
def test_payloads_cover_every_scene_once(tmp_path, count, jobs):
    payloads = scene_payloads(CHOICE, count, FIRST, tmp_path)
    seeds: list[int] = []
    for job in payloads:
        seeds += range(job["first"], job["first"] + job["count"])
    assert len(payloads) == jobs
    assert seeds == list(range(FIRST, FIRST + count))
    assert {job["cell"] for job in payloads} == {CELL}


def test_no_scenes_are_no_jobs(tmp_path):
    assert scene_payloads(CHOICE, 0, FIRST, tmp_path) == []


# --------------------------------------------------------------------------------------------------
# Rendering
# --------------------------------------------------------------------------------------------------


def test_a_block_holds_what_its_attributes_promise(block):
    found = read_block(block)
    rows, columns = vision.map_size((24, 32))
    assert found.cell == CELL
    assert found.state.shape == (4, 22)
    assert found.objects.shape[::2] == (4, 12)
    assert found.chunk.shape[::2] == (4, 7)
    assert found.maps.shape == (4, 2, rows * columns, vision.CHANNELS)
    assert found.maps.dtype == torch.float16

    assert len(found.instructions) == len(found.object_names) == 4
    for row, names in zip(found.objects, found.object_names, strict=True):
        assert len(names) <= len(row)
        assert "tray" in names
    assert np.abs(found.chunk).max() <= 1.0


def test_scenes_are_of_all_kinds(block):
    """They start anywhere in the task, not at the home pose that episodes start from."""
    found = read_block(block)
    assert np.ptp(found.state[:, 7:10], axis=0).max() > 0.2
    assert set(found.state[:, 21].tolist()) == {-1.0, 1.0}  # the gripper is open or holds a part
    assert len(np.unique(found.objects[:, 0, :3].round(3), axis=0)) == 4


def test_the_same_seeds_give_the_same_bytes_and_others_other_scenes(block, tmp_path):
    [payload] = scene_payloads(CHOICE, 4, FIRST, tmp_path)
    again = Path(render_block(payload)["path"])
    assert again.name == block.name
    assert again.read_bytes() == block.read_bytes()

    [payload] = scene_payloads(CHOICE, 2, FIRST + 2, tmp_path)
    later = read_block(Path(render_block(payload)["path"]))
    whole = read_block(block)
    assert np.array_equal(later.state, whole.state[2:])  # a scene does not depend on those before
    assert later.instructions == whole.instructions[2:]


def test_a_block_that_is_there_is_not_rendered_again(block, monkeypatch):
    monkeypatch.setattr(scenes, "make_cell", lambda *_, **__: pytest.fail("a cell was made"))
    [payload] = scene_payloads(CHOICE, 4, FIRST, block.parent)
    report = render_block(payload)
    assert report["path"] == str(block)
    assert report["scenes"] == 4
    assert report["cpu_seconds"] >= 0.0


@pytest.mark.parametrize("keep", [0, 20, -50])
def test_a_damaged_block_is_named(block, tmp_path, keep):
    damaged = tmp_path / block.name
    damaged.write_bytes(block.read_bytes()[:keep])
    with pytest.raises(InvalidInputError, match=rf"{block.name} cannot be read.*delete it and run"):
        read_block(damaged)


def test_tensors_of_something_else_are_no_block(tmp_path):
    publish_tensors({"state": torch.zeros(1, 22)}, tmp_path / "x.safetensors")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_block(tmp_path / "x.safetensors")


# --------------------------------------------------------------------------------------------------
# In the table
# --------------------------------------------------------------------------------------------------


def test_scenes_become_rows_of_their_own_group(block):
    found = read_block(block)
    names = tuple(sorted({name for row in found.object_names for name in row}))
    words = Vocabulary((CELL,), names, ("tray",), ())
    table = load_table([], words, 2, ("front", "wrist"), None, [block])

    assert len(table) == 4
    assert table.group.tolist() == [1] * 4
    assert table.sources == {"expert": 0, "own_success": 0, "scenes": 4}
    assert np.array_equal(table.chunk, found.chunk[:, :2])
    assert table.valid.all()
    assert [table.instructions[index] for index in table.instruction] == found.instructions
    assert torch.equal(table.gather_maps(torch.tensor([3, 1])), found.maps[[3, 1]].float())

    tray = names.index("tray")
    for row, order in enumerate(found.object_names):
        assert np.array_equal(table.objects[row, tray], found.objects[row, order.index("tray")])


def test_scenes_of_another_cell_are_refused(block):
    words = Vocabulary(("shopfloor/Kitting-v0",), ("tray",), ("tray",), ())
    with pytest.raises(InvalidInputError, match=r"is of shopfloor/PickToTray-v0; the data is of"):
        load_table([], words, 2, ("front", "wrist"), None, [block])
