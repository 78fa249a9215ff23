"""The drop-in: a `concurrent.futures.ThreadPoolExecutor` over a duly pool, bounded, whose futures always end.

Keeps true:
1. A future that was cancelled is notified at once: `wait` and `as_completed` see it while every worker is busy.
2. A future's state is written natively until somebody asks for its condition, then by the methods of the standard
   library under that condition. `live` holds it until it is done.
3. No Python lock is held across a submit or a shutdown: a signal handler may call either while the other waits.
4. In a forked child every inherited future has ended, and the executor is empty and usable.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading
import weakref
from concurrent.futures.thread import BrokenThreadPool
from typing import TYPE_CHECKING, Any, Callable, Literal, TypeVar

from duly import _duly, _errors, _workers

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from typing_extensions import ParamSpec

    _P = ParamSpec("_P")

__all__ = ["Future", "ThreadPoolExecutor"]

_R = TypeVar("_R")

_PENDING, _RUNNING, _FINISHED = "PENDING", "RUNNING", "FINISHED"
_CANCELLED, _NOTIFIED = "CANCELLED", "CANCELLED_AND_NOTIFIED"
_DONE = (_FINISHED, _CANCELLED, _NOTIFIED)

# What a future has only from when somebody asks for it.
_LAZY: dict[str, Callable[[], Any]] = {"_condition": threading.Condition, "_waiters": list, "_done_callbacks": list}

_FAILED_INITIALIZER = "A thread initializer failed, the thread pool is not usable anymore"


class Future(concurrent.futures.Future[_R]):
    """A true `concurrent.futures.Future`, of a task of a duly pool.

    `cancel()` gives the task's place in the queue back at once. Waiting for it inside a callback of the same executor
    does not stall the executor.
    """

    _state: str = _PENDING
    _result: Any = None
    _exception: BaseException | None = None
    # As the exception had it when it left the callback: raising it again and again must not make that grow.
    _traceback: TracebackType | None = None
    # Whether somebody asked for the condition.
    _touched: bool = False
    # The native half, and the futures of its executor that are not done; None: a future of nobody's.
    _task: Any = None
    _live: set[Future[Any]] | None = None

    def __init__(self) -> None:
        pass  # what the base class makes here is made on demand

    def __getattr__(self, name: str) -> Any:
        make = _LAZY.get(name)
        if make is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._touched = True
        return self.__dict__.setdefault(name, make())

    def cancel(self) -> bool:
        """Cancels the future if its callback has not begun. Returns whether it is cancelled."""
        if not super().cancel():
            return False
        if self._live is not None:
            self._end_of_cancelled()
        return True

    def result(self, timeout: float | None = None) -> _R:
        """The callback's value, or its exception raised. CancelledError, TimeoutError as in the standard library."""
        self._wait(timeout)
        if self._state == _FINISHED:
            error = self._exception
            if error is None:
                return self._result  # type: ignore[no-any-return]
            try:
                raise error.with_traceback(self._traceback) if self._traceback is not None else error
            finally:
                del error, self  # the traceback's frame is this one
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The callback's exception, or None. CancelledError, TimeoutError as in the standard library."""
        self._wait(timeout)
        return super().exception(timeout)

    def _wait(self, timeout: float | None) -> None:
        """Waits for the native half, where there is one; so that a wait inside a callback is seen by the pool."""
        task = self._task
        if self._state in _DONE or not isinstance(task, _duly.Task):
            return
        if timeout is not None:
            timeout = min(max(timeout, 0.0), threading.TIMEOUT_MAX)
        if not task.wait(timeout):
            raise concurrent.futures.TimeoutError
        if self._state not in _DONE:
            # It ended without its callback's word: abandoned.
            self._never_ran()

    def _end_of_cancelled(self) -> None:
        with self._condition:
            if self._state == _CANCELLED:
                self._state = _NOTIFIED
                for waiter in self._waiters:
                    waiter.add_cancelled(self)
        if self._live is not None:
            self._live.discard(self)
        if self._task is not None:
            self._task.cancel()

    # What the native half calls.

    def _begin(self) -> bool:
        """From pending to running. False: it was cancelled."""
        with self._condition:
            if self._state != _PENDING:
                return False
            self._state = _RUNNING
            return True

    def _end(self, method: str, what: Any) -> None:
        """Its callback has ended, as `set_result` or `set_exception` tells; too late, where it was failed meanwhile."""
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            getattr(self, method)(what)

    def _never_ran(self) -> None:
        """Its task ended, and the callback will not say how."""
        if self._state not in _DONE:
            self._fail(_errors.Abandoned("the executor was shut down before the callback ended"))

    def _fail(self, error: BaseException) -> None:
        """Ends it with `error`, unless it has ended."""
        with self._condition:
            if self._state in _DONE:
                return
        if self._live is not None:
            self._live.discard(self)
        # It may end between the two.
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            self.set_exception(error)

    def _admitted(self, answer: Any) -> None:
        """There is room now, or never will be."""
        if isinstance(answer, BaseException):
            self._fail(answer)
            return
        self._task = answer
        if self._state in _DONE:
            answer.cancel()


