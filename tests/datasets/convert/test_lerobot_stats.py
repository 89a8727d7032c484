"""LeRobot's statistics against NumPy's, of everything at once."""

from __future__ import annotations

import numpy as np
import pytest

from shopfloor.datasets.convert.lerobot.stats import (
    NAMES,
    QUANTILES,
    RunningPictures,
    RunningRows,
    of_rows,
    plain,
)

GENERATOR = np.random.default_rng(5)
EPISODES = [
    GENERATOR.normal(1000.0, 3.0, (int(steps), 4)).astype("f4")
    for steps in GENERATOR.integers(1, 40, 25)
]


def check(found, rows):
    count = len(rows)
    rows = rows.astype("f8").reshape(-1, rows.shape[-1]) if rows.ndim > 2 else rows.astype("f8")
    wanted = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    wanted |= {name: np.quantile(rows, share, axis=0) for name, share in QUANTILES.items()}
    assert list(plain(found)) == list(NAMES)
    assert found["count"].tolist() == [count]
    for name, value in wanted.items():
        assert found[name].shape == np.atleast_1d(value).shape
        assert np.allclose(found[name], value, rtol=1e-12), name


def test_rows_of_all_episodes_together():
    running = RunningRows()
    for rows in EPISODES:
        running.update(rows)
    check(running.result(), np.concatenate(EPISODES))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4, 12), (2, 2, 3)])
def test_rows_of_one_episode(shape):
    rows = GENERATOR.normal(size=(17, *shape)).astype("f4")
    check(of_rows(rows), rows)


def test_quantiles_of_many_rows_come_from_evenly_spaced_ones():
    limit, every = 64, 8
    rows = np.concatenate(EPISODES)
    assert limit * every > len(rows) > limit * every // 2
    running = RunningRows(sampled_rows=limit)
    for episode in EPISODES:
        running.update(episode)
    found = running.result()
    sample = rows[::every].astype("f8")
    assert np.array_equal(found["q10"], np.quantile(sample, 0.1, axis=0))
    assert found["count"].tolist() == [len(rows)]
    assert np.allclose(found["mean"], rows.astype("f8").mean(0))
    assert np.array_equal(found["max"], rows.max(0))


def test_constant_rows_far_from_zero_have_no_deviation():
    running = RunningRows()
    for _ in range(3):
        running.update(np.full((5, 2), 1e6, "f4"))
    assert running.result()["std"].tolist() == [0.0, 0.0]


def test_pictures():
    total = RunningPictures()
    episodes = [GENERATOR.integers(0, 256, (steps, 6, 8, 3)).astype("u1") for steps in (3, 1, 5)]
    for pictures in episodes:
        episode = RunningPictures()
        episode.update(pictures)
        check_pictures(episode.result(), pictures)
        total.merge(episode)
    check_pictures(total.result(), np.concatenate(episodes))


def check_pictures(found, pictures):
    values = pictures.reshape(-1, 3) / 255.0
    assert found["count"].tolist() == [len(pictures)]
    for name, value in {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        **{name: np.quantile(values, share, axis=0) for name, share in QUANTILES.items()},
    }.items():
        assert found[name].shape == (3, 1, 1)
        assert np.allclose(found[name].reshape(3), value, rtol=1e-12), name


def test_of_many_large_pictures_some_pixels_are_looked_at():
    pictures = np.zeros((300, 4, 300, 3), "u1")
    pictures[:, :, 1::2] = 255  # every second column, which a step of two passes over
    running = RunningPictures()
    running.update(pictures)
    assert running.pictures == 100
    assert running.result()["max"].max() == 0.0
