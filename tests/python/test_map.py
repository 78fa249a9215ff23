"""map and amap: lazy, a window in flight, in order or as they end; the task decorator; options; initializers."""

import asyncio
import gc
import itertools
import operator
import threading
import time
import weakref

import duly
import pytest
from conftest import until


def test_p05_map_is_lazy_and_its_window_holds_over_an_endless_input(make_pool):
    pool = make_pool(workers=2)
    read = []

    def numbers():
        for number in itertools.count():
            read.append(number)
            yield number

    values = pool.map(lambda number: number * number, numbers(), window=4)
    assert not read
    assert [next(values) for _ in range(10)] == [number * number for number in range(10)]
    assert len(read) <= 10 + 4
    values.close()
    assert list(values) == []
    with pytest.raises(TypeError):
        len(pool.map(abs, numbers()))


def test_p01_map_answers_for_every_item_in_order_or_as_they_end(make_pool):
    pool, gate = make_pool(workers=2), make_pool.gate()
    assert list(pool.map(pow, range(100), [2] * 50)) == [n * n for n in range(50)]
    assert list(pool.map(abs, [])) == []

    def first_is_slow(number):
        if number == 0:
            gate.wait(10)
        return number

    values = pool.map(first_is_slow, range(5), ordered=False)
    assert [next(values) for _ in range(4)] == [1, 2, 3, 4]
    gate.set()
    assert list(values) == [0]


def test_p01_map_tells_how_many_are_left(make_pool):
    pool = make_pool(workers=1)
    values = pool.map(pow, range(10), [1] * 7)
    assert len(values) == operator.length_hint(values) == 7
    next(values)
    assert len(values) == 6
    assert bool(pool.map(abs, []))
    assert operator.length_hint(pool.map(abs, iter([])), 5) == 5
    assert len(pool.amap(abs, range(3))) == 3


def test_p07_the_first_exception_ends_a_map_and_cancels_what_is_in_flight(make_pool):
    pool = make_pool(workers=1)

    def third_fails(number, gate):
        if number == 2:
            raise ValueError(number)
        if number > 2:
            gate.wait(10)
        return number

    for ordered in (True, False):
        # One for each: who comes late to a gate that was closed again would stay.
        gate = make_pool.gate()
        values = pool.map(third_fails, range(100), [gate] * 100, window=6, ordered=ordered)
        assert [next(values), next(values)] == [0, 1]
        with pytest.raises(ValueError, match="2"):
            next(values)
        assert list(values) == []
        until(lambda: pool.stats().queued == 0)
        gate.set()
        until(lambda: pool.stats().running == 0)
    gate = make_pool.gate()
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(pool.map(next, [iter([])]))
    with pool.map(lambda _: gate.wait(10), range(10)) as values:
        pass
    gate.set()
    values = pool.map(lambda _: gate.wait(10), range(10))
    next(values)
    del values
    gc.collect()
    until(lambda: pool.stats().queued == 0)


def test_p10_a_callback_may_map_over_its_own_pool(make_pool):
    pool = make_pool(workers=1, max_replacements=0)
    for ordered in (True, False):
        task = pool.submit(lambda ordered=ordered: sorted(pool.map(abs, range(20), ordered=ordered)))
        assert task.result(10) == list(range(20))


def test_p06_a_map_keeps_no_value(make_pool):
    class Thing:
        pass

    pool = make_pool(workers=1)
    values = pool.map(lambda _: Thing(), range(5))
    for value in values:
        gone = weakref.ref(value)
        del value
        gc.collect()
        assert gone() is None


@pytest.mark.usefixtures("each_loop")
def test_p01_amap_of_both_kinds_of_inputs(make_pool):
    pool, gate = make_pool(workers=2), make_pool.gate()

    async def numbers():
        for number in range(30):
            yield number

    async def main():
        assert [value async for value in pool.amap(pow, numbers(), [2] * 20)] == [n * n for n in range(20)]
        got = [value async for value in pool.amap(abs, range(30), ordered=False)]
        assert sorted(got) == list(range(30))

        def first_is_slow(number):
            if number == 0:
                gate.wait(10)
            return number

        values = pool.amap(first_is_slow, numbers(), ordered=False, window=3)
        assert await values.__anext__() != 0
        gate.set()
        await values.aclose()
        assert [value async for value in values] == []
        with pytest.raises(ZeroDivisionError):
            async for _ in pool.amap(lambda n: 1 // n, [1, 0, 1]):
                pass

    asyncio.run(main())


def test_p16_what_is_no_map(make_pool):
    pool = make_pool(workers=1)
    for make in (pool.map, pool.amap):
        with pytest.raises(TypeError):
            make(abs)
        for window in (0, -1, 1.5):
            with pytest.raises(duly.InvalidArgument):
                make(abs, [1], window=window)


def test_p01_a_decorated_function_is_a_function_with_verbs(make_pool):
    pool = make_pool(workers=1)

    @pool.task
    def add(a, b=1):
        """Adds."""
        return a + b

    class Counter:
        @pool.task
        def more(self, by):
            return self, by

    assert add(1) == 2
    assert (add.__name__, add.__doc__) == ("add", "Adds.")
    assert add.submit(1, b=2).result(5) == add.try_submit(1, b=2).result(5) == 3
    assert add.options(label="named").submit(1).label == "named"
    counter = Counter()
    assert counter.more.submit(3).result(5) == (counter, 3)

    async def main():
        assert await add.run(1) == await (await add.asubmit(1)) == 2

    asyncio.run(main())


def test_p02_a_delayed_task_waits_for_its_time(make_pool):
    pool = make_pool(workers=1)
    start = time.monotonic()
    delayed = pool.options(delay=0.1).submit(time.monotonic)
    assert pool.submit(int).result(5) == 0
    assert delayed.result(5) - start >= 0.1


def test_p08_each_worker_is_initialized_once_before_it_serves(make_pool):
    local = threading.local()
    seen = []

    def initialize(*args):
        local.ready = args
        seen.append(threading.current_thread().name)

    pool = make_pool(workers=2, initializer=initialize, initargs=(1, 2))
    assert {pool.submit(lambda: local.ready).result(5) for _ in range(20)} == {(1, 2)}
    assert len(seen) == len(set(seen)) <= 2


def test_p07_an_initializer_that_fails_ends_the_pool(make_pool, caplog):
    def fail():
        raise ValueError("no")

    pool = make_pool(workers=1, initializer=fail)
    task = pool.submit(int)
    assert isinstance(task.exception(5), duly.Abandoned)
    with pytest.raises(duly.ShutDown):
        pool.submit(int)
    assert "initializer" in caplog.text
    assert "ValueError: no" in caplog.text
    with pytest.raises(TypeError, match="callable"):
        duly.Pool(initializer=5)


def test_p04_the_end_of_with_says_what_it_waits_for(make_pool, caplog, monkeypatch):
    monkeypatch.setattr("duly.pool._SAY_AFTER", 0.05)
    gate, started = make_pool.gate(), threading.Event()

    def opens():
        try:
            until(lambda: "still waits" in caplog.text)
        finally:
            gate.set()

    opener = threading.Thread(target=opens)
    with duly.Pool(1, name="slow") as pool:
        pool.options(label="the long one").submit(lambda: started.set() or gate.wait())
        pool.submit(int)
        assert started.wait(20)
        opener.start()
    opener.join(20)
    assert "still waits for pool 'slow'" in caplog.text
    assert "the long one" in caplog.text
