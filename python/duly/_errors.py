"""The exceptions of duly: one for each outcome that is not the callback's own, and one for each refusal of submit.

Keeps true: all but `Interrupted`, which reaches callbacks only, are a `DulyError`; each is also what the standard
library would have raised in its place.
"""

from __future__ import annotations

import concurrent.futures
import sys

if sys.version_info >= (3, 11):
    _Timeout = TimeoutError
else:

    class _Timeout(TimeoutError, concurrent.futures.TimeoutError):
        """Until Python 3.11 concurrent.futures had a TimeoutError of its own: this is both."""


class DulyError(Exception):
    """What all exceptions of duly have in common.

    `task` is the label of the task it is about, if there is one.
    """

    task: str | None = None


# Outcomes of a task.


class Cancelled(DulyError, concurrent.futures.CancelledError):
    """The task was cancelled; `reason` says why: "requested", "caller_left", or the caller's own words."""

    reason: str | None = None


class DeadlineExceeded(DulyError, _Timeout):
    """The task did not end by its deadline. Its callback may still run: see `Task.released`.

    From submit: the task's own deadline passed while it waited for room in the queue, and there is no task.
    """


class Panicked(DulyError):
    """Native code of the task panicked. (A `BaseException` of a Python callback is re-raised as itself.)"""


class NativeFailed(DulyError):
    """A native callback returned `code`, which is not 0."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the native callback returned {code}")
        self.code = code

    def __reduce__(self) -> tuple[type[NativeFailed], tuple[int]]:
        return type(self), (self.code,)


class Shed(DulyError):
    """The task was dropped by the pool's overflow policy and never ran."""


class Abandoned(DulyError):
    """The pool was shut down and its drain deadline passed before the task ended."""


# A wait that timed out: a different thing from a deadline.


class WaitTimeout(DulyError, _Timeout):
    """The wait timed out; the task goes on."""


# Refusals of submit, which create no task.


class QueueFull(DulyError):
    """There is no room in the queue, or too many producers wait for some already."""


class SubmitTimedOut(DulyError, _Timeout):
    """There was no room in the queue within `submit_timeout`."""


class ShutDown(DulyError, RuntimeError):
    """The pool is closed or shut down and accepts no more tasks."""


class WouldDeadlock(DulyError, RuntimeError):
    """The call would wait for itself, such as a shutdown called by a worker of that pool."""


class InvalidArgument(DulyError, ValueError):
    """A value outside its documented bounds."""


class Interrupted(BaseException):
    """Raised in a running callback whose task has ended, if it was submitted with `interrupt=True`: nobody waits for
    what it does any more. It is no `Exception`, so that what handles those does not stop it.

    CPython from 3.11 on may pass over a handler in the function whose loop it was about to repeat, never over one in
    that function's callers (python/cpython#130279)."""
