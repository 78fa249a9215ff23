"""`duly survive`: tasks that fail, hang, are cancelled and overflow the queue, and what became of each.

Keeps true: what the command counts by itself, from its handles, is held against the pool's books;
each task's outcome must be one that its callback allows; at the end no thread of the pool is left.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import threading
import time
from collections import Counter, deque
from typing import Any, Callable

import duly
from duly._cli.progress import Progress

_DESCRIPTION = """\
Gives a pool thousands of tasks, with everything that wears one down: callbacks that raise, that exit, that sleep past
their deadline, that ignore their cancellation, more tasks than there is room for, and a shutdown while work is in
flight. Then prints what became of them and checks it."""

_EPILOG = """\
what runs:
  quick      returns a value                                    succeeded
  raises     raises ValueError                                  failed
  exits      raises SystemExit, which must end nobody else      panicked
  cancelled  is cancelled as soon as it was submitted           cancelled, unless it was quicker
  late       sleeps past its deadline                           deadline_exceeded
  stuck      ignores its cancellation and its deadline          cancelled; its worker is replaced
  flood      finds the queue full (drop_newest)                 shed, or it got a place
  left       is queued when the pool is shut down               abandoned

what is checked: every handle answers; each outcome is one that its callback allows; the command's own count is what the
pool's books say; no thread is left.

exit status: 0 everything held; 1 something did not, and is named; 2 the command was not understood; 130 Ctrl-C"""

_OUTCOMES = ("succeeded", "failed", "panicked", "cancelled", "deadline_exceeded", "shed", "abandoned")

# What may become of a task. A loaded machine may have no time for any of them, and the flood may find no place.
_SOON = {"deadline_exceeded", "shed"}
_ALLOWED = {
    "quick": {"succeeded"} | _SOON,
    "raises": {"failed"} | _SOON,
    "exits": {"panicked"} | _SOON,
    "cancelled": {"succeeded", "cancelled"} | _SOON,
    "late": {"deadline_exceeded", "shed"},
    "stuck": {"cancelled"},
    "flood": {"succeeded"} | _SOON,
    "left": {"abandoned"},
}


def add(commands: Any) -> None:
    """Adds the command to the command line."""
    one = commands.add_parser(
        "survive",
        help="what a pool survives: thousands of tasks that misbehave, and a table",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    one.add_argument("--tasks", type=_number(200, 10_000_000), default=50_000, metavar="N", help="(%(default)s)")
    one.add_argument("--workers", type=_number(1, 1000), default=16, metavar="N", help="(%(default)s)")
    one.add_argument("--stuck", type=_number(0, 1000), default=8, metavar="N", help="stuck callbacks (%(default)s)")
    one.add_argument("--seed", type=int, metavar="N", help="for the same tasks again (chosen and printed)")
    one.set_defaults(run=run)


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least} and {most}")
        return number

    return parse


class _Counts:
    """The outcomes by kind, from the handles."""

    def __init__(self) -> None:
        self.of: dict[str, Counter[str]] = {kind: Counter() for kind in _ALLOWED}
        self.wrong: list[str] = []

    def take(self, kind: str, task: duly.Task[Any]) -> None:
        if not task.wait(60.0):
            self.wrong.append(f"a {kind} task has no answer after 60 s")
            return
        task.exception()  # a failure nobody looks at would be logged
        outcome = task.outcome or "none"
        self.of[kind][outcome] += 1
        if outcome not in _ALLOWED[kind]:
            self.wrong.append(f"a {kind} task ended as {outcome}")


class _Logged(logging.Handler):
    """Counts what the pools log."""

    lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1


def _raises() -> None:
    raise ValueError("meant to be")


def _exits() -> None:
    raise SystemExit(3)


def _late(gate: threading.Event) -> None:
    task = duly.current_task()
    assert task is not None
    # Also where the machine is busy and the timer comes late.
    while not task.is_cancelled():
        gate.wait(0.06)


def _stuck(gate: threading.Event, inside: threading.Semaphore) -> None:
    inside.release()
    gate.wait()


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    print(f"duly survive: {options.tasks} tasks, {options.workers} workers, seed {seed}", flush=True)
    logger, logged = logging.getLogger("duly"), _Logged()
    logger.propagate = False  # it would tell of each callback that is meant to be late
    logger.addHandler(logged)
    counts = _Counts()
    began = time.monotonic()
    gate = threading.Event()
    pool = duly.Pool(
        options.workers,
        capacity=1024,
        overflow="drop_newest",
        replace_after=0.05,
        max_replacements=options.stuck + options.workers,
        name="survive",
        exit_timeout=0.0,
    )
    try:
        with Progress("survive", options.tasks) as progress:
            _get_stuck(pool, options.stuck, gate, counts)
            _steady(pool, options.tasks, options.workers, random.Random(seed), counts, progress)
            _flood(pool, counts)
        replaced = pool.stats().replaced
        left = _shut_down_in_the_middle(counts)
    finally:
        gate.set()
        report = pool.shutdown(10.0)
    _check(counts, report, pool)
    took = time.monotonic() - began
    _print(counts)
    print(
        f"\n{report.stats.submitted + left} tasks in {took:.1f} s; {replaced} stuck workers replaced; "
        f"{logged.lines} late callbacks logged; {threading.active_count() - 1} threads left behind"
    )
    for line in counts.wrong[:20]:
        print(f"duly survive: DOES NOT HOLD: {line}", file=sys.stderr)
    print("the books balance" if not counts.wrong else f"{len(counts.wrong)} things do not hold")
    return 1 if counts.wrong else 0


def _get_stuck(pool: duly.Pool, many: int, gate: threading.Event, counts: _Counts) -> None:
    """Callbacks that sit on workers, whatever they are told."""
    inside = threading.Semaphore(0)
    for _ in range(many):
        task = pool.options(label="stuck").submit(_stuck, gate, inside)
        if not inside.acquire(timeout=60.0):
            counts.wrong.append("a stuck callback was never started")
        task.cancel("nobody needs it")
        counts.take("stuck", task)


def _steady(
    pool: duly.Pool, many: int, workers: int, chance: random.Random, counts: _Counts, progress: Progress
) -> None:
    """The bulk, with a window of handles."""
    window: deque[tuple[str, duly.Task[Any]]] = deque()
    never = threading.Event()
    quick = pool.options(timeout=30.0, label="quick")
    late = pool.options(timeout=0.02, label="late")
    for number in range(many):
        draw = chance.random()
        if draw < 0.02:
            window.append(("raises", quick.submit(_raises)))
        elif draw < 0.03:
            window.append(("exits", quick.submit(_exits)))
        elif draw < 0.05:
            window.append(("cancelled", quick.submit(int)))
            window[-1][1].cancel("not needed")
        elif draw < 0.05 + 0.0005 * min(workers, 16):
            window.append(("late", late.submit(_late, never)))
        else:
            window.append(("quick", quick.submit(abs, -number)))
        while len(window) > 256:
            counts.take(*window.popleft())
        progress.show(number)
    for kind, task in window:
        counts.take(kind, task)


def _flood(pool: duly.Pool, counts: _Counts) -> None:
    """More than there is room for, as fast as it goes."""
    opened = threading.Event()
    flood = pool.options(timeout=30.0, label="flood")
    tasks = [flood.submit(opened.wait) for _ in range(4096)]
    opened.set()
    for task in tasks:
        counts.take("flood", task)


def _shut_down_in_the_middle(counts: _Counts) -> int:
    """A second pool, shut down while its worker is stuck and its queue is not empty. How many tasks it had."""
    gate, inside = threading.Event(), threading.Semaphore(0)
    pool = duly.Pool(1, capacity=64, name="survive2", exit_timeout=0.0)
    tasks: list[duly.Task[Any]] = [pool.submit(_stuck, gate, inside)]
    if not inside.acquire(timeout=60.0):
        counts.wrong.append("the callback of the second pool was never started")
    tasks += [pool.submit(int) for _ in range(64)]
    report = pool.shutdown(0.0)
    for task in tasks:
        counts.take("left", task)
    if len(report.abandoned) != len(tasks):
        counts.wrong.append(f"{len(report.abandoned)} of {len(tasks)} tasks were named as abandoned")
    gate.set()
    pool.shutdown(10.0)
    return len(tasks)


def _check(counts: _Counts, report: duly.ShutdownReport, pool: duly.Pool) -> None:
    books = report.stats.as_dict()
    ours: Counter[str] = Counter()
    for kind, outcomes in counts.of.items():
        if kind != "left":  # of the second pool
            ours.update(outcomes)
    for outcome in _OUTCOMES:
        if ours[outcome] != books[outcome]:
            counts.wrong.append(f"{ours[outcome]} were {outcome}, {books[outcome]} in the pool's books")
    if not report.stats.books_balance() or books["queued"] or books["running"]:
        counts.wrong.append(f"the books do not balance: {report.stats!r}")
    end = time.monotonic() + 10.0
    while _threads() and time.monotonic() < end:
        time.sleep(0.01)
    for name in _threads():
        counts.wrong.append(f"thread {name} is left behind")


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("survive")]


def _print(counts: _Counts) -> None:
    kinds = [kind for kind, outcomes in counts.of.items() if outcomes]
    print("\n" + "".join([f"{'':17}", *(f"{kind:>11}" for kind in kinds)]))
    for outcome in _OUTCOMES:
        row = [counts.of[kind][outcome] for kind in kinds]
        if any(row):
            print(f"{outcome:17}" + "".join(f"{count or '':>11}" for count in row))
