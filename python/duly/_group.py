"""`Group`: tasks that belong together, under one scope, of which the first failure cancels the rest.

Keeps true:
1. A member is settled once: by its done callback or by whoever waits, whoever sees first that it has ended.
2. The lock is a leaf: no callback, no submit and no wait happens under it. It is re-entrant, for a destructor may run
   at any allocation.
3. What is waited for is a task, so the pool sees a callback that waits for its own group.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from duly import _duly, _errors
from duly._scope import CancelScope

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

    from typing_extensions import ParamSpec, Unpack

    from duly._duly import Task
    from duly.pool import Options

    _P = ParamSpec("_P")

__all__ = ["Group", "GroupFailed"]

_R = TypeVar("_R")

# How often a submit that waits for a place in the group looks for the other ends of its wait.
_LOOK = 0.02


class GroupFailed(_errors.DulyError):
    """Not every member of a group succeeded.

    `errors` has the members that ended without a value and why, in the order in which they ended; `cancelled` is how
    many the group cancelled because of the first.
    """

    def __init__(self, group: str, errors: list[tuple[Task[Any], BaseException]], cancelled: int) -> None:
        names = ", ".join(f"{task.label!r} ({error!r})" for task, error in errors[:3])
        more = f" and {len(errors) - 3} more" if len(errors) > 3 else ""
        also = f"; {cancelled} more were cancelled because of that" if cancelled else ""
        super().__init__(f"of group {group!r} not every member succeeded: {names}{more}{also}")
        self.errors = errors
        self.cancelled = cancelled


class Group:
    """Tasks that belong together.

        with duly.Group(pool, limit=8) as group:
            for page in pages:
                group.submit(fetch, page)

    The members stand under a scope of the group's own, with `timeout` if given. The first that fails or raises another
    BaseException cancels the rest, unless `fail_fast=False`. With a `limit`, `submit` waits while as many are in
    flight. Leaving the block waits for all members and raises `GroupFailed` if not every one succeeded; an exception in
    the block cancels them first. A group that is dropped cancels what is in flight, unless `detach=True`.
    """

    def __init__(
        self,
        pool: Any,
        *,
        limit: int | None = None,
        fail_fast: bool = True,
        timeout: float | None = None,
        label: str = "group",
        detach: bool = False,
    ) -> None:
        if limit is not None and limit < 1:
            raise _errors.InvalidArgument(f"limit={limit} is no number of members: at least 1")
        self._scope = CancelScope(timeout)
        self._state = _State(label, fail_fast, self._scope)
        self._pool = pool
        self._verbs = pool.options(scope=self._scope)
        self._limit, self._label, self._detach = limit, label, detach

    def options(self, **options: Unpack[Options]) -> Members:
        """The same verbs with options for the members submitted through them."""
        return Members(self, self._pool.options(**{**options, "scope": self._scope}), options)

    def submit(self, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Task[_R]:
        """Submits a member; waits for a place in the group, then for room in the queue. A group that failed, was
        cancelled or has been waited for to its end refuses with Cancelled."""
        return Members(self, self._verbs, {}).submit(callback, *args, **kwargs)

    def try_submit(self, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Task[_R]:
        """As submit, but never waits: QueueFull also while as many as the limit allows are in flight."""
        return Members(self, self._verbs, {}).try_submit(callback, *args, **kwargs)

    def asubmit(
        self, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Coroutine[Any, Any, Task[_R]]:
        """As submit, on an event loop."""
        return Members(self, self._verbs, {}).asubmit(callback, *args, **kwargs)

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until no member is in flight: True; from then on the group accepts no more. GroupFailed: not every
        member succeeded. False: the wait timed out, and the group goes on."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            flying = self._state.in_flight()
            if not flying:
                break
            left = None if end is None else max(end - time.monotonic(), 0.0)
            ended = _duly.wait_all(flying, left)
            self._state.settle_ended(flying)
            if not ended:
                return False
        self._state.finish()
        return True

    async def wait_async(self) -> None:
        """As wait, on an event loop. Cancelled, it ends the wait only."""
        from duly import _aio

        while True:
            flying = self._state.in_flight()
            if not flying:
                break
            for task in flying:
                await _aio.outcome(task)
            self._state.settle_ended(flying)
        self._state.finish()

    def cancel(self, reason: str | None = None) -> None:
        """Cancels every member that has not ended. What is submitted from now on is refused."""
        self._scope.cancel(reason)

    @property
    def in_flight(self) -> int:
        """How many members have no outcome yet."""
        return len(self._state.in_flight())

    @property
    def scope(self) -> CancelScope:
        """What the members stand under."""
        return self._scope

    def __enter__(self) -> Group:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.wait()
            return
        self.cancel()
        self._state.quiet()
        self.wait()

    async def __aenter__(self) -> Group:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.cancel()
            self._state.quiet()
        await self.wait_async()

    def __del__(self) -> None:
        state = getattr(self, "_state", None)
        if state is not None and not self._detach and state.in_flight():
            self._scope.cancel()

    def __repr__(self) -> str:
        return f"<duly.Group {self._label!r} in_flight={self.in_flight}>"


class Members:
    """A group with options bound to it: the same verbs, made by `Group.options`."""

    def __init__(self, group: Group, verbs: Any, options: Any) -> None:
        self._group, self._verbs, self._options = group, verbs, options

    def submit(self, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Task[_R]:
        """As `Group.submit`."""
        self._enter(callback)
        return self._entered(self._verbs.submit, callback, args, kwargs)

    def try_submit(self, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Task[_R]:
        """As `Group.try_submit`."""
        state, limit = self._group._state, self._group._limit
        if not state.enter(limit):
            raise self._full(callback, "as many members as the limit allows are in flight")
        return self._entered(self._verbs.try_submit, callback, args, kwargs)

    def _entered(self, submit: Any, callback: Any, args: Any, kwargs: Any) -> Task[Any]:
        state = self._group._state
        try:
            task: Task[Any] = submit(callback, *args, **kwargs)
        except BaseException:
            state.left()
            raise
        state.add(task)
        task.add_done_callback(state.settle)
        return task

    def asubmit(
        self, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Coroutine[Any, Any, Task[_R]]:
        """As submit, on an event loop."""
        return self._asubmit(callback, args, kwargs)

    async def _asubmit(self, callback: Any, args: Any, kwargs: Any) -> Task[Any]:
        from duly import _aio

        group = self._group
        patience = self._options.get("submit_timeout")
        until = None if patience is None else time.monotonic() + patience
        while not group._state.enter(group._limit):
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise self._no_place(callback)
            changed, tell = _aio.first()
            group._state.when_changed(group._limit, tell)
            try:
                await _aio.within(changed, left)
            finally:
                group._state.forget(tell)
            # A member that has ended may not have been told of yet.
            group._state.settle_ended(group._state.in_flight())
        try:
            task = await _aio.accepted(self._verbs, callback, args, kwargs)
        except BaseException:
            group._state.left()
            raise
        group._state.add(task)
        task.add_done_callback(group._state.settle)
        return task

    def _enter(self, callback: Any) -> None:
        """Waits for a place in the group."""
        group = self._group
        if group._state.enter(group._limit):
            return
        patience = self._options.get("submit_timeout")
        until = None if patience is None else time.monotonic() + patience
        while not group._state.enter(group._limit):
            left = _LOOK if until is None else min(until - time.monotonic(), _LOOK)
            if left <= 0:
                raise self._no_place(callback)
            flying = group._state.in_flight()
            if flying:
                # Inside a callback a wait in one piece: the pool sees it, and may run a member here.
                _duly.wait_any(flying, None if until is None and _duly.current_task() else left)
            else:
                time.sleep(left)  # until a submit under way has its member, or is refused
            group._state.settle_ended(flying)
            if getattr(group._pool, "closed", False):
                raise self._told(_errors.ShutDown, callback, "the pool is closed")
        return

    def _full(self, callback: Any, why: str) -> _errors.DulyError:
        return self._told(_errors.QueueFull, callback, why)

    def _no_place(self, callback: Any) -> _errors.DulyError:
        return self._told(_errors.SubmitTimedOut, callback, "there was no place in it within submit_timeout")

    def _told(self, kind: type[_errors.DulyError], callback: Any, why: str) -> _errors.DulyError:
        label = self._options.get("label") or getattr(callback, "__qualname__", type(callback).__name__)
        error = kind(f"task {label!r} was refused by group {self._group._label!r}: {why}")
        error.task = label
        return error


class _State:
    """What a group knows of its members. Their done callbacks hold this, and not the group."""

    def __init__(self, label: str, fail_fast: bool, scope: CancelScope) -> None:
        self._label, self._fail_fast, self._scope = label, fail_fast, scope
        self._lock = threading.RLock()
        self._flying: dict[int, Task[Any]] = {}
        # Submits under way, which have a place and no task yet.
        self._entering = 0
        # Who is told when one of those has come to its end, or a member has.
        self._waiting: list[Callable[[Any], None]] = []
        self._ended: list[Task[Any]] = []
        self._failed = False
        self._cancelled = 0
        self._told = False

    def enter(self, limit: int | None) -> bool:
        """Takes a place, if there is one."""
        with self._lock:
            if limit is not None and len(self._flying) + self._entering >= limit:
                return False
            self._entering += 1
            return True

    def when_changed(self, limit: int | None, tell: Callable[[Any], None]) -> None:
        """Has `tell` called when a member has ended, or a submit under way has its member or was refused; now, if there
        is a place."""
        with self._lock:
            if limit is not None and len(self._flying) + self._entering >= limit:
                self._waiting.append(tell)
                return
        tell(None)

    def forget(self, tell: Callable[[Any], None]) -> None:
        """Nobody waits for `tell` any more."""
        with self._lock, contextlib.suppress(ValueError):
            self._waiting.remove(tell)

    def left(self) -> None:
        self._entered(None)

    def add(self, task: Task[Any]) -> None:
        self._entered(task)

    def _entered(self, task: Task[Any] | None) -> None:
        with self._lock:
            self._entering -= 1
            if task is not None:
                self._flying[id(task)] = task
        self._changed()

    def _changed(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for tell in waiting:
            tell(None)

    def in_flight(self) -> list[Task[Any]]:
        with self._lock:
            return list(self._flying.values())

    def settle_ended(self, tasks: list[Task[Any]]) -> None:
        for task in tasks:
            if task.done():
                self.settle(task)

    def settle(self, task: Task[Any]) -> None:
        """A member has ended."""
        outcome = task.outcome
        fails = False
        with self._lock:
            if self._flying.pop(id(task), None) is None:
                return
            if outcome == "cancelled" and self._failed:
                self._cancelled += 1
            elif outcome != "succeeded":
                self._ended.append(task)
                fails = self._fail_fast and outcome in ("failed", "panicked") and not self._failed
                self._failed = self._failed or fails
        if fails:
            self._scope.cancel(f"another member of group {self._label!r} failed")
        self._changed()

    def quiet(self) -> None:
        """Nobody is to be told of errors any more."""
        with self._lock:
            self._told = True

    def finish(self) -> None:
        """Every member has ended: refuses more, and raises if not every one succeeded."""
        with self._lock:
            told, ended = self._told, list(self._ended)
        self._scope.cancel(f"group {self._label!r} has been waited for to its end")
        if ended and not told:
            errors = [(task, error) for task in ended if (error := task.exception(0)) is not None]
            try:
                raise GroupFailed(self._label, errors, self._cancelled)
            finally:
                del errors, ended
