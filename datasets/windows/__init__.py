"""Random windows of episodes, to train on."""

from shopfloor.datasets.windows.windows import Windows

__all__ = ["Windows"]
