"""How a pool gets its threads.

Keeps true: workers are true `threading.Thread`s, so tracing, profiling, debuggers and `threading.local` work in them,
and their thread state lives as long as they do. The native loop is their target.
"""

from __future__ import annotations

import threading
from typing import Callable


def start(loop: Callable[[], None], name: str) -> threading.Thread:
    """Starts a worker. Raises if the thread cannot be created."""
    thread = threading.Thread(target=loop, name=name, daemon=True)
    thread.start()
    return thread
