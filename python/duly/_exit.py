"""What happens to pools when the interpreter exits.

Keeps true: exit never hangs on a stuck callback. Pools are drained while other threads still run normally, before
the interpreter joins its threads; the workers are daemon threads, so that one stuck in a callback is not joined. And
when all exit handlers have been through, no thread of duly is half way into the interpreter.
"""

from __future__ import annotations

import atexit
import os
import threading

from duly import _duly


def install() -> None:
    """Drains all pools at exit: as early as threading lets us, else among the other exit handlers."""
    os.register_at_fork(
        before=_duly._before_fork,
        after_in_parent=_duly._after_fork_in_parent,
        after_in_child=_duly._after_fork_in_child,
    )
    # The first to be registered is the last to be called.
    atexit.register(_duly._before_finalizing)
    register = getattr(threading, "_register_atexit", atexit.register)
    try:
        register(_duly._drain_at_exit)
    except RuntimeError:  # imported while the interpreter is on its way out: nothing can be submitted any more
        _duly._drain_at_exit()
