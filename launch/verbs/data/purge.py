"""`shopfloor data purge`: removes deleted episodes for good."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.launch.later import Later
from shopfloor.launch.verbs.data.telling import episodes, print_document
from shopfloor.launch.verbs.flags import Source

tools = Later("shopfloor.datasets.tools.purge")


@dataclass(frozen=True)
class Purge:
    """Remove the files of deleted episodes, for good. No other episode is ever in danger. Run again if stopped.

    Attributes:
        dataset: dataset folder.
        json: print one JSON document on standard output.
    """

    dataset: Source
    json: bool = False


def run(arguments: Purge) -> int:
    """Remove deleted episodes for good."""
    done = tools.purge(arguments.dataset)
    if arguments.json:
        print_document(done.to_json())
        return 0

    if not done.episodes and not done.bytes:
        print(
            f"{arguments.dataset}: nothing to remove; `shopfloor data delete` says which episodes "
            "to leave out"
        )

        return 0

    size = f"{done.bytes:,} bytes freed"
    if done.bytes < 0:  # what else their shards held is in files of its own now
        size = (
            f"the rest of their shards takes {-done.bytes:,} bytes more until "
            "`shopfloor data compact`"
        )

    gone = f"{episodes(done.episodes)} removed for good"
    print(f"{arguments.dataset}: {gone}, {size}; collect does not make them again")
    return 0
