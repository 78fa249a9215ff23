"""How a pool gets its threads.

Keeps true: workers are true `threading.Thread`s, so tracing, profiling, debuggers and `threading.local` work in them,
and their thread state lives as long as they do. The native loop is their target.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from typing import Any, Callable

from duly import _log

# Every worker of every pool, for as long as its thread is there.
started: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def start(loop: Callable[[], object], name: str) -> threading.Thread:
    """Starts a worker. Raises if the thread cannot be created."""
    thread = threading.Thread(target=loop, name=name, daemon=True)
    started.add(thread)
    thread.start()
    return thread


def with_initializer(initializer: Callable[..., object], initargs: Iterable[Any] | None, pool: str) -> Any:
    """What starts workers that call `initializer(*initargs)` before they serve. If that raises, the pool has come to
    its end: it is closed, and what it has is abandoned."""
    arguments = tuple(initargs or ())

    def start_initialized(loop: Any, name: str) -> threading.Thread:
        def serve() -> None:
            try:
                initializer(*arguments)
            except BaseException:
                _log.critical("the initializer of pool %r failed: the pool is closed, its tasks are abandoned", pool)
                loop.give_up()
            else:
                loop()

        return start(serve, name)

    return start_initialized
