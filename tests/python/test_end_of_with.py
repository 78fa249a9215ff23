"""P2, P4, P9: how a `with` block ends, and who may use a pool from where no code expects to be: handlers of signals,
destructors, weakref callbacks."""

import gc
import logging
import signal
import threading
import time
import weakref

import duly
import pytest
from conftest import until


class Mine(Exception):
    pass


def test_p04_a_with_block_that_ends_by_an_exception_cancels_what_is_queued_and_drains(make_pool):
    gate, started, ended = make_pool.gate(), threading.Event(), []

    def run():
        started.set()
        gate.wait()
        ended.append("running")

    pool = duly.Pool(1)
    running = pool.submit(run)
    assert started.wait(5)
    queued = [pool.submit(ended.append, number) for number in range(10)]
    queued += [pool.options(delay=60).submit(ended.append, "delayed")]
    queued += [pool.options(queue=pool.queue("other")).submit(ended.append, "other")]
    # Not before what is queued was cancelled: while the worker is stuck.
    opener = threading.Thread(target=lambda: [task.wait(10) for task in queued] and gate.set())
    opener.start()
    with pytest.raises(Mine), pool:
        raise Mine
    opener.join(5)
    assert ended == ["running"], "what ran was waited for"
    assert running.outcome == "succeeded"
    assert {task.outcome for task in queued} == {"cancelled"}
    assert "with block" in queued[0].exception().reason
    assert pool.closed
    assert pool.stats().books_balance()


def test_p12_a_handle_that_is_dropped_while_an_exception_leaves_is_logged_and_the_exception_goes_on(make_pool, caplog):
    """The log, and hooks, are called in the middle of somebody else's exception."""
    told = []
    pool = make_pool(workers=1, on_unobserved=lambda about: told.append((about.label, 1 + len(str(about)))))

    def leave():
        until(lambda: pool.stats().failed == 1)
        raise Mine("on its way")

    with caplog.at_level(logging.WARNING, "duly"), pytest.raises(Mine, match="on its way"):
        # The handle is on the stack of this frame when it is left.
        print(pool.options(label="unseen").submit(lambda: 1 // 0), leave())
    # Unless the worker was the last to let go of it.
    until(lambda: told and caplog.records)
    assert [label for label, _ in told] == ["unseen"]
    assert "ZeroDivisionError" in caplog.text
    assert 'nobody looked at task "unseen"' in caplog.text


def test_p13_a_signal_handler_may_submit_and_cancel_while_the_main_thread_submits(make_pool):
    """The main thread is interrupted wherever it is: in a submit, in the line for room, in a wait."""
    pool = make_pool(workers=2, capacity=4, max_blocked_producers=64)
    ran, tasks, handled = [], [], []

    def handle(*_):
        # Whoever interrupts may not wait for room, but may use everything else.
        try:
            tasks.append(pool.try_submit(ran.append, "handler"))
        except duly.QueueFull:
            if tasks:
                tasks[-1].cancel()
        pool.stats()
        handled.append(1)
        # The next one is not to come before this one is over: they would nest.
        signal.setitimer(signal.ITIMER_REAL, 0.0005)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    try:
        end = time.monotonic() + 1.0
        submitted = 0
        while time.monotonic() < end or len(handled) < 20:
            pool.submit(ran.append, "main")
            submitted += 1
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    report = pool.shutdown(10)
    assert report.drained
    assert report.stats.books_balance()
    assert ran.count("main") == submitted
    assert report.stats.cancelled + ran.count("handler") == len(tasks)


def test_p13_a_signal_handler_may_submit_with_the_policy_block(make_pool):
    """While the main thread waits for room, in its own submit."""
    pool, gate = make_pool(workers=1, capacity=1, max_blocked_producers=8), make_pool.gate()
    started, ran = threading.Event(), []
    pool.submit(lambda: started.set() or gate.wait())
    assert started.wait(5)
    pool.submit(ran.append, 1)

    def handle(*_):
        gate.set()
        ran.append(pool.submit(len, "abc").result(10))

    before = signal.signal(signal.SIGUSR1, handle)
    threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1)).start()
    try:
        pool.submit(ran.append, 2)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert pool.shutdown(10).drained
    assert sorted(ran) == [1, 2, 3]


@pytest.mark.thread_unsafe
def test_p13_destructors_and_weakref_callbacks_may_submit_and_cancel(make_pool):
    """They run at any allocation, also within a submit."""
    pool = make_pool(workers=2, capacity=100_000)
    ran = []
    running, gate = threading.Event(), make_pool.gate()
    unwanted = []

    class Cycle:
        def __init__(self):
            self.itself = self
            self.task = pool.options(delay=60).submit(int)
            unwanted.append(self.task)

        def __del__(self):
            self.task.cancel()
            pool.submit(ran.append, "destructor")

    def gone(_):
        pool.submit(ran.append, "weakref")

    pool.submit(lambda: running.set() or gate.wait())
    assert running.wait(5)
    before = gc.get_threshold()
    gc.set_threshold(5)
    refs = []
    try:
        for _ in range(300):
            # Collected, in a cycle, while something else is submitted.
            refs.append(weakref.ref(Cycle(), gone))
            pool.submit(ran.append, "main")
    finally:
        gc.set_threshold(*before)
    gc.collect()
    gate.set()
    assert all(isinstance(task.exception(10), duly.Cancelled) for task in unwanted)
    assert pool.shutdown(10).drained
    assert (ran.count("main"), ran.count("destructor"), ran.count("weakref")) == (300, 300, 300)
    assert pool.stats().books_balance()
