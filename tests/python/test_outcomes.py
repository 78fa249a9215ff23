"""P1, P2, P3, P7: one answer, in time, to everyone; a callback's exception is its outcome."""

import concurrent.futures
import pickle
import sys
import threading
import time
import traceback

import duly
import pytest
from conftest import LONGER, past_its_deadline, until


class Mine(Exception):
    pass


def raise_(error):
    raise error


def test_p01_every_taker_gets_the_same_object(make_pool):
    pool = make_pool(workers=2)
    task = pool.submit(dict, a=1)
    first = task.result()
    assert first == {"a": 1}
    assert task.result() is first
    assert task.result(timeout=0) is first
    assert (task.outcome, task.done(), task.exception(), task.wait(0)) == ("succeeded", True, None, True)


def test_p01_every_waiter_of_every_kind_sees_the_same(make_pool):
    pool, gate = make_pool(workers=1), make_pool.gate()
    task = pool.submit(lambda: gate.wait() and object())
    seen = []
    task.add_done_callback(lambda task: seen.append(task.result()))
    waiters = [threading.Thread(target=lambda: seen.append(task.result(10))) for _ in range(5)]
    for waiter in waiters:
        waiter.start()
    assert (task.outcome, task.done()) == (None, False)
    gate.set()
    for waiter in waiters:
        waiter.join(10)
    task.add_done_callback(lambda task: seen.append(task.result()))
    until(lambda: len(seen) == 7)
    assert all(one is task.result() for one in seen)


def test_p01_positional_and_keyword_arguments_arrive(make_pool):
    def capture(*args, **kwargs):
        return args, kwargs

    pool = make_pool(workers=1)
    expected = ((1,), {"self": 2, "callback": 3, "timeout": 4, "label": 5})
    for verbs in (pool, pool.options(timeout=10)):
        for verb in (verbs.submit, verbs.try_submit):
            assert verb(capture, 1, self=2, callback=3, timeout=4, label=5).result() == expected


def test_p02_a_stuck_callback_does_not_keep_its_waiter(make_pool):
    pool, gate = make_pool(workers=1), make_pool.gate()
    task, took, timeout = past_its_deadline(pool, gate.wait, label="deaf")
    assert timeout <= took < timeout + 5
    with pytest.raises(duly.DeadlineExceeded, match="deaf") as caught:
        task.result()
    assert caught.value.task == "deaf"
    assert isinstance(caught.value, TimeoutError)
    assert not isinstance(caught.value, duly.WaitTimeout)
    assert not task.released(0)
    gate.set()
    assert task.released(5)
    assert task.outcome == "deadline_exceeded"


def test_p02_a_waiter_on_another_thread_is_answered_too(make_pool):
    pool, gate = make_pool(workers=1), make_pool.gate()
    task = pool.options(timeout=0.1).submit(gate.wait)
    answers = []
    waiter = threading.Thread(target=lambda: answers.append(type(task.exception())))
    waiter.start()
    waiter.join(5)
    assert answers == [duly.DeadlineExceeded]


def test_p02_a_deadline_is_a_point_on_the_monotonic_clock(make_pool):
    pool, gate = make_pool(workers=1), make_pool.gate()
    deadline = time.monotonic() + 0.1
    task = pool.options(deadline=deadline).submit(gate.wait)
    assert task.wait(5)
    assert time.monotonic() >= deadline
    assert task.outcome == "deadline_exceeded"
    past = pool.options(deadline=time.monotonic() - 1).submit(int)
    assert isinstance(past.exception(5), duly.DeadlineExceeded)


def test_p02_the_default_timeout_holds_unless_told_otherwise(make_pool):
    pool, gate = make_pool(workers=3, default_timeout=0.05), make_pool.gate()
    bounded = pool.submit(gate.wait)
    unbounded = pool.options(timeout=None).submit(gate.wait)
    longer = pool.options(label="l").options(timeout=20).submit(gate.wait)
    assert isinstance(bounded.exception(5), duly.DeadlineExceeded)
    time.sleep(0.1)
    assert (unbounded.outcome, longer.outcome) == (None, None)


def test_p02_cancel_answers_at_once_though_the_worker_is_stuck(stuck):
    queued = stuck.pool.submit(int)
    assert queued.cancel()
    assert not queued.cancel()
    with pytest.raises(duly.Cancelled) as caught:
        queued.result(0)
    assert caught.value.reason == "requested"
    assert isinstance(caught.value, concurrent.futures.CancelledError)
    assert stuck.task.cancel("the user left")
    with pytest.raises(duly.Cancelled, match="the user left"):
        stuck.task.result(0)


def test_p02_a_callback_can_ask_whether_to_go_on(make_pool):
    pool = make_pool(workers=1)
    told = []

    def polite():
        context = duly.current_task()
        assert not context.is_cancelled()
        assert context.cause is None
        duly.check_cancelled()
        told.append(context.label)
        while context.sleep(10):
            pass
        told.append(context.cause)
        try:
            duly.check_cancelled()
        except duly.DulyError as error:
            told.append(type(error))
        context.check()

    task = pool.options(label="polite", timeout=60).submit(polite)
    until(lambda: told)
    task.cancel()
    assert task.released(5)
    assert told == ["polite", "cancelled", duly.Cancelled]
    # On a busy machine its deadline may pass before it has asked for the first time: the next one has more time.
    for timeout in LONGER:
        told.clear()
        assert pool.options(label="polite", timeout=timeout).submit(polite).released(timeout + 20)
        if told:
            break
    assert told == ["polite", "deadline_exceeded", duly.DeadlineExceeded]
    assert duly.current_task() is None
    duly.check_cancelled()


