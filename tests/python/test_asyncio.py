"""The asyncio side, also on uvloop: submit, run and await without holding the loop; cancellation both ways; one wake-up
a burst."""

import asyncio
import contextvars
import sys
import threading
import time

import duly
import pytest
from conftest import LONGER, auntil, make_stuck, until

pytestmark = pytest.mark.usefixtures("each_loop")


def loop_runs(main):
    asyncio.run(main())


def test_p01_await_gives_the_answer_of_every_kind(make_pool):
    pool, gate = make_pool(workers=2), make_pool.gate()

    async def main():
        assert await pool.run(pow, 2, 8) == 256
        task = await pool.asubmit(dict, a=1)
        assert await task is await task is task.result()
        for verbs in (pool, pool.options(timeout=10)):
            for kind in (ValueError, KeyboardInterrupt, SystemExit, GeneratorExit):
                if kind in (KeyboardInterrupt, SystemExit):
                    continue  # asyncio itself stops the loop for these
                with pytest.raises(kind):
                    await verbs.run(raise_, kind("told"))
        with pytest.raises(RuntimeError):
            await pool.run(raise_, StopIteration("told"))
        with pytest.raises(duly.DeadlineExceeded):
            await pool.options(timeout=0.05).run(gate.wait)
        stuck = await pool.asubmit(gate.wait)
        stuck.cancel("enough")
        with pytest.raises(duly.Cancelled) as caught:
            await stuck
        assert caught.value.reason == "enough"
        assert not isinstance(caught.value, asyncio.CancelledError)

    loop_runs(main)


def raise_(error):
    raise error


def test_p13_submit_on_a_loop_names_what_to_use(make_pool):
    pool = make_pool(workers=1)

    async def main():
        for verbs in (pool, pool.options(timeout=1)):
            with pytest.raises(RuntimeError, match="asubmit"):
                verbs.submit(int)
        assert await pool.try_submit(int) == 0, "which never waits"

    loop_runs(main)
    assert pool.submit(int).result(5) == 0
    assert pool.stats().submitted == 2


def test_p04_asubmit_waits_for_room_and_the_loop_goes_on(stuck):
    async def main():
        for _ in range(2):
            await stuck.pool.asubmit(int)
        waits = asyncio.ensure_future(stuck.pool.asubmit(int))
        gone = asyncio.ensure_future(stuck.pool.asubmit(int))
        ticks = 0
        while ticks < 20:
            await asyncio.sleep(0.001)
            ticks += 1
        assert not waits.done()
        assert stuck.pool.stats().blocked_producers == 2
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert stuck.pool.stats().blocked_producers == 1, "who leaves the line leaves it at once"
        stuck.gate.set()
        assert await (await waits) == 0

    loop_runs(main)
    assert stuck.pool.stats().submitted == 4


def test_p04_asubmit_is_refused_like_submit(stuck):
    async def main():
        for _ in range(2):
            await stuck.pool.asubmit(int)
        with pytest.raises(duly.SubmitTimedOut):
            await stuck.pool.options(submit_timeout=0.05).asubmit(int)
        with pytest.raises(duly.DeadlineExceeded, match="never ran"):
            await stuck.pool.options(timeout=0.05).asubmit(int)
        waiting = [asyncio.ensure_future(stuck.pool.asubmit(int)) for _ in range(8)]
        await asyncio.sleep(0)
        with pytest.raises(duly.QueueFull):
            await stuck.pool.asubmit(int)
        stuck.pool.close()
        for one in waiting:
            with pytest.raises(duly.ShutDown):
                await one

    loop_runs(main)


def test_p02_who_leaves_run_cancels_the_task_and_who_leaves_await_does_not(make_pool):
    pool, gate = make_pool(workers=2), make_pool.gate()

    async def main():
        seen = []

        def callback():
            context = duly.current_task()
            context.on_cancel(lambda: seen.append("told"))
            gate.wait(10)

        runs = asyncio.ensure_future(pool.run(callback))
        task = await pool.asubmit(gate.wait)
        waits = asyncio.ensure_future(await_(task))
        await auntil(lambda: pool.stats().running == 2)
        for one in (runs, waits):
            one.cancel()
            with pytest.raises(asyncio.CancelledError):
                await one
        await auntil(lambda: seen)
        assert not task.done()
        gate.set()
        assert await task is True

    loop_runs(main)
    assert pool.stats().cancelled == 1


def test_p02_who_leaves_run_when_there_is_room_and_the_loop_does_not_know_yet_cancels_the_task(make_pool):
    async def main(stuck, verb):
        gate = make_pool.gate()
        queued = [await stuck.pool.asubmit(int) for _ in range(2)]
        waits = asyncio.ensure_future(getattr(stuck.pool, verb)(gate.wait))
        await auntil(lambda: stuck.pool.stats().blocked_producers == 1)
        stuck.gate.set()
        # The loop has no turn while its task is accepted, and begins.
        until(lambda: all(task.done() for task in queued) and stuck.pool.stats().running == 1)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        await auntil(lambda: stuck.pool.stats().cancelled == 1)

    for verb in ("run", "asubmit"):
        asyncio.run(main(make_stuck(make_pool), verb))


