"""The interpreter of the conformance table: does the steps of a case, then the checks at its end.

Keeps true: every wait here has an end, so a case that would hang fails; bounds of time are measured around the step
itself, and "never early" has no slack; an unknown field, step or word is an error. ../conformance/README.md tells the
format.
"""

from __future__ import annotations

import pathlib
import sys
import threading
import time

import duly

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLE = pathlib.Path(__file__).resolve().parent.parent / "conformance"
BOOKS = ("succeeded", "failed", "panicked", "cancelled", "deadline_exceeded", "shed", "abandoned")
COUNTERS = (
    *("submitted", *BOOKS, "queued", "running"),
    *("refused", "late", "overdue", "replaced", "stalled", "unobserved", "blocked_producers", "workers"),
)
# How long to wait for: a callback's start and the end of a task; a thread; a counter.
PATIENCE, THREAD, SETTLE = 10.0, 20.0, 5.0
NEVER = 2**31 - 1
REFUSALS = {
    duly.QueueFull: "queue_full",
    duly.SubmitTimedOut: "submit_timed_out",
    duly.DeadlineExceeded: "deadline_exceeded",
    duly.Cancelled: "cancelled",
    duly.ShutDown: "shut_down",
    duly.WouldDeadlock: "would_deadlock",
    duly.InvalidArgument: "invalid_argument",
    # Python's own word for an argument of the wrong type.
    TypeError: "invalid_argument",
}


class Wrong(Exception):
    """Something is not as the case expects. `step` counts from 1; None: at its end."""

    def __init__(self, what, step=None):
        super().__init__(what if step is None else f"step {step}: {what}")
        self.step = step


def load(name):
    """The cases of a file, or of all files of a folder."""
    path = TABLE / name
    files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    return [case for file in files for case in tomllib.loads(file.read_text())["case"]]


def out_of_reach():
    """The words that Python has not got yet, with the reasons."""
    return tomllib.loads((TABLE / "verbs.toml").read_text())["python"]


def run(case):
    """Does a case; raises Wrong."""
    world = World()
    passed = False
    try:
        if "pool" in case:
            world.step({"do": "pool", **case["pool"]})
        for number, step in enumerate(case["steps"], 1):
            try:
                world.step(dict(step))
            except Wrong as wrong:
                raise Wrong(str(wrong), number) from wrong
        passed = True
    finally:
        # What failed first is what is told.
        world.end(passed)


def same(what, is_, expected):
    if is_ != expected:
        raise Wrong(f"{what} is {is_!r}, expected {expected!r}")


def same_if(what, is_, expected):
    if expected is not None:
        same(what, is_, expected)


def poll(seconds, ready):
    """Asks until the answer is true, or the time is up; returns the last answer."""
    end = time.monotonic() + seconds
    while True:
        answer = ready()
        if answer or time.monotonic() >= end:
            return answer
        time.sleep(0.001)


def settle(check):
    """Repeats a check until it passes, or the time is up."""
    end = time.monotonic() + SETTLE
    while True:
        try:
            return check()
        except Wrong:
            if time.monotonic() >= end:
                raise
        time.sleep(0.001)


