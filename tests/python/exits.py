"""Interpreters that exit with work in flight: threads, executors, asyncio, forked children, all at once.

    python tests/python/exits.py --runs 10000 --seed 7      each run is a fresh interpreter with a scenario of its own
    python tests/python/exits.py --one 123456               that one, here

Keeps true: a scenario follows from its number alone (and from time). An exit is fine when it is not late (60 s), has
the status that the program asked for, runs the other exit handlers, flushes stdout, and writes nothing to stderr.
Failures are told with the command that repeats them; the last line is "N passed, N failed".
"""

import sys

KINDS = ("threads", "executor", "asyncio", "forks", "everything")
SECONDS = 60.0


def main():
    if sys.argv[1:2] == ["--one"]:
        one(int(sys.argv[2]))
        return 0
    return many()


# ---- one scenario, in an interpreter that will exit ----


def one(number):
    import atexit
    import logging
    import random

    # Before duly's: it runs after.
    atexit.register(lambda: sys.stdout.write("handlers ran"))
    # What is meant to go wrong is told by loggers: here only what they would not tell goes to stderr.
    for name in ("duly", "asyncio"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    chance = random.Random(number)
    kind = KINDS[number % len(KINDS)]
    scenario = Scenario(chance)
    if kind in ("threads", "everything"):
        scenario.threads()
    if kind in ("executor", "everything"):
        scenario.executor()
    if kind in ("forks", "everything"):
        scenario.forks()
    if kind in ("asyncio", "everything"):
        scenario.asyncio()
    scenario.end()


class Scenario:
    def __init__(self, chance):
        import duly

        self.duly, self.chance = duly, chance
        self.kept = []

    def pool(self):
        chance = self.chance
        pool = self.duly.Pool(
            chance.randint(1, 4), exit_timeout=chance.choice([0.0, 0.02, 0.1]), replace_after=0.01, drop_drain=0.05
        )
        self.kept.append(pool)
        return pool

    def callback(self):
        return self.chance.choice(
            [self.spin, self.doze, self.wait, self.hook, self.leave, self.fail] + [self.quick] * 4
        )

    # What callbacks do. Those that never return go with the interpreter.

    def spin(self):
        while True:
            pass

    def doze(self):
        import time

        while True:
            time.sleep(0.001)

    def wait(self):
        import threading

        threading.Event().wait()

    def hook(self):
        self.duly.current_task().on_cancel(self.doze)
        self.doze()

    def leave(self):
        raise KeyboardInterrupt

    def fail(self):
        raise ValueError("meant to be")

    def quick(self):
        import time

        time.sleep(0.001)
        return [0]

    # What is in flight.

    def threads(self):
        """A pool with tasks that are waited for, cancelled, past their deadline, told of, let go."""
        import threading
        import time

        chance, pool = self.chance, self.pool()
        tasks = []
        for _ in range(chance.randint(0, 20)):
            task = pool.options(timeout=chance.choice([None, 0.01, 0.05])).submit(self.callback())
            task.add_done_callback(lambda task: time.sleep(0.002))
            if chance.random() < 0.3:
                task.cancel()
            if chance.random() < 0.5:
                tasks.append(task)
        for task in tasks[:3]:
            threading.Thread(target=task.wait, daemon=True).start()
        if tasks and chance.random() < 0.5:
            pool.submit(tasks[0].exception, 0.05)
        if chance.random() < 0.3:
            pool.every(0.002).submit(self.quick)
        if chance.random() < 0.3:
            pool.options(delay=0.01).submit(self.callback())
        if chance.random() < 0.2:
            pool.shutdown(chance.choice([0, 0.01]))
        elif chance.random() < 0.3:
            self.kept.remove(pool)
            del pool

    def executor(self):
        """The drop-in, which is given up at exit like a pool, or waited for if all of it ends."""
        import concurrent.futures

        chance = self.chance
        ends = chance.random() < 0.5
        executor = self.duly.ThreadPoolExecutor(chance.randint(1, 4), exit_timeout=None if ends else 0.02)
        futures = [executor.submit(self.quick if ends else self.callback()) for _ in range(chance.randint(0, 20))]
        for future in futures[:3]:
            future.add_done_callback(lambda future: None)
            future.cancel()
        if chance.random() < 0.3:
            concurrent.futures.wait(futures, 0.005)
        if chance.random() < 0.3:
            executor.shutdown(wait=False, cancel_futures=chance.random() < 0.5)
        if chance.random() < 0.5:
            self.kept.append((executor, futures))

    def forks(self):
        """Children that inherit work, answer for it, use the pool, and exit."""
        import faulthandler
        import os
        import time

        chance = self.chance
        pool = self.pool()
        tasks = [pool.options(timeout=chance.choice([None, 0.05])).submit(self.callback()) for _ in range(4)]
        children = []
        for _ in range(chance.randint(1, 2)):
            sys.stdout.flush()
            child = os.fork()
            if child == 0:
                # Before the parent gives it up. A machine may stand still for ten seconds.
                end = time.monotonic() + SECONDS / 3
                for task in (*tasks, pool.submit(int)):
                    if not task.wait(max(0, end - time.monotonic())):
                        faulthandler.dump_traceback(all_threads=True)
                        raise TimeoutError(f"{task} hangs: {pool.stats()}")
                assert task.result() == 0
                pool.submit(self.callback())
                # What its handlers write goes nowhere: the parent's output is looked at.
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                sys.exit(5)
            children.append(child)
        for child in children:
            end = time.monotonic() + SECONDS / 2
            while True:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    break
                if time.monotonic() > end:
                    os.kill(child, 9)
                    os.waitpid(child, 0)
                    raise TimeoutError("a forked child hangs")
                time.sleep(0.002)
            assert status == 5 << 8, f"a forked child ended with status {status:#x}"

    def asyncio(self):
        """A loop with coroutines that wait for tasks, some of which are left; it may be the loop that exits."""
        import asyncio

        chance, pool = self.chance, self.pool()
        exits = chance.random() < 0.3

        async def leaves(seconds):
            await asyncio.sleep(seconds)
            leave_with(3)

        async def main():
            running = [asyncio.ensure_future(pool.run(self.quick)) for _ in range(chance.randint(0, 10))]
            running += [
                asyncio.ensure_future(asyncio.wait_for(pool.run(self.doze), chance.choice([0.001, 0.02])))
                for _ in range(chance.randint(0, 3))
            ]
            stuck = pool.options(timeout=0.02).run(self.wait)
            running.append(asyncio.ensure_future(stuck))
            if exits:
                await leaves(chance.random() * 0.01)
            await asyncio.gather(*running, return_exceptions=True)
            if chance.random() < 0.5:
                self.kept.append(await pool.asubmit(self.doze))

        asyncio.run(main())

    def end(self):
        import random
        import time

        time.sleep(random.random() * 0.01)
        leave_with(self.chance.choice([0, 3]))


def leave_with(status):
    """Says what the status will be, without a flush, and exits."""
    sys.stdout.write(f"{status}: ")
    if status:
        sys.exit(status)


# ---- many of them ----


def stacks(process):
    """Where its threads are: as gdb says, or, without it, in which calls of the kernel."""
    import pathlib
    import shutil
    import subprocess

    quiet = ["-nx", "-batch", "-iex", "set debuginfod enabled off"]
    try:
        if shutil.which("gdb"):
            command = ["gdb", *quiet, "-p", str(process), "-ex", "thread apply all bt 30"]
            nothing, said = subprocess.DEVNULL, subprocess.PIPE
            done = subprocess.run(command, stdin=nothing, stdout=said, stderr=nothing, timeout=SECONDS, check=False)
            return done.stdout.decode(errors="replace")
        threads = list(pathlib.Path(f"/proc/{process}/task").glob("*"))
        return ", ".join(f"{(one / 'comm').read_text().strip()}: {(one / 'wchan').read_text()}" for one in threads)
    except (OSError, subprocess.SubprocessError) as error:
        return repr(error)


def many():
    import argparse
    import collections
    import concurrent.futures
    import os
    import random
    import resource
    import signal
    import subprocess
    import threading
    import time

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, metavar="N", help="so many interpreters (%(default)s)")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="for the same scenarios again")
    parser.add_argument("--together", type=int, default=len(os.sched_getaffinity(0)) + 1, metavar="N")
    parser.add_argument("--one", type=int, metavar="NUMBER", help="one scenario, in this interpreter")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    chance = random.Random(seed)
    numbers = [chance.randrange(10**9) for _ in range(options.runs)]
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"exits: Python {version}, {options.runs} runs, seed {seed}", flush=True)
    began = time.monotonic()
    counts, slowest, failed = collections.Counter(), 0.0, []
    lock = threading.Lock()

    def run(number):
        # From 3.12 on a fork with threads is worth a warning; a debug build of the heap every second time.
        flags = ["-W", "error", "-W", "ignore::DeprecationWarning", "-X", "dev" if number % 2 else "faulthandler"]
        command = [sys.executable, *flags, os.path.abspath(__file__), "--one", str(number)]
        start = time.monotonic()
        nothing, said = subprocess.DEVNULL, subprocess.PIPE
        process = subprocess.Popen(
            command, stdin=nothing, stdout=said, stderr=said, text=True, errors="replace", start_new_session=True
        )
        why = None
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            why = f"it was not gone after {SECONDS:.0f} s, {stacks(process.pid)}"
            # Where its Python threads are is written to stderr.
            process.send_signal(signal.SIGABRT)
            try:
                out, err = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                # Its children, too: they hold the pipes.
                os.killpg(process.pid, signal.SIGKILL)
                out, err = process.communicate()
        took = time.monotonic() - start
        if why is None and err:
            why = f"it ended with status {process.returncode} and wrote to stderr"
        elif why is None and out != f"{process.returncode}: handlers ran":
            why = f"it ended with status {process.returncode} and wrote {out!r}"
        return number, took, why, command, err

    with concurrent.futures.ThreadPoolExecutor(options.together) as lanes:
        shown = began
        for done, (number, took, why, command, err) in enumerate(lanes.map(run, numbers), 1):
            with lock:
                counts[KINDS[number % len(KINDS)]] += 1
                slowest = max(slowest, took)
            if why:
                failed.append(number)
                print(f"exits: FAILED: {why}: {' '.join(command)}\n{err}", flush=True)
                if len(failed) == 20:
                    print("exits: that is enough", flush=True)
                    lanes.shutdown(wait=False, cancel_futures=True)
                    break
            if time.monotonic() - shown > 10:
                shown = time.monotonic()
                left = (shown - began) / done * (options.runs - done)
                print(f"exits: {done} of {options.runs}, {len(failed)} failed, about {left:.0f} s to go", flush=True)
    for kind in KINDS:
        print(f"figure: Python {version}, {kind} = {counts[kind]} exits")
    print(f"figure: Python {version}, the slowest of all = {slowest:.1f} s")
    passed = sum(counts.values()) - len(failed)
    print(f"exits: {passed} passed, {len(failed)} failed, {time.monotonic() - began:.0f} s, seed {seed}")
    return 1 if failed or passed != options.runs else 0


if __name__ == "__main__":
    sys.exit(main())
