"""duly: a bounded worker pool in which every task gets exactly one answer, in time.

    import duly

    with duly.Pool(workers=4, capacity=64, default_timeout=2.0) as pool:
        task = pool.submit(sum, [1, 2, 3])
        assert task.result() == 6

A task ends at the earliest of: its callback returned, its deadline passed, it was cancelled, the pool was shut down.
"""

from duly import _exit
from duly._duly import (
    Late,
    Periodic,
    PeriodicStats,
    Queue,
    QueueStats,
    ShutdownReport,
    Stalled,
    Stats,
    Task,
    TaskContext,
    TaskRecord,
    Unobserved,
    WorkerInfo,
    __version__,
    check_cancelled,
    current_task,
    wait_all,
    wait_any,
)
from duly._errors import (
    Abandoned,
    Cancelled,
    DeadlineExceeded,
    DulyError,
    Interrupted,
    InvalidArgument,
    NativeFailed,
    Panicked,
    QueueFull,
    Shed,
    ShutDown,
    SubmitTimedOut,
    WaitTimeout,
    WouldDeadlock,
)
from duly._flight import SharedFunction, SingleFlight, single_flight
from duly._group import Group, GroupFailed
from duly._scope import CancelScope
from duly.executor import Future, ThreadPoolExecutor
from duly.pool import BoundPool, Every, NativePool, Pool, TaskFunction

__all__ = [
    "Abandoned",
    "BoundPool",
    "CancelScope",
    "Cancelled",
    "DeadlineExceeded",
    "DulyError",
    "Every",
    "Future",
    "Group",
    "GroupFailed",
    "Interrupted",
    "InvalidArgument",
    "Late",
    "NativeFailed",
    "NativePool",
    "Panicked",
    "Periodic",
    "PeriodicStats",
    "Pool",
    "Queue",
    "QueueFull",
    "QueueStats",
    "SharedFunction",
    "Shed",
    "ShutDown",
    "ShutdownReport",
    "SingleFlight",
    "Stalled",
    "Stats",
    "SubmitTimedOut",
    "Task",
    "TaskContext",
    "TaskFunction",
    "TaskRecord",
    "ThreadPoolExecutor",
    "Unobserved",
    "WaitTimeout",
    "WorkerInfo",
    "WouldDeadlock",
    "__version__",
    "check_cancelled",
    "current_task",
    "single_flight",
    "wait_all",
    "wait_any",
]

# Tracebacks and reprs name what people import: duly.QueueFull, not duly._errors.QueueFull.
for _public in [globals()[_name] for _name in __all__]:
    if isinstance(_public, type) and _public.__module__.startswith("duly."):
        _public.__module__ = "duly"

_exit.install()