class Failure(Exception):
    """How a callback fails."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Panic(BaseException):
    """How a callback panics."""


class Record:
    """What is known of one task."""

    def __init__(self):
        self.task = None
        self.starts = 0
        self.drops = 0
        self.cause = None
        self.completed = None
        self.outcomes = set()

    def saw(self, outcome):
        self.outcomes.add(outcome)
        if len(self.outcomes) > 1:
            raise Wrong(f"one task, but {sorted(self.outcomes)}")


class Captured:
    """Data that a callback captures; its release is counted."""

    def __init__(self, record):
        self.record = record

    def __del__(self):
        self.record.drops += 1


def callback(captured, behave):
    """Every task is this. It keeps no reference to the captured data itself: the traceback of a failure would too."""
    captured.record.starts += 1
    record = captured.record
    del captured
    return behave(record)


class World:
    """What one case has named."""

    def __init__(self):
        self.pools, self.records, self.gates, self.threads, self.marks = {}, {}, {}, {}, {}

    def gate(self, name):
        return self.gates.setdefault(name, threading.Event())

    def pool(self, name):
        try:
            return self.pools[name]
        except KeyError:
            raise Wrong(f"there is no pool {name!r}") from None

    def record(self, task):
        try:
            return self.records[task]
        except KeyError:
            raise Wrong(f"there is no task {task!r}") from None

    def task(self, name):
        record = self.record(name)
        if record.task is None:
            raise Wrong(f"the task {name!r} has no handle")
        return record.task

    # ---- steps in general ----

    def step(self, step):
        thread = step.pop("thread", None)
        if thread is None or step["do"] == "join":
            return self.timed(step if thread is None else {**step, "name": thread})
        result = []

        def work():
            try:
                self.timed(step)
            except BaseException as error:
                result.append(error)

        if thread in self.threads:
            raise Wrong(f"there are two threads {thread!r}")
        self.threads[thread] = threading.Thread(target=work, daemon=True), result
        self.threads[thread][0].start()
        return None

    def timed(self, step):
        do = step.pop("do")
        since = step.pop("since", None)
        at_least, at_most = step.pop("at_least_ms", None), step.pop("at_most_ms", None)
        times = step.pop("times", None)
        act = getattr(self, f"do_{do}", None)
        if act is None:
            raise ValueError(f"there is no step {do!r}")
        if times is None:
            return self.bounded(lambda: act(**step), since, at_least, at_most)
        for number in range(times):
            one = {**step, **{key: f"{step[key]}.{number}" for key in ("task", "label") if key in step}}
            self.bounded(lambda one=one: act(**one), since, at_least, at_most)
        return None

    def bounded(self, act, since, at_least, at_most):
        start = time.monotonic_ns()
        act()
        now = time.monotonic_ns()
        took = now - (start if since is None else self.marks[since])
        if at_least is not None and took < at_least * 1_000_000:
            raise Wrong(f"early: after {took / 1e6:.3f} ms, not before {at_least} ms")
        if at_most is not None and took > at_most * 1_000_000:
            raise Wrong(f"late: after {took / 1e6:.3f} ms, not within {at_most} ms")

    # ---- pools ----

    def do_pool(self, pool="pool", expect="ok", threads="on_demand", **given):
        if threads != "on_demand":
            raise ValueError("a pool of Python creates its threads on demand")
        options = {}
        for key, value in given.items():
            if key.endswith("_ms"):
                options[key[:-3]] = value / 1000
            else:
                options[key] = value
        try:
            self.pools[pool] = duly.Pool(**options)
            answer = "ok"
        except (duly.InvalidArgument, OverflowError):
            answer = "invalid_argument"
        same("the answer", answer, expect)

    def do_close(self, pool="pool"):
        self.pool(pool).close()

    def do_shutdown(self, drain_ms, pool="pool", drained=None, abandoned=None, threads_left=None, **counters):
        report = self.pool(pool).shutdown(drain_ms / 1000)
        same_if("drained", report.drained, drained)
        if abandoned is not None:
            same_labels(report.abandoned, abandoned)
        same_if("threads_left", report.threads_left, threads_left)
        check_counters(report.stats, counters)

    def do_drop_pool(self, pool="pool"):
        self.pool(pool)
        del self.pools[pool]

    def do_stats(self, pool="pool", **counters):
        pool = self.pool(pool)
        settle(lambda: check_counters(pool.stats(), counters))

    def do_leaks(self, labels, pool="pool"):
        pool = self.pool(pool)
        settle(lambda: same_labels(pool.leaks(), labels))

    def do_running(self, labels, pool="pool"):
        pool = self.pool(pool)
        settle(lambda: same_labels(pool.running(), labels))

    def do_threads(self, count, pool="pool"):
        prefix = f"{self.pool(pool).name}-"
        settle(lambda: same("the number of threads", threads_named(prefix), count))

    # ---- tasks ----

    def do_submit(self, **step):
        self.submit("submit", **step)

    def do_try_submit(self, **step):
        self.submit("try_submit", **step)

    def submit(self, verb, task, run, pool="pool", expect="accepted", label=None, timeout_ms=None, timeout=None,
               submit_timeout_ms=None, detached=None, **fields):  # fmt: skip
        pool = self.pool(pool)
        behave = self.behaviour(run, pool, **fields)
        options = {}
        if label is not None:
            options["label"] = label
        if timeout_ms is not None:
            options["timeout"] = timeout_ms / 1000
        if timeout is not None:
            options["timeout"] = {"nan": float("nan"), "negative": -0.001, "longest": threading.TIMEOUT_MAX}[timeout]
        if submit_timeout_ms is not None:
            options["submit_timeout"] = submit_timeout_ms / 1000
        if detached is not None:
            options["detached"] = detached
        record = Record()
        if self.records.setdefault(task, record) is not record:
            raise ValueError(f"there are two tasks {task!r}")
        try:
            bound = pool.options(**options) if options else pool
            if behave is None:
                record.task = getattr(bound, verb)(None, Captured(record))
            else:
                record.task = getattr(bound, verb)(callback, Captured(record), behave)
            answer = "accepted"
        except tuple(REFUSALS) as refused:
            answer = next(word for kind, word in REFUSALS.items() if isinstance(refused, kind))
        if answer != "accepted":
            del self.records[task]
            same("the number of starts of a refused callback", record.starts, 0)
        same("the answer", answer, expect)

    def do_wait(self, task, expect, timeout_ms=10_000, value=None, value_at_least=None, value_at_most=None, code=None,
                message=None, reason=None):  # fmt: skip
        handle, record = self.task(task), self.record(task)
        got = caught = None
        try:
            got = handle.result(timeout_ms / 1000)
            answer = "succeeded"
        except duly.WaitTimeout:
            return same("the answer", "timed_out", expect)
        except Failure as failure:
            answer, caught = "failed", failure
        except Panic as panic:
            answer, caught = "panicked", panic
        except duly.DulyError as ended:
            kinds = (duly.Cancelled, duly.DeadlineExceeded, duly.Shed, duly.Abandoned)
            words = ("cancelled", "deadline_exceeded", "shed", "abandoned")
            answer, caught = next(word for kind, word in zip(kinds, words) if isinstance(ended, kind)), ended
        record.saw(answer)
        record.saw(handle.outcome)
        same("the answer", answer, expect)
        if got is not None:
            same_if("the value", got, value)
            if value_at_least is not None and got < value_at_least:
                raise Wrong(f"the value is {got}, less than {value_at_least}")
            if value_at_most is not None and got > value_at_most:
                raise Wrong(f"the value is {got}, more than {value_at_most}")
        same_if("the code", getattr(caught, "code", None), code)
        same_if("the reason", getattr(caught, "reason", None), reason)
        if message is not None and message not in str(caught):
            raise Wrong(f"the message is {str(caught)!r}, expected {message!r} in it")
        return None

    def do_outcome(self, task, expect):
        outcome = self.task(task).outcome
        if outcome is not None:
            self.record(task).saw(outcome)
        same("the outcome", outcome or "pending", expect)

    def do_cancel(self, task, reason=None, expect=None):
        decided = self.task(task).cancel() if reason is None else self.task(task).cancel(reason)
        same_if("the answer", "decided" if decided else "ended", expect)

    def do_drop_task(self, task):
        self.task(task)
        self.records[task].task = None

    def do_on_complete(self, task):
        record = self.record(task)
        calls = []

        def note(task):
            calls.append(task)
            record.completed = task.outcome if len(calls) == 1 else "called twice"

        self.task(task).add_done_callback(note)

    def do_completed(self, task, expect):
        record = self.record(task)
        poll(PATIENCE, lambda: record.completed)
        same("what the completion callback heard", record.completed, expect)
        record.saw(expect)

    def do_released(self, task, timeout_ms=10_000, expect="yes"):
        same("released", "yes" if self.task(task).released(timeout_ms / 1000) else "no", expect)

    def do_await_start(self, task):
        record = self.record(task)
        if not poll(PATIENCE, lambda: record.starts):
            raise Wrong(f"the callback of {task!r} has not started")

    def do_started(self, task, count):
        same("the number of starts", self.record(task).starts, count)

    def do_drops(self, task, count):
        record = self.record(task)
        settle(lambda: same("the number of releases", record.drops, count))

    def do_cause(self, task, expect):
        record = self.record(task)
        poll(PATIENCE, lambda: record.cause)
        same("the cause", record.cause, expect)

    # ---- the rest ----

    def do_open(self, gate):
        self.gate(gate).set()

    def do_mark(self, name):
        self.marks[name] = time.monotonic_ns()

    def do_pause(self, ms):
        time.sleep(ms / 1000)

    def do_join(self, name):
        thread, result = self.threads.pop(name)
        thread.join(THREAD)
        if thread.is_alive():
            raise Wrong(f"thread {name!r} hangs")
        for error in result:
            if isinstance(error, Wrong):
                raise Wrong(f"on thread {name!r}: {error}") from error
            raise error

    # ---- callbacks ----

    def behaviour(self, run, pool, **fields):
        """What a callback does, as a function of its task's record; None: no callback at all."""
        if run == "null":
            return self.null(**fields)
        make = getattr(self, f"run_{run}", None)
        if make is None:
            raise ValueError(f"there is no callback {run!r}")
        return make(pool, **fields)

    def null(self):
        return None

    def run_return(self, _pool, value=0):
        return lambda _: value

    def run_fail(self, _pool, code=1, message="failed"):
        return lambda _: throw(Failure(code, message))

    def run_panic(self, _pool, message="panicked"):
        return lambda _: throw(Panic(message))

    def run_sleep(self, _pool, ms, value=0):
        def behave(_):
            time.sleep(ms / 1000)
            return value

        return behave

    def run_block(self, _pool, gate, value=0):
        gate = self.gate(gate)

        def behave(_):
            gate.wait()
            return value

        return behave

    def run_poll(self, _pool, value=0):
        def behave(record):
            context = duly.current_task()
            if not poll(30.0, lambda: context.cause):
                raise Failure(99, "nobody cancelled it")
            same("is_cancelled()", context.is_cancelled(), True)
            record.cause = context.cause
            return value

        return behave

    def run_hook(self, _pool, gate, value=0):
        gate = self.gate(gate)

        def behave(_):
            duly.current_task().on_cancel(gate.set)
            gate.wait()
            return value

        return behave

    def run_time_left(self, _pool):
        def behave(_):
            left = duly.current_task().time_left()
            return NEVER if left is None else int(left * 1000)

        return behave

    def run_submit(self, pool, inner, inner_run="return", inner_detached=False, **fields):
        behave_inner = self.behaviour(inner_run, pool, **fields)
        bound = pool.options(detached=True) if inner_detached else pool

        def behave(_):
            record = Record()
            self.records[inner] = record
            try:
                record.task = bound.submit(callback, Captured(record), behave_inner)
            except duly.DulyError as refused:
                raise Failure(2, str(refused)) from refused
            return 0

        return behave

    def run_wait(self, _pool, target):
        def behave(_):
            if not poll(PATIENCE, lambda: target in self.records and self.records[target].task):
                raise Failure(3, "there is no such task")
            try:
                return self.task(target).result(PATIENCE)
            except (duly.DulyError, Failure, Panic) as error:
                raise Failure(3, str(error)) from error

        return behave

    def run_cancel(self, _pool, target):
        def behave(_):
            poll(PATIENCE, lambda: target in self.records and self.records[target].task)
            return int(self.task(target).cancel())

        return behave

    def run_close(self, pool):
        def behave(_):
            pool.close()
            return 0

        return behave

    def run_shutdown(self, pool, ms=1000):
        def behave(_):
            try:
                pool.shutdown(ms / 1000)
            except duly.WouldDeadlock:
                return 1
            return 0

        return behave

    def run_stats(self, pool):
        return lambda _: pool.stats().running

    # ---- the end ----

    def end(self, passed):
        try:
            self.check_end(passed)
        except Wrong as wrong:
            if passed:
                raise Wrong(f"at the end, {wrong}") from wrong

    def check_end(self, passed):
        for gate in self.gates.values():
            gate.set()
        for name in list(self.threads):
            self.do_join(name)
        tasks = [(name, record, record.task) for name, record in self.records.items() if record.task is not None]
        for name, record, task in tasks:
            if not task.wait(PATIENCE):
                raise Wrong(f"{name!r} has no outcome")
            record.saw(task.outcome)
        for pool in self.pools.values():
            report = pool.shutdown(PATIENCE)
            if passed:
                check_books(pool.stats())
                check_books(report.stats)
        for name, record, task in tasks:
            if not task.released(PATIENCE):
                raise Wrong(f"{name!r} is not released")
            record.saw(task.outcome)
        for name, record in self.records.items():
            settle(lambda name=name, record=record: same(f"the number of releases of {name!r}", record.drops, 1))


def throw(error):
    raise error


def check_counters(stats, counters):
    for name, expected in counters.items():
        if name not in COUNTERS:
            raise ValueError(f"there is no counter {name!r}")
        same(name, getattr(stats, name), expected)


def check_books(stats):
    same("queued", stats.queued, 0)
    same("running", stats.running, 0)
    same("the sum of the outcomes", sum(getattr(stats, name) for name in BOOKS), stats.submitted)
    same("books_balance()", stats.books_balance(), True)


def same_labels(records, expected):
    # A task without a label is called by its callback's name in Python.
    labels = ["" if record.label == callback.__qualname__ else record.label for record in records]
    same("the labels", sorted(labels), sorted(expected))


def threads_named(prefix):
    names = []
    for comm in pathlib.Path("/proc/self/task").glob("*/comm"):
        try:
            names.append(comm.read_text().rstrip("\n"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended just now
    return sum(name.startswith(prefix) for name in names)
