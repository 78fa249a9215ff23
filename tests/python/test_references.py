"""P5, P6: what a task captured, and its value, are released once they are of no use; nothing stays behind."""

import contextlib
import gc
import sys
import threading
import weakref

import duly
import pytest
from conftest import until


class Thing:
    pass


def test_p06_arguments_are_gone_when_the_outcome_is_there(make_pool):
    pool = make_pool(workers=1)
    thing, keyword = Thing(), Thing()
    gone = weakref.ref(thing), weakref.ref(keyword)
    task = pool.submit(lambda *args, **kwargs: None, thing, keyword=keyword)
    del thing, keyword
    assert task.wait(5)
    assert [ref() for ref in gone] == [None, None]
    assert task.released(5)


def test_p06_the_callback_itself_is_released(make_pool):
    pool = make_pool(workers=1)

    def callback():
        pass

    gone = weakref.ref(callback)
    task = pool.submit(callback)
    del callback
    assert task.wait(5)
    assert gone() is None


def test_p06_the_value_goes_with_the_handle(make_pool):
    pool = make_pool(workers=1)
    task = pool.submit(Thing)
    gone = weakref.ref(task.result(5))
    assert gone() is not None
    del task
    assert gone() is None


def test_p06_a_value_nobody_takes_is_released(make_pool):
    pool = make_pool(workers=1)
    made = []

    def make():
        thing = Thing()
        made.append(weakref.ref(thing))
        return thing

    pool.submit(make)
    until(lambda: made and made[0]() is None)


def test_p06_the_value_of_a_late_callback_is_released(make_pool):
    pool, gate = make_pool(workers=1), make_pool.gate()
    made = []

    def late():
        thing = Thing()
        made.append(weakref.ref(thing))
        gate.wait()
        return thing

    task = pool.submit(late)
    until(lambda: made)
    task.cancel()
    gate.set()
    assert task.released(5)
    until(lambda: made[0]() is None)


@pytest.mark.parametrize("how", ["cancel", "deadline", "shutdown"])
def test_p06_what_never_ran_is_released_though_the_worker_is_stuck(stuck, how):
    thing = Thing()
    gone = weakref.ref(thing)
    verbs = stuck.pool.options(timeout=0.05) if how == "deadline" else stuck.pool
    task = verbs.submit(lambda _: None, thing)
    del thing
    if how == "cancel":
        task.cancel()
    elif how == "shutdown":
        stuck.pool.shutdown(0)
    # Without a call of duly, so that it is not this thread which gives the reference up.
    until(lambda: gone() is None)
    assert task.released(5)
    assert task.outcome == {"cancel": "cancelled", "deadline": "deadline_exceeded", "shutdown": "abandoned"}[how]


def test_p06_a_refused_callback_is_the_callers_again(stuck):
    thing = Thing()
    stuck.pool.try_submit(int)
    stuck.pool.try_submit(int)
    before = sys.getrefcount(thing)
    with pytest.raises(duly.QueueFull):
        stuck.pool.try_submit(lambda _: None, thing)
    assert sys.getrefcount(thing) == before


def test_p06_an_exception_is_not_kept_alive_by_a_cycle(make_pool):
    pool = make_pool(workers=1)
    gone = []

    def look():
        task = pool.submit(lambda: 1 // 0)
        thing = Thing()
        gone.append(weakref.ref(thing))
        with contextlib.suppress(ZeroDivisionError):
            task.result(5)

    look()
    # The exception's traceback holds this frame, which holds the task: the collector sees through the task.
    gc.collect()
    assert gone[0]() is None


def test_p06_a_base_exception_goes_with_its_task(make_pool):
    class Leave(BaseException):
        pass

    def leave():
        raise Leave

    pool = make_pool(workers=1)
    gone = []
    for look in (True, False):
        task = pool.submit(leave)
        assert task.wait(5)
        if look:
            gone.append(weakref.ref(task.exception()))
        del task
    gc.collect()
    assert gone[0]() is None
    assert not [one for one in gc.get_objects() if type(one) is Leave]


def test_p05_ended_tasks_leave_nothing(make_pool):
    pool = make_pool(workers=2)

    def burst():
        for _ in range(2000):
            pool.options(timeout=3600, label="x").submit(int)
        until(lambda: pool.stats().queued + pool.stats().running == 0)

    burst()
    gc.collect()
    before = len(gc.get_objects())
    burst()
    gc.collect()
    assert len(gc.get_objects()) - before < 50


def test_p06_destructors_may_use_the_pool(make_pool):
    pool = make_pool(workers=1)
    done = threading.Event()

    class Last:
        def __del__(self):
            pool.submit(done.set)

    pool.submit(lambda _: None, Last())
    assert done.wait(5)


@pytest.mark.parametrize("asked", ["result", "exception"])
def test_p06_a_cycle_through_an_answer_is_collected(make_pool, asked):
    class Cycle:
        pass

    class Failure(Exception):
        pass

    pool = make_pool(workers=1)
    made = Cycle() if asked == "result" else Failure()

    def answer(what):
        if isinstance(what, Exception):
            raise what
        return what

    task = pool.submit(answer, made)
    assert not gc.is_tracked(task)
    made.task = task
    assert getattr(task, asked)(5) is made
    assert gc.is_tracked(task)
    gone = weakref.ref(made)
    del made, task
    until(lambda: gc.collect() >= 0 and gone() is None)
