"""`duly demo`: short programs that are shown and then run. What is shown is what runs."""

from __future__ import annotations

import argparse
import logging
import sys
import textwrap
from typing import Any, NamedTuple

_DESCRIPTION = """\
Shows six short programs, one for each thing a pool has to get right, and runs each as it stands there. It takes a few
seconds. Copy what you like."""


class _Scene(NamedTuple):
    title: str
    text: str
    program: str


SCENES = {
    "answer": _Scene(
        "A task has one answer",
        "submit returns at once; result() waits for the value, or raises what the callback raised.",
        """
        import duly

        with duly.Pool(workers=4, default_timeout=10.0) as pool:
            good = pool.submit(sum, [1, 2, 3])
            bad = pool.submit(int, "seven")
            print(good.result())
            try:
                bad.result()
            except ValueError as error:
                print("ValueError:", error)
        """,
    ),
    "deadline": _Scene(
        "It comes in time, whatever the callback does",
        "This one sleeps for an hour. Nobody waits an hour for it: not who asked, nor the pool, nor the exit.",
        """
        import time

        import duly

        pool = duly.Pool(workers=1, replace_after=0.1)
        stuck = pool.options(timeout=0.2, label="the sleeper").submit(time.sleep, 3600)
        behind = pool.submit(pow, 2, 10)
        began = time.monotonic()
        try:
            stuck.result()
        except duly.DeadlineExceeded as error:
            print(f"after {time.monotonic() - began:.1f} s:", error)
        # The only worker is stuck, so the pool has replaced it.
        print(behind.result())
        print(pool.shutdown(0.1))
        """,
    ),
    "full": _Scene(
        "It is bounded",
        "At most `capacity` tasks wait. What submit does without room is your choice; try_submit never waits.",
        """
        import threading

        import duly

        gate = threading.Event()
        with duly.Pool(workers=1, capacity=2, default_timeout=10.0) as pool:
            accepted = 0
            try:
                while True:
                    pool.try_submit(gate.wait)
                    accepted += 1
            except duly.QueueFull as error:
                print(accepted, "accepted;", error)
            gate.set()
        """,
    ),
    "cancel": _Scene(
        "It can be cancelled, with all it has submitted",
        "A scope cancels what was submitted in it. A callback that runs is told, and leaves where it likes.",
        """
        import threading

        import duly

        def polite(started):
            started.set()
            while True:
                duly.check_cancelled()

        with duly.Pool(workers=2) as pool:
            started = threading.Event()
            with duly.CancelScope() as scope:
                running = pool.submit(polite, started)
            started.wait()
            scope.cancel("the user has left")
            print(running.exception())
        """,
    ),
    "asyncio": _Scene(
        "It works from asyncio",
        "run() waits without holding the event loop; if the coroutine is cancelled, so is the task.",
        """
        import asyncio

        import duly

        async def main():
            with duly.Pool(workers=4, default_timeout=10.0) as pool:
                print(await asyncio.gather(*(pool.run(pow, 2, n) for n in range(6))))

        asyncio.run(main())
        """,
    ),
    "books": _Scene(
        "The books balance",
        "Every task is counted once: submitted is the sum of the seven outcomes and of what is queued or runs.",
        """
        import duly

        with duly.Pool(workers=4, default_timeout=10.0) as pool:
            print(sum(pool.map(abs, range(-500, 500))))
            pool.submit(int, "x").exception()
        stats = pool.stats()
        print(stats.submitted, "submitted:", stats.succeeded, "succeeded,", stats.failed, "failed")
        print("balanced" if stats.books_balance() else "NOT balanced")
        """,
    ),
}

_EPILOG = "programs:\n" + "\n".join(f"  {name:9} {scene.title}" for name, scene in SCENES.items())
_EPILOG += "\n\nexit status: 0 all ran; 1 one has failed; 2 the command was not understood; 130 Ctrl-C"


def add(commands: Any) -> None:
    """Adds the command to the command line."""
    one = commands.add_parser(
        "demo",
        help="short programs, shown and run",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    one.add_argument("programs", nargs="*", metavar="PROGRAM", help="only these, in this order (all)")
    one.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    unknown = [name for name in options.programs if name not in SCENES]
    if unknown:
        print(f"duly demo: there is no program {unknown[0]!r}; there are {', '.join(SCENES)}", file=sys.stderr)
        return 2
    names = options.programs or list(SCENES)
    logger = logging.getLogger("duly")
    logger.propagate = False
    logger.addHandler(_Logged())
    failed = 0
    for number, name in enumerate(names, 1):
        scene = SCENES[name]
        program = textwrap.dedent(scene.program).strip()
        print(f"{number} of {len(names)}. {scene.title}\n")
        print(textwrap.fill(scene.text, 100, initial_indent="   ", subsequent_indent="   ") + "\n")
        print(textwrap.indent(program, "     ") + "\n")
        try:
            exec(compile(program, f"<duly demo {name}>", "exec"), {"print": _said})
        except Exception as error:
            failed += 1
            print(f"duly demo: {name} has failed: {error!r}", file=sys.stderr)
        print(flush=True)
    if not options.programs:
        print("More: `duly survive`, `duly checksum --help`, and docs/python.md.")
    return 1 if failed else 0


class _Logged(logging.Handler):
    """What a pool logs, among what the programs print."""

    def emit(self, record: logging.LogRecord) -> None:
        _said("logged:", record.getMessage())


def _said(*words: object) -> None:
    """What a program prints, told apart from the program."""
    lines = " ".join(map(str, words)).splitlines()
    # In one piece: what a worker logs comes between, not into, what the program prints.
    sys.stdout.write("".join(f"   > {line}\n" for line in lines))
    sys.stdout.flush()
