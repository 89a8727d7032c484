"""`shopfloor data split`: divides a dataset into parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from shopfloor.errors import InvalidInputError
from shopfloor.flags import NameList, Overlays
from shopfloor.launch.later import Later
from shopfloor.launch.verbs.data.telling import episodes, print_document
from shopfloor.launch.verbs.flags import Source

tools = Later("shopfloor.datasets.tools.copies")


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
    shares: Annotated[NameList, arg(metavar="PART=SHARE [PART=SHARE ...]")] = (
        "train=0.8",
        "valid=0.1",
        "test=0.1",
    )
    by: Literal["seed", "variation"] = "seed"
    seed: int = 0
    overlays: Overlays = ()
    json: bool = False


def run(arguments: Split) -> int:
    """Divide a dataset."""
    done = tools.split(
        arguments.dataset,
        arguments.out,
        shares=_shares(arguments.shares),
        by=arguments.by,
        seed=arguments.seed,
        overlays=arguments.overlays,
    )

    if arguments.json:
        print_document(done.to_json())
        return 0

    for part, count in done.parts.items():
        print(f"{done.path / part}: {episodes(count)}")
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
