"""Inline SVG charts: success over turns, stacked bars, time series.

Colours come from the page's style sheet.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 60, 16, 24, 36


@dataclass(frozen=True)
class Point:
    """One estimate.

    Attributes:
        at: position on the x axis.
        value: 0 to 1.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    at: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """Estimates that belong together.

    Attributes:
        name: for the legend.
        style: CSS class, "s0" to "s9".
        points: in order.
        joined: whether a line joins them.
    """

    name: str
    style: str
    points: Sequence[Point] = field(default_factory=tuple)
    joined: bool = True


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _svg(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    name = html.escape(title, quote=True)
    return (
        f'<svg class="chart" role="img" viewBox="0 0 {_number(width)} {_number(height)}" aria-label="{name}">'
        f"<title>{name}</title>{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", style: str = "label") -> str:
    return f'<text x="{_number(x)}" y="{_number(y)}" text-anchor="{anchor}" class="{style}">{html.escape(text)}</text>'


def _polyline(style: str, corners: Sequence[tuple[float, float]]) -> str:
    """Return a line through places x, y of the picture."""
    path = " ".join(f"{_number(x)},{_number(y)}" for x, y in corners)
    return f'<polyline class="{style}" points="{path}"/>'


def success_chart(title: str, labels: Sequence[str], series: Sequence[Series]) -> str:
    """Draw success rates with intervals.

    Args:
        title: for people who cannot see it.
        labels: of the x positions 0, 1, ...
        series: what to draw; point positions are 0 to len(labels) - 1.
    """
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(at: float) -> float:
        return LEFT + inner_width * (at + 0.5) / len(labels)

    def y(value: float) -> float:
        return TOP + inner_height * (1.0 - value)

    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        at_y = _number(y(share))
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at_y}" y2="{at_y}"/>'
        )
        parts.append(_text(LEFT - 6, y(share) + 4, f"{share:.0%}", "end"))

    parts += [_text(x(at), HEIGHT - 12, label) for at, label in enumerate(labels)]
    for one in series:
        if one.joined and len(one.points) > 1:
            corners = [(x(point.at), y(point.value)) for point in one.points]
            parts.append(_polyline(f"line {one.style}", corners))

        for p in one.points:
            tip = f"{one.name}: {100 * p.value:.1f} % [{100 * p.low:.1f}, {100 * p.high:.1f}]"
            middle = _number(x(p.at))
            parts.append(
                f'<g class="{one.style}"><title>{html.escape(tip)}</title>'
                f'<line class="whisker" x1="{middle}" x2="{middle}" y1="{_number(y(p.low))}" '
                f'y2="{_number(y(p.high))}"/>'
                f'<circle class="dot" cx="{middle}" cy="{_number(y(p.value))}" r="5"/></g>'
            )

            if one.joined:
                parts.append(_text(x(p.at), y(p.high) - 6, f"{100 * p.value:.0f} %", style="value"))

    return _svg(title, WIDTH, HEIGHT, parts) + legend([(one.name, one.style) for one in series])


def stacked_bars(
    title: str, rows: Sequence[tuple[str, Mapping[str, int]]], styles: Mapping[str, str]
) -> str:
    """Draw horizontal bars of counts, one a row, each as long as its total.

    Args:
        title: for people who cannot see it.
        rows: (label, count by key).
        styles: key -> CSS class, in the order of drawing.
    """
    most = max((sum(counts.values()) for _, counts in rows), default=0) or 1
    left, height = 150, 30 * len(rows) + 8
    parts = []

    for index, (label, counts) in enumerate(rows):
        top, at = 4 + 30 * index, float(left)
        parts.append(_text(left - 8, top + 16, label, "end"))
        for key, style in styles.items():
            count = counts.get(key, 0)
            if not count:
                continue

            width = (WIDTH - left - 60) * count / most
            parts.append(
                f'<g class="{style}"><title>{html.escape(f"{label}, {key}: {count}")}</title>'
                f'<rect class="bar" x="{_number(at)}" y="{top}" width="{_number(max(width, 0.5))}" height="22"/></g>'
            )

            if width > 22:
                parts.append(_text(at + width / 2, top + 15, str(count), style="inbar"))
            at += width

        parts.append(_text(at + 6, top + 16, str(sum(counts.values())), "start"))

    used = []
    for key, style in styles.items():
        if any(counts.get(key) for _, counts in rows):
            used.append((key, style))

    return _svg(title, WIDTH, height, parts) + legend(used)


def time_series(title: str, names: Sequence[str], rows: Sequence[Sequence[float]]) -> str:
    """Draw a few curves over the steps of an episode, each range scaled to the same height.

    Args:
        title: for people who cannot see it.
        names: of the curves.
        rows: shape (T, len(names)).
    """
    width, height = WIDTH, 150
    values = list(itertools.chain.from_iterable(rows))
    low, high = min(values, default=0.0), max(values, default=1.0)
    span = (high - low) or 1.0
    inner = width - LEFT - RIGHT

    def y(value: float) -> float:
        return 10 + (height - 34) * (1.0 - (value - low) / span)

    parts, marks = [], []
    for value in (low, high):
        at = _number(y(value))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{at}" y2="{at}"/>')
        marks.append(_text(LEFT - 6, y(value) + 4, f"{value:.3g}", "end"))

    parts += marks
    steps = max(len(rows) - 1, 1)
    entries: list[tuple[str, str]] = []

    for index, name in enumerate(names):
        corners = [(LEFT + inner * t / steps, y(row[index])) for t, row in enumerate(rows)]
        parts.append(_polyline(f"line thin s{index % 10}", corners))
        entries.append((name, f"s{index % 10}"))

    parts += [
        _text(LEFT, height - 6, "0"),
        _text(width - RIGHT, height - 6, f"step {len(rows) - 1}", "end"),
    ]

    return _svg(title, width, height, parts) + legend(entries)


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Return the key to the colours."""
    items = ""
    for name, style in entries:
        items += f'<li class="{style}"><span class="swatch"></span>{html.escape(name)}</li>'
    return f'<ul class="legend">{items}</ul>'
