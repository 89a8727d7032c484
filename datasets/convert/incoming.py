"""Writes a dataset from foreign files, into a staged folder: it becomes durable as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shopfloor.core import Episode, InvalidInputError
from shopfloor.datasets.disk.strict_json import json_digest
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.encode import encode_episode
from shopfloor.datasets.listing.identity import DIGEST, load_identity
from shopfloor.datasets.listing.manifest import write_manifest


class Incoming:
    """A dataset that is being made of foreign files.

    Attributes:
        episodes: number of written episodes.
        steps: number of actions in them.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], codec: str) -> None:
        """Write `dataset.json` into an empty folder.

        Args:
            folder: a staged folder.
            identity: what `identity_json` returns, or another dataset's document.
            codec: how the arrays of the episode files are packed.
        """
        self._folder, self._codec = folder, codec
        document = {name: value for name, value in identity.items() if name != DIGEST}
        text = json.dumps(document | {DIGEST: json_digest(document)}, indent=1) + "\n"
        (folder / layout.DATASET_FILE).write_text(text, encoding="utf-8")
        self._identity = load_identity(folder)  # refuses what no reader would take
        (folder / layout.EPISODES).mkdir()
        self.episodes = self.steps = 0

    def add(self, episode: Episode) -> None:
        """Write an episode as the next one; raises InvalidInputError if the format cannot hold it exactly."""
        raw = self._identity.raw
        if episode.spec.cell not in raw["cells"]:
            raise InvalidInputError(
                f"Episode {self.episodes} is of {episode.spec.cell}; the dataset is of "
                f"{', '.join(raw['cells'])}."
            )

        env_args = raw["descriptions"].get(episode.spec.cell, {}).get("env_args")
        data = encode_episode(
            episode, self._codec, env_args, self._identity.provenance, raw["action_convention"]
        )
        path = self._folder / layout.episode_file(self.episodes, episode.spec.episode_id)
        path.write_bytes(data)
        self.episodes += 1
        self.steps += episode.steps

    def finish(self) -> None:
        """List the episodes in a manifest."""
        write_manifest(self._folder)
