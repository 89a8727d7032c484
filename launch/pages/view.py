"""`shopfloor view`: finds a flywheel's report, or makes a page of one episode, and opens it in a browser."""

from __future__ import annotations

import html
import os
import tempfile
import webbrowser
from pathlib import Path

from shopfloor.collectors.jobs import build_cell
from shopfloor.collectors.recorded.replay import render_episode
from shopfloor.core import Episode, InvalidInputError
from shopfloor.datasets.reader import Dataset
from shopfloor.launch.console import note
from shopfloor.launch.pages.charts import time_series
from shopfloor.launch.pages.page import REPORT, page, table
from shopfloor.launch.pages.video import video_tag

EPISODE_VIDEO = (288, 288)
ACTORS = ("policy", "expert", "human")


def page_of(folder: Path, episode: int = 0, camera: str = "front", out: Path | None = None) -> Path:
    """Return the page to look at.

    Args:
        folder: a flywheel's folder, or a dataset.
        episode: position in the dataset.
        camera: camera of the video.
        out: where to write an episode's page, None for a temporary file.

    Raises:
        InvalidInputError: the folder is neither, or has no such episode.
    """
    if (folder / REPORT).is_file():
        return (folder / REPORT).absolute()
    if (folder / "ledger.sqlite").is_file():
        raise InvalidInputError(
            f"{folder} has no {REPORT} yet; finish its flywheel by running its command again."
        )
    if folder.is_dir() and not (folder / "dataset.json").is_file():
        raise InvalidInputError(
            f"{folder} is neither a flywheel's folder (no {REPORT}) nor a dataset (no "
            "dataset.json). Name the --out of `shopfloor flywheel` or of `shopfloor collect`."
        )

    dataset = Dataset(folder)
    if not 0 <= episode < len(dataset):
        raise InvalidInputError(
            f"--episode is {episode}; {folder} has {len(dataset)} episodes"
            + (f", 0 to {len(dataset) - 1}." if len(dataset) else ".")
        )

    record = dataset.records[episode]
    text = episode_page(dataset.read(episode), record.file, camera)
    if out is None:
        handle, name = tempfile.mkstemp(prefix="shopfloor-", suffix=".html")
        os.close(handle)
        out = Path(name)

    try:
        out.write_text(text)
    except OSError as error:
        raise InvalidInputError(
            f"{out} cannot be written: {error.strerror}. Give another --out."
        ) from error

    return out.absolute()


def episode_page(episode: Episode, name: str, camera: str) -> str:
    """Return a page with an episode's video, plots and facts.

    Args:
        episode: what to show.
        name: of its file.
        camera: camera of the video, rendered from the stored simulator states.
    """
    spec = episode.spec
    cell = build_cell(spec.cell, spec.cell_options, spec.variation)
    try:
        description = cell.describe()
    finally:
        cell.close()

    result = "success" if episode.success else f"failure: {episode.reason}"
    counts = [int((episode.actor == actor).sum()) for actor in range(len(ACTORS))]
    facts = [
        ("file", name),
        ("cell", spec.cell),
        ("seed", str(spec.seed)),
        ("purpose", spec.purpose),
        ("variation", spec.variation),
        ("outcome", result),
        ("steps", f"{episode.steps} ({episode.steps / description['control_hz']:.1f} s)"),
        (
            "acted",
            ", ".join(f"{who} {count}" for who, count in zip(ACTORS, counts, strict=True) if count),
        ),
        ("labelled steps", str(int(episode.label_valid.sum()))),
        ("stages", ", ".join(f"{stage} at {step}" for step, stage in episode.stages)),
        ("policy digest", spec.policy_digest[:16]),
        ("episode id", spec.episode_id[:16]),
    ]

    frames = render_episode(episode, camera, EPISODE_VIDEO)
    video = video_tag(frames, f"camera {camera}: {episode.instruction}")
    body = [
        f"<h1>“{html.escape(episode.instruction)}”</h1>",
        f'<p class="soft">{html.escape(f"{spec.cell}, seed {spec.seed}")}: '
        f'<b class="{episode.outcome}">{html.escape(result)}</b></p>',
        '<div class="columns"><div class="card">',
        f"<figure>{video}<figcaption>camera {html.escape(camera)}, rendered from the stored simulator states"
        "</figcaption></figure></div>",
        f'<div class="card">{table("Facts", ("what", "value"), [(a, html.escape(b)) for a, b in facts])}</div></div>',
        "<h2>Actions</h2>",
        time_series("Executed actions", description["action_names"], episode.actions.tolist()),
        "<h2>State</h2>",
        *_state_plots(episode, description["features"]["state"]),
    ]

    return page(f"shopfloor episode: {episode.instruction}", body)


def _state_plots(episode: Episode, feature: dict[str, list[str]]) -> list[str]:
    """Plot the state, the columns of one unit together."""
    groups: dict[str, list[int]] = {}
    for column, unit in enumerate(feature["units"]):
        groups.setdefault(unit, []).append(column)
    state = episode.observations["state"]
    parts = []

    for unit, columns in groups.items():
        for first in range(0, len(columns), 7):
            some = columns[first : first + 7]
            names = [feature["names"][column] for column in some]
            parts.append(
                f"<h3>{html.escape(unit)}</h3>"
                + time_series(f"State in {unit}", names, state[:, some].tolist())
            )

    return parts


def open_page(path: Path) -> None:
    """Open a page in a browser, if there is one."""
    try:
        found = webbrowser.open(path.as_uri())
    except (webbrowser.Error, OSError):
        found = False
    if not found:
        note("no browser here: open the file above in one")
