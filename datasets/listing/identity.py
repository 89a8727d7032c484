"""`dataset.json`: the description of a dataset, written before its first episode, never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shopfloor.core import ACTION_CONVENTION, CONTROL_HZ, InvalidInputError
from shopfloor.datasets.disk.errors import DamagedFileError, FormatVersionError, NotADatasetError
from shopfloor.datasets.disk.files import (
    POSIX,
    TEMPORARY_SUFFIX,
    SystemCalls,
    make_folder,
    publish,
    require_usable,
)
from shopfloor.datasets.disk.json_file import load_json
from shopfloor.datasets.disk.strict_json import content_digest, is_list_of, json_digest
from shopfloor.datasets.format import kinds, layout
from shopfloor.datasets.format.encode import Provenance

MAX_IDENTITY_BYTES = 1 << 24
MAX_HZ = 1_000_000
DIGEST = "content_sha256"
_ADVICE = "Restore dataset.json from a copy; the episodes themselves are not affected."


@dataclass(frozen=True)
class Identity:
    """The content of `dataset.json`.

    Attributes:
        description: the cell's own description (`WorkCell.describe()`).
        provenance: site, owner, residency, licence, purposes.
        raw: the whole document.
    """

    description: Mapping[str, Any]
    provenance: Provenance
    raw: Mapping[str, Any]


def identity_json(description: Mapping[str, Any], provenance: Provenance) -> dict[str, Any]:
    """Return the document that describes a dataset of one cell."""
    if not isinstance(description.get("cell"), str):
        raise InvalidInputError(
            'A dataset\'s description needs the key "cell" with the full cell id.'
        )

    features = description.get("features", {})
    document = {
        "kind": layout.DATASET_KIND,
        "schema_version": layout.SCHEMA_VERSION,
        "format_version": layout.FORMAT_VERSION,
        "cells": [description["cell"]],
        "features": features,
        "cameras": sorted(key for key, feature in features.items() if _is_camera(feature)),
        "action_convention": description.get("action_convention", ACTION_CONVENTION),
        "control_hz": description.get("control_hz", CONTROL_HZ),
        **asdict(provenance),
        "descriptions": {description["cell"]: description},
    }

    try:
        plain: dict[str, Any] = json.loads(json.dumps(document, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"A dataset's description must be plain JSON data: {error}."
        ) from None

    return plain


def _is_camera(feature: object) -> bool:
    return isinstance(feature, dict) and kinds.kind_of(feature) == kinds.PICTURE


def load_identity(root: Path) -> Identity:
    """Read and check `dataset.json`.

    Raises:
        NotADatasetError: the folder is missing, or has none.
        FormatVersionError: it is of a version this release does not know.
        DamagedFileError: it cannot be used.
    """
    path = root / layout.DATASET_FILE
    try:
        require_usable(root)
    except InvalidInputError as error:
        raise NotADatasetError(str(error)) from None

    if not root.is_dir():
        raise NotADatasetError(
            f"{root} is not a folder; expected a dataset (a folder with {layout.DATASET_FILE})."
        )

    try:
        raw = load_json(path, MAX_IDENTITY_BYTES)
    except FileNotFoundError:
        raise NotADatasetError(
            f"{root} is not a dataset: it has no {layout.DATASET_FILE}. "
            "Name the folder that `shopfloor collect --out` wrote."
        ) from None

    if raw.get("kind") != layout.DATASET_KIND:
        raise NotADatasetError(
            f"{path} does not describe a dataset (its kind is {raw.get('kind')!r})."
        )

    version = raw.get("format_version")
    if version != layout.FORMAT_VERSION:
        raise FormatVersionError(
            f"{path} says format version {version!r}; this release reads version "
            f"{layout.FORMAT_VERSION}. Install a newer shopfloor."
        )

    problem = _problem(raw)
    if problem:
        raise DamagedFileError(path, problem, _ADVICE)
    # Files of the first releases have none.
    if DIGEST in raw and raw[DIGEST] != content_digest(raw, DIGEST):
        raise DamagedFileError(path, f"its content does not match its {DIGEST}", _ADVICE)

    provenance = Provenance(**{name: raw[name] for name in layout.PROVENANCE})
    return Identity(next(iter(raw["descriptions"].values())), provenance, raw)


def _problem(raw: Mapping[str, Any]) -> str:
    """Return what of a description cannot be used, "" for nothing."""
    stated = [raw.get(name) for name in layout.PROVENANCE]
    if not is_list_of(stated, str) or not raw.get("descriptions"):
        return "it lacks descriptions, site, owner, residency, licence or purposes"

    for name in ("cells", "cameras"):
        if not is_list_of(raw.get(name), str):
            return f"its {name} are not a list of names"

    for name in ("features", "descriptions"):
        table = raw.get(name)
        if not isinstance(table, dict) or not is_list_of(list(table.values()), dict):
            return f"its {name} are not a table of objects"

    hz = raw.get("control_hz")
    if isinstance(hz, bool) or not isinstance(hz, int | float) or not 0 < hz <= MAX_HZ:
        return f"its control_hz is {hz!r:.60}, expected a number above 0"
    if not isinstance(raw.get("action_convention"), str):
        return "its action_convention is not text"

    return ""


def publish_identity(
    root: Path,
    description: Mapping[str, Any],
    provenance: Provenance | None,
    calls: SystemCalls = POSIX,
) -> Identity:
    """Make `root` a dataset of this cell, or check that it is one.

    Without `provenance` an existing one keeps its own.

    Raises:
        NotADatasetError: the folder holds something else.
        InvalidInputError: it is a dataset of another description, site or licence.
        DiskError: it cannot be written.
    """
    wanted = identity_json(description, provenance or Provenance())
    require_usable(root)
    path = root / layout.DATASET_FILE

    if not path.exists():
        _refuse_foreign(root)
        make_folder(root, calls)
        publish(
            path,
            (json.dumps(wanted | {DIGEST: json_digest(wanted)}, indent=1) + "\n").encode(),
            calls,
        )

    found = load_identity(root)
    if provenance is None:
        wanted |= asdict(found.provenance)
    _require_equal(root, wanted, found.raw)

    make_folder(root / layout.EPISODES, calls)
    return found


def _require_equal(root: Path, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise InvalidInputError unless a dataset's document is the wanted one, digests apart."""
    for key in (*wanted, *found):
        here, there = wanted.get(key), found.get(key)
        if key == DIGEST or here == there:
            continue

        what = f"{key} differ from this run's"
        if isinstance(here, str | int | list) and isinstance(there, str | int | list):
            what = f"{key} is {there!r:.200}; this run would write {here!r:.200}"
        raise InvalidInputError(
            f"{root} holds a dataset whose {what}. Choose another output folder, or the options "
            "it was made with."
        )


def _refuse_foreign(root: Path) -> None:
    if root.is_symlink() and not root.exists():
        raise NotADatasetError(
            f"{root} is a link to nothing; expected a folder, or a name that is free."
        )
    if not root.exists():
        return
    if not root.is_dir():
        raise NotADatasetError(f"{root} is a file; expected a folder, or a name that is free.")

    known = {*layout.FOLDERS, *layout.RUN_FILES}
    foreign = []
    for entry in root.iterdir():
        if entry.name not in known and not entry.name.endswith(TEMPORARY_SUFFIX):
            foreign.append(entry.name)

    what = ""
    if foreign:
        what = f"it holds {min(foreign)!r}"
    elif any((root / layout.EPISODES).glob("*.h5")):
        what = "it holds episodes without dataset.json"

    # Another worker may have made it a dataset since the caller looked.
    if what and not (root / layout.DATASET_FILE).exists():
        raise NotADatasetError(
            f"{root} is not a dataset and not empty ({what}). Choose another output folder."
        )
