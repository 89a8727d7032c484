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


def tile_row(tiles: Sequence[tuple[str, str]]) -> str:
    """Return a row of tiles, each a figure and what it counts, as plain texts."""
    parts = []
    for figure, meaning in tiles:
        shown = f"<b>{html.escape(figure)}</b><span>{html.escape(meaning)}</span>"
        parts.append(f'<div class="tile">{shown}</div>')
    return f'<div class="tiles">{"".join(parts)}</div>'


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

    head = ""
    for index, name in enumerate(columns):
        head += f'<th scope="col"{style(index)}>{html.escape(name)}</th>'

    lines = []
    for row in rows:
        cells = [f"<td{style(index)}>{cell}</td>" for index, cell in enumerate(row)]
        lines.append(f"<tr>{''.join(cells)}</tr>")

    return (
        f'<div class="wide"><table><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )
