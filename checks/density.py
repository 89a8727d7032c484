"""Prints how dense the code reads, folder by folder; figures to look at, nothing is enforced.

    python checks/density.py [ROOT]

Columns: files; code lines (neither blank nor comment nor docstring); blank lines per 100 code lines
inside functions (none counts directly after a `def` or a docstring); the share of code lines inside
functions that stand in runs of 3 to 8 lines between blanks, so that nobody games the first figure;
comprehensions and ternaries per 100 code lines; lines over 100 columns, in percent of all lines.
Below: statements of the work cells' tasks and experts, which neither formatter nor blanks change.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("envs", "datasets", "collectors", "policies", "launch", "src/shopfloor")
COLUMNS = 100
RUN = range(3, 9)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Figures:
    """Counts over some files."""

    files: int = 0
    lines: int = 0
    long: int = 0
    code: int = 0
    inside: int = 0
    blanks: int = 0
    in_runs: int = 0
    comprehensions: int = 0
    ternaries: int = 0

    def add(self, other: Figures) -> None:
        """Add another's counts."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def row(self, name: str) -> str:
        """Return a line of the table."""
        return (
            f"{name:16} {self.files:5} {self.code:6} {share(self.blanks, self.inside):8.1f} "
            f"{share(self.in_runs, self.inside):6.0f} % {share(self.comprehensions, self.code):8.1f} "
            f"{share(self.ternaries, self.code):8.1f} {share(self.long, self.lines):7.1f} %"
        )


def share(part: int, whole: int) -> float:
    """Return a part in percent of a whole; 0 of nothing."""
    return 100.0 * part / whole if whole else 0.0


def measure(path: Path) -> Figures:
    """Count one file."""
    text = path.read_text(encoding="utf-8")
    lines, tree = text.splitlines(), ast.parse(text)
    prose = set(docstring_lines(tree))
    code = {
        number
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.strip().startswith("#") and number not in prose
    }
    found = Figures(files=1, lines=len(lines), code=len(code))
    found.long = sum(len(line) > COLUMNS for line in lines)
    nodes = list(ast.walk(tree))
    found.comprehensions = sum(isinstance(node, COMPREHENSIONS) for node in nodes)
    found.ternaries = sum(isinstance(node, ast.IfExp) for node in nodes)

    for function in outermost(tree):
        count_function(function, lines, code, found)
    return found


def count_function(
    function: ast.FunctionDef | ast.AsyncFunctionDef,
    lines: list[str],
    code: set[int],
    found: Figures,
) -> None:
    """Add the blank lines and the runs of code lines of one function."""
    body = [node for node in function.body if not is_docstring(node)]
    if not body:
        return

    run = 0
    for number in range(body[0].lineno, (function.end_lineno or function.lineno) + 1):
        if number in code:
            found.inside += 1
            run += 1
        elif not lines[number - 1].strip():
            found.blanks += 1
            found.in_runs += run if run in RUN else 0
            run = 0
    found.in_runs += run if run in RUN else 0


def outermost(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield functions and methods that lie in no other function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, FUNCTIONS):
            yield node
        else:
            yield from outermost(node)


def is_docstring(node: ast.AST) -> bool:
    """Whether a statement is a text alone."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def docstring_lines(tree: ast.AST) -> Iterator[int]:
    """Yield the numbers of the lines of all docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and is_docstring(node):
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)


def statements(path: Path) -> int:
    """Return the number of statements of a file, docstrings left out."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return sum(isinstance(node, ast.stmt) and not is_docstring(node) for node in nodes)


def main() -> int:
    """Print the tables; return 0."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    print("folder           files   code   blanks     runs  compreh.  ternar.    long")
    total = Figures()
    for folder in FOLDERS:
        figures = Figures()
        for path in sorted((root / folder).rglob("*.py")):
            if not any((root / folder / part).is_symlink() for part in path.parts):
                figures.add(measure(path))
        total.add(figures)
        print(figures.row(folder))
    print(total.row("all"))

    cells = sorted((root / "envs" / "cells").glob("*.py"))
    counts = {path.stem: statements(path) for path in cells}
    print(f"\nstatements in envs/cells: {sum(counts.values())} in {len(counts)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
