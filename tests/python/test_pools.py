"""P4, P5, P8, P9, P12, P13, P16: waits, bounds, threads, books, and bad input."""

import asyncio
import functools
import gc
import inspect
import logging
import pathlib
import signal
import subprocess
import sys
import threading
import time

import duly
import pytest
from conftest import past_its_deadline, until


class Interrupt(Exception):
    """Raised by the handler of SIGUSR1: Ctrl-C, but not one that pytest takes for its own."""


@pytest.fixture
def interrupt_soon():
    """`.start()` has the main thread interrupted 100 ms from then, `.since()` tells how long ago that was."""

    def handle(*_):
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, handle)
    sent = []

    def send():
        sent.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    timer = threading.Timer(0.1, send)

    class Soon:
        start = timer.start

        @staticmethod
        def since():
            return time.monotonic() - sent[0]

    yield Soon
    timer.join(5)
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("wait", ["result", "exception", "wait", "released", "submit", "shutdown", "with"])
def test_p04_a_signal_ends_every_blocking_call_of_the_main_thread(stuck, interrupt_soon, wait):
    def leave():
        with stuck.pool:
            pass

    if wait == "submit":
        stuck.pool.submit(int)
        stuck.pool.submit(int)
    call = {
        "submit": lambda: stuck.pool.submit(int),
        "shutdown": lambda: stuck.pool.shutdown(20),
        "with": leave,
    }.get(wait) or (lambda: getattr(stuck.task, wait)(20))

    def interrupted():
        # A busy machine may interrupt it before the call.
        interrupt_soon.start()
        call()

    with pytest.raises(Interrupt):
        interrupted()
    assert interrupt_soon.since() < 15, "it takes 50 ms, where the machine is not busy"
    if wait == "submit":
        assert stuck.pool.stats().blocked_producers == 0
        assert stuck.pool.stats().submitted == 3


def test_p04_a_blocked_submit_keeps_its_place_in_the_line(stuck):
    queued = [stuck.pool.submit(int) for _ in range(2)]
    order, wrong = [], []
    second = threading.Thread(target=lambda: stuck.pool.submit(order.append, "second"))

    def free_places_one_by_one():
        try:
            until(lambda: stuck.pool.stats().blocked_producers == 1)
            # Longer than the slices in which the main thread waits.
            time.sleep(0.2)
            second.start()
            until(lambda: stuck.pool.stats().blocked_producers == 2)
            for left in (1, 0):
                queued.pop().cancel()
                until(lambda left=left: stuck.pool.stats().blocked_producers == left)
        except BaseException as error:
            wrong.append(error)
            stuck.pool.close()

    helper = threading.Thread(target=free_places_one_by_one)
    helper.start()
    stuck.pool.submit(order.append, "main")
    for thread in (helper, second):
        thread.join(10)
    assert not wrong
    stuck.gate.set()
    assert stuck.pool.shutdown(5).drained
    assert order == ["main", "second"]


def test_p04_a_blocked_submit_has_three_exits(stuck):
    for _ in range(2):
        stuck.pool.submit(int)
    start = time.monotonic()
    with pytest.raises(duly.SubmitTimedOut):
        stuck.pool.options(submit_timeout=0.1).submit(int)
    assert time.monotonic() - start >= 0.1
    with pytest.raises(duly.DeadlineExceeded, match="never ran"):
        stuck.pool.options(timeout=0.1).submit(int)
    closer = threading.Timer(0.1, stuck.pool.close)
    closer.start()
    with pytest.raises(duly.ShutDown):
        stuck.pool.submit(int)
    closer.join(5)
    assert stuck.pool.closed
    assert stuck.pool.stats().refused == 3


def test_p04_leaving_a_pool_waits_for_all_of_it():
    done = []
    with duly.Pool(workers=2) as pool:
        for number in range(10):
            pool.submit(lambda number=number: time.sleep(0.01) or done.append(number))
    assert sorted(done) == list(range(10))
    assert pool.closed
    with pytest.raises(duly.ShutDown):
        pool.submit(int)


