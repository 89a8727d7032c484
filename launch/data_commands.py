"""What each `shopfloor data VERB` does: one Python call, then a line or a JSON document that says what came of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopfloor.core import InvalidInputError, listed
from shopfloor.launch import data_verbs as verbs
from shopfloor.launch.console import Phase, make_progress, note, print_json
from shopfloor.launch.quality_command import quality

if TYPE_CHECKING:
    from shopfloor.datasets.listing.verify import Damage

SCHEMA_VERSION = 1
SHOWN = 10  # names in a line for people; --json has all


def run(verb: str, arguments: Any) -> int:  # noqa: ANN401  # the verb's own dataclass
    """Run `shopfloor data VERB`.

    A damaged dataset is bad input to every verb but `verify`, whose finding it is.
    """
    from shopfloor.datasets.disk.errors import DamagedFileError

    try:
        return COMMANDS[verb](arguments)
    except DamagedFileError as error:
        if verb == "data verify":
            raise
        raise InvalidInputError(str(error)) from error


# --------------------------------------------------------------------------------------------------
# What is there, and is it whole
# --------------------------------------------------------------------------------------------------


def info(arguments: verbs.Info) -> int:
    """Print a dataset's figures."""
    from shopfloor.datasets.reader import Dataset

    found = Dataset(arguments.dataset).info()
    if arguments.json:
        print_json(found)
        return 0
    features = found.pop("features")
    for key, value in found.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        text = ", ".join(map(str, text)) if isinstance(text, list) else text
        print(f"{key:17} {text if text not in ('', None) else '-'}")
    for name, feature in features.items():
        print(f"{'feature ' + name:17} {_feature(feature)}")
    return 0


def _feature(feature: Mapping[str, Any]) -> str:
    """Describe a feature: "float32 4 x 12: x y (m), present (1)"; neighbours of one unit share it."""
    shape = " x ".join(map(str, feature.get("shape", ())))
    names, units = feature.get("names") or [], feature.get("units") or []
    groups: list[tuple[str, list[str]]] = []
    for name, unit in zip(names, units, strict=False):
        if not groups or groups[-1][0] != unit:
            groups.append((unit, []))
        groups[-1][1].append(name)
    said = ", ".join(" ".join(group) + (f" ({unit})" if unit else "") for unit, group in groups)
    return f"{feature.get('dtype', '?')} {shape}" + (f": {said}" if said else "")


def verify(arguments: verbs.Verify) -> int:
    """Check a dataset, byte by byte, and with `deep` action by action."""
    from shopfloor.datasets.listing.verify import verify as check
    from shopfloor.datasets.reader import Dataset

    if arguments.deep:
        return _verify_deep(arguments)
    damage = check(arguments.dataset)
    if arguments.json:
        _document({"sound": not damage, "damage": _damage(damage)})
    elif not _told(damage):
        print(f"sound: {_episodes(len(Dataset(arguments.dataset)))}")
    return 1 if damage else 0


def _verify_deep(arguments: verbs.Verify) -> int:
    from shopfloor.collectors.recorded.replay import deep_verify
    from shopfloor.datasets.reader import Dataset

    with make_progress(arguments.json).phase("replay", arguments.sample) as phase:
        found = deep_verify(
            arguments.dataset,
            arguments.sample,
            arguments.seed,
            workers=arguments.workers,
            progress=_into(phase),
        )
    replays = found.replays
    count = len(replays.episodes) if replays else 0
    if arguments.json:
        told = replays.to_json() if replays else None
        _document(
            {
                "sound": not found.damage,
                "damage": _damage(found.damage),
                "replays": told,
                "passed_over": found.passed_over,
            }
        )
        return 1 if found.damage else 0
    if not _told(found.damage):
        print(
            f"sound: {_episodes(len(Dataset(arguments.dataset)))}, {count} of them replayed to the same states"
        )
    if found.passed_over:
        note(f"{_episodes(count)} replayed: {found.passed_over}")
    return 1 if found.damage else 0


def _damage(damage: Iterable[Damage]) -> list[dict[str, str]]:
    return [
        {"file": entry.file, "problem": entry.problem, "advice": entry.advice} for entry in damage
    ]


def _told(damage: Sequence[Damage]) -> bool:
    """Name each damaged file on its own line, and say beside it what is wrong; False where nothing is."""
    for entry in damage:
        print(entry.file)
        note(f"{entry.file}: {entry.problem}. {entry.advice}".rstrip())
    return bool(damage)


