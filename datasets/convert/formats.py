"""The formats of other tools: which there are, and the two calls that write and read them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from shopfloor.core import InvalidInputError, UnknownNameError, listed, listed_paths
from shopfloor.datasets.format.encode import CODECS
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.transfer import refuse_damage, refuse_inside

GROUP = "shopfloor.formats"  # entry points: name -> a module with `export`, `import_` or both


@dataclass(frozen=True)
class Format:
    """A format of another tool.

    Attributes:
        module: that has `export(dataset, out, options)` and `import_(path, out, options)`, as far
            as they are there.
        exports: whether it can be written.
        imports: whether it can be read.
        about: what it is, for people.
    """

    module: str
    exports: bool
    imports: bool
    about: str


FORMATS: Mapping[str, Format] = {
    "robomimic": Format(
        "shopfloor.datasets.convert.robomimic.convert",
        True,
        True,
        "robomimic: one HDF5 file, with masks of a train and a valid share",
    ),
    "lerobot": Format(
        "shopfloor.datasets.convert.lerobot.convert",
        True,
        True,
        "LeRobotDataset v3.0: parquet and mp4 or PNG (reads v2.x, too)",
    ),
    "minari": Format(
        "shopfloor.datasets.convert.minari.convert",
        True,
        True,
        "Minari: HDF5 and metadata in a folder that MinariDataset opens",
    ),
    "rlds": Format(
        "shopfloor.datasets.convert.rlds.convert",
        True,
        False,
        "RLDS as in Open X-Embodiment: TFRecord for TensorFlow Datasets",
    ),
    "numpy": Format(
        "shopfloor.datasets.convert.arrays.npy",
        True,
        False,
        "plain .npy files, one flat array a feature, to be memory-mapped",
    ),
    "webdataset": Format(
        "shopfloor.datasets.convert.arrays.webdataset",
        True,
        False,
        "WebDataset: tar shards, one sample an episode",
    ),
    "maniskill": Format(
        "shopfloor.datasets.convert.maniskill.convert",
        False,
        True,
        "ManiSkill trajectories: an .h5 with its .json beside it",
    ),
}


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
        seed: of the draw for validation.
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
    """What the source does not say.

    Attributes:
        action_convention: id of the meaning of its actions, "unspecified" by default.
        cast: whether numbers may be rounded to float32.
        cell: id of the cell its episodes are said to be of, made of what the source says by
            default.
        codec: of the episode files.
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
        episodes: how many.
        steps: actions in them.
        files: how many.
        bytes: in them.
    """

    episodes: int
    steps: int
    files: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class Imported:
    """What an import read.

    Attributes:
        episodes: how many.
        steps: actions in them.
        left_out: what had no place here: its name and why.
    """

    episodes: int
    steps: int
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        return {**asdict(self), "left_out": list(self.left_out)}


def export(
    path: Path | str, to: str, out: Path | str, options: ExportOptions | None = None
) -> Exported:
    """Write a dataset in another tool's format.

    Args:
        path: the dataset.
        to: one of `FORMATS` that can be written, or a name in the entry-point group
            `shopfloor.formats`.
        out: new file or folder; made whole or not at all.
        options: what, and how.

    Returns:
        What was written.

    Raises:
        UnknownNameError: the format; InvalidInputError: the format cannot hold it, or `out` exists.
        DamagedFileError: something is damaged; nothing is written then.
        MissingDependencyError: a package the format needs is not installed; the message says how
            to.
    """
    options = options or ExportOptions()
    module = _module(to, "export", [name for name, form in FORMATS.items() if form.exports])
    dataset = Dataset(path, overlays=options.overlays)
    refuse_damage(dataset)
    refuse_inside(Path(out), [dataset.path])

    try:
        result: Exported = module.export(dataset, Path(out), options)
    finally:
        dataset.close()
    return result


def import_dataset(
    path: Path | str, source_format: str, out: Path | str, options: ImportOptions | None = None
) -> Imported:
    """Read another tool's files into a new dataset.

    Args:
        path: the file or folder.
        source_format: one of `FORMATS` that can be read, or a name in the entry-point group
            `shopfloor.formats`.
        out: the new dataset; made whole or not at all.
        options: what the source does not say.

    Returns:
        What was read, and what had no place.

    Raises:
        UnknownNameError: the format; InvalidInputError: it cannot be held exactly, or `out` exists.
        DamagedFileError, UnsafeFileError: what is wrong with the files; nothing is written then.
        MissingDependencyError: a package the format needs is not installed; the message says how
            to.
    """
    module = _module(
        source_format, "import_", [name for name, form in FORMATS.items() if form.imports]
    )
    if not Path(path).exists():
        raise InvalidInputError(f"{path} does not exist; expected a {source_format} dataset.")

    refuse_inside(Path(out), [Path(path)])
    result: Imported = module.import_(Path(path), Path(out), options or ImportOptions())
    return result


def _module(name: str, call: str, known: Sequence[str]) -> Any:  # noqa: ANN401  # a module
    """Return the module of a format that has a function `call`: ours, or one that an installed package announces."""
    if name in known:
        return importlib.import_module(FORMATS[name].module)

    others = {point.name: point for point in entry_points(group=GROUP)}
    if name in others and name not in FORMATS:
        try:
            module = others[name].load()
        except Exception as error:  # whatever somebody's package raises
            raise InvalidInputError(
                f"The format {name!r} cannot be loaded from {others[name].value} ({type(error).__name__}: {error}). "
                "Mend or remove the package that brings it."
            ) from error

        if hasattr(module, call):
            return module

    done = {"export": "written", "import_": "read"}[call]
    raise UnknownNameError(
        f"format that can be {done}", name, [*known, *(others.keys() - FORMATS.keys())]
    )
