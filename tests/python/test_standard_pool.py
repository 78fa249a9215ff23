"""What the standard library's pool leaves unanswered, and how duly answers.

Keeps true: each hole is shown with the standard pool too, on versions that have it; so it is seen when Python closes
one. A wait that hangs there is a daemon thread's, or a child process's.
"""

import asyncio
import concurrent.futures
import subprocess
import sys
import threading

import duly
import pytest

POOLS = {"standard": concurrent.futures.ThreadPoolExecutor, "duly": duly.ThreadPoolExecutor}


def answered(wait, seconds):
    """Whether `wait()` returns in time, on a thread of its own."""
    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    waiter.join(seconds)
    return not waiter.is_alive()


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("how", ["cancel", "shutdown"])
def test_p01_waiters_of_a_cancelled_future_are_answered_while_the_worker_is_stuck(pool, how):
    """CPython's issues 87893, 92001, 109934: it is cancelled, but nobody is notified."""
    executor, gate = POOLS[pool](1), threading.Event()
    try:
        executor.submit(gate.wait)
        future = executor.submit(int)
        if how == "cancel":
            assert future.cancel()
        else:
            executor.shutdown(wait=False, cancel_futures=True)
        assert future.cancelled()
        assert answered(lambda: concurrent.futures.wait([future]), 20 if pool == "duly" else 0.3) == (pool == "duly")
        if pool == "duly":
            assert list(concurrent.futures.as_completed([future], 5)) == [future]
    finally:
        gate.set()
        executor.shutdown()


def script(text, seconds):
    """Whether a script ends in time, and what it said."""
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", text], capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return False, ""
    return True, done.stdout + done.stderr


STOP_ITERATION = """
import asyncio, concurrent.futures, duly

def stop():
    raise StopIteration("told")

async def main():
    {how}

try:
    asyncio.run(main())
except RuntimeError as error:
    print("answered:", error)
"""


def test_p01_a_stop_iteration_reaches_the_coroutine_that_waits():
    """CPython's issue 112182: until 3.12.1 the coroutine waits for ever."""
    standard = "await asyncio.get_running_loop().run_in_executor(concurrent.futures.ThreadPoolExecutor(1), stop)"
    if sys.version_info < (3, 12, 2):
        assert not script(STOP_ITERATION.format(how=standard), 1.5)[0]
    for ours in ("await duly.Pool(1).run(stop)", "await (await duly.Pool(1).asubmit(stop))"):
        ended, said = script(STOP_ITERATION.format(how=ours), 20)
        assert ended
        assert said.startswith("answered:"), said


FORKED = """
import concurrent.futures, os, duly
executor = {pool}(1)
executor.submit(int).result()
child = os.fork()
if child == 0:
    try:
        print("answered:", executor.submit(int).result(timeout={seconds}), flush=True)
    except concurrent.futures.TimeoutError:
        print("nobody answered", flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_p11_a_forked_child_is_answered():
    """In a forked child the standard pool accepts what nobody will run."""
    ended, said = script(FORKED.format(pool="concurrent.futures.ThreadPoolExecutor", seconds=0.5), 20)
    assert (ended, said) == (True, "nobody answered\n")
    ended, said = script(FORKED.format(pool="duly.ThreadPoolExecutor", seconds=10), 20)
    assert (ended, said) == (True, "answered: 0\n")


SIGNALLED = """
import concurrent.futures, signal, sys, threading, duly

executor = {pool}(2{options})
calls = []

def handler(*_):
    calls.append("shutdown")
    executor.shutdown(wait=False)

signal.signal(signal.SIGUSR1, handler)
{during}
print("answered", calls, flush=True)
executor.shutdown()
"""

# In the middle of a submit of the standard pool: while it holds its lock.
IN_STANDARD_SUBMIT = """
put = executor._work_queue.put
class Queue:
    def put(self, item):
        signal.raise_signal(signal.SIGUSR1)
        put(item)
    def __getattr__(self, name):
        return getattr(concurrent.futures.thread.queue.SimpleQueue(), name)
executor._work_queue = Queue()
executor.submit(int)
"""
# In the middle of ours: while it waits for room.
IN_OUR_SUBMIT = """
gate = threading.Event()
for _ in range(3):
    executor.submit(gate.wait)
threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1)).start()
try:
    executor.submit(int)
except RuntimeError as error:
    print(error)
gate.set()
"""


def test_p14_a_shutdown_in_a_signal_handler_while_the_main_thread_submits():
    """CPython's issue 121649: the standard pool takes its lock a second time, and waits for itself."""
    standard = SIGNALLED.format(pool="concurrent.futures.ThreadPoolExecutor", options="", during=IN_STANDARD_SUBMIT)
    assert not script(standard, 1.5)[0]
    ours = SIGNALLED.format(pool="duly.ThreadPoolExecutor", options=", capacity=1", during=IN_OUR_SUBMIT)
    ended, said = script(ours, 20)
    assert (ended, said) == (True, "cannot schedule new futures after shutdown\nanswered ['shutdown']\n")


@pytest.mark.parametrize("pool", POOLS)
def test_p10_a_callback_that_waits_for_its_own_pool(pool):
    """A worker that waits for a task of its own pool: the standard pool has nobody left to run it."""
    executor = POOLS[pool](1)
    released = threading.Event()

    def outer():
        inner = executor.submit(int)
        try:
            return inner.result(None if pool == "duly" else 0.3)
        except concurrent.futures.TimeoutError:
            return "nobody answered"
        finally:
            released.set()

    assert executor.submit(outer).result(10) == (0 if pool == "duly" else "nobody answered")
    assert released.wait(5)
    executor.shutdown()


def test_p01_a_loop_that_closes_is_survived():
    async def leave(pool, gate):
        return [pool.try_submit(gate.wait), asyncio.ensure_future(pool.run(int))]

    for _ in range(20):
        with duly.Pool(1) as pool:
            gate = threading.Event()
            loop = asyncio.new_event_loop()
            task, waits = loop.run_until_complete(leave(pool, gate))
            waits.cancel()
            loop.run_until_complete(asyncio.wait([waits]))
            loop.close()
            gate.set()
            assert task.result(5) is True
