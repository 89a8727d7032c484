"""Wilson's interval against published values and its own definition."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfloor.collectors.statistics import Z_95, wilson_interval

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),  # Newcombe 1998, table I, method 3
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_published_values(successes, trials, expected):
    assert wilson_interval(successes, trials) == pytest.approx(expected, abs=5e-5)


def test_no_trials_say_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 3), (4, 3)])
def test_impossible_counts_are_errors(successes, trials):
    with pytest.raises(ValueError, match="expected 0 <= successes"):
        wilson_interval(successes, trials)


@given(trials=st.integers(1, 2000), data=st.data())
def test_the_ends_are_where_the_score_test_rejects(trials, data):
    successes = data.draw(st.integers(0, trials))
    low, high = wilson_interval(successes, trials)
    rate = successes / trials
    assert 0.0 <= low <= rate <= high <= 1.0
    for end in (low, high):
        if 0.0 < end < 1.0:
            score = abs(rate - end) / math.sqrt(end * (1 - end) / trials)
            assert score == pytest.approx(Z_95, rel=1e-6)
