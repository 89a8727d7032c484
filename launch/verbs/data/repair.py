"""`shopfloor data repair`: sets damaged files aside and lists the whole ones."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.launch.console import note
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.data.telling import episodes, files, print_document
from shopfloor.launch.verbs.flags import Source

tools = Later("shopfloor.datasets.tools.repair")


@dataclass(frozen=True)
class Repair:
    """Set damaged files aside in DATASET/damaged (nothing is deleted), list the whole ones anew, say what is lost.

    Attributes:
        dataset: dataset folder.
        dry_run: only say what would be done.
        json: print one JSON document on standard output.
    """

    dataset: Source
    dry_run: bool = False
    json: bool = False


def run(arguments: Repair) -> int:
    """Set damaged files aside and list the whole ones."""
    done = tools.repair(arguments.dataset, dry_run=arguments.dry_run)
    if arguments.json:
        print_document(done.to_json() | {"dry_run": arguments.dry_run})
        return 0

    would = "would be " if arguments.dry_run else ""
    for aside in done.set_aside:
        print(f"{would}set aside: {aside.file} -> {aside.place} ({aside.problem})")
    for episode_id in done.lost:
        print(f"lost: {episode_id}")

    listed = f"; {done.manifest.name} lists them" if done.manifest else ""
    print(
        f"{arguments.dataset}: {episodes(done.episodes)} whole{listed}, "
        f"{files(len(done.set_aside))} {would}set aside, {episodes(len(done.lost))} lost"
    )

    if done.lost and not arguments.dry_run:
        note(
            "The command that collected the dataset makes lost episodes again; so do copies of "
            "their files."
        )

    return 0
