"""The frame of our HTML pages: one file, no network, light and dark."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

REPORT = "report.html"  # of a flywheel, in its folder
STYLE = Path(__file__).with_name("page.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"


def page(title: str, body: Sequence[str]) -> str:
    """Return a whole HTML document that loads nothing from anywhere.

    Args:
        title: plain text.
        body: HTML parts, already escaped.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE.read_text()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def table(
    caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[int] = ()
) -> str:
    """Return an HTML table.

    Args:
        caption: plain text.
        columns: plain texts.
        rows: HTML per cell, already escaped.
        numeric: columns to align right.
    """

    def style(index: int) -> str:
        return ' class="n"' if index in numeric else ""

    head = "".join(
        f'<th scope="col"{style(i)}>{html.escape(name)}</th>' for i, name in enumerate(columns)
    )

    lines = "".join(
        "<tr>" + "".join(f"<td{style(i)}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    )

    return (
        f'<div class="wide"><table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )
