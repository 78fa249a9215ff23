"""The interpreter of the conformance table: does the steps of a case, then the checks at its end.

Keeps true: every wait here has an end, so a case that would hang fails; bounds of time are measured around the step
itself, and "never early" has no slack; an unknown field, step or word is an error. ../conformance/README.md tells the
format.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import pathlib
import queue
import signal
import sys
import threading
import time
import traceback
import warnings

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
# How long a child may take, in seconds, and what it exits with when it has not come so far as to tell a step.
CHILD, CRASHED = 20, 250
HOOKS = ("worker_start", "worker_stop", "late", "stalled", "unobserved")
SIGNALS = {"user1": signal.SIGUSR1, "user2": signal.SIGUSR2}
# The reasons that a signal is told by.
SIGNALLED = {f"signal {int(number)}" for number in SIGNALS.values()}
# What every callback is called, so that a task without a label is known.
CALLBACK = "the callback"
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


REFUSED = frozenset(REFUSALS.values())


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
    world = World(case.get("needs", ()))
    passed = False
    try:
        if "pool" in case:
            world.step({"do": "pool", **case["pool"]})
        for number, step in enumerate(case["steps"], 1):
            if step["do"] == "fork":
                world.fork(step["child"], number, case)
            elif "child" not in step:
                world.numbered(number, step)
            elif step["do"] == "join":
                world.join_child(step["child"], number)
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


def run_to_its_end(verbs, function, captured, behave, leave):
    """`await verbs.run(...)`: the outcome and the value; None if the caller leaves once the callback has started."""
    record, only = captured.record, [captured]
    del captured

    async def main():
        # From here on nobody but the library holds what is captured.
        runs = asyncio.ensure_future(verbs.run(function, only.pop(), behave))
        if leave:
            end = time.monotonic() + PATIENCE
            while not record.starts and time.monotonic() < end:  # noqa: ASYNC110 - the callback tells nobody
                await asyncio.sleep(0.001)
            runs.cancel()
            await asyncio.wait([runs])
            return None, None
        try:
            return "succeeded", await runs
        except Failure:
            return "failed", None
        except Panic:
            return "panicked", None
        except duly.Shed:
            return "shed", None
        except duly.Abandoned:
            return "abandoned", None

    return asyncio.run(main())


class Stream:
    """A stream that is pulled by a thread of its own: a wait for the next answer may time out and lose nothing."""

    def __init__(self, answers, pulled):
        self.answers, self.pulled, self.waiting = answers, pulled, False
        self.asked, self.told = queue.SimpleQueue(), queue.SimpleQueue()
        self.thread = threading.Thread(target=self.pull, args=(answers, self.asked, self.told), daemon=True)
        self.thread.start()

    @staticmethod
    def pull(answers, asked, told):
        while asked.get():
            try:
                told.put(("value", next(answers)))
            except BaseException as error:
                told.put(("end" if isinstance(error, StopIteration) else "raised", error))

    def next(self, seconds):
        if not self.waiting:
            self.asked.put(True)
        try:
            kind, answer = self.told.get(timeout=seconds)
        except queue.Empty:
            self.waiting = True
            return "timed_out", None
        self.waiting = False
        if kind == "end":
            return "end", None
        if isinstance(answer, BaseException):
            word = word_of(answer)
            return word, answer.code - 1 if word == "failed" else None
        return "succeeded", answer

    def leave(self):
        self.answers.close()
        self.asked.put(False)
        self.thread.join(THREAD)
        if self.thread.is_alive():
            raise Wrong("whoever pulls the stream hangs")


def word_of(error):
    """The outcome or the refusal that an exception stands for."""
    if isinstance(error, Failure):
        return "failed"
    if isinstance(error, Panic):
        return "panicked"
    kinds = {duly.Shed: "shed", duly.Abandoned: "abandoned", **REFUSALS}
    return next(word for kind, word in kinds.items() if isinstance(error, kind))


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def call(self, coroutine, seconds=PATIENCE):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(seconds)

    def end(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(THREAD)
        self.loop.close()


class World:
    """What one case has named."""

    def __init__(self, needs):
        self.needs = needs
        self.streams, self.children, self.hooks, self.flights, self.callers = {}, {}, {}, {}, {}
        self.loop = None
        self.pools, self.records, self.gates, self.threads, self.marks = {}, {}, {}, {}, {}
        self.tokens, self.queues, self.periodics, self.groups = {}, {}, {}, {}
        self.order = []

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

    # ---- children ----

    def fork(self, name, number, case):
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # From 3.12 on: "may lead to deadlocks in the child".
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os._exit(self.be_child(name, number, case))
        self.children[name] = pid

    def be_child(self, name, forked, case):
        """The exit code: 0, or the number of the step that was not as expected."""
        code = CRASHED
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(CHILD)
            # A thread of the parent may have held the locks of the others.
            self.gates, self.threads = {}, {}
            for number, step in enumerate(case["steps"][forked:], forked + 1):
                if step.get("child") == name and step["do"] != "join":
                    code = number
                    self.numbered(number, {key: value for key, value in step.items() if key != "child"})
            code = 0
        except Wrong as wrong:
            os.write(2, f"in child {name!r}, {wrong}\n".encode())
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            code = CRASHED
        return code

    def join_child(self, name, number):
        _, status = os.waitpid(self.children.pop(name), 0)
        if os.WIFSIGNALED(status):
            raise Wrong(f"child {name!r} was ended by signal {os.WTERMSIG(status)}", number)
        code = os.WEXITSTATUS(status)
        if code != 0:
            raise Wrong(f"in child {name!r}: what it says stands above", None if code == CRASHED else code)

    # ---- steps in general ----

    def numbered(self, number, step):
        try:
            self.step(dict(step))
        except Wrong as wrong:
            raise Wrong(str(wrong), number) from wrong

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
        if "fork_refuses" in self.needs:
            options["on_fork"] = "shut_down"
        if "hooks" in self.needs:
            calls = self.hooks[pool] = {hook: [] for hook in HOOKS}
            options.update({f"on_{hook}": calls[hook].append for hook in HOOKS})
        try:
            self.pools[pool] = duly.Pool(**options)
            answer = "ok"
        except (duly.InvalidArgument, OverflowError):
            answer = "invalid_argument"
        same("the answer", answer, expect)

    def do_hook(self, hook, count, pool="pool"):
        settle(lambda: same(f"the calls of {hook}", len(self.hooks[pool][hook]), count))

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

    def do_pause_pool(self, pool="pool"):
        self.pool(pool).pause()

    def do_resume_pool(self, pool="pool"):
        self.pool(pool).resume()

    def do_set_workers(self, count, pool="pool", expect="ok"):
        try:
            self.pool(pool).set_workers(count)
            answer = "ok"
        except (duly.InvalidArgument, OverflowError):
            answer = "invalid_argument"
        except duly.ShutDown:
            answer = "shut_down"
        same("the answer", answer, expect)

    # ---- queues ----

    def queue(self, pool, name):
        if name == "default":
            return self.pool(pool).default_queue
        try:
            return self.queues[name]
        except KeyError:
            raise Wrong(f"there is no queue {name!r}") from None

    def do_queue(self, queue, pool="pool", expect="ok", **options):
        try:
            self.queues[queue] = self.pool(pool).queue(queue, **options)
            answer = "ok"
        except (duly.InvalidArgument, OverflowError):
            answer = "invalid_argument"
        except duly.ShutDown:
            answer = "shut_down"
        same("the answer", answer, expect)

    def do_set_queue(self, queue, pool="pool", unlimited=(), expect="ok", **options):
        handle = self.queue(pool, queue)
        try:
            for name, value in {**options, **dict.fromkeys(unlimited)}.items():
                getattr(handle, f"set_{name}")(value)
            answer = "ok"
        except (duly.InvalidArgument, OverflowError):
            answer = "invalid_argument"
        same("the answer", answer, expect)

    def do_queue_stats(self, queue, pool="pool", **numbers):
        handle = self.queue(pool, queue)
        settle(lambda: [same(name, getattr(handle.stats(), name), value) for name, value in numbers.items()])

    def do_pause_queue(self, queue, pool="pool"):
        self.queue(pool, queue).pause()

    def do_resume_queue(self, queue, pool="pool"):
        self.queue(pool, queue).resume()

    # ---- periodic tasks ----

    def do_every(self, periodic, period_ms, run, pool="pool", missed="skip", overlap=False, max_failures=None,
                 delay_ms=None, label=None, timeout_ms=None, token=None, queue=None, expect="accepted",
                 **fields):  # fmt: skip
        name, pool = pool, self.pool(pool)
        behave = self.behaviour(run, pool, **fields)
        options = {}
        if token is not None:
            options["scope"] = self.token(token)
        if queue is not None:
            options["queue"] = self.queue(name, queue)
        if delay_ms is not None:
            options["delay"] = delay_ms / 1000
        if label is not None:
            options["label"] = label
        if timeout_ms is not None:
            options["timeout"] = timeout_ms / 1000
        record = self.records.setdefault(periodic, Record())
        captured = Captured(record)
        try:
            every = pool.options(**options).every(
                period_ms / 1000, missed=missed, overlap=overlap, max_failures=max_failures
            )
            self.periodics[periodic] = every.submit(self.counted(periodic), captured, behave)
            answer = "accepted"
        except tuple(REFUSALS) as refused:
            answer = next(word for kind, word in REFUSALS.items() if isinstance(refused, kind))
        if answer != "accepted":
            del self.records[periodic]
        same("the answer", answer, expect)

    def do_cancel_periodic(self, periodic, expect=None):
        decided = self.periodics[periodic].cancel()
        same_if("the answer", "decided" if decided else "ended", expect)

    def do_wait_periodic(self, periodic, expect, timeout_ms=10_000):
        same("the end", self.periodics[periodic].wait(timeout_ms / 1000) or "timed_out", expect)

    def do_periodic_stats(self, periodic, **numbers):
        handle = self.periodics[periodic]

        def check():
            stats = handle.stats()
            for name, value in numbers.items():
                if name.endswith("_at_least"):
                    is_ = getattr(stats, name[: -len("_at_least")])
                    if is_ < value:
                        raise Wrong(f"{name[: -len('_at_least')]} is {is_}, less than {value}")
                else:
                    same(name, getattr(stats, name), value)

        settle(check)

    def do_drop_periodic(self, periodic):
        del self.periodics[periodic]

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

    def do_submit_async(self, **step):
        self.submit("submit_async", **step)

    def do_run(self, leave=False, expect="succeeded", **step):
        self.submit("run", expect=expect, leave=leave, **step)

    def submit(self, verb, task, run, pool="pool", expect="accepted", label=None, timeout_ms=None, timeout=None,
               submit_timeout_ms=None, detached=None, token=None, queue=None, key=None, delay_ms=None, group=None,
               overflow=None, leave=False, **fields):  # fmt: skip
        name, pool = pool, self.pool(pool)
        behave = self.behaviour(run, pool, **fields)
        options = {}
        if token is not None:
            options["scope"] = self.token(token)
        if queue is not None:
            options["queue"] = self.queue(name, queue)
        if key is not None:
            options["key"] = key
        if delay_ms is not None:
            options["delay"] = delay_ms / 1000
        if overflow is not None:
            options["overflow"] = overflow
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
        value = None
        try:
            verbs = pool if group is None else self.groups[group]
            bound = verbs.options(**options) if options else verbs
            function = None if behave is None else self.counted(task)
            if verb == "run":
                answer, value = run_to_its_end(bound, function, Captured(record), behave, leave)
                if leave:
                    return
            else:
                if verb == "submit_async":
                    record.task = asyncio.run(bound.asubmit(function, Captured(record), behave))
                else:
                    record.task = getattr(bound, verb)(function, Captured(record), behave)
                answer = "accepted"
        except tuple(REFUSALS) as refused:
            answer = next(word for kind, word in REFUSALS.items() if isinstance(refused, kind))
        if answer in REFUSED and record.task is None and not (verb == "run" and record.starts):
            del self.records[task]
            same("the number of starts of a refused callback", record.starts, 0)
        same("the answer", answer, expect)
        if verb == "run" and answer == "succeeded" and "value" in fields:
            same("the value", value, fields["value"])

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
        why = getattr(caught, "reason", None)
        same_if("the reason", "signal" if why in SIGNALLED else why, reason)
        if message is not None and message not in str(caught):
            raise Wrong(f"the message is {str(caught)!r}, expected {message!r} in it")
        return None

    def do_wait_async(self, task, **expected):
        async def wait(handle):
            return await handle

        # Awaited to its end; then the answer is looked at as after any wait.
        handle = self.task(task)
        with contextlib.suppress(Failure, Panic, duly.DulyError):
            asyncio.run(wait(handle))
        self.do_wait(task, **expected, timeout_ms=0)

    def do_group(self, group, pool="pool", limit=None, fail_fast=True, detach=False):
        self.groups[group] = duly.Group(self.pool(pool), limit=limit, fail_fast=fail_fast, label=group, detach=detach)

    def do_group_wait(self, group, timeout_ms=10_000, expect="ok", errors=None, cancelled=None):
        failed = None
        try:
            answer = "ok" if self.groups[group].wait(timeout_ms / 1000) else "timed_out"
        except duly.GroupFailed as error:
            answer, failed = "failed", error
        same("the answer", answer, expect)
        if errors is not None:
            labels = ["" if task.label == CALLBACK else task.label for task, _ in failed.errors]
            same("the members with errors", labels, list(errors))
        if cancelled is not None:
            same("how many the group cancelled", failed.cancelled, cancelled)

    def do_drop_group(self, group):
        del self.groups[group]

    def do_wait_any(self, tasks, timeout_ms=10_000, expect=None):
        first = duly.wait_any([self.task(name) for name in tasks], timeout_ms / 1000)
        names = {id(self.task(name)): name for name in tasks}
        same("the first that ended", None if first is None else names[id(first)], expect)

    def do_wait_all(self, tasks, timeout_ms=10_000, missing=()):
        ended = duly.wait_all([self.task(name) for name in tasks], timeout_ms / 1000)
        same("the end of all", ended, not missing)
        same("what is missing", [name for name in tasks if not self.task(name).done()], list(missing))

    # ---- streams ----

    def do_stream(self, stream, pool="pool", items=None, window=None, ordered=True, blocks=(), gate=None, fails=(),
                  label=None, timeout_ms=None, token=None, queue=None):  # fmt: skip
        name, pool = pool, self.pool(pool)
        options = {}
        if label is not None:
            options["label"] = label
        if timeout_ms is not None:
            options["timeout"] = timeout_ms / 1000
        if token is not None:
            options["scope"] = self.token(token)
        if queue is not None:
            options["queue"] = self.queue(name, queue)
        record = self.records.setdefault(stream, Record())
        gate = None if gate is None else self.gate(gate)

        def counted(captured, item):
            captured.record.starts += 1
            if "all" in blocks or str(item) in blocks:
                gate.wait()
            if str(item) in fails:
                raise Failure(item + 1, "failed")
            return item

        pulled = [0]

        def numbers():
            for item in itertools.count() if items is None else range(items):
                pulled[0] += 1
                yield item

        bound = pool.options(**options) if options else pool
        function = functools.partial(counted, Captured(record))
        answers = bound.map(function, numbers(), window=window, ordered=ordered, return_exceptions=True)
        del function
        self.streams[stream] = Stream(answers, pulled)

    def stream(self, name):
        try:
            return self.streams[name]
        except KeyError:
            raise Wrong(f"there is no stream {name!r}") from None

    def do_next(self, stream, expect, timeout_ms=10_000, item=None):
        answer, of = self.stream(stream).next(timeout_ms / 1000)
        same("the answer", answer, expect)
        if of is not None:
            same_if("the item", of, item)

    def do_pulled(self, stream, at_least=0, at_most=NEVER):
        pulled = self.stream(stream).pulled[0]
        if not at_least <= pulled <= at_most:
            raise Wrong(f"{pulled} items were pulled, out of bounds")

    def do_drop_stream(self, stream):
        self.stream(stream).leave()
        del self.streams[stream]

    # ---- single flight ----

    def do_flight(self, flight, pool="pool", handovers=3, retry_failed=False, timeout_ms=None):
        verbs = self.pool(pool)
        if timeout_ms is not None:
            verbs = verbs.options(timeout=timeout_ms / 1000)
        self.flights[flight] = duly.SingleFlight(verbs, handovers=handovers, retry_failed=retry_failed)

    def do_call(self, flight, key, caller, run, timeout_ms=None, token=None, **fields):
        """The caller is a coroutine on a loop: when it waits, it has joined, or its callback is submitted."""
        behave = self.behaviour(run, None, **fields)
        record = self.records.setdefault(caller, Record())
        timeout = None if timeout_ms is None else timeout_ms / 1000
        bound = self.flights[flight].options(timeout=timeout, scope=None if token is None else self.token(token))
        if self.loop is None:
            self.loop = Loop()
        calls = [bound.run(key, self.counted(caller), Captured(record), behave)]

        async def begin():
            task = asyncio.ensure_future(calls.pop())
            await asyncio.sleep(0)
            return task

        self.callers[caller] = self.loop.call(begin())

    def do_answer(self, caller, expect, timeout_ms=10_000, value=None, code=None, message=None):
        async def answer(task):
            await asyncio.wait([task], timeout=timeout_ms / 1000)
            if not task.done():
                return "timed_out", None
            error = task.exception()
            return ("succeeded", task.result()) if error is None else (word_of(error), error)

        word, got = self.loop.call(answer(self.callers[caller]), timeout_ms / 1000 + PATIENCE)
        same("the answer", word, expect)
        if word == "succeeded":
            same_if("the value", got, value)
        same_if("the code", getattr(got, "code", None), code)
        if message is not None and message not in str(got):
            raise Wrong(f"the message is {str(got)!r}, expected {message!r} in it")

    def do_leave(self, caller):
        async def leave(task):
            task.cancel()
            await asyncio.wait([task])

        self.loop.call(leave(self.callers.pop(caller)))

    # ---- tokens ----

    def do_token(self, token, parent=None, timeout_ms=None):
        timeout = None if timeout_ms is None else timeout_ms / 1000
        if parent is None:
            self.tokens[token] = duly.CancelScope(timeout)
        else:
            with self.token(parent):
                self.tokens[token] = duly.CancelScope(timeout)

    def do_cancel_token(self, token, reason=None):
        self.token(token).cancel(reason)

    def do_token_state(self, token, expect):
        same("the token", "cancelled" if self.token(token).cancelled else "live", expect)

    def token(self, name):
        try:
            return self.tokens[name]
        except KeyError:
            raise Wrong(f"there is no token {name!r}") from None

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

    def counted(self, name):
        """The callback of a task. It keeps no reference to the captured data itself: the traceback of a failure would,
        too. Callbacks are noted in the order in which they start."""

        def counted(captured, behave):
            self.order.append(name)
            captured.record.starts += 1
            record = captured.record
            del captured
            return behave(record)

        counted.__qualname__ = CALLBACK
        return counted

    def do_order(self, tasks):
        poll(PATIENCE, lambda: set(tasks) <= set(self.order))
        same("the order of the starts", [name for name in self.order if name in tasks], list(tasks))

    def do_share(self, task, of_first, at_least=0, at_most=None):
        poll(PATIENCE, lambda: len(self.order) >= of_first)
        first = self.order[:of_first]
        if len(first) < of_first:
            raise Wrong(f"only {len(first)} callbacks have started")
        count = sum(name == task or name.startswith(f"{task}.") for name in first)
        if count < at_least or (at_most is not None and count > at_most):
            raise Wrong(f"of the first {of_first} starts {count} are of {task!r}")

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

    # ---- signals ----

    def do_shut_down_on(self, signals, grace_ms, pool="pool"):
        self.pool(pool).shutdown_on([SIGNALS[name] for name in signals], grace=grace_ms / 1000)

    def do_cancel_on(self, token, signals):
        self.tokens[token] = duly.CancelScope()
        self.tokens[token].cancel_on([SIGNALS[name] for name in signals])

    def do_raise(self, signal):
        os.kill(os.getpid(), SIGNALS[signal])

    def do_closed(self, pool="pool", expect="yes"):
        pool = self.pool(pool)

        def look():
            same("closed", "yes" if pool.closed else "no", expect)

        if expect == "no":
            look()
        else:
            settle(look)

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
                record.task = bound.submit(self.counted(inner), Captured(record), behave_inner)
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
        for name in list(self.children):
            self.join_child(name, None)
        for name in list(self.streams):
            self.do_drop_stream(name)
        if self.loop is not None:
            self.end_of_callers()
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

    def end_of_callers(self):
        async def wait(tasks):
            if tasks:
                await asyncio.wait(tasks, timeout=PATIENCE)
            return [task.done() and (task.cancelled() or (task.exception(), True)[1]) for task in tasks]

        told = self.loop.call(wait(list(self.callers.values())), 2 * PATIENCE)
        silent = [name for name, done in zip(self.callers, told) if not done]
        self.callers.clear()
        self.loop.end()
        if silent:
            raise Wrong(f"the callers {silent} were told nothing")


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
    labels = ["" if record.label == CALLBACK else record.label for record in records]
    same("the labels", sorted(labels), sorted(expected))


def threads_named(prefix):
    names = []
    for comm in pathlib.Path("/proc/self/task").glob("*/comm"):
        try:
            names.append(comm.read_text().rstrip("\n"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended just now
    return sum(name.startswith(prefix) for name in names)
