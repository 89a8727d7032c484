"""Moves modules and rewrites whatever names them: imports, dotted names in strings, paths in texts.

    python checks/move.py checks/moves.txt            # from the repository's root
    python checks/move.py checks/moves.txt --dry-run

A line of the table is "OLD NEW", two paths from the root; blank lines and lines that start with # are
passed over. Files are moved by git, then every tracked text file is read once. Imports are parsed, not
guessed: `from shopfloor.envs import kinematics` is rewritten, too. Sort imports afterwards (ruff).
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "shopfloor"
LAYERS = ("envs", "datasets", "collectors", "policies", "launch")
TEXTS = (".py", ".md", ".toml", ".txt", ".json", ".sh", ".c")
# What earlier releases wrote, and the tables of moves, name paths as they were.
LEFT_ALONE = ("tests/data/", "checks/moves", "CHANGELOG.md", "decisions/", "checks/digests.json")


def read_table(path: Path) -> dict[str, str]:
    """Return old path -> new path.

    Raises:
        SystemExit: a line is not two paths, or two files would come to one place.
    """
    table: dict[str, str] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or words[0] in table or words[1] in table.values():
            raise SystemExit(f"{path}:{number}: expected OLD NEW, each once; got {line!r}")
        table[words[0]] = words[1]
    return table


def module_of(path: str) -> str:
    """Return the dotted name of a file in one of the layers, such as shopfloor.envs.cell."""
    parts = path.removesuffix(".py").removesuffix("/__init__").split("/")
    return ".".join([PACKAGE, *parts])


def modules(table: dict[str, str]) -> dict[str, str]:
    """Return old module -> new module."""
    return {
        module_of(old): module_of(new)
        for old, new in table.items()
        if old.endswith(".py") and old.split("/")[0] in LAYERS
    }


def move(table: dict[str, str]) -> None:
    """Move the files with git, by way of temporary names: a folder may take the name of a module."""
    for step in (lambda old, new: (old, f"{new}.moving"), lambda old, new: (f"{new}.moving", new)):
        for old, new in table.items():
            source, target = step(old, new)
            (ROOT / target).parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["git", "mv", source, target], cwd=ROOT, check=True)


# --------------------------------------------------------------------------------------------------
# Rewriting
# --------------------------------------------------------------------------------------------------


def rewritten(text: str, path: str, table: dict[str, str]) -> str:
    """Return a file's text with the new names."""
    names = modules(table)
    # Whole names first: a new package may have the name of an old module.
    text = _dotted(text, names)
    if path.endswith(".py"):
        text = _imports(text, names)
    return _paths(text, table)


def _dotted(text: str, names: dict[str, str]) -> str:
    """Replace dotted names of modules wherever they stand: in imports, strings and prose."""
    longest = sorted(names, key=len, reverse=True)
    known = "|".join(re.escape(name) for name in longest)
    return re.sub(rf"(?<![\w.])({known})(?![\w])", lambda found: names[found[1]], text)


def _paths(text: str, table: dict[str, str]) -> str:
    """Replace paths of files, where they are written from the root."""
    longest = sorted(table, key=len, reverse=True)
    known = "|".join(re.escape(path) for path in longest)
    return re.sub(rf"(?<![\w./-])({known})(?![\w/])", lambda found: table[found[1]], text)


def _imports(text: str, names: dict[str, str]) -> str:
    """Rewrite `from shopfloor.envs import kinematics`, whose names are modules that move."""
    lines = text.splitlines(keepends=True)

    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(PACKAGE):
            continue
        moving = [alias for alias in node.names if f"{node.module}.{alias.name}" in names]
        if not moving:
            continue

        by_package: dict[str, list[str]] = defaultdict(list)
        for alias in node.names:
            package, name = str(node.module), alias.name
            if alias in moving:
                package, _, name = names[f"{package}.{name}"].rpartition(".")
            bound = alias.asname or alias.name
            by_package[package].append(name if name == bound else f"{name} as {bound}")

        indent = " " * node.col_offset
        statements = [
            f"{indent}from {package} import {', '.join(sorted(imported))}\n"
            for package, imported in sorted(by_package.items())
        ]
        _, sign, comment = lines[(node.end_lineno or node.lineno) - 1].partition("  #")
        statements[-1] = statements[-1].rstrip("\n") + (f"{sign}{comment}" if sign else "\n")
        lines[node.lineno - 1 : node.end_lineno] = ["".join(statements)]
        return _imports("".join(lines), names)
    return text


def main() -> int:
    """Move and rewrite; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("table", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="only print what would be rewritten")
    options = parser.parse_args()
    table = read_table(options.table)

    if not options.dry_run:
        move(table)
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    changed = 0
    for name in listed.stdout.splitlines():
        path = ROOT / name
        plain = path.suffix in TEXTS or path.name in ("Makefile", "run")
        if not plain or path.is_symlink() or not path.is_file() or name.startswith(LEFT_ALONE):
            continue
        before = path.read_text()
        after = rewritten(before, name, table)
        if after != before:
            changed += 1
            print(name)
            if not options.dry_run:
                path.write_text(after)
    print(f"{len(table)} files moved, {changed} rewritten")
    return 0


if __name__ == "__main__":
    sys.exit(main())
