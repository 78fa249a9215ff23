"""The native part of the package duly. Import duly, not this."""

from types import GenericAlias, TracebackType
from typing import Any, Callable, Generic, Literal, TypeVar, final

from typing_extensions import ParamSpec, Self, TypeAlias

_P = ParamSpec("_P")
_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)

_Outcome: TypeAlias = Literal["succeeded", "failed", "panicked", "cancelled", "deadline_exceeded", "shed", "abandoned"]
_Overflow: TypeAlias = Literal["block", "reject", "drop_newest", "drop_oldest", "caller_runs"]

__version__: str
__all__ = [
    "BoundPool",
    "Pool",
    "ShutdownReport",
    "Stats",
    "Task",
    "TaskContext",
    "TaskRecord",
    "__version__",
    "_after_fork_in_child",
    "_drain_at_exit",
    "check_cancelled",
    "current_task",
]

@final
class Task(Generic[_R_co]):
    """An accepted callback. Dropping it cancels nothing."""

    def result(self, timeout: float | None = None) -> _R_co:
        """Waits for the task and returns its value, or raises: the callback's own exception, Cancelled,
        DeadlineExceeded, Shed or Abandoned. WaitTimeout: no outcome within `timeout` seconds; the task goes on."""

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Waits for the task and returns what `result` would raise, or None if it has succeeded. Raises only
        WaitTimeout."""

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the outcome. Returns whether there is one; False: the wait timed out and the task goes on."""

    def done(self) -> bool:
        """Whether the task has its outcome."""

    @property
    def outcome(self) -> _Outcome | None:
        """How the task ended; None: not yet."""

    def cancel(self, reason: str | None = None) -> bool:
        """Cancels the task, queued or running; `reason` reaches whoever asks why. A running callback is told through
        check_cancelled and keeps its thread until it returns. Returns whether this call decided the outcome."""

    def released(self, timeout: float | None = None) -> bool:
        """Waits until the callback has returned, or never will run, and what it captured is gone. False: not in
        time."""

    def add_done_callback(self, callback: Callable[[Task[_R_co]], object], /) -> None:
        """Calls `callback(task)` when the task has its outcome; at once if it has. What it raises goes to
        sys.unraisablehook."""

    @property
    def label(self) -> str:
        """The task's label; that of a task without one is its callback's qualified name."""

    def __class_getitem__(cls, key: Any) -> GenericAlias: ...

