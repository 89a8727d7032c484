"""What a person sees: text on standard output, progress and notes on standard error.

On a terminal progress is drawn with rich; elsewhere it is a plain line now and then, and nothing is
wrapped, cut or coloured. Under `--json` standard output holds one JSON document and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

PLAIN_EVERY_S = 5.0


def print_json(document: Any) -> None:  # noqa: ANN401  # any JSON document
    """Print one JSON document on standard output."""
    print(json.dumps(document, indent=2, sort_keys=False, allow_nan=False))


def note(text: str) -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr, flush=True)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: drawn by rich on a terminal, as aligned columns elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title or None, title_justify="left", title_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)

        return

    if title:
        print(title)
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]

    for row in (columns, *rows):
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


class Phase(Protocol):
    """One stretch of work being counted."""

    total: int

    def resume(self, done: int) -> None:
        """Start from what an earlier run has done."""

    def advance(self, success: bool | None = None) -> None:
        """Count one unit of work, and whether it succeeded where that means something."""

    def reach(self, done: int, detail: str = "") -> None:
        """Set the count, with a word on how it goes."""


class Progress(Protocol):
    """Draws phases."""

    def phase(
        self, title: str, total: int, unit: str = "episodes"
    ) -> contextlib.AbstractContextManager[Phase]:
        """Open a phase of `total` units."""


class _Counter:
    """The numbers of a phase: how far, how fast, how well."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done, self.judged, self.successes, self.detail = 0, 0, 0, ""
        self.resumed = 0
        self.began = time.monotonic()

    def resume(self, done: int) -> None:
        self.done = self.resumed = done

    def advance(self, success: bool | None = None) -> None:
        self.done += 1
        if success is not None:
            self.judged += 1
            self.successes += success
        self.changed()

    def reach(self, done: int, detail: str = "") -> None:
        self.done, self.detail = done, detail
        self.changed()

    def changed(self) -> None:
        """Hook for drawing."""

    def numbers(self) -> str:
        seconds = max(time.monotonic() - self.began, 1e-6)
        new = self.done - self.resumed
        parts = [f"{self.done}/{self.total} {self.unit}"]
        if new:
            parts.append(f"{new / seconds:.1f}/s")
        if self.judged:
            parts.append(f"success {self.successes / self.judged:.0%}")
        if self.detail:
            parts.append(self.detail)
        if new and self.done < self.total:
            parts.append(f"ETA {(self.total - self.done) * seconds / new:.0f} s")

        return ", ".join(parts)


class _PlainPhase(_Counter):
    def __init__(self, title: str, total: int, unit: str) -> None:
        super().__init__(title, total, unit)
        self._spoken = self.began

    def changed(self) -> None:
        if time.monotonic() - self._spoken >= PLAIN_EVERY_S:
            self._spoken = time.monotonic()
            note(f"{self.title}: {self.numbers()}")


class PlainProgress:
    """A line on standard error every few seconds, and one at the end of each phase."""

    @contextlib.contextmanager
    def phase(self, title: str, total: int, unit: str = "episodes") -> Iterator[Phase]:
        """Open a phase of `total` units."""
        phase = _PlainPhase(title, total, unit)
        yield phase
        note(f"{title}: {phase.numbers()}, {time.monotonic() - phase.began:.1f} s")


class QuietProgress:
    """Draws nothing."""

    @contextlib.contextmanager
    def phase(self, title: str, total: int, unit: str = "episodes") -> Iterator[Phase]:
        """Open a phase of `total` units."""
        yield _Counter(title, total, unit)


class RichProgress:
    """A bar per phase on a terminal's standard error."""

    @contextlib.contextmanager
    def phase(self, title: str, total: int, unit: str = "episodes") -> Iterator[Phase]:
        """Open a phase of `total` units."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[numbers]}", markup=False),
            TimeElapsedColumn(),
        )

        with Progress(*columns, console=Console(stderr=True)) as bars:
            task = bars.add_task(title, total=max(total, 1), numbers="")

            class Bar(_Counter):
                def changed(self) -> None:
                    bars.update(
                        task, completed=self.done, total=max(self.total, 1), numbers=self.numbers()
                    )

            yield Bar(title, total, unit)


def make_progress(quiet: bool = False) -> Progress:
    """Choose how progress is shown: not at all, drawn on a terminal, or as plain lines."""
    if quiet:
        return QuietProgress()
    return RichProgress() if sys.stderr.isatty() else PlainProgress()


def with_interval(success: float, interval: Sequence[float]) -> str:
    """Format a success rate with its 95 % interval, in per cent."""
    return f"{100 * success:.1f} % [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
