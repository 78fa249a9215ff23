"""trio, also under anyio: the little that `_aio` asks of a loop, for one run of trio.

Keeps true: trio is never imported before its user has; a run that has ended is survived, as a closed loop is.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from duly._aio import Arrivals

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["arrivals"]

_here = threading.local()


def arrivals() -> Arrivals | None:
    """Those of the run whose task runs on this thread; None: no task of trio does."""
    lowlevel = getattr(sys.modules["trio"], "lowlevel", None)
    asked = getattr(lowlevel, "in_trio_task", None)  # which trio has from 0.29 on
    if asked is None or not asked():
        return None
    assert lowlevel is not None
    token = lowlevel.current_trio_token()
    known: Arrivals | None = getattr(_here, "arrivals", None)
    if known is None or known.loop.token is not token:
        known = _here.arrivals = Arrivals(Run(token))
    return known


class Run:
    """A run of trio."""

    __slots__ = ("token",)

    def __init__(self, token: Any) -> None:
        self.token = token

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        # After the end of the run this is a RuntimeError, as of a closed loop.
        self.token.run_sync_soon(callback)

    def create_future(self) -> Answer:
        return Answer()


class Answer:
    """What a task of trio waits for."""

    __slots__ = ("answer", "came")

    def __init__(self) -> None:
        self.came: Any = sys.modules["trio"].Event()
        self.answer: Any = None

    def done(self) -> bool:
        return bool(self.came.is_set())

    def set_result(self, answer: Any) -> None:
        self.answer = answer
        self.came.set()

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from self.came.wait().__await__()
        return self.answer

    async def within(self, seconds: float) -> None:
        """Waits, at most so long."""
        with sys.modules["trio"].move_on_after(seconds):
            await self