def repair(arguments: verbs.Repair) -> int:
    """Set damaged files aside and list the whole ones."""
    from shopfloor.datasets.tools.repair import repair as call

    done = call(arguments.dataset, dry_run=arguments.dry_run)
    if arguments.json:
        _document(done.to_json() | {"dry_run": arguments.dry_run})
        return 0
    would = "would be " if arguments.dry_run else ""
    for aside in done.set_aside:
        print(f"{would}set aside: {aside.file} -> {aside.place} ({aside.problem})")
    for episode_id in done.lost:
        print(f"lost: {episode_id}")
    listed = f"; {done.manifest.name} lists them" if done.manifest else ""
    print(
        f"{arguments.dataset}: {_episodes(done.episodes)} whole{listed}, {_files(len(done.set_aside))} {would}set "
        f"aside, {_episodes(len(done.lost))} lost"
    )
    if done.lost and not arguments.dry_run:
        note(
            "The command that collected the dataset makes lost episodes again; so do copies of their files."
        )
    return 0


def compact(arguments: verbs.Compact) -> int:
    """Bundle episodes into shards."""
    from shopfloor.datasets.tools.compact import compact as call

    if arguments.shard_mb < 1:
        raise InvalidInputError(f"--shard-mb is {arguments.shard_mb}; expected at least 1.")
    done = call(
        arguments.dataset,
        layout=arguments.layout,
        out=arguments.out,
        shard_bytes=arguments.shard_mb * 1_000_000,
    )
    if arguments.json:
        _document(done.to_json())
        return 0
    if not done.episodes:
        print(f"{arguments.dataset}: nothing to bundle")
        return 0
    print(
        f"{arguments.out or arguments.dataset}: {_episodes(done.episodes)} bundled into {_shards(done.shards)}, each "
        f"read back and compared with its source; before {done.bytes_before / 1e6:.1f} MB, now "
        f"{done.bytes_after / 1e6:.1f} MB"
    )
    return 0


# --------------------------------------------------------------------------------------------------
# New datasets out of old ones
# --------------------------------------------------------------------------------------------------


def merge(arguments: verbs.Merge) -> int:
    """Join datasets."""
    from shopfloor.datasets.tools.merge import merge as call

    done = call(arguments.datasets, arguments.out)
    if arguments.json:
        _document(done.to_json())
        return 0
    print(
        f"{done.path}: {_episodes(done.episodes)} of {len(arguments.datasets)} datasets, {done.duplicates} duplicates "
        f"kept once; every episode compared with its source, proof {done.proof}"
    )
    return 0


def split(arguments: verbs.Split) -> int:
    """Divide a dataset."""
    from shopfloor.datasets.tools.copies import split as call

    done = call(
        arguments.dataset,
        arguments.out,
        shares=_shares(arguments.shares),
        by=arguments.by,
        seed=arguments.seed,
        overlays=arguments.overlays,
    )
    if arguments.json:
        _document(done.to_json())
        return 0
    for part, count in done.parts.items():
        print(f"{done.path / part}: {_episodes(count)}")
    print(f"no initial state is in two parts ({done.groups} groups that had to stay together)")
    return 0


