"""`SingleFlight`: callers that want the same thing at the same time share one run.

Keeps true:
1. A key is there while somebody waits for its answer, and no longer.
2. The keys' own methods are called here only, under no lock of the native half. The lock is re-entrant, for they may be
   anything.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from typing import TYPE_CHECKING, Any, Callable, Generic, NamedTuple, TypeVar

from duly import _duly

if TYPE_CHECKING:
    from collections.abc import Coroutine, Hashable

    from typing_extensions import ParamSpec

    from duly._scope import CancelScope

    _P = ParamSpec("_P")
else:
    # ParamSpec is there from Python 3.10 on; at run time any variable serves.
    _P = TypeVar("_P")

__all__ = ["SharedFunction", "SingleFlight", "single_flight"]

_R = TypeVar("_R")


class SingleFlight:
    """One run a key: callers that come while it is under way are told its answer, all the same object.

        flight = duly.SingleFlight(pool)
        page = flight.call(url, fetch, url)          # a second caller of this url waits for the first one's run
        page = await flight.run(url, fetch, url)     # on an event loop

    The run is a task of the pool, or of its `options(...)`: label, timeout and queue are those. It belongs to all its
    callers: none of their scopes and deadlines ends it, and it is cancelled when the last caller has left. A run that
    raises a BaseException, is cancelled, shed or late is followed by one with the callback of a caller that is still
    there, at most `handovers` times; one that raises an Exception is an answer, unless `retry_failed`. Nothing is kept:
    who comes after the answer starts a new run.
    """

    def __init__(self, pool: Any, *, handovers: int = 3, retry_failed: bool = False) -> None:
        self._flight = _duly.Flight(pool, handovers, retry_failed)
        self._lock = threading.RLock()
        # Each key with how many callers it has.
        self._keys: dict[Hashable, list[Any]] = {}

    def call(self, key: Hashable, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Waits for the key's answer; if there is no run, starts one of `callback(*args, **kwargs)`."""
        return self._call(_NONE, key, callback, args, kwargs)  # type: ignore[no-any-return]

    def run(
        self, key: Hashable, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Coroutine[Any, Any, _R]:
        """As call, on an event loop. A coroutine that is cancelled leaves; the run goes on if there are others."""
        return self._run(_NONE, key, callback, args, kwargs)

    def options(self, *, timeout: float | None = None, scope: CancelScope | None = None) -> BoundFlight:
        """The same verbs for a caller that waits at most `timeout` seconds, or until `scope` is cancelled. (The ambient
        scope counts without being named.)"""
        return BoundFlight(self, _Limits(timeout, contextlib.nullcontext() if scope is None else scope))

    def __len__(self) -> int:
        """How many keys are in flight."""
        return len(self._flight)

    def __bool__(self) -> bool:
        return True

    def _enter(self, key: Hashable) -> Any:
        with self._lock:
            entry = self._keys.setdefault(key, [_duly.FlightKey(), 0])
            entry[1] += 1
            return entry[0]

    def _leave(self, key: Hashable) -> None:
        with self._lock:
            entry = self._keys[key]
            entry[1] -= 1
            if not entry[1]:
                del self._keys[key]

    def _call(self, limits: _Limits, key: Hashable, callback: Any, args: Any, kwargs: Any) -> Any:
        entry = self._enter(key)
        try:
            with limits.scope:
                return self._flight.call_and_wait(entry, limits.timeout, callback, *args, **kwargs)
        finally:
            del callback, args, kwargs
            self._leave(key)

    async def _run(self, limits: _Limits, key: Hashable, callback: Any, args: Any, kwargs: Any) -> Any:
        from duly import _aio

        entry = self._enter(key)
        try:
            waiting = _aio.arrivals().waiting
            with limits.scope:
                admission = self._flight.call_and_leave(waiting, entry, limits.timeout, callback, *args, **kwargs)
            # What is captured is the run's alone, however long the caller waits.
            del callback, args, kwargs
            try:
                fine, answer = await admission.told.future
            except BaseException:
                admission.cancel()
                raise
            try:
                if not fine:
                    raise answer
                return answer
            finally:
                del answer  # the traceback's frame is this one
        finally:
            self._leave(key)


class _Limits(NamedTuple):
    """How long a caller waits."""

    timeout: float | None
    scope: Any


_NONE = _Limits(None, contextlib.nullcontext())


class BoundFlight:
    """A single flight with options bound to it: the same verbs, made by `SingleFlight.options`."""

    def __init__(self, flight: SingleFlight, limits: _Limits) -> None:
        self._flight, self._limits = flight, limits

    def call(self, key: Hashable, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """As `SingleFlight.call`."""
        return self._flight._call(self._limits, key, callback, args, kwargs)  # type: ignore[no-any-return]

    def run(
        self, key: Hashable, callback: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Coroutine[Any, Any, _R]:
        """As `SingleFlight.run`."""
        return self._flight._run(self._limits, key, callback, args, kwargs)


def single_flight(
    pool: Any, *, key: Callable[..., Hashable] | None = None, handovers: int = 3, retry_failed: bool = False
) -> Callable[[Callable[_P, _R]], SharedFunction[_P, _R]]:
    """A decorator: calls with the same arguments at the same time share one run, a task of the pool.

        @duly.single_flight(pool)
        def load(user): ...

        load(7)                # in a thread; a second call meanwhile waits for the first one's run
        await load.run(7)      # on an event loop

    `key(*args, **kwargs)` says which calls are the same; without it the arguments do, which have to be hashable.
    """

    def decorate(callback: Callable[_P, _R]) -> SharedFunction[_P, _R]:
        flight = SingleFlight(pool, handovers=handovers, retry_failed=retry_failed)
        return SharedFunction(flight, callback, key)

    return decorate


class SharedFunction(Generic[_P, _R]):
    """A function of which one run a key is under way: made by `duly.single_flight`."""

    def __init__(self, flight: SingleFlight, callback: Callable[_P, _R], key: Callable[..., Hashable] | None) -> None:
        functools.update_wrapper(self, callback)
        self.flight, self._callback, self._key = flight, callback, key

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return self.flight.call(self._of(args, kwargs), self._callback, *args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        # A partial, which is called with the instance as its first argument: that is part of the key.
        shared: Any = self
        bound: Any = functools.partial(shared, instance)
        bound.run = functools.partial(shared.run, instance)
        return bound

    def run(self, *args: _P.args, **kwargs: _P.kwargs) -> Coroutine[Any, Any, _R]:
        """As a call, on an event loop."""
        return self.flight.run(self._of(args, kwargs), self._callback, *args, **kwargs)

    def _of(self, args: Any, kwargs: Any) -> Hashable:
        if self._key is not None:
            return self._key(*args, **kwargs)
        return (args, tuple(sorted(kwargs.items()))) if kwargs else args
