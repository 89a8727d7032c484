from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfloor.core import InvalidInputError
from shopfloor.datasets.listing.groups import assign, joined

keys = st.lists(st.lists(st.integers(0, 8), max_size=3), max_size=12)
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=30)
shares = st.sampled_from(
    [
        {"train": 0.8, "valid": 0.1, "test": 0.1},
        {"a": 0.5, "b": 0.5},
        {"all": 1.0},
        {"a": 0.97, "b": 0.03},
    ]
)


@given(keys)
def test_every_item_is_in_one_group_and_keys_are_never_torn(keys):
    groups = joined(keys)
    assert sorted(item for group in groups for item in group) == list(range(len(keys)))
    for one, other in combinations(groups, 2):
        assert not {key for item in one for key in keys[item]} & {
            key for item in other for key in keys[item]
        }


@given(keys)
def test_groups_are_no_larger_than_they_must_be(keys):
    for group in joined(keys):
        reached = {group[0]}
        while True:
            known = {key for item in reached for key in keys[item]}
            more = {item for item in group if known & set(keys[item])} | reached
            if more == reached:
                break
            reached = more
        assert reached == set(group)


@given(sizes, shares, st.integers(0, 5))
def test_shares_are_met_as_nearly_as_groups_allow(sizes, shares, seed):
    parts = assign(sizes, shares, seed)
    assert parts == assign(sizes, shares, seed)
    assert set(parts) <= set(shares)
    assert len(set(parts)) == min(len(shares), len(sizes))
    for part, share in shares.items():
        size = sum(size for size, own in zip(sizes, parts, strict=True) if own == part)
        if parts.count(part) > 1:
            assert size <= share * sum(sizes) + max(sizes)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), min_size=3, max_size=40),
    shares,
    st.integers(0, 3),
)
def test_a_split_puts_every_episode_in_one_part_and_no_beginning_in_two(episodes, shares, seed):
    """As `copies.split` does it: an episode's seed and its first state are its keys."""
    groups = joined([(("seed", one), ("state", state)) for one, state in episodes])
    home = {}
    for group, part in zip(
        groups, assign([len(group) for group in groups], shares, seed), strict=True
    ):
        for item in group:
            assert item not in home
            home[item] = part
    assert sorted(home) == list(range(len(episodes)))
    for place in (0, 1):
        for key in {episode[place] for episode in episodes}:
            assert (
                len({home[item] for item, episode in enumerate(episodes) if episode[place] == key})
                == 1
            )


def test_single_episodes_meet_the_shares_exactly():
    parts = assign([1] * 100, {"train": 0.8, "valid": 0.1, "test": 0.1}, 0)
    assert [parts.count(part) for part in ("train", "valid", "test")] == [80, 10, 10]


def test_other_seeds_give_other_parts():
    shares = {"train": 0.5, "test": 0.5}
    assert len({tuple(assign([1] * 20, shares, seed)) for seed in range(5)}) > 1


def test_a_negative_seed_is_refused():
    with pytest.raises(InvalidInputError, match="The seed is -1"):
        assign([1, 2], {"a": 0.5, "b": 0.5}, -1)
