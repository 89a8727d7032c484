"""Merges datasets into one, and proves that no episode was lost or changed on the way."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shopfloor.core import InvalidInputError, listed_paths, sha256_hex
from shopfloor.datasets.disk.staging import staged_folder
from shopfloor.datasets.disk.strict_json import json_digest
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.record import EpisodeRecord
from shopfloor.datasets.listing.identity import DIGEST
from shopfloor.datasets.listing.manifest import list_dataset, write_manifest
from shopfloor.datasets.listing.overlays import append_overlay, overlay_files, read_overlay_file
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.transfer import (
    Digests,
    copy_records,
    not_proven,
    refuse_damage,
    refuse_inside,
)

_SCHEMA = ("action_convention", "control_hz")
_MEANING = ("shape", "dtype", "names", "units")
_MIXED = "mixed: "


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes:
        episodes: number of episodes in the result, those that overlays leave out included.
        duplicates: how often an episode was found again in a further source; it is kept once.
        overlays: number of overlays carried along.
        proof: SHA-256 over the sorted lines "<episode_id> <digest>", equal for the sources together
            and the result.
        path: the result.
    """

    episodes: int
    duplicates: int
    overlays: int
    proof: str
    path: Path

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        return {**asdict(self), "path": str(self.path)}


def merge(paths: Sequence[Path | str], out: Path | str) -> Merged:
    """Join datasets into a new one, each episode once, with its overlays. Sources stay as they are.

    Episodes that overlays leave out are joined, too, and stay left out. Where overlays of two
    sources change the same episode, the later source's change holds.

    Args:
        paths: two or more dataset folders.
        out: folder of the result, a new dataset.

    Returns:
        How many episodes there are, and the proof that they are those of the sources.

    Raises:
        InvalidInputError: fewer than two; actions or features that do not mean the same; two
            episodes of one id that differ; `out` exists or lies in a source.
        DamagedFileError: an episode is damaged.
    """
    roots = [path.absolute() for path in listed_paths(paths)]
    sources = [Dataset(root) for root in roots]
    _check_sources(roots)
    refuse_inside(Path(out), roots)
    identity = merged_identity({str(source.path): source.identity.raw for source in sources})
    for source in sources:
        refuse_damage(source)
    held = [list_dataset(root).records for root in roots]
    digests = Digests()
    expected = _expected(roots, held, digests)

    kept: set[str] = set()
    with staged_folder(Path(out)) as staged:
        text = json.dumps(identity | {DIGEST: json_digest(identity)}, indent=1) + "\n"
        (staged / layout.DATASET_FILE).write_text(text, encoding="utf-8")
        numbers = itertools.count()

        for root, records in zip(roots, held, strict=True):
            new: dict[str, EpisodeRecord] = {}
            for record in records:
                if record.episode_id not in kept:
                    new.setdefault(record.episode_id, record)
            kept |= new.keys()
            copy_records(root, list(new.values()), staged, numbers)

        overlays = [*itertools.chain.from_iterable(map(overlay_files, roots))]
        for overlay in overlays:
            append_overlay(staged, read_overlay_file(overlay))

        write_manifest(staged)
        found = dict(digests.pairs(staged, list_dataset(staged).records))
        if found != expected:
            raise not_proven(staged, len(found.items() ^ expected.items()))

    duplicates = sum(map(len, held)) - len(expected)
    return Merged(len(expected), duplicates, len(overlays), _proof(expected), Path(out))


def _check_sources(roots: Sequence[Path]) -> None:
    if len(roots) < 2:
        raise InvalidInputError(f"A merge needs two or more datasets; {len(roots)} given.")
    real = [root.resolve() for root in roots]
    for root, place in zip(roots, real, strict=True):
        if real.count(place) > 1:
            raise InvalidInputError(f"{root} is given twice; name each dataset once.")


