"""How a broken contract is reported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from shopfloor.core import ShopfloorError


class ConformityError(ShopfloorError):
    """A cell or a policy does not keep its contract; the message says where, what was found and expected."""


def demand(holds: object, where: str, found: str, expected: str, advice: str) -> None:
    """Raise a ConformityError unless something holds.

    Args:
        holds: the condition.
        where: cell or policy, and the moment.
        found: what is there, with its value.
        expected: what the contract says.
        advice: what to do about it, a sentence.
    """
    if not holds:
        raise ConformityError(f"{where}: {found}; expected {expected}. {advice}")


def demand_members(thing: object, members: Sequence[str], protocol: str, advice: str) -> None:
    """Demand that an object has the members of a protocol."""
    missing = [name for name in members if not hasattr(thing, name)]
    found = f"there is no {', '.join(missing)}"
    demand(not missing, type(thing).__name__, found, f"the members of {protocol}", advice)


@contextlib.contextmanager
def no_exception(where: str, call: str) -> Iterator[None]:
    """Report an exception of what is checked."""
    try:
        yield
    except Exception as error:
        raise ConformityError(
            f"{where}: {call} raised {type(error).__name__}: {error}; expected no exception. "
            "Correct what the traceback shows."
        ) from error
