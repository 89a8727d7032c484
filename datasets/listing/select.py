"""Chooses episodes by an expression over their records, as `outcome == 'failure' and steps > 50`.

The text is parsed, never run: names are fields of `EpisodeRecord`, and only comparisons, `in`,
`and`, `or`, `not`, parentheses and plain values are known. Types are checked before the first
record is looked at.
"""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from shopfloor.core import InvalidInputError, UnknownNameError, listed
from shopfloor.datasets.format.record import EpisodeRecord, episode_ids

Where: TypeAlias = Callable[[EpisodeRecord], bool]

MIN_ID = 8  # shorter beginnings of ids fit by accident
MAX_BYTES = 4096
MAX_DEPTH = 40
_KINDS = {"str": "text", "int": "number", "float": "number", "bool": "truth value"}
_FIELDS = {field.name: _KINDS[str(field.type)] for field in fields(EpisodeRecord)}
_ORDER: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ALLOWED = (
    "fields, texts, numbers, True, False, comparisons, in (...), and, or, not and parentheses"
)


@dataclass(frozen=True)
class _Term:
    """A part of an expression.

    Attributes:
        kind: "text", "number" or "truth value", before which "list of " may stand ("list" alone: an
            empty one).
        value: record -> its value.
        cell: whether it is the field `cell`, which also goes by its bare name.
    """

    kind: str
    value: Callable[[EpisodeRecord], Any]
    cell: bool = False


def parse_where(text: str) -> Where:
    """Turn an expression into a test of an episode's record.

    Args:
        text: such as `cell == 'Kitting' and (outcome == 'failure' or 10 < steps <= 50) and seed not
            in (3, 4)`; names are the fields of `EpisodeRecord`. A cell may be given by its full id
            or its bare name. `a in b` with two texts asks whether b contains a.

    Returns:
        A function of a record.

    Raises:
        InvalidInputError: it is no such expression; the message says where.
        UnknownNameError: a name that is no field; suggests the nearest.
    """
    if not isinstance(text, str) or not text.strip():
        raise InvalidInputError(
            "The expression is empty; expected for example: outcome == 'failure' and steps > 50."
        )
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise InvalidInputError(
            f"The expression has more than {MAX_BYTES} bytes; select by a file of ids instead."
        )

    source = " ".join(text.split("\n")).strip()
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        what = (
            error.msg
            if isinstance(error, SyntaxError)
            else "it is nested too deep or holds what is no text"
        )

        column = (
            f" (column {error.offset})" if isinstance(error, SyntaxError) and error.offset else ""
        )
        raise InvalidInputError(
            f"The expression {source[:200]!r} cannot be read{column}: {what}. Known are {_ALLOWED}."
        ) from None

    term = _Parser(source).truth(tree.body, 0)
    return lambda record: bool(term(record))


def nearest_ids(wanted: str, known: Iterable[str]) -> list[str]:
    """Return up to three episode ids that a mistyped or shortened one may have meant."""
    known = sorted(known)
    starts = _starting(wanted, known) if wanted else []
    return starts[:3] or difflib.get_close_matches(wanted[:64], known, n=3, cutoff=0.6)


def _starting(start: str, known: Iterable[str]) -> list[str]:
    return sorted(one for one in known if one.startswith(start))


def resolve_id(wanted: str, known: Collection[str], place: object) -> str:
    """Return the episode id among the `known` ones that a text is, or is the beginning of.

    Args:
        wanted: an id, or its first characters, at least `MIN_ID`.
        known: whole ids.
        place: where they are, for the message.

    Raises:
        InvalidInputError: none or several fit.
    """
    if wanted in known:
        return wanted

    fitting = _starting(wanted, known) if len(wanted) >= MIN_ID else []
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InvalidInputError(
            f"Episode id {wanted!r} fits {len(fitting)} episodes of {place}: "
            f"{', '.join(fitting[:3])}; give more of it."
        )

    near = nearest_ids(wanted, known)
    raise InvalidInputError(
        f"{place} has no episode {wanted!r}. "
        + (f"Near ones: {', '.join(near)}." if near else "`data info` says what it holds.")
    )


def choose_records(
    records: Iterable[EpisodeRecord], where: str | None, ids: Iterable[str], place: object
) -> list[EpisodeRecord]:
    """Return the records that an expression selects and those of some ids; all with neither.

    Args:
        records: records of episodes, as in `Dataset.records`.
        where: an expression, see `parse_where`.
        ids: ids or beginnings, see `resolve_id`.
        place: the dataset, for messages.

    Raises:
        InvalidInputError: no such expression or id; nothing is selected.
    """
    records, ids = list(records), listed(ids)
    test = parse_where(where) if where is not None else lambda record: not ids
    known = episode_ids(records)
    named = {resolve_id(one, known, place) for one in ids}
    chosen = [record for record in records if record.episode_id in named or test(record)]

    if not chosen:
        raise InvalidInputError(
            f"{where!r:.200} selects none of the {len(records)} episodes of {place}; `data info` "
            "says what it holds."
            if records
            else f"{place} holds no episodes."
        )

    return chosen


