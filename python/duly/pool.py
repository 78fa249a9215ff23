"""`Pool` and `BoundPool`: the verbs that are written in Python, over the native halves.

Keeps true: a verb means the same on a pool and on its `options(...)`; a callback's keywords are never taken.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, Callable, Generic, Literal, TypeVar

from duly import _duly
from duly._chunks import ChunkedAsyncMap, ChunkedMap, size_of
from duly._map import AsyncMap, Map

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Coroutine, Hashable, Iterable
    from types import TracebackType

    from typing_extensions import ParamSpec, TypedDict, Unpack

    from duly._duly import Periodic, Queue, Task
    from duly._scope import CancelScope

    _P = ParamSpec("_P")

    class Options(TypedDict, total=False):
        """What `options()` takes."""

        timeout: float | None
        deadline: float | None
        scope: CancelScope | None
        label: str | None
        queue: Queue | None
        key: Hashable
        overflow: Literal["block", "reject", "drop_newest", "drop_oldest", "caller_runs"] | None
        submit_timeout: float | None
        delay: float | None
        detached: bool
        interrupt: bool

else:
    # ParamSpec is there from Python 3.10 on; at run time any variable serves.
    _P = TypeVar("_P")

__all__ = ["BoundPool", "Every", "NativePool", "Pool", "TaskFunction"]

_R = TypeVar("_R")
_PoolT = TypeVar("_PoolT", bound="Pool")

# How long `with Pool()` waits before it says what it waits for.
_SAY_AFTER = 10.0


class _Verbs:
    """What a pool and its options have in common."""

    __slots__ = ()

    def options(self, **options: Unpack[Options]) -> BoundPool:
        """The same verbs with options for the tasks submitted through them: timeout, deadline, scope, label, queue,
        key, overflow, submit_timeout, delay, detached, interrupt. Options left out keep the pool's defaults;
        timeout=None or deadline=None means none at all. (Keys are told apart by their hash.)

        overflow: what these submits do without room, instead of what their queue does. try_submit never waits: under
        "block" and "caller_runs" it raises QueueFull, as does asubmit under "caller_runs".

        interrupt=True: if the task ends while its callback runs, by its deadline, its cancellation or the end of the
        pool, duly.Interrupted is raised in the callback, once, where it next runs a line of Python."""
        return BoundPool(self, **options)  # type: ignore[arg-type]

    def asubmit(
        self, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Coroutine[Any, Any, Task[_R]]:
        """As submit, on an event loop: waits for room without holding the thread."""
        from duly import _aio

        return _aio.accepted(self, callback, args, kwargs)

    def run(self, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Coroutine[Any, Any, _R]:
        """Submits on an event loop and waits for the answer. If the coroutine is cancelled, so is the task, with the
        reason "caller_left"."""
        from duly import _aio

        return _aio.run(self, callback, args, kwargs)

    def map(
        self,
        callback: Callable[..., _R],
        /,
        *iterables: Iterable[Any],
        window: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        chunksize: int = 1,
    ) -> Map[_R]:
        """Calls `callback` for the items of the iterables, as the built-in map does, in tasks. Lazy: at most `window`
        (twice the workers) tasks are submitted beyond what was taken; inputs may be endless. `ordered=False`: in the
        order they end. The first exception ends the iteration and cancels what is in flight; `return_exceptions=True`:
        exceptions are values like others.

        `chunksize`: for callbacks that cost less than a task, one task for so many items, `window` of which are in
        flight. Each item has its own answer, but deadline, cancellation and context are those of its task."""
        if size_of(chunksize) > 1:
            return ChunkedMap(self, callback, iterables, window, ordered, return_exceptions, chunksize)
        return Map(self, callback, iterables, window, ordered, return_exceptions)

    def amap(
        self,
        callback: Callable[..., _R],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        window: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        chunksize: int = 1,
    ) -> AsyncMap[_R]:
        """As map, for `async for`; the inputs may be asynchronous iterables."""
        if size_of(chunksize) > 1:
            return ChunkedAsyncMap(self, callback, iterables, window, ordered, return_exceptions, chunksize)
        return AsyncMap(self, callback, iterables, window, ordered, return_exceptions)

    def every(
        self,
        period: float,
        *,
        missed: Literal["skip", "catch_up"] = "skip",
        overlap: bool = False,
        max_failures: int | None = None,
        jitter: float = 0.0,
    ) -> Every:
        """What runs a callback every `period` seconds, each run a task: `pool.every(60).submit(callback)`. Ticks stand
        on a grid; one whose run cannot be submitted is missed, or made up for later ("catch_up"). Runs do not overlap
        unless told to. `max_failures` in a row end it. Each run begins up to `jitter` seconds after its tick."""
        return Every(self, period, missed, overlap, max_failures, jitter)

    def task(self, callback: Callable[_P, _R], /) -> TaskFunction[_P, _R]:
        """A decorator: the function stays callable, and gets `submit`, `try_submit`, `asubmit` and `run`."""
        return TaskFunction(self, callback)


class Pool(_Verbs, _duly.Pool):
    """N threads over a bounded queue, in which every task gets exactly one answer, in time.

        with duly.Pool(workers=4, default_timeout=2.0) as pool:
            task = pool.submit(work, argument)
            value = task.result()

    The threads start at the first submit. Leaving a `with` block waits for all tasks, and Ctrl-C ends that wait; if the
    block ends by an exception, what is queued is cancelled, and what runs has 25 s to end.

    `workers`: the parallelism this process may use and four more, at most 32. `capacity`: how many tasks may be queued.
    `overflow`: what submit does without room: "block", "reject", "drop_newest", "drop_oldest", "caller_runs".
    `default_timeout`: seconds in which a task must have its outcome, unless its options say otherwise. `on_fork`: in a
    forked child the pool is empty and usable ("restart"), or shut down ("shut_down"); inherited tasks are abandoned.
    `exit_timeout`: at exit, how many seconds after the last task ended to give up; None: never. `initializer`: called
    with `initargs` by each worker before it serves; if it raises, the pool is closed and abandons what it has.
    `on_late`, `on_stalled`, `on_unobserved`, `on_worker_start`, `on_worker_stop`: hooks, each called with what
    happened: a callback returned after its task had ended; every worker is stuck and no replacement is left; nobody
    looked at a failure; a worker begins, or ends. What they raise goes to sys.unraisablehook. A hook that holds the
    pool keeps it alive.
    """

    def __enter__(self: _PoolT) -> _PoolT:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Waits for all tasks; after an exception cancels what is queued, and waits for what runs for at most 25 s."""
        self.close()
        if kind is not None:
            self._cancel_queued("the with block of its pool ended by an exception")
            self.shutdown(25.0)
            return
        if not self._rested(_SAY_AFTER):
            running = ", ".join(str(record) for record in self.running()) or "nothing that runs"
            queued = self.stats().queued
            logging.getLogger("duly").warning(
                "the end of `with` still waits for pool %r: %s; %d queued", self.name, running, queued
            )
        self.shutdown(None)


