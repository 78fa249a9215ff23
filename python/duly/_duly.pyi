"""The native part of the package duly. Import duly, not this."""

from collections.abc import Generator, Hashable, Iterable
from signal import Signals
from threading import Thread
from types import GenericAlias
from typing import Any, Callable, Generic, Literal, TypeVar, final

from typing_extensions import ParamSpec, Self, TypeAlias, disjoint_base

_P = ParamSpec("_P")
_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)

_Outcome: TypeAlias = Literal["succeeded", "failed", "panicked", "cancelled", "deadline_exceeded", "shed", "abandoned"]
_Overflow: TypeAlias = Literal["block", "reject", "drop_newest", "drop_oldest", "caller_runs"]

__version__: str
__all__ = [
    "Admission",
    "BoundPool",
    "CancelScope",
    "Flight",
    "FlightKey",
    "Late",
    "Periodic",
    "PeriodicStats",
    "Pool",
    "Queue",
    "QueueStats",
    "ShutdownReport",
    "Stalled",
    "Stats",
    "Task",
    "TaskContext",
    "TaskRecord",
    "Unobserved",
    "WorkerInfo",
    "_Items",
    "__version__",
    "_after_fork_in_child",
    "_after_fork_in_parent",
    "_before_finalizing",
    "_before_fork",
    "_check_callback",
    "_drain_at_exit",
    "_draining",
    "_pools",
    "_use_scopes",
    "check_cancelled",
    "current_task",
    "wait_all",
    "wait_any",
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

    def __await__(self) -> Generator[Any, Any, _R_co]:
        """`await task`: as result(), without holding the thread. The awaiting coroutine may be cancelled; the task goes
        on."""

    def __class_getitem__(cls, key: Any) -> GenericAlias: ...

@disjoint_base
class Pool:
    """The native half of `duly.Pool`."""

    def __new__(
        cls,
        workers: int | None = None,
        *,
        capacity: int = 1024,
        overflow: _Overflow = "block",
        default_timeout: float | None = None,
        on_fork: Literal["restart", "shut_down"] = "restart",
        exit_timeout: float | None = 10.0,
        name: str = "duly",
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] | None = None,
        max_blocked_producers: int | None = None,
        replace_after: float = 0.1,
        max_replacements: int | None = None,
        drop_drain: float = 10.0,
        on_late: Callable[[Late], object] | None = None,
        on_stalled: Callable[[Stalled], object] | None = None,
        on_unobserved: Callable[[Unobserved], object] | None = None,
        on_worker_start: Callable[[WorkerInfo], object] | None = None,
        on_worker_stop: Callable[[WorkerInfo], object] | None = None,
        _starter: Callable[[Any, str], Any] | None = None,
        _native: bool = False,
    ) -> Self: ...
    def submit(self, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Task[_R]:
        """Submits `callback(*args, **kwargs)` and returns its Task. Waits for room in the queue by the overflow
        policy. Raises on a thread with a running event loop: use asubmit there."""

    def try_submit(self, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Task[_R]:
        """As submit, but never waits: without room it raises QueueFull, or sheds where the overflow policy says so."""

    def _admit(
        self,
        waiting: Callable[[], Callable[[Task[_R] | BaseException], object]],
        callback: Callable[_P, _R],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> Task[_R] | Admission:
        """Submits without waiting on this thread: a Task; or an Admission, of whose end waiting() is told:
        waiting()(answer)."""

    def _submit_future(
        self, future: Any, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], /
    ) -> Task[Any] | Admission:
        """Submits the call of a concurrent.futures future: its Task, or its Admission."""

    def _add_worker(self) -> bool:
        """Starts one more thread, for a pool whose owner does so. False: there are as many as the pool was made
        for."""

    @property
    def _serial(self) -> int:
        """A number that no other pool of this process has."""

    def _threads(self) -> list[Thread]:
        """Its threads whose loop has not ended."""

    def _cancel_queued(self, reason: str) -> int:
        """Cancels what is queued of a closed pool, and tells how many tasks that were."""

    def _rested(self, seconds: float) -> bool:
        """Waits up to `seconds` until nothing is queued or running."""

    def _every(
        self,
        period: float,
        missed: str,
        overlap: bool,
        max_failures: int | None,
        jitter: float,
        callback: Callable[_P, object],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> Periodic:
        """Calls `callback(*args, **kwargs)` every `period` seconds, each run a task."""

    @property
    def _workers(self) -> int:
        """How many workers the pool was made for."""

    def queue(
        self,
        name: str,
        *,
        capacity: int = 1024,
        overflow: _Overflow = "block",
        max_blocked_producers: int | None = None,
        weight: int = 1,
        limit: int | None = None,
        key_limit: int | None = None,
        key_capacity: int | None = None,
    ) -> Queue:
        """Adds a queue to the pool, with a capacity, an overflow policy and limits of its own. Of a queue of weight 3
        three tasks are started before it is the next one's turn. `limit`: how many of its callbacks may run at the
        same time; `key_limit`: how many of those with the same key; `key_capacity`: how many tasks of the same key may
        be queued."""

    @property
    def default_queue(self) -> Queue:
        """The queue of the tasks that name no other."""

    def pause(self) -> None:
        """From now on no task of any queue is started; deadlines, cancellations and the end of the pool still end
        them."""

    def resume(self) -> None:
        """Undoes `pause`."""

    def set_workers(self, workers: int) -> None:
        """Changes the number of workers. Those that are too many end when their callbacks have returned."""

    def close(self) -> None:
        """Accepts no more tasks. What was accepted is still run."""

    @property
    def closed(self) -> bool:
        """Whether the pool accepts no more tasks."""

    def shutdown(self, drain: float | None = 25.0) -> ShutdownReport:
        """Closes, waits up to `drain` seconds (None: without limit) for what was accepted, abandons the rest, and
        reports."""

    def shutdown_on(self, signals: int | Iterable[int], grace: float = 25.0) -> None:
        """The first of these signals that comes closes the pool and begins its drain, the next one abandons what is
        left: after the first the pool has come to its end, and the process is ready to exit, within `grace` seconds.
        SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 can be named. Handlers that the program has still run,
        Ctrl-C still raises KeyboardInterrupt; that a signal ends the process by default is held back while the pool is
        there. What `signal.signal` is given later takes the signal for itself, until the main thread binds something to
        it again or calls wait_shutdown. Binding again replaces what was bound; no signals: nothing is bound any more.
        In a forked child nobody is."""

    def wait_shutdown(self, timeout: float | None = None) -> ShutdownReport | None:
        """Waits until a pool that is bound to signals has come to its end, by a signal or by another shutdown, and
        reports. None: the wait timed out, and the pool goes on. What a main thread does while others serve."""

    @property
    def signal(self) -> Signals | None:
        """The signal that came first, of those that the pool is bound to; None: none has come."""

    def stats(self) -> Stats:
        """What the pool has counted."""

    def leaks(self) -> list[TaskRecord]:
        """The callbacks that still run although their task has its outcome."""

    def running(self) -> list[TaskRecord]:
        """Every callback that runs now."""

    @property
    def name(self) -> str:
        """The pool's name; its threads are called by it."""

@disjoint_base
class BoundPool:
    """The native half of `duly.BoundPool`."""

    def __new__(
        cls,
        of: Pool | BoundPool,
        /,
        *,
        timeout: float | None = ...,
        deadline: float | None = ...,
        scope: CancelScope | None = ...,
        label: str | None = ...,
        queue: Queue | None = ...,
        key: Hashable = ...,
        overflow: _Overflow | None = ...,
        submit_timeout: float | None = ...,
        delay: float | None = ...,
        detached: bool = ...,
        interrupt: bool = ...,
    ) -> Self: ...
    def submit(self, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Task[_R]:
        """Submits `callback(*args, **kwargs)` and returns its Task. Waits for room in the queue by the overflow
        policy."""

    def try_submit(self, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Task[_R]:
        """As submit, but never waits: without room it raises QueueFull, or sheds where the overflow policy says so."""

    def _admit(
        self,
        waiting: Callable[[], Callable[[Task[_R] | BaseException], object]],
        callback: Callable[_P, _R],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> Task[_R] | Admission:
        """Submits without waiting on this thread: a Task; or an Admission, of whose end waiting() is told:
        waiting()(answer)."""

    def _every(
        self,
        period: float,
        missed: str,
        overlap: bool,
        max_failures: int | None,
        jitter: float,
        callback: Callable[_P, object],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> Periodic:
        """Calls `callback(*args, **kwargs)` every `period` seconds, each run a task."""

    @property
    def _workers(self) -> int:
        """How many workers the pool was made for."""

@final
class Queue:
    """A queue of a pool, made by `Pool.queue`: a bulkhead for one kind of work, with its own capacity, overflow policy,
    weight and limits. `pool.options(queue=...)` submits to it."""

    @property
    def name(self) -> str:
        """The queue's name."""

    def stats(self) -> QueueStats:
        """Its numbers now: submitted, queued, running, blocked_producers, paused."""

    def set_weight(self, weight: int) -> None:
        """How many of its tasks are started before it is the next queue's turn."""

    def set_limit(self, limit: int | None) -> None:
        """How many of its callbacks may run at the same time; None: as many as there are workers."""

    def set_key_limit(self, limit: int | None) -> None:
        """How many callbacks of tasks with the same key may run at the same time; None: no limit."""

    def set_key_capacity(self, capacity: int | None) -> None:
        """How many tasks of the same key may be queued; None: as many as the queue holds."""

    def set_capacity(self, capacity: int) -> None:
        """How many tasks may be queued. Those queued when it is lowered stay."""

    def pause(self) -> None:
        """From now on none of its tasks is started; deadlines, cancellations and the end of the pool still end
        them."""

    def resume(self) -> None:
        """Undoes `pause`."""

@final
class QueueStats:
    """What a queue has counted."""

    @property
    def submitted(self) -> int: ...
    @property
    def queued(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def blocked_producers(self) -> int: ...
    @property
    def paused(self) -> bool: ...

@final
class Periodic:
    """A callback that is run every period: made by `Pool.every`. Dropping it cancels nothing."""

    def cancel(self, reason: str | None = None) -> bool:
        """Ends it; a queued run is cancelled, and the callback of a running one is told. Whether this call did."""

    def wait(self, timeout: float | None = None) -> Literal["cancelled", "shut_down", "failed"] | None:
        """Waits until it has ended, and returns why: "cancelled", "shut_down", or "failed", too often in a row. None:
        the wait timed out, and it goes on."""

    @property
    def end(self) -> Literal["cancelled", "shut_down", "failed"] | None:
        """Why it runs no more; None while it goes on."""

    def stats(self) -> PeriodicStats:
        """What it has done: runs, failures, missed, active."""

    @property
    def label(self) -> str:
        """The label of its runs."""

@final
class PeriodicStats:
    """What a periodic task has done."""

    @property
    def runs(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def missed(self) -> int: ...
    @property
    def active(self) -> int: ...

@final
class FlightKey:
    """A key that somebody waits for."""

    def __new__(cls) -> Self: ...

@final
class Flight:
    """One run a key, of the tasks of a pool."""

    def __new__(cls, of: Pool | BoundPool, handovers: int, retry_failed: bool) -> Self: ...
    def call_and_wait(self, key: FlightKey, timeout: float | None, /, *args: Any, **kwargs: Any) -> Any:
        """Waits for the key's answer; starts a run if there is none."""

    def call_and_leave(
        self,
        waiting: Callable[[], Callable[[tuple[bool, Any]], object]],
        key: FlightKey,
        timeout: float | None,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Admission:
        """The same without holding the thread: what `waiting()` gives is told (whether there is a value, that or an
        exception)."""

    def __len__(self) -> int:
        """How many keys are in flight."""

@final
class Admission:
    """Somebody who waits without holding a thread."""

    @property
    def told(self) -> Any:
        """Who is told."""

    def cancel(self, _reason: str | None = None) -> bool:
        """Leaves the line; a task that was accepted meanwhile, and not yet told, is cancelled. Whether it left."""

@disjoint_base
class CancelScope:
    """A scope that cancels what was submitted under it: by `cancel()`, or when its time has passed."""

    def __new__(
        cls, timeout: float | None = None, *, deadline: float | None = None, detached: bool = False
    ) -> Self: ...
    def cancel(self, reason: str | None = None) -> None:
        """Cancels every task under this scope, queued or running, and whatever will be submitted under it. `reason`
        reaches whoever asks why; only the first one is kept."""

    def cancel_on(self, signals: int | Iterable[int]) -> None:
        """From now on one of these signals cancels the scope, with the reason "signal N", as long as it or a task under
        it lives. What is said of signals and handlers at `Pool.shutdown_on` holds here. May be called several
        times."""

    @property
    def cancelled(self) -> bool:
        """Whether the scope was cancelled, or its time has passed."""

    @property
    def reason(self) -> str | None:
        """Why the scope was cancelled: "requested", "deadline_exceeded", "signal N", or the caller's own words; None:
        it was not."""

    def time_left(self) -> float | None:
        """Seconds until the scope's deadline, never negative; None without one."""

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

@final
class Late:
    """A callback that returned after its task had its outcome: what the hook `on_late` is told."""

    @property
    def label(self) -> str: ...
    @property
    def outcome(self) -> _Outcome: ...
    @property
    def callback(self) -> Literal["succeeded", "failed", "panicked"]: ...
    @property
    def ran(self) -> float: ...

@final
class Stalled:
    """Every worker is stuck and no replacement is left: what the hook `on_stalled` is told."""

    @property
    def pool(self) -> str: ...
    @property
    def stuck(self) -> list[TaskRecord]: ...
    @property
    def queued(self) -> int: ...

@final
class Unobserved:
    """A failure nobody looked at: what the hook `on_unobserved` is told."""

    @property
    def label(self) -> str: ...
    @property
    def outcome(self) -> Literal["failed", "panicked"]: ...
    @property
    def message(self) -> str | None: ...

@final
class WorkerInfo:
    """A worker that begins or ends: what the hooks `on_worker_start` and `on_worker_stop` are told."""

    @property
    def pool(self) -> str: ...
    @property
    def index(self) -> int: ...

def current_task() -> TaskContext | None:
    """The task whose callback is running on this thread, or None."""

def check_cancelled() -> None:
    """Raises Cancelled, DeadlineExceeded or Abandoned if the task whose callback is running has ended already.
    Outside a callback it does nothing."""

@final
class _Items:
    """The items of a list until the task ends whose callback runs on this thread. Others may empty it meanwhile."""

    def __new__(cls, list: list[Any]) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...

def _check_callback(callback: object) -> None:
    """TypeError if it cannot be called, or is a coroutine function."""

def _pools() -> list[Pool]:
    """One more handle of each pool of this process that somebody holds, in the order they were made."""

def _draining() -> list[tuple[str, int, list[TaskRecord]]]:
    """The name of each pool that nobody holds and that still drains, how many tasks it has in its queue, and those
    that run."""

def _drain_at_exit() -> None:
    """To be called once, by the interpreter on its way out."""

def _before_finalizing() -> None:
    """To be the last exit handler: no thread of duly gets a thread state any more."""

def _before_fork() -> None:
    """To be called before each fork, by the thread that forks."""

def _after_fork_in_parent() -> None:
    """To be called after each fork in the parent, also after one that failed."""

def _after_fork_in_child() -> None:
    """To be called in each forked child, by the one thread it has."""

def _use_scopes() -> None:
    """Tells that from now on a scope may be ambient."""

def wait_any(tasks: Iterable[Task[_R]], timeout: float | None = None) -> Task[_R] | None:
    """Waits until one of the tasks has its outcome, and returns it; None: the wait timed out, or there is no task.
    Takes no value."""

def wait_all(tasks: Iterable[Task[Any]], timeout: float | None = None) -> bool:
    """Waits until all of the tasks have their outcome. False: the wait timed out. Takes no value."""
