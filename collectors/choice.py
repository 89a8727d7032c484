"""Which cell, under which conditions: the one parcel of options that everything that runs episodes takes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from shopfloor.errors import InvalidInputError, UnknownNameError
from shopfloor.flags import CellName, Maybe, MaybeSize, Names
from shopfloor.specs import listed

RendererName = Literal["tiny", "gl"]

RENDERERS: tuple[str, ...] = get_args(RendererName)
MODALITIES = ("rgb", "depth", "segmentation")
LEAST_PX, MOST_PX = 8, 4096


@dataclass(frozen=True)
class CellChoice:
    """A work cell and the conditions its episodes are run under.

    Attributes:
        cell: work cell, such as PickToTray.
        robot: one of the cell's robots (default: its usual one).
        variation: how episodes depart from the nominal one: a name, as shopfloor cells --json lists
            them, or JSON.
        cameras: none, or names with commas (front,wrist), of cameras whose pictures are stored at
            every step.
        image_size: height and width of pictures in pixels (default: what the policy expects,
            or else 96 96).
        renderer: who draws them: tiny, or gl (extra gl), ten times as fast.
        modalities: what is stored of each camera: rgb always, and with commas depth (m) and
            segmentation (ids).
    """

    cell: CellName
    robot: Maybe[str] = None
    variation: str = "nominal"
    cameras: Names = ()
    image_size: MaybeSize = None
    renderer: RendererName = "tiny"
    modalities: Names = ("rgb",)

    def __post_init__(self) -> None:
        """Refuse what no cell can do."""
        object.__setattr__(self, "cameras", listed(self.cameras))
        if len(set(self.cameras)) != len(self.cameras):
            raise InvalidInputError(f"Cameras {', '.join(self.cameras)} name one twice.")

        object.__setattr__(self, "modalities", checked_modalities(self.modalities))
        if self.renderer not in RENDERERS:
            raise UnknownNameError("renderer", str(self.renderer), RENDERERS)

        size = self.image_size
        if size is not None and not all(LEAST_PX <= side <= MOST_PX for side in size):
            raise InvalidInputError(
                f"Image size is {size}; expected (height, width) of {LEAST_PX} to {MOST_PX} pixels."
            )

    @property
    def looks(self) -> dict[str, Any]:
        """The cell's options that differ from the usual ones, JSON: earlier specs keep their ids."""
        looks: dict[str, Any] = {}
        if self.renderer != "tiny":
            looks["renderer"] = self.renderer
        if self.modalities != ("rgb",):
            looks["modalities"] = list(self.modalities)
        return looks

    @classmethod
    def of(cls, cell: str | CellChoice, options: Mapping[str, Any]) -> CellChoice:
        """Return the choice that a name and single options make; a whole one is returned as it is.

        Raises:
            InvalidInputError: a whole choice and single options were given.
        """
        if not isinstance(cell, CellChoice):
            return cls(cell, **options)
        if options:
            raise InvalidInputError(
                f"Give either a CellChoice or its fields, not both: {', '.join(sorted(options))}."
            )

        return cell


CONDITIONS = tuple(field.name for field in fields(CellChoice) if field.name != "cell")


def checked_modalities(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return what is stored of each camera, in one order whichever way it was given.

    Args:
        names: names of `MODALITIES` one by one, or as a text with commas.

    Raises:
        UnknownNameError: there is no such modality.
        InvalidInputError: "rgb" is not among them.
    """
    given = listed(names)
    for name in given:
        if name not in MODALITIES:
            raise UnknownNameError("modality", name, MODALITIES)

    if "rgb" not in given:
        raise InvalidInputError(
            f"Modalities are {','.join(given) or 'none'}; expected rgb among them, such as "
            "rgb,depth: pictures are always stored. To store none, name no cameras."
        )

    return tuple(name for name in MODALITIES if name in given)


def renamed(options: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return keyword arguments under their present names; an old name works with a warning.

    Args:
        options: keyword arguments as given.
        names: old name -> present name.

    Raises:
        InvalidInputError: an argument was given under both names.
    """
    found = dict(options)

    for old, new in names.items():
        if old not in found:
            continue
        if new in found:
            raise InvalidInputError(f"{old!r} is the old name of {new!r}; give only {new!r}.")

        warnings.warn(
            f"{old!r} is called {new!r} now; the old name goes with the next version.",
            DeprecationWarning,
            stacklevel=3,
        )
        found[new] = found.pop(old)

    return found