class _Parser:
    """Turns the nodes of one expression into functions, by a closed list of what a node may be."""

    def __init__(self, source: str) -> None:
        self._source = source

    def _refuse(self, node: ast.AST, problem: str) -> InvalidInputError:
        part = ast.get_source_segment(self._source, node) or self._source
        return InvalidInputError(
            f"In the expression {self._source[:200]!r}: {part[:80]!r} {problem}."
        )

    def truth(self, node: ast.expr, depth: int) -> Callable[[EpisodeRecord], bool]:
        """Return what must be true or false."""
        term = self._term(node, depth)
        if term.kind != "truth value":
            raise self._refuse(node, f"is a {term.kind}; expected a comparison, such as steps > 50")
        return term.value

    def _term(self, node: ast.expr, depth: int) -> _Term:
        if depth > MAX_DEPTH:
            raise self._refuse(node, f"is nested deeper than {MAX_DEPTH}")
        if isinstance(node, ast.Name):
            return self._field(node)
        if isinstance(node, ast.BoolOp):
            return self._joined(node, depth)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self.truth(node.operand, depth + 1)
            return _Term("truth value", lambda record: not inner(record))

        if isinstance(node, ast.Compare):
            return self._compared(node, depth)
        if isinstance(node, ast.Tuple | ast.List):
            return self._list(node)

        kind, value = self._literal(node)
        return _Term(kind, lambda record: value)

    def _field(self, node: ast.Name) -> _Term:
        if node.id not in _FIELDS:
            raise UnknownNameError(
                "field", node.id, _FIELDS, "Texts need quotes, such as outcome == 'failure'."
            )
        return _Term(_FIELDS[node.id], operator.attrgetter(node.id), cell=node.id == "cell")

    def _joined(self, node: ast.BoolOp, depth: int) -> _Term:
        parts = [self.truth(value, depth + 1) for value in node.values]
        if isinstance(node.op, ast.And):
            return _Term("truth value", lambda record: all(part(record) for part in parts))
        return _Term("truth value", lambda record: any(part(record) for part in parts))

    def _literal(self, node: ast.expr) -> tuple[str, Any]:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            number = node.operand.value if isinstance(node.operand, ast.Constant) else None
            if isinstance(number, int | float) and not isinstance(number, bool):
                return "number", -number
        if isinstance(node, ast.Constant) and type(node.value).__name__ in _KINDS:
            return _KINDS[type(node.value).__name__], node.value
        raise self._refuse(node, f"is not known here; known are {_ALLOWED}")

    def _list(self, node: ast.Tuple | ast.List) -> _Term:
        kinds: set[str] = set()
        values = []
        for item in node.elts:
            kind, value = self._literal(item)
            kinds.add(kind)
            values.append(value)

        if len(kinds) > 1:
            raise self._refuse(node, f"mixes {' and '.join(sorted(kinds))}")
        return _Term(f"list of {kinds.pop()}" if kinds else "list", lambda record: values)

    def _compared(self, node: ast.Compare, depth: int) -> _Term:
        terms = [self._term(part, depth + 1) for part in (node.left, *node.comparators)]
        steps = []
        for op, left, right in zip(node.ops, terms[:-1], terms[1:], strict=True):
            steps.append(self._comparison(node, op, left, right))

        return _Term("truth value", lambda record: all(step(record) for step in steps))

    def _comparison(self, node: ast.Compare, op: ast.cmpop, left: _Term, right: _Term) -> Where:
        one, other = left.value, right.value
        if isinstance(op, ast.In | ast.NotIn):
            inside = self._membership(node, left, right)
            return inside if isinstance(op, ast.In) else lambda record: not inside(record)
        if left.kind != right.kind or left.kind.startswith("list"):
            raise self._refuse(node, f"compares a {left.kind} with a {right.kind}")
        if isinstance(op, ast.Eq | ast.NotEq):
            same = _same_cell if left.cell or right.cell else operator.eq
            wanted = isinstance(op, ast.Eq)
            return lambda record: same(one(record), other(record)) is wanted

        compare = _ORDER.get(type(op))
        if compare is None:
            raise self._refuse(node, "uses 'is'; expected == or !=")
        if left.kind == "truth value":
            raise self._refuse(node, "asks which truth value is larger")

        return lambda record: compare(one(record), other(record))

    def _membership(self, node: ast.Compare, left: _Term, right: _Term) -> Where:
        one, other = left.value, right.value
        if left.kind == right.kind == "text":
            return lambda record: one(record) in other(record)
        if right.kind not in ("list", f"list of {left.kind}"):
            raise self._refuse(node, f"looks for a {left.kind} in a {right.kind}")
        if left.cell:
            return lambda record: any(_same_cell(one(record), item) for item in other(record))
        return lambda record: one(record) in other(record)


def _same_cell(one: str, other: str) -> bool:
    """Compare cell ids, either of which may lack its namespace, or namespace and version."""
    return (
        bool(_cell_names(one) & _cell_names(other))
        if ("/" in one) != ("/" in other)
        else one == other
    )


def _cell_names(cell: str) -> set[str]:
    name = cell.rpartition("/")[2]
    bare, _, version = name.rpartition("-v")
    return {name, bare} if bare and version.isdecimal() and "/" in cell else {name}
