"""pyarrow, or the command that installs it."""

from __future__ import annotations

from typing import Any, TypeAlias

from shopfloor.core import MissingDependencyError, install_command

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    raise MissingDependencyError(
        "LeRobot datasets are parquet files, for which pyarrow is needed. Install it with "
        f"{install_command('export')}."
    ) from None

__all__ = ["Arrow", "pa", "pq"]

Arrow: TypeAlias = Any  # pyarrow says nothing of its types