def _be_the_first() -> None:
    # From 3.11 on objects of a class have room for the first thirty names that any of them has got, and the next has
    # a dict made, for which the collector may run. The native half cannot have that: its names are the first.
    first: Future[Any] = Future()
    for name in ("_live", "_task", "_state", "_result", "_exception", "_traceback", "_touched", *_LAZY):
        setattr(first, name, None)


_be_the_first()


class _Queue:
    """What is read of an executor's `_work_queue`."""

    def __init__(self, pool: _duly.Pool) -> None:
        self._pool = pool

    def qsize(self) -> int:
        return self._pool.stats().queued

    def empty(self) -> bool:
        return self.qsize() == 0


class ThreadPoolExecutor(concurrent.futures.ThreadPoolExecutor):
    """`concurrent.futures.ThreadPoolExecutor`, bounded, and with futures that always end.

    At most `capacity` callbacks are queued; `submit` waits for room, or by `overflow` raises `duly.QueueFull`
    ("reject"). On a thread with a running event loop it never waits: without room the future waits to be admitted, and
    beyond `max_blocked_producers` of those `submit` raises `duly.QueueFull`. At exit the interpreter waits for all
    callbacks, as it does for the standard executor; or, with `exit_timeout`, until that many seconds have passed since
    the last one ended.
    """

    _threads: set[threading.Thread]  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        capacity: int = 1024,
        overflow: Literal["block", "reject"] = "block",
        max_blocked_producers: int | None = None,
        exit_timeout: float | None = None,
    ) -> None:
        super().__init__(max_workers, thread_name_prefix, initializer, tuple(initargs))
        self._live: set[Future[Any]] = set()
        self._capacity = capacity
        if overflow not in ("block", "reject"):
            raise _errors.InvalidArgument(f'overflow={overflow!r} is none of "block", "reject"')
        self._pool = _duly.Pool(
            self._max_workers,
            capacity=capacity,
            overflow=overflow,
            max_blocked_producers=max_blocked_producers,
            exit_timeout=exit_timeout,
            name=str(self._thread_name_prefix)[:200],
            drop_drain=threading.TIMEOUT_MAX,
            _starter=_Starter(self),
        )
        self._work_queue = _Queue(self._pool)  # type: ignore[assignment]
        _executors.add(self)

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_R]:
        """Submits `fn(*args, **kwargs)` and returns its Future. Waits for room in the queue."""
        if self._broken:
            raise BrokenThreadPool(self._broken)
        future: Future[_R] = Future()
        future._live = live = self._live
        live.add(future)
        needed = len(live) > len(self._threads) < self._max_workers
        try:
            if needed and len(live) > self._capacity:
                # There may be no room: whoever makes some has to be there.
                self._pool._add_worker()
                needed = False
            task = self._pool._submit_future(future, fn, args, kwargs)
        except BaseException as error:
            live.discard(future)
            if isinstance(error, _errors.ShutDown):
                raise RuntimeError("cannot schedule new futures after shutdown") from None
            raise
        if isinstance(task, _duly.Task):
            future._task = task
            if future._state == _NOTIFIED:
                task.cancel()  # by a shutdown that came before there was a task to cancel
        else:
            # It may have been admitted already.
            future.__dict__.setdefault("_task", task)
        if needed:
            self._pool._add_worker()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accepts no more. With `cancel_futures` cancels what has not begun; with `wait` waits for the rest."""
        self._shutdown = True
        self._pool.close()
        if cancel_futures:
            for future in list(self._live):
                future.cancel()
        if wait:
            self._pool.shutdown(None)

    def _initializer_failed(self) -> None:
        self._broken = _FAILED_INITIALIZER  # type: ignore[assignment]  # as in the standard library
        for future in list(self._live):
            future._fail(BrokenThreadPool(self._broken))
            if future._task is not None:
                future._task.cancel()

    def _after_fork_in_child(self) -> None:
        self._threads.clear()
        for future in list(self._live):
            # A thread that is not here any more may have held its condition.
            future.__dict__.pop("_condition", None)
            future._fail(_errors.Abandoned("the process forked: the callback may run in the parent, not here"))
        self._live.clear()


class _Starter:
    """Starts an executor's workers: named and initialized as the standard library does it, and listed."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self.executor = weakref.ref(executor)
        self.threads = executor._threads
        self.prefix = executor._thread_name_prefix
        self.initializer, self.initargs = executor._initializer, executor._initargs

    def __call__(self, loop: Any, _name: str) -> threading.Thread:
        target = loop if self.initializer is None else self.initialized(loop)
        thread = threading.Thread(target=target, name=f"{self.prefix}_{len(self.threads)}", daemon=True)
        self.threads.add(thread)
        _workers.started.add(thread)
        try:
            thread.start()
        except BaseException:
            self.threads.discard(thread)
            raise
        return thread

    def initialized(self, loop: Any) -> Callable[[], None]:
        def serve() -> None:
            try:
                assert self.initializer is not None
                self.initializer(*self.initargs)
            except BaseException:
                concurrent.futures._base.LOGGER.critical("Exception in initializer:", exc_info=True)
                executor = self.executor()
                if executor is not None:
                    executor._initializer_failed()
                loop.give_up()
            else:
                loop()

        return serve


_executors: weakref.WeakSet[ThreadPoolExecutor] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for executor in list(_executors):
        executor._after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
