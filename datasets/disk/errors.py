"""What can be wrong with a dataset: one leaf class per cause, all of them `ShopfloorError`."""

from __future__ import annotations

from shopfloor.core import ShopfloorError


class NotADatasetError(ShopfloorError):
    """A folder that is no dataset: no `dataset.json`, or it holds something else."""


class FormatVersionError(ShopfloorError):
    """A dataset or file of a format version this release does not know."""


class DamagedFileError(ShopfloorError):
    """A file that is truncated, altered or incomplete; the message says which and what to do.

    Attributes:
        file: full name of the file.
        problem: what is wrong with it.
        advice: what to do.
    """

    exit_code = 1

    def __init__(self, file: object, problem: str, advice: str = "") -> None:
        """Name the `file`, the `problem` and the way out."""
        self.file = str(file)
        self.problem = problem
        self.advice = advice or (
            "Other episodes are not affected. Move the file out of the dataset, or restore it from a copy; running the "
            "command that collected it again records a missing episode anew."
        )
        super().__init__(f"{self.file} is damaged: {problem}. {self.advice}")

    def __reduce__(self) -> tuple[type[DamagedFileError], tuple[str, str, str]]:
        """Keep the error whole when a worker process sends it."""
        return type(self), (self.file, self.problem, self.advice)


class UnsafeFileError(DamagedFileError):
    """A file with something that is never read: a link, external storage, an unknown filter, an absurd size."""

    exit_code = 2

    def __init__(self, file: object, problem: str, advice: str = "") -> None:
        """Name the `file` and the feature that is refused."""
        super().__init__(
            file,
            problem,
            advice or "No committed episode has this; do not trust where the file is from.",
        )
