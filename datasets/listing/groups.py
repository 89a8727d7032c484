"""Dividing items into parts by shares, keeping together what belongs together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from shopfloor.errors import InvalidInputError


def joined(keys: Sequence[Iterable[Hashable]]) -> list[list[int]]:
    """Group items that share a key, directly or through others.

    Args:
        keys: the keys of each item.

    Returns:
        The items' positions, group by group; groups in the order of their first items, items
        ascending.
    """
    parent = list(range(len(keys)))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first: dict[Hashable, int] = {}
    for item, own in enumerate(keys):
        for key in own:
            one, other = sorted((root(first.setdefault(key, item)), root(item)))
            parent[other] = one

    groups: dict[int, list[int]] = {}
    for item in range(len(keys)):
        groups.setdefault(root(item), []).append(item)
    return list(groups.values())


def assign(sizes: Sequence[int], shares: Mapping[str, float], seed: int) -> list[str]:
    """Give every group to a part, so that the parts come as near to their shares as groups allow.

    Large groups go first, equal ones in an order drawn from the seed, each to the part that lacks
    most. No part gets more than one group's size above its share, unless another part would have
    stayed empty.

    Args:
        sizes: items in each group.
        shares: part -> its share; positive, together 1.
        seed: seed of the order.

    Returns:
        The part of each group. A part stays empty only where there are fewer groups than parts.

    Raises:
        InvalidInputError: the seed is negative.
    """
    if seed < 0:
        raise InvalidInputError(f"The seed is {seed}; expected an integer of at least 0.")

    drawn = np.random.default_rng(seed).permutation(len(sizes)).tolist()
    lacking = {part: share * sum(sizes) for part, share in shares.items()}
    parts = [""] * len(sizes)
    for group in sorted(drawn, key=lambda group: -sizes[group]):
        parts[group] = max(lacking, key=lambda part: lacking[part])
        lacking[parts[group]] -= sizes[group]

    for empty in [part for part in shares if part not in parts]:
        groups = Counter(parts)
        donors = [group for group in drawn if groups[parts[group]] > 1]
        if donors:
            smallest = min(donors, key=lambda group: (sizes[group], lacking[parts[group]]))
            lacking[parts[smallest]] += sizes[smallest]
            lacking[empty] -= sizes[smallest]
            parts[smallest] = empty

    return parts