def test_p05_a_queue_holds_its_capacity_and_no_more(stuck):
    tasks = [stuck.pool.try_submit(int) for _ in range(2)]
    with pytest.raises(duly.QueueFull, match="full"):
        stuck.pool.try_submit(int)
    tasks[0].cancel()
    stuck.pool.try_submit(int)
    with pytest.raises(duly.QueueFull):
        stuck.pool.try_submit(int)


def test_p05_the_overflow_policies(make_pool):
    def full(overflow):
        pool, gate, started = make_pool(1, capacity=1, overflow=overflow), make_pool.gate(), threading.Event()
        pool.submit(lambda: started.set() or gate.wait())
        assert started.wait(5)
        return pool, pool.submit(int)

    pool, _ = full("reject")
    with pytest.raises(duly.QueueFull):
        pool.submit(int)
    pool, oldest = full("drop_newest")
    assert isinstance(pool.submit(int).exception(5), duly.Shed)
    assert oldest.outcome is None
    pool, oldest = full("drop_oldest")
    assert pool.submit(int).outcome is None
    with pytest.raises(duly.Shed):
        oldest.result(5)
    pool, _ = full("caller_runs")
    mine = pool.submit(lambda: (threading.current_thread(), duly.current_task().label))
    assert mine.result(0)[0] is threading.current_thread()
    assert duly.current_task() is None, "here and now"
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 // 0).result(0)
    with pytest.raises(duly.QueueFull):
        pool.try_submit(int)
    for one in (full("block")[0], pool):
        assert one.stats().books_balance()


def stuck_of_one(make_pool, overflow):
    pool, gate, started = make_pool(1, capacity=1, overflow=overflow), make_pool.gate(), threading.Event()
    pool.submit(lambda: started.set() or gate.wait())
    assert started.wait(5)
    return pool, pool.submit(int)


@pytest.mark.parametrize("policy", ["block", "reject", "drop_newest", "drop_oldest", "caller_runs"])
def test_p05_a_submit_names_its_own_overflow_policy(make_pool, policy):
    pool, oldest = stuck_of_one(make_pool, policy)
    with pytest.raises(duly.SubmitTimedOut):
        pool.options(overflow="block", submit_timeout=0.05).submit(int)
    with pytest.raises(duly.QueueFull):
        pool.options(overflow="reject").submit(int)
    assert pool.options(overflow="drop_newest").submit(int).outcome == "shed"
    mine = pool.options(overflow="caller_runs").submit(threading.current_thread)
    assert mine.result(0) is threading.current_thread()
    for verb in ("block", "reject", "caller_runs"):
        with pytest.raises(duly.QueueFull):
            pool.options(overflow=verb).try_submit(int)
    assert oldest.outcome is None
    newest = pool.options(overflow="drop_oldest").submit(int)
    assert (oldest.outcome, newest.outcome) == ("shed", None)
    assert pool.options(overflow="drop_oldest").try_submit(int).outcome is None
    assert newest.outcome == "shed"


@pytest.mark.parametrize("policy", ["block", "reject", "caller_runs"])
def test_p04_asubmit_waits_only_where_its_own_policy_does(make_pool, policy):
    pool, oldest = stuck_of_one(make_pool, policy)

    async def submits():
        for refused in ("reject", "caller_runs"):
            with pytest.raises(duly.QueueFull):
                await pool.options(overflow=refused).asubmit(int)
        with pytest.raises(duly.Shed):
            await pool.options(overflow="drop_newest").run(int)
        waits = asyncio.ensure_future(pool.options(overflow="block").asubmit(int))
        done, _ = await asyncio.wait({waits}, timeout=0.05)
        assert not done
        oldest.cancel()
        assert (await asyncio.wait_for(waits, 5)).outcome is None

    asyncio.run(submits())


