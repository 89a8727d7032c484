"""What a task remembers between control steps, and the row of numbers in which a simulator state holds it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

HOLD_STEPS = 10  # 0.5 s at 20 Hz


@dataclass
class Streak:
    """Counts for how many control steps in a row something has held.

    Attributes:
        steps: so far.
        needed: this many make it `full`.
    """

    steps: int = 0
    needed: int = HOLD_STEPS

    def count(self, holds: bool) -> bool:
        """Count a step, or start over where it does not hold; return whether the streak is full."""
        self.steps = self.steps + 1 if holds else 0
        return self.full

    @property
    def full(self) -> bool:
        """Whether it has held long enough."""
        return self.steps >= self.needed


@dataclass
class Memory:
    """What a task remembers, as fields and as a row of numbers.

    Fields are numbers, truth values, streaks, or tuples of numbers of a fixed length. Their order
    is the order of the row, so it is part of a cell's version.
    """

    def to_row(self) -> Array:
        """Return it as numbers, float64."""
        row: list[float] = []
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, tuple):
                row.extend(value)
            else:
                row.append(value.steps if isinstance(value, Streak) else value)

        return np.array(row, dtype=np.float64)

    def set_row(self, row: Array) -> None:
        """Come back to what `to_row` returned."""
        left = iter(row.tolist())
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Streak):
                value.steps = int(next(left))
            elif isinstance(value, tuple):
                setattr(self, entry.name, tuple(type(old)(next(left)) for old in value))
            else:
                setattr(self, entry.name, type(value)(next(left)))


@dataclass
class Progress(Memory):
    """How far an episode is.

    A cell that remembers more derives its own, whose fields follow these; where its row has another
    order, it derives one from `Memory` that has these fields too.

    Attributes:
        named: number of the named part, or of what else the instruction names.
        held: steps for which the job has been done.
        wrong: steps for which another part has been where the named one belongs.
    """

    named: int = 0
    held: Streak = field(default_factory=Streak)
    wrong: Streak = field(default_factory=Streak)
