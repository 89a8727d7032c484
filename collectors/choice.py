"""Which cell, under which conditions: the one parcel of options that everything that runs episodes takes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from shopfloor.core import InvalidInputError, UnknownNameError, listed

RENDERERS = ("tiny", "gl")
LEAST_PX, MOST_PX = 8, 4096


@dataclass(frozen=True)
class CellChoice:
    """A work cell and the conditions its episodes are run under.

    Attributes:
        cell: cell id or bare name, such as "PickToTray".
        robot: one of the cell's robots; None for the usual one.
        variation: how episodes depart from the nominal one: a name such as "hard", or JSON text.
        cameras: names of the cameras whose pictures are stored at every step, one by one or as a
            text with commas; none by default.
        image_size: (height, width) of pictures in pixels; None: what the policy expects, else
            96 x 96.
        renderer: who draws the pictures: "tiny" or "gl".
    """

    cell: str
    robot: str | None = None
    variation: str = "nominal"
    cameras: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None
    renderer: str = "tiny"

    def __post_init__(self) -> None:
        """Refuse what no cell can do."""
        object.__setattr__(self, "cameras", listed(self.cameras))
        if len(set(self.cameras)) != len(self.cameras):
            raise InvalidInputError(f"Cameras {', '.join(self.cameras)} name one twice.")
        if self.renderer not in RENDERERS:
            raise UnknownNameError("renderer", str(self.renderer), RENDERERS)

        size = self.image_size
        if size is not None and not all(LEAST_PX <= side <= MOST_PX for side in size):
            raise InvalidInputError(
                f"Image size is {size}; expected (height, width) of {LEAST_PX} to {MOST_PX} pixels."
            )

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