def test_p04_whether_a_submit_waits_is_for_its_queue_to_say(make_pool):
    # The wait lets other threads go on, and the caller's run is on this one, whatever the pool's own policy is.
    pool, _ = stuck_of_one(make_pool, "reject")
    queue = pool.queue("waits", capacity=1)
    waits = pool.options(queue=queue)
    first = waits.submit(int)
    producer = threading.Thread(target=waits.submit, args=(int,))
    producer.start()
    until(lambda: queue.stats().blocked_producers)
    first.cancel()
    producer.join(10)
    assert not producer.is_alive()
    with pytest.raises(duly.QueueFull):
        waits.options(overflow="reject").submit(int)

    pool, _ = stuck_of_one(make_pool, "block")
    helped = pool.options(queue=pool.queue("helped", capacity=1, overflow="caller_runs"))
    helped.submit(int)
    assert helped.submit(threading.current_thread).result(0) is threading.current_thread()


def test_p16_an_overflow_policy_that_there_is_not(make_pool):
    pool = make_pool(1)
    with pytest.raises(duly.InvalidArgument, match="explode"):
        pool.options(overflow="explode")
    with pytest.raises(TypeError):
        pool.options(overflow=1)
    assert pool.options(overflow=None).submit(int).result(5) == 0, "None: as its queue does"


def test_p08_workers_are_true_threads_that_keep_their_state(make_pool):
    pool = make_pool(workers=1, name="mine")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mine-")], "on demand"
    local = threading.local()

    def count():
        local.count = getattr(local, "count", 0) + 1
        return local.count, threading.current_thread()

    seen = [pool.submit(count).result() for _ in range(20)]
    assert [number for number, _ in seen] == list(range(1, 21))
    thread = seen[0][1]
    assert all(other is thread for _, other in seen)
    assert type(thread) is threading.Thread
    assert thread in threading.enumerate()
    assert thread.name == "mine-0"
    assert pathlib.Path(f"/proc/self/task/{thread.native_id}/comm").read_text() == "mine-0\n"


@pytest.mark.thread_unsafe
@pytest.mark.parametrize("install", [threading.setprofile, threading.settrace], ids=["profiling", "tracing"])
def test_p08_tracing_and_profiling_see_callbacks(make_pool, install):
    seen = []

    def look(frame, event, _arg):
        # Also while a thread begins, which does not know itself yet.
        seen.append((frame.f_code.co_name, event, threading.get_ident()))

    def seen_callback():
        return threading.get_ident()

    pool = make_pool(workers=1)
    install(look)
    try:
        ident = pool.submit(seen_callback).result(5)
    finally:
        install(None)
    assert ("seen_callback", "call", ident) in seen
    assert ident != threading.get_ident()


def test_p08_a_stuck_worker_is_replaced_by_a_true_thread(make_pool):
    pool, gate = make_pool(workers=1, replace_after=0.05), make_pool.gate()
    started = threading.Event()
    stuck = pool.submit(lambda: started.set() or gate.wait())
    assert started.wait(5)
    assert stuck.cancel()
    thread = pool.options(timeout=10).submit(threading.current_thread).result()
    assert type(thread) is threading.Thread
    until(lambda: pool.stats().replaced == 1)
    gate.set()
    until(lambda: pool.stats().workers == 1)


def test_p09_shutdown_leaves_no_thread_and_names_what_is_stuck(make_pool):
    pool, gate = make_pool(workers=3, name="gone"), make_pool.gate()
    barrier = threading.Barrier(4)
    good = [pool.submit(barrier.wait, 5) for _ in range(3)]
    barrier.wait(5)
    assert all(task.wait(5) for task in good)
    started = threading.Event()
    stuck = pool.options(label="stuck").submit(lambda: started.set() or gate.wait())
    assert started.wait(5)
    pool.close()
    # Those that idle have all the time they need.
    until(lambda: pool.stats().workers == 1)
    report = pool.shutdown(0.05)
    assert not report.drained
    assert [(one.label, one.state) for one in report.abandoned] == [("stuck", "running")]
    assert [(one.label, one.outcome) for one in report.stuck] == [("stuck", "abandoned")]
    assert report.threads_left == 1
    assert report.stats.abandoned == 1
    assert [one.label for one in pool.leaks()] == [one.label for one in pool.running()] == ["stuck"]
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("gone-")]) == 1
    assert isinstance(stuck.exception(0), duly.Abandoned)
    assert "stuck" in str(report)
    assert "abandoned" in repr(report)
    gate.set()
    assert stuck.released(5)
    assert pool.shutdown(5).threads_left == 1, "the report of the one shutdown there is"
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("gone-")])
    until(lambda: not threads_named("gone-"))


