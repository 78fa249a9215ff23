"""What the tests share.

Keeps true: a test leaves no pool behind; nothing here waits without an end.
"""

import asyncio
import signal
import threading
import time
import warnings

import duly
import pytest

# What several threads of one test cannot share (pytest-run-parallel): a pool that is stuck or full, signals, and what
# is counted for the whole process.
SHARED_FIXTURES = {"stuck", "full", "caplog", "capfd", "capsys", "monkeypatch", "pytester"}
WHOLE_PROCESS = ("_signal_", "_thread", "_leaves_no_", "unobserved")


def pytest_configure(config):
    config.addinivalue_line("markers", "thread_unsafe: not for several threads at the same time")
    # A shell that starts something in the background has it, and all that it starts, ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    for item in items:
        if SHARED_FIXTURES & set(item.fixturenames) or any(part in item.name for part in WHOLE_PROCESS):
            item.add_marker("thread_unsafe")


def maker(kind, end):
    """Makes pools of a kind, and ends each at the end of the test; gates made by `.gate()` are opened first."""
    made, gates = [], []

    def make(*args, **kwargs):
        made.append(kind(*args, **kwargs))
        return made[-1]

    def gate():
        gates.append(threading.Event())
        return gates[-1]

    make.gate = gate
    yield make
    for one in gates:
        one.set()
    for one in made:
        end(one)


@pytest.fixture
def make_pool():
    """Makes pools: see `maker`."""
    yield from maker(duly.Pool, lambda pool: pool.shutdown(5))


@pytest.fixture
def make_executor():
    """Makes executors: see `maker`."""
    yield from maker(duly.ThreadPoolExecutor, lambda executor: executor.shutdown())


def make_stuck(make_pool):
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


@pytest.fixture
def stuck(make_pool):
    """See `make_stuck`."""
    return make_stuck(make_pool)


def needs(*packages):
    """The packages that the tests of a file are about; skips them where one is not here."""
    reason = "{} is not here: ci/venv installs it into .venv, for one version of Python"
    return [pytest.importorskip(name, reason=reason.format(name)) for name in packages]


@pytest.fixture(params=["asyncio", "uvloop"])
def each_loop(request):
    """Whatever runs a loop of asyncio runs the standard library's, and then one of uvloop."""
    if request.param == "asyncio":
        yield
        return
    (uvloop,) = needs("uvloop")
    # Policies are on their way out; until then they reach every loop that a test makes.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        try:
            yield
        finally:
            asyncio.set_event_loop_policy(None)


# Timeouts to try one after the other, where a callback has to begin in time: on a busy machine the next one has more.
LONGER = (0.1, 0.4, 1.6, 6.4)


def past_its_deadline(pool, callback, **options):
    """A task past its deadline whose callback has begun before it; and how long it was waited for, and its timeout."""
    for timeout in LONGER:
        began, start = threading.Event(), time.monotonic()
        task = pool.options(timeout=timeout, **options).submit(lambda began=began: began.set() or callback())
        assert task.wait(timeout + 20)
        took = time.monotonic() - start
        assert task.outcome == "deadline_exceeded"
        if began.is_set():
            return task, took, timeout
    raise AssertionError("no callback has begun")


def until(ready, seconds=20.0):
    """Asks until the answer is true."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)


async def auntil(ready, seconds=20.0):
    """Asks until the answer is true, while the loop goes on."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.001)
