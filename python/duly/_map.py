"""`map` and `amap`: a callback over many inputs, with a window of tasks in flight.

Keeps true:
1. At most `window` tasks are submitted beyond what was taken, and an input is read when its task is submitted.
2. Whoever ends the iteration early, by an exception or by `close()`, leaves nothing in flight that could be cancelled.
3. No reference to a value outlives its turn.
4. An item that finds the queue full while others are in flight is held until an answer was taken.
"""

from __future__ import annotations

import contextlib
import functools
import queue
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Generic, TypeVar

from duly import _duly, _errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

__all__ = ["AsyncMap", "Map", "Window"]

_R = TypeVar("_R")


def _size(iterables: Sequence[Any]) -> int | None:
    """How many items there are, if all inputs tell."""
    try:
        return min(len(one) for one in iterables)
    except TypeError:
        return None


class Window:
    """What both maps have in common: the tasks in flight."""

    def __init__(
        self, verbs: Any, callback: Any, iterables: Sequence[Any], window: int | None, ordered: bool, exceptions: bool
    ) -> None:
        if not iterables:
            raise TypeError("map needs at least one iterable")
        if window is None:
            window = 2 * verbs._workers
        if not isinstance(window, int) or window < 1:
            raise _errors.InvalidArgument(f"window={window!r} is no number of tasks: at least 1")
        self._verbs, self._callback, self._window, self._ordered = verbs, callback, window, ordered
        self._exceptions = exceptions
        self._left = _size(iterables)
        # Those in flight, in order; without order those that ended stand in `_ended`.
        self._tasks: deque[Any] = deque()
        self._flying = 0
        self._exhausted = False
        # The item that found the queue full: it is submitted when an answer was taken.
        self._held: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        """How many values are still to come; TypeError if an input does not tell."""
        if self._left is None:
            raise TypeError("the number of items is not known")
        return self._left

    def __bool__(self) -> bool:
        return True

    def _taken(self, task: Any) -> None:
        """Its answer is taken."""
        with contextlib.suppress(ValueError):  # the iteration was closed meanwhile
            self._tasks.remove(task)
            self._flying -= 1

    def _took(self) -> None:
        if self._left:
            self._left -= 1

    def _cancel(self) -> None:
        self._exhausted = True
        self._left = 0
        self._held = None
        tasks, self._tasks = self._tasks, deque()
        for task in tasks:
            task.cancel()

    def _refused(self, error: _errors.DulyError, arguments: tuple[Any, ...]) -> Any:
        """What stands for an item that the pool did not take. None: it takes it later."""
        if isinstance(error, _errors.QueueFull) and self._flying:
            self._held = arguments
            return None
        if not self._exceptions:
            raise error
        # Its traceback would hold whoever submits here.
        return _Refused(error.with_traceback(None))


class _Refused:
    """In the place of a task: a submit that was refused."""

    def __init__(self, error: _errors.DulyError) -> None:
        self._error = error

    def exception(self, timeout: float | None = None) -> _errors.DulyError:
        return self._error

    def wait(self, timeout: float | None = None) -> bool:
        return True

    done = wait

    def cancel(self) -> bool:
        return False

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        callback(self)


class Map(Window, Generic[_R]):
    """The values of `pool.map`, an iterator. `close()` ends it early and cancels what is in flight."""

    def __init__(
        self, verbs: Any, callback: Any, iterables: Sequence[Any], window: int | None, ordered: bool, exceptions: bool
    ) -> None:
        super().__init__(verbs, callback, iterables, window, ordered, exceptions)
        self._inputs: Iterator[tuple[Any, ...]] = zip(*iterables)
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[_R]:
        return self

    def __next__(self) -> _R:
        try:
            self._fill()
            task = self._next_task()
            if task is None:
                raise StopIteration
            value = self._value(task)
        except BaseException:
            self.close()
            raise
        self._took()
        return value

    def _value(self, task: Any) -> _R:
        if self._exceptions and (error := task.exception()) is not None:
            return error  # type: ignore[no-any-return]
        try:
            return task.result()  # type: ignore[no-any-return]
        except StopIteration as error:
            # It would end the iteration as if there were no more.
            raise RuntimeError(f"the callback of task {task.label!r} raised StopIteration") from error

    def _fill(self) -> None:
        while not self._exhausted and self._flying < self._window:
            arguments, self._held = self._held, None
            if arguments is None:
                try:
                    arguments = next(self._inputs)
                except StopIteration:
                    self._exhausted = True
                    return
            try:
                task = self._verbs.submit(self._callback, *arguments)
            except _errors.DulyError as error:
                task = self._refused(error, arguments)
                if task is None:
                    return
            finally:
                del arguments
            self._flying += 1
            self._tasks.append(task)
            if not self._ordered:
                task.add_done_callback(self._ended.put)

    def _next_task(self) -> Any:
        if not self._flying:
            return None
        if self._ordered:
            # In its place until it has ended: who leaves meanwhile leaves nothing in flight.
            task = self._tasks[0]
            task.wait()
        else:
            if _duly.current_task() is not None and self._ended.empty():
                # Inside a callback the pool has to see what is waited for.
                self._tasks[0].wait()
            task = self._ended.get()
        self._taken(task)
        return task

    def close(self) -> None:
        """Ends the iteration: cancels what is in flight."""
        self._flying = 0
        self._cancel()

    def __enter__(self) -> Map[_R]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_tasks", None):
            self._cancel()