def test_p09_a_shutdown_that_drained_leaves_no_thread_at_all(make_pool):
    late = 0
    for _ in range(20):
        pool = make_pool(workers=2, name="none")
        assert pool.submit(int).result(5) == 0
        assert pool.shutdown(5).drained
        # A thread that the machine does not let end is waited for no longer than a second.
        late += bool([thread for thread in threading.enumerate() if thread.name.startswith("none-")])
        # Until 3.12 a thread is joined when the interpreter is done with it, some microseconds before it is gone.
        until(lambda: not threads_named("none-"))
    assert late <= 3


def test_p09_dropping_the_pool_does_not_block_and_ends_its_threads():
    pool = duly.Pool(workers=2, name="drop")
    gate = threading.Event()
    task = pool.submit(gate.wait)
    last = pool.submit(int)
    start = time.monotonic()
    del pool
    gc.collect()
    assert time.monotonic() - start < 5, "the drain takes 10 s"
    assert task.outcome is None
    gate.set()
    assert (task.result(5), last.result(5)) == (True, 0)
    until(lambda: not threads_named("drop-"))


def test_p09_the_module_exports_its_init_function_only():
    listed = subprocess.run(["nm", "-D", "--defined-only", duly._duly.__file__], stdout=subprocess.PIPE, check=True)
    assert [line.split()[-1] for line in listed.stdout.decode().splitlines()] == ["PyInit__duly"]


