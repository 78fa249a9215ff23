"""joblib's Parallel on duly: as on its own threads, and bounded, cancelled and answered in time."""

import asyncio
import contextlib
import multiprocessing
import threading
import time
from contextvars import ContextVar

import duly
import duly.joblib
import pytest
from conftest import LONGER, needs, until

(joblib,) = needs("joblib")
delayed, Parallel, parallel_config = joblib.delayed, joblib.Parallel, joblib.parallel_config

duly.joblib.register()


@pytest.fixture(params=["a pool of its own", "a given pool"])
def config(request, make_pool):
    """Makes contexts in which joblib uses duly."""

    def make(n_jobs=2, **options):
        if request.param == "a given pool":
            options["pool"] = make_pool(workers=3, capacity=2)
        return parallel_config(backend="duly", n_jobs=n_jobs, **options)

    return make


@pytest.mark.parametrize("pre_dispatch", ["all", "2 * n_jobs", 1])
def test_p01_every_call_is_answered_in_every_way(config, pre_dispatch):
    wanted = [number * number for number in range(100)]
    calls = [delayed(pow)(number, 2) for number in range(100)]
    with config():
        assert Parallel(pre_dispatch=pre_dispatch)(calls) == wanted
        assert Parallel(pre_dispatch=pre_dispatch, batch_size=7)(iter(calls)) == wanted
        assert list(Parallel(return_as="generator", pre_dispatch=pre_dispatch)(calls)) == wanted
        unordered = Parallel(return_as="generator_unordered", pre_dispatch=pre_dispatch)(calls)
        assert sorted(unordered) == wanted
        with Parallel(pre_dispatch=pre_dispatch) as parallel:
            assert parallel(calls) == parallel(calls) == wanted
            with pytest.raises(ZeroDivisionError):
                # The failing one last: joblib itself gives what it had not dispatched to the next call.
                parallel(delayed(divmod)(1, number) for number in (1, 0))
            assert parallel(calls) == wanted, "it is usable after an error"
        assert Parallel()([]) == []


def test_p09_a_pool_of_its_own_is_gone_and_a_given_one_is_not(make_pool):
    pool = make_pool(workers=2)
    with parallel_config(backend="duly", pool=pool):
        assert Parallel()(delayed(abs)(number) for number in range(10)) == list(range(10))
    assert pool.submit(int).result(5) == 0
    pool.shutdown(5)
    before = threading.active_count()
    with parallel_config(backend="duly", n_jobs=3):
        names = Parallel(pre_dispatch="all")(delayed(lambda: threading.current_thread().name)() for _ in range(30))
    assert all(name.startswith("joblib-") for name in names)
    until(lambda: threading.active_count() <= before)
    with Parallel(n_jobs=2, backend="duly") as parallel:
        assert parallel([delayed(parallel._backend.terminate)()]) == [None], "a batch of its own may end it"
    until(lambda: threading.active_count() <= before)


def test_p05_at_most_n_jobs_run_at_a_time(make_pool):
    pool = make_pool(workers=4)
    lock, running, most, both = threading.Lock(), [0], [0], threading.Event()

    def work():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
            if running[0] == 2:
                both.set()
        both.wait(20)
        time.sleep(0.005)
        with lock:
            running[0] -= 1

    with parallel_config(backend="duly", pool=pool, n_jobs=2):
        Parallel(pre_dispatch="all")(delayed(work)() for _ in range(20))
    assert most == [2]
    with parallel_config(backend="duly", pool=pool):
        assert joblib.effective_n_jobs() == joblib.effective_n_jobs(100) == 4
        assert joblib.effective_n_jobs(-2) == 3
        assert Parallel(backend="duly").n_jobs == -1
        with pytest.raises(ValueError, match="n_jobs"):
            Parallel(n_jobs=0)([])


def full(make_pool, gate, **options):
    """A pool that is full of other work."""
    pool = make_pool(workers=2, capacity=1, **options)
    for busy in (1, 2):
        pool.submit(gate.wait)
        until(lambda: pool.stats().running == busy)  # noqa: B023  # it is called here and now
    pool.submit(int)
    return pool


def test_p10_a_pool_that_is_full_of_other_work_is_waited_for(make_pool):
    gate = make_pool.gate()
    pool = full(make_pool, gate, max_blocked_producers=2)
    opens = threading.Timer(0.05, gate.set)
    opens.start()
    with parallel_config(backend="duly", pool=pool):
        assert Parallel(pre_dispatch="all")(delayed(abs)(number) for number in range(20)) == list(range(20))
    opens.join()
    assert pool.shutdown(5).stats.succeeded == 23, "it was the pool that ran them"


