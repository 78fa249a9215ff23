"""The side of event loops: what ended on other threads arrives on the loop, one wake-up a burst. Loops are asyncio's
or, through `_trio`, runs of trio; anyio's tasks are on one of them.

Keeps true:
1. `call_soon_threadsafe` is called once for all that ends until the loop has its next turn.
2. A loop that was closed meanwhile is survived, also if that happens between any two steps here.
3. An awaiting coroutine that is cancelled only ends its wait. `run` is the one that cancels its task; and a submit, one
   that was accepted when nobody was there any more to have it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from duly._duly import Admission, Task

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Arrivals", "accepted", "arrivals", "ended", "first", "run", "within"]


class Arrivals:
    """What has ended for the futures of one loop since its last turn."""

    __slots__ = ("arrived", "called", "loop")

    def __init__(self, loop: Any) -> None:
        # Of it, only call_soon_threadsafe and create_future are asked; of a future, only done and set_result.
        self.loop = loop
        self.arrived: deque[tuple[Any, Any]] = deque()
        self.called = False

    def put(self, future: Any, answer: Any) -> None:
        """Has `future` answered on the loop. From any thread."""
        self.arrived.append((future, answer))
        if not self.called:
            try:
                self.called = True
                self.call()
            except BaseException:
                # The handler of a signal has raised here: the loop is woken all the same.
                self.call()
                raise

    def call(self) -> None:
        """Has `deliver` called on the loop."""
        try:
            self.loop.call_soon_threadsafe(self.deliver)
        except RuntimeError:  # the loop is closed: nobody waits there any more
            self.arrived.clear()

    def waiting(self) -> Told:
        """Who is told that there is room."""
        return Told(self, self.loop.create_future())

    def deliver(self) -> None:
        """On the loop: answers whoever still waits."""
        # Before the look: what comes from here on calls again.
        self.called = False
        while True:
            try:
                future, answer = self.arrived.popleft()
            except IndexError:
                return
            if not future.done():
                future.set_result(answer)


class Told:
    """Called with the answer, from any thread, it has its future answered on the loop."""

    __slots__ = ("accepted", "arrivals", "future", "left")

    def __init__(self, arrivals: Arrivals, future: Any) -> None:
        self.arrivals, self.future = arrivals, future
        self.accepted: Task[Any] | None = None
        self.left = False

    def __call__(self, answer: Any) -> None:
        if isinstance(answer, Task):
            self.accepted = answer
        # After that: whichever comes second, this or `leave`, sees the other.
        if self.left:
            self.leave()
        else:
            self.arrivals.put(self.future, answer)

    def leave(self) -> None:
        """Nobody waits any more: a task that was accepted is nobody's."""
        self.left = True
        if self.accepted is not None:
            self.accepted.cancel("caller_left")


_here = threading.local()


def arrivals() -> Arrivals:
    """Those of the loop that runs on this thread."""
    if "trio" in sys.modules:
        from duly import _trio

        # Asked first: as a guest, trio runs on a loop of asyncio.
        of_trio = _trio.arrivals()
        if of_trio is not None:
            return of_trio
    loop = asyncio.get_running_loop()
    known: Arrivals | None = getattr(_here, "arrivals", None)
    if known is None or known.loop is not loop:
        known = _here.arrivals = Arrivals(loop)
    return known


async def ended(task: Task[Any]) -> Any:
    """Waits for a task on the loop: what `await task` does."""
    await outcome(task)
    return task.result(0)


async def outcome(task: Task[Any]) -> None:
    """Waits on the loop until a task has its outcome, and takes none."""
    if not task.done():
        here = arrivals()
        future = here.loop.create_future()
        task.add_done_callback(partial(here.put, future))
        await future


def first() -> tuple[Any, Callable[[Any], None]]:
    """What is awaited on the loop, and what ends that wait when it is called for the first time, from any thread."""
    here = arrivals()
    future = here.loop.create_future()
    return future, partial(here.put, future)


async def within(future: Any, seconds: float | None) -> None:
    """Waits on the loop for a future of `first`, at most so many seconds, if a number is given."""
    if seconds is None:
        await future
    elif asyncio.isfuture(future):
        await asyncio.wait([future], timeout=seconds)
    else:
        await future.within(seconds)


async def admitted(admission: Admission) -> Task[Any]:
    """Waits on the loop while there is no room."""
    try:
        answer = await admission.told.future
    except BaseException:
        if not admission.cancel():
            admission.told.leave()
        raise
    try:
        if isinstance(answer, BaseException):
            raise answer
        task: Task[Any] = answer
        return task
    finally:
        del answer  # the traceback's frame is this one


async def accepted(verbs: Any, callback: Any, args: Any, kwargs: Any) -> Task[Any]:
    """Submits, and waits on the loop while there is no room."""
    submitted = verbs._admit(arrivals().waiting, callback, *args, **kwargs)
    # What is captured is the task's alone, however long the caller waits.
    del callback, args, kwargs
    if isinstance(submitted, Admission):
        submitted = await admitted(submitted)
    task: Task[Any] = submitted
    return task


async def run(verbs: Any, callback: Any, args: Any, kwargs: Any) -> Any:
    """Submits and waits for the answer. If the caller leaves, the task is cancelled."""
    here = arrivals()
    task = verbs._admit(here.waiting, callback, *args, **kwargs)
    del callback, args, kwargs
    if isinstance(task, Admission):
        task = await admitted(task)
    if not task.done():
        future = here.loop.create_future()
        task.add_done_callback(partial(here.put, future))
        try:
            await future
        except BaseException:
            task.cancel("caller_left")
            raise
    return task.result(0)
