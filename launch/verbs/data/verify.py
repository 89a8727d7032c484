"""`shopfloor data verify`: checks every byte, and with --deep executes actions again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shopfloor.launch.console import make_progress, note
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.data.telling import episodes, into, print_document
from shopfloor.launch.verbs.flags import HERE, EngineFlags, Source

if TYPE_CHECKING:
    from shopfloor.datasets.listing.verify import Damage

library = Later("shopfloor.datasets.listing.verify")
reader = Later("shopfloor.datasets.reader")
replays = Later("shopfloor.collectors.recorded.replay")


@dataclass(frozen=True)
class Verify:
    """Check every byte of a dataset. Exit 0: sound; 1: damage, each file's name on its own line; 2: not a dataset.

    Attributes:
        dataset: dataset folder.
        deep: also execute the actions of some episodes again and compare every simulator state, bit
            for bit.
        sample: with --deep: how many episodes, drawn at random; 0 for all.
        seed: with --deep: of that draw.
        engine: with --deep: where the episodes run.
        json: print one JSON document on standard output.
    """

    dataset: Source
    deep: bool = False
    sample: int = 10
    seed: int = 0
    engine: EngineFlags = HERE
    json: bool = False


def run(arguments: Verify) -> int:
    """Check a dataset, byte by byte, and with `deep` action by action."""
    if arguments.deep:
        return _run_deep(arguments)

    damage: list[Damage] = library.verify(arguments.dataset)
    if arguments.json:
        print_document({"sound": not damage, "damage": _as_json(damage)})
    elif not _print_damage(damage):
        print(f"sound: {episodes(len(reader.Dataset(arguments.dataset)))}")
    return 1 if damage else 0


def _run_deep(arguments: Verify) -> int:
    with make_progress(arguments.json).phase("replay", arguments.sample) as phase:
        found = replays.deep_verify(
            arguments.dataset,
            arguments.sample,
            arguments.seed,
            workers=arguments.engine.or_serial,
            progress=into(phase),
        )

    code = 1 if found.damage else 0

    if arguments.json:
        document = {
            "sound": not found.damage,
            "damage": _as_json(found.damage),
            "replays": found.replays.to_json() if found.replays else None,
            "passed_over": found.passed_over,
        }

        print_document(document)
        return code

    count = len(found.replays.episodes) if found.replays else 0
    if not _print_damage(found.damage):
        whole = episodes(len(reader.Dataset(arguments.dataset)))
        print(f"sound: {whole}, {count} of them replayed to the same states")

    if found.passed_over:
        note(f"{episodes(count)} replayed: {found.passed_over}")
    return code


def _as_json(damage: Iterable[Damage]) -> list[dict[str, str]]:
    return [
        {"file": entry.file, "problem": entry.problem, "advice": entry.advice} for entry in damage
    ]


def _print_damage(damage: Sequence[Damage]) -> bool:
    """Name each damaged file on its own line, and what is wrong beside it; False where none is."""
    for entry in damage:
        print(entry.file)
        note(f"{entry.file}: {entry.problem}. {entry.advice}".rstrip())
    return bool(damage)
