"""What each `shopfloor data VERB` does: one Python call, then a line or a JSON document that says what came of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shopfloor.core import InvalidInputError
from shopfloor.launch import data_verbs as verbs
from shopfloor.launch.console import note, print_json

SCHEMA_VERSION = 1
SHOWN = 10  # names in a line for people; --json has all


def run(verb: str, arguments: Any) -> int:  # noqa: ANN401  # the verb's own dataclass
    """Run `shopfloor data VERB`.

    A damaged dataset is bad input to every verb but `verify`, whose finding it is.
    """
    from shopfloor.datasets.errors import DamagedFileError

    try:
        return COMMANDS[verb](arguments)
    except DamagedFileError as error:
        if verb == "data verify":
            raise
        raise InvalidInputError(str(error)) from error


# --------------------------------------------------------------------------------------------------------------------
# What is there, and is it whole
# --------------------------------------------------------------------------------------------------------------------


def info(arguments: verbs.Info) -> int:
    """Print a dataset's figures."""
    from shopfloor.datasets.reader import Dataset

    found = Dataset(arguments.dataset).info()
    if arguments.json:
        print_json(found)
        return 0
    for key, value in found.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        text = ", ".join(map(str, text)) if isinstance(text, list) else text
        print(f"{key:15} {text if text not in ('', None) else '-'}")
    return 0


def verify(arguments: verbs.Verify) -> int:
    """Check a dataset, byte by byte."""
    from shopfloor.datasets.reader import Dataset
    from shopfloor.datasets.verify import verify as check

    damage = check(arguments.dataset)
    if arguments.json:
        found = [{"file": entry.file, "problem": entry.problem, "advice": entry.advice} for entry in damage]
        print_json({"schema_version": SCHEMA_VERSION, "sound": not damage, "damage": found})
    elif damage:
        for entry in damage:
            print(entry.file)
            note(f"{entry.file}: {entry.problem}. {entry.advice}")
    else:
        print(f"sound: {_episodes(len(Dataset(arguments.dataset)))}")
    return 1 if damage else 0


def repair(arguments: verbs.Repair) -> int:
    """Set damaged files aside and list the whole ones."""
    from shopfloor.datasets.repair import repair as call

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
        note("The command that collected the dataset makes lost episodes again; so do copies of their files.")
    return 0


# --------------------------------------------------------------------------------------------------------------------
# New datasets out of old ones
# --------------------------------------------------------------------------------------------------------------------


def merge(arguments: verbs.Merge) -> int:
    """Join datasets."""
    from shopfloor.datasets.merge import merge as call

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
    from shopfloor.datasets.copies import split as call

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
            raise InvalidInputError(f"--shares has {text!r}; expected PART=SHARE, such as train=0.8.") from None
        if part in shares:
            raise InvalidInputError(f"--shares names the part {part!r} twice.")
        shares[part] = value
    return shares


def filter_(arguments: verbs.Filter) -> int:
    """Keep some episodes, in a copy or a view."""
    from shopfloor.datasets.copies import filter_episodes

    if (arguments.out is None) == (arguments.view is None):
        raise InvalidInputError("Give either --out FOLDER for a copy or --view FILE for a view, a small overlay file.")
    done = filter_episodes(
        arguments.dataset, arguments.where, out=arguments.out, view=arguments.view, overlays=arguments.overlays
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


# --------------------------------------------------------------------------------------------------------------------
# Second thoughts
# --------------------------------------------------------------------------------------------------------------------


def delete(arguments: verbs.Delete) -> int:
    """Leave episodes out, or take that back."""
    from shopfloor.datasets import edit

    dataset, where, ids = arguments.dataset, arguments.where, arguments.ids
    if arguments.undo:
        if arguments.reason:
            raise InvalidInputError("--reason says why episodes are left out; leave it away with --undo.")
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
        print(f"{dataset}: {_episodes(done.changed)} left out by overlays/{done.overlay.name}; no file was removed")
        chosen = [*(["--where", where] if where else []), *(["--ids", *ids] if ids else [])]
        print(f"to take it back:     {_command('data delete', dataset, '--undo', *chosen)}")
        print(f"to remove for good:  {_command('data purge', dataset)}")
    return 0


def purge(arguments: verbs.Purge) -> int:
    """Remove deleted episodes for good."""
    from shopfloor.datasets.purge import purge as call

    done = call(arguments.dataset)
    if arguments.json:
        _document(done.to_json())
    elif not done.episodes and not done.bytes:
        print(f"{arguments.dataset}: nothing to remove; `shopfloor data delete` says which episodes to leave out")
    else:
        print(
            f"{arguments.dataset}: {_episodes(done.episodes)} removed for good, {done.bytes:,} bytes freed; "
            "collect does not make them again"
        )
    return 0


def relabel(arguments: verbs.Relabel) -> int:
    """Call episodes otherwise."""
    from shopfloor.datasets.edit import relabel as call

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


# --------------------------------------------------------------------------------------------------------------------
# Other tools' formats
# --------------------------------------------------------------------------------------------------------------------


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


# --------------------------------------------------------------------------------------------------------------------
# Words
# --------------------------------------------------------------------------------------------------------------------


def _document(result: Mapping[str, Any]) -> None:
    print_json({"schema_version": SCHEMA_VERSION, **result})


def _episodes(count: int) -> str:
    return f"{count} episode" if count == 1 else f"{count} episodes"


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"


def _command(verb: str, dataset: Path, *words: str) -> str:
    return shlex.join(["shopfloor", *verb.split(), str(dataset), *words])


COMMANDS: Mapping[str, Callable[[Any], int]] = {
    "data info": info,
    "data verify": verify,
    "data repair": repair,
    "data merge": merge,
    "data split": split,
    "data filter": filter_,
    "data delete": delete,
    "data purge": purge,
    "data relabel": relabel,
    "data export": export,
    "data import": import_,
}
