"""Where an interrupt arrives that came too late for its callback.

Keeps true: it runs no code but its own.
"""

from __future__ import annotations


def swallow() -> None:
    """Gives the interpreter an opportunity to raise what was sent to this thread."""
    for _ in (1, 2, 3):
        pass
