"""The verbs for event loops under trio, and under anyio on either of its backends: the same as under asyncio."""

import contextlib
import functools
import threading
import time
from contextvars import ContextVar

import duly
import pytest
from conftest import LONGER, needs, until

trio, anyio = needs("trio", "anyio")

LOOPS = {
    "trio": trio.run,
    "anyio on trio": functools.partial(anyio.run, backend="trio"),
    "anyio on asyncio": functools.partial(anyio.run, backend="asyncio"),
}


@pytest.fixture(params=LOOPS)
def loop_runs(request):
    return LOOPS[request.param]


async def auntil(ready, seconds=20.0):
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it never came true"
        await anyio.sleep(0.001)


def raise_(error):
    raise error


def test_p01_every_verb_gives_the_answer(make_pool, loop_runs):
    pool, gate = make_pool(workers=2), make_pool.gate()

    async def numbers():
        for number in range(20):
            yield number

    async def main():
        assert await pool.run(pow, 2, 8) == 256
        task = await pool.asubmit(dict, a=1)
        assert await task is await task
        with pytest.raises(ValueError, match="told"):
            await pool.run(raise_, ValueError("told"))
        with pytest.raises(duly.DeadlineExceeded):
            await pool.options(timeout=0.05).run(gate.wait)
        for ordered in (True, False):
            got = [value async for value in pool.amap(pow, numbers(), [2] * 20, ordered=ordered)]
            assert sorted(got) == [number * number for number in range(20)]
        async with duly.Group(pool, limit=2) as group:
            members = [await group.asubmit(pow, number, 2) for number in range(10)]
        assert [await member for member in members] == [number * number for number in range(10)]

    loop_runs(main)


def test_p02_who_is_cancelled_in_run_cancels_the_task_and_who_awaits_a_task_does_not(make_pool, loop_runs):
    pool, gate = make_pool(workers=2), make_pool.gate()
    reasons = []

    def polite():
        try:
            while True:
                duly.check_cancelled()
                time.sleep(0.001)
        except duly.Cancelled as error:
            reasons.append(error.reason)
            raise

    async def main():
        scope = anyio.CancelScope()

        async def runs():
            with scope:
                await pool.run(polite)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runs)
            await auntil(lambda: pool.stats().running == 1)
            scope.cancel()
        assert scope.cancelled_caught
        await auntil(lambda: reasons == ["caller_left"])
        task = await pool.asubmit(gate.wait)
        with anyio.move_on_after(0.05) as scope:
            await task
        assert scope.cancelled_caught
        assert not task.done()
        gate.set()
        assert await task is True

    loop_runs(main)
    assert pool.stats().cancelled == 1


def test_p02_a_task_that_is_cancelled_ends_its_wait_and_nothing_else(make_pool, loop_runs):
    pool, gate = make_pool(workers=2), make_pool.gate()

    async def main():
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:

                async def waits():
                    with pytest.raises(duly.Cancelled) as caught:
                        await pool.options(scope=scope).run(gate.wait)
                    assert caught.value.reason == "enough"
                    ended.append(True)

                scope, ended = duly.CancelScope(), []
                for _ in range(2):
                    tasks.start_soon(waits)
                await auntil(lambda: pool.stats().running == 2)
                scope.cancel("enough")
            assert ended == [True] * 2, "the group of tasks goes on: it is no cancellation of the loop's"

    loop_runs(main)


def test_p05_without_room_a_task_waits_and_the_loop_goes_on(stuck, loop_runs):
    async def main():
        for _ in range(2):
            await stuck.pool.asubmit(int)
        with anyio.move_on_after(0.05) as scope:
            await stuck.pool.asubmit(int)
        assert scope.cancelled_caught
        assert stuck.pool.stats().blocked_producers == 0, "who leaves the line leaves it at once"
        with pytest.raises(duly.SubmitTimedOut):
            await stuck.pool.options(submit_timeout=0.05).run(int)
        async with anyio.create_task_group() as tasks:

            async def waits():
                assert await stuck.pool.run(int) == 0

            for _ in range(8):
                tasks.start_soon(waits)
            await auntil(lambda: stuck.pool.stats().blocked_producers == 8)
            with pytest.raises(duly.QueueFull):
                await stuck.pool.asubmit(int)
            stuck.gate.set()

    loop_runs(main)


def test_p04_a_place_in_a_group_is_waited_for_no_longer_than_told(make_pool, loop_runs):
    pool, gate = make_pool(workers=1), make_pool.gate()

    async def main():
        group = duly.Group(pool, limit=1, label="pair")
        member = await group.asubmit(gate.wait)
        for _ in range(2):
            with pytest.raises(duly.SubmitTimedOut, match=r"'int' was refused by group 'pair'.*submit_timeout"):
                await group.options(submit_timeout=0.05).asubmit(int)
        assert not group._state._waiting, "who has left is told no more"
        gate.set()
        assert await (await group.options(submit_timeout=60).asubmit(int)) == 0
        assert await member

    loop_runs(main)


