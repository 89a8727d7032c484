"""The formats of other tools: which there are, and the two calls that write and read them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from shopfloor.core import InvalidInputError, UnknownNameError
from shopfloor.datasets.convert.options import Exported, ExportOptions, Imported, ImportOptions
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.transfer import refuse_damage, refuse_inside

__all__ = [
    "FORMATS",
    "ExportOptions",
    "Exported",
    "Format",
    "ImportOptions",
    "Imported",
    "export",
    "import_dataset",
]

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
        options: what the source does not record.

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
        except Exception as error:  # whatever an installed package raises
            raise InvalidInputError(
                f"The format {name!r} cannot be loaded from {others[name].value} "
                f"({type(error).__name__}: {error}). Mend or remove the package that brings it."
            ) from error

        if hasattr(module, call):
            return module

    done = {"export": "written", "import_": "read"}[call]
    raise UnknownNameError(
        f"format that can be {done}", name, [*known, *(others.keys() - FORMATS.keys())]
    )
