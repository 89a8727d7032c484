"""Strict JSON as text: parsing without surprises, and the digest of a value."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, NoReturn, TypeGuard, TypeVar

from shopfloor.specs import canonical_json, sha256_hex

Kind = TypeVar("Kind")
_TOO_DEEP = "its values are nested too deep"


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        keys, _ = zip(*pairs, strict=True)
        raise ValueError(f"the key {Counter(keys).most_common(1)[0][0]!r:.80} appears twice")
    return data


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number JSON knows")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:40]} is out of range")
    return value


def parse_json(text: bytes | str) -> Any:  # noqa: ANN401  # JSON is any of six types
    """Parse strict JSON: no duplicate keys, no NaN or infinity, no endless numbers or nesting.

    Args:
        text: a JSON document, UTF-8 when bytes.

    Returns:
        The parsed value.

    Raises:
        ValueError: what is wrong, in words.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return json.loads(
            text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def json_digest(value: object) -> str:
    """Return the SHA-256 of a parsed value's canonical JSON, in hexadecimal; it never fails."""
    try:
        return sha256_hex(canonical_json(value))
    except RecursionError:  # it was parsed with a little more room; no writer of ours nests so deep
        return _TOO_DEEP


def content_digest(document: Mapping[str, object], name: str) -> str:
    """Return the digest of a document without its entry `name`, which holds that digest."""
    content = dict(document)
    content.pop(name, None)
    return json_digest(content)


def is_list_of(value: object, kind: type[Kind]) -> TypeGuard[list[Kind]]:
    """Whether a value is a list, every entry of which is of one type."""
    return isinstance(value, list) and all(isinstance(entry, kind) for entry in value)
