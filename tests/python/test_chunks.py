"""map and amap with chunksize: one task for several items, an answer for each."""

import asyncio
import contextvars
import gc
import itertools
import operator
import threading
import weakref

import duly
import pytest
from conftest import until


def third_fails(number):
    if number == 3:
        raise ValueError(number)
    return number


@pytest.mark.parametrize("chunksize", [2, 3, 7, 1000])
def test_p01_every_item_of_a_chunk_has_its_own_answer(make_pool, chunksize):
    pool = make_pool(workers=2)
    how = {"chunksize": chunksize, "return_exceptions": True}
    assert list(pool.map(abs, range(-20, 0), chunksize=chunksize)) == list(range(20, 0, -1))
    assert list(pool.map(pow, range(100), [2] * 50, chunksize=chunksize)) == [n * n for n in range(50)]
    assert sorted(pool.map(abs, iter(range(50)), ordered=False, chunksize=chunksize)) == list(range(50))
    assert list(pool.map(abs, [], chunksize=chunksize)) == []
    got = list(pool.map(third_fails, range(6), **how))
    assert [repr(one) for one in got] == ["0", "1", "2", "ValueError(3)", "4", "5"]
    got = list(pool.map(next, [iter([]), iter("x")], **how))
    assert "'next' raised StopIteration" in str(got[0])
    assert got[1] == "x"
    for _ in range(3):
        # Stepped through, and not: both take from where the other one has stopped.
        values = pool.map(abs, range(10), chunksize=chunksize)
        assert [next(values), *itertools.islice(values, 2), next(values), *values] == list(range(10))


def test_p01_an_item_that_fails_follows_those_before_it(make_pool):
    pool = make_pool(workers=2)
    for make in (iter, lambda values: iter(values.__next__, None)):
        values, got = pool.map(third_fails, itertools.count(), chunksize=5), []
        with pytest.raises(ValueError, match="3") as caught:
            got.extend(make(values))
        assert got == [0, 1, 2]
        assert caught.traceback[-1].name == "third_fails"
        assert list(values) == []
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(pool.map(next, [iter([])], chunksize=2))
    until(lambda: pool.stats().queued + pool.stats().running == 0)


def test_p01_what_ends_a_chunk_answers_each_of_its_items(make_pool):
    pool = make_pool(workers=1)

    def leave(number):
        raise SystemExit(number)

    values = pool.map(leave, range(5), chunksize=3, return_exceptions=True)
    assert [repr(one) for one in values] == ["SystemExit(0)"] * 3 + ["SystemExit(3)"] * 2
    pool.shutdown()
    values = pool.map(abs, range(5), chunksize=3, return_exceptions=True)
    assert [type(one) for one in values] == [duly.ShutDown] * 5
    with pytest.raises(duly.ShutDown):
        next(pool.map(abs, range(5), chunksize=3))


def test_p05_chunks_are_read_as_their_tasks_are_submitted(make_pool):
    pool, read = make_pool(workers=2), []

    def numbers():
        for number in itertools.count():
            read.append(number)
            yield number

    values = pool.map(abs, numbers(), window=2, chunksize=10)
    assert not read
    assert [next(values) for _ in range(15)] == list(range(15))
    assert len(read) <= 15 + 10 + 2 * 10
    values.close()
    assert list(values) == []
    with pytest.raises(TypeError):
        len(pool.map(abs, numbers(), chunksize=10))


def test_p01_a_map_in_chunks_tells_how_many_are_left(make_pool):
    values = make_pool(workers=1).map(pow, range(10), [1] * 7, chunksize=3)
    assert len(values) == operator.length_hint(values) == 7
    for left in range(6, -1, -1):
        next(values)
        assert len(values) == left
    with pytest.raises(StopIteration):
        next(values)


@pytest.mark.parametrize("end", ["cancelled", "deadline_exceeded"])
def test_p02_no_item_begins_after_its_chunk_has_ended(make_pool, end):
    pool, gate, began = make_pool(workers=1), make_pool.gate(), []
    inside = threading.Event()

    def wait(number):
        began.append(number)
        inside.set()
        gate.wait(20)
        return number

    with duly.CancelScope() as scope:
        # Long enough that it has begun by then; a machine that stands still begins another.
        for timeout in (0.2, 1, 5, 20):
            options = {"timeout": timeout} if end == "deadline_exceeded" else {}
            inside.clear()
            began.clear()
            values = pool.options(label="waits", **options).map(wait, range(10), chunksize=10, return_exceptions=True)
            opener = threading.Thread(target=lambda: inside.wait(20) and end == "cancelled" and scope.cancel())
            opener.start()
            got = list(values)
            opener.join()
            if began:
                break
    assert {type(one) for one in got} == {duly.Cancelled if end == "cancelled" else duly.DeadlineExceeded}
    assert len(got) == 10
    gate.set()
    until(lambda: pool.stats().late >= 1)
    assert began == [0]


