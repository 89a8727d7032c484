"""Where a Minari dataset's files are, and the content of its `metadata.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shopfloor.core import InvalidInputError
from shopfloor.datasets.convert.hdf5.foreign_hdf5 import ForeignFile
from shopfloor.datasets.convert.minari.spaces import ADVICE, SpaceLeaf, read_space
from shopfloor.datasets.disk.errors import DamagedFileError, NotADatasetError
from shopfloor.datasets.disk.json_file import load_json
from shopfloor.datasets.format.layout import MAX_STEPS

DATA, MAIN_FILE, METADATA = "data", "main_data.hdf5", "metadata.json"
MAX_METADATA_BYTES = 1 << 26  # a number for each pixel's bounds


class MinariInfo:
    """A Minari dataset's own description.

    Attributes:
        root: the dataset's folder, which holds `data`.
        file: its `metadata.json`.
        name: its id, or its folder's name.
        env_spec: its environment as JSON text, "" if it states none.
        observations: leaves of the observation space.
        actions: leaves of the action space.
        episodes: number of episodes.
    """

    def __init__(self, path: Path) -> None:
        """Read `metadata.json`.

        Args:
            path: the dataset's folder, or `data` in it.

        Raises:
            NotADatasetError: there is none.
            DamagedFileError: it cannot be used; InvalidInputError: its data is not HDF5.
        """
        places = [folder for folder in (path / DATA, path) if (folder / METADATA).exists()]
        if not places:
            raise NotADatasetError(f"{path} is not a Minari dataset: it has no {DATA}/{METADATA}.")

        self._data = places[0]
        self.root, self.file = self._data.parent, self._data / METADATA
        raw = load_json(self.file, MAX_METADATA_BYTES)
        data_format = raw.get("data_format", "hdf5")

        if data_format != "hdf5":
            raise InvalidInputError(
                f"{self.file} says data_format {data_format!r:.40}; expected 'hdf5'. Write it as "
                "that with Minari (create_dataset_from_buffers with data_format='hdf5'), then "
                "import it."
            )

        self.episodes = self._episodes(raw)
        self.observations: list[SpaceLeaf] = read_space(
            self.file, "observation_space", raw.get("observation_space")
        )
        self.actions: list[SpaceLeaf] = read_space(
            self.file, "action_space", raw.get("action_space")
        )
        name = raw.get("dataset_id")
        self.name = name if isinstance(name, str) and name else self.root.resolve().name
        env_spec = raw.get("env_spec")
        self.env_spec = env_spec if isinstance(env_spec, str) else ""

    def _episodes(self, raw: dict[str, Any]) -> int:
        count = raw.get("total_episodes")
        if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= MAX_STEPS:
            raise DamagedFileError(
                self.file, f"its total_episodes is {count!r:.40}, expected a number above 0", ADVICE
            )
        return count

    def open(self) -> ForeignFile:
        """Open its HDF5 file; raises DamagedFileError, UnsafeFileError."""
        path = self._data / MAIN_FILE
        try:
            return ForeignFile(path)
        except FileNotFoundError:
            raise DamagedFileError(path, "it is missing", ADVICE) from None
