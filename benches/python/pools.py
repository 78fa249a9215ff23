"""duly for Python beside the pools people use: medians of interleaved fresh processes, as ratios against a peer of the
same round.

Keeps true: every process does the same work; a figure is the best of three in one process, the table shows medians over
the rounds; what is judged is the ratio, never an absolute figure, by the rules of benches/README.md. Progress
goes to stderr.

    ci/bench-python                    15 rounds, as the goals want it
    ci/bench-python --rounds 5         a look
    ci/bench-python --row submit       one row
"""

import argparse
import asyncio
import concurrent.futures
import importlib.util
import json
import math
import multiprocessing.pool
import os
import statistics
import subprocess
import sys
import time

import duly

WORKERS, WINDOW = 2, 1000


def nothing(value=None):
    return value


def windowed(submit, count):
    """Submits, keeps a window of handles, and waits for each."""
    for _ in range(count // WINDOW):
        handles = [submit(nothing) for _ in range(WINDOW)]
        for handle in handles:
            handle.result()


class Applied:
    """A handle of multiprocessing.pool by the name that others use."""

    def __init__(self, pool):
        self.pool = pool

    def submit(self, function):
        handle = self.pool.apply_async(function)
        handle.result = handle.get
        return handle


def submits(peer, count):
    if peer == "duly.Pool":
        return lambda: windowed(duly.Pool(WORKERS).submit, count)
    if peer == "duly.ThreadPoolExecutor":
        return lambda: windowed(duly.ThreadPoolExecutor(WORKERS).submit, count)
    if peer == "ThreadPoolExecutor":
        return lambda: windowed(concurrent.futures.ThreadPoolExecutor(WORKERS).submit, count)
    if peer == "multiprocessing":
        return lambda: windowed(Applied(multiprocessing.pool.ThreadPool(WORKERS)).submit, count)
    from pebble import ThreadPool

    return lambda: windowed(ThreadPool(max_workers=WORKERS).submit, count)


def maps(peer, count):
    if peer == "duly.Pool":
        return lambda: sum(1 for _ in duly.Pool(WORKERS).map(nothing, range(count)))
    if peer == "duly.Pool in chunks":
        # Of the size that multiprocessing chooses by itself.
        size = math.ceil(count / (4 * WORKERS))
        return lambda: sum(1 for _ in duly.Pool(WORKERS).map(nothing, range(count), chunksize=size))
    if peer == "ThreadPoolExecutor":
        return lambda: sum(1 for _ in concurrent.futures.ThreadPoolExecutor(WORKERS).map(nothing, range(count)))
    return lambda: len(multiprocessing.pool.ThreadPool(WORKERS).map(nothing, range(count)))


def awaits(peer, count):
    async def main():
        loop = asyncio.get_running_loop()
        if peer == "duly.Pool":
            pool = duly.Pool(WORKERS)
            call = lambda: pool.run(nothing)  # noqa: E731
        elif peer == "duly.ThreadPoolExecutor":
            executor = duly.ThreadPoolExecutor(WORKERS)
            call = lambda: loop.run_in_executor(executor, nothing)  # noqa: E731
        else:
            loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(WORKERS))
            call = lambda: asyncio.to_thread(nothing)  # noqa: E731
        for _ in range(count // WINDOW):
            await asyncio.gather(*(call() for _ in range(WINDOW)))

    return lambda: asyncio.run(main())


# What each row does, how often, its peers, and its goals: a figure at most so many times that of a peer.
ROWS = {
    "submit": (
        submits,
        50_000,
        ["duly.Pool", "duly.ThreadPoolExecutor", "ThreadPoolExecutor", "multiprocessing", "pebble"],
        [("duly.Pool", 1 / 25, "ThreadPoolExecutor"), ("duly.ThreadPoolExecutor", 1 / 8, "ThreadPoolExecutor")],
    ),
    "map": (
        maps,
        50_000,
        ["duly.Pool", "duly.Pool in chunks", "ThreadPoolExecutor", "multiprocessing"],
        [("duly.Pool in chunks", 1.0, "multiprocessing")],
    ),
    "await": (
        awaits,
        10_000,
        ["duly.Pool", "duly.ThreadPoolExecutor", "to_thread"],
        [("duly.Pool", 1 / 8, "to_thread")],
    ),
}


def measure(row, peer):
    """Microseconds a task: the best of three, in this process."""
    make, count, _, _ = ROWS[row]
    work = make(peer, count)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        work()
        best = min(best, (time.perf_counter() - start) / count * 1e6)
    return best


def interval(ordered):
    """The 90 % interval of the median, from ranks; of few runs, all of them."""
    out = max((rank for rank in range(len(ordered) // 2) if below(len(ordered), rank) <= 0.05), default=0)
    return ordered[out], ordered[-1 - out]


def below(count, rank):
    """How likely at most `rank` of so many runs are below the true median."""
    return sum(math.comb(count, number) for number in range(rank + 1)) / 2**count


def judge(ordered, most):
    low, high = interval(ordered)
    if len(ordered) >= 15 and statistics.median(ordered) <= most and high < 1.15 * most:
        return "met"
    if len(ordered) >= 15 and low > most:
        return "missed"
    return f"undecided, looks {'met' if statistics.median(ordered) <= most else 'missed'}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--row", action="append", choices=ROWS)
    parser.add_argument("--one", nargs=2, metavar=("ROW", "PEER"), help="one process of a run: prints its figure")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)), flush=True)
        # Peers leave threads that exit would wait for.
        os._exit(0)
    for row in options.row or ROWS:
        _, _, peers, goals = ROWS[row]
        peers = [peer for peer in peers if peer != "pebble" or importlib.util.find_spec("pebble")]
        figures = {peer: [] for peer in peers}
        for number in range(1, options.rounds + 1):
            for peer in peers:
                print(f"bench-python: {row}: round {number} of {options.rounds}: {peer}", file=sys.stderr, flush=True)
                command = [sys.executable, __file__, "--one", row, peer]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300)
                figures[peer].append(json.loads(done.stdout))
        print(f"{row}: microseconds a task, median of {options.rounds}")
        for peer in peers:
            print(f"  {peer:24} {statistics.median(figures[peer]):8.2f}")
        for ours, most, peer in goals:
            ratios = sorted(a / b for a, b in zip(figures[ours], figures[peer]))
            low, high = interval(ratios)
            verdict = judge(ratios, most)
            seen = f"{statistics.median(ratios):.3f}x {peer} ({low:.3f}-{high:.3f})"
            print(f"  {ours} is {seen}; goal {most:.3f}x: {verdict}")


if __name__ == "__main__":
    main()
