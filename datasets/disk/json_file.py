"""Reading JSON that somebody else may have written: bounded, strict, and with one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shopfloor.datasets.disk.errors import DamagedFileError
from shopfloor.datasets.disk.files import read_bytes
from shopfloor.datasets.disk.strict_json import parse_json

MAX_JSON_BYTES = 1 << 30
_ADVICE = (
    "Restore it from a copy, or delete it if it is a manifest (the next run writes a new one)."
)


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
