"""How `shopfloor data` verbs put what they did: one JSON document, or counts in words."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shopfloor.launch.console import Phase, print_json

SCHEMA_VERSION = 1


def print_document(result: Mapping[str, Any]) -> None:
    """Print a verb's result as one JSON document."""
    print_json({"schema_version": SCHEMA_VERSION, **result})


def into(phase: Phase) -> Callable[[int, int], None]:
    """Return what shows a library call's progress in a phase."""

    def show(done: int, total: int) -> None:
        phase.total = total
        phase.reach(done)

    return show


def share(count: int, total: int) -> str:
    """Write a count of a total, with its share in per cent."""
    return f"{count}/{total}" + (f" ({100 * count / total:.1f} %)" if total else "")


def episodes(count: int) -> str:
    """Write a number of episodes."""
    return f"{count} episode" if count == 1 else f"{count} episodes"


def files(count: int) -> str:
    """Write a number of files."""
    return f"{count} file" if count == 1 else f"{count} files"


def command(verb: str, dataset: Path, *words: str) -> str:
    """Write a command line that a shell takes as it is."""
    return " ".join(_quoted(word) for word in ("shopfloor", *verb.split(), str(dataset), *words))


def _quoted(word: str) -> str:
    """Quote a word for a shell, expressions in the way people write them."""
    if "'" in word and not set(word.replace("!=", "")) & set('"$`\\!'):
        return f'"{word}"'
    return shlex.quote(word)
