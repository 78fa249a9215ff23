"""P1, P2, P4, P6, P7, P10, P13: single flight. What crosses languages is in the conformance table."""

import asyncio
import gc
import signal
import sys
import threading
import weakref

import duly
import pytest
from conftest import LONGER, until


@pytest.fixture(autouse=True)
def undivided():
    """Threads let go of the interpreter only where they wait: so whoever is counted in `_keys` has joined the run."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(100)
    yield
    sys.setswitchinterval(before)


def callers(number, call):
    """Has so many threads call; returns what they were told, when they have been."""
    told = []

    def one():
        try:
            told.append(call())
        except BaseException as error:
            told.append(error)

    threads = [threading.Thread(target=one) for _ in range(number)]
    for thread in threads:
        thread.start()

    def end():
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        return told

    return end


def waits_for(flight, key):
    return lambda: flight._keys.get(key, [0, 0])[1]


def test_p01_callers_of_a_key_are_told_the_same_object(make_pool):
    pool, gate, runs = make_pool(workers=2), make_pool.gate(), []
    flight = duly.SingleFlight(pool)

    def run():
        runs.append(1)
        gate.wait(10)
        return [len(runs)]

    end = callers(5, lambda: flight.call("k", run))
    until(lambda: waits_for(flight, "k")() == 5)
    until(lambda: runs)
    assert len(flight) == 1
    assert flight.call("other", int) == 0, "another key"
    gate.set()
    told = end()
    assert told == [[1]] * 5
    assert all(value is told[0] for value in told)
    assert flight.call("k", run) == [2], "nothing is kept"
    assert len(flight) == 0
    assert flight._keys == {}
    assert bool(flight)


def test_p07_an_exception_is_an_answer_and_a_base_exception_hands_over(make_pool):
    pool, gate = make_pool(workers=1), make_pool.gate()
    flight = duly.SingleFlight(pool)
    error = LookupError("no such row")

    def run(raised):
        gate.wait(10)
        raise raised

    end = callers(3, lambda: flight.call("k", run, error))
    until(lambda: waits_for(flight, "k")() == 3)
    gate.set()
    assert all(told is error for told in end())
    gate.clear()

    class Stop(BaseException):
        pass

    raised = [Stop(number) for number in range(3)]
    left = list(raised)

    def hands_over():
        gate.wait(10)
        if left:
            raise left.pop(0)
        return "fine"

    end = callers(5, lambda: flight.call("k", hands_over))
    until(lambda: waits_for(flight, "k")() == 5)
    gate.set()
    assert end() == ["fine"] * 5, "three times"
    strict = duly.SingleFlight(pool, handovers=0)
    last = Stop("last")
    end = callers(3, lambda: strict.call("k", run, last))
    told = end()
    assert {type(one) for one in told} == {Stop}
    again = duly.SingleFlight(pool, retry_failed=True, handovers=1)
    gate.clear()
    outcomes = [ValueError(1), None]

    def fails_once():
        gate.wait(10)
        one = outcomes.pop(0)
        if one:
            raise one
        return "then"

    end = callers(2, lambda: again.call("k", fails_once))
    until(lambda: waits_for(again, "k")() == 2)
    gate.set()
    assert end() == ["then"] * 2


def test_p04_each_caller_has_its_own_end_and_the_last_takes_the_run_along(make_pool):
    pool, gate = make_pool(workers=1), make_pool.gate()
    flight = duly.SingleFlight(pool)
    began, causes = [], []

    def run():
        began.append(1)
        context = duly.current_task()
        context.sleep(10)
        causes.append(context.cause)

    for timeout in LONGER:
        with pytest.raises(duly.DeadlineExceeded, match="caller"):
            flight.options(timeout=timeout).call("k", run)
        if began:
            break
    until(lambda: causes == ["cancelled"])

    scope = duly.CancelScope()
    end = callers(1, lambda: flight.options(scope=scope).call("k", gate.wait, 10))
    until(lambda: pool.stats().running == 1)
    other = callers(1, lambda: flight.call("k", int))
    until(lambda: waits_for(flight, "k")() == 2)
    scope.cancel("not needed")
    (told,) = end()
    assert isinstance(told, duly.Cancelled)
    assert told.reason == "not needed"
    with duly.CancelScope(timeout=0.05), pytest.raises((duly.Cancelled, duly.DeadlineExceeded)):
        flight.call("k", int)
    assert pool.stats().running == 1, "the run is that of who is left"
    gate.set()
    assert other() == [True]
    with pytest.raises(duly.InvalidArgument):
        flight.options(timeout=-1).call("k", int)
    pool.close()
    with pytest.raises(duly.ShutDown):
        flight.call("k", int)
    assert flight._keys == {}


def test_p04_a_signal_ends_a_call_of_the_main_thread(make_pool):
    pool, gate = make_pool(workers=1), make_pool.gate()
    flight = duly.SingleFlight(pool)

    class Interrupt(Exception):
        pass

    def handle(*_):
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, handle)

    def interrupt():
        # When the main thread waits.
        until(lambda: pool.stats().running == 1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    interrupter = threading.Thread(target=interrupt)
    try:
        interrupter.start()
        with pytest.raises(Interrupt):
            flight.call("k", gate.wait, 20)
        interrupter.join(20)
    finally:
        signal.signal(signal.SIGUSR1, before)
    until(lambda: pool.stats().cancelled == 1)


def test_p13_flights_on_a_loop(make_pool):
    pool, runs = make_pool(workers=2), []
    flight, gate, never = duly.SingleFlight(pool), make_pool.gate(), make_pool.gate()

    def run(number):
        runs.append(number)
        gate.wait(10)
        return number

    async def main():
        tasks = [asyncio.ensure_future(flight.run("k", run, number)) for number in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match=r"await flight\.run"):
            flight.call("k", run, 1)
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        assert tasks[0].cancelled()
        gate.set()
        assert await asyncio.gather(*tasks[1:]) == [0, 0, 0], "though who started the run has left"
        # A value that is an exception is a value.
        assert isinstance(await flight.run("k", ValueError, "value"), ValueError)
        with pytest.raises(ZeroDivisionError):
            await flight.run("k", lambda: 1 // 0)
        with pytest.raises(duly.DeadlineExceeded):
            await flight.options(timeout=0.05).run("l", never.wait, 20)
        left = asyncio.ensure_future(flight.run("k", never.wait, 20))
        await asyncio.sleep(0.05)
        left.cancel()

    asyncio.run(main())
    assert len(runs) == 1
    until(lambda: len(flight) == 0)
    assert flight._keys == {}


def test_p10_a_callback_may_wait_for_a_flight_of_its_own_pool(make_pool):
    pool = make_pool(workers=1, max_replacements=0)
    flight = duly.SingleFlight(pool)
    assert pool.submit(flight.call, "k", abs, -5).result(10) == 5
    pool = make_pool(workers=1)
    flight = duly.SingleFlight(pool)
    assert pool.submit(flight.call, "k", abs, -6).result(10) == 6


def test_p02_what_a_run_submits_stands_under_it_and_not_under_a_callers_scope(make_pool):
    pool, gate = make_pool(workers=4), make_pool.gate()
    flight = duly.SingleFlight(pool)
    inner = []

    def run():
        inner.append(pool.submit(gate.wait, 10))
        return inner[0].result()

    scope = duly.CancelScope()
    end = callers(1, lambda: flight.options(scope=scope).call("k", run))
    until(lambda: inner)
    other = callers(1, lambda: flight.call("k", int))
    until(lambda: waits_for(flight, "k")() == 2)
    scope.cancel()
    assert isinstance(end()[0], duly.Cancelled)
    assert not inner[0].done()
    gate.set()
    assert other() == [True]


def test_p06_a_flight_keeps_neither_values_nor_arguments(make_pool):
    pool = make_pool(workers=1)
    flight = duly.SingleFlight(pool)

    class Thing:
        pass

    thing = Thing()
    there = weakref.ref(thing)
    assert flight.call("k", lambda thing: thing, thing) is thing
    assert asyncio.run(flight.run("k", lambda thing: thing, thing)) is thing
    del thing
    pool.submit(int).result(5)
    gc.collect()
    until(lambda: there() is None)


def test_p01_the_decorator(make_pool):
    pool, gate, runs = make_pool(workers=2), make_pool.gate(), []

    @duly.single_flight(pool.options(label="load"))
    def load(user, fresh=False):
        """Loads."""
        runs.append((user, fresh))
        gate.wait(10)
        return user

    class Store:
        @duly.single_flight(pool, key=lambda self, user: user)
        def load(self, user):
            return self, user

    assert load.__doc__ == "Loads."
    end = callers(3, lambda: load(7))
    until(lambda: waits_for(load.flight, (7,))() == 3)
    until(lambda: pool.running())
    assert pool.running()[0].label == "load"
    gate.set()
    assert end() == [7, 7, 7]
    assert load(7, fresh=True) == 7
    assert runs == [(7, False), (7, True)]
    store = Store()
    assert store.load(3) == (store, 3)

    async def main():
        assert await load.run(8) == 8
        assert await store.load.run(4) == (store, 4)

    asyncio.run(main())


def test_p16_what_is_no_flight(make_pool):
    pool = make_pool(workers=1)
    with pytest.raises(TypeError):
        duly.SingleFlight(5)
    flight = duly.SingleFlight(pool)
    with pytest.raises(TypeError, match="callable"):
        flight.call("k", 5)
    with pytest.raises(TypeError, match="coroutine"):
        flight.call("k", asyncio.sleep, 1)
    with pytest.raises(TypeError, match="unhashable"):
        flight.call([], int)
    assert flight._keys == {}
