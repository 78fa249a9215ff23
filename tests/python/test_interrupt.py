"""P2, P7: `interrupt=True` raises in a running callback whose task has ended, and never elsewhere."""

import threading
import time

import duly
import pytest
from conftest import LONGER, until

busy = time.monotonic


def ask_nobody(end, began, stop):
    if began is not None:
        began.set()
    while busy() < end and not (stop is not None and stop.is_set()):
        try:
            sum(range(50))
        except Exception:
            raise AssertionError("it is no Exception") from None


def spin(seconds=20.0, seen=None, began=None, stop=None):
    """Pure Python that never asks whether its task has ended, and handles every Exception."""
    # The loop is a function of its own: CPython may pass over a handler in the function whose loop it was about to
    # repeat (python/cpython#130279; 3.13 does so here).
    try:
        ask_nobody(busy() + seconds, began, stop)
    except duly.Interrupted:
        if seen is not None:
            seen.append("interrupted")
        raise


def test_p02_a_callback_that_never_asks_is_interrupted_at_its_deadline(make_pool):
    pool = make_pool(workers=1, max_replacements=0)
    # A callback that has not begun by its deadline is another case: on a machine that is busy the next has more time.
    for timeout in LONGER:
        began, seen, start = threading.Event(), [], time.monotonic()
        task = pool.options(timeout=timeout, interrupt=True).submit(spin, seen=seen, began=began)
        assert isinstance(task.exception(timeout + 5), duly.DeadlineExceeded)
        assert task.released(10), "its thread is free again"
        assert time.monotonic() - start < timeout + 10
        if began.is_set():
            break
    assert seen == ["interrupted"]
    assert pool.submit(abs, -1).result(5) == 1, "with the one worker there is"
    until(lambda: pool.stats().late >= 1)


def test_p02_a_callback_is_interrupted_when_its_task_is_cancelled_or_abandoned(make_pool):
    pool, seen = make_pool(workers=2), []
    bound = pool.options(interrupt=True)
    began = [threading.Event(), threading.Event()]
    cancelled, abandoned = (bound.submit(spin, seen=seen, began=each) for each in began)
    assert all(each.wait(10) for each in began)
    cancelled.cancel()
    assert cancelled.released(10)
    assert seen == ["interrupted"]
    pool.shutdown(0)
    assert abandoned.outcome == "abandoned"
    assert abandoned.released(10)
    assert seen == ["interrupted"] * 2


def test_p07_an_interrupt_never_reaches_the_next_task(make_pool):
    """Callbacks that end at about their deadline: what is sent and does not arrive is taken back."""
    pool = make_pool(workers=2, capacity=10_000, max_replacements=0)
    wrong = []

    def near(span):
        end = busy() + span
        while busy() < end:
            pass
        return "near"

    def innocent():
        try:
            for _ in range(200):
                pass
        except BaseException as error:
            wrong.append(repr(error))
            raise
        return "innocent"

    tasks = []
    for round_ in range(150):
        tasks.append((pool.options(timeout=0.004, interrupt=True).submit(near, 0.0035 + (round_ % 10) * 0.0001), None))
        tasks.append((pool.submit(innocent), "innocent"))
        if round_ % 10 == 9:
            for task, _ in tasks[-6:]:
                task.wait(10)
    for task, value in tasks:
        assert task.released(10)
        if value is not None:
            assert task.result(5) == value
        else:
            assert task.outcome in ("succeeded", "deadline_exceeded")
    assert wrong == []
    assert pool.stats().workers == 2, "and never the pool's own code"


def test_p07_an_interrupt_does_not_reach_a_task_that_runs_on_top_of_its_callback(make_pool):
    """A wait inside a callback may run what it waits for; the outer one is interrupted when that has come back."""
    pool, seen, began = make_pool(workers=1, max_replacements=0), [], threading.Event()

    def inner():
        began.set()
        end = busy() + 0.4
        while busy() < end:
            pass
        seen.append("inner")
        return "inner"

    def wait_on(task):
        while True:
            task.wait()
            busy()

    def outer():
        try:
            wait_on(pool.options(detached=True).submit(inner))
        except duly.Interrupted:
            seen.append("outer")
            raise

    task = pool.options(interrupt=True).submit(outer)
    assert began.wait(10)
    task.cancel()
    assert task.released(10)
    assert seen == ["inner", "outer"]


def test_p02_without_interrupt_nothing_is_raised(make_pool):
    pool, seen, stop = make_pool(workers=1), [], make_pool.gate()
    for timeout in LONGER:
        began = threading.Event()
        task = pool.options(timeout=timeout).submit(spin, seen=seen, began=began, stop=stop)
        assert isinstance(task.exception(timeout + 5), duly.DeadlineExceeded)
        if began.is_set():
            break
    assert not task.released(0.1), "it goes on"
    stop.set()
    assert task.released(10)
    assert seen == []


def test_p07_an_interrupt_may_be_handled(make_pool):
    """Once: then the callback may put things in order, and return."""
    pool, seen, began = make_pool(workers=1), [], threading.Event()

    def tidy():
        try:
            spin(began=began)
        except duly.Interrupted:
            seen.append(1)
            spin(0.1)
            return "late"

    task = pool.options(interrupt=True).submit(tidy)
    assert began.wait(10)
    task.cancel()
    assert task.released(10)
    assert seen == [1]
    assert task.outcome == "cancelled"
    assert issubclass(duly.Interrupted, BaseException)
    assert not issubclass(duly.Interrupted, Exception)


def test_p02_callers_that_run_and_periodic_tasks_are_interrupted_too(make_pool):
    pool, gate = make_pool(workers=1, capacity=1, overflow="caller_runs"), make_pool.gate()
    started = threading.Event()
    pool.submit(lambda: started.set() or gate.wait())
    assert started.wait(5)
    pool.submit(int)
    for timeout in LONGER:
        began, seen = threading.Event(), []
        task = pool.options(timeout=timeout, interrupt=True).submit(spin, seen=seen, began=began)
        assert isinstance(task.exception(0), duly.DeadlineExceeded)
        if began.is_set():
            break
    assert seen == ["interrupted"]
    gate.set()
    # A run that has not begun by its deadline is followed by another.
    beat = pool.options(timeout=0.2, interrupt=True).every(0.01).submit(spin, seen=seen)
    until(lambda: len(seen) >= 2)
    beat.cancel()


def test_p07_what_was_taken_back_leaves_no_trace(make_pool):
    # Until 3.12 the interpreter goes on looking for it; 3.11 does nothing else where there is a trace function.
    pool = make_pool(workers=1, max_replacements=0)
    task = pool.options(timeout=0.05, interrupt=True).submit(time.sleep, 0.2)
    assert task.released(10)
    threading.settrace(lambda *_: None)
    try:
        assert make_pool(workers=1).submit(int).result(20) == 0
    finally:
        threading.settrace(None)


@pytest.mark.parametrize("interrupt", [True, False])
def test_p07_a_callback_without_python_is_left_alone(make_pool, interrupt):
    pool, lock = make_pool(workers=1, max_replacements=0), threading.Lock()
    with lock:
        task = pool.options(interrupt=interrupt).submit(lock.acquire)
        then = pool.submit(spin, 0.01)
        # From here on it is left to its callback, which has no line of Python.
        until(lambda: pool.stats().running == 1)
        task.cancel()
        assert isinstance(task.exception(5), duly.Cancelled)
        assert not task.released(0.1)
    assert task.released(10)
    # On the same thread: what did not arrive in time was taken back.
    assert then.result(5) is None
