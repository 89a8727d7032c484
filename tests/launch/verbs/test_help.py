"""Every `--help`, as a snapshot; and no flag that was ever in use goes or changes its meaning.

After an intended change run `python tests/launch/verbs/test_help.py` and review the difference.
"""

import contextlib
import io
import re
from pathlib import Path

import pytest

from shopfloor.launch.cli import main
from shopfloor.launch.verbs import VERBS

pytestmark = pytest.mark.core

SNAPSHOT = Path(__file__).parents[1] / "snapshots" / "help.txt"
# The help of release 0.1.0 (435edd1); never written again.
EARLIER = Path(__file__).parents[2] / "data" / "help-before-house.txt"
FLAG = re.compile(r"^  (--[a-z][\w-]*)(?:, (--[\w-]+))?", re.MULTILINE)


def everything() -> str:
    texts = []
    for verb in ("", *VERBS):
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            main([*verb.split(), "--help"])
        title = f"$ shopfloor {verb} --help" if verb else "$ shopfloor --help"
        texts.append(f"{title}\n{shown.getvalue().rstrip()}\n")
    return "\n".join(texts)


def flags(text: str) -> dict[str, set[str]]:
    """Return the flags of each verb, by the title of its help."""
    parts = re.split(r"^\$ (.*)$", text, flags=re.MULTILINE)[1:]
    return {
        title: {name for names in FLAG.findall(part) for name in names if name}
        for title, part in zip(parts[::2], parts[1::2], strict=True)
    }


def test_help_is_as_it_was():
    assert everything() == SNAPSHOT.read_text()


def test_no_flag_in_use_is_gone():
    before, now = flags(EARLIER.read_text()), flags(SNAPSHOT.read_text())
    assert sum(map(len, before.values())) > 100
    assert before.keys() <= now.keys()
    gone = {title: names - now[title] for title, names in before.items() if names - now[title]}
    assert gone == {}


if __name__ == "__main__":
    SNAPSHOT.write_text(everything())
