#!/usr/bin/env python3
"""The SHA-256 of every file of a directory tree, one task a file, over a pool that always answers.

The same program stands beside this one in Rust (checksum.rs) and in C (checksum.c). Keeps true: the digest is what
sha256sum gives over the same files; each file and each planted callback has exactly one answer; what the program
counted by itself is what the pool's books say; Ctrl-C and SIGTERM end it within the grace period.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import threading
import time

import duly

OUTCOMES = ("succeeded", "failed", "panicked", "cancelled", "deadline_exceeded", "shed", "abandoned")
CHUNK = 256 * 1024
# A pool that is not told otherwise has no more.
MOST_WORKERS = 32


def main() -> int:
    args = arguments()
    root = os.fsencode(os.path.realpath(args.dir))
    if not os.path.isdir(root):
        sys.exit(usage(f"{args.dir}: not a directory"))
    try:
        pool = duly.Pool(
            args.workers,
            # Two of what is planted never come back, also where there is only one worker.
            max_replacements=max(args.workers or MOST_WORKERS, 2),
            capacity=args.capacity,
            default_timeout=args.timeout,
            name="checksum",
        )
    except (duly.InvalidArgument, OverflowError) as error:
        sys.exit(usage(error))
    interrupted = shut_down_on_signal(pool, args.grace)
    progress = Progress(pool)
    files, planted = Files(), Planted(pool, args.planted_timeout)

    for count in files.submit_all(pool, root, progress):
        if count == 10 and not args.no_planted:
            planted.submit_all()
    if not args.no_planted and not interrupted:
        if not planted.tasks:
            planted.submit_all()
        planted.burst(args.capacity + 2 * (args.workers or MOST_WORKERS) + 64)

    # Every handle answers: at its deadline at the latest, or when a signal has shut the pool down.
    for task in [*(task for _, task in files.tasks), *(task for _, task in planted.tasks)]:
        progress.wait(task)
    progress.done()

    # All have answered: what may still run are callbacks that nobody waits for.
    report = pool.shutdown(0.2)
    return tell(files, planted, report, interrupted[0] if interrupted else None)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="checksum",
        allow_abbrev=False,
        description=__doc__.split("\n\n")[0],
        epilog="Exit status: 0 all well; 1 the books do not balance; 2 usage; 3 some file has no checksum; 130 or 143 "
        "after SIGINT or SIGTERM, when what was finished in time is reported.",
    )
    parser.add_argument("dir", nargs="?", default="/usr/share", metavar="DIR", help="the tree (default: %(default)s)")
    parser.add_argument("--workers", type=int, metavar="N", help="threads that read files (default: the pool's own)")
    parser.add_argument("--capacity", type=int, default=64, metavar="N", help="files that may be queued (%(default)s)")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="for each file (%(default)s)")
    parser.add_argument(
        "--planted-timeout", type=float, default=2.0, metavar="SECONDS", help="and each planted callback"
    )
    parser.add_argument("--grace", type=float, default=5.0, metavar="SECONDS", help="after a signal (%(default)s)")
    parser.add_argument("--no-planted", action="store_true", help="only files, no callbacks that misbehave")
    return parser.parse_args()


def usage(error: object) -> int:
    print(f"checksum: {error}", file=sys.stderr)
    return 2


def shut_down_on_signal(pool: duly.Pool, grace: float) -> list[int]:
    """A signal drains the pool: submits are refused from now on, and every task has its answer within `grace`."""
    seen: list[int] = []

    def handle(number: int, _frame: object) -> None:
        seen.append(number)
        if len(seen) > 1:
            os._exit(128 + number)
        # The main thread goes on: its submit is refused, its waits are answered.
        threading.Thread(target=pool.shutdown, args=(grace,), daemon=True).start()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return seen


# ---- the files ----


class Files:
    def __init__(self) -> None:
        # Path relative to the directory, and its task.
        self.tasks: list[tuple[bytes, duly.Task[str]]] = []
        self.refused = 0
        # Directories that could not be read.
        self.unread = 0

    def submit_all(self, pool, root, progress):
        """Submits every regular file; yields how many there are so far."""

        def unreadable(error: OSError) -> None:
            self.unread += 1
            progress.tell(f"checksum: {os.fsdecode(error.filename)}: {error.strerror}")

        for folder, _, names in os.walk(root, onerror=unreadable):
            for name in names:
                path = os.path.join(folder, name)
                if not is_regular(path):
                    continue
                relative = os.path.relpath(path, root)
                label = relative.decode("utf-8", "replace")
                try:
                    # Blocks while the queue is full: the walk goes no faster than the files are read.
                    task = pool.options(label=label).submit(checksum, path)
                except duly.ShutDown:
                    self.refused += 1
                    return
                self.tasks.append((relative, task))
                yield len(self.tasks)
                progress.update()

    def digest(self) -> tuple[str, int]:
        """One digest over all files, as sha256sum piped into itself; names the files that have none."""
        every, count = hashlib.sha256(), 0
        for path, task in sorted(self.tasks, key=lambda one: one[0]):
            try:
                every.update(b"%b  %b\n" % (task.result().encode(), path))
                count += 1
            except duly.Abandoned:
                pass  # named in the report
            except (duly.DulyError, OSError) as error:
                print(f"checksum: {os.fsdecode(path)}: {error}", file=sys.stderr)
        return every.hexdigest(), count


def is_regular(path: bytes) -> bool:
    try:
        return os.path.isfile(path) and not os.path.islink(path)
    except OSError:
        return False


def checksum(path: bytes) -> str:
    """The callback: on a worker."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            # Nobody waits any more? Then stop here.
            duly.check_cancelled()
            digest.update(chunk)
    return digest.hexdigest()


