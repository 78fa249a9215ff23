"""How far it is: one line on stderr, drawn anew on a terminal; elsewhere a plain line every five seconds."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_WIDTH = 30


class Progress:
    """A line on stderr. `with Progress("checksum", 200) as progress: progress.show(ended)`"""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total = name, total
        self._terminal = sys.stderr.isatty()
        self._period = 0.1 if self._terminal else 5.0
        self._began = self._shown = time.monotonic()
        self._drawn = False

    def show(self, done: int) -> None:
        """Shows that `done` are done, if it is time to."""
        now = time.monotonic()
        if now - self._shown < self._period:
            return
        self._shown = now
        total = max(self._total, done, 1)
        left = (now - self._began) * (total - done) / max(done, 1)
        if self._terminal:
            full = _WIDTH * done // total
            bar = "#" * full + "." * (_WIDTH - full)
            sys.stderr.write(f"\r\x1b[K[{bar}] {done}/{total}, about {left:.0f} s to go")
            sys.stderr.flush()
            self._drawn = True
        else:
            print(f"duly {self._name}: {done} of {total}, about {left:.0f} s to go", file=sys.stderr)

    def clear(self) -> None:
        """Takes the line away, for what is to be printed."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.clear()