def test_p02_its_timeout_answers_and_what_it_gives_up_is_cancelled(config, make_pool):
    gate, begun, reasons = make_pool.gate(), [], []

    def polite():
        begun.append(True)
        try:
            while not gate.is_set():
                duly.check_cancelled()
                time.sleep(0.001)
        except duly.Cancelled as error:
            reasons.append(error.reason)
            raise

    for timeout in LONGER:
        with config(), pytest.raises(multiprocessing.TimeoutError):
            Parallel(timeout=timeout)(delayed(polite)() for _ in range(4))
        if begun:
            break
    until(lambda: begun and reasons == ["given up by joblib"] * len(begun))
    begun.clear()
    reasons.clear()

    def fails():
        raise LookupError("at once")

    with config(), pytest.raises(LookupError):
        Parallel(pre_dispatch="all")(delayed(call)() for call in (polite, fails, polite, polite))
    until(lambda: len(reasons) == len(begun))
    time.sleep(0.05)
    assert len(begun) <= 1, "those that had not begun never do"


def test_p02_a_stuck_callback_does_not_hold_it(make_pool):
    gate = make_pool.gate()
    start = time.monotonic()
    with parallel_config(backend="duly", n_jobs=2), pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.1)(delayed(gate.wait)(20) for _ in range(2))
    assert time.monotonic() - start < 10


def test_p02_scopes_and_context_variables_reach_every_batch_and_each_has_its_own_time(make_pool):
    pool, gate = make_pool(workers=2, default_timeout=5.0), make_pool.gate()
    variable = ContextVar("variable", default="unset")
    variable.set("of the caller")

    def read():
        time.sleep(0.06)
        return variable.get()

    with parallel_config(backend="duly", pool=pool):
        assert Parallel(n_jobs=2)(delayed(read)() for _ in range(180)) == ["of the caller"] * 180
        for timeout in LONGER:
            with contextlib.suppress(duly.Cancelled):  # over before anything was submitted
                with duly.CancelScope(timeout=timeout), pytest.raises(duly.DeadlineExceeded):
                    Parallel(n_jobs=2)(delayed(gate.wait)(20) for _ in range(4))
                break
        else:
            pytest.fail("never submitted in time")
    hasty = make_pool(workers=2, default_timeout=0.1)
    with parallel_config(backend="duly", pool=hasty), pytest.raises(duly.DeadlineExceeded):
        Parallel(n_jobs=2)(delayed(gate.wait)(20) for _ in range(4))


def test_p10_parallels_inside_batches_and_inside_tasks_of_the_pool_end(config, make_pool):
    def inner(number):
        threads = Parallel(n_jobs=2)(delayed(threading.get_ident)() for _ in range(4))
        assert set(threads) == {threading.get_ident()}, "one call after the other"
        return sum(Parallel(n_jobs=2)(delayed(pow)(number, power) for power in range(3)))

    with config():
        wanted = [1 + number + number * number for number in range(6)]
        assert Parallel()(delayed(inner)(number) for number in range(6)) == wanted

    pool, together = make_pool(workers=2), threading.Barrier(2)

    def of_its_own_pool():
        together.wait(5)
        with parallel_config(backend="duly", pool=pool, n_jobs=2):
            return Parallel()(delayed(abs)(number) for number in range(4))

    tasks = [pool.submit(of_its_own_pool) for _ in range(2)]
    assert [task.result(10) for task in tasks] == [list(range(4))] * 2


def test_p13_it_works_where_a_loop_runs_as_in_the_cells_of_a_notebook(config):
    async def cell():
        return Parallel(pre_dispatch="all")(delayed(abs)(number) for number in range(50))

    with config():
        assert asyncio.run(cell()) == list(range(50))


def test_p01_what_the_pool_refuses_is_told(make_pool):
    calls = [delayed(abs)(number) for number in range(20)]
    pool = make_pool(workers=2)
    pool.close()
    with parallel_config(backend="duly", pool=pool), pytest.raises(duly.ShutDown):
        Parallel(pre_dispatch="all")(calls)

    pool = make_pool(workers=2)

    def once_closed(closing=pool):
        until(lambda: closing.closed)

    with parallel_config(backend="duly", pool=pool), pytest.raises(duly.ShutDown):
        Parallel(pre_dispatch="all")([delayed(pool.close)(), *(delayed(once_closed)() for _ in range(20))])

    # With batches in line for room.
    gate = make_pool.gate()
    pool = full(make_pool, gate, max_blocked_producers=2)
    closes = threading.Timer(0.05, pool.close)
    closes.start()
    with parallel_config(backend="duly", pool=pool), pytest.raises(duly.ShutDown):
        Parallel(pre_dispatch="all")(calls)
    closes.join()

    pool = full(make_pool, gate, overflow="reject")
    with parallel_config(backend="duly", pool=pool), pytest.raises(duly.QueueFull):
        Parallel(pre_dispatch="all")(calls)
    gate.set()
