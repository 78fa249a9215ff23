"""CancelScope: ambient, inherited, with a time limit; contextvars carry it."""

import asyncio
import contextlib
import threading
import time

import duly
import pytest
from conftest import LONGER, auntil


def test_p02_a_scope_cancels_what_was_submitted_under_it(make_pool):
    pool, gate = make_pool(workers=1), make_pool.gate()
    with duly.CancelScope() as scope:
        running = pool.submit(gate.wait)
        queued = pool.submit(int)
    outside = pool.submit(int)
    scope.cancel("not needed")
    assert (scope.cancelled, scope.reason) == (True, "not needed")
    for task in (running, queued):
        with pytest.raises(duly.Cancelled) as caught:
            task.result(5)
        assert caught.value.reason == "not needed"
    with scope, pytest.raises(duly.Cancelled):
        pool.submit(int)
    gate.set()
    assert outside.result(5) == 0


def test_p02_a_scope_with_a_timeout_ends_what_is_under_it(make_pool):
    gate = make_pool.gate()
    for timeout in LONGER:
        pool = make_pool(workers=1, max_replacements=0)
        start = time.monotonic()
        tasks, left = [], 0
        # Refused if the time is over before it was submitted.
        with contextlib.suppress(duly.Cancelled), duly.CancelScope(timeout=timeout) as scope:
            for run, options in (gate.wait, {}), (int, {}), (int, {"timeout": 60}):
                tasks.append(pool.options(**options).submit(run))
            left = scope.time_left()
        for task in tasks:
            with pytest.raises(duly.DeadlineExceeded):
                task.result(timeout + 5)
        assert not tasks or time.monotonic() - start >= timeout
        assert left <= timeout
        if left > 0:
            break
    assert left > 0
    assert duly.CancelScope().time_left() is None
    with duly.CancelScope(deadline=time.monotonic() + 50) as scope:
        assert 30 < scope.time_left() <= 50


def test_p02_scopes_nest_and_the_inner_one_is_cancelled_with_the_outer_one(make_pool):
    pool, gate = make_pool(workers=4), make_pool.gate()
    with duly.CancelScope() as outer:
        with duly.CancelScope() as inner:
            first = pool.submit(gate.wait)
        second = pool.submit(gate.wait)
        with duly.CancelScope(detached=True):
            third = pool.submit(gate.wait)
    inner.cancel()
    assert isinstance(first.exception(5), duly.Cancelled)
    assert second.outcome is None
    outer.cancel()
    assert isinstance(second.exception(5), duly.Cancelled)
    assert third.outcome is None
    gate.set()
    assert third.result(5) is True


def test_p02_what_callbacks_submit_stands_under_the_scope_and_under_their_task(make_pool):
    pool, gate = make_pool(workers=4), make_pool.gate()
    inner = {}
    ready = threading.Event()

    def callback(name):
        inner[name] = pool.submit(gate.wait)
        with duly.CancelScope():
            inner[name + " in a scope"] = pool.submit(gate.wait)
        inner[name + " detached"] = pool.options(detached=True).submit(gate.wait)
        ready.set()
        gate.wait(10)

    with duly.CancelScope() as scope:
        task = pool.submit(callback, "of the scope")
    assert ready.wait(5)
    scope.cancel()
    assert task.outcome == "cancelled"
    for name in ("of the scope", "of the scope in a scope"):
        assert inner[name].outcome == "cancelled"
    assert inner["of the scope detached"].outcome is None
    gate.set()
    assert inner["of the scope detached"].result(10) is True


def test_p02_a_cancelled_task_takes_along_what_it_submitted_under_an_inherited_scope(make_pool):
    pool, gate = make_pool(workers=4), make_pool.gate()
    inner, ready = [], threading.Event()

    def callback():
        inner.append(pool.submit(gate.wait))
        with duly.CancelScope():
            inner.append(pool.submit(gate.wait))
        ready.set()
        gate.wait(10)

    with duly.CancelScope() as scope:
        task = pool.submit(callback)
    assert ready.wait(5)
    task.cancel()
    assert [one.outcome for one in inner] == ["cancelled", "cancelled"]
    assert not scope.cancelled


def test_p02_a_scope_named_by_options(make_pool):
    pool, gate = make_pool(workers=1), make_pool.gate()
    scope = duly.CancelScope()
    task = pool.options(scope=scope).submit(gate.wait)
    other = pool.submit(int)
    scope.cancel()
    assert task.outcome == "cancelled"
    # It may have run by now, if the first was cancelled before it began.
    assert other.outcome != "cancelled"
    with pytest.raises(TypeError, match="CancelScope"):
        pool.options(scope=5)


def test_p02_tasks_of_asyncio_inherit_the_scope(make_pool):
    pool, gate = make_pool(workers=2), make_pool.gate()

    async def main():
        async with duly.CancelScope() as scope:
            inherits = asyncio.ensure_future(pool.run(gate.wait))
        apart = asyncio.ensure_future(pool.run(gate.wait))
        await auntil(lambda: pool.stats().running == 2)
        scope.cancel()
        with pytest.raises(duly.Cancelled):
            await inherits
        gate.set()
        assert await apart is True

    asyncio.run(main())


def test_p13_check_cancelled_sees_the_scope(make_pool):
    pool = make_pool(workers=1)
    started = threading.Event()

    def polite():
        started.set()
        while True:
            duly.check_cancelled()
            time.sleep(0.001)

    with duly.CancelScope() as scope:
        task = pool.submit(polite)
    assert started.wait(5)
    scope.cancel()
    assert task.released(5)
    duly.check_cancelled()


def test_p16_what_is_no_scope():
    with pytest.raises(duly.InvalidArgument):
        duly.CancelScope(timeout=-1)
    with pytest.raises(duly.InvalidArgument, match="not both"):
        duly.CancelScope(timeout=1, deadline=1)
    assert "cancelled" not in repr(duly.CancelScope())
