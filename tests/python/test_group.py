"""Group: tasks that belong together; the first failure cancels the rest."""

import asyncio
import contextlib
import gc
import threading

import duly
import pytest
from conftest import LONGER, auntil, make_stuck, until


def fail(kind=ValueError):
    raise kind("told")


def test_p02_the_first_failure_cancels_the_rest(make_pool):
    pool, gate = make_pool(workers=2), make_pool.gate()
    group = duly.Group(pool)
    stuck = group.submit(gate.wait)
    failed = group.options(label="the first").submit(fail)
    with pytest.raises(duly.GroupFailed, match="1 more were cancelled") as caught, group:
        pass
    assert [(task.label, type(error)) for task, error in caught.value.errors] == [("the first", ValueError)]
    assert caught.value.cancelled == 1
    assert (stuck.outcome, failed.outcome) == ("cancelled", "failed")
    with pytest.raises(duly.Cancelled):
        group.submit(int)


def test_p01_a_group_may_let_the_others_go_on(make_pool):
    pool = make_pool(workers=1)
    group = duly.Group(pool, fail_fast=False)
    group.submit(fail)
    good = group.submit(int)
    with pytest.raises(duly.GroupFailed) as caught:
        group.wait(5)
    assert len(caught.value.errors) == 1
    assert good.result(0) == 0
    assert duly.Group(pool).wait(5)


def test_p05_a_limit_holds(make_pool):
    pool, gate = make_pool(workers=4), make_pool.gate()
    group = duly.Group(pool, limit=2)
    tasks = [group.submit(gate.wait) for _ in range(2)]
    with pytest.raises(duly.QueueFull):
        group.try_submit(int)
    with pytest.raises(duly.SubmitTimedOut):
        group.options(submit_timeout=0.05).submit(int)
    threading.Timer(0.05, gate.set).start()
    assert group.submit(int).result(5) == 0
    assert group.wait(5)
    assert [task.result(0) for task in tasks] == [True, True]


def test_p10_a_callback_may_wait_for_a_group_of_its_own_pool(make_pool):
    pool = make_pool(workers=1, max_replacements=0)

    def outer():
        with duly.Group(pool, limit=2) as group:
            return [group.submit(abs, -n) for n in range(10)]

    assert [task.result(5) for task in pool.submit(outer).result(10)] == list(range(10))


def test_p06_a_dropped_group_cancels_its_members_unless_told_otherwise(make_pool):
    pool, gate = make_pool(workers=1), make_pool.gate()
    for detach in (False, True):
        group = duly.Group(pool, detach=detach)
        task = group.submit(gate.wait)
        del group
        gc.collect()
        assert task.done() is not detach
    gate.set()
    assert task.result(5) is True


def test_p02_a_group_has_a_time_limit_and_an_exception_in_its_block_cancels_it(make_pool):
    pool, gate = make_pool(workers=2), make_pool.gate()
    for timeout in LONGER:
        with contextlib.suppress(duly.Cancelled):  # over before it was submitted
            group = duly.Group(pool, timeout=timeout)
            task = group.submit(gate.wait)
            break
    else:
        pytest.fail("never submitted in time")
    with pytest.raises(duly.GroupFailed):
        group.wait(5)
    assert task.outcome == "deadline_exceeded"
    group = duly.Group(pool)
    task = group.submit(gate.wait)
    assert not group.wait(0)
    with pytest.raises(KeyError), group:
        raise KeyError
    assert task.outcome == "cancelled"


@pytest.mark.usefixtures("each_loop")
def test_p02_groups_on_a_loop(make_pool):
    pool, gate = make_pool(workers=2), make_pool.gate()

    async def main():
        async with duly.Group(pool, limit=2) as group:
            tasks = [await group.asubmit(abs, -n) for n in range(10)]
        assert [task.result(0) for task in tasks] == list(range(10))
        group = duly.Group(pool)
        await group.asubmit(gate.wait)
        await group.options(label="x").asubmit(fail)
        with pytest.raises(duly.GroupFailed):
            await group.wait_async()

    asyncio.run(main())
    gate.set()
    until(lambda: pool.stats().running == 0)


@pytest.mark.usefixtures("each_loop")
def test_p04_a_place_in_a_group_is_waited_for_while_another_submit_waits_for_room(make_pool):
    stuck = make_stuck(make_pool)

    async def main():
        for _ in range(2):
            await stuck.pool.asubmit(int)
        group = duly.Group(stuck.pool, limit=1)
        first, second = (asyncio.ensure_future(group.asubmit(abs, -n)) for n in (1, 2))
        await auntil(lambda: stuck.pool.stats().blocked_producers == 1)
        await asyncio.sleep(0.01)
        assert not second.done(), "and the loop goes on"
        stuck.gate.set()
        assert await (await first) == 1
        assert await (await second) == 2
        await group.wait_async()

    # In a thread of its own: what must not happen is that the loop never gets a turn.
    loop = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    loop.start()
    loop.join(30)
    assert not loop.is_alive()


def test_p04_a_place_that_a_refused_submit_gives_back_is_taken(make_pool):
    stuck, gate = make_stuck(make_pool), make_pool.gate()

    async def main():
        group = duly.Group(stuck.pool, limit=2)
        for _ in range(2):
            await stuck.pool.asubmit(gate.wait)
        leaves, stays = (asyncio.ensure_future(group.asubmit(int)) for _ in range(2))
        await auntil(lambda: stuck.pool.stats().blocked_producers == 2)
        third = asyncio.ensure_future(group.asubmit(int))
        await asyncio.sleep(0.01)
        leaves.cancel()
        # Its place is taken, by one that stands in line now.
        await auntil(lambda: stuck.pool.stats().blocked_producers == 2)
        stuck.gate.set()
        gate.set()
        assert await (await stays) == await (await third) == 0

    asyncio.run(main())


def test_p16_what_is_no_group(make_pool):
    with pytest.raises(duly.InvalidArgument):
        duly.Group(make_pool(workers=1), limit=0)
