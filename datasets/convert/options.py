"""What an export or import is asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shopfloor.core import UnknownNameError, listed, listed_paths
from shopfloor.datasets.format.layout import CODECS


@dataclass(frozen=True)
class ExportOptions:
    """What is exported, and how.

    Attributes:
        actions: "executed", or "label": the teacher's command where there is one.
        keys: observation keys, all by default.
        where: an expression over episode records, such as "outcome == 'success'"; all episodes by
            default.
        overlays: overlay files to apply on top.
        valid: share of the episodes for validation.
        pictures: "video", "png" or "raw", where the format has a choice; its own default if not
            given.
        seed: seed of the draw for validation.
    """

    actions: str = "executed"
    keys: Sequence[str] | None = None
    where: str | None = None
    overlays: Sequence[Path | str] = ()
    valid: float = 0.0
    pictures: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Take a single name or path for a list of one."""
        if self.keys is not None:
            object.__setattr__(self, "keys", listed(self.keys))
        object.__setattr__(self, "overlays", listed_paths(self.overlays))


@dataclass(frozen=True)
class ImportOptions:
    """What the source does not record.

    Attributes:
        action_convention: id of the meaning of its actions, "unspecified" by default.
        cast: whether numbers may be rounded to float32.
        cell: id of the cell that its episodes are recorded as, by default one made of the source's
            own description.
        codec: how the arrays of the episode files are packed.
        instruction: text for episodes that have none.
    """

    action_convention: str | None = None
    cast: bool = False
    cell: str | None = None
    codec: str = "blosc"
    instruction: str | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown codec."""
        if self.codec not in CODECS:
            raise UnknownNameError("codec", self.codec, CODECS)


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        episodes: number of episodes.
        steps: number of actions in them.
        files: number of files.
        bytes: size of the files together.
    """

    episodes: int
    steps: int
    files: int
    bytes: int

    @classmethod
    def of_folder(cls, folder: Path, episodes: int, steps: int) -> Exported:
        """Count the files of a folder that an export wrote."""
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        return cls(episodes, steps, len(sizes), sum(sizes))

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class Imported:
    """What an import read.

    Attributes:
        episodes: number of episodes.
        steps: number of actions in them.
        left_out: what had no place here, each with its name and the reason.
    """

    episodes: int
    steps: int
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        return {**asdict(self), "left_out": list(self.left_out)}
