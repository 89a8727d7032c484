"""Runs the code of the documents, so that what a reader copies works.

Run from anywhere: ``python checks/docs_code.py [DOCUMENT...]``; by default README.md,
CONTRIBUTING.md and docs/*.md.

Every fenced block tagged ``python`` or ``bash`` runs, in order, in an empty folder of the
document's own, with this interpreter's environment first on PATH; bash blocks stop at the first
failing command. A comment on the line before a block changes that:

    <!-- no-run: reason -->      the block does not run; the reason is printed
    <!-- file: some_name.py -->  the block (of any language) is written to that file instead of run
    <!-- exit: 1 -->             the block must end with this exit code instead of 0

Blocks of other languages (text, json, console) are prose.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = ("python", "bash")
FENCE = re.compile(r"^(?P<ticks>`{3,})(?P<language>[\w+-]*)\s*$")
DIRECTIVE = re.compile(r"^<!--\s*(?P<key>no-run|file|exit):\s*(?P<value>.+?)\s*-->$")
TIME_LIMIT_S = 1800  # against hangs alone: a busy machine takes many times as long


@dataclass(frozen=True)
class Block:
    """A fenced block of a document.

    Attributes:
        line: of its opening fence, from 1.
        language: "python", "bash", or any other tag, "" without one.
        directives: "no-run", "file" or "exit" and their values, from the comment above it.
    """

    document: Path
    line: int
    language: str
    code: str
    directives: dict[str, str]

    @property
    def title(self) -> str:
        """Where the block is, as an editor can follow it."""
        inside = self.document.is_absolute() and self.document.is_relative_to(ROOT)
        return f"{self.document.relative_to(ROOT) if inside else self.document}:{self.line} {self.language}"


class DocumentError(Exception):
    """A document that cannot be read as blocks: an unclosed fence."""


def main(arguments: list[str] | None = None) -> int:
    """Run the blocks of the named documents; 0 if all did what they should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("documents", nargs="*", type=Path)
    named = parser.parse_args(arguments).documents
    documents = named or [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
    ]
    ran, failed, skipped = 0, 0, 0
    for document in documents:
        with tempfile.TemporaryDirectory(prefix="docs-") as folder:
            for block in blocks(document):
                if "file" in block.directives:
                    (Path(folder) / block.directives["file"]).write_text(
                        block.code, encoding="utf-8"
                    )
                    print(f"wrote   {block.title} -> {block.directives['file']}")
                elif block.language not in LANGUAGES:
                    continue
                elif "no-run" in block.directives:
                    skipped += 1
                    print(f"skipped {block.title}: {block.directives['no-run']}")
                else:
                    ran += 1
                    failed += not run(block, Path(folder))
    print(f"docs: {ran - failed} passed, {failed} failed, {skipped} not to be run")
    return 1 if failed else 0


def blocks(document: Path) -> list[Block]:
    """Return the fenced blocks of a Markdown file, in order.

    Raises:
        DocumentError: a fence is opened and never closed.
    """
    found: list[Block] = []
    lines = document.read_text(encoding="utf-8").splitlines()
    directives: dict[str, str] = {}
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if match := DIRECTIVE.match(line.strip()):
            directives[match["key"]] = match["value"]
        elif match := FENCE.match(line):
            opening = number
            while number < len(lines) and lines[number].rstrip() != match["ticks"]:
                number += 1
            if number == len(lines):
                raise DocumentError(f"{document}:{opening}: this block is never closed")
            code = "\n".join(lines[opening:number]) + "\n"
            found.append(Block(document, opening, match["language"], code, directives))
            directives = {}
            number += 1
        elif line.strip():
            directives = {}
    return found


def run(block: Block, folder: Path) -> bool:
    """Run one block in its document's folder; print how it went and, if it failed, what it wrote."""
    command = (
        [sys.executable, "-c", block.code]
        if block.language == "python"
        else ["bash", "-euo", "pipefail", "-c"]
    )
    if block.language == "bash":
        command.append(block.code)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": "1",
    }
    expected = int(block.directives.get("exit", "0"))
    begin = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIME_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"FAILED  {block.title}: not done after {TIME_LIMIT_S} s")
        return False
    seconds = time.monotonic() - begin
    if done.returncode != expected:
        print(
            f"FAILED  {block.title}: exit {done.returncode}, expected {expected}\n{block.code}---\n{done.stdout}"
        )
        return False
    print(f"ran     {block.title} ({seconds:.1f} s)")
    return True


if __name__ == "__main__":
    sys.exit(main())
