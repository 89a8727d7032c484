"""Flags that several verbs have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from shopfloor.errors import InvalidInputError
from shopfloor.flags import NO_HINT, Maybe, NameList

Source = Positional[Annotated[Path, arg(name="dataset", metavar="DATASET")]]
Where = Annotated[Maybe[str], arg(metavar="EXPRESSION")]
Ids = Annotated[NameList, arg(metavar="ID [ID ...]"), NO_HINT]
Keys = Annotated[NameList, arg(metavar="NAME [NAME ...]"), NO_HINT]
EngineAddress = Annotated[Maybe[str], arg(metavar="ENGINE")]


@dataclass(frozen=True)
class Engine:
    """Where episodes run, which no result depends on.

    Attributes:
        engine: where episodes run, which no result depends on: serial, local:W, or the address of an
            installed package's (default: serial).
        workers: W is short for --engine local:W.
    """

    engine: EngineAddress = None
    workers: Maybe[int] = None

    def __post_init__(self) -> None:
        """Refuse two answers to one question."""
        if self.engine is not None and self.workers is not None:
            raise InvalidInputError(
                f"--engine {self.engine} and --workers {self.workers} were both given; "
                "--workers W is short for --engine local:W. Give one of them."
            )

    @property
    def address(self) -> str | int | None:
        """What `make_executor` takes; None where neither was given."""
        return self.workers if self.engine is None else self.engine

    @property
    def or_serial(self) -> str | int:
        """The address, "serial" where none was given."""
        return "serial" if self.address is None else self.address


EngineFlags = Annotated[Engine, arg(name="")]
HERE = Engine()