def test_p02_the_item_that_ends_its_chunk_is_the_last_to_begin(make_pool):
    pool, began = make_pool(workers=1), []
    with duly.CancelScope() as scope:

        def end(number):
            began.append(number)
            scope.cancel()

        got = list(pool.map(end, range(1000), chunksize=1000, return_exceptions=True))
    assert [type(one) for one in got] == [duly.Cancelled] * 1000
    until(lambda: pool.stats().running == 0)
    assert began == [0]


def test_p06_a_chunk_keeps_no_value_that_was_taken(make_pool):
    class Thing:
        pass

    def make(number):
        if number in (3, 5):
            raise ValueError(Thing())
        return Thing()

    pool = make_pool(workers=1)
    gc.disable()
    try:
        for step in (iter, lambda values: iter(values.__next__, None)):
            for value in step(pool.map(make, range(6), chunksize=6, return_exceptions=True)):
                gone = weakref.ref(value.args[0] if isinstance(value, ValueError) else value)
                del value
                assert gone() is None
    finally:
        gc.enable()


def test_p06_who_leaves_a_map_in_chunks_leaves_nothing_in_flight(make_pool):
    pool, gate = make_pool(workers=1), make_pool.gate()

    def late(number):
        if number > 1:
            gate.wait(20)
        return number

    gc.disable()
    try:
        for value in pool.map(late, range(100), chunksize=2, window=4):
            assert value == 0
            break
        del value
        until(lambda: pool.stats().queued == 0)
    finally:
        gc.enable()
        gate.set()
    with pool.map(late, itertools.count(), chunksize=2) as values:
        assert next(values) == 0
    until(lambda: pool.stats().queued + pool.stats().running == 0)


def test_p03_a_chunk_is_a_task_with_the_label_of_its_callback(make_pool):
    pool, local = make_pool(workers=1), contextvars.ContextVar("local", default="unset")
    local.set("caller's")
    got = list(pool.map(lambda _: (duly.current_task().label, local.get()), range(3), chunksize=2))
    assert {label.rpartition(".")[2] for label, _ in got} == {"<lambda>"}
    assert {value for _, value in got} == {"caller's"}
    before = pool.stats().submitted
    list(pool.map(abs, range(10), chunksize=4))
    assert pool.stats().submitted == before + 3
    assert list(pool.options(label="x").map(lambda _: duly.current_task().label, range(2), chunksize=2)) == ["x"] * 2


def test_p10_a_callback_may_map_in_chunks_over_its_own_pool(make_pool):
    pool = make_pool(workers=1, max_replacements=0)
    for ordered in (True, False):
        task = pool.submit(lambda ordered=ordered: sorted(pool.map(abs, range(20), ordered=ordered, chunksize=3)))
        assert task.result(10) == list(range(20))


def test_p13_chunks_that_find_the_queue_full_wait_for_their_turn(make_pool):
    pool = make_pool(workers=1, capacity=1, overflow="reject")
    assert list(pool.map(abs, range(40), window=8, chunksize=4)) == list(range(40))


@pytest.mark.usefixtures("each_loop")
def test_p01_amap_in_chunks(make_pool):
    pool = make_pool(workers=2)

    async def numbers():
        for number in range(10):
            yield number

    async def main():
        assert [one async for one in pool.amap(pow, numbers(), [2] * 20, chunksize=4)] == [n * n for n in range(10)]
        got = [one async for one in pool.amap(abs, range(30), ordered=False, chunksize=4)]
        assert sorted(got) == list(range(30))
        got = [repr(one) async for one in pool.amap(third_fails, range(6), chunksize=4, return_exceptions=True)]
        assert got == ["0", "1", "2", "ValueError(3)", "4", "5"]
        values = pool.amap(third_fails, range(6), chunksize=4)
        assert len(values) == 6
        assert [await values.__anext__() for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="3"):
            await values.__anext__()
        assert [one async for one in values] == []

    asyncio.run(main())


def test_p16_what_is_no_chunksize(make_pool):
    pool = make_pool(workers=1)

    async def coroutine(_):
        pass

    for make in (pool.map, pool.amap):
        for chunksize in (0, -1, 1.5, None, "2"):
            with pytest.raises(duly.InvalidArgument, match="chunksize"):
                make(abs, [1], chunksize=chunksize)
        with pytest.raises(TypeError, match="coroutine function"):
            make(coroutine, [1], chunksize=2)
        with pytest.raises(TypeError, match="callable"):
            make(5, [1], chunksize=2)
        with pytest.raises(TypeError):
            make(abs, chunksize=2)
