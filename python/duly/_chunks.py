"""`map` and `amap` in chunks: one task for several items, for callbacks that cost less than a task.

Keeps true:
1. Every item has an answer of its own: its value, its exception, or what ended the task of its chunk.
2. No item begins after the task of its chunk has ended.
3. No reference to a value outlives its turn.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from duly import _duly, _errors
from duly._map import AsyncMap, Map, Window

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

__all__ = ["ChunkedAsyncMap", "ChunkedMap", "size_of"]

_R = TypeVar("_R")


def size_of(chunksize: object) -> int:
    """The number of items that an argument gives."""
    if not isinstance(chunksize, int) or chunksize < 1:
        raise _errors.InvalidArgument(f"chunksize={chunksize!r} is no number of items: at least 1")
    return chunksize


class _Chunk:
    """The callback of a chunk's task."""

    def __init__(self, callback: Callable[..., Any], tuples: bool, in_place: bool) -> None:
        _duly._check_callback(callback)
        self.callback, self.in_place = callback, in_place
        self.calls = itertools.starmap if tuples else map
        # What tasks are called by.
        self.__qualname__ = getattr(callback, "__qualname__", type(callback).__name__)

    def __call__(self, items: list[Any]) -> tuple[list[Any], Exception | None]:
        """The answers; and the exception of the item after them, if exceptions are not to stand in their place."""
        answers: list[Any] = []
        error: Exception | None = None
        count = len(items)
        task = _duly.current_task()
        if task is not None:
            # They are let go of also while the callback is stuck in one.
            task.on_cancel(items.clear)
        calls = self.calls(self.callback, _duly._Items(items))
        try:
            while len(answers) < count:
                try:
                    # What came before an exception is kept.
                    answers.extend(calls)
                    error = None
                except Exception as raised:
                    error = raised
                if error is None and len(answers) < count:
                    _duly.check_cancelled()
                    # It looks as the end of the items does.
                    error = RuntimeError(f"the callback {self.__qualname__!r} raised StopIteration")
                if error is not None and not self.in_place:
                    return answers, error
                if error is not None:
                    answers.append(error)
            return answers, None
        finally:
            # An exception keeps the variables of all who called the callback.
            error = None
            items.clear()


class _Chunked(Window):
    """What both maps have in common: the answers of the chunk that was taken last."""

    # How many items each chunk has that was read and not taken: first those of `_tasks`.
    _sizes: deque[int]
    # The last one first.
    _answers: list[Any]
    # What follows them.
    _error: Exception | None

    def _begin(self, callback: Any, tuples: bool) -> None:
        self._sizes, self._answers, self._error = deque(), [], None
        self._callback = _Chunk(callback, tuples, self._exceptions)

    def __len__(self) -> int:
        return super().__len__() + len(self._answers)

    def _taken(self, task: Any) -> None:
        try:
            at = self._tasks.index(task)
        except ValueError:
            return  # the iteration was closed meanwhile
        size = self._sizes[at]
        del self._sizes[at]
        super()._taken(task)
        self._open(task, size)

    def _open(self, task: Any, size: int) -> None:
        """Has the answers of a chunk, which has ended, ready to be handed on."""
        if self._left is not None:
            self._left -= size
        if self._exceptions and (error := task.exception(0)) is not None:
            self._answers.extend([error] * size)
            return
        answers, self._error = task.result(0)
        answers.reverse()
        self._answers = answers

    def _fail(self) -> None:
        """Raises what follows the answers, if anything does."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error

    def _cancel(self) -> None:
        super()._cancel()
        self._sizes.clear()
        self._answers.clear()
        self._error = None


def _cut(inputs: Iterator[Any], size: int, sizes: deque[int]) -> Iterator[tuple[list[Any]]]:
    while items := list(itertools.islice(inputs, size)):
        sizes.append(len(items))
        yield (items,)


async def _cut_async(inputs: AsyncIterator[Any], size: int, sizes: deque[int]) -> AsyncIterator[tuple[list[Any]]]:
    ended = False
    while not ended:
        items: list[Any] = []
        while len(items) < size:
            try:
                items.append(await inputs.__anext__())
            except StopAsyncIteration:
                ended = True
                break
        if items:
            sizes.append(len(items))
            yield (items,)


class ChunkedMap(_Chunked, Map[_R]):
    """The values of `pool.map(…, chunksize=…)`."""

    def __init__(
        self,
        verbs: Any,
        callback: Any,
        iterables: Sequence[Any],
        window: int | None,
        ordered: bool,
        exceptions: bool,
        size: int,
    ) -> None:
        super().__init__(verbs, callback, iterables, window, ordered, exceptions)
        tuples = len(iterables) > 1
        self._begin(callback, tuples)
        inputs = zip(*iterables) if tuples else iter(iterables[0])
        self._inputs = _cut(inputs, size, self._sizes)

    def __iter__(self) -> Iterator[_R]:
        # A loop takes the answers of a chunk without asking for each.
        while self._more():
            answers = self._answers
            while answers:
                yield answers.pop()

    def __next__(self) -> _R:
        if not self._answers and not self._more():
            raise StopIteration
        return self._answers.pop()  # type: ignore[no-any-return]

    def _more(self) -> bool:
        """Whether there are answers: waits for the next chunk, if there is none."""
        try:
            while not self._answers:
                self._fail()
                self._fill()
                if self._next_task() is None:
                    return False
        except BaseException:
            self.close()
            raise
        return True


class ChunkedAsyncMap(_Chunked, AsyncMap[_R]):
    """The values of `pool.amap(…, chunksize=…)`."""

    def __init__(
        self,
        verbs: Any,
        callback: Any,
        iterables: Sequence[Any],
        window: int | None,
        ordered: bool,
        exceptions: bool,
        size: int,
    ) -> None:
        super().__init__(verbs, callback, iterables, window, ordered, exceptions)
        self._begin(callback, True)
        self._inputs = _cut_async(self._inputs, size, self._sizes)

    async def __anext__(self) -> _R:
        try:
            while not self._answers:
                self._fail()
                await self._fill()
                if await self._next_task() is None:
                    raise StopAsyncIteration
        except BaseException:
            await self.aclose()
            raise
        return self._answers.pop()  # type: ignore[no-any-return]
