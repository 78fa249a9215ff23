"""The drop-in executor: true futures, bounded, never blocking on an event loop. CPython's own tests of executors are
run by test_cpython_suite.py; what the standard pool gets wrong is in test_standard_pool.py."""

import asyncio
import concurrent.futures
import gc
import subprocess
import sys
import threading
import time
import traceback
import weakref

import duly
import pytest
from conftest import until


@pytest.fixture
def full(make_executor):
    """An executor of one worker that is stuck, with a queue of two that is full, until `full.gate` is opened."""
    executor, gate, started = (
        make_executor(1, capacity=2, max_blocked_producers=3),
        make_executor.gate(),
        threading.Event(),
    )

    class Full:
        pass

    Full.executor, Full.gate = executor, gate
    Full.running = executor.submit(lambda: started.set() or gate.wait())
    assert started.wait(5)
    Full.queued = [executor.submit(int) for _ in range(2)]
    return Full


def test_p01_futures_are_true_futures(make_executor):
    executor = make_executor(2)
    assert isinstance(executor, concurrent.futures.ThreadPoolExecutor)
    future = executor.submit(pow, 2, 8)
    assert isinstance(future, concurrent.futures.Future)
    seen = []
    future.add_done_callback(lambda future: seen.append(future.result()))
    assert future.result(5) == 256
    assert (future.done(), future.running(), future.cancelled(), future.cancel()) == (True, False, False, False)
    until(lambda: seen == [256])
    done, not_done = concurrent.futures.wait([executor.submit(abs, -n) for n in range(50)], 5)
    assert (sorted(one.result() for one in done), not_done) == (list(range(50)), set())
    futures = [executor.submit(abs, -n) for n in range(50)]
    assert sorted(one.result() for one in concurrent.futures.as_completed(futures, 5)) == list(range(50))


def test_p01_states_seen_by_many_threads_are_true(make_executor):
    """Waiters come while futures end natively: none is missed, and none is counted twice."""
    executor = make_executor(4)
    wrong = []

    def look(futures):
        try:
            for one in (futures[::2], futures[1::2]):
                done, not_done = concurrent.futures.wait(one, 20)
                assert not not_done
                assert all(future.done() for future in done)
            assert [future.result(0) for future in futures] == list(range(len(futures)))
        except BaseException as error:
            wrong.append(error)

    for _ in range(30):
        futures = [executor.submit(abs, -n) for n in range(40)]
        lookers = [threading.Thread(target=look, args=(futures,)) for _ in range(3)]
        for looker in lookers:
            looker.start()
        for looker in lookers:
            looker.join(30)
    assert not wrong


def test_p05_submit_waits_for_room_and_a_cancelled_future_gives_its_place_back(full):
    admitted = threading.Event()
    blocked = threading.Thread(target=lambda: (full.executor.submit(int), admitted.set()))
    blocked.start()
    assert not admitted.wait(0.05)
    assert full.queued[0].cancel()
    assert admitted.wait(5)
    blocked.join(5)
    assert full.executor._work_queue.qsize() == 2


def test_p05_an_executor_may_refuse_instead(make_executor):
    executor, gate, started = make_executor(1, capacity=1, overflow="reject"), make_executor.gate(), threading.Event()
    executor.submit(lambda: started.set() or gate.wait())
    assert started.wait(5)
    executor.submit(int)
    with pytest.raises(duly.QueueFull):
        executor.submit(int)
    with pytest.raises(duly.InvalidArgument, match="drop_oldest"):
        make_executor(1, overflow="drop_oldest")


@pytest.mark.usefixtures("each_loop")
def test_p13_on_an_event_loop_submit_never_blocks(full):
    async def main():
        futures = [full.executor.submit(abs, -n) for n in range(3)]
        with pytest.raises(duly.QueueFull):
            full.executor.submit(int)
        assert not any(future.done() for future in futures)
        assert futures[1].cancel(), "one that waits for room leaves the line"
        threading.Timer(0.05, full.gate.set).start()
        assert await asyncio.wrap_future(futures[0]) == 0
        assert await asyncio.wrap_future(futures[2]) == 2

    asyncio.run(main())
    # Where no loop runs it waits.
    assert full.executor.submit(int).result(5) == 0


@pytest.mark.usefixtures("each_loop")
def test_p13_a_future_that_waits_to_be_admitted_is_told_of_the_end(full):
    async def main():
        future = full.executor.submit(int)
        full.executor.shutdown(wait=False)
        assert isinstance(future.exception(5), duly.ShutDown)

    asyncio.run(main())


def test_p04_whoever_is_told_of_the_end_may_cancel_the_others_in_line():
    # In a process of its own: what must not happen holds the interpreter's lock.
    program = """
import asyncio, threading, duly

gate = threading.Event()
executor = duly.ThreadPoolExecutor(1, capacity=1, max_blocked_producers=8)

async def main():
    running = executor.submit(gate.wait, 20)
    while not running.running():
        await asyncio.sleep(0.001)
    futures = [executor.submit(int) for _ in range(5)]
    for one in futures[1:]:
        one.add_done_callback(lambda _: [future.cancel() for future in futures])
    executor.shutdown(wait=False)
    assert all(future.done() for future in futures), futures
    gate.set()

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=20, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_p01_no_done_callback_is_lost_though_the_collector_runs_while_a_future_ends():
    # Until 3.11 it may run wherever something is made that it watches, here the dict of a future whose attributes are
    # more than its class has room for. In a process of its own: all futures share that room.
    program = """