def test_p02_what_a_context_may_be_asked_elsewhere(make_pool):
    pool, gate = make_pool(workers=1), make_pool.gate()
    contexts = []
    task = pool.options(timeout=30).submit(lambda: contexts.append(duly.current_task()) or gate.wait())
    until(lambda: contexts)
    (context,) = contexts
    assert 0 < context.time_left() <= 30.01
    assert not context.is_cancelled()
    with pytest.raises(RuntimeError, match="thread of its callback"):
        context.check()
    task.cancel()
    assert context.is_cancelled()
    assert not context.sleep(10)


def test_p02_an_on_cancel_hook_wakes_a_callback_that_blocks_elsewhere(make_pool):
    pool, other = make_pool(workers=1), make_pool.gate()

    def callback():
        duly.current_task().on_cancel(other.set)
        started.set()
        other.wait()

    started = threading.Event()
    task = pool.submit(callback)
    assert started.wait(5)
    task.cancel()
    assert task.released(5)


def test_p02_a_wait_that_times_out_is_no_outcome(stuck):
    start = time.monotonic()
    with pytest.raises(duly.WaitTimeout, match="stuck") as caught:
        stuck.task.result(0.1)
    assert time.monotonic() - start >= 0.1
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(duly.WaitTimeout):
        stuck.task.exception(timeout=0)
    assert not stuck.task.wait(0.01)
    assert stuck.task.outcome is None


def test_p02_timeouts_are_the_futures_timeouts_too():
    # Until 3.11 concurrent.futures.TimeoutError was another class.
    assert issubclass(duly.WaitTimeout, concurrent.futures.TimeoutError)
    assert issubclass(duly.DeadlineExceeded, concurrent.futures.TimeoutError)


def test_p03_a_done_callback_comes_though_every_worker_is_stuck(stuck):
    seen = []
    task = stuck.pool.options(timeout=0.05).submit(int)
    task.add_done_callback(seen.append)
    until(lambda: seen)
    assert seen == [task]
    assert task.outcome == "deadline_exceeded"


def test_p03_what_a_done_callback_raises_is_not_lost(make_pool, monkeypatch):
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: raised.append(told.exc_value))
    pool = make_pool(workers=1)
    task = pool.submit(int)
    task.wait()
    task.add_done_callback(lambda _: raise_(Mine("in the callback")))
    until(lambda: raised)
    assert str(raised[0]) == "in the callback"
    raised.clear()
    assert pool.submit(int).result(5) == 0


def test_p07_the_callbacks_own_exception_is_raised_with_a_true_traceback(make_pool):
    pool = make_pool(workers=1)
    error = Mine("no")
    task = pool.submit(raise_, error)
    depths = []
    for _ in range(5):
        with pytest.raises(Mine) as caught:
            task.result()
        assert caught.value is error
        frames = traceback.extract_tb(caught.value.__traceback__)
        assert frames[-1].name == "raise_"
        depths.append(len(frames))
    assert len(set(depths)) == 1, depths
    assert task.exception() is error
    assert task.outcome == "failed"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
def test_p07_a_base_exception_is_panicked_and_arrives_as_itself(make_pool, kind):
    pool = make_pool(workers=1)
    error = kind("told")
    task = pool.submit(raise_, error)
    for _ in range(2):
        with pytest.raises(kind) as caught:
            task.result(5)
        assert caught.value is error
    assert task.outcome == "panicked"
    assert pool.stats().panicked == 1
    assert pool.submit(int).result(5) == 0, "the worker goes on"


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, TimeoutError, concurrent.futures.CancelledError])
def test_p07_an_exception_of_python_is_failed_and_never_taken_for_an_outcome(make_pool, kind):
    task = make_pool(workers=1).submit(raise_, kind("mine"))
    with pytest.raises(kind) as caught:
        task.result(5)
    assert not isinstance(caught.value, duly.DulyError)
    assert task.outcome == "failed"


def test_p07_an_exception_that_cannot_be_shown_is_still_an_outcome(make_pool):
    class Hostile(BaseException):
        def __repr__(self):
            raise Mine("no repr")

    pool = make_pool(workers=1)
    task = pool.submit(raise_, Hostile())
    with pytest.raises(Hostile):
        task.result(5)
    assert task.outcome == "panicked"


def test_p07_the_exceptions_are_what_the_contract_says():
    kinds = {
        duly.Cancelled: concurrent.futures.CancelledError,
        duly.DeadlineExceeded: TimeoutError,
        duly.WaitTimeout: TimeoutError,
        duly.SubmitTimedOut: TimeoutError,
        duly.ShutDown: RuntimeError,
        duly.WouldDeadlock: RuntimeError,
        duly.InvalidArgument: ValueError,
        duly.Shed: duly.DulyError,
        duly.Abandoned: duly.DulyError,
        duly.QueueFull: duly.DulyError,
        duly.Panicked: duly.DulyError,
    }
    for kind, base in kinds.items():
        assert issubclass(kind, base)
        assert issubclass(kind, duly.DulyError)
        assert kind.__module__ == "duly"
        one = kind("text")
        one.task = "label"
        copy = pickle.loads(pickle.dumps(one))
        assert (type(copy), str(copy), copy.task) == (kind, "text", "label")