def test_p12_the_books_balance_at_every_moment_and_at_the_end(make_pool):
    pool = make_pool(workers=4, capacity=16)
    stop = threading.Event()
    wrong = []

    def look():
        while not stop.is_set():
            stats = pool.stats()
            if not stats.books_balance():
                wrong.append(stats)

    looker = threading.Thread(target=look)
    looker.start()
    tasks = []
    for number in range(300):
        tasks.append(pool.submit(lambda number=number: 1 // (number % 3)))
        if number % 5 == 0:
            tasks[-1].cancel()
    for task in tasks:
        assert task.wait(10)
    stop.set()
    looker.join(5)
    assert not wrong
    stats = pool.shutdown(5).stats
    assert stats.submitted == 300
    assert stats.succeeded + stats.failed + stats.cancelled == 300
    assert stats.books_balance()
    assert stats.as_dict()["submitted"] == 300
    assert "submitted=300" in repr(stats)


def test_p12_a_failure_nobody_looked_at_is_logged(make_pool, caplog):
    pool = make_pool(workers=1)
    with caplog.at_level(logging.WARNING, "duly"):
        for seen in (True, False):
            task = pool.options(label=f"seen={seen}").submit(lambda: 1 // 0)
            if seen:
                assert task.exception(5)
            # Without a look at the task itself.
            until(lambda failed=2 - seen: pool.stats().failed == failed)
            del task
        until(lambda: pool.stats().unobserved == 1)
        until(lambda: caplog.records)
    assert [record.getMessage() for record in caplog.records] == ['nobody looked at task "seen=False", which failed']
    assert caplog.records[0].exc_info[0] is ZeroDivisionError
    assert "lambda: 1 // 0" in caplog.text, "the traceback, down to the line"


def test_p12_a_callback_that_ends_late_is_logged(make_pool, caplog):
    pool, gate = make_pool(workers=1), make_pool.gate()
    with caplog.at_level(logging.WARNING, "duly"):
        task, *_ = past_its_deadline(pool, gate.wait, label="tardy")
        time.sleep(0.05)  # what has run for less than 10 ms is worth no line
        gate.set()
        assert task.released(5)
        until(lambda: caplog.records)
    assert "tardy" in caplog.records[0].getMessage()
    until(lambda: pool.stats().late >= 1)


def test_p13_from_a_callback(make_pool):
    pool = make_pool(workers=1)
    with pytest.raises(duly.WouldDeadlock, match="outside the pool"):
        pool.submit(pool.shutdown, 1).result(5)
    inner = pool.submit(pool.submit, int).result(5)
    assert inner.result(5) == 0
    assert pool.submit(lambda: pool.stats().running).result(5) == 1
    pool.submit(pool.close).result(5)
    with pytest.raises(duly.ShutDown):
        pool.submit(int)


def test_p13_what_a_callback_submits_inherits_its_deadline_unless_detached(make_pool):
    pool = make_pool(workers=1)

    def outer():
        options = pool.options(detached=True)
        return [verbs.submit(lambda: duly.current_task().time_left()) for verbs in (pool, options)]

    inherited, detached = pool.options(timeout=30).submit(outer).result(5)
    assert 0 < inherited.result(5) <= 30.01
    assert detached.result(5) is None


NOT_SECONDS = [float("nan"), -1, -0.001, float("inf"), float("-inf"), 1e10, 1e300]


@pytest.mark.parametrize("seconds", NOT_SECONDS, ids=str)
def test_p16_what_is_no_span_of_time_is_refused_everywhere(make_pool, seconds):
    pool = make_pool(workers=1)
    task = pool.submit(int)
    task.wait()
    calls = [
        lambda: pool.options(timeout=seconds),
        lambda: pool.options(submit_timeout=seconds),
        lambda: task.result(seconds),
        lambda: task.exception(seconds),
        lambda: task.wait(seconds),
        lambda: task.released(seconds),
        lambda: pool.shutdown(seconds),
        lambda: duly.Pool(default_timeout=seconds),
        lambda: duly.Pool(exit_timeout=seconds),
        lambda: duly.Pool(replace_after=seconds),
        lambda: duly.Pool(drop_drain=seconds),
    ]
    for call in calls:
        with pytest.raises(duly.InvalidArgument):
            call()
    assert not pool.closed
    if seconds != float("-inf") and not seconds < 0:
        with pytest.raises(duly.InvalidArgument):
            pool.options(deadline=seconds)


@pytest.mark.parametrize("seconds", ["1", [], object()], ids=repr)
def test_p16_what_is_no_number_is_a_type_error(make_pool, seconds):
    pool = make_pool(workers=1)
    task = pool.submit(int)
    for call in (
        lambda: pool.options(timeout=seconds),
        lambda: pool.options(deadline=seconds),
        lambda: task.result(seconds),
        lambda: pool.shutdown(seconds),
    ):
        with pytest.raises(TypeError):
            call()


def test_p16_the_longest_span_is_accepted(make_pool):
    pool = make_pool(workers=1, default_timeout=threading.TIMEOUT_MAX)
    assert pool.options(timeout=threading.TIMEOUT_MAX).submit(int).result(threading.TIMEOUT_MAX) == 0


async def coroutine_function():
    pass


async def async_generator():
    yield


class Methods:
    async def method(self):
        pass

    async def __call__(self):
        pass


@pytest.mark.parametrize(
    "callback",
    [coroutine_function, async_generator, Methods().method, Methods(), functools.partial(coroutine_function)],
    ids=["function", "generator", "method", "object", "partial"],
)
def test_p16_coroutine_functions_are_refused_and_told_what_to_do(make_pool, callback):
    pool = make_pool(workers=1)
    for verb in (pool.submit, pool.try_submit, pool.options(timeout=1).submit):
        with pytest.raises(TypeError, match="coroutine function"):
            verb(callback)
    assert pool.stats().submitted == 0


@pytest.mark.parametrize("callback", [None, 5, "text"], ids=repr)
def test_p16_what_is_not_callable_is_refused(make_pool, callback):
    pool = make_pool(workers=1)
    with pytest.raises(TypeError, match="must be callable"):
        pool.submit(callback)
    task = pool.submit(int)
    with pytest.raises(TypeError, match="must be callable"):
        task.add_done_callback(callback)
    with pytest.raises(TypeError, match="must be callable"):
        pool.submit(lambda: duly.current_task().on_cancel(callback)).result(5)


def test_p16_options_of_a_pool_are_checked():
    for options in ({"workers": 0}, {"capacity": 0}, {"workers": 10**6}, {"overflow": "explode"}, {"name": "a\0b"}):
        with pytest.raises(duly.InvalidArgument):
            duly.Pool(**options)
    for options in ({"workers": -1}, {"capacity": 1 << 70}):
        with pytest.raises(OverflowError):
            duly.Pool(**options)
    with pytest.raises(TypeError):
        duly.Pool(wrokers=1)


def test_p16_options_of_a_submit_are_checked(make_pool):
    pool = make_pool(workers=1)
    with pytest.raises(TypeError, match="tiemout"):
        pool.options(tiemout=1)
    with pytest.raises(TypeError):
        pool.options(label=5)
    with pytest.raises(duly.InvalidArgument, match="not both"):
        pool.options(timeout=1, deadline=time.monotonic() + 1)


def test_p16_everything_still_answers_after_the_end(make_pool):
    pool = make_pool(workers=1)
    task = pool.submit(int)
    assert task.result(5) == 0
    pool.shutdown(1)
    pool.shutdown(1)
    pool.close()
    assert task.result() == 0
    assert not task.cancel()
    assert task.released(1)
    assert (pool.leaks(), pool.running()) == ([], [])
    assert "closed" in repr(pool)
    assert "succeeded" in repr(task)


def test_p16_the_default_number_of_workers(make_pool):
    # The parallelism this process may use and four more, at most 32; seen as the number of callbacks that run at once.
    pool, gate = make_pool(), make_pool.gate()
    for _ in range(50):
        pool.submit(gate.wait)
    until(lambda: pool.stats().running >= 5)
    time.sleep(0.1)
    assert 5 <= pool.stats().running <= min(32, len(__import__("os").sched_getaffinity(0)) + 4)


def test_p16_the_public_names_are_documented():
    for name in duly.__all__:
        public = getattr(duly, name)
        assert isinstance(public, str) or inspect.getdoc(public), name
    assert sys.modules["duly._duly"].__doc__


def threads_named(prefix):
    names = []
    for comm in pathlib.Path("/proc/self/task").glob("*/comm"):
        try:
            names.append(comm.read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended just now
    return [name for name in names if name.startswith(prefix)]


def test_p12_a_submit_that_waits_for_room_is_not_counted_as_refused(make_pool):
    pool = make_pool(workers=1, capacity=1)
    gate, started = make_pool.gate(), threading.Event()
    pool.submit(lambda: started.set() or gate.wait())
    assert started.wait(5)
    pool.submit(int)
    threading.Timer(0.05, gate.set).start()
    assert [pool.submit(abs, -n).result(5) for n in range(3)] == [0, 1, 2]
    assert pool.stats().refused == 0
    pool.close()
    with pytest.raises(duly.ShutDown):
        pool.submit(int)
    assert pool.stats().refused == 1, "once, though it was tried twice"


def test_p16_methods_and_wrappers_are_told_from_coroutine_functions(make_pool):
    class Service:
        def plain(self):
            return 1

        async def wrong(self):
            return 2

        @classmethod
        async def wrong_too(cls):
            return 3

    pool = make_pool(workers=1)
    for _ in range(2):
        assert pool.submit(Service().plain).result(5) == 1
        for wrong in (Service().wrong, Service.wrong_too):
            with pytest.raises(TypeError, match="coroutine function"):
                pool.submit(wrong)

    def first():
        return 1

    def second():
        return 2

    labels = [pool.submit(each).label for each in (first, second, first, abs, first)]
    assert [label.split(".")[-1] for label in labels] == ["first", "second", "first", "abs", "first"]
