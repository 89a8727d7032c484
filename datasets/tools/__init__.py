"""What looks after datasets: each call is atomic and can be run again."""

from shopfloor.datasets.tools.compact import compact
from shopfloor.datasets.tools.copies import filter_episodes, split
from shopfloor.datasets.tools.edit import delete, relabel, restore
from shopfloor.datasets.tools.merge import merge
from shopfloor.datasets.tools.purge import purge
from shopfloor.datasets.tools.repair import repair

__all__ = [
    "compact",
    "delete",
    "filter_episodes",
    "merge",
    "purge",
    "relabel",
    "repair",
    "restore",
    "split",
]
