"""duly: a bounded worker pool in which every task gets exactly one answer, in time.

    import duly

    with duly.Pool(workers=4, capacity=64, default_timeout=2.0) as pool:
        task = pool.submit(sum, [1, 2, 3])
        assert task.result() == 6

A task ends at the earliest of: its callback returned, its deadline passed, it was cancelled, the pool was shut down.
"""

from duly import _exit
from duly._duly import (
    BoundPool,
    Pool,
    ShutdownReport,
    Stats,
    Task,
    TaskContext,
    TaskRecord,
    __version__,
    check_cancelled,
    current_task,
)
from duly._errors import (
    Abandoned,
    Cancelled,
    DeadlineExceeded,
    DulyError,
    InvalidArgument,
    Panicked,
    QueueFull,
    Shed,
    ShutDown,
    SubmitTimedOut,
    WaitTimeout,
    WouldDeadlock,
)

__all__ = [
    "Abandoned",
    "BoundPool",
    "Cancelled",
    "DeadlineExceeded",
    "DulyError",
    "InvalidArgument",
    "Panicked",
    "Pool",
    "QueueFull",
    "Shed",
    "ShutDown",
    "ShutdownReport",
    "Stats",
    "SubmitTimedOut",
    "Task",
    "TaskContext",
    "TaskRecord",
    "WaitTimeout",
    "WouldDeadlock",
    "__version__",
    "check_cancelled",
    "current_task",
]

# Tracebacks and reprs name what people import: duly.QueueFull, not duly._errors.QueueFull.
for _name in __all__:
    _public = globals()[_name]
    if isinstance(_public, type) and _public.__module__ == "duly._errors":
        _public.__module__ = "duly"
del _name, _public

_exit.install()
