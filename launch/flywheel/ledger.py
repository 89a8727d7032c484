"""The ledger: which episodes made which dataset, which datasets which checkpoint, and why it was promoted.

One SQLite file. Every step of a run is recorded once, under a unique key, in the same transaction
as the rows it produced: a step that was killed leaves no trace here and is simply run again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from shopfloor.core import DiskError, InvalidInputError

FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS steps (
    key TEXT PRIMARY KEY,            -- such as "turn-1/collect/shopfloor/PickToTray-v0"
    position INTEGER NOT NULL,       -- order in which the steps were finished
    result TEXT NOT NULL             -- JSON, what the step returned
);
CREATE TABLE IF NOT EXISTS datasets (
    name TEXT PRIMARY KEY,           -- folder, relative to the run
    cell TEXT NOT NULL,
    purpose TEXT NOT NULL,           -- train, gate, report
    turn INTEGER NOT NULL,
    episodes INTEGER NOT NULL,
    steps INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS episodes (
    dataset TEXT NOT NULL REFERENCES datasets(name),
    episode_id TEXT NOT NULL,
    file TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    seed INTEGER NOT NULL,
    policy_digest TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    steps INTEGER NOT NULL,
    expert_steps INTEGER NOT NULL,
    PRIMARY KEY (dataset, episode_id)
);
CREATE TABLE IF NOT EXISTS checkpoints (
    name TEXT PRIMARY KEY,           -- folder, relative to the run
    digest TEXT NOT NULL,
    parent TEXT REFERENCES checkpoints(name),
    turn INTEGER NOT NULL,
    arm TEXT NOT NULL                -- loop, or control
);
CREATE TABLE IF NOT EXISTS checkpoint_datasets (
    checkpoint TEXT NOT NULL REFERENCES checkpoints(name),
    dataset TEXT NOT NULL REFERENCES datasets(name),
    PRIMARY KEY (checkpoint, dataset)
);
CREATE TABLE IF NOT EXISTS evaluations (
    dataset TEXT PRIMARY KEY REFERENCES datasets(name),
    checkpoint TEXT NOT NULL REFERENCES checkpoints(name),
    seed_first INTEGER NOT NULL,
    episodes INTEGER NOT NULL,
    successes INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS decisions (
    turn INTEGER NOT NULL,
    cell TEXT NOT NULL,
    in_service TEXT NOT NULL REFERENCES checkpoints(name),
    candidate TEXT NOT NULL REFERENCES checkpoints(name),
    verdict TEXT NOT NULL,
    pairs INTEGER NOT NULL,
    gained INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    p_better REAL NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (turn, cell)
);
"""
Row = tuple[str, Mapping[str, Any]]


class Ledger:
    """A run's SQLite file; use it as a context manager.

    Rollback journal and full synchronisation: slower than a write-ahead log, but one file that
    survives a kill or a power cut, on network file systems too.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the ledger at `path`."""
        self.path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=10.0)
            self._connection.execute("PRAGMA journal_mode = DELETE")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()

            if version not in (0, FORMAT):
                raise InvalidInputError(
                    f"Ledger {path} has format {version}; this shopfloor reads format {FORMAT}."
                )
            self._connection.executescript(f"BEGIN;{_TABLES}PRAGMA user_version = {FORMAT};COMMIT;")
        except sqlite3.DatabaseError as error:
            if "disk" in str(error):  # full, or broken
                raise DiskError(
                    f"Ledger {path} could not be made: {error}. Free space, then run again."
                ) from error

            raise InvalidInputError(
                f"{path} is not a ledger shopfloor can use ({error}). Move it away, or give "
                "another --out."
            ) from error

    def __enter__(self) -> Ledger:
        """Return the open ledger."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def done(self, key: str) -> dict[str, Any] | None:
        """Return what the step `key` returned, or None if it has not been finished."""
        row = self._connection.execute("SELECT result FROM steps WHERE key = ?", (key,)).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def record(
        self, key: str, result: Mapping[str, Any], rows: Iterable[Row] = ()
    ) -> dict[str, Any]:
        """Record a finished step and its rows in one transaction.

        Args:
            key: unique key of the step.
            result: plain JSON data.
            rows: (table, column -> value) pairs; a row that is already there stays as it is.

        Returns:
            `result`, as read back from JSON.
        """
        text = json.dumps(result, sort_keys=True, allow_nan=False)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for table, row in rows:
                    self._insert(table, row)
                self._connection.execute(
                    "INSERT INTO steps SELECT ?, COALESCE(MAX(position), 0) + 1, ? FROM steps",
                    (key, text),
                )
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise DiskError(
                f"Ledger {self.path} could not be written: {error}. Free space, then run again."
            ) from error

        return dict(json.loads(text))

    def step(
        self,
        key: str,
        run: Callable[[], Mapping[str, Any]],
        rows: Callable[[dict[str, Any]], Iterable[Row]] | None = None,
    ) -> dict[str, Any]:
        """Return a step's recorded result; run and record it first if it has none.

        Args:
            key: unique key of the step.
            run: does the work; must be harmless to repeat, because it may be killed before it is
                recorded.
            rows: the lineage rows of a result.
        """
        known = self.done(key)
        if known is not None:
            return known

        result = dict(run())
        return self.record(key, result, rows(result) if rows else ())

    def rows(self, query: str, arguments: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a read-only query."""
        return self._connection.execute(query, arguments).fetchall()

    def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        marks = ", ".join("?" for _ in row)
        self._connection.execute(
            f"INSERT OR IGNORE INTO {table} ({', '.join(row)}) VALUES ({marks})",
            tuple(row.values()),
        )
