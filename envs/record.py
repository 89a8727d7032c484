"""A work cell as a record: what its id stands for, and who can do its job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shopfloor.core import Policy
from shopfloor.envs.cell import WorkCell
from shopfloor.envs.experts.scripted import CHUNK, Decide, ScriptedExpert
from shopfloor.envs.task import Task

DEFAULT_NOISE = 0.2


@dataclass(frozen=True)
class CellRecord:
    """One work cell. An entry point names it: called with the options of a cell, it makes one.

    Attributes:
        cell_id: full id, such as "shopfloor/Kitting-v0".
        task: makes the task.
        version: of the expert; change it with every change of its behaviour.
        decide: the expert's decision at a step: maps a scene to an action and the part's width
            between the fingers, m.
        rest, chunk, cup: of the expert, see `ScriptedExpert`.
        does: the job in a few words, for lists of cells.
        done_when: when it counts as done, in a few words.
        noise: DART noise that demonstrations are recorded with, in units of a full action.
        own_expert: makes an expert that is not a `ScriptedExpert`, given the record and how many
            actions of a chunk callers run; `decide` is then not used.
    """

    cell_id: str
    task: type[Task]
    version: str
    decide: Decide | None = None
    rest: int = 0
    chunk: int = CHUNK
    cup: bool = False
    does: str = ""
    done_when: str = ""
    noise: float = DEFAULT_NOISE
    own_expert: Callable[[CellRecord, int], Policy] | None = None

    def __call__(self, **options: object) -> WorkCell:
        """Make the cell; see `shopfloor.envs.description.CellOptions` for the options."""
        return WorkCell(self.cell_id, self.task(), **options)

    def expert(self, execute: int = 1) -> Policy:
        """Return the cell's expert; `execute` is how many actions of a chunk callers run."""
        if self.own_expert is not None:
            return self.own_expert(self, execute)

        assert self.decide is not None, "a record has a decide or an own_expert"
        return ScriptedExpert(
            self.cell_id,
            self.version,
            self.task.wording.usual,
            self.decide,
            execute,
            unseen=self.task.wording.unseen,
            rest=self.rest,
            chunk=self.chunk,
            cup=self.cup,
        )