def test_p13_submit_names_what_to_use(make_pool, loop_runs):
    pool = make_pool(workers=1)

    async def main():
        with pytest.raises(RuntimeError, match="asubmit"):
            pool.submit(int)
        assert await pool.try_submit(int) == 0, "which never waits"
        assert await pool.run(lambda: pool.submit(int).result()) == 0, "a worker is no loop"

    loop_runs(main)
    assert pool.submit(int).result(5) == 0


def test_p05_the_drop_in_never_blocks_the_loop(loop_runs):
    gate = threading.Event()
    with duly.ThreadPoolExecutor(1, capacity=1, max_blocked_producers=8) as executor:

        async def main():
            try:
                futures = [executor.submit(gate.wait, 10) for _ in range(4)]
                await anyio.sleep(0)
            finally:
                gate.set()
            await auntil(lambda: all(future.done() for future in futures))
            assert [future.result() for future in futures] == [True] * 4

        loop_runs(main)


def test_p13_a_callback_may_call_back_into_the_loop(make_pool, loop_runs):
    from anyio import from_thread, lowlevel

    pool = make_pool(workers=2)

    async def on_the_loop(number):
        await anyio.sleep(0)
        return number + 1

    async def main():
        token = lowlevel.current_token()
        assert await pool.run(lambda: from_thread.run(on_the_loop, 1, token=token)) == 2

    loop_runs(main)


def test_p13_context_variables_and_scopes_reach_the_callback(make_pool, loop_runs):
    pool, gate = make_pool(workers=1), make_pool.gate()
    variable = ContextVar("variable", default="unset")

    async def main():
        variable.set("of the loop")
        assert await pool.run(variable.get) == "of the loop"
        for timeout in LONGER:
            with contextlib.suppress(duly.Cancelled):  # over before it was submitted
                async with duly.CancelScope(timeout=timeout):
                    with pytest.raises(duly.DeadlineExceeded):
                        await pool.run(gate.wait)
                break
        else:
            pytest.fail("never submitted in time")

    loop_runs(main)


def test_p01_a_run_that_has_ended_meanwhile_is_survived(make_pool, loop_runs, monkeypatch):
    complaints = []
    monkeypatch.setattr("sys.unraisablehook", complaints.append)
    pool, gate = make_pool(workers=8), make_pool.gate()

    async def leaves():
        with anyio.fail_after(10):
            assert await pool.run(time.sleep, 0.01) is None, "the run before this one is over"
        tasks = [await pool.asubmit(gate.wait) for _ in range(3)]
        with anyio.move_on_after(0.02):
            async with anyio.create_task_group() as waiting:

                async def wait(task):
                    await task

                for task in tasks:
                    waiting.start_soon(wait, task)
        return tasks

    for _ in range(2):
        tasks = loop_runs(leaves)
    gate.set()
    assert [task.result(5) for task in tasks] == [True] * 3
    until(lambda: pool.stats().succeeded == 8)
    assert not complaints


def test_p03_one_wake_up_a_burst(make_pool, monkeypatch):
    pool, gate = make_pool(workers=4), make_pool.gate()
    count, calls = 200, []

    async def main():
        tasks = [await pool.asubmit(gate.wait) for _ in range(count)]
        original = trio.lowlevel.TrioToken.run_sync_soon
        monkeypatch.setattr(
            trio.lowlevel.TrioToken, "run_sync_soon", lambda *args: calls.append(args) or original(*args)
        )
        async with trio.open_nursery() as nursery:

            async def wait(task):
                assert await task

            for task in tasks:
                nursery.start_soon(wait, task)
            await trio.sleep(0.05)
            gate.set()
            # The loop is busy while they end.
            until(lambda: pool.stats().succeeded == count)

    trio.run(main)
    assert len(calls) <= 8


def test_p01_as_a_guest_of_asyncio_trio_has_its_own_answers(make_pool):
    import asyncio

    pool = make_pool(workers=2)

    async def of_trio():
        return [await pool.run(pow, number, 2) for number in range(20)]

    async def main():
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        trio.lowlevel.start_guest_run(
            of_trio, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=ended.set_result
        )
        assert [await pool.run(pow, number, 3) for number in range(20)] == [number**3 for number in range(20)]
        assert (await ended).unwrap() == [number**2 for number in range(20)]

    asyncio.run(main())
