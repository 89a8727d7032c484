"""Reading JSON that somebody else may have written: bounded, strict, and with one clear error."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from shopfloor.core import canonical_json, sha256_hex
from shopfloor.datasets.disk.errors import DamagedFileError
from shopfloor.datasets.disk.files import read_bytes

MAX_JSON_BYTES = 1 << 30
_TOO_DEEP = "its values are nested too deep"
_ADVICE = (
    "Restore it from a copy, or delete it if it is a manifest (the next run writes a new one)."
)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"the key {counts.most_common(1)[0][0]!r:.80} appears twice")
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
        ValueError: saying what is wrong.
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
    """Return the SHA-256 of a value's canonical JSON, in hexadecimal; no value that was parsed fails."""
    try:
        return sha256_hex(canonical_json(value))
    except RecursionError:  # it was parsed with a little more room; no writer of ours nests so deep
        return _TOO_DEEP


def load_json(path: Path, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a JSON object from a regular file.

    Args:
        path: the file.
        limit: refuse files of more bytes than this.

    Returns:
        The object.

    Raises:
        DamagedFileError: not JSON, not an object, or not strict.
        UnsafeFileError: not a regular file, or larger than the limit.
        FileNotFoundError: there is no such file.
    """
    data = read_bytes(path, limit)
    try:
        value = parse_json(data)
    except ValueError as error:
        raise DamagedFileError(path, f"it is not valid JSON ({error})", _ADVICE) from None

    if not isinstance(value, dict):
        raise DamagedFileError(
            path, f"it holds a JSON {type(value).__name__}, expected an object", _ADVICE
        )
    return value
