"""`run.json` of a flywheel: what was run, with which versions; the guard against mixing two runs in one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shopfloor.collectors.provenance import environment, now, replace_json
from shopfloor.core import InvalidInputError

SCHEMA_VERSION = 1
RUN = "run.json"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InvalidInputError: the file is no JSON object.
    """
    try:
        document = json.loads(path.read_text())
    except (ValueError, OSError, RecursionError) as error:
        raise InvalidInputError(
            f"{path} cannot be read as JSON ({error}). Restore it, or give another --out."
        ) from error

    if not isinstance(document, dict):
        raise InvalidInputError(
            f"{path} holds a JSON {type(document).__name__}; expected an object."
        )
    return document


def open_run(
    out: Path, config: Mapping[str, Any], seeds: Mapping[str, Any], workers: int | str
) -> None:
    """Make `out` a flywheel's folder, or check that it is this flywheel's.

    Args:
        out: the folder.
        config: what decides the results.
        seeds: first seeds by purpose, for people.
        workers: how many processes run it, or the engine; may differ from one time to the next.

    Raises:
        InvalidInputError: the folder holds something else, or a run with other settings.
    """
    path = out / RUN
    if path.is_file():
        _check_same(path, config)
        return
    if out.exists() and (
        not out.is_dir() or any(not entry.name.startswith(".") for entry in out.iterdir())
    ):
        raise InvalidInputError(
            f"{out} exists and is not a flywheel's folder (it has no {RUN}). Give a new or empty "
            "folder as --out."
        )

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(
            f"Folder {out} cannot be made: {error.strerror}. Give another --out."
        ) from error

    replace_json(
        path,
        {
            "schema_version": SCHEMA_VERSION,
            "command": "flywheel",
            "config": dict(config),
            "seeds": dict(seeds),
            "workers": workers,
            **environment(),
            "started": now(),
        },
    )


def _check_same(path: Path, config: Mapping[str, Any]) -> None:
    there = read_json(path)
    if there.get("command") != "flywheel" or not isinstance(there.get("config"), dict):
        raise InvalidInputError(f"{path} is not a flywheel's; give another --out.")

    before, here = there["config"], json.loads(json.dumps(dict(config)))
    keys = sorted({*before, *here})
    different = [
        f"{key} is {before.get(key)!r} there and {here.get(key)!r} here"
        for key in keys
        if before.get(key) != here.get(key)
    ]

    if different:
        raise InvalidInputError(
            f"{path.parent} holds a run with other settings: {'; '.join(different)}. "
            "Repeat its settings to continue it, or give another --out."
        )
