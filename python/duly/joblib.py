"""joblib on duly: `register()` makes "duly" a backend of joblib's.

Keeps true:
1. No submit waits: joblib submits under a lock that ending a task needs, on threads that end tasks. What finds no room
   stands in line; what joblib dispatches beyond `n_jobs` waits here, without a bound but joblib's `pre_dispatch`.
2. joblib is told of the end of each batch exactly once, also of one that the pool refuses.
3. The lock is a leaf: nothing is submitted, told or cancelled under it.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from duly import _duly, _errors
from duly._scope import CancelScope
from duly.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["register"]


def register(name: str = "duly", *, make_default: bool = False) -> None:
    """Registers the backend with joblib.

        duly.joblib.register()
        with joblib.parallel_config(backend="duly", n_jobs=4):
            joblib.Parallel()(joblib.delayed(work)(item) for item in items)

    Each `Parallel` gets a pool of `n_jobs` workers, or the one that is named: `parallel_config(backend="duly",
    pool=pool)`, of which it uses at most `n_jobs` workers at a time, by default all. What joblib gives up, after an
    exception, its `timeout` or Ctrl-C, is cancelled, running batches too, and nobody waits for them. Context variables
    reach the callbacks, and `duly.CancelScope` and the pool's `default_timeout` hold for them. A `Parallel` inside a
    batch runs one call after the other, as does one inside a task that names a pool.
    """
    joblib = importlib.import_module("joblib")
    backend = type("DulyBackend", (_Backend, joblib.ParallelBackendBase), {"__doc__": _Backend.__doc__})
    joblib.register_parallel_backend(name, backend, make_default=make_default)


class _Backend:
    """What joblib asks of a backend."""

    default_n_jobs = -1
    supports_retrieve_callback = True
    supports_sharedmem = True
    uses_threads = True

    nesting_level: int | None

    def __init__(self, *, pool: Pool | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._given = self._pool = pool
        self._call: _Call | None = None
        self._n_jobs = 1

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many batches run at a time."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        most: int = self._given._workers if self._given is not None else importlib.import_module("joblib").cpu_count()
        if n_jobs is None:
            return 1
        if n_jobs < 0:
            return max(most + 1 + n_jobs, 1)
        return min(n_jobs, most) if self._given is not None else n_jobs

    def configure(self, n_jobs: int | None = 1, parallel: Any = None, **_: Any) -> int:
        """Makes the pool, if none was given."""
        self.parallel = parallel
        self._n_jobs = self.effective_n_jobs(n_jobs)
        if self._given is None and self._n_jobs > 1:
            self._pool = Pool(self._n_jobs, name="joblib")
        elif self._given is None or _duly.current_task() is not None:
            # joblib waits where the pool cannot see it, so a task of the pool's must not wait for others of it.
            backends = importlib.import_module("joblib._parallel_backends")
            raise backends.FallbackToBackend(backends.SequentialBackend(nesting_level=self.nesting_level))
        return self._n_jobs

    def start_call(self) -> None:
        """A `Parallel` is called."""
        assert self._pool is not None
        self._call = _Call(self._pool, self._n_jobs)

    def submit(self, batch: Callable[[], Any], callback: Callable[[Any], object]) -> None:
        """Has a batch run and `callback(task)` told of its end."""
        assert self._call is not None
        self._call.submit(batch, callback)

    def retrieve_result_callback(self, task: Any) -> Any:
        """What a batch returned."""
        return task.result(0)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Nobody waits for what was submitted."""
        if self._call is not None:
            self._call.abort()

    def terminate(self) -> None:
        """Ends the pool, unless it was given."""
        if self._given is None and self._pool is not None:
            pool, self._pool = self._pool, None
            pool.close()
            with contextlib.suppress(_errors.WouldDeadlock):  # in one of its batches: it ends without being waited for
                pool.shutdown(0)

    def get_nested_backend(self) -> tuple[Any, None]:
        """What a `Parallel` inside a batch uses."""
        backends = importlib.import_module("joblib._parallel_backends")
        return backends.SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None


class _Call:
    """One call of a `Parallel`: its batches, of which at most `limit` are with the pool."""

    def __init__(self, pool: Pool, limit: int) -> None:
        self.scope = CancelScope()
        self.verbs = pool.options(scope=self.scope, label="joblib")
        # Later batches are submitted wherever earlier ones end.
        self.context = contextvars.copy_context()
        self.limit = limit
        self.flying = 0
        self.waiting: deque[tuple[Any, Any]] = deque()
        self.lock = threading.Lock()

    def submit(self, batch: Any, told: Any) -> None:
        with self.lock:
            if self.flying >= self.limit:
                self.waiting.append((batch, told))
                return
            self.flying += 1
        refused = self.start(batch, told)
        if refused is not None:
            self.ended(told, refused)

    def start(self, batch: Any, told: Any) -> _Refused | None:
        """Hands a batch to the pool. Whoever gets an answer goes on with `ended`."""
        try:
            task = self.verbs._admit(lambda: partial(self.admitted, told), self.context.copy().run, batch)
        except Exception as error:
            return _Refused(error)
        if isinstance(task, _duly.Task):
            task.add_done_callback(partial(self.ended, told))
        return None

    def admitted(self, told: Any, answer: Any) -> None:
        """There is room now, or never will be."""
        if isinstance(answer, BaseException):
            self.ended(told, _Refused(answer))
        else:
            answer.add_done_callback(partial(self.ended, told))

    def ended(self, told: Any, task: Any) -> None:
        """Tells joblib, and goes on with the next batch that waits."""
        while True:
            failed = task.exception(0) is not None
            told(task)
            if failed:
                self.abort()  # as joblib will, once it looks
            with self.lock:
                if not self.waiting:
                    self.flying -= 1
                    return
                batch, told = self.waiting.popleft()
            refused = self.start(batch, told)
            if refused is None:
                return
            task = refused

    def abort(self) -> None:
        with self.lock:
            self.waiting.clear()
        # Also those in line for room.
        self.scope.cancel("given up by joblib")


class _Refused:
    """Stands for the task of a batch that never became one."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def exception(self, _timeout: float) -> BaseException:
        return self.error

    def result(self, _timeout: float) -> Any:
        raise self.error
