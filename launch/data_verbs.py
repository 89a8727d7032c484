"""The flags of `shopfloor data VERB`: one frozen dataclass each, as in `verbs`; each verb is one Python call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

Source = Positional[Annotated[Path, arg(name="dataset", metavar="DATASET")]]
Where = Annotated[str | None, arg(metavar="EXPRESSION")]
Overlays = Annotated[tuple[Path, ...], arg(name="overlay", metavar="FILE [FILE ...]")]
Ids = Annotated[tuple[str, ...], arg(metavar="ID [ID ...]")]
Names = Annotated[tuple[str, ...], arg(metavar="NAME [NAME ...]")]


@dataclass(frozen=True)
class Info:
    """Say what a dataset holds; reads no episode.

    Attributes:
        dataset: dataset folder.
        json: print one JSON document on standard output.
    """

    dataset: Source
    json: bool = False


@dataclass(frozen=True)
class Verify:
    """Check every byte of a dataset. Exit 0: sound; 1: damage, each file's name on its own line; 2: not a dataset.

    Attributes:
        dataset: dataset folder.
        deep: also execute the actions of some episodes again and compare every simulator state, bit
            for bit.
        sample: with --deep: how many episodes, drawn at random; 0 for all.
        seed: with --deep: of that draw.
        workers: with --deep: processes; the result is the same for any number.
        json: print one JSON document on standard output.
    """

    dataset: Source
    deep: bool = False
    sample: int = 10
    seed: int = 0
    workers: int = 1
    json: bool = False


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


@dataclass(frozen=True)
class Compact:
    """Bundle episode files into shards; no file goes before its episodes were read back and compared.

    Attributes:
        dataset: dataset folder.
        layout: sealed: chunks, compression and checksums stay as they are. train: uncompressed and
            flat, several times as large, fastest to train from.
        out: new dataset folder, all of shards; the source stays as it is (default: in place).
        shard_mb: most megabytes in a shard; building one takes three times that much memory.
        json: print one JSON document on standard output.
    """

    dataset: Source
    layout: Literal["sealed", "train"] = "sealed"
    out: Path | None = None
    shard_mb: int = 256
    json: bool = False


@dataclass(frozen=True)
class Merge:
    """Join datasets into a new one, with the proof that no episode was lost. The sources stay as they are.

    Attributes:
        datasets: two or more dataset folders whose actions and features mean the same.
        out: new dataset folder.
        json: print one JSON document on standard output.
    """

    datasets: Positional[Annotated[tuple[Path, ...], arg(metavar="DATASET [DATASET ...]")]]
    out: Path
    json: bool = False


@dataclass(frozen=True)
class Split:
    """Divide a dataset into parts, each a new dataset, such that no initial state is in two of them.

    Attributes:
        dataset: dataset folder.
        out: new folder; each part becomes a dataset in it, such as OUT/train.
        shares: parts and their shares of the episodes, together 1.
        by: what keeps episodes together besides equal initial states: their seed, or their
            variation.
        seed: another one gives other parts.
        overlays: overlay files (views) that hold, too.
        json: print one JSON document on standard output.
    """

    dataset: Source
    out: Path
    shares: Annotated[tuple[str, ...], arg(metavar="PART=SHARE [PART=SHARE ...]")] = (
        "train=0.8",
        "valid=0.1",
        "test=0.1",
    )
    by: Literal["seed", "variation"] = "seed"
    seed: int = 0
    overlays: Overlays = ()
    json: bool = False


@dataclass(frozen=True)
class Filter:
    """Keep some episodes: as a copy (--out), or as a view (--view), a small file that train --overlay takes.

    Attributes:
        dataset: dataset folder.
        where: which to keep, such as "outcome == 'success' and steps < 80".
        out: new dataset folder for a copy.
        view: new file for a view.
        overlays: overlay files (views) that hold, too.
        json: print one JSON document on standard output.
    """

    dataset: Source
    where: Annotated[str, arg(metavar="EXPRESSION")]
    out: Path | None = None
    view: Path | None = None
    overlays: Overlays = ()
    json: bool = False


@dataclass(frozen=True)
class Delete:
    """Leave episodes out from now on. Their files stay, and --undo takes them back, until data purge removes them.

    Attributes:
        dataset: dataset folder.
        where: which episodes, such as "reason == 'dropped'".
        ids: episode ids, or beginnings of at least 8 characters.
        reason: why, for people.
        undo: take back: the episodes chosen, among those that were left out, count again.
        json: print one JSON document on standard output.
    """

    dataset: Source
    where: Where = None
    ids: Ids = ()
    reason: str = ""
    undo: bool = False
    json: bool = False


@dataclass(frozen=True)
class Purge:
    """Remove the files of deleted episodes, for good. No other episode is ever in danger. Run again if stopped.

    Attributes:
        dataset: dataset folder.
        json: print one JSON document on standard output.
    """

    dataset: Source
    json: bool = False


@dataclass(frozen=True)
class Relabel:
    """Give episodes another instruction, outcome or reason. Their files stay as they are: an overlay says it.

    Attributes:
        dataset: dataset folder.
        where: which episodes, such as "seed == 7".
        ids: episode ids, or beginnings of at least 8 characters.
        instruction: new instruction.
        outcome: new outcome.
        reason: new failure reason, such as dropped or timeout.
        json: print one JSON document on standard output.
    """

    dataset: Source
    where: Where = None
    ids: Ids = ()
    instruction: str | None = None
    outcome: Literal["success", "failure"] | None = None
    reason: str | None = None
    json: bool = False


@dataclass(frozen=True)
class Export:
    """Write a dataset in another tool's format.

    Attributes:
        dataset: dataset folder.
        to: format, such as robomimic or lerobot; an unknown one lists all.
        out: new file or folder; made whole or not at all.
        actions: executed: what the robot was told; label: the teacher's command where there is one.
        keys: observation keys to write (default: all).
        where: which episodes, such as "outcome == 'success'" (default: all).
        overlays: overlay files (views) that hold, too.
        valid: share of the episodes that is marked for validation, where the format can.
        pictures: how pictures are stored, where the format has a choice (default: the format's
            own).
        seed: of the draw for validation.
        json: print one JSON document on standard output.
    """

    dataset: Source
    to: Annotated[str, arg(metavar="FORMAT")]
    out: Path
    actions: Literal["executed", "label"] = "executed"
    keys: Names = ()
    where: Where = None
    overlays: Overlays = ()
    valid: float = 0.0
    pictures: Literal["video", "png", "raw"] | None = None
    seed: int = 0
    json: bool = False


@dataclass(frozen=True)
class Import:
    """Read another tool's files into a new dataset.

    Attributes:
        path: file or folder of the other tool.
        source_format: format, such as robomimic or lerobot; an unknown one lists all.
        out: new dataset folder; made whole or not at all.
        action_convention: id of what the actions mean, where the source does not say it (default:
            unspecified).
        cast: round numbers that float32 cannot hold exactly, instead of refusing them.
        cell: cell id of the episodes (default: made of what the source says).
        codec: compression of the episode files.
        instruction: text for episodes that have none.
        json: print one JSON document on standard output.
    """

    path: Positional[Path]
    source_format: Annotated[str, arg(name="from", metavar="FORMAT")]
    out: Path
    action_convention: Annotated[str | None, arg(metavar="NAME")] = None
    cast: bool = False
    cell: str | None = None
    codec: Literal["blosc", "gzip", "none"] = "blosc"
    instruction: str | None = None
    json: bool = False


@dataclass(frozen=True)
class Replay:
    """Execute recorded actions again: same states, bit for bit? Success again? Exit 1 where states differ.

    Attributes:
        dataset: dataset folder.
        where: which episodes, such as "cell == 'shopfloor/Kitting-v0'" (default: all).
        ids: episode ids, or beginnings of at least 8 characters.
        sample: only so many of them, drawn at random (default: all).
        seed: of that draw.
        overlays: overlay files (views) that hold, too.
        workers: processes; the result is the same for any number.
        json: print one JSON document on standard output.
        quiet: no progress.
    """

    dataset: Source
    where: Where = None
    ids: Ids = ()
    sample: int | None = None
    seed: int = 0
    overlays: Overlays = ()
    workers: int = 1
    json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Render:
    """Make a dataset with pictures out of one without: the very files that collect --cameras would have written.

    Attributes:
        dataset: dataset folder; its episodes need simulator states.
        out: new dataset folder; made whole or not at all.
        cameras: names with commas (front,wrist).
        size: height and width of the pictures in pixels.
        where: which episodes, such as "outcome == 'success'" (default: all).
        overlays: overlay files (views) that hold, too.
        codec: compression of the new files.
        workers: processes; the files are the same for any number.
        json: print one JSON document on standard output.
        quiet: no progress.
    """

    dataset: Source
    out: Path
    cameras: str = "front,wrist"
    size: tuple[int, int] = (96, 96)
    where: Where = None
    overlays: Overlays = ()
    codec: Literal["blosc", "gzip", "none"] = "blosc"
    workers: int = 1
    json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Quality:
    """Judge episodes: idle time, jerk, paths, gripper, clock, cameras, copies, labels; say which to leave out, and why.

    Attributes:
        dataset: dataset folder; nothing in it is changed.
        out: new folder for quality.html, quality.json and view.json, a view that train --overlay
            takes.
        where: which episodes, such as "cell == 'Kitting'" (default: all).
        overlays: overlay files (views) that hold, too.
        no_replay: do not execute actions again to check the success labels; that takes about as
            long as collecting.
        workers: processes that replay; the result is the same for any number.
        seed: of all draws.
        json: print one JSON document on standard output.
        quiet: no progress.
    """

    dataset: Source
    out: Path | None = None
    where: Where = None
    overlays: Overlays = ()
    no_replay: bool = False
    workers: int = 1
    seed: int = 0
    json: bool = False
    quiet: bool = False


DATA_VERBS: dict[str, type] = {
    "data info": Info,
    "data verify": Verify,
    "data repair": Repair,
    "data compact": Compact,
    "data merge": Merge,
    "data split": Split,
    "data filter": Filter,
    "data delete": Delete,
    "data purge": Purge,
    "data relabel": Relabel,
    "data export": Export,
    "data import": Import,
    "data replay": Replay,
    "data render": Render,
    "data quality": Quality,
}
