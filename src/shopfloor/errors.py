"""The errors that a user can cause or meet. Imports nothing heavy, so that a command line may start with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Least likeness of two names, 0 to 1, at which one may be the other misspelt: "franka" (0.55) is
# not "panda", "Kit" (0.6) may be "Kitting".
NEAR = 0.6


class ShopfloorError(Exception):
    """Base of every error a user can cause or meet; the command line prints it without a traceback.

    Attributes:
        exit_code: what the command line exits with (2 usage or bad input, 3 infrastructure).
    """

    exit_code = 2


class UnknownNameError(ShopfloorError):
    """A name that is not in a closed list; the message suggests the nearest one."""

    def __init__(self, kind: str, name: str, known: Iterable[str], advice: str = "") -> None:
        """Say which `kind` of thing `name` was meant to be, what is `known`, and what else can be done."""
        choices = sorted(known)
        near = difflib.get_close_matches(
            name.lower(), [choice.lower() for choice in choices], n=1, cutoff=NEAR
        )
        nearest = next((choice for choice in choices if near and choice.lower() == near[0]), None)
        hint = f" Did you mean {nearest!r}?" if nearest else ""
        super().__init__(
            f"Unknown {kind} {name!r}.{hint} Known: "
            f"{', '.join(choices) or 'none'}.{advice and ' '}{advice}"
        )


class InvalidInputError(ShopfloorError):
    """An argument, option or input value that cannot be used."""


class MissingDependencyError(ShopfloorError):
    """An optional package or a weight file is not installed; the message names the command that installs it."""


def install_command(extras: str) -> str:
    """Return the command that installs some extras ("policies", "policies,export"), and where to run it."""
    return f"`pip install -e '.[{extras}]'` in your clone of shopfloor's repository"


class InfrastructureError(ShopfloorError):
    """The machine, not the policy, failed: disk full, worker lost, simulator crashed."""

    exit_code = 3


class DiskError(InfrastructureError):
    """Writing failed (full disk, read-only or broken file system); nothing reported as saved is lost."""


class CancelledError(ShopfloorError):
    """A signal asked the run to stop; everything reported as saved is on disk and the run can be resumed."""

    def __init__(self, signum: int) -> None:
        """Remember the signal: the exit code is 128 + its number."""
        super().__init__(
            f"Stopped by signal {signum}. Saved episodes are safe; run the same command again to "
            "continue."
        )
        self.exit_code = 128 + signum
