"""The gate's verdicts and its error rates."""

import numpy as np
import pytest
from scipy.stats import binomtest

from shopfloor.core import InvalidInputError
from shopfloor.launch.gate.decide import (
    FUTILITY,
    LOOKS,
    SMOKE_LOOKS,
    Look,
    binomial_tail,
    chance_of_promotion,
    decide,
)

pytestmark = pytest.mark.core


def pairs(both=0, gained=0, lost=0, neither=0):
    """Interleave the four kinds of pair, so that prefixes look like the whole."""
    kinds = (
        [(True, True)] * both
        + [(False, True)] * gained
        + [(True, False)] * lost
        + [(False, False)] * neither
    )
    order = np.random.default_rng(0).permutation(len(kinds))
    return [kinds[i][0] for i in order], [kinds[i][1] for i in order]


@pytest.mark.parametrize(
    ("count", "trials"), [(0, 0), (0, 5), (3, 5), (5, 5), (60, 100), (200, 200)]
)
def test_the_tail_is_the_exact_binomial_test(count, trials):
    expected = 1.0 if trials == 0 else binomtest(count, trials, alternative="greater").pvalue
    assert binomial_tail(count, trials) == pytest.approx(expected, rel=1e-9)


def test_clear_gain_is_promoted_at_the_first_look():
    decision = decide(*pairs(both=20, gained=150, neither=30))
    assert (decision.verdict, decision.pairs, decision.alpha) == ("promote", 50, 0.01)
    assert decision.lost == 0
    assert "better: p =" in decision.why


def test_clear_loss_is_rejected():
    assert decide(*pairs(both=20, lost=150, neither=30)).verdict == "reject"


def test_equal_policies_are_held():
    decision = decide(*pairs(both=190, neither=10))
    assert (decision.verdict, decision.pairs) == ("hold", 50)
    assert decide([True] * 200, [True] * 200, futility=0).pairs == 200


def test_a_small_gain_needs_the_later_looks():
    service, candidate = pairs(both=160, gained=30, lost=6, neither=4)
    decision = decide(service, candidate)
    assert decision.verdict == "promote"
    assert decision.pairs in {100, 200}


def test_too_few_pairs_ask_for_more():
    decision = decide([False] * 49, [True] * 49)
    assert (decision.verdict, decision.pairs) == ("need_more", 49)
    service, candidate = pairs(both=80, gained=12, lost=2, neither=6)
    assert decide(service[:70], candidate[:70]).verdict == "need_more"


def test_no_evidence_is_need_more_not_a_verdict():
    assert decide([], []).verdict == "need_more"


def test_smoke_has_one_look():
    service, candidate = pairs(both=20, gained=9, lost=1)
    assert decide(service, candidate, SMOKE_LOOKS).verdict == "promote"
    assert decide(service, service, SMOKE_LOOKS).verdict == "hold"


def test_results_must_be_paired():
    with pytest.raises(InvalidInputError, match="one of each per seed"):
        decide([True], [True, False])
    with pytest.raises(InvalidInputError, match="growing"):
        decide([True], [True], looks=(Look(50, 0.01), Look(50, 0.01)))


def _rates(in_service, candidate, both, looks, trials=3000, futility=FUTILITY):
    """Share of simulated comparisons per verdict; successes correlate through the share `both` of common draws."""
    rng = np.random.default_rng(1)
    count = looks[-1].pairs
    verdicts = {"promote": 0, "hold": 0, "reject": 0, "need_more": 0}
    for _ in range(trials):
        common = rng.random(count) < both
        draw_a, draw_b = rng.random(count), rng.random(count)
        a = draw_a < in_service
        b = np.where(common, draw_a, draw_b) < candidate
        verdicts[decide(a.tolist(), b.tolist(), looks, futility).verdict] += 1
    return {verdict: number / trials for verdict, number in verdicts.items()}


@pytest.mark.parametrize("looks", [LOOKS, SMOKE_LOOKS], ids=["full", "smoke"])
@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_type_one_error_is_at_most_five_percent(looks, rate):
    rates = _rates(rate, rate, both=0.3, looks=looks, trials=1200)
    assert rates["promote"] <= 0.05 + 0.013  # two standard errors of 1,200 trials at 5 %
    assert rates["reject"] <= 0.05 + 0.013
    assert rates["need_more"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("futility", [0.0, FUTILITY])
def test_error_rate_and_power_over_many_trials(futility):
    worst = max(
        _rates(rate, rate, 0.2, LOOKS, 10_000, futility)["promote"]
        for rate in (0.3, 0.5, 0.8, 0.95)
    )
    assert worst <= 0.05
    assert _rates(0.6, 0.9, 0.3, LOOKS, 1000, futility)["promote"] > 0.99
    assert _rates(0.9, 0.6, 0.3, LOOKS, 1000, futility)["promote"] == 0


def test_stopping_for_futility_costs_little_power():
    with_stop = _rates(0.85, 0.95, 0.3, LOOKS, 400)["promote"]
    without = _rates(0.85, 0.95, 0.3, LOOKS, 400, futility=0.0)["promote"]
    assert without - with_stop < 0.06


def test_chance_of_promotion_grows_with_gains():
    chances = [chance_of_promotion(gained, 2, 50, LOOKS[-1]) for gained in range(12)]
    assert chances == sorted(chances)
    assert chances[0] < 0.01
    assert chances[-1] > 0.9
