"""What the tests share.

Keeps true: a test leaves no pool behind; nothing here waits without an end.
"""

import threading
import time

import duly
import pytest


@pytest.fixture
def make_pool():
    """Makes pools, and shuts them down at the end of the test; gates made by `make_pool.gate()` are opened first."""
    pools, gates = [], []

    def make(*args, **kwargs):
        pools.append(duly.Pool(*args, **kwargs))
        return pools[-1]

    def gate():
        gates.append(threading.Event())
        return gates[-1]

    make.gate = gate
    yield make
    for one in gates:
        one.set()
    for pool in pools:
        pool.shutdown(5)


@pytest.fixture
def stuck(make_pool):
    """A pool of one worker that is stuck until `stuck.gate` is opened."""
    pool = make_pool(workers=1, capacity=2, max_blocked_producers=8)
    gate = make_pool.gate()
    started = threading.Event()

    def block():
        started.set()
        gate.wait()

    task = pool.options(label="stuck").submit(block)
    assert started.wait(5)

    class Stuck:
        pass

    Stuck.pool, Stuck.gate, Stuck.task = pool, gate, task
    return Stuck


def until(ready, seconds=5.0):
    """Asks until the answer is true."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)