def _expected(
    roots: Sequence[Path], held: Sequence[Sequence[EpisodeRecord]], digests: Digests
) -> dict[str, str]:
    """Return id -> digest of all episodes; raises InvalidInputError if an id stands for two."""
    expected: dict[str, str] = {}
    home: dict[str, Path] = {}
    for root, records in zip(roots, held, strict=True):
        for episode_id, digest in digests.pairs(root, records):
            if expected.setdefault(episode_id, digest) != digest:
                raise InvalidInputError(
                    f"Episode {episode_id} is in {home[episode_id]} and in {root}, with other content. One id must "
                    'mean one episode: make a copy of one of the datasets without it (`data filter --where "episode_id '
                    f"!= '{episode_id}'\" --out ...`) and merge that; nothing was written."
                )

            home.setdefault(episode_id, root)

    return expected


def _proof(pairs: Mapping[str, str]) -> str:
    lines = [f"{episode_id} {digest}\n" for episode_id, digest in sorted(pairs.items())]
    return sha256_hex("".join(lines))


# --------------------------------------------------------------------------------------------------
# Identity
# --------------------------------------------------------------------------------------------------


def merged_identity(sources: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the `dataset.json` of datasets together.

    Args:
        sources: path -> its `dataset.json`.

    Raises:
        InvalidInputError: their actions or features do not mean the same; the message shows the
            difference.
    """
    (first, document), *others = sources.items()
    merged = dict(document)
    merged.pop(DIGEST, None)
    for path, other in others:
        _refuse_other_schema(first, document, path, other)
        merged["cells"] = list(dict.fromkeys((*merged["cells"], *other["cells"])))
        merged["descriptions"] = _joined_descriptions(
            merged["descriptions"], other["descriptions"], path
        )

    for name in layout.PROVENANCE:
        values: dict[str, None] = {}
        for raw in sources.values():
            # A source may be the result of a merge itself.
            values |= dict.fromkeys(raw[name].removeprefix(_MIXED).split(" | "))
        joined = " | ".join(values)
        merged[name] = joined if len(values) == 1 else _MIXED + joined

    return merged


def _refuse_other_schema(
    first: str, one: Mapping[str, Any], second: str, other: Mapping[str, Any]
) -> None:
    for key in _SCHEMA:
        if one.get(key) != other.get(key):
            raise _differ(key, first, one.get(key), second, other.get(key))
    features, others = one["features"], other["features"]
    for name in sorted({*features, *others}):
        for key in _MEANING:
            mine = features.get(name, {}).get(key)
            theirs = others.get(name, {}).get(key)
            if mine != theirs:
                raise _differ(f"feature {name!r}: {key}", first, mine, second, theirs)


def _joined_descriptions(
    known: Mapping[str, Any], others: Mapping[str, Any], path: str
) -> dict[str, Any]:
    joined = dict(known)
    for cell, description in others.items():
        mine = joined.setdefault(cell, description)
        for key in sorted({*mine, *description} - {"features"}):
            # A key that only one has is from another release; nothing is lost by keeping it.
            if key in mine and key in description and mine[key] != description[key]:
                raise _differ(
                    f"{cell}: {key}", "the sources before", mine[key], path, description[key]
                )

        joined[cell] = {**description, **mine}

    return joined


def _differ(what: str, first: str, mine: object, second: str, theirs: object) -> InvalidInputError:
    here = "nothing" if mine is None else json.dumps(mine)
    there = "nothing" if theirs is None else json.dumps(theirs)
    if len(here) > 160 and len(there) > 160:  # show where they part
        same = 0
        while here[same : same + 1] == there[same : same + 1] != "":
            same += 1

        start = max(same - 40, 0)
        dots = "..." if start else ""
        here, there = dots + here[start:], dots + there[start:]

    return InvalidInputError(
        f"These datasets cannot be merged, because {what} differs: {here[:200]} in {first}, "
        f"{there[:200]} in {second}. Merge only datasets whose actions and observations mean the "
        "same; nothing was written."
    )