@final
class Pool:
    """N threads over a bounded queue, in which every task gets exactly one answer, in time.

    The threads start at the first submit. Leaving a `with` block waits for all tasks; Ctrl-C ends that wait.
    """

    def __new__(
        cls,
        workers: int | None = None,
        *,
        capacity: int = 1024,
        overflow: _Overflow = "block",
        default_timeout: float | None = None,
        name: str = "duly",
        exit_timeout: float | None = 10.0,
        max_blocked_producers: int | None = None,
        replace_after: float = 0.1,
        max_replacements: int | None = None,
        drop_drain: float = 10.0,
    ) -> Self: ...
    def submit(self, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Task[_R]:
        """Submits `callback(*args, **kwargs)` and returns its Task. Waits for room in the queue by the overflow
        policy."""

    def try_submit(self, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Task[_R]:
        """As submit, but never waits: without room it raises QueueFull, or does what the overflow policy says."""

    def options(
        self,
        *,
        timeout: float | None = ...,
        deadline: float | None = ...,
        label: str | None = ...,
        submit_timeout: float | None = ...,
        detached: bool = ...,
    ) -> BoundPool:
        """The same verbs with options for the tasks submitted through them. Options left out keep the pool's
        defaults; timeout=None or deadline=None means none at all."""

    def close(self) -> None:
        """Accepts no more tasks. What was accepted is still run."""

    @property
    def closed(self) -> bool:
        """Whether the pool accepts no more tasks."""

    def shutdown(self, drain: float | None = 25.0) -> ShutdownReport:
        """Closes, waits up to `drain` seconds (None: without limit) for what was accepted, abandons the rest, and
        reports."""

    def stats(self) -> Stats:
        """What the pool has counted."""

    def leaks(self) -> list[TaskRecord]:
        """The callbacks that still run although their task has its outcome."""

    def running(self) -> list[TaskRecord]:
        """Every callback that runs now."""

    @property
    def name(self) -> str:
        """The pool's name; its threads are called by it."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """On normal exit waits for all tasks; on an exception for at most 25 s."""

@final
class BoundPool:
    """A pool with options bound to it: the same verbs, made by `Pool.options`."""

    def submit(self, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Task[_R]:
        """Submits `callback(*args, **kwargs)` and returns its Task. Waits for room in the queue by the overflow
        policy."""

    def try_submit(self, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Task[_R]:
        """As submit, but never waits: without room it raises QueueFull, or does what the overflow policy says."""

    def options(
        self,
        *,
        timeout: float | None = ...,
        deadline: float | None = ...,
        label: str | None = ...,
        submit_timeout: float | None = ...,
        detached: bool = ...,
    ) -> BoundPool:
        """More options on top of these."""

@final
class TaskContext:
    """What a running callback can ask about its own task. It may be handed to other threads and outlive the callback;
    only `check`, `cause` and `on_cancel` belong to the callback's own thread."""

    @property
    def label(self) -> str:
        """The task's label; that of a task without one is its callback's qualified name."""

    def is_cancelled(self) -> bool:
        """Whether the task has ended already: cancelled, past its deadline or abandoned."""

    @property
    def cause(self) -> Literal["cancelled", "deadline_exceeded", "abandoned"] | None:
        """Why the task has ended already: None if it has not."""

    def check(self) -> None:
        """Raises Cancelled, DeadlineExceeded or Abandoned if the task has ended already."""

    def time_left(self) -> float | None:
        """Seconds until the deadline, never negative; None without one."""

    def sleep(self, seconds: float) -> bool:
        """Sleeps, but wakes up at once when the task is cancelled. Returns whether it slept to the end."""

    def on_cancel(self, hook: Callable[[], object]) -> None:
        """Calls `hook()` when the task is cancelled, passes its deadline or is abandoned while the callback runs; at
        once if that has happened. The hook is forgotten when the callback returns."""

@final
class Stats:
    """What a pool has counted. The books: submitted is the sum of the seven outcomes, queued and running."""

    @property
    def submitted(self) -> int: ...
    @property
    def succeeded(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def panicked(self) -> int: ...
    @property
    def cancelled(self) -> int: ...
    @property
    def deadline_exceeded(self) -> int: ...
    @property
    def shed(self) -> int: ...
    @property
    def abandoned(self) -> int: ...
    @property
    def queued(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def refused(self) -> int: ...
    @property
    def late(self) -> int: ...
    @property
    def overdue(self) -> int: ...
    @property
    def replaced(self) -> int: ...
    @property
    def stalled(self) -> int: ...
    @property
    def unobserved(self) -> int: ...
    @property
    def blocked_producers(self) -> int: ...
    @property
    def workers(self) -> int: ...
    def books_balance(self) -> bool:
        """Whether the books balance."""

    def as_dict(self) -> dict[str, int]:
        """The counters by name."""

@final
class TaskRecord:
    """One task that a pool reports: running, or abandoned at shutdown."""

    @property
    def label(self) -> str: ...
    @property
    def state(self) -> Literal["queued", "running"]: ...
    @property
    def outcome(self) -> _Outcome | None: ...
    @property
    def age(self) -> float: ...
    @property
    def thread(self) -> str | None: ...

@final
class ShutdownReport:
    """What a shutdown did."""

    @property
    def drained(self) -> bool:
        """Whether everything that was accepted ended by itself and no thread is left."""

    @property
    def stats(self) -> Stats:
        """What the pool has counted."""

    @property
    def abandoned(self) -> list[TaskRecord]:
        """The tasks that were abandoned, queued and running ones."""

    @property
    def stuck(self) -> list[TaskRecord]:
        """The callbacks that still run although their task has its outcome: abandoned now, or overdue before."""

    @property
    def threads_left(self) -> int:
        """Threads that stay behind, inside callbacks that never returned."""

    @property
    def elapsed(self) -> float:
        """Seconds that the shutdown took."""

def current_task() -> TaskContext | None:
    """The task whose callback is running on this thread, or None."""

def check_cancelled() -> None:
    """Raises Cancelled, DeadlineExceeded or Abandoned if the task whose callback is running has ended already.
    Outside a callback it does nothing."""

def _drain_at_exit() -> None:
    """To be called once, by the interpreter on its way out."""

def _after_fork_in_child() -> None:
    """To be called in each forked child, by the one thread it has."""
