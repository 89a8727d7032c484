"""`shopfloor VERB`: finds the verb, parses its flags, runs it, and returns an exit code."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import tyro

from shopfloor import __version__, platforms
from shopfloor.datasets.disk.errors import DamagedFileError
from shopfloor.errors import (
    InfrastructureError,
    InvalidInputError,
    ShopfloorError,
    UnknownNameError,
    install_command,
)
from shopfloor.launch.console import note
from shopfloor.launch.later import Later
from shopfloor.launch.verbs import VERBS

Run: TypeAlias = Callable[[Any], int]

stopping = Later("shopfloor.launch.stopping")

UNLIMITED = ("cells", "view")  # verbs that do the same on every operating system
WHOLE_LINES = "1000"  # columns; longer than any line of help
USAGE = "usage: shopfloor VERB [flags]        shopfloor VERB --help explains a verb"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None takes the process's own.

    Returns:
        The exit code: 0 fine; 1 a threshold or gate not met, damage found; 2 usage or bad input;
            3 infrastructure failures; 130 / 143 stopped by a signal.
    """
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )

    try:
        return _main(list(sys.argv[1:] if arguments is None else arguments))
    except ShopfloorError as error:
        note(f"shopfloor: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        note("shopfloor: stopped. Saved episodes are safe; run the same command again to continue.")
        return 130
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("shopfloor"):
            raise

        note(
            f"shopfloor: the package {error.name!r} is not installed, and this verb needs it. "
            f"Install it, or all that verbs need with {install_command('policies,export')}."
        )

        return InvalidInputError.exit_code
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        note(
            f"shopfloor: {error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        )
        return InfrastructureError.exit_code


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(overview(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"shopfloor {__version__}")
        return 0

    verb, rest = find_verb(arguments)
    if verb is None:
        print(overview("data"))
        return 0

    run = load(verb)
    parsed = parse(flags_of(run), verb, rest)
    if isinstance(parsed, int):
        return parsed

    if verb not in UNLIMITED and (limits := platforms.limits()):
        note(f"shopfloor: {limits}")
    with stopping.stopping_in_time():
        return _run(verb, run, parsed)


def _run(verb: str, run: Run, parsed: Any) -> int:  # noqa: ANN401  # the verb's own dataclass
    """Run a verb; damage is bad input to every `data` verb but `verify`, whose finding it is."""
    try:
        return run(parsed)
    except DamagedFileError as error:
        if not verb.startswith("data ") or verb == "data verify":
            raise
        raise InvalidInputError(str(error)) from error


def find_verb(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Split off the verb; None is a group whose help was asked for.

    Raises:
        UnknownNameError: for a verb that does not exist; it names the nearest.
    """
    first = arguments[0]
    if first in VERBS:
        return first, arguments[1:]

    groups = {verb.split()[0] for verb in VERBS if " " in verb}
    if first not in groups:
        raise UnknownNameError("verb", first, {verb.split()[0] for verb in VERBS})
    if len(arguments) > 1 and arguments[1] in ("--help", "-h"):
        return None, []

    known = {verb.split()[1] for verb in VERBS if verb.startswith(f"{first} ")}
    if len(arguments) == 1:
        raise InvalidInputError(f"`shopfloor {first}` needs one of: {', '.join(sorted(known))}.")

    second = arguments[1]
    if second not in known:
        raise UnknownNameError(f"verb of `shopfloor {first}`", second, known)
    return f"{first} {second}", arguments[2:]


def load(verb: str) -> Run:
    """Import a verb's file, and no other's, and return its `run`."""
    run: Run = importlib.import_module(VERBS[verb]).run
    return run


def flags_of(run: Run) -> type:
    """Return the dataclass of a verb's flags: what its `run` takes."""
    kind: type = inspect.get_annotations(run, eval_str=True)["arguments"]
    return kind


def overview(group: str = "") -> str:
    """Return the text of `shopfloor --help`, or of `shopfloor data --help`."""
    shown = [verb for verb in VERBS if verb.startswith(group)]
    width = max(map(len, shown))
    return "\n".join(
        [
            "shopfloor: an open data flywheel for robots in factories and warehouses",
            "",
            USAGE,
            "",
            *(f"  {verb.ljust(width)}  {_summary(verb)}" for verb in shown),
            "",
            "  --version  print the version",
            "",
            "exit codes: 0 fine, 1 threshold or gate not met or damage found, 2 usage or bad input,",
            "            3 infrastructure failures, 130 / 143 stopped by a signal",
        ]
    )


def _summary(verb: str) -> str:
    return (flags_of(load(verb)).__doc__ or "").strip().splitlines()[0]


def parse(kind: type, verb: str, arguments: list[str]) -> Any:  # noqa: ANN401  # an instance of `kind`, or an exit code
    """Parse a verb's flags with tyro.

    Returns:
        An instance of `kind`, or the exit code where help or an error was printed.
    """
    config = [tyro.conf.DisallowNone]
    if verb != "view":
        config.append(tyro.conf.FlagCreatePairsOff)

    terminal = sys.stdout.isatty() and sys.stderr.isatty()
    with contextlib.nullcontext() if terminal else _plain():
        try:
            return tyro.cli(kind, prog=f"shopfloor {verb}", args=arguments, config=config)
        except SystemExit as stop:
            return int(stop.code or 0)


@contextlib.contextmanager
def _plain() -> Iterator[None]:
    """Have tyro print whole lines without frames, colour and trailing blanks, as it does into a buffer."""
    out, err = io.StringIO(), io.StringIO()
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WHOLE_LINES

    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield
    finally:
        del os.environ["COLUMNS"]
        if columns is not None:
            os.environ["COLUMNS"] = columns

        for buffer, stream in ((out, sys.stdout), (err, sys.stderr)):
            for line in buffer.getvalue().rstrip().splitlines():
                print(line.rstrip(), file=stream)