async def _zipped(iterables: Sequence[Any]) -> AsyncIterator[tuple[Any, ...]]:
    """`zip` over inputs of both kinds."""
    inputs = [(True, one.__aiter__()) if hasattr(one, "__aiter__") else (False, iter(one)) for one in iterables]
    while True:
        items = []
        for asynchronous, one in inputs:
            try:
                items.append(await one.__anext__() if asynchronous else next(one))
            except (StopIteration, StopAsyncIteration):
                return
        yield tuple(items)


class _Ended:
    """The tasks that have ended, in that order. They arrive as the answers of a future do that is never done."""

    def __init__(self, here: Any) -> None:
        self.here = here
        self.tasks: deque[Any] = deque()
        self.waiting: Any = None

    def done(self) -> bool:
        return False

    def set_result(self, task: Any) -> None:
        self.tasks.append(task)
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)

    async def next(self) -> Any:
        """The next one; waits for it."""
        while not self.tasks:
            self.waiting = self.here.loop.create_future()
            await self.waiting
        return self.tasks.popleft()


class AsyncMap(Window, Generic[_R]):
    """The values of `pool.amap`, an asynchronous iterator. `aclose()` ends it early and cancels what is in flight."""

    def __init__(
        self, verbs: Any, callback: Any, iterables: Sequence[Any], window: int | None, ordered: bool, exceptions: bool
    ) -> None:
        super().__init__(verbs, callback, iterables, window, ordered, exceptions)
        self._inputs = _zipped(iterables)
        self._ended: Any = None

    def __aiter__(self) -> AsyncIterator[_R]:
        return self

    async def __anext__(self) -> _R:
        try:
            await self._fill()
            task = await self._next_task()
            if task is None:
                raise StopAsyncIteration
            error = task.exception(0) if self._exceptions else None
            value: _R = task.result(0) if error is None else error
        except BaseException:
            await self.aclose()
            raise
        self._took()
        return value

    async def _fill(self) -> None:
        while not self._exhausted and self._flying < self._window:
            arguments, self._held = self._held, None
            if arguments is None:
                try:
                    arguments = await self._inputs.__anext__()
                except StopAsyncIteration:
                    self._exhausted = True
                    return
            try:
                task = await self._verbs.asubmit(self._callback, *arguments)
            except _errors.DulyError as error:
                task = self._refused(error, arguments)
                if task is None:
                    return
            finally:
                del arguments
            self._flying += 1
            self._tasks.append(task)
            if not self._ordered:
                self._announce(task)

    def _announce(self, task: Any) -> None:
        """Has a task stand in `_ended` when it has ended."""
        from duly import _aio

        here = _aio.arrivals()
        if self._ended is None:
            self._ended = _Ended(here)
        task.add_done_callback(functools.partial(here.put, self._ended))

    async def _next_task(self) -> Any:
        from duly import _aio

        if not self._flying:
            return None
        if self._ordered:
            task = self._tasks[0]
            await _aio.outcome(task)
        else:
            task = await self._ended.next()
        self._taken(task)
        return task

    async def aclose(self) -> None:
        """Ends the iteration: cancels what is in flight."""
        self._flying = 0
        self._cancel()
