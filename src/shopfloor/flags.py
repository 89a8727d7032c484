"""How fields of configurations look as flags: types for the ones that tyro alone would show otherwise.

A configuration's fields are its flags. For type checkers the types below are what they stand for.
For tyro each has a constructor of ours and the type `object`: tyro checks the default of a field
against its type, and for `tuple[str, ...]` or `X | None` it imports typeguard to do so, which takes
as long as all the rest of a verb's help.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, TypeVar

from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from shopfloor.specs import PolicyRef, listed

T = TypeVar("T")

# The help of a flag without a default says itself what holds without it; tyro would add "None".
NO_HINT = arg(help_behavior_hint="")
Maybe = Annotated[Optional[T], NO_HINT]  # noqa: UP045  # tyro takes `X | None` to typeguard
CellName = Annotated[str, arg(metavar="CELL")]
FirstSeed = Annotated[int, arg(metavar="FIRST")]


def _read_by(
    construct: Callable[[list[str]], Any],
    metavar: str,
    count: int | Literal["*"],
    shown: Callable[[Any], list[str]],
) -> PrimitiveConstructorSpec[Any]:
    """Return how tyro reads and shows a flag.

    Args:
        construct: makes the value of the flag's texts; a ValueError refuses them.
        metavar: stands for the texts in the help.
        count: number of texts, "*" for any.
        shown: makes the texts of a value, for the help.
    """
    return PrimitiveConstructorSpec(
        nargs=count,
        metavar=metavar,
        instance_from_str=construct,
        is_instance=lambda _: True,
        str_from_instance=shown,
    )


def _size(texts: Sequence[str]) -> tuple[int, int]:
    height, width = texts
    try:
        return int(height), int(width)
    except ValueError as error:
        raise ValueError(f"expected two whole numbers, not {height!r} and {width!r}") from error


def _texts(values: Sequence[object] | None) -> list[str]:
    return [str(value) for value in values or ()]


if TYPE_CHECKING:
    PolicyName = str | PolicyRef
    Names = tuple[str, ...]
    NameList = tuple[str, ...]
    PathList = tuple[Path, ...]
    Overlays = tuple[Path, ...]
    Size = tuple[int, int]
    MaybeSize = tuple[int, int] | None
else:
    PolicyName = Annotated[
        object,
        _read_by(lambda texts: texts[0], "expert|random|PATH", 1, lambda policy: [str(policy)]),
    ]
    # One text that names several, so that a positional argument may follow the flag.
    Names = Annotated[
        object,
        _read_by(
            lambda texts: listed(texts[0]), "NAMES", 1, lambda names: [",".join(names) or "none"]
        ),
    ]
    NameList = Annotated[object, _read_by(tuple, "[NAME [NAME ...]]", "*", _texts)]
    PathList = Annotated[
        object,
        _read_by(lambda texts: tuple(map(Path, texts)), "[PATH [PATH ...]]", "*", _texts),
    ]
    Overlays = Annotated[PathList, arg(name="overlay", metavar="FILE [FILE ...]"), NO_HINT]
    Size = Annotated[object, _read_by(_size, "H W", 2, _texts)]
    MaybeSize = Annotated[Size, NO_HINT]