# ---- what is planted among them ----


class Planted:
    def __init__(self, pool: duly.Pool, timeout: float) -> None:
        self.pool, self.timeout = pool, timeout
        self.tasks: list[tuple[str, duly.Task]] = []
        self.refused = 0
        self.accepted_of_burst = self.refused_of_burst = 0

    def submit_all(self) -> None:
        started = threading.Event()
        self.submit("planted:raises", raises)
        # Before the one that sleeps: where there is one worker, it has to have begun before its deadline.
        ignores = self.submit("planted:ignores-cancellation", ignores_cancellation, started)
        started.wait(self.timeout / 2)
        if ignores is not None:
            ignores.cancel()
        self.submit("planted:sleeps-for-ever", sleeps_for_ever)

    def submit(self, label: str, callback, *args) -> duly.Task | None:
        try:
            task = self.pool.options(label=label, timeout=self.timeout).submit(callback, *args)
        except duly.DulyError:
            self.refused += 1
            return None
        self.tasks.append((label, task))
        return task

    def burst(self, size: int) -> None:
        """More tasks at once than the queue and the workers can hold."""
        gate = threading.Event()
        options = self.pool.options(label="planted:burst", timeout=self.timeout)
        for _ in range(size):
            try:
                self.tasks.append(("planted:burst", options.try_submit(gate.wait)))
                self.accepted_of_burst += 1
            except duly.DulyError:
                self.refused_of_burst += 1
        gate.set()


def raises() -> None:
    raise ValueError("planted: this callback raises")


def sleeps_for_ever() -> None:
    while True:
        time.sleep(3600)


def ignores_cancellation(started: threading.Event) -> None:
    started.set()
    while True:
        time.sleep(0.01)


# ---- what is told ----


class Progress:
    """A line that is rewritten on a terminal, one now and then elsewhere; always on stderr."""

    def __init__(self, pool: duly.Pool) -> None:
        self.pool = pool
        self.tty = sys.stderr.isatty()
        self.period = 0.1 if self.tty else 5.0
        self.shown = time.monotonic()
        self.drawn = False

    def update(self) -> None:
        if time.monotonic() - self.shown < self.period:
            return
        self.shown = time.monotonic()
        stats = self.pool.stats()
        ended = stats.submitted - stats.queued - stats.running
        if self.tty:
            width = 40
            full = width * ended // max(stats.submitted, 1)
            sys.stderr.write(f"\r\x1b[K[{'#' * full}{'.' * (width - full)}] {ended}/{stats.submitted} tasks")
            sys.stderr.flush()
            self.drawn = True
        else:
            print(f"checksum: {stats.submitted} files, {ended} ended", file=sys.stderr)

    def wait(self, task: duly.Task) -> None:
        while not task.wait(0.1):
            self.update()

    def tell(self, line: str) -> None:
        self.done()
        print(line, file=sys.stderr)

    def done(self) -> None:
        if self.drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.drawn = False


def tell(files: Files, planted: Planted, report: duly.ShutdownReport, number: int | None) -> int:
    if number is not None:
        print(f"interrupted by {signal.Signals(number).name}")

    wrong = []
    books = report.stats.as_dict()
    print(f"| {'outcome':<17} | {'files':>6} | {'planted':>7} |\n|{'-' * 19}|{'-' * 8}|{'-' * 9}|")
    rows = [(word, count(files.tasks, word), count(planted.tasks, word)) for word in OUTCOMES]
    for word, ours, theirs in [*rows, ("refused", files.refused, planted.refused + planted.refused_of_burst)]:
        print(f"| {word:<17} | {ours:>6} | {theirs:>7} |")
        if ours + theirs != books[word]:
            wrong.append(f"{word}: {ours + theirs} counted, {books[word]} in the books")
    if not report.stats.books_balance() or report.stats.queued + report.stats.running:
        wrong.append(f"at the end: {report.stats!r}")

    for label, task in planted.tasks:
        if label != "planted:burst":
            print(f"{label:<29} {task.outcome:<18} {task.exception() or ''}".rstrip())
    if planted.tasks or planted.refused:
        print(f"{'planted:burst':<29} {planted.accepted_of_burst} accepted, ", end="")
        print(f"{planted.refused_of_burst} refused queue_full")

    abandoned = sorted(record.label for record in report.abandoned)
    drained = f"not drained, {len(abandoned)} abandoned" if abandoned else "drained"
    still = ", ".join(sorted(record.label for record in report.stuck))
    print(f"shutdown: {drained}{'; still running: ' if still else ''}{still}")
    for label in abandoned:
        print(f"abandoned: {label}")

    digest, complete = files.digest()
    print(f"digest {digest if number is None else 'incomplete'}  files {complete}")
    print(f"books do not balance: {'; '.join(wrong)}" if wrong else "books balance")
    if wrong:
        return 1
    if number is not None:
        return 128 + number
    return 0 if complete == len(files.tasks) and not files.refused and not files.unread else 3


def count(tasks: list, outcome: str) -> int:
    return sum(task.outcome == outcome for _, task in tasks)


if __name__ == "__main__":
    sys.exit(main())
