"""`CancelScope`: a cancellation token that is ambient while a `with` block runs.

Keeps true: entering and leaving only moves the context variable; leaving cancels nothing.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import TracebackType

from duly import _duly

__all__ = ["CancelScope", "ambient"]

ambient: ContextVar[CancelScope | None] = ContextVar("duly.CancelScope", default=None)


class CancelScope(_duly.CancelScope):
    """Cancels what was submitted under it: by `cancel()`, or when its time has passed.

        with duly.CancelScope(timeout=2.0) as scope:
            task = pool.submit(work)       # under the scope, as is whatever work() submits
            scope.cancel("not needed any more")

    In a `with` block, also an asynchronous one, the scope is ambient: for calls, for tasks of asyncio that are made in
    it, and for callbacks that are submitted in it. A scope made inside another one, or inside a callback, is cancelled
    with it; `detached=True` makes one that is not. Leaving the block cancels nothing. `pool.options(scope=...)` names
    a scope without a block.
    """

    def __init__(self, timeout: float | None = None, *, deadline: float | None = None, detached: bool = False) -> None:
        self._entered: list[Token[CancelScope | None]] = []

    def __enter__(self) -> CancelScope:
        _duly._use_scopes()
        self._entered.append(ambient.set(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ambient.reset(self._entered.pop())

    async def __aenter__(self) -> CancelScope:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)
