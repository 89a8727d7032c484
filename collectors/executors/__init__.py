"""Who runs jobs: this process, or a pool of others; `make_executor` is the one door."""

from shopfloor.collectors.executors.engine import Executor, make_executor
from shopfloor.collectors.executors.local import LocalExecutor
from shopfloor.collectors.executors.serial import SerialExecutor

__all__ = ["Executor", "LocalExecutor", "SerialExecutor", "make_executor"]
