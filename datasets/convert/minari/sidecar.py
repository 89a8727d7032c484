"""What Minari has no place for, beside and inside an export of ours: importing it gives equal episodes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shopfloor.core import Episode, ShopfloorError
from shopfloor.datasets.convert.hdf5.foreign_hdf5 import ForeignFile
from shopfloor.datasets.convert.hdf5.own_tree import read_tree
from shopfloor.datasets.convert.incoming import Incoming
from shopfloor.datasets.convert.minari.info import MinariInfo
from shopfloor.datasets.convert.options import ExportOptions
from shopfloor.datasets.convert.selection import given_actions
from shopfloor.datasets.disk.errors import DamagedFileError, FormatVersionError
from shopfloor.datasets.disk.json_file import load_json
from shopfloor.datasets.disk.strict_json import content_digest, json_digest
from shopfloor.datasets.listing.identity import DIGEST
from shopfloor.datasets.reader import Dataset

SIDECAR_FILE = "shopfloor.json"
SIDECAR_GROUP = "shopfloor"
SIDECAR_KIND = "shopfloor-minari"
SIDECAR_VERSION = 1
_MAX_BYTES = 1 << 25
_ADVICE = (
    "Export the dataset again. If Minari's tools changed it, delete "
    "shopfloor.json: then it is imported as anybody's."
)


def write_sidecar(folder: Path, dataset: Dataset, options: ExportOptions) -> None:
    """Write the description of a dataset beside its export."""
    document = {
        "kind": SIDECAR_KIND,
        "schema_version": SIDECAR_VERSION,
        "identity": dict(dataset.identity.raw),
        "actions": options.actions,
    }
    text = json.dumps(document | {DIGEST: json_digest(document)}, indent=1)
    (folder / SIDECAR_FILE).write_text(f"{text}\n", encoding="utf-8")


class MinariSidecar:
    """The file beside an export of ours.

    Attributes:
        identity: the `dataset.json` of the dataset that was exported.
    """

    def __init__(self, info: MinariInfo, document: Mapping[str, Any]) -> None:
        """Check the document; raises FormatVersionError, DamagedFileError."""
        self._info, self._file = info, info.root / SIDECAR_FILE
        if document.get("schema_version") != SIDECAR_VERSION:
            raise FormatVersionError(
                f"{self._file} has schema version {document.get('schema_version')!r:.40}; this "
                f"release reads version {SIDECAR_VERSION}. Install a newer shopfloor."
            )

        identity, actions = document.get("identity"), document.get("actions")
        if document.get(DIGEST) != content_digest(document, DIGEST):
            raise self._damaged(f"its content does not match its {DIGEST}")
        if not isinstance(identity, dict) or not isinstance(actions, str):
            raise self._damaged("it lacks identity or actions")

        self.identity: Mapping[str, Any] = identity
        self._options = ExportOptions(actions=actions)

    @classmethod
    def find(cls, info: MinariInfo) -> MinariSidecar | None:
        """Return the file beside an export of ours, None for a foreign dataset."""
        path = info.root / SIDECAR_FILE
        if not path.exists():
            return None
        document = load_json(path, _MAX_BYTES)
        return cls(info, document) if document.get("kind") == SIDECAR_KIND else None

    def incoming(self, folder: Path, codec: str) -> Incoming:
        """Start a dataset like the exported one in an empty folder; raises DamagedFileError."""
        try:
            return Incoming(folder, self.identity, codec)
        except (ShopfloorError, RecursionError) as error:
            raise self._damaged(
                f"its identity is that of no dataset ({type(error).__name__})"
            ) from error

    def episodes(self, file: ForeignFile) -> Iterator[Episode]:
        """Yield the episodes that were exported.

        Raises:
            DamagedFileError: they were changed since.
        """
        for number in range(self._info.episodes):
            group = f"episode_{number}"
            arrays = file.arrays(group)
            paths = {leaf.path: f"observations/{leaf.path}" for leaf in self._info.observations}
            needed = {*paths.values(), f"{SIDECAR_GROUP}/actions", "actions"}
            if not needed <= arrays.keys():
                raise self._damaged(f"{file.path} has no episode {number} of this export")

            read = {key: arrays[path].read() for key, path in paths.items()}
            episode = read_tree(file, f"{group}/{SIDECAR_GROUP}", read)
            if not np.array_equal(
                arrays["actions"].read(), given_actions(episode, self._options), equal_nan=True
            ):
                raise self._damaged(
                    f"{group}/actions of {file.path} are not those that were exported"
                )

            yield episode

    def left_out(self) -> tuple[str, ...]:
        """Return what had no place: nothing."""
        return ()

    def _damaged(self, problem: str) -> DamagedFileError:
        return DamagedFileError(self._file, problem, _ADVICE)
