import numpy as np
import pytest
import torch

from shopfloor.policies.encoders import text, vision


def test_opposite_instructions_look_alike_before_projection():
    """The published weights put these two at 0.905: the reason why the policy learns a projection of its own."""
    one, other = text.embed(["open the drawer", "close the drawer"])
    assert float(one @ other) == pytest.approx(0.905, abs=0.005)


def test_embeddings_have_unit_length_and_do_not_depend_on_neighbours():
    alone = text.embed(["red cube"])[0]
    together = text.embed(["a much longer sentence than the other one", "red cube"])[1]
    assert torch.equal(alone, together)
    assert float(alone.norm()) == pytest.approx(1.0, abs=1e-5)
    assert text.embed([]).shape == (0, text.TEXT_WIDTH)


def test_feature_maps_have_the_shape_promised_and_see_where_things_are():
    images = np.full((2, 96, 96, 3), 127, np.uint8)
    images[1, 40:56, 64:80] = (250, 20, 20)
    rows, columns = vision.map_size((96, 96))
    maps = vision.encode(images)
    assert maps.shape == (2, rows * columns, vision.CHANNELS)
    change = (maps[1] - maps[0]).norm(dim=-1).reshape(rows, columns)
    row, column = divmod(int(change.argmax()), columns)
    assert 4 <= row <= 7
    assert 7 <= column <= 10


def test_odd_sizes_are_padded_like_the_release():
    assert vision.encode(np.zeros((1, 97, 65, 3), np.uint8)).shape[1] == np.prod(
        vision.map_size((97, 65))
    )


def test_no_pictures_give_no_features():
    assert len(vision.encode(np.zeros((0, 96, 96, 3), np.uint8))) == 0