def test_p01_a_loop_is_woken_also_when_a_signal_handler_raises_while_it_is_told(make_pool, monkeypatch):
    complaints, gate, pool = [], make_pool.gate(), make_pool(workers=1)
    monkeypatch.setattr("sys.unraisablehook", lambda told: complaints.append(told.exc_type))

    class Interrupt(BaseException):
        pass

    async def main():
        loop = asyncio.get_running_loop()
        original, calls = loop.call_soon_threadsafe, []

        def interrupted(*args):
            calls.append(args)
            if len(calls) == 1:
                raise Interrupt
            return original(*args)

        tasks = [await pool.asubmit(gate.wait) for _ in range(2)]
        waits = [asyncio.ensure_future(await_(task)) for task in tasks]
        await asyncio.sleep(0)
        loop.call_soon_threadsafe = interrupted
        gate.set()
        assert await asyncio.wait_for(asyncio.gather(*waits), 20) == [True] * 2

    loop_runs(main)
    assert complaints == [Interrupt]


async def await_(task):
    return await task


def test_p03_one_wake_up_a_burst(make_pool):
    pool, gate = make_pool(workers=4), make_pool.gate()
    count = 200

    async def main():
        loop = asyncio.get_running_loop()
        tasks = [await pool.asubmit(gate.wait) for _ in range(count)]
        waits = [asyncio.ensure_future(await_(task)) for task in tasks]
        await asyncio.sleep(0)
        calls = []
        original = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *args, **kwargs: calls.append(args) or original(*args, **kwargs)
        gate.set()
        # The loop is busy while they end.
        until(lambda: pool.stats().succeeded == count)
        assert await asyncio.gather(*waits) == [True] * count
        return len(calls)

    assert asyncio.run(main()) <= 8


def test_p01_a_loop_that_is_closed_meanwhile_is_survived(make_pool, monkeypatch):
    complaints = []
    monkeypatch.setattr("sys.unraisablehook", complaints.append)
    pool, gate = make_pool(workers=1), make_pool.gate()
    loop = asyncio.new_event_loop()

    async def leave():
        tasks = [await pool.asubmit(gate.wait) for _ in range(3)]
        waits = [asyncio.ensure_future(await_(task)) for task in tasks]
        await asyncio.sleep(0)
        for one in waits:
            one.cancel()
        await asyncio.wait(waits)
        return tasks

    tasks = loop.run_until_complete(leave())
    loop.close()
    gate.set()
    assert [task.result(5) for task in tasks] == [True] * 3
    assert pool.submit(int).result(5) == 0
    assert pool.shutdown(5).drained
    assert not complaints


def test_p01_many_loops_share_a_pool(make_pool):
    pool = make_pool(workers=2)
    wrong = []

    def one_loop(number):
        async def main():
            for round_ in range(5):
                got = await asyncio.gather(*(pool.run(lambda *args: args, number, round_, n) for n in range(50)))
                assert got == [(number, round_, n) for n in range(50)]

        try:
            asyncio.run(main())
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=one_loop, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong


def test_p13_context_variables_reach_the_callback_and_no_other(make_pool):
    pool = make_pool(workers=1)
    variable = contextvars.ContextVar("variable", default="unset")

    def read_and_set(value):
        before = variable.get()
        variable.set(value)
        return before

    async def main():
        variable.set("of the loop")
        assert await pool.run(read_and_set, "changed") == "of the loop"
        assert variable.get() == "of the loop"

    loop_runs(main)
    assert pool.submit(read_and_set, "again").result(5) == "unset", "what a callback sets stays with it"
    variable.set("here")
    assert pool.submit(lambda: pool.submit(variable.get).result()).result(5) == "here"
    assert list(pool.map(lambda _: variable.get(), range(3))) == ["here"] * 3


def test_p10_a_callback_may_run_a_loop_that_waits_for_its_own_pool(make_pool):
    pool = make_pool(workers=2)

    def callback():
        async def main():
            return await pool.run(pow, 2, 3)

        return asyncio.run(main())

    assert pool.submit(callback).result(10) == 8


def test_p02_a_deadline_answers_a_coroutine_while_every_worker_is_stuck(stuck):
    async def main():
        start = time.monotonic()
        with pytest.raises(duly.DeadlineExceeded):
            await stuck.pool.options(timeout=0.1).run(int)
        assert time.monotonic() - start >= 0.1

    loop_runs(main)


@pytest.mark.thread_unsafe
def test_p02_who_waits_for_room_does_not_hold_up_the_timer(make_pool):
    """A task that expires makes room; the coroutine that waits for that is told by somebody who may wait."""

    async def submit(stuck, told, waits):
        submitting = asyncio.ensure_future(stuck.pool.asubmit(abs, -7))
        await auntil(lambda: submitting.done() or stuck.pool.stats().blocked_producers)
        waits.set()
        told.append(await (await submitting))

    for timeout in LONGER:
        stuck, told, waits = make_stuck(make_pool), [], threading.Event()
        queued = [stuck.pool.options(timeout=timeout + later).submit(int) for later in (0.2, 0.4)]
        loop = threading.Thread(target=asyncio.run, args=(submit(stuck, told, waits),))
        loop.start()
        assert waits.wait(20)
        time.sleep(0.05)  # until the loop sleeps, too
        before = sys.getswitchinterval()
        sys.setswitchinterval(100)
        try:
            # On a busy machine there may be room before anybody waits for it: the next one has more time.
            waited = not queued[0].done()
            end = time.monotonic() + timeout + 5
            # Nobody else gets the interpreter here.
            while not (queued[0].done() and queued[1].done()) and time.monotonic() < end:
                pass
            ended = [queued[0].outcome, queued[1].outcome]
        finally:
            sys.setswitchinterval(before)
            stuck.gate.set()
        loop.join(20)
        if waited:
            break
    assert ended == ["deadline_exceeded"] * 2
    assert told == [7]