import gc, threading, duly

class Thing:
    pass

class Garbage:
    def __init__(self):
        self.itself = self
    def __del__(self):
        # Not on the main thread, which may be in the middle of what this asks for.
        if threading.current_thread() is not threading.main_thread():
            collected.set()
            told.wait(10)

sample = duly.Future()
sample._live = sample._task = None
sample._state = "PENDING"
for number in range(40):
    setattr(sample, f"name{number}", None)
held, seen = [], threading.Event()
collected, told = threading.Event(), threading.Event()

def callback(thing):
    # No dict that was freed is left to be taken again, nor will be that of the keywords.
    held.extend({} for _ in range(200))
    held.extend(gc.get_referrers(thing))
    gc.disable()
    Garbage()
    held.append([[] for _ in range(100)])
    gc.set_threshold(10)
    gc.enable()

with duly.ThreadPoolExecutor(1) as executor:
    future = executor.submit(callback, thing=Thing())
    collected.wait(2)  # from 3.12 on it runs elsewhere, or not at all
    future.add_done_callback(lambda _: seen.set())
    told.set()
    future.result(20)
    assert seen.wait(20)
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=50, stderr=subprocess.PIPE, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("each_loop")
def test_p01_asyncio_takes_it_as_its_default(make_executor):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(make_executor(2))
        assert await loop.run_in_executor(None, pow, 2, 8) == 256
        if hasattr(asyncio, "to_thread"):
            assert await asyncio.to_thread(pow, 2, 3) == 8
        results = await asyncio.gather(*(loop.run_in_executor(None, abs, -n) for n in range(2000)))
        assert results == list(range(2000)), "more than the queue holds: they wait to be admitted"

    asyncio.run(main())


def test_p10_a_callback_may_wait_for_its_own_executor(make_executor):
    executor = make_executor(1)
    assert executor.submit(lambda: executor.submit(abs, -5).result()).result(10) == 5
    small = make_executor(1, capacity=1)

    def flood():
        return [future.result() for future in [small.submit(abs, -n) for n in range(10)]]

    assert small.submit(flood).result(10) == list(range(10))


def test_p07_tracebacks_do_not_grow_and_exceptions_of_every_kind_arrive(make_executor):
    executor = make_executor(1)
    future = executor.submit(lambda: 1 // 0)
    depths = set()
    for _ in range(5):
        with pytest.raises(ZeroDivisionError) as caught:
            future.result(5)
        depths.add(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(depths) == 1
    for kind in (SystemExit, KeyboardInterrupt, StopIteration, GeneratorExit, BaseException):

        def leave(kind=kind):
            raise kind("reason")

        with pytest.raises(kind):
            executor.submit(leave).result(5)
    assert executor.submit(int).result(5) == 0


def test_p06_arguments_are_gone_when_the_future_is_done(make_executor):
    class Thing:
        pass

    executor = make_executor(1)
    thing = Thing()
    gone = weakref.ref(thing)
    future = executor.submit(lambda _: None, thing)
    del thing
    future.result(5)
    assert gone() is None
    value = executor.submit(Thing)
    gone = weakref.ref(value.result(5))
    del value
    gc.collect()
    assert gone() is None
    assert not executor._live


def test_p08_workers_that_are_dropped_with_their_executor_finish_first(make_executor):
    executor = duly.ThreadPoolExecutor(1)
    futures = [executor.submit(time.sleep, 0.02) for _ in range(5)]
    threads = executor._threads
    del executor
    gc.collect()
    assert [future.result(5) for future in futures] == [None] * 5
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def test_p08_a_callback_that_returns_after_its_future_was_failed_is_no_error(make_executor, monkeypatch):
    complaints, initialized = [], []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)

    def initialize():
        initialized.append(1)
        if len(initialized) > 1:
            raise LookupError("the second thread is one too many")

    executor, gate, started = make_executor(2, initializer=initialize), make_executor.gate(), threading.Event()
    running = executor.submit(lambda: started.set() or gate.wait())
    assert started.wait(5)
    queued = executor.submit(int)
    for future in (running, queued):
        assert isinstance(future.exception(10), concurrent.futures.BrokenExecutor)
    gate.set()
    executor.shutdown()
    for thread in executor._threads:
        thread.join(10)
    with pytest.raises(concurrent.futures.BrokenExecutor):
        running.result(0)
    assert not complaints


def test_p04_a_result_that_is_waited_for_in_vain(full):
    for timeout in (0, -1, 0.02):
        with pytest.raises(concurrent.futures.TimeoutError):
            full.running.result(timeout)
        with pytest.raises(concurrent.futures.TimeoutError):
            full.queued[0].exception(timeout)


def test_p16_what_the_standard_executor_refuses_is_refused(make_executor):
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        duly.ThreadPoolExecutor(0)
    with pytest.raises(TypeError):
        duly.ThreadPoolExecutor(1, initializer=5)
    with pytest.raises(duly.InvalidArgument):
        duly.ThreadPoolExecutor(1, capacity=0)
    executor = make_executor(1)
    with pytest.raises(TypeError):
        executor.submit()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(int)