class NativePool(Pool):
    """A pool for callbacks in native code, whose workers never take the interpreter: a C function `int f(void *data)`,
    or `void f(void *data)`, that is called with its data.

        with duly.NativePool(workers=8) as pool:
            task = pool.submit(library.crunch, buffer)
            assert task.result() is buffer

    The function: a pointer of ctypes or cffi, a `cfunc` of numba, a PyCapsule, or an address. The data: a writable
    buffer (bytearray, array, NumPy), an object of ctypes or cffi, a PyCapsule, an address, or None; it is kept alive
    and in its place until the callback has returned, and is the value of a task that succeeds. A function that returns
    an int tells by it: another status than 0 is `NativeFailed`. What it does is its own business: there is no check and
    no way to interrupt it. The verbs and their options are those of `Pool`; with `every` the data stays until the last
    run is over, and a run has no value.
    """

    def __new__(cls, workers: int | None = None, **options: Any) -> NativePool:
        """As of `Pool`, without `initializer`."""
        if "initializer" in options or "initargs" in options:
            raise TypeError("a NativePool has no initializer: its workers never run Python")
        options.setdefault("name", "duly-native")
        made: NativePool = super().__new__(cls, workers, _native=True, **options)
        return made


class BoundPool(_Verbs, _duly.BoundPool):
    """A pool with options bound to it: the same verbs, made by `Pool.options`."""


class Every:
    """What runs a callback again and again: made by `pool.every`."""

    def __init__(self, verbs: Any, *rhythm: Any) -> None:
        self._verbs, self._rhythm = verbs, rhythm

    def submit(self, callback: Callable[_P, object], /, *args: _P.args, **kwargs: _P.kwargs) -> Periodic:
        """Begins; the first run comes after one period, or after the option `delay`. Never blocks."""
        periodic: Periodic = self._verbs._every(*self._rhythm, callback, *args, **kwargs)
        return periodic


class TaskFunction(Generic[_P, _R]):
    """A function with a pool to run it: made by `pool.task`."""

    def __init__(self, verbs: Any, callback: Callable[_P, _R]) -> None:
        functools.update_wrapper(self, callback)
        self._verbs, self._callback = verbs, callback

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return self._callback(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        return TaskFunction(self._verbs, self._callback.__get__(instance, owner))

    def submit(self, *args: _P.args, **kwargs: _P.kwargs) -> Task[_R]:
        """As `pool.submit` of the function."""
        return self._verbs.submit(self._callback, *args, **kwargs)  # type: ignore[no-any-return]

    def try_submit(self, *args: _P.args, **kwargs: _P.kwargs) -> Task[_R]:
        """As `pool.try_submit` of the function."""
        return self._verbs.try_submit(self._callback, *args, **kwargs)  # type: ignore[no-any-return]

    async def asubmit(self, *args: _P.args, **kwargs: _P.kwargs) -> Task[_R]:
        """As `pool.asubmit` of the function."""
        return await self._verbs.asubmit(self._callback, *args, **kwargs)  # type: ignore[no-any-return]

    async def run(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """As `pool.run` of the function."""
        return await self._verbs.run(self._callback, *args, **kwargs)  # type: ignore[no-any-return]

    def options(self, **options: Unpack[Options]) -> TaskFunction[_P, _R]:
        """The same function, submitted with options."""
        return TaskFunction(self._verbs.options(**options), self._callback)
