"""Who runs jobs: this process, or a pool of others."""

from shopfloor.collectors.executors.local import (
    Executor,
    LocalExecutor,
    SerialExecutor,
    make_executor,
)

__all__ = ["Executor", "LocalExecutor", "SerialExecutor", "make_executor"]