def _shares(texts: tuple[str, ...]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for text in texts:
        part, _, share = text.partition("=")
        try:
            value = float(share)
        except ValueError:
            raise InvalidInputError(
                f"--shares has {text!r}; expected PART=SHARE, such as train=0.8."
            ) from None
        if part in shares:
            raise InvalidInputError(f"--shares names the part {part!r} twice.")
        shares[part] = value
    return shares


def filter_(arguments: verbs.Filter) -> int:
    """Keep some episodes, in a copy or a view."""
    from shopfloor.datasets.tools.copies import filter_episodes

    if (arguments.out is None) == (arguments.view is None):
        raise InvalidInputError(
            "Give either --out FOLDER for a copy or --view FILE for a view, a small overlay file."
        )
    done = filter_episodes(
        arguments.dataset,
        arguments.where,
        out=arguments.out,
        view=arguments.view,
        overlays=arguments.overlays,
    )
    if arguments.json:
        _document(done.to_json())
        return 0
    kept = f"{done.kept} of {_episodes(done.kept + done.left_out)} kept"
    if arguments.view is not None:
        print(f"{kept}: the view {done.path}; use it with --overlay {shlex.quote(str(done.path))}")
    else:
        print(f"{kept}: copied to {done.path}")
    return 0


# --------------------------------------------------------------------------------------------------
# Second thoughts
# --------------------------------------------------------------------------------------------------


def delete(arguments: verbs.Delete) -> int:
    """Leave episodes out, or take that back."""
    from shopfloor.datasets.tools import edit

    dataset, where, ids = arguments.dataset, arguments.where, arguments.ids
    if arguments.undo:
        if arguments.reason:
            raise InvalidInputError(
                "--reason says why episodes are left out; leave it away with --undo."
            )
        done = edit.restore(dataset, where=where, ids=ids)
    else:
        done = edit.delete(dataset, where=where, ids=ids, reason=arguments.reason)
    if arguments.json:
        _document(done.to_json())
    elif done.overlay is None:
        state = "left out" if arguments.undo else "there and chosen"
        print(f"{dataset}: nothing to do, no episode is {state}")
    elif arguments.undo:
        print(f"{dataset}: {_episodes(done.changed)} taken back by overlays/{done.overlay.name}")
    else:
        print(
            f"{dataset}: {_episodes(done.changed)} left out by overlays/{done.overlay.name}; no file was removed"
        )
        chosen = [*(["--where", where] if where else []), *(["--ids", *ids] if ids else [])]
        print(f"to take it back:     {_command('data delete', dataset, '--undo', *chosen)}")
        print(f"to remove for good:  {_command('data purge', dataset)}")
    return 0


def purge(arguments: verbs.Purge) -> int:
    """Remove deleted episodes for good."""
    from shopfloor.datasets.tools.purge import purge as call

    done = call(arguments.dataset)
    if arguments.json:
        _document(done.to_json())
    elif not done.episodes and not done.bytes:
        print(
            f"{arguments.dataset}: nothing to remove; `shopfloor data delete` says which episodes to leave out"
        )
    else:
        size = f"{done.bytes:,} bytes freed"
        if done.bytes < 0:  # what else their shards held is in files of its own now
            size = f"the rest of their shards takes {-done.bytes:,} bytes more until `shopfloor data compact`"
        gone = f"{_episodes(done.episodes)} removed for good"
        print(f"{arguments.dataset}: {gone}, {size}; collect does not make them again")
    return 0


def relabel(arguments: verbs.Relabel) -> int:
    """Call episodes otherwise."""
    from shopfloor.datasets.tools.edit import relabel as call

    done = call(
        arguments.dataset,
        where=arguments.where,
        ids=arguments.ids,
        instruction=arguments.instruction,
        outcome=arguments.outcome,
        reason=arguments.reason,
    )
    if arguments.json:
        _document(done.to_json())
    elif done.overlay is None:
        print(f"{arguments.dataset}: nothing to do, no chosen episode would change")
    else:
        print(
            f"{arguments.dataset}: {_episodes(done.changed)} relabelled by overlays/{done.overlay.name}; their files "
            "are as they were, and relabelling again replaces it"
        )
    return 0


# --------------------------------------------------------------------------------------------------
# Other tools' formats
# --------------------------------------------------------------------------------------------------


def export(arguments: verbs.Export) -> int:
    """Write another tool's format."""
    from shopfloor.datasets.convert.formats import ExportOptions
    from shopfloor.datasets.convert.formats import export as call

    options = ExportOptions(
        actions=arguments.actions,
        keys=arguments.keys or None,
        where=arguments.where,
        overlays=arguments.overlays,
        valid=arguments.valid,
        pictures=arguments.pictures,
        seed=arguments.seed,
    )
    done = call(arguments.dataset, arguments.to, arguments.out, options)
    if arguments.json:
        _document(done.to_json() | {"path": str(arguments.out), "actions": arguments.actions})
        return 0
    print(
        f"{arguments.out}: {_episodes(done.episodes)}, {done.steps} steps, {_files(done.files)}, {done.bytes:,} bytes; "
        f"actions are {'what was executed' if arguments.actions == 'executed' else 'labels where there are some'}"
    )
    return 0


def import_(arguments: verbs.Import) -> int:
    """Read another tool's format."""
    from shopfloor.datasets.convert.formats import ImportOptions, import_dataset

    options = ImportOptions(
        action_convention=arguments.action_convention,
        cast=arguments.cast,
        cell=arguments.cell,
        codec=arguments.codec,
        instruction=arguments.instruction,
    )
    done = import_dataset(arguments.path, arguments.source_format, arguments.out, options)
    if arguments.json:
        _document(done.to_json() | {"path": str(arguments.out)})
        return 0
    print(f"{arguments.out}: {_episodes(done.episodes)}, {done.steps} steps")
    for what in done.left_out:
        print(f"left out: {what}")
    return 0


# --------------------------------------------------------------------------------------------------
# In the simulator
# --------------------------------------------------------------------------------------------------


def replay(arguments: verbs.Replay) -> int:
    """Execute recorded actions again."""
    from shopfloor.collectors.recorded.replay import replay_dataset

    with make_progress(arguments.quiet or arguments.json).phase("replay", 1) as phase:
        done = replay_dataset(
            arguments.dataset,
            where=arguments.where,
            ids=arguments.ids,
            sample=arguments.sample,
            seed=arguments.seed,
            overlays=arguments.overlays,
            workers=arguments.workers,
            progress=_into(phase),
        )
    count = len(done.episodes)
    if arguments.json:
        _document(done.to_json())
        return 0 if done.states_equal == count else 1
    for one in done.episodes:
        if not one.states_equal:
            print(
                f"differs: {one.episode_id} ({one.cell}, seed {one.seed}) from state {one.first_difference} on"
            )
    chosen = f", drawn from {done.chosen_from}" if done.chosen_from > count else ""
    print(
        f"{_episodes(count)} replayed{chosen}: {_share(done.states_equal, count)} with the same states bit for bit, "
        f"{_share(done.outcomes_equal, count)} ended as recorded, {_share(done.successes_again, done.successes)} "
        "successes succeeded again"
    )
    return 0 if done.states_equal == count else 1


def render(arguments: verbs.Render) -> int:
    """Make pictures from stored simulator states."""
    from shopfloor.collectors.recorded.render import render_dataset

    cameras = listed(arguments.cameras)
    with make_progress(arguments.quiet or arguments.json).phase("render", 1) as phase:
        done = render_dataset(
            arguments.dataset,
            arguments.out,
            cameras,
            arguments.size,
            where=arguments.where,
            overlays=arguments.overlays,
            codec=arguments.codec,
            workers=arguments.workers,
            progress=_into(phase),
        )
    if arguments.json:
        _document(done.to_json())
        return 0
    height, width = arguments.size
    print(
        f"{done.path}: {_episodes(done.episodes)} with {done.pictures} pictures of {height} x {width} pixels "
        f"({', '.join(cameras)}), {done.bytes:,} bytes"
    )
    return 0


# --------------------------------------------------------------------------------------------------
# Words
# --------------------------------------------------------------------------------------------------


def _document(result: Mapping[str, Any]) -> None:
    print_json({"schema_version": SCHEMA_VERSION, **result})


def _into(phase: Phase) -> Callable[[int, int], None]:
    """Return what shows a library call's progress in a phase."""

    def show(done: int, total: int) -> None:
        phase.total = total
        phase.reach(done)

    return show


def _share(count: int, total: int) -> str:
    return f"{count}/{total}" + (f" ({100 * count / total:.1f} %)" if total else "")


def _episodes(count: int) -> str:
    return f"{count} episode" if count == 1 else f"{count} episodes"


def _shards(count: int) -> str:
    return f"{count} shard{'' if count == 1 else 's'}"


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"


def _command(verb: str, dataset: Path, *words: str) -> str:
    return " ".join(_quoted(word) for word in ("shopfloor", *verb.split(), str(dataset), *words))


def _quoted(word: str) -> str:
    """Quote a word for a shell, expressions in the way people write them."""
    return (
        f'"{word}"'
        if "'" in word and not set(word.replace("!=", "")) & set('"$`\\!')
        else shlex.quote(word)
    )


COMMANDS: Mapping[str, Callable[[Any], int]] = {
    "data info": info,
    "data verify": verify,
    "data repair": repair,
    "data compact": compact,
    "data merge": merge,
    "data split": split,
    "data filter": filter_,
    "data delete": delete,
    "data purge": purge,
    "data relabel": relabel,
    "data export": export,
    "data import": import_,
    "data replay": replay,
    "data render": render,
    "data quality": quality,
}
