"""`quality.html`: which episodes to leave out or draw less often, why, and their pictures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shopfloor.collectors.recorded.quality import Strip, strips
from shopfloor.datasets.quality.columns import find_columns, read_series
from shopfloor.datasets.quality.judge import DOWN_WEIGHT, DROP, NOTE
from shopfloor.datasets.quality.result import Assessed, Quality
from shopfloor.datasets.reader import Dataset
from shopfloor.launch.pages.charts import stacked_bars, time_series
from shopfloor.launch.pages.page import page, table, tile_row

STYLE = Path(__file__).with_name("quality.css")
SHOWN = 60  # episodes with pictures: about 3 MB
LISTED = 500  # more lines than that nobody reads; quality.json has all
MOST_SIDE = 160  # of a picture, pixels; larger ones are made smaller
MOST_POINTS = 400  # of a curve
NOTHING = 1e-6  # numbers below are shown as 0
FIGURES = {
    "idle_start_s": "idle at the start, s",
    "idle_end_s": "idle at the end, s",
    "idle_pause_s": "longest pause, s",
    "jerk": "jerk, m/s³",
    "path_ratio": "path / straight way",
    "gripper_chatter": "gripper chatter",
    "saturation": "share at full scale",
    "largest_step": "largest step, m",
    "action_fit": "actions against motion, r",
    "mutual_information": "mutual information, nats",
}


def quality_page(
    found: Quality, overlays: Sequence[Path | str] = (), commands: Sequence[str] = ()
) -> str:
    """Return the page.

    Args:
        found: what was found.
        overlays: views that the dataset was read through.
        commands: what to run next, shown at the end.
    """
    flagged = found.flagged
    body = [
        f"<style>{STYLE.read_text()}</style>",
        *_head(found),
        *_kinds(found),
        *_flagged(found, flagged, overlays),
        *_rest(flagged),
        *_usual(found),
        *_not_checked(found),
    ]

    if commands:
        body += ["<h2>Next</h2>", f"<pre>{html.escape(chr(10).join(commands))}</pre>"]
    return page(_title(found), body)


def _title(found: Quality) -> str:
    return f"shopfloor data quality: {found.path.name}"


def _head(found: Quality) -> list[str]:
    counts, labels = found.counts(), found.labels
    tiles = [
        (str(len(found.episodes)), "episodes judged"),
        (str(counts["keep"]), "kept as they are"),
        (str(counts[DOWN_WEIGHT]), "drawn less often"),
        (str(counts[DROP]), "left out"),
    ]

    if labels is not None:
        tiles.append(
            (f"{labels['wrong']} of {labels['replayed']}", "success labels wrong in the simulator")
        )

    return [
        f"<h1>{html.escape(_title(found))}</h1>",
        f'<p class="soft">{html.escape(str(found.path))}. Faults of a recording leave an episode out; faults of a '
        "demonstrator halve its weight. Honest failures are kept. Nothing was changed: view.json says the same to "
        "training.</p>",
        tile_row(tiles),
    ]


def _kinds(found: Quality) -> list[str]:
    if not found.kinds():
        return ['<p class="note">Nothing was found that is worth leaving out.</p>']

    rows = []
    for kind in found.kinds():
        severities = _severities(found, kind)
        counts = {
            "leaves out": severities.count(DROP),
            "halves weight": severities.count(DOWN_WEIGHT),
        }
        rows.append((_words(kind), counts))

    chart = stacked_bars("Findings by kind", rows, {"leaves out": "s4", "halves weight": "s1"})
    return ["<h2>What was found</h2>", f'<div class="card">{chart}</div>']


def _severities(found: Quality, kind: str) -> list[str]:
    """Return the severity of every finding of a kind."""
    severities = []
    for one in found.episodes:
        for finding in one.findings:
            if finding.kind == kind:
                severities.append(finding.severity)
    return severities


def _words(kind: str) -> str:
    return kind.replace("_", " ")


# --------------------------------------------------------------------------------------------------
# Episodes
# --------------------------------------------------------------------------------------------------


def _flagged(
    found: Quality, flagged: Sequence[Assessed], overlays: Sequence[Path | str]
) -> list[str]:
    if not flagged:
        return []

    some = flagged[:SHOWN]
    dataset = Dataset(found.path, overlays=overlays)
    places = {record.episode_id: index for index, record in enumerate(dataset.records)}
    first = "" if len(some) == len(flagged) else f" (the first {SHOWN})"
    parts = [f"<h2>Episodes, worst first{first}</h2>"]

    shown = strips(found.path, [one.record for one in some], overlays)
    for one, pictures in zip(some, shown, strict=True):
        parts.append(_card(one, pictures, _speed(dataset, places[one.record.episode_id])))

    dataset.close()
    return parts


def _card(one: Assessed, pictures: Sequence[Strip], speed: Sequence[float] | None) -> str:
    record = one.record
    weight = "left out" if one.verdict == DROP else f"weight {one.weight:g}"
    facts = f"{record.cell}, seed {record.seed}, {record.steps} steps, {record.outcome}"
    facts += f" ({_words(record.reason)})" if record.reason else ""

    items = ""
    for finding in one.findings:
        style = ' class="note-only"' if finding.severity == NOTE else ""
        text = f"<b>{html.escape(_words(finding.kind))}</b>: {html.escape(finding.text)}"
        items += f"<li{style}>{text}</li>"

    curve = ""
    if speed:
        rows = [[value] for value in speed]
        curve = time_series("Speed of the tool, m/s", ["tool, m/s"], rows)

    left = "".join(_strip(strip) for strip in pictures) or '<p class="soft">no pictures</p>'
    return (
        f'<div class="card flagged"><h3><span class="badge {one.verdict}">{weight}</span> '
        f"episode {record.index} <code>{record.episode_id[:12]}</code></h3>"
        f'<p class="facts">“{html.escape(record.instruction)}” {html.escape(facts)}</p>'
        f'<div class="inside"><div>{left}</div><div>{curve}</div></div><ul class="findings">{items}</ul></div>'
    )


def _strip(strip: Strip) -> str:
    camera = html.escape(strip.camera, quote=True)
    figures = []
    for step, picture in zip(strip.steps, strip.pictures, strict=True):
        image = f'<img src="{_data_uri(picture)}" alt="camera {camera}, step {step}">'
        figures.append(f"<figure>{image}<figcaption>step {step}</figcaption></figure>")

    how = ", rendered from simulator states" if strip.rendered else ""
    title = f'<p class="camera">camera {camera}{how}</p>'
    return f'{title}<div class="strip">{"".join(figures)}</div>'


def _data_uri(picture: npt.NDArray[np.uint8]) -> str:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture))
    if max(image.size) > MOST_SIDE:
        image.thumbnail((MOST_SIDE, MOST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _speed(dataset: Dataset, index: int) -> list[float] | None:
    """Return the tool's speed, m/s, of each step or of evenly spaced ones.

    Returns:
        None where no columns are the tool's.
    """
    columns = find_columns(dataset, index)
    if not columns.tool:
        return None
    place = read_series(dataset, index, columns).numbers[:, columns.tool]
    speed = np.linalg.norm(np.diff(place, axis=0), axis=1) * columns.hz
    if len(speed) > MOST_POINTS:
        speed = speed[np.rint(np.linspace(0, len(speed) - 1, MOST_POINTS)).astype(int)]
    return [round(float(value), 4) for value in speed] or None


def _rest(flagged: Sequence[Assessed]) -> list[str]:
    rest = flagged[SHOWN : SHOWN + LISTED]
    if not rest:
        return []

    rows = []
    for one in rest:
        reasons = [finding.text for finding in one.findings if finding.severity != NOTE]
        rows.append(
            (
                str(one.record.index),
                f'<span class="badge {one.verdict}">{one.verdict}</span>',
                f"{one.weight:g}",
                html.escape(one.record.cell),
                html.escape("; ".join(reasons)),
            )
        )

    left = len(flagged) - SHOWN - len(rest)
    caption = "Further episodes" + (f"; quality.json has {left} more" if left else "")
    return [
        "<h2>Further episodes</h2>",
        table(caption, ("episode", "verdict", "weight", "cell", "why"), rows, (0, 2)),
    ]


# --------------------------------------------------------------------------------------------------
# The dataset
# --------------------------------------------------------------------------------------------------


def _usual(found: Quality) -> list[str]:
    parts = [
        "<h2>What is usual here</h2>",
        '<p class="soft">Median of the successful episodes, and a robust standard deviation (1.4826 times the median '
        "absolute deviation). Findings on motion need an absolute threshold and a distance from this.</p>",
    ]

    for cell, usual in found.usual.items():
        rows = []
        for name, text in FIGURES.items():
            one = usual[name]
            if one.count:
                median, deviation = _number(one.median), _number(one.deviation)
                rows.append((html.escape(text), median, deviation, str(one.count)))

        parts.append(table(cell, ("figure", "median", "deviation", "episodes"), rows, (1, 2, 3)))

    return parts


def _number(value: float) -> str:
    return f"{0.0 if abs(value) < NOTHING else value:.3g}"


def _not_checked(found: Quality) -> list[str]:
    if not found.not_checked:
        return []
    items = "".join(f"<li>{html.escape(reason)}</li>" for reason in found.not_checked)
    return ["<h2>Not checked</h2>", f"<ul>{items}</ul>"]
