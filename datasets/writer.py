"""Commits episodes: each becomes one immutable file, whole and durable, or nothing at all."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopfloor.core import Episode, EpisodeSpec, InvalidInputError, UnknownNameError, sha256_hex
from shopfloor.datasets.disk.files import POSIX, SystemCalls, publish, settle
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.decode import read_record
from shopfloor.datasets.format.encode import Provenance, encode_episode
from shopfloor.datasets.format.layout import CODECS
from shopfloor.datasets.listing.folders import sweep_dataset
from shopfloor.datasets.listing.identity import publish_identity
from shopfloor.datasets.listing.manifest import write_manifest

__all__ = ["Commit", "EpisodeWriter", "Provenance", "write_manifest"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Commit:
    """Proof that an episode is on disk.

    Attributes:
        path: its file.
        sha256: of the file's whole bytes, in hexadecimal.
        bytes: the file's size.
        new: False if the episode was committed before.
    """

    path: Path
    sha256: str
    bytes: int
    new: bool = True


class EpisodeWriter:
    """Commits episodes to a dataset folder; any number of processes may do so at the same time.

    Example:
        writer = EpisodeWriter("runs/demo", cell.describe())
        commit = writer.write(episode, index=0)
    """

    def __init__(
        self,
        path: Path | str,
        description: Mapping[str, Any],
        codec: str = "blosc",
        provenance: Provenance | None = None,
        calls: SystemCalls = POSIX,
    ) -> None:
        """Publish `dataset.json`, or check that the folder is a dataset of the same description.

        Args:
            path: the dataset folder, made if need be.
            description: the cell's description (`WorkCell.describe()`), with the full cell id under
                "cell".
            codec: "blosc" (fast; other tools must `import hdf5plugin`), "gzip" (opens anywhere) or
                "none".
            provenance: site, owner, residency, licence, purposes; by default those of the dataset
                if it exists, else "unspecified".
            calls: the operating system's calls (for tests).

        Raises:
            InvalidInputError: the folder is a dataset of something else; UnknownNameError: the
                codec.
            NotADatasetError: the folder holds something else.
            DiskError: it cannot be written.
        """
        if codec not in CODECS:
            raise UnknownNameError("codec", codec, CODECS)

        self.path = Path(path)
        self.codec = codec
        self.identity = publish_identity(self.path, description, provenance, calls)
        self._calls = calls
        sweep_dataset(self.path, calls)

    def path_for(self, spec: EpisodeSpec, index: int) -> Path:
        """Return the file an episode of this spec is committed to, as number `index` of its job."""
        if index < 0:
            raise InvalidInputError(f"Episode index is {index}; expected an integer of at least 0.")
        return self.path / layout.episode_file(index, spec.episode_id)

    def write(self, episode: Episode, index: int) -> Commit:
        """Commit an episode: from then on it survives a kill, a full disk and a power cut.

        Args:
            episode: the episode, of this dataset's cell.
            index: its position in the job.

        Returns:
            Where it is. An episode of an equal spec and index that was committed before is left as
            it is.

        Raises:
            InvalidInputError: the format cannot hold the episode exactly, or it is of another cell.
            DamagedFileError: a file of its name exists and is damaged.
            DiskError: the disk refused; the folder is as before.
        """
        if episode.spec.cell not in self.identity.raw["cells"]:
            raise InvalidInputError(
                f"{self.path} holds episodes of {', '.join(self.identity.raw['cells'])}; "
                f"this one is of {episode.spec.cell}."
            )

        path = self.path_for(episode.spec, index)
        if path.exists():
            return self._committed(path, None)

        env_args = self.identity.raw["descriptions"].get(episode.spec.cell, {}).get("env_args")
        convention = self.identity.raw["action_convention"]
        data = encode_episode(episode, self.codec, env_args, self.identity.provenance, convention)
        if not publish(path, data, self._calls):
            return self._committed(path, data)

        return Commit(path, sha256_hex(data), len(data))

    def _committed(self, path: Path, data: bytes | None) -> Commit:
        """Return the commit that was there first, after checking that it is whole."""
        # Whoever gave it its name may have been killed before making that durable.
        settle(path.parent, self._calls)
        record = read_record(self.path, path.relative_to(self.path).as_posix())
        if data is not None and record.sha256 != sha256_hex(data):
            logger.warning(
                "%s was committed by another process with other bytes; the first one stays", path
            )
        return Commit(path, record.sha256, record.bytes, new=False)
