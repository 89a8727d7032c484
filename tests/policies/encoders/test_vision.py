"""Frozen image features: shape, place, and independence of the other pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shopfloor.policies.encoders import vision


def pictures(count, height=32, width=48, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "cells"),
    [((96, 96), (12, 12)), ((97, 65), (13, 9)), ((8, 8), (1, 1)), ((9, 17), (2, 3))],
)
def test_a_map_has_a_cell_for_every_eight_pixels(size, cells):
    assert vision.map_size(size) == cells
    maps = vision.encode(pictures(1, *size))
    assert maps.shape == (1, cells[0] * cells[1], vision.CHANNELS)
    assert maps.dtype == torch.float32


@pytest.mark.parametrize(("row", "column"), [(1, 1), (4, 9), (10, 2)])
def test_features_change_where_the_picture_does(row, column):
    images = np.full((2, 96, 96, 3), 127, np.uint8)
    images[1, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = (250, 20, 20)
    maps = vision.encode(images)
    change = (maps[1] - maps[0]).norm(dim=-1).reshape(vision.map_size((96, 96)))
    found_row, found_column = divmod(int(change.argmax()), change.shape[1])
    assert abs(found_row - row) <= 1
    assert abs(found_column - column) <= 1
    assert float(change.max()) > 5 * float(change.median())


def test_the_features_are_those_of_the_published_weights():
    """A picture of arithmetic; other padding, scaling or folding gives other values."""
    rows, columns = np.mgrid[:24, :32]
    picture = np.stack([rows * 10, columns * 7, rows * columns % 256], -1).astype(np.uint8)
    maps = vision.encode(picture[None])[0]
    assert maps[0, :4].tolist() == pytest.approx([1.4352, -2.4308, 0.3010, 0.9089], abs=1e-3)
    assert maps[11, -4:].tolist() == pytest.approx([0.4113, 1.3709, -1.2153, 0.0600], abs=1e-3)


def test_a_picture_is_encoded_alone():
    """More pictures than a batch holds, in another order: each has the features it has alone."""
    images = pictures(2 * vision.BATCH + 3)
    maps = vision.encode(images)
    assert len(maps) == len(images)
    for index in (0, vision.BATCH, len(images) - 1):
        assert torch.allclose(vision.encode(images[index : index + 1])[0], maps[index], atol=1e-4)
    assert torch.allclose(vision.encode(images[::-1]), maps.flip(0), atol=1e-4)


def test_the_same_pictures_give_the_same_bytes():
    assert torch.equal(vision.encode(pictures(3)), vision.encode(pictures(3)))
    assert not torch.equal(vision.encode(pictures(3)), vision.encode(pictures(3, seed=1)))


def test_colours_have_different_features():
    images = np.zeros((2, 32, 32, 3), np.uint8)
    images[0, ..., 0], images[1, ..., 2] = 220, 220
    red, blue = vision.encode(images)
    assert float((red - blue).abs().mean()) > 0.05


def test_values_are_of_about_unit_size():
    assert 0.05 < float(vision.encode(pictures(4)).std()) < 5.0


def test_no_pictures_give_no_features():
    assert len(vision.encode(np.zeros((0, 96, 96, 3), np.uint8))) == 0


def test_features_carry_no_gradient():
    assert not vision.encode(pictures(1)).requires_grad
